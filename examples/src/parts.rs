//! The parts a host is put together from: any engine with any balancer.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use lb_core::{
    ClusterSpec, ContainerRuntime, Error, HostFacts, HostHandle, LoadBalancer, Probed, Result,
};
use lb_docker::DockerRuntime;
use lb_haproxy::HaproxyBalancer;
use lb_local::{LocalHost, Program};
use lb_nginx::NginxBalancer;
use lb_podman::PodmanRuntime;

use crate::image;
use crate::stage::StageOptions;

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Processes of this machine.
    Local,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl Engine {
    /// The command line that takes an image.
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
    /// HAProxy: a container on an engine, a process beside processes.
    Haproxy,
    /// NGINX, likewise.
    Nginx,
}

/// Processes, with the balancer in this process or beside them.
pub(crate) fn processes(
    cluster: &ClusterSpec,
    directory: &Path,
    options: &StageOptions,
) -> std::result::Result<(HostFacts, HostHandle), Box<dyn std::error::Error + Send + Sync>> {
    let program = options.program.clone().map_or_else(std::env::current_exe, Ok)?;
    let host = LocalHost::builder(cluster, directory)
        .image(image::IMAGE, Program::new(program).args(["serve"]))
        .build()?;
    let own = host.handle().clone();
    let balancer: Arc<dyn LoadBalancer> = match options.balancer {
        None | Some(Balancer::InProcess) => own.balancer,
        Some(Balancer::Haproxy) => {
            let directory = directory.join("haproxy");
            Arc::new(HaproxyBalancer::builder(directory).as_process(&options.haproxy).build()?)
        }
        Some(Balancer::Nginx) => {
            let directory = directory.join("nginx");
            Arc::new(NginxBalancer::builder(directory).as_process(&options.nginx).build()?)
        }
    };
    Ok((host.facts().clone(), HostHandle { runtime: own.runtime, balancer }))
}

/// An engine, and a balancer in a container beside the instances.
pub(crate) fn containers(
    cluster: &ClusterSpec,
    directory: &Path,
    options: &StageOptions,
) -> Result<HostHandle> {
    let runtime = runtime(cluster, options)?;
    let name = format!("{}.balancer", cluster.id).parse()?;
    let balancer: Arc<dyn LoadBalancer> = match options.balancer {
        Some(Balancer::InProcess) => {
            let message = "it goes with local: an engine takes haproxy or nginx";
            return Err(Error::invalid("balancer in-process", message));
        }
        None | Some(Balancer::Haproxy) => Arc::new(
            HaproxyBalancer::builder(directory)
                .in_container(runtime.clone(), options.haproxy_image.clone(), name)
                .build()?,
        ),
        Some(Balancer::Nginx) => Arc::new(
            NginxBalancer::builder(directory)
                .in_container(runtime.clone(), options.nginx_image.clone(), name)
                .build()?,
        ),
    };
    Ok(HostHandle { runtime: Arc::new(Probed::builder(runtime).build()), balancer })
}

fn runtime(cluster: &ClusterSpec, options: &StageOptions) -> Result<Arc<dyn ContainerRuntime>> {
    if options.engine == Engine::Podman {
        let podman = PodmanRuntime::builder(cluster.id.clone());
        return Ok(Arc::new(match &options.podman {
            Some(endpoint) => podman.endpoint(endpoint.clone()).build()?,
            None => podman.build()?,
        }));
    }
    let docker = DockerRuntime::builder(cluster.id.clone());
    Ok(Arc::new(match &options.docker {
        Some(endpoint) => docker.endpoint(endpoint.clone()).build()?,
        None => docker.build()?,
    }))
}
