//! The in-memory engine passes the suite of the contract it is the reference of, also across a wire and
//! behind a wrapper that could fail.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::Ipv4Net;
use lb_core::conformance::runtime::{Does, RuntimeSetup};
use lb_core::conformance::{Faulty, Stalled, Wire, Wrapped};
use lb_core::*;

/// One engine; each cluster has a runtime on it.
#[derive(Debug)]
struct Memory {
    engine: MemoryRuntime,
    clusters: Mutex<BTreeMap<ClusterId, MemoryRuntime>>,
}

fn image(name: &str) -> ImageRef {
    ImageRef::new(format!("registry.example.org/{name}:1")).unwrap()
}

impl Memory {
    fn new() -> Self {
        let engine = MemoryRuntime::new();
        for (name, digit) in [("sleeps", "1"), ("fails", "2"), ("shell", "3")] {
            let digest = ImageDigest::new(format!("sha256:{}", digit.repeat(64))).unwrap();
            engine.publish_image(&image(name), digest);
        }
        engine.behave(Behaviour::Unasked);
        engine.behave_as(&image("fails"), Behaviour::ExitsAfter(Duration::ZERO));
        Self { engine, clusters: Mutex::default() }
    }

    fn of(&self, cluster: &ClusterId) -> MemoryRuntime {
        let mut clusters = self.clusters.lock().unwrap();
        clusters.entry(cluster.clone()).or_insert_with(|| self.engine.beside()).clone()
    }
}

#[async_trait::async_trait]
impl RuntimeSetup for Memory {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        Arc::new(self.of(cluster))
    }

    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec {
        let image = match does {
            Does::Sleep => image("sleeps"),
            Does::Fail => image("fails"),
            Does::Shell(_) => image("shell"),
        };
        ContainerSpec::new(name, Role::Instance, image)
    }

    fn subnet(&self) -> Ipv4Net {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let third = NEXT.fetch_add(2, Ordering::Relaxed);
        Ipv4Net::new(Ipv4Addr::new(10, 210, third, 0), 24).unwrap()
    }

    fn absent_image(&self) -> ImageRef {
        image("absent")
    }

    async fn make_foreign(&self, name: &ContainerName) {
        self.engine.hold_name(name.clone());
    }

    async fn foreign_runs(&self, _: &ContainerName) -> bool {
        true
    }

    async fn make_only(&self, cluster: &ClusterId, spec: &ContainerSpec) {
        self.of(cluster).make_only(spec).unwrap();
    }

    async fn restart(&self) {
        self.engine.restart();
    }

    async fn stallable(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        Arc::new(self.of(cluster))
    }

    async fn stall(&self) -> Stalled {
        let faults = self.engine.faults().clone();
        faults.stall(Duration::from_secs(3));
        Stalled::until(move || faults.go_on())
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

macro_rules! suite {
    ($setup:expr) => {
        lb_core::container_runtime_suite! {
            setup: $setup,
            left_out: {
                a_port_another_process_holds_is_a_conflict: "it binds no port",
                a_program_that_is_not_there_is_invalid: "it runs no program",
                a_folder_that_is_not_there_is_invalid: "it runs no program",
                usage_counts_up: "it runs no program",
                logs_have_both_streams_and_a_tail: "it runs no program",
                run_to_end_gives_code_and_output_and_removes: "it runs no program",
                run_to_end_kills_at_its_deadline: "it runs no program",
                output_keeps_its_end: "it runs no program",
                arguments_and_environment_reach_the_process: "it runs no program",
                a_stop_asks_by_its_signal: "it runs no program",
                a_stop_kills_after_the_grace: "it runs no program",
                an_always_restarted_container_comes_back: "it runs no program",
                user_hosts_and_volumes_reach_the_process: "it runs no program",
                privileges_are_dropped: "it runs no program",
                a_read_only_root_has_its_writable_places: "it runs no program",
                want_of_memory_is_told: "it runs no program",
                a_published_port_leads_in_at_its_address_only: "it runs no program",
            },
        }
    };
}

mod memory {
    suite!(super::Memory::new());
}

mod memory_over_the_wire {
    use super::*;
    suite!(Wrapped::<_, dyn ContainerRuntime>::new(Memory::new(), |runtime| Arc::new(Wire::new(
        runtime
    ))));
}

mod memory_behind_a_wrapper_that_could_fail {
    use super::*;
    suite!(Wrapped::<_, dyn ContainerRuntime>::new(Memory::new(), |runtime| Arc::new(
        Faulty::new(runtime)
    )));
}

mod restart {
    lb_core::container_runtime_restart_suite! { setup: super::Memory::new() }
}
