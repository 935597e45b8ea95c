#![forbid(unsafe_code)]
//! [`ContainerRuntime`](lb_core::ContainerRuntime) on Docker Engine.
//!
//! ```no_run
//! use lb_core::{ClusterId, ContainerRuntime, ContainerSpec, Quiet, Role};
//! use lb_docker::DockerRuntime;
//!
//! # async fn example() -> lb_core::Result<()> {
//! let runtime = DockerRuntime::connect(ClusterId::new("shop")?)?; // DOCKER_HOST and its companions
//! let image = "registry.example.org/team/cart:1.4".parse()?;
//! let digest = runtime.ensure_image(&image, None, &Quiet).await?;
//! let name = "shop.cart.1".parse()?;
//! let spec = ContainerSpec::new(name, Role::Instance, image.with_digest(digest));
//! runtime.run(&spec).await?;
//! for container in runtime.list().await? {
//!     println!("{} is {:?}", container.name, container.state);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What containers get beside their spec
//! No new privileges; no `NET_RAW`, or exactly the capabilities asked for; at most
//! [`DEFAULT_PIDS`] processes; swap no larger than memory; bounded log files ([`Logs`]); no health check of
//! the image's own; `/tmp` and `/run` in memory where the root is read only. Volumes by path must exist.
//!
//! # Connecting
//! Nothing is connected before the first call, and each call has a connection of its own: an engine that is
//! down gives `Unavailable`, and the first call after it is back works. The API version is the lower of the
//! engine's and 1.53. TLS carries its own provider (ring); no process-wide one is read or installed.
//!
//! # Tested with
//! Docker Engine 20.10.24 (API 1.41) on Linux, `overlay2`. Later engines answer with more fields, which are
//! ignored, and sort some refusals under other statuses, which are told apart by their words as well.
//!
//! # Secrets
//! Secret variables are part of a container's settings on the engine: whoever may ask it, may read them.
//! bollard writes request bodies to the `log` crate at its level `debug`, target `bollard`: a platform that
//! forwards `log` must leave that target at `info`.

mod api;
mod convert;
mod endpoint;
mod engine;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod runtime;
mod transport;

pub use api::DockerApi;
pub use endpoint::Endpoint;
pub use lb_core::engine::{Bounds, DEFAULT_PIDS, Deadlines};
pub use runtime::{DockerRuntime, DockerRuntimeBuilder, Logs};
