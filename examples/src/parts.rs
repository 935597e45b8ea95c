//! The parts a host is put together from: any engine with any balancer, of those this program was built with.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use lb_core::{
    ClusterSpec, ContainerName, ContainerRuntime, Error, ErrorKind, HostFacts, HostHandle,
    LoadBalancer, Probed, Result,
};
use lb_local::{LocalHost, Program};

use crate::image;
use crate::stage::StageOptions;

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Processes of this machine.
    Local,
    /// Docker (feature `docker`).
    Docker,
    /// Podman (feature `podman`).
    Podman,
}

impl Engine {
    /// The command line that takes an image; the feature's name too.
    pub(crate) const fn command(self) -> Option<&'static str> {
        match self {
            Self::Local => None,
            Self::Docker => Some("docker"),
            Self::Podman => Some("podman"),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command().unwrap_or("local"))
    }
}

/// What spreads the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Balancer {
    /// In this process; with `local` only.
    InProcess,
    /// HAProxy (feature `haproxy`): a container on an engine, a process beside processes.
    Haproxy,
    /// NGINX (feature `nginx`), likewise.
    Nginx,
}

/// Where a balancer runs.
#[cfg_attr(
    not(any(feature = "haproxy", feature = "nginx")),
    allow(dead_code, reason = "read by those")
)]
enum Place {
    Process,
    Container(Arc<dyn ContainerRuntime>, ContainerName),
}

/// A host as the options want it.
pub(crate) fn host(
    cluster: &ClusterSpec,
    directory: &Path,
    options: &StageOptions,
) -> std::result::Result<(Option<HostFacts>, HostHandle), crate::Failure> {
    check_features(options)?;
    match options.engine {
        Engine::Local => processes(cluster, directory, options),
        Engine::Docker | Engine::Podman => Ok((None, containers(cluster, directory, options)?)),
    }
}

/// Processes, with the balancer in this process or beside them.
fn processes(
    cluster: &ClusterSpec,
    directory: &Path,
    options: &StageOptions,
) -> std::result::Result<(Option<HostFacts>, HostHandle), crate::Failure> {
    let program = options.program.clone().map_or_else(std::env::current_exe, Ok)?;
    let host = LocalHost::builder(cluster, directory)
        .image(image::IMAGE, Program::new(program).args(["serve"]))
        .build()?;
    let own = host.handle().clone();
    let balancer = match options.balancer {
        None | Some(Balancer::InProcess) => own.balancer,
        Some(Balancer::Haproxy) => haproxy(&directory.join("haproxy"), Place::Process, options)?,
        Some(Balancer::Nginx) => nginx(&directory.join("nginx"), Place::Process, options)?,
    };
    Ok((Some(host.facts().clone()), HostHandle { runtime: own.runtime, balancer }))
}

/// An engine, and a balancer in a container beside the instances.
fn containers(
    cluster: &ClusterSpec,
    directory: &Path,
    options: &StageOptions,
) -> Result<HostHandle> {
    let runtime = match options.engine {
        Engine::Podman => podman(cluster, options)?,
        Engine::Local | Engine::Docker => docker(cluster, options)?,
    };
    let name = format!("{}.balancer", cluster.id).parse()?;
    let place = Place::Container(runtime.clone(), name);
    let balancer = match options.balancer {
        Some(Balancer::InProcess) => {
            let message = "it goes with local: an engine takes haproxy or nginx";
            return Err(Error::invalid("balancer in-process", message));
        }
        None | Some(Balancer::Haproxy) => haproxy(directory, place, options)?,
        Some(Balancer::Nginx) => nginx(directory, place, options)?,
    };
    Ok(HostHandle { runtime: Arc::new(Probed::builder(runtime).build()), balancer })
}

/// What the options need is in this program, or all that is missing is named at once.
fn check_features(options: &StageOptions) -> Result<()> {
    let balancer = match options.balancer {
        Some(Balancer::InProcess) => None,
        None if options.engine == Engine::Local => None,
        None | Some(Balancer::Haproxy) => Some("haproxy"),
        Some(Balancer::Nginx) => Some("nginx"),
    };
    let here = |feature: &&str| match *feature {
        "docker" => cfg!(feature = "docker"),
        "podman" => cfg!(feature = "podman"),
        "haproxy" => cfg!(feature = "haproxy"),
        _ => cfg!(feature = "nginx"),
    };
    let needed: Vec<&str> = options.engine.command().into_iter().chain(balancer).collect();
    if needed.iter().all(here) { Ok(()) } else { Err(missing(&needed.join(","))) }
}

fn missing(features: &str) -> Error {
    let message = format!(
        "not built into this program: `cargo run -p lb-examples --features {features} ...` builds them in"
    );
    Error::new(ErrorKind::Unsupported, "", features, message)
}

#[cfg(feature = "docker")]
fn docker(cluster: &ClusterSpec, options: &StageOptions) -> Result<Arc<dyn ContainerRuntime>> {
    let mut docker = lb_docker::DockerRuntime::builder(cluster.id.clone());
    if let Some(endpoint) = &options.docker {
        docker = docker.endpoint(endpoint.parse()?);
    }
    Ok(Arc::new(docker.build()?))
}

#[cfg(not(feature = "docker"))]
fn docker(_: &ClusterSpec, _: &StageOptions) -> Result<Arc<dyn ContainerRuntime>> {
    Err(missing("docker"))
}

#[cfg(feature = "podman")]
fn podman(cluster: &ClusterSpec, options: &StageOptions) -> Result<Arc<dyn ContainerRuntime>> {
    let mut podman = lb_podman::PodmanRuntime::builder(cluster.id.clone());
    if let Some(endpoint) = &options.podman {
        podman = podman.endpoint(endpoint.parse()?);
    }
    Ok(Arc::new(podman.build()?))
}

#[cfg(not(feature = "podman"))]
fn podman(_: &ClusterSpec, _: &StageOptions) -> Result<Arc<dyn ContainerRuntime>> {
    Err(missing("podman"))
}

#[cfg(feature = "haproxy")]
fn haproxy(
    directory: &Path,
    place: Place,
    options: &StageOptions,
) -> Result<Arc<dyn LoadBalancer>> {
    let haproxy = lb_haproxy::HaproxyBalancer::builder(directory);
    let image = match &options.haproxy_image {
        Some(image) => image.clone(),
        None => lb_haproxy::DEFAULT_IMAGE.parse()?,
    };
    Ok(Arc::new(match place {
        Place::Process => haproxy.as_process(&options.haproxy).build()?,
        Place::Container(runtime, name) => haproxy.in_container(runtime, image, name).build()?,
    }))
}

#[cfg(not(feature = "haproxy"))]
fn haproxy(_: &Path, _: Place, _: &StageOptions) -> Result<Arc<dyn LoadBalancer>> {
    Err(missing("haproxy"))
}

#[cfg(feature = "nginx")]
fn nginx(directory: &Path, place: Place, options: &StageOptions) -> Result<Arc<dyn LoadBalancer>> {
    let nginx = lb_nginx::NginxBalancer::builder(directory);
    let image = match &options.nginx_image {
        Some(image) => image.clone(),
        None => lb_nginx::DEFAULT_IMAGE.parse()?,
    };
    Ok(Arc::new(match place {
        Place::Process => nginx.as_process(&options.nginx).build()?,
        Place::Container(runtime, name) => nginx.in_container(runtime, image, name).build()?,
    }))
}

#[cfg(not(feature = "nginx"))]
fn nginx(_: &Path, _: Place, _: &StageOptions) -> Result<Arc<dyn LoadBalancer>> {
    Err(missing("nginx"))
}
