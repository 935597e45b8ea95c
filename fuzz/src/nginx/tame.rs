//! What NGINX cannot express, and its renderer refuses.

use std::sync::Arc;
use std::time::Duration;

use lb_core::{Balance, Protocol, RoutingTable};

/// Puts what NGINX can express in the place of what it cannot; whether there was any.
pub fn tame(table: &mut RoutingTable) -> bool {
    let mut any = false;
    for backend in table.backends.values_mut() {
        let backend = Arc::make_mut(backend);
        if matches!(&backend.balance, Balance::HeaderHash(name) if name.as_str().contains(['_', '.']))
        {
            (backend.balance, any) = (Balance::UriHash, true);
        }
        match &mut backend.limits.rate {
            rate @ Some(_) if backend.protocol == Protocol::Tcp => (*rate, any) = (None, true),
            // NGINX counts by the second or the minute.
            Some(rate) if ![1, 60].contains(&rate.window.as_secs()) => {
                (rate.window, any) = (Duration::from_secs(1), true);
            }
            _ => {}
        }
    }
    any
}
