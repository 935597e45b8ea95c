//! The in-memory balancer passes the suite of its contract, also across a wire and behind a wrapper that
//! could fail.
#![cfg(feature = "conformance")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lb_core::conformance::balancer::BalancerSetup;
use lb_core::conformance::{Faulty, Stalled, Wire, Wrapped};
use lb_core::{LoadBalancer, MemoryBalancer};

#[derive(Debug, Default)]
struct Memory(MemoryBalancer);

#[async_trait]
impl BalancerSetup for Memory {
    async fn balancer(&self) -> Arc<dyn LoadBalancer> {
        Arc::new(self.0.clone())
    }

    fn address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn port(&self) -> u16 {
        static NEXT: AtomicU16 = AtomicU16::new(18_000);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    async fn stall(&self) -> Stalled {
        let faults = self.0.faults().clone();
        faults.stall(Duration::from_secs(3));
        Stalled::until(move || faults.go_on())
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

macro_rules! suite {
    ($setup:expr) => {
        lb_core::load_balancer_suite! {
            setup: $setup,
            left_out: {
                a_port_somebody_holds_is_set_aside_until_it_is_free: "it binds no port",
                routes_choose_the_longest_path_of_the_most_specific_name: "it carries no traffic",
                a_stripped_prefix_is_not_seen: "it carries no traffic",
                servers_of_other_hosts_are_reached_from_outside: "it carries no traffic",
                a_backend_without_servers_refuses_and_others_go_on: "it carries no traffic",
                requests_are_spread_and_counted: "it carries no traffic",
                nothing_is_open_when_all_is_answered: "it carries no traffic",
                a_server_that_refuses_costs_no_request: "it carries no traffic",
                counters_never_go_back: "it carries no traffic",
                changes_lose_no_request: "it carries no traffic",
                a_server_that_leaves_while_it_is_tried_again_does_no_harm: "it carries no traffic",
                streams_outlive_changes_of_others: "it carries no traffic",
                a_draining_server_keeps_what_it_has_and_takes_nothing_new: "it carries no traffic",
                a_draining_server_is_not_idle_while_a_kept_client_may_come_to_it: "it carries no traffic",
                a_server_that_left_has_its_connections_shut: "it carries no traffic",
                files_edited_by_hand_are_noticed_and_written_anew: "it has no files",
                a_killed_balancer_comes_back_with_the_next_table: "it is within this process",
                a_balancer_killed_while_it_takes_a_table_serves_the_next: "it is within this process",
            },
        }
    };
}

mod memory {
    suite!(super::Memory::default());
}

mod memory_over_the_wire {
    use super::*;
    suite!(Wrapped::<_, dyn LoadBalancer>::new(Memory::default(), |inner| {
        Arc::new(Wire::new(inner))
    }));
}

mod memory_behind_a_wrapper_that_could_fail {
    use super::*;
    suite!(Wrapped::<_, dyn LoadBalancer>::new(Memory::default(), |inner| {
        Arc::new(Faulty::new(inner))
    }));
}
