//! The suites of the contracts on processes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use lb_core::conformance::balancer::BalancerSetup;
use lb_core::conformance::runtime::{Does, RuntimeSetup};
use lb_core::conformance::{Wire, Wrapped};
use lb_core::*;
use lb_local::{LocalBalancer, LocalRuntime, Program};
use tempfile::TempDir;

/// A directory is the engine; each cluster has a runtime on it.
#[derive(Debug)]
struct Processes {
    dir: TempDir,
}

impl Processes {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn of(&self, cluster: &ClusterId) -> LocalRuntime {
        LocalRuntime::builder(cluster.clone(), self.dir.path())
            .image("shell:1", Program::new("/bin/sh"))
            .build()
            .unwrap()
    }

    /// There is nobody else in the directory but other clusters.
    fn somebody(&self) -> LocalRuntime {
        self.of(&ClusterId::new("somebody").unwrap())
    }
}

fn shell(name: ContainerName, lines: &str) -> ContainerSpec {
    ContainerSpec {
        args: Some(vec!["-c".into(), lines.into()]),
        ..ContainerSpec::new(name, Role::Instance, ImageRef::new("shell:1").unwrap())
    }
}

#[async_trait]
impl RuntimeSetup for Processes {
    async fn runtime(&self, cluster: &ClusterId) -> Arc<dyn ContainerRuntime> {
        Arc::new(self.of(cluster))
    }

    fn container(&self, name: ContainerName, does: Does<'_>) -> ContainerSpec {
        match does {
            Does::Sleep => shell(name, "exec sleep 600"),
            Does::Fail => shell(name, "exit 1"),
            Does::Shell(lines) => shell(name, lines),
        }
    }

    fn subnet(&self) -> Ipv4Net {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let second = 100 + (std::process::id() % 100) as u8;
        let third = NEXT.fetch_add(1, Ordering::Relaxed);
        Ipv4Net::new(Ipv4Addr::new(127, second, third, 0), 24).unwrap()
    }

    fn absent_image(&self) -> ImageRef {
        ImageRef::new("no-such-app:1").unwrap()
    }

    async fn make_foreign(&self, name: &ContainerName) {
        self.somebody().run(&shell(name.clone(), "exec sleep 600")).await.unwrap();
    }

    async fn foreign_runs(&self, name: &ContainerName) -> bool {
        let list = self.somebody().list().await.unwrap();
        list.iter().any(|c| c.name == *name && c.state == ContainerState::Running)
    }

    async fn clear(&self) {
        for container in self.somebody().list().await.unwrap() {
            self.somebody().stop(&container.name, Duration::ZERO).await.unwrap();
        }
    }
}

mod runtime {
    use super::*;

    lb_core::container_runtime_suite! {
        setup: Processes::new(),
        left_out: {
            one_made_but_never_started_is_started: "it makes and starts in one step",
            a_published_port_has_one_owner: "it publishes no ports: processes bind the host's own",
            a_port_another_process_holds_is_a_conflict: "it publishes no ports",
            a_published_port_leads_in_at_its_address_only: "it publishes no ports",
            user_hosts_and_volumes_reach_the_process: "it does not confine",
            privileges_are_dropped: "it does not confine",
            a_read_only_root_has_its_writable_places: "it does not confine",
            an_always_restarted_container_comes_back: "nobody but the platform restarts a process",
            want_of_memory_is_told: "it does not enforce limits",
            calls_on_a_stalled_engine_time_out: "it is within this process",
            a_call_dropped_on_a_stalled_engine_is_done_once_it_goes_on: "it is within this process",
        },
    }
}

/// The in-process balancer on a loopback address of the case's own.
#[derive(Debug)]
struct InProcess {
    address: IpAddr,
    balancer: LocalBalancer,
    next: AtomicU16,
}

impl InProcess {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let second = 20 + (std::process::id() % 80) as u8;
        let third = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::new(127, second, third, 1).into();
        Self { address, balancer: LocalBalancer::on(address), next: AtomicU16::new(8000) }
    }
}

#[async_trait]
impl BalancerSetup for InProcess {
    async fn balancer(&self) -> Arc<dyn LoadBalancer> {
        Arc::new(self.balancer.clone())
    }

    fn address(&self) -> IpAddr {
        self.address
    }

    fn port(&self) -> u16 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

macro_rules! balancer_suite {
    ($setup:expr) => {
        lb_core::load_balancer_suite! {
            setup: $setup,
            left_out: {
                files_edited_by_hand_are_noticed_and_written_anew: "it has no files",
                a_killed_balancer_comes_back_with_the_next_table: "it is within this process",
                a_balancer_killed_while_it_takes_a_table_serves_the_next: "it is within this process",
                calls_on_a_stalled_balancer_time_out: "it is within this process",
                a_call_dropped_on_a_stalled_balancer_is_done_once_it_goes_on: "it is within this process",
            },
        }
    };
}

mod balancer {
    balancer_suite!(super::InProcess::new());
}

mod balancer_over_the_wire {
    use super::*;
    balancer_suite!(Wrapped::<_, dyn LoadBalancer>::new(InProcess::new(), |inner| {
        Arc::new(Wire::new(inner))
    }));
}
