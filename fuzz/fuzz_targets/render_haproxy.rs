#![no_main]
//! Any valid table becomes a configuration that a strict reader accepts and that holds exactly the table's
//! listeners, routes, backends and servers, these written as the balancer writes them. Equal tables give equal
//! bytes, and a change of servers alone changes nothing else.

use std::sync::LazyLock;

use lb_core::conformance::strategies::{certificate, table};
use lb_core::{ConfigRenderer, Fragment, RoutingTable};
use lb_fuzz::{haproxy, joined_tables};
use lb_haproxy::{HaproxyRenderer, server_lines};
use libfuzzer_sys::fuzz_target;
use proptest::strategy::SBoxedStrategy;

static TABLES: LazyLock<SBoxedStrategy<RoutingTable>> = LazyLock::new(|| table(certificate()));
static RENDERER: LazyLock<HaproxyRenderer> = LazyLock::new(HaproxyRenderer::new);

fuzz_target!(|data: &[u8]| {
    let Some(table) = joined_tables(&TABLES, data) else { return };
    table.check().expect("a valid table");
    let config = RENDERER.render(&table).unwrap_or_else(|e| panic!("{e}: {table:#?}"));
    let mut text = String::new();
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text: lines, .. } => text.push_str(lines),
            Fragment::Servers(name) => {
                text.push_str(&server_lines(&table.backends[name], table.host.as_ref()));
            }
        }
    }
    haproxy::holds(&text, &config, &table).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(RENDERER.render(&table.shape()).expect("the same shape"), config);
});
