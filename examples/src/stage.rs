//! A host to run on: this machine by its processes or its container engine, with a balancer of choice.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::Args;
use lb_core::{
    App, AppSpec, Check, ClusterId, ClusterSpec, HealthPath, HostFacts, HostHandle, ImageRef, Port,
    Replicas, Result,
};

use crate::Failure;
use crate::image;
use crate::parts::{self, Balancer, Engine};

/// The host name the demo app answers to.
pub const DEMO_HOST: &str = "hello.test";
/// The demo app's port inside an instance.
const INSIDE: NonZeroU16 = NonZeroU16::new(8080).unwrap();

/// Command-line options for a stage.
#[derive(Debug, Clone, Args)]
pub struct StageOptions {
    /// What runs the containers.
    #[arg(long, value_enum, default_value_t = Engine::Local)]
    pub engine: Engine,
    /// What spreads the requests; the in-process one with `local`, else HAProxy, if not given.
    #[arg(long, value_enum)]
    pub balancer: Option<Balancer>,
    /// Where Docker listens; by `DOCKER_HOST` if not given.
    #[arg(long)]
    pub docker: Option<lb_docker::Endpoint>,
    /// Where Podman listens; by `CONTAINER_HOST` if not given.
    #[arg(long)]
    pub podman: Option<lb_podman::Endpoint>,
    /// The demo app's image on an engine; made of this program if not given.
    #[arg(long, env = "LB_TEST_APP_IMAGE")]
    pub image: Option<ImageRef>,
    /// The HAProxy image on an engine.
    #[arg(long, env = "LB_TEST_HAPROXY_IMAGE", default_value = lb_haproxy::DEFAULT_IMAGE)]
    pub haproxy_image: ImageRef,
    /// The NGINX image on an engine.
    #[arg(long, env = "LB_TEST_NGINX_IMAGE", default_value = lb_nginx::DEFAULT_IMAGE)]
    pub nginx_image: ImageRef,
    /// The HAProxy program beside processes.
    #[arg(long, env = "LB_TEST_HAPROXY", default_value = "haproxy")]
    pub haproxy: PathBuf,
    /// The NGINX program beside processes.
    #[arg(long, env = "LB_TEST_NGINX", default_value = "nginx")]
    pub nginx: PathBuf,
    /// The program that serves the demo app on this machine when its first argument is `serve`; this one
    /// if not given.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// The cluster's name: two programs at a time need two.
    #[arg(long, default_value = "demo")]
    pub cluster: ClusterId,
    /// Where the host's files lie; a short path, for unix sockets lie there too. The same place each time if
    /// not given, so that what a killed program left is found.
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// The outside port; a free one if not given.
    #[arg(long)]
    pub port: Option<NonZeroU16>,
}

impl StageOptions {
    fn directory(&self) -> PathBuf {
        let usual = || std::env::temp_dir().join(format!("lb-{}-{}", self.cluster, self.engine));
        self.directory.clone().unwrap_or_else(usual)
    }
}

/// Not in it: it comes and goes.
fn lock_beside(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// A host, and where its balancer is reached.
#[derive(Debug)]
pub struct Stage {
    /// What runs the containers.
    pub engine: Engine,
    /// The cluster's settings.
    pub cluster: ClusterSpec,
    /// What the host says of itself.
    pub facts: HostFacts,
    /// Its engine and its balancer.
    pub handle: HostHandle,
    /// Where requests go.
    pub target: SocketAddr,
    /// The demo app's image.
    pub image: ImageRef,
    directory: PathBuf,
    /// Locked for as long as it lives, by one that is alone.
    lock: Option<File>,
}

impl Stage {
    /// As [`set`](Self::set), for a program that would fight any other for its instances: each would stop those of the
    /// other.
    ///
    /// # Errors
    /// Also while another program has a stage of this cluster in this directory.
    pub async fn alone(options: &StageOptions) -> std::result::Result<Self, Failure> {
        let stage = Self::set(options).await?;
        let lock = lock_beside(&stage.directory);
        if let Some(parent) = lock.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = File::create(&lock)?;
        if file.try_lock().is_err() {
            return Err(format!(
                "another program runs the cluster \"{}\" here ({} is locked): end it, or give this one another name \
                 with --cluster",
                options.cluster,
                lock.display()
            )
            .into());
        }
        Ok(Self { lock: Some(file), ..stage })
    }

    /// Sets up the host, whose engine must answer. Nothing runs on it yet.
    ///
    /// # Errors
    /// When the engine, an image or a free port cannot be had.
    pub async fn set(options: &StageOptions) -> std::result::Result<Self, Failure> {
        let directory = options.directory();
        let cluster = match options.engine {
            Engine::Local => lb_local::cluster(options.cluster.clone()),
            Engine::Docker | Engine::Podman => ClusterSpec::new(options.cluster.clone()),
        };
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (facts, handle) = match options.engine {
            Engine::Local => parts::processes(&cluster, &directory, options)?,
            Engine::Docker | Engine::Podman => {
                let handle = parts::containers(&cluster, &directory, options)?;
                (HostFacts::new("here".parse()?, here), handle)
            }
        };
        handle.runtime.describe().await?;
        let image = match (options.engine.command(), &options.image) {
            (Some(_), Some(image)) => image.clone(),
            (Some(command), None) => {
                image::build(command)?;
                image::IMAGE.parse()?
            }
            (None, _) => image::IMAGE.parse()?,
        };
        let port = match options.port {
            Some(port) => port.get(),
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
        };
        Ok(Self {
            engine: options.engine,
            cluster,
            facts,
            handle,
            target: SocketAddr::new(here, port),
            image,
            directory,
            lock: None,
        })
    }

    /// The demo app with two instances; `version` shows in its answers and makes a revision.
    ///
    /// # Errors
    /// When `name` is no name.
    pub fn app(&self, name: &str, version: &str) -> Result<App> {
        let mut port = Port::http(INSIDE);
        port.outside = NonZeroU16::new(self.target.port());
        port.hosts.insert(DEMO_HOST.parse()?);
        port.health.check = Check::Http(HealthPath::new("/healthz")?);
        let mut app = AppSpec::new(name.parse()?, self.image.clone());
        app.env.insert("VERSION".parse()?, version.to_owned());
        app.ports.insert("web".parse()?, port);
        app.replicas = Replicas::fixed(2);
        App::new(app)
    }

    /// Removes the files it made. Call it when nothing runs any more.
    pub fn strike(&self) {
        let _ = std::fs::remove_dir_all(&self.directory);
        if self.lock.is_some() {
            let _ = std::fs::remove_file(lock_beside(&self.directory));
        }
    }
}
