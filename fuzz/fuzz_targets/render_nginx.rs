#![no_main]
//! Any valid table that NGINX can express becomes files that a strict reader accepts and that hold exactly the
//! table's listeners, routes, upstreams and servers, for each version of NGINX. Equal tables give equal bytes,
//! and a change of servers alone changes nothing the renderer writes.

use std::sync::LazyLock;

use lb_core::conformance::strategies::table;
use lb_core::{ConfigRenderer, ErrorKind, RoutingTable};
use lb_fuzz::{check_message, choice, joined_tables, nginx, real_certificate};
use lb_nginx::{NginxRenderer, Version, fuzzing};
use libfuzzer_sys::fuzz_target;
use proptest::strategy::SBoxedStrategy;

const VERSIONS: [Version; 3] = [Version::OLDEST, Version::new(1, 26, 3), Version::new(1, 31, 0)];

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
    let version = VERSIONS[usize::from(first) % VERSIONS.len()];
    let files = fuzzing::files(&RENDERER, &table, version).unwrap_or_else(|e| panic!("{e}"));
    nginx::holds(&files, &table, version).unwrap_or_else(|e| panic!("{e}\n{files:#?}"));
    assert_eq!(RENDERER.render(&table.shape()).ok(), RENDERER.render(&table).ok());
});
