#![forbid(unsafe_code)]
//! What balancers with a configuration file share, whichever they are: the queue before one, its directory, its process
//! or container, its outside ports, how often it is reloaded, what it sets aside, and templates with limits.
//!
//! This is for those who write backends of [`LoadBalancer`](lb_core::LoadBalancer). It knows no balancer and no wire.

mod aside;
mod container;
mod directory;
mod failure;
mod pacing;
mod ports;
mod process;
mod queue;
pub mod template;
mod totals;

pub use self::aside::{Aside, Refused, named_by, quoted, reasons, reduced};
pub use self::container::BalancerContainer;
pub use self::directory::{ConfigDirectory, Snapshot};
pub use self::failure::{Failure, shortened};
pub use self::pacing::{LONGEST_RELOAD_INTERVAL, RELOAD_INTERVAL, reload_interval};
pub use self::ports::{Held, Owner};
pub use self::process::{KeptProcess, run_program};
pub use self::queue::{TableEngine, TableQueue, Turn};
pub use self::totals::{Count, Counted, Totals};
