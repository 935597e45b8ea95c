#![no_main]
//! Any valid table that NGINX can express becomes files that a strict reader accepts and that hold exactly the
//! table's listeners, routes, upstreams and servers, for each way in which servers come and go. Equal tables
//! give equal bytes, and a change of servers alone changes nothing the renderer writes.

use std::sync::LazyLock;

use lb_core::conformance::strategies::table;
use lb_core::{ConfigRenderer, ErrorKind, Membership, RoutingTable};
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
        assert!(
            error.kind() == ErrorKind::Invalid && nginx::tame(&mut table),
            "{error}: {table:#?}"
        );
        check_message(&error);
    }
    let way = WAYS[usize::from(first) % WAYS.len()];
    let files = fuzzing::files(&RENDERER, &table, way).unwrap_or_else(|e| panic!("{e}"));
    nginx::holds(&files, &table, way).unwrap_or_else(|e| panic!("{e}\n{files:#?}"));
    assert_eq!(RENDERER.render(&table.shape()).ok(), RENDERER.render(&table).ok());
});
