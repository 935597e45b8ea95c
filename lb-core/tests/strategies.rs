//! The exported strategies: what they write is valid, reaches the bounds, and shrinks to the simplest there is.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use lb_core::conformance::strategies::*;
use lb_core::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestRng, TestRunner};

fn runner() -> TestRunner {
    let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
    TestRunner::new_with_rng(ProptestConfig::default(), TestRng::deterministic_rng(algorithm))
}

fn drawn<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = runner();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// What a value that fails `passes` shrinks to.
fn shrunk<S: Strategy>(strategy: &S, passes: impl Fn(&S::Value) -> bool) -> S::Value {
    let mut runner = runner();
    let fails = |tree: &S::Tree| !passes(&tree.current());
    let mut trees = (0..10_000).map(|_| strategy.new_tree(&mut runner).unwrap());
    let mut tree = trees.find(fails).expect("a value that fails");
    let mut best = tree.current();
    let mut moved = tree.simplify();
    while moved {
        moved = match fails(&tree) {
            true => {
                best = tree.current();
                tree.simplify()
            }
            false => tree.complicate(),
        };
    }
    best
}

/// The lengths a grammar is written in: from the shortest to `most`.
fn reaches<T: Debug>(strategy: &impl Strategy<Value = T>, most: usize, text: fn(&T) -> &str) {
    let values = drawn(strategy, 2000);
    let lengths: BTreeSet<usize> = values.iter().map(|v| text(v).len()).collect();
    assert!(lengths.first().unwrap() <= &3, "{lengths:?}");
    assert!(lengths.last().unwrap() >= &most, "{lengths:?}");
}

#[test]
fn every_grammar_is_written_from_its_shortest_to_near_its_longest() {
    reaches(&cluster_id(), 20, ClusterId::as_str);
    reaches(&host_id(), 63, HostId::as_str);
    reaches(&app_name(), 32, AppName::as_str);
    reaches(&port_name(), 15, PortName::as_str);
    reaches(&policy_name(), 32, PolicyName::as_str);
    reaches(&container_name(), 90, ContainerName::as_str);
    reaches(&network_name(), 50, NetworkName::as_str);
    reaches(&backend_name(), 45, BackendName::as_str);
    reaches(&server_name(), 90, ServerName::as_str);
    reaches(&domain_name(), 150, DomainName::as_str);
    reaches(&path_prefix(), 160, PathPrefix::as_str);
    reaches(&health_path(), 50, HealthPath::as_str);
    reaches(&env_name(), 120, EnvName::as_str);
    reaches(&label_key(), 60, LabelKey::as_str);
    reaches(&label_value(), 60, LabelValue::as_str);
    reaches(&header_name(), 60, HeaderName::as_str);
    reaches(&cookie_name(), 60, CookieName::as_str);
    reaches(&user_name(), 50, UserName::as_str);
    reaches(&absolute_path(), 160, AbsolutePath::as_str);
    reaches(&volume_name(), 60, VolumeName::as_str);
    reaches(&file_name(), 60, FileName::as_str);
    let signals = drawn(&signal(), 500);
    assert!(signals.iter().any(|s| s.as_str() == "SIGTERM"));
    assert!(signals.iter().any(|s| s.as_str().starts_with("SIGRTMIN+")));
    let images = drawn(&image_ref(), 500);
    assert!(images.iter().any(|i| i.registry().is_some() && i.tag().is_none()));
    assert!(images.iter().any(|i| i.digest().is_some()));
}

#[test]
fn an_app_that_fails_shrinks_to_what_fails() {
    let app = shrunk(&app(), |app| app.ports.values().all(|p| p.sticky.is_none()));
    assert_eq!(app.ports.len(), 1, "{app:#?}");
    let port = app.ports.values().next().unwrap();
    assert_eq!((&port.health, &port.timeouts), (&Health::default(), &Timeouts::default()));
    assert!(port.hosts.is_empty() && port.tls.is_none() && port.path.is_root());
    assert!(app.env.is_empty() && app.volumes.is_empty() && app.scaling.is_none());
    assert_eq!(app.rollout, Rollout::default());
}

#[test]
fn a_table_that_fails_shrinks_to_what_fails() {
    let draining = |table: &RoutingTable| {
        let servers = table.backends.values().flat_map(|b| b.servers.values());
        servers.into_iter().all(|s| s.state == ServerState::Active)
    };
    let table = shrunk(&table(certificate()), draining);
    assert!(table.listeners.is_empty() && table.host.is_none(), "{table:#?}");
    assert_eq!(table.backends.len(), 1);
    let backend = table.backends.values().next().unwrap();
    assert_eq!(backend.servers.len(), 1);
    assert_eq!((&backend.limits, &backend.sticky), (&PortLimits::default(), &None));
}

#[test]
fn a_history_that_fails_shrinks_to_what_fails() {
    let kills = |history: &Vec<Happening>| {
        history.iter().filter(|h| matches!(h, Happening::Kill(_))).count()
    };
    let history = shrunk(&history(0..40), |history| kills(history) < 3);
    assert_eq!((history.len(), kills(&history)), (3, 3), "{history:?}");
}

proptest! {
    #[test]
    fn tables_are_valid_and_come_back_from_json(table in table(certificate())) {
        table.check().unwrap();
        for backend in table.backends.values() {
            let addresses: BTreeSet<_> = backend.servers.values().map(|s| s.address).collect();
            prop_assert_eq!(addresses.len(), backend.servers.len(), "an address twice");
        }
        let json = serde_json::to_string(&table).unwrap();
        prop_assert_eq!(serde_json::from_str::<RoutingTable>(&json).unwrap(), table);
    }

    #[test]
    fn hosts_come_back_from_json_and_have_addresses_of_their_own(set in host_set(0..9)) {
        let addresses: BTreeSet<_> = set.hosts.values().map(|h| h.address).collect();
        prop_assert_eq!(addresses.len(), set.hosts.len());
        prop_assert!(set.hosts.iter().all(|(id, facts)| *id == facts.id));
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(serde_json::from_str::<HostSet>(&json).unwrap(), set);
    }

    #[test]
    fn a_schedule_has_each_fault_at_its_call(schedule in fault_schedule()) {
        let calls: Vec<_> = schedule.calls().collect();
        let failing: Vec<_> = calls.iter().flatten().copied().collect();
        prop_assert_eq!(failing, schedule.faults.iter().map(|f| f.how).collect::<Vec<_>>());
        let well: usize = schedule.faults.iter().map(|f| usize::from(f.after)).sum();
        prop_assert_eq!(calls.len(), well + schedule.faults.len());
    }
}
