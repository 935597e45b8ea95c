//! Golden configurations: what a table of each kind renders to, byte for byte, and that HAProxy takes it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p lb-haproxy --test golden` writes them anew; read the difference.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{check, text_of, write_all};
use lb_core::{ConfigRenderer, Protocol::Tcp, RateLimit, RoutingTable};
use lb_haproxy::HaproxyRenderer;
use lb_test_support::{Routes, golden};

/// Those of every balancer, and what only HAProxy can express.
fn cases() -> Vec<(&'static str, RoutingTable)> {
    let rate = RateLimit { requests: 100.try_into().unwrap(), window: Duration::from_secs(10) };
    let server = ([10, 0, 2, 1], 8080).into();
    let tcp = Routes::new()
        .backend_with("db.sql", Tcp, &[server], |b| b.limits.rate = Some(rate))
        .tcp(5432, "db.sql");
    let mut all = golden::tables();
    all.push(("rate-limits-tcp", tcp.0));
    all
}

#[test]
fn tables_render_to_their_golden_files() {
    let renderer = HaproxyRenderer::new();
    for (name, table) in cases() {
        let config = renderer.render(&table).unwrap();
        assert_eq!(config, renderer.render(&table).unwrap(), "{name}: rendered twice");
        let mut files: BTreeMap<String, String> =
            config.files.iter().map(|(file, text)| (file.to_string(), text.clone())).collect();
        files.insert("haproxy.cfg".to_owned(), text_of(&table, &config));
        golden::compare(&kept(name), &files);
    }
}

/// A HAProxy built without PCRE has the C library's, and refuses the whole file for one group of PCRE's.
#[test]
fn every_regular_expression_is_one_of_posix() {
    for (name, table) in cases() {
        let text = text_of(&table, &HaproxyRenderer::new().render(&table).unwrap());
        let of_pcre = text.lines().find(|line| line.contains("-m reg") && line.contains("(?"));
        assert_eq!(of_pcre, None, "{name}");
    }
}

#[test]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
fn haproxy_takes_every_golden_configuration_without_a_warning() {
    let renderer = HaproxyRenderer::new();
    let (mut refused, mut warned) = (Vec::new(), Vec::new());
    for (name, table) in cases() {
        let directory = tempfile::tempdir().unwrap();
        let path = write_all(directory.path(), &table, &renderer.render(&table).unwrap());
        let checked = check(&path);
        match (checked.valid, checked.warns()) {
            (false, _) => refused.push((name, checked.said)),
            (true, true) => warned.push((name, checked.said)),
            (true, false) => {}
        }
    }
    assert!(refused.is_empty() && warned.is_empty(), "refused: {refused:#?}, warned: {warned:#?}");
}

fn kept(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}
