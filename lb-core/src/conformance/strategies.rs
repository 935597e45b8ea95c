//! Strategies of [proptest] for apps, hosts, routing tables, histories and faults: for a platform to test its
//! own renderer, balancer, registry, store or policy with values nobody would think of.
//!
//! Every value is valid by construction (nothing is filtered, so nothing is rejected): names hold their
//! grammar, apps their rules, tables [`RoutingTable::check`](crate::RoutingTable::check). What fails shrinks
//! to short names, few entries, defaults and the first of all choices. Bounds of lengths and times are
//! reached; of lists only the first few entries.
//!
//! A renderer that forgets a backend, found in a line:
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use lb_core::conformance::strategies::{certificate, table};
//! use lb_core::{ConfigRenderer, Fragment, RenderedConfig, Result, RoutingTable};
//! use proptest::prelude::*;
//!
//! #[derive(Debug)]
//! struct Mine;
//!
//! impl ConfigRenderer for Mine {
//!     fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
//!         let fragments = table.backends.keys().cloned().map(Fragment::Servers).collect();
//!         Ok(RenderedConfig { fragments, files: BTreeMap::new() })
//!     }
//! }
//!
//! proptest!(|(table in table(certificate()))| {
//!     let config = Mine.render(&table)?;
//!     let places = config.fragments.iter().filter(|f| matches!(f, Fragment::Servers(_)));
//!     prop_assert_eq!(places.count(), table.backends.len());
//! });
//! ```
//!
//! [proptest]: https://docs.rs/proptest

mod app;
mod fault;
mod history;
mod host;
mod name;
mod port;
mod table;

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::{SBoxedStrategy, Union};
use proptest::string::string_regex;

pub use self::app::{
    app, placement, registry_auth, replicas, resources, rollout, scaling, stop, volume,
};
pub use self::fault::{Failing, Fault, FaultSchedule, error_kind, fault, fault_schedule};
pub use self::history::{APPS, Deployment, Happening, MAX_COUNT, deployment, happening, history};
pub use self::host::{host_facts, host_set, labels};
pub use self::name::{
    absolute_path, app_name, backend_name, certificate, cluster_id, container_name, cookie_name,
    domain_name, env_name, file_name, header_name, health_path, host_id, image_digest, image_ref,
    instance_id, label_key, label_value, network_name, path_prefix, policy_name, port_name,
    revision, server_name, signal, text, user_name, volume_name,
};
pub use self::port::{balance, health, http_port, port, port_limits, tcp_port, timeouts};
pub use self::table::{backend, server, table};

/// Values written by one of these regular expressions, the simplest first. Each must only write what
/// parses: a mistake shows as a panic that names it.
fn written<T>(patterns: &[&'static str]) -> SBoxedStrategy<T>
where
    T: FromStr<Err: Debug> + Debug + 'static,
{
    let one = |pattern: &&'static str| {
        let pattern = *pattern;
        string_regex(pattern)
            .unwrap_or_else(|e| unreachable!("{pattern}: {e}"))
            .prop_map(move |text| match text.parse() {
                Ok(value) => value,
                Err(e) => unreachable!("{pattern} wrote {text:?}: {e:?}"),
            })
            .sboxed()
    };
    Union::new(patterns.iter().map(one)).sboxed()
}

/// Whole milliseconds.
fn millis(range: std::ops::RangeInclusive<u64>) -> SBoxedStrategy<Duration> {
    range.prop_map(Duration::from_millis).sboxed()
}

/// 1 to `most`.
fn count(most: u32) -> SBoxedStrategy<NonZeroU32> {
    (0..most).prop_map(|n| NonZeroU32::MIN.saturating_add(n)).sboxed()
}
