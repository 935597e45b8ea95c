//! The program that balances endpoints without an orchestrator, with a HAProxy of its own and with the platform's.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod support;

use std::process::{Child, Command, Stdio};

use lb_test_support::client::get;
use lb_test_support::{Instance, eventually, free_port, processes};
use support::{example, variable};
use tempfile::TempDir;

/// A directory for sockets, whose paths must be short; what runs from it is ended, also after a panic.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("lbo").tempdir_in("/tmp").unwrap())
    }

    fn text(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        processes::signal("-9", &processes::of(self.0.path()));
    }
}

/// What the program printed, or what it said of its failure.
fn balance(arguments: &[&str]) -> Result<String, String> {
    let mut program = Command::new(example("balancer_only"));
    let output =
        program.args(arguments).args(["--haproxy", &variable("LB_TEST_HAPROXY")]).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
    if output.status.success() { Ok(out) } else { Err(err) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn endpoints_are_balanced_by_a_haproxy_of_its_own() {
    let (directory, port) = (Directory::new(), free_port());
    let instances = [Instance::http("a").await, Instance::http("b").await];
    let [a, b] = instances.each_ref().map(|i| i.address.to_string());
    let outside = port.to_string();
    let common = ["--directory", directory.text(), "--port", &outside];
    let said = balance(&[&common[..], &["--server", &a]].concat()).unwrap();
    assert!(said.starts_with("Start: "), "{said}");
    assert_eq!(get(port, "/").await.unwrap().body, "a");
    let said = balance(&[&common[..], &["--server", &b]].concat()).unwrap();
    assert!(said.starts_with("Live: ") && said.contains("site.web: 1 requests"), "{said}");
    assert_eq!(get(port, "/").await.unwrap().body, "b");
    balance(&[&common[..], &["--end"]].concat()).unwrap();
    assert!(get(port, "/").await.is_err(), "nobody listens");
    assert!(processes::of(directory.0.path()).is_empty());
}

/// As a platform would, from the file that is there already.
fn platform(directory: &Directory) -> Child {
    let master = format!("{}/master.sock,mode,600", directory.text());
    let config = format!("{}/haproxy.cfg", directory.text());
    let mut program = Command::new(variable("LB_TEST_HAPROXY"));
    program.args(["-W", "-db", "-S", &master, "-f", &config]).stderr(Stdio::null());
    program.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LB_TEST_HAPROXY (testbed/up)"]
async fn endpoints_are_balanced_by_the_platforms_haproxy() {
    let (directory, port) = (Directory::new(), free_port());
    let instances = [Instance::http("a").await, Instance::http("b").await];
    let [a, b] = instances.each_ref().map(|i| i.address.to_string());
    let outside = port.to_string();
    let common = ["--attach", directory.text(), "--port", &outside];
    let said = balance(&[&common[..], &["--server", &a]].concat()).unwrap_err();
    assert!(said.contains("it is the platform's to start: haproxy -W -db -S "), "{said}");
    let mut haproxy = platform(&directory);
    eventually("it serves", async || get(port, "/").await.is_ok_and(|a| a.body == "a")).await;
    let said = balance(&[&common[..], &["--server", &b]].concat()).unwrap();
    assert!(said.starts_with("Live: "), "{said}");
    assert_eq!(get(port, "/").await.unwrap().body, "b");
    balance(&[&common[..], &["--end"]].concat()).unwrap();
    assert!(get(port, "/").await.is_err(), "nothing of ours listens");
    assert_eq!(haproxy.try_wait().unwrap(), None, "the platform's process lives");
    haproxy.kill().unwrap();
    haproxy.wait().unwrap();
}
