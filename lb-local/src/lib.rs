#![forbid(unsafe_code)]
//! The backend that needs no engine: for a first try, for development, and for fast tests.
//!
//! [`LocalRuntime`] runs apps as processes of this machine, each on a loopback address of its own, and
//! [`LocalBalancer`] spreads requests over them inside this process. [`LocalHost`] is both together:
//! a whole host. They keep the contracts of [`lb_core`] as Docker and HAProxy do, with these limits:
//!
//! - processes are not confined: no limits of CPU and memory, no user, no file system of their own;
//! - the balancer speaks no TLS, and ends with this process (the processes go on, and are adopted);
//! - everything is loopback: hosts of one cluster share one machine.

mod address;
mod balancer;
mod convert;
mod error;
mod hash;
mod host;
mod logs;
mod network;
mod process;
mod program;
mod records;
mod runtime;
mod usage;

pub use address::{cluster, real_address};
pub use balancer::LocalBalancer;
pub use host::{LocalHost, LocalHostBuilder};
pub use program::{HOST_IMAGE, Program};
pub use runtime::{LocalRuntime, LocalRuntimeBuilder};
