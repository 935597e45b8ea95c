//! Configurations put together as a balancer would, and a real HAProxy that runs them.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)] // each test program uses its part

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lb_core::balancer::{HEADER_BYTES, checked_header_bytes};
use lb_core::{ConfigRenderer, Fragment, Listener, RenderedConfig, RoutingTable};
use lb_haproxy::{HaproxyRenderer, layout, server_lines};
use lb_test_support::live::{accepting, local};
use lb_test_support::tls;
use tempfile::TempDir;

/// One test of each of these cases for every balancer.
macro_rules! cases {
    ($module:ident: $($case:ident)+) => { $(
        #[tokio::test]
        #[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
        async fn $case() {
            lb_test_support::$module::$case(crate::common::Proxy::start).await;
        }
    )+ };
}
pub(crate) use cases;

/// The renderer's text with server lines, as golden files hold it.
pub fn text_of(table: &RoutingTable, config: &RenderedConfig) -> String {
    let mut text = String::new();
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text: lines, .. } => text.push_str(lines),
            Fragment::Servers(name) => {
                text.push_str(&server_lines(&table.backends[name], table.host.as_ref()));
            }
        }
    }
    text
}

/// Writes everything HAProxy needs below `directory`; the path of the configuration.
pub fn write_all(directory: &Path, table: &RoutingTable, config: &RenderedConfig) -> PathBuf {
    let at = |name: &str| directory.join(name);
    for (name, text) in &config.files {
        std::fs::write(at(name.as_str()), text).unwrap();
    }
    std::fs::write(at("shop.pem"), tls::SHOP).unwrap();
    for (port, listener) in &table.listeners {
        let tls = match listener {
            Listener::Http { certificates, .. } => !certificates.is_empty(),
            Listener::Tcp { certificate, .. } => certificate.is_some(),
        };
        if tls {
            std::fs::write(at(layout::crt_list_file(*port).as_str()), "shop.pem\n").unwrap();
        }
    }
    let socket = |name: &str| at(name).to_str().unwrap().to_owned();
    let mut text = "global\n    nbthread 1\n    maxconn 1000\n".to_owned();
    let rendered = text_of(table, config);
    let bound = checked_header_bytes(HEADER_BYTES).unwrap();
    let lines = layout::global_lines([rendered.as_str()]).into_iter().map(str::to_owned);
    for line in lines.chain(layout::header_lines(bound)) {
        writeln!(text, "    {line}").unwrap();
    }
    writeln!(text, "    stats socket {} mode 600 level admin", socket("admin.sock")).unwrap();
    text.push_str(&layout::peers_section(&socket("peers.sock")));
    text.push_str(&rendered);
    let path = at("haproxy.cfg");
    std::fs::write(&path, text).unwrap();
    path
}

/// The HAProxy to test with.
pub fn haproxy() -> PathBuf {
    std::env::var_os("LB_TEST_HAPROXY").expect("LB_TEST_HAPROXY: set by testbed/up").into()
}

/// What `haproxy -c` said.
#[derive(Debug)]
pub struct Checked {
    pub valid: bool,
    pub said: String,
}

impl Checked {
    /// Whether it has something to say against a file it takes.
    pub fn warns(&self) -> bool {
        self.said.contains("[WARNING]")
    }
}

pub fn check(path: &Path) -> Checked {
    let output = Command::new(haproxy()).arg("-c").arg("-f").arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Checked { valid: output.status.success() && !said.contains("[ALERT]"), said }
}

/// A running HAProxy; ended when dropped.
#[derive(Debug)]
pub struct Proxy {
    process: Child,
    _directory: TempDir,
}

impl Proxy {
    /// Renders the table, has HAProxy check it, runs it, and waits until it accepts.
    pub async fn start(table: &RoutingTable) -> Self {
        let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let renderer = HaproxyRenderer::builder().bind_address(bind).build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = write_all(directory.path(), table, &renderer.render(table).unwrap());
        // A warning is the golden test's affair: here it would hide what the case is about.
        let checked = check(&path);
        assert!(checked.valid, "{}", checked.said);
        let proxy = Self { process: spawn(&path), _directory: directory };
        for port in table.listeners.keys() {
            accepting(local(*port)).await;
        }
        proxy
    }
}

fn spawn(path: &Path) -> Child {
    Command::new(haproxy())
        .args(["-db", "-f"])
        .arg(path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
