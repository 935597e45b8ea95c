#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]
#![allow(missing_docs, missing_debug_implementations, reason = "helpers of tests")]
//! What the tests of several backends share: small apps, clients that never try again, tables written shortly,
//! and container engines.
//!
//! [`Instance`] and [`client`] carry load; [`live`] sees every byte of single requests. [`Apps`] writes tables of
//! apps by port, [`Routes`] tables with host names and paths. [`routing`], [`forwarding`], [`tunnels`], [`spreading`],
//! [`limits`] and [`failing`] hold cases for every balancer, [`golden`] tables whose configurations are kept.
//! [`engine`] runs tests on a real container engine, [`images`] holds cases for its images, [`fake_engine`] is one that
//! fails as asked.
//! [`processes`] finds and ends what runs. [`Loopback`] brings a balancer to the suite of its contract.

mod apps;
mod balancers;
pub mod client;
pub mod engine;
pub mod failing;
pub mod fake_engine;
pub mod forwarding;
mod gate;
pub mod golden;
pub mod images;
mod instance;
pub mod limits;
pub mod live;
pub mod processes;
mod routes;
pub mod routing;
pub mod spreading;
pub mod tls;
pub mod tunnels;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use lb_core::{BackendName, ServerName};

pub use apps::Apps;
pub use balancers::{Loopback, cluster_of};
pub use instance::{Instance, Unreachable};
pub use routes::Routes;

/// A port nobody listens on, outside the range the kernel takes client ports from.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 21_000 + (std::process::id() % 400) as u16 * 20;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// The backend of an app in [`Apps`].
pub fn backend_name(app: &str) -> BackendName {
    BackendName::new(format!("{app}.web")).unwrap()
}

pub fn server_name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// Looks until it holds; fails with `what` after 10 s.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A variable that `testbed/up` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: set by testbed/up"))
}
