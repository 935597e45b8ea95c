//! A deploy is an act: what a tag means is looked up once for each, and what failed before is tried again.
#![allow(clippy::unwrap_used, reason = "tests, and their helpers")]

mod plan_sim;

use std::collections::BTreeSet;

use lb_core::conformance::strategies::Failing;
use lb_core::*;
use plan_sim::Sim;

const SHOP: &str = r#"
    name = "shop"
    image = "registry.example.org/shop:latest"
    replicas = 2
    [ports.web]
    container = 8080
    outside = 80
"#;

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

fn settled() -> Sim {
    let mut sim = Sim::new(2);
    sim.deploy_toml(SHOP);
    sim.settle();
    assert_eq!(digests(&sim).len(), 1);
    sim
}

/// What the running containers were made from.
fn digests(sim: &Sim) -> BTreeSet<ImageDigest> {
    let running = sim.containers().filter(|c| c.container.state == ContainerState::Running);
    running.map(|c| c.spec.image.digest().unwrap().clone()).collect()
}

/// The next so many actions fail.
fn fail(sim: &mut Sim, count: usize) {
    let refused = Some(Failing::Undone(ErrorKind::Unavailable));
    sim.faults.extend(std::iter::repeat_n(refused, count));
}

fn asks_for_the_image(sim: &mut Sim) -> bool {
    let actions = sim.pass();
    actions.values().flatten().any(|action| matches!(action, Action::ResolveImage { .. }))
}

#[test]
fn the_same_file_again_rolls_out_what_its_tag_means_now() {
    let mut sim = settled();
    let first = digests(&sim);
    for pushed in 2..5 {
        sim.pushed = pushed;
        sim.settle();
        assert_eq!(digests(&sim).len(), 1);
        let before = digests(&sim);
        sim.deploy_toml(SHOP);
        sim.settle();
        assert!(digests(&sim).is_disjoint(&before), "version {pushed}");
        assert_eq!((sim.running(), sim.ready_with_tag("latest")), (2, 2));
    }
    assert!(digests(&sim).is_disjoint(&first));
}

#[test]
fn a_deploy_of_other_settings_looks_the_tag_up_as_well() {
    let mut sim = settled();
    let first = digests(&sim);
    sim.pushed = 2;
    sim.deploy_toml(&SHOP.replace("replicas = 2", "replicas = 2\nenv = { X = \"a\" }"));
    sim.settle();
    assert!(digests(&sim).is_disjoint(&first));
}

#[test]
fn nothing_is_replaced_when_the_tag_means_the_same() {
    let mut sim = settled();
    let before: BTreeSet<_> = sim.containers().map(|c| c.container.name.clone()).collect();
    sim.deploy_toml(SHOP);
    assert!(asks_for_the_image(&mut sim));
    sim.settle();
    let after: BTreeSet<_> = sim.containers().map(|c| c.container.name.clone()).collect();
    assert_eq!(before, after);
}

#[test]
fn without_a_deploy_the_tag_keeps_its_meaning() {
    let mut sim = settled();
    let first = digests(&sim);
    sim.pushed = 2;
    let view = sim.apps.get_mut(&shop()).unwrap();
    let replicas = Replicas::fixed(3);
    let spec = AppSpec { replicas, ..AppSpec::from(App::clone(&view.app)) };
    (view.app, view.generation) = (App::new(spec).unwrap().into(), view.generation.next());
    assert!(!asks_for_the_image(&mut sim), "a count set by hand is none");
    sim.settle();
    assert_eq!((digests(&sim), sim.running()), (first.clone(), 3));
    sim.ledger = Ledger::default();
    sim.apps.get_mut(&shop()).unwrap().asked_here = false;
    sim.settle();
    assert_eq!(digests(&sim), first, "a lost ledger is none");
}

/// The platform that keeps nothing: its program starts again and deploys its apps.
#[test]
fn a_deploy_after_the_ledger_was_lost_is_looked_up() {
    let mut sim = settled();
    let first = digests(&sim);
    sim.pushed = 2;
    sim.ledger = Ledger::default();
    sim.deploy_toml(SHOP);
    sim.until(90, "the new image runs", |sim| {
        digests(sim).is_disjoint(&first) && sim.running() == 2
    });
}

#[test]
fn what_serves_goes_on_while_the_registry_is_down() {
    let mut sim = settled();
    let first = digests(&sim);
    sim.pushed = 2;
    sim.deploy_toml(SHOP);
    // One for each host: then both wait.
    fail(&mut sim, 2);
    let says = |sim: &Sim| sim.last.iter().any(|r| r.text.contains("cannot be resolved"));
    sim.until(10, "it says why", says);
    assert_eq!((digests(&sim), sim.running()), (first.clone(), 2));
    let lost = sim.host(1).containers.keys().next().unwrap().clone();
    sim.kill(&lost);
    sim.until(60, "the new image runs", |sim| {
        digests(sim).is_disjoint(&first) && sim.running() == 2
    });
    sim.settle();
    sim.check_settled();
}

#[test]
fn an_answer_to_an_earlier_deploy_is_none_to_this_one() {
    let mut sim = settled();
    sim.pushed = 2;
    sim.deploy_toml(SHOP);
    // Asked and answered; the next deploy comes before the answer is heard.
    assert!(asks_for_the_image(&mut sim));
    sim.pushed = 3;
    sim.deploy_toml(SHOP);
    sim.settle();
    let third = digests(&sim);
    sim.deploy_toml(SHOP);
    sim.settle();
    assert_eq!(digests(&sim), third, "what version 3 means");
    assert_eq!(third.len(), 1);
}

#[test]
fn a_failed_version_is_tried_again_when_it_is_deployed_again() {
    let mut sim = settled();
    sim.ready_after.insert("bad".to_owned(), None);
    let bad = SHOP.replace("latest", "bad");
    sim.deploy_toml(&bad);
    sim.until(600, "it goes back", |sim| sim.ledger.apps[&shop()].failed.is_some());
    sim.settle();
    assert_eq!(sim.ready_with_tag("latest"), 2);
    sim.settle();
    assert!(sim.ledger.apps[&shop()].failed.is_some(), "by itself it is not tried again");
    sim.ready_after.remove("bad");
    sim.deploy_toml(&bad);
    sim.settle();
    assert_eq!((sim.ready_with_tag("bad"), sim.running()), (2, 2));
}

/// Nothing has served yet, so there is nothing to go back to: its instances are replaced all the same.
#[test]
fn a_first_version_that_never_got_ready_is_kept_up_meanwhile() {
    let mut sim = Sim::new(1);
    sim.ready_after.insert("latest".to_owned(), None);
    sim.deploy_toml(SHOP);
    sim.until(60, "it runs", |sim| sim.running() == 2);
    sim.deploy_toml(SHOP);
    let lost = sim.host(1).containers.keys().next().unwrap().clone();
    sim.kill(&lost);
    sim.until(60, "it is replaced", |sim| sim.running() == 2);
}
