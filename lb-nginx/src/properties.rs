//! Any table becomes files that hold exactly its listeners, routes, upstreams and servers, by a reader that knows
//! nothing but what the templates and the balancer may write.

#[path = "../../fuzz/src/nginx/mod.rs"]
mod nginx;

use std::collections::BTreeSet;

use lb_core::conformance::strategies::table;
use lb_core::{CertificatePem, ConfigRenderer, Fragment, Listener, RoutingTable};
use lb_test_support::tls;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{NginxRenderer, Version, fuzzing};

/// From before and after each difference.
const VERSIONS: [Version; 3] = [Version::OLDEST, Version::new(1, 26, 3), Version::new(1, 31, 0)];

/// What NGINX can express, with a certificate it can load.
fn tables() -> impl Strategy<Value = RoutingTable> {
    let certificate = CertificatePem::new(tls::SHOP).unwrap();
    table(Just(certificate)).prop_map(|mut table| {
        nginx::tame(&mut table);
        table
    })
}

fn files(table: &RoutingTable, version: Version) -> nginx::Files {
    fuzzing::files(&NginxRenderer::new(), table, version).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_files_of_a_table_hold_its_parts_and_nothing_else(
        table in tables(), version in select(VERSIONS.as_slice()),
    ) {
        let files = files(&table, version);
        nginx::holds(&files, &table, version).map_err(|e| TestCaseError::fail(format!("{e}\n{files:#?}")))?;
    }

    #[test]
    fn a_place_for_servers_is_marked_once_for_each_backend(table in tables()) {
        let config = NginxRenderer::new().render(&table).unwrap();
        let marks: Vec<_> = config.fragments.iter().filter_map(|f| match f {
            Fragment::Servers(name) => Some(name),
            Fragment::Text { .. } => None,
        }).collect();
        prop_assert_eq!(marks.len(), table.backends.len());
        prop_assert_eq!(marks.into_iter().collect::<BTreeSet<_>>(), table.backends.keys().collect());
    }

    #[test]
    fn servers_change_nothing_the_renderer_writes(table in tables()) {
        let renderer = NginxRenderer::new();
        prop_assert_eq!(renderer.render(&table).unwrap(), renderer.render(&table.shape()).unwrap());
    }

    /// The reader is strict: files with one line left out or foreign are not the table's.
    #[test]
    fn damaged_files_are_not_taken_for_the_tables(
        table in tables(), version in select(VERSIONS.as_slice()), locations in any::<bool>(), at in any::<Index>(),
        damage in 0..3_u8,
    ) {
        let mut files = files(&table, version);
        // What is not included is not read.
        let included = table.listeners.values().any(|l| matches!(l, Listener::Http { .. }));
        let name = if included && locations { "lb_locations.conf" } else { "nginx.conf" };
        let mut lines: Vec<String> = files[name].lines().map(str::to_owned).collect();
        let at = at.index(lines.len().max(1)).min(lines.len());
        match damage {
            0 => {
                prop_assume!(lines.get(at).is_some_and(|line| is_of_the_table(line)));
                lines.remove(at);
            }
            1 => lines.insert(at, "    log_not_found on off;".into()),
            _ => {
                prop_assume!(lines.get(at).is_some_and(|line| !line.trim().is_empty() && !is_comment(line)));
                lines[at].push_str(" ;");
            }
        }
        let damaged = lines.join("\n") + "\n";
        files.insert(name.to_owned(), damaged.clone());
        prop_assert!(nginx::holds(&files, &table, version).is_err(), "{}: {}", damage, damaged);
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether a line says something of the table: others are the same for all tables or have a default in NGINX,
/// and the reader knows only that they may stand there, or they stand in a location no backend of it uses.
fn is_of_the_table(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let words = ["upstream", "server", "listen", "location", "ssl_certificate", "}"];
    words.contains(&first)
}
