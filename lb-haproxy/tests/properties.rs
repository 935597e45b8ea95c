//! Any table renders to a configuration that holds exactly its routes, backends and servers, by a reader that
//! knows nothing but what the templates may write.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;
#[path = "../../fuzz/src/haproxy/mod.rs"]
mod haproxy;

use common::text_of;
use lb_core::conformance::strategies::{certificate, table};
use lb_core::{CertificatePem, ConfigRenderer, Fragment};
use lb_haproxy::HaproxyRenderer;
use lb_test_support::tls;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_rendered_table_holds_its_parts_and_nothing_else(table in table(certificate())) {
        let config = HaproxyRenderer::new().render(&table).unwrap();
        let text = text_of(&table, &config);
        haproxy::holds(&text, &config, &table).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        let marks: Vec<_> = config.fragments.iter().filter_map(|f| match f {
            Fragment::Servers(name) => Some(name),
            Fragment::Text { .. } => None,
        }).collect();
        prop_assert_eq!(marks, table.backends.keys().collect::<Vec<_>>());
    }

    #[test]
    fn servers_change_nothing_a_reload_would_be_needed_for(table in table(certificate())) {
        let renderer = HaproxyRenderer::new();
        prop_assert_eq!(renderer.render(&table).unwrap(), renderer.render(&table.shape()).unwrap());
    }

    /// The reader is strict: a configuration with one line or word left out, doubled or foreign is not the
    /// table's.
    #[test]
    fn a_damaged_configuration_is_not_taken_for_the_tables(
        table in table(certificate()), at in any::<prop::sample::Index>(), damage in 0..4_u8,
    ) {
        let config = HaproxyRenderer::new().render(&table).unwrap();
        let text = text_of(&table, &config);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = at.index(lines.len());
        // What these say is the same for all tables, or a default of HAProxy's own: the reader knows only
        // that they may stand there.
        let free = ["timeout", "option", "retr", "http-re", "tcp-req", "acl", "hash-type", "dynamic"];
        prop_assume!(damage > 1 || !free.iter().any(|word| lines[at].trim_start().starts_with(word)));
        match damage {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines.insert(at, "    errorfile 503 /etc/passwd".into()),
            _ => lines[at].push_str(" #"),
        }
        let damaged = lines.join("\n") + "\n";
        prop_assert!(haproxy::holds(&damaged, &config, &table).is_err(), "{}: {}", damage, damaged);
    }
}

#[test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
fn haproxy_takes_any_rendered_table_without_a_warning() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(40)
    });
    let tables = table(Just(CertificatePem::new(tls::SHOP).unwrap()));
    let result = runner.run(&tables, |table| {
        let directory = tempfile::tempdir().unwrap();
        let config = HaproxyRenderer::new().render(&table).unwrap();
        let path = common::write_all(directory.path(), &table, &config);
        let checked = common::check(&path);
        prop_assert!(checked.valid, "{}", checked.said);
        prop_assert!(!checked.warns(), "{}", checked.said);
        Ok(())
    });
    result.unwrap();
}
