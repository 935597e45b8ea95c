//! What one worker's statistics count.

use lb_core::balancer::{Count, Counted};
use lb_core::{BackendName, ServerName};

use crate::control::{RowKind, Stat};

/// The counters of backends and servers; rows of names that cannot be ours are left out.
pub(crate) fn readings(stat: &Stat) -> impl Iterator<Item = (Counted, Count)> {
    stat.rows.iter().filter_map(|row| {
        let backend = BackendName::new(&row.backend).ok()?;
        let server = match &row.kind {
            RowKind::Backend { .. } => None,
            RowKind::Server { name, .. } => Some(ServerName::new(name).ok()?),
        };
        let count = Count { requests: row.requests, failures: row.failures };
        Some(((backend, server), count))
    })
}
