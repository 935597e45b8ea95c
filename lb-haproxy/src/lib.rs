#![forbid(unsafe_code)]
//! lb-haproxy: HAProxy for lb: the renderer of its configuration ([`HaproxyRenderer`]) and the balancer
//! that runs it ([`HaproxyBalancer`]).
//!
//! # Without an orchestrator
//!
//! A platform that has its own instances uses the balancer alone: give it the whole table each time
//! something changed, and it does the least that leads there. Servers come and go without a reload and
//! without a lost request, and so do routes, certificates and backends that leave; new backends do from HAProxy 3.4 on. A
//! new listener, its first certificate, and other settings of a backend take a reload, which is checked first and seen
//! afterwards.
//!
//! ```no_run
//! use std::collections::{BTreeMap, BTreeSet};
//! use std::num::NonZeroU32;
//! use std::sync::Arc;
//!
//! use lb_core::{
//!     AppName, Backend, BackendName, Listener, LoadBalancer, PathPrefix, Prefix, Protocol, Route,
//!     RoutingTable, Server, ServerName,
//! };
//! use lb_haproxy::HaproxyBalancer;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let balancer = HaproxyBalancer::builder("/run/lb").as_process("/usr/sbin/haproxy").build()?;
//!
//! let shop = BackendName::new("shop.web")?;
//! let mut backend = Backend::new(AppName::new("shop")?, Protocol::Http);
//! for (id, address) in [(1, "10.0.0.1:8080"), (2, "10.0.0.2:8080")] {
//!     let id = NonZeroU32::new(id).ok_or("ids begin at 1")?;
//!     backend.servers.insert(ServerName::new(format!("shop-{id}"))?, Server::new(id, address.parse()?));
//! }
//! let route = Route {
//!     host: None,
//!     path: PathPrefix::root(),
//!     prefix: Prefix::Kept,
//!     backend: shop.clone(),
//! };
//! let listener = Listener::Http { routes: BTreeSet::from([route]), certificates: BTreeMap::new() };
//! let table = RoutingTable {
//!     host: None,
//!     listeners: BTreeMap::from([(80, listener)]),
//!     backends: BTreeMap::from([(shop, Arc::new(backend))]),
//! };
//!
//! let applied = balancer.apply(&table).await?;
//! println!("in force by {:?}; left out: {:?}", applied.change, applied.set_aside);
//! println!("{:?}", balancer.traffic().await?.backends);
//! # Ok(())
//! # }
//! ```
//!
//! To take a server out without cutting anybody off, first mark it
//! [`Draining`](lb_core::ServerState::Draining), then look at [`traffic`](lb_core::LoadBalancer::traffic)
//! until it has none `open` and none `expected`, then leave it out of the table. Workers that outlive a reload are
//! counted: each lets its idle HTTP/1 clients send one more request (`option idle-close-on-response`) and leads it
//! by the states its servers had, so that such clients are expected at all of them.
//!
//! HAProxy asks each server what the readiness probe asks it, by the same request, and takes it out after
//! [`fall`](lb_core::Health::fall) bad answers. It does so by nothing else: what requests meet is not held against
//! a server, for HAProxy would take an app's own 5xx for the server's failure. An app that might accept and never
//! answer needs an HTTP check; a TCP connect cannot tell.
//!
//! HAProxy runs in a container ([`in_container`](HaproxyBalancerBuilder::in_container)), as a process
//! ([`as_process`](HaproxyBalancerBuilder::as_process)), or is the platform's own
//! ([`attached`](HaproxyBalancerBuilder::attached)). In each case dropping the balancer leaves it serving,
//! and the next balancer on the same directory takes it over as it is.

mod balancer;
mod control;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod layout;
mod renderer;
mod version;

pub use balancer::{
    DEFAULT_IMAGE, HARD_STOP_AFTER, HaproxyBalancer, HaproxyBalancerBuilder, MAX_OLD_WORKERS,
    server_lines,
};
pub use lb_template::{
    LOOP_STEPS, MAX_OUTPUT_BYTES, MAX_TEMPLATE_BRACKETS, MAX_TEMPLATE_BYTES, MAX_TEMPLATE_DEPTH,
    MAX_TEMPLATE_STEPS, MAX_TEMPLATE_TAGS,
};
pub use renderer::{
    BACKEND_TEMPLATE, DEFAULTS_TEMPLATE, FRONTEND_TEMPLATE, HaproxyRenderer,
    HaproxyRendererBuilder, RATE_TABLE_SIZE, STREAMED_BODY_BYTES,
};
pub use version::{Abilities, Version};
