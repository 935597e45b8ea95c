#![forbid(unsafe_code)]
//! [`ContainerRuntime`](lb_core::ContainerRuntime) on Podman, over its libpod API.
//!
//! ```no_run
//! use lb_core::{ClusterId, ContainerRuntime, ContainerSpec, Quiet, Role};
//! use lb_podman::PodmanRuntime;
//!
//! # async fn example() -> lb_core::Result<()> {
//! let runtime = PodmanRuntime::connect(ClusterId::new("shop")?)?; // CONTAINER_HOST, or the usual socket
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
//! As on Docker: no new privileges; no `NET_RAW`, or exactly the capabilities asked for; at most
//! [`DEFAULT_PIDS`] processes; swap no larger than memory; a bounded log file ([`Logs`]); no health check of
//! the image's own; `/tmp` and `/run` in memory where the root is read only; no proxy variables of the
//! host. Volumes by path must exist.
//!
//! # Connecting
//! `podman system service --time=0 unix:///run/podman/podman.sock` or the unit `podman.socket` must be up.
//! Nothing is connected before the first call: a service that is down gives `Unavailable`, and the first call
//! after it is back works.
//!
//! # Where Podman differs
//! - Containers do not end with the service: they run on while it restarts. After a reboot, what restarts
//!   always is started by the unit `podman-restart.service`, if that is enabled.
//! - Short names are Docker Hub's when they are fetched, as on Docker; a local image (`localhost/...`) goes
//!   before and is known by its id. Registries without TLS are named in the host's `registries.conf`.
//! - Podman cannot ask a registry what a tag means, so a tag is fetched; what is here is not copied again.
//!   An image that was also loaded from a file is known under digests of both; the registry says which is
//!   its own, and while it does not answer, either may be given.
//! - `usage` counts memory as Podman does, in 4.3 with the file cache.
//! - Want of memory is told where conmon notices it: version 2.1.6 does not on cgroup v1, and such an end
//!   looks like any other by SIGKILL (code 137).
//! - **Rootless**: a user's bridges are in a namespace the host does not reach, so networks with addresses
//!   are `Unsupported` and [`EngineInfo::addresses`](lb_core::EngineInfo) is false; containers on the host's
//!   network or on none work. CPU and memory limits need the user's cgroup to have these controllers
//!   (cgroup v2 with `Delegate=`), and are `Unsupported` otherwise, naming what is missing.
//!
//! # Tested with
//! Podman 4.3.1 (libpod API 4.3.1, netavark, runc, cgroup v1) on Linux as root. API 4.0 is asked for, which
//! Podman 4 and 5 speak. Answers are decoded from what is there: fields that are absent, new, or of another
//! type in Podman 5 (an entry point or a stop signal, say) are no failure.
//!
//! # Secrets
//! Secret variables are part of a container's settings on the engine: whoever may ask it, may read them.

mod api;
mod convert;
mod endpoint;
mod engine;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod runtime;

pub use api::PodmanApi;
pub use endpoint::Endpoint;
pub use lb_core::engine::{Bounds, DEFAULT_PIDS, Deadlines};
pub use runtime::{Logs, PodmanRuntime, PodmanRuntimeBuilder};
