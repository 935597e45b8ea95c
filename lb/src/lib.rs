#![forbid(unsafe_code)]
//! Runs container apps with automatic load balancing: the one dependency of a platform that embeds this library.
//!
//! All of `lb-core` is here: apps, contracts, planner, loop, backends in memory and in files. The backends that run
//! containers and spread requests are modules, each by a feature of its name; none is on by default.
//!
//! | feature | module | what it gives |
//! |---|---|---|
//! | `docker` | `docker` | containers by Docker Engine |
//! | `podman` | `podman` | containers by Podman |
//! | `local` | `local` | apps as processes, and a balancer in this process: no engine needed |
//! | `haproxy` | `haproxy` | HAProxy as the balancer, in a container or as a process |
//! | `nginx` | `nginx` | NGINX as the balancer, likewise |
//!
//! A host is a runtime and a balancer, of any two of them:
//!
//! ```
//! # #[cfg(all(feature = "docker", feature = "haproxy"))]
//! # fn host() -> lb::Result<lb::HostHandle> {
//! use std::sync::Arc;
//!
//! use lb::docker::DockerRuntime;
//! use lb::haproxy::{DEFAULT_IMAGE, HaproxyBalancer};
//! use lb::{HostHandle, Probed};
//!
//! let docker = Arc::new(DockerRuntime::connect("prod".parse()?)?);
//! let balancer = HaproxyBalancer::builder("/var/lib/lb/haproxy")
//!     .in_container(docker.clone(), DEFAULT_IMAGE.parse()?, "prod.balancer".parse()?)
//!     .build()?;
//! let runtime = Arc::new(Probed::builder(docker).build());
//! Ok(HostHandle { runtime, balancer: Arc::new(balancer) })
//! # }
//! ```
//!
//! [`Orchestrator`] tells what to do with it. Who writes a backend depends on `lb-core` alone, on `lb-engine` or
//! `lb-balancer` for what its kind shares, and on `lb-conformance` for its tests.

pub use lb_core::*;

#[cfg(feature = "docker")]
pub use lb_docker as docker;
#[cfg(feature = "haproxy")]
pub use lb_haproxy as haproxy;
#[cfg(feature = "local")]
pub use lb_local as local;
#[cfg(feature = "nginx")]
pub use lb_nginx as nginx;
#[cfg(feature = "podman")]
pub use lb_podman as podman;
