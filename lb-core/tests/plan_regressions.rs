//! What the simulation found in the planner, each as the smallest case that shows it.
#![allow(clippy::unwrap_used, reason = "tests, and their helpers")]

mod plan_sim;

use std::net::Ipv4Addr;
use std::time::Duration;

use lb_core::*;
use plan_sim::Sim;

const SHOP: &str = r#"
    name = "shop"
    image = "registry.example.org/shop:1"
    replicas = 2
    [ports.web]
    container = 8080
    outside = 80
"#;

/// The name at balancers of the first instance on the host.
fn server(sim: &mut Sim, host: u8) -> ServerName {
    let id = sim.host(host).containers.keys().next().unwrap().clone();
    ServerName::from(&id.container_name(&sim.cluster.id))
}

fn leads_to(sim: &mut Sim, host: u8, server: &ServerName) -> bool {
    let table = sim.host(host).table.clone();
    table.is_some_and(|t| t.backends.values().any(|b| b.servers.contains_key(server)))
}

/// Seed 199: an instance that was given up came back beside the one that had taken its slot. Both had the
/// slot's server id, and no balancer took any table until one of them was gone.
#[test]
fn two_instances_of_one_slot_are_both_served() {
    let mut sim = Sim::new(1);
    sim.deploy_toml(SHOP);
    sim.settle();
    let (id, container) = sim.host(1).containers.pop_last().unwrap();
    let unseen = id.clone();
    sim.until(60, "it is replaced", move |sim| {
        let slot = |c: &InstanceId| c.slot == unseen.slot && *c != unseen;
        sim.hosts.values().any(|h| h.containers.keys().any(slot)) && sim.running() == 2
    });
    sim.settle();
    sim.host(1).containers.insert(id, container);
    // Every table is checked there, and that nothing is left over in the end.
    sim.settle();
    sim.check_settled();
}
