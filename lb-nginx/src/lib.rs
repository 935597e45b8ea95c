#![forbid(unsafe_code)]
//! lb-nginx: NGINX for lb: the renderer of its configuration ([`NginxRenderer`]) and the balancer that runs
//! it ([`NginxBalancer`]).
//!
//! # How servers come and go
//!
//! By a reload: open NGINX has no command for it. What the binary can do is found out at the first call
//! ([`Version`], `nginx -V`) and told by [`BalancerInfo`](lb_core::BalancerInfo):
//!
//! | NGINX | [`Membership`](lb_core::Membership) | promise |
//! |---|---|---|
//! | 1.27.4 and later | `GentleReload`, with `keepalive_min_timeout` | no lost request of a client that is never idle for 10 s |
//! | 1.22 to 1.27.3 | `Reload` | at most one closed keep-alive connection per client connection and reload, never a failed new connection |
//!
//! Reloads are coalesced, at most one a second. Websockets and TCP streams go on in old workers, through any number of
//! reloads, for up to [`hard_stop_after`](NginxBalancerBuilder::hard_stop_after), a day; how many such workers there may
//! be, and what they cost, says [`max_old_workers`](NginxBalancerBuilder::max_old_workers).
//!
//! # Connections of servers that left
//!
//! They are shut in the kernel's table of sockets. That takes this process `CAP_NET_ADMIN`, NGINX's network
//! namespace, and a Linux of 4.9 or later with `CONFIG_INET_DIAG_DESTROY`. Where one of them is missing, each
//! change warns of it, and the promise is: a server that left gets nothing new, and what is open to it goes on
//! until it ends by itself, the instance stops (which an orchestrator has it do next) or, in workers of before a
//! reload, [`hard_stop_after`](NginxBalancerBuilder::hard_stop_after) is over.
//!
//! # What NGINX does differently
//!
//! - **Health.** Nothing is asked beside requests, and a server that failed is not left out: open NGINX does not
//!   tell a server that is down from a request that no server can answer, and would take the app from everybody for
//!   it. A request that meets a dead server goes to the next, past up to 15 of them; the readiness that lb's prober
//!   sees takes them out.
//! - **Queue.** Requests beyond `connections_per_instance` get 503 (502 where requests are hashed or drawn) at
//!   once: open NGINX has no queue.
//! - **Slow start.** A new server gets its whole share at once.
//! - **Stickiness.** The cookie names the client and is hashed consistently, whatever `balance` says: a server
//!   that comes takes its share of known clients over.
//! - **Rate limit.** A bucket: `requests` may come at once, then one each `window / requests`. Whole addresses
//!   are limited, also of IPv6. TCP cannot be limited, nor can rates that are no whole number a second or minute:
//!   such a backend is refused by name.
//! - **Body limit.** Where one is set, bodies are read whole before the app sees anything.
//! - **Header hash.** Headers with `_` or `.` in their names are refused: NGINX drops them.
//! - **Certificates** are chosen by the DNS names in them; a changed one is a reload.
//! - **Underscores.** Request headers with `_` in their names do not reach apps (NGINX's default).
//! - **Claims.** Of a client's headers those of [`CLAIMED_FIELDS`](lb_core::balancer::CLAIMED_FIELDS) do not reach apps;
//!   other names that begin with `X-Forwarded` do: open NGINX drops by whole names.
//! - **Idle connections to apps** are closed after half a second, before any app would: a POST never meets one that
//!   ends.
//! - **Early answers.** Where an app answers before it has read the body and closes at once, the client may get 502
//!   in place of its answer: NGINX gives up when it cannot send on.
//! - **Early hints.** What an app says before its answer (1xx, but 101) ends in a wrong answer before 1.29; from then
//!   on 103 is dropped ([`Version::skips_early_hints`]).
//!
//! # Traffic
//!
//! Requests, failures and mean time come from log lines to a unix socket (of a connection the first ten requests
//! each, then every tenth, which counts for ten), `open` from the kernel's table of sockets, which for HTTP
//! counts kept idle connections too and needs this process in NGINX's network namespace. Where a reload keeps idle
//! clients, those of old workers are `expected` at every server for as long as they are kept. `queued` is 0, and `up`
//! always true. Lines sent while this process was away are lost. Without a figure a policy holds: missing metrics
//! never scale in.
//!
//! # Without an orchestrator
//!
//! ```no_run
//! use lb_core::{LoadBalancer, RoutingTable};
//! use lb_nginx::NginxBalancer;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let balancer = NginxBalancer::builder("/run/lb").as_process("/usr/sbin/nginx").build()?;
//! let table = RoutingTable::default(); // listeners, routes, backends, servers: all of them, each time
//! let applied = balancer.apply(&table).await?;
//! println!("in force by {:?}; left out: {:?}", applied.change, applied.set_aside);
//! println!("{:?}", balancer.traffic().await?.backends);
//! # Ok(())
//! # }
//! ```
//!
//! NGINX runs in a container ([`in_container`](NginxBalancerBuilder::in_container)) or as a process
//! ([`as_process`](NginxBalancerBuilder::as_process)). Dropping the balancer leaves it serving, and the next
//! balancer on the same directory takes it over as it is.

// The reader of `fuzz/`, which the properties share, names this crate.
#[cfg(test)]
extern crate self as lb_nginx;

mod balancer;
mod control;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod layout;
#[cfg(test)]
mod properties;
mod renderer;
mod version;

pub use balancer::{
    DEFAULT_IMAGE, HARD_STOP_AFTER, MAX_OLD_WORKERS, NginxBalancer, NginxBalancerBuilder,
};
pub use lb_template::{
    LOOP_STEPS, MAX_OUTPUT_BYTES, MAX_TEMPLATE_BRACKETS, MAX_TEMPLATE_BYTES, MAX_TEMPLATE_DEPTH,
    MAX_TEMPLATE_STEPS, MAX_TEMPLATE_TAGS,
};
pub use renderer::{
    BACKEND_TEMPLATE, DEFAULTS_TEMPLATE, FRONTEND_TEMPLATE, LOCATION_TEMPLATE, NginxRenderer,
    NginxRendererBuilder,
};
pub use version::Version;
