//! Golden configurations: what a table of each kind renders to, byte for byte, and that NGINX takes it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p lb-nginx --test golden` writes them anew; read the difference.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lb_core::{ConfigRenderer, Fragment, Listener, RenderedConfig, RoutingTable};
use lb_nginx::{NginxRenderer, layout};
use lb_test_support::{golden, tls, variable};

/// The renderer's text as golden files hold it: a comment stands where the balancer's servers go.
fn text_of(config: &RenderedConfig) -> String {
    let piece = |fragment: &Fragment| match fragment {
        Fragment::Text { text, .. } => text.clone(),
        Fragment::Servers(name) => format!("        # servers of {name}\n"),
    };
    config.fragments.iter().map(piece).collect()
}

#[test]
fn tables_render_to_their_golden_files() {
    let renderer = NginxRenderer::new();
    for (name, table) in golden::tables() {
        let config = renderer.render(&table).unwrap();
        assert_eq!(config, renderer.render(&table).unwrap(), "{name}: rendered twice");
        let mut files: BTreeMap<String, String> =
            config.files.iter().map(|(file, text)| (file.to_string(), text.clone())).collect();
        files.insert("nginx.conf".to_owned(), text_of(&config));
        golden::compare(&kept(name), &files);
    }
}

/// The line that brings streams, where they are a module of their own.
fn streams() -> String {
    let said = Command::new(variable("LB_TEST_NGINX")).arg("-V").output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    let value = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name));
    match value("--with-stream=dynamic") {
        Some(_) => {
            format!("load_module {}/ngx_stream_module.so;\n", value("--modules-path=").unwrap())
        }
        None => String::new(),
    }
}

/// Writes everything NGINX needs below `directory`, as a balancer would; the path of the configuration.
fn write_all(directory: &Path, table: &RoutingTable, config: &RenderedConfig) -> PathBuf {
    let at = |name: &str| directory.join(name);
    for (name, text) in &config.files {
        std::fs::write(at(name.as_str()), text).unwrap();
    }
    for (port, listener) in &table.listeners {
        let owners: Vec<_> = match listener {
            Listener::Http { certificates, .. } => certificates.keys().collect(),
            Listener::Tcp { backend, .. } => vec![backend],
        };
        for owner in owners {
            std::fs::write(at(layout::pem_file(*port, owner).as_str()), tls::SHOP).unwrap();
        }
    }
    let variables = "access_log off;\nserver { listen unix:none.sock; set $lb_backend \"\"; set $lb_strip \"\"; }\n";
    std::fs::write(at(layout::HTTP_INCLUDE), variables).unwrap();
    std::fs::write(at(layout::STREAM_INCLUDE), "").unwrap();
    let version = common::version();
    let mut text = format!("{}pid nginx.pid;\nerror_log stderr warn;\nevents {{ }}\n", streams());
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text: lines, .. } => text.push_str(&version.worded(lines)),
            Fragment::Servers(name) => {
                let zone = format!("zone {name} 64k; server 10.0.0.1:80;\n");
                text.push_str(&zone);
            }
        }
    }
    std::fs::write(at("nginx.conf"), text).unwrap();
    at("nginx.conf")
}

#[test]
#[ignore = "needs LB_TEST_NGINX (testbed/up)"]
fn nginx_takes_every_golden_configuration_without_a_warning() {
    let renderer = NginxRenderer::new();
    for (name, table) in golden::tables() {
        let directory = tempfile::tempdir().unwrap();
        let path = write_all(directory.path(), &table, &renderer.render(&table).unwrap());
        let prefix = format!("{}/", directory.path().display());
        let output = Command::new(variable("LB_TEST_NGINX"))
            .args(["-t", "-e", "stderr", "-p", &prefix, "-c"])
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("[warn]"), "{name}: {said}");
    }
}

fn kept(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}
