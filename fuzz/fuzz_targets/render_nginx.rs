#![no_main]
//! Any valid table that NGINX can express becomes files that a strict reader accepts and that hold exactly the
//! table's listeners, routes, upstreams and servers, for each way in which servers come and go. Equal tables
//! give equal bytes, and a change of servers alone changes nothing the renderer writes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lb_core::conformance::strategies::table;
use lb_core::{Balance, ConfigRenderer, ErrorKind, Membership, Protocol, RoutingTable};
use lb_fuzz::{check_message, choice, joined_tables, nginx, real_certificate};
use lb_nginx::{NginxRenderer, fuzzing};
use libfuzzer_sys::fuzz_target;
use proptest::strategy::SBoxedStrategy;

const WAYS: [Membership; 3] =
    [Membership::RunTimeHttp, Membership::GentleReload, Membership::Reload];

static TABLES: LazyLock<SBoxedStrategy<RoutingTable>> = LazyLock::new(|| table(real_certificate()));
static RENDERER: LazyLock<NginxRenderer> = LazyLock::new(NginxRenderer::new);

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let Some(mut table) = joined_tables(&TABLES, rest) else { return };
    if let Err(error) = RENDERER.render(&table) {
        assert!(error.kind() == ErrorKind::Invalid && tamed(&mut table), "{error}: {table:#?}");
        check_message(&error);
    }
    let way = WAYS[usize::from(first) % WAYS.len()];
    let files = fuzzing::files(&RENDERER, &table, way).unwrap_or_else(|e| panic!("{e}"));
    nginx::holds(&files, &table, way).unwrap_or_else(|e| panic!("{e}\n{files:#?}"));
    assert_eq!(RENDERER.render(&table.shape()).ok(), RENDERER.render(&table).ok());
});

/// Puts what NGINX can express in the place of what it cannot; whether there was any.
fn tamed(table: &mut RoutingTable) -> bool {
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
