//! The planner on a cluster in memory: the main job, step by step.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod plan_sim;

use std::time::Duration;

use lb_core::*;
use plan_sim::Sim;

const SHOP: &str = r#"
    name = "shop"
    image = "registry.example.org/shop:1"
    replicas = 3
    [ports.web]
    container = 8080
    outside = 80
    hosts = ["shop.example.org"]
"#;

fn servers(sim: &Sim, host: &str) -> usize {
    let table = sim.hosts[&HostId::new(host).unwrap()].table.as_ref();
    table.map_or(0, |t| t.backends.values().map(|b| b.servers.len()).sum())
}

#[test]
fn deploys_scales_and_removes() {
    let mut sim = Sim::new(1);
    sim.deploy_toml(SHOP);
    sim.settle();
    sim.check_settled();
    assert_eq!((sim.running(), servers(&sim, "h1")), (3, 3));
    sim.deploy_toml(&SHOP.replace("= 3", "= 5"));
    sim.settle();
    assert_eq!((sim.running(), servers(&sim, "h1")), (5, 5));
    sim.deploy_toml(&SHOP.replace("= 3", "= 2"));
    sim.settle();
    assert_eq!((sim.running(), servers(&sim, "h1")), (2, 2));
    sim.apps.clear();
    sim.settle();
    assert_eq!(sim.running(), 0);
    assert!(sim.hosts.values().all(|h| h.table.is_none() && h.networks.is_empty()));
    assert!(sim.ledger.apps.is_empty());
}

#[test]
fn a_dead_instance_is_replaced_in_one_pass() {
    let mut sim = Sim::new(1);
    sim.deploy_toml(SHOP);
    sim.settle();
    let victim = sim.hosts.values().next().unwrap().containers.keys().next().unwrap().clone();
    sim.kill(&victim);
    let actions: Vec<_> = sim.pass().into_values().flatten().collect();
    let next = InstanceId { incarnation: 1, ..victim.clone() };
    assert!(actions.iter().any(|a| matches!(a, Action::Run { id, .. } if *id == next)));
    assert!(actions.iter().any(|a| matches!(a, Action::Stop { id, .. } if *id == victim)));
    let Some(Action::Apply(table)) = actions.iter().find(|a| matches!(a, Action::Apply(_))) else {
        panic!("the dead one must leave the table");
    };
    assert_eq!(table.backends.values().next().unwrap().servers.len(), 2);
    sim.settle();
    assert_eq!((sim.running(), servers(&sim, "h1")), (3, 3));
}

#[test]
fn rolls_out_beside_the_old() {
    let mut sim = Sim::new(2);
    sim.deploy_toml(SHOP);
    sim.settle();
    sim.ready_after.insert("2".into(), Some(Duration::from_secs(2)));
    sim.deploy_toml(&SHOP.replace("shop:1", "shop:2"));
    sim.until(60, "rolled out", |s| {
        assert!(s.running() <= 4 + 3, "more than the surge and what drains");
        s.ready_with_tag("2") == 3 && s.running() == 3
    });
    sim.settle();
    sim.check_settled();
}

/// `canary = { weight = 20 }` of 1 + 1 instances: half of 100 requests, one after the other, went to each.
#[test]
fn a_canary_has_its_share_also_while_nobody_is_busy() {
    for balance in ["least_connections", "random_two", "round_robin", "source_hash"] {
        let mut sim = Sim::new(1);
        let backend = |sim: &Sim| {
            let table = sim.hosts[&HostId::new("h1").unwrap()].table.as_ref().unwrap();
            table.backends.values().next().unwrap().as_ref().clone()
        };
        let usual: Balance = serde_json::from_value(balance.into()).unwrap();
        let shop =
            SHOP.replace("outside = 80", &format!("outside = 80\n    balance = \"{balance}\""));
        let canary = "replicas = 1\n    rollout = { canary = { weight = 20 } }";
        let shop = shop.replace("replicas = 3", canary);
        sim.deploy_toml(&shop);
        sim.settle();
        assert_eq!(backend(&sim).balance, usual);
        sim.deploy_toml(&shop.replace("shop:1", "shop:2"));
        sim.settle();
        let seen = backend(&sim);
        let weights: Vec<u16> = seen.servers.values().map(|server| server.weight).collect();
        assert_eq!(weights.iter().min().unwrap() * 4, *weights.iter().max().unwrap());
        let by_load = ["least_connections", "random_two"].contains(&balance);
        assert_eq!(seen.balance, if by_load { Balance::RoundRobin } else { usual.clone() });
        sim.deploy_toml(&shop.replace("shop:1", "shop:2").replace(canary, "replicas = 1"));
        sim.settle();
        assert_eq!((backend(&sim).balance, backend(&sim).servers.len()), (usual, 1));
    }
}

#[test]
fn goes_back_when_the_new_is_not_ready_in_time() {
    let mut sim = Sim::new(1);
    sim.deploy_toml(SHOP);
    sim.settle();
    sim.ready_after.insert("2".into(), None);
    sim.deploy_toml(&SHOP.replace("shop:1", "shop:2"));
    sim.run_for(Duration::from_secs(30));
    assert_eq!((sim.ready_with_tag("1"), sim.running()), (3, 4));
    sim.run_for(Duration::from_secs(60));
    assert_eq!((sim.ready_with_tag("1"), sim.running()), (3, 3));
    assert!(sim.last_says(What::Rollout));
    // It is not tried again, until the app changes.
    sim.deploy_toml(&SHOP.replace("shop:1", "shop:3"));
    sim.until(60, "rolled out", |s| s.ready_with_tag("3") == 3 && s.running() == 3);
}
