//! A host to run on: this machine by its processes, or its Docker and a HAProxy container.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use lb_core::{
    App, AppSpec, Check, ClusterSpec, ContainerRuntime, HealthPath, HostFacts, HostHandle,
    ImageRef, Port, Probed, Replicas, Result,
};
use lb_docker::{DockerRuntime, Endpoint};
use lb_haproxy::{HaproxyBalancer, HaproxyRenderer};
use lb_local::{LocalHost, Program};

use crate::image;

/// The host name the demo app answers to.
pub const DEMO_HOST: &str = "hello.test";
/// The cluster of the example programs.
const CLUSTER: &str = "demo";
/// The demo app's port inside an instance.
const INSIDE: NonZeroU16 = NonZeroU16::new(8080).unwrap();

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Processes of this machine and an in-process balancer.
    Local,
    /// Docker, and HAProxy in a container.
    Docker,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Docker => "docker",
        })
    }
}

/// Command-line options for a stage.
#[derive(Debug, Clone, Args)]
pub struct StageOptions {
    /// What runs the containers.
    #[arg(long, value_enum, default_value_t = Engine::Local)]
    pub engine: Engine,
    /// Where Docker listens; by `DOCKER_HOST` if not given.
    #[arg(long)]
    pub docker: Option<Endpoint>,
    /// The demo app's image on Docker; made of this program if not given.
    #[arg(long, env = "LB_TEST_APP_IMAGE")]
    pub image: Option<ImageRef>,
    /// The HAProxy image on Docker.
    #[arg(long, env = "LB_TEST_HAPROXY_IMAGE", default_value = lb_haproxy::DEFAULT_IMAGE)]
    pub haproxy_image: ImageRef,
    /// The program that serves the demo app on this machine when its first argument is `serve`; this one
    /// if not given.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// Where the host's files lie; a short path, for unix sockets lie there too. The same place each time if
    /// not given, so that what a killed program left is found.
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// The outside port; a free one if not given.
    #[arg(long)]
    pub port: Option<NonZeroU16>,
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
    image: ImageRef,
    directory: PathBuf,
}

impl Stage {
    /// Sets up the host. Nothing runs on it yet.
    ///
    /// # Errors
    /// When the engine, an image or a free port cannot be had.
    pub fn set(
        options: &StageOptions,
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let usual = || std::env::temp_dir().join(format!("lb-{CLUSTER}-{}", options.engine));
        let directory = options.directory.clone().unwrap_or_else(usual);
        let cluster = match options.engine {
            Engine::Local => lb_local::cluster(CLUSTER.parse()?),
            Engine::Docker => ClusterSpec::new(CLUSTER.parse()?),
        };
        let image = match (options.engine, &options.image) {
            (Engine::Docker, Some(image)) => image.clone(),
            (Engine::Docker, None) => {
                image::build()?;
                image::IMAGE.parse()?
            }
            (Engine::Local, _) => image::IMAGE.parse()?,
        };
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let (facts, handle) = match options.engine {
            Engine::Local => {
                let program = options.program.clone().map_or_else(std::env::current_exe, Ok)?;
                let host = LocalHost::builder(&cluster, &directory)
                    .image(image.to_string(), Program::new(program).args(["serve"]))
                    .build()?;
                (host.facts().clone(), host.handle().clone())
            }
            Engine::Docker => {
                let handle = docker(&cluster, &directory, options)?;
                (HostFacts::new("here".parse()?, here), handle)
            }
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
    }
}

/// Docker, and HAProxy in a container beside the instances.
fn docker(
    cluster: &ClusterSpec,
    directory: &std::path::Path,
    options: &StageOptions,
) -> Result<HostHandle> {
    let docker = DockerRuntime::builder(cluster.id.clone());
    let docker = match &options.docker {
        Some(endpoint) => docker.endpoint(endpoint.clone()),
        None => docker,
    };
    let docker: Arc<dyn ContainerRuntime> = Arc::new(docker.build()?);
    let image = options.haproxy_image.clone();
    let balancer = HaproxyBalancer::builder(directory)
        .renderer(Arc::new(HaproxyRenderer::builder().build()?))
        .in_container(docker.clone(), image, format!("{}.balancer", cluster.id).parse()?)
        .build()?;
    Ok(HostHandle {
        runtime: Arc::new(Probed::builder(docker).build()),
        balancer: Arc::new(balancer),
    })
}
