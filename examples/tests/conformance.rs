//! The adapters of `custom_registry`, `custom_runtime` and `custom_policy` pass the suites of their contracts.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

#[path = "../custom_registry/directory.rs"]
mod directory;
#[path = "../custom_runtime/functions.rs"]
mod functions;
#[path = "../custom_policy/queue.rs"]
mod queue;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use directory::Directory;
use functions::Functions;
use ipnet::Ipv4Net;
use lb_core::conformance::registry::RegistrySetup;
use lb_core::conformance::runtime::{Does, RuntimeSetup};
use lb_core::conformance::scale_policy::PolicySetup;
use lb_core::{
    ClusterId, ContainerName, ContainerRuntime, ContainerSpec, HostRegistry, ImageRef, Role,
    ScalePolicy,
};
use queue::Queue;
use tempfile::TempDir;

/// A directory of the case's own. While it is away, the registry cannot be believed.
#[derive(Debug)]
struct Hosts(TempDir);

impl Hosts {
    fn new() -> Self {
        let hosts = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(hosts.0.path().join("hosts")).unwrap();
        hosts
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.0.path().join(from), self.0.path().join(to)).unwrap();
    }
}

#[async_trait]
impl RegistrySetup for Hosts {
    async fn registry(&self) -> Arc<dyn HostRegistry> {
        Arc::new(Directory::new(self.0.path().join("hosts")))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn fail(&self) {
        self.rename("hosts", "away");
    }

    async fn heal(&self) {
        self.rename("away", "hosts");
    }
}

mod custom_registry {
    lb_core::host_registry_suite! { setup: super::Hosts::new() }
}

/// One engine; each cluster has a runtime on it.
#[derive(Debug)]
struct Engine {
    functions: Functions,
    clusters: Mutex<BTreeMap<ClusterId, Functions>>,
}

impl Engine {
    fn new() -> Self {
        let functions = Functions::new(&[
            ("sleeps", |_| Box::pin(std::future::pending())),
            ("fails", |_| Box::pin(std::future::ready(1))),
        ]);
        Self { functions: functions.unwrap(), clusters: Mutex::default() }
    }

    fn of(&self, cluster: &ClusterId) -> Functions {
        let mut clusters = self.clusters.lock().unwrap();
        clusters.entry(cluster.clone()).or_insert_with(|| self.functions.beside()).clone()
    }
}

#[async_trait]
impl RuntimeSetup for Engine {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        Arc::new(self.of(cluster))
    }

    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec {
        let image = match does {
            Does::Fail => "fails",
            Does::Sleep | Does::Shell(_) => "sleeps",
        };
        ContainerSpec::new(name, Role::Instance, image.parse().unwrap())
    }

    fn subnet(&self) -> Ipv4Net {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let third = NEXT.fetch_add(2, Ordering::Relaxed);
        Ipv4Net::new(Ipv4Addr::new(127, 99, third, 0), 24).unwrap()
    }

    fn absent_image(&self) -> ImageRef {
        "absent".parse().unwrap()
    }

    async fn make_foreign(&self, name: &ContainerName) {
        let somebody = ClusterId::new("somebody").unwrap();
        let spec = self.container(name.clone(), Does::Sleep);
        self.of(&somebody).run(&spec).await.unwrap();
    }

    async fn foreign_runs(&self, name: &ContainerName) -> bool {
        let somebody = ClusterId::new("somebody").unwrap();
        let list = self.of(&somebody).list().await.unwrap();
        list.iter().any(|container| container.name == *name)
    }

    async fn make_only(&self, cluster: &ClusterId, spec: &ContainerSpec) {
        self.of(cluster).books.make_only(spec).unwrap();
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

mod custom_runtime {
    lb_core::container_runtime_suite! {
        setup: super::Engine::new(),
        left_out: {
            a_port_another_process_holds_is_a_conflict: "it publishes no ports",
            a_published_port_leads_in_at_its_address_only: "it publishes no ports",
            a_program_that_is_not_there_is_invalid: "functions are no programs",
            a_folder_that_is_not_there_is_invalid: "functions have no files",
            usage_counts_up: "nobody measures a task",
            logs_have_both_streams_and_a_tail: "functions print nothing",
            run_to_end_gives_code_and_output_and_removes: "functions print nothing",
            output_keeps_its_end: "functions print nothing",
            arguments_and_environment_reach_the_process: "functions have none",
            a_stop_asks_by_its_signal: "functions hear no signals",
            a_stop_kills_after_the_grace: "functions hear no signals",
            an_always_restarted_container_comes_back: "it takes lines of shell",
            user_hosts_and_volumes_reach_the_process: "functions have none",
            privileges_are_dropped: "functions have this process's",
            a_read_only_root_has_its_writable_places: "functions have no files",
            want_of_memory_is_told: "it does not enforce limits",
            calls_on_a_stalled_engine_time_out: "it is within this process",
            a_call_dropped_on_a_stalled_engine_is_done_once_it_goes_on: "it is within this process",
        },
    }
}

#[derive(Debug)]
struct ByQueue;

impl PolicySetup for ByQueue {
    fn policy(&self) -> Arc<dyn ScalePolicy> {
        Arc::new(Queue)
    }
}

mod custom_policy {
    lb_core::scale_policy_suite! { setup: super::ByQueue }
}
