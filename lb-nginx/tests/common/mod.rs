//! What the tests share: a real NGINX as a process, behind the balancer.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)] // each test program uses its part

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lb_core::{Change, ConfigRenderer, LoadBalancer, RoutingTable, Traffic};
use lb_nginx::{NginxBalancer, NginxBalancerBuilder, NginxRenderer, Version};
use lb_test_support::processes;
use tempfile::TempDir;

/// One test of each of these cases for every balancer.
macro_rules! cases {
    ($module:ident: $($case:ident)+) => { $(
        #[tokio::test]
        #[ignore = "needs LB_TEST_NGINX (testbed/up)"]
        async fn $case() {
            lb_test_support::$module::$case(crate::common::serving).await;
        }
    )+ };
}
pub(crate) use cases;

/// The binary the tests run, which says of a configuration that it warns of that it refuses it.
pub fn nginx() -> PathBuf {
    static STRICT: LazyLock<TempDir> = LazyLock::new(|| {
        let dir = tempfile::Builder::new().prefix("lbn").tempdir_in("/tmp").unwrap();
        let text = STRICT_NGINX.replace("REAL", &lb_test_support::variable("LB_TEST_NGINX"));
        script(dir.path(), "nginx", &text);
        dir
    });
    STRICT.path().join("nginx")
}

/// A check is `-t -e stderr -p DIRECTORY/ -c FILE`.
const STRICT_NGINX: &str = r#"[ "$1" = -t ] || exec REAL "$@"
REAL "$@" || exit
sed 's/^error_log stderr emerg/error_log stderr warn/' "$7" >"$5/strict.conf"
said=$(REAL -t -e stderr -p "$5" -c "$5/strict.conf" 2>&1)
rm "$5/strict.conf"
case "$said" in *'[warn]'*) echo "[emerg] $said"; exit 1;; esac"#;

/// Its version.
pub fn version() -> Version {
    let said = Command::new(nginx()).arg("-v").output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    said.split_once('/').unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
}

/// A balancer and its directory; ends NGINX when dropped, also after a panic.
pub struct Bench {
    pub dir: TempDir,
    pub balancer: NginxBalancer,
    renderer: Arc<dyn ConfigRenderer>,
}

impl Bench {
    pub fn new() -> Self {
        Self::rendered_by(Arc::new(loopback()))
    }

    pub fn rendered_by(renderer: Arc<dyn ConfigRenderer>) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::Builder::new().prefix("lbn").tempdir_in("/tmp").unwrap();
        let balancer = built(builder(dir.path(), renderer.clone()));
        Self { dir, balancer, renderer }
    }

    /// Another balancer on the same directory.
    pub fn again(&self) -> NginxBalancer {
        built(self.builder())
    }

    pub fn builder(&self) -> NginxBalancerBuilder {
        builder(self.dir.path(), self.renderer.clone())
    }

    pub async fn apply(&self, table: &RoutingTable) -> Change {
        let applied = self.balancer.apply(table).await.unwrap();
        assert_eq!(applied.table, table.hash());
        assert!(applied.set_aside.is_empty(), "{:?}", applied.set_aside);
        applied.change
    }

    pub async fn traffic(&self) -> Traffic {
        self.balancer.traffic().await.unwrap()
    }

    pub async fn reloads(&self) -> u64 {
        self.balancer.describe().await.unwrap().reloads
    }

    pub fn config(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("nginx.conf")).unwrap()
    }

    /// The master's process id; `None`: none runs.
    pub fn master(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.dir.path().join("nginx.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        processes::command_line(pid).starts_with("nginx: master").then_some(pid)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(master) = self.master() {
            // The master first: it would replace a worker that ends before it.
            let mut doomed = vec![master];
            doomed.extend(processes::children(master));
            processes::signal("-9", &doomed);
        }
    }
}

/// Everything on loopback only.
pub fn loopback() -> NginxRenderer {
    NginxRenderer::builder().bind_address(IpAddr::V4(Ipv4Addr::LOCALHOST)).build().unwrap()
}

/// A program in the shell's language.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn builder(dir: &Path, renderer: Arc<dyn ConfigRenderer>) -> NginxBalancerBuilder {
    NginxBalancer::builder(dir)
        .renderer(renderer)
        .as_process(nginx())
        .workers(2.try_into().unwrap())
        .hard_stop_after(Duration::from_secs(20))
}

fn built(builder: NginxBalancerBuilder) -> NginxBalancer {
    builder.build().unwrap()
}

/// An NGINX that serves this table, by the balancer.
pub async fn serving(table: &RoutingTable) -> Bench {
    let bench = Bench::new();
    assert_eq!(bench.apply(table).await, Change::Start);
    bench
}
