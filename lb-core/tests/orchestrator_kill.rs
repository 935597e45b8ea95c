//! The orchestrator killed at every step of every action (F7): the next one adopts what it finds.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, on a paused clock")]

#[path = "orchestrator_support/killer.rs"]
mod killer;
mod orchestrator_support;

use std::collections::BTreeSet;
use std::sync::Arc;

use killer::{Killer, Killing, Side};
use lb_core::{HostConnector, Orchestrator, Status};
use orchestrator_support::{PATIENCE, Rig, app, name, removed, settled};

/// What happens to the ledger when the orchestrator is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ledger {
    Kept,
    Lost,
}

/// A step of the story; it is over when the status says so.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deploy,
    Update,
    ScaleIn,
    Remove,
}

const STORY: [Step; 4] = [Step::Deploy, Step::Update, Step::ScaleIn, Step::Remove];

impl Step {
    async fn ask(self, platform: &Orchestrator) {
        let asked = match self {
            Self::Deploy => platform.deploy(&app("shop", "shop:1", 2)).await.map(drop),
            Self::Update => platform.deploy(&app("shop", "shop:2", 2)).await.map(drop),
            Self::ScaleIn => platform.scale(&name("shop"), 1).await.map(drop),
            Self::Remove => platform.remove(&name("shop")).await.map(drop),
        };
        asked.unwrap();
    }

    fn is_over(self, status: &Status) -> bool {
        match self {
            Self::Deploy | Self::Update => settled("shop", 2)(status),
            Self::ScaleIn => settled("shop", 1)(status),
            Self::Remove => {
                let seen = status.hosts.len() == 2 && status.hosts.values().all(|h| h.reachable);
                let cleared = status.hosts.values().all(|h| h.table.is_none());
                seen && cleared && removed("shop")(status)
            }
        }
    }
}

/// Tells the story to an orchestrator that is killed at that call, and its end to a second one. Gives
/// whether the first was killed at all.
async fn killed_at(call: u64, side: Side, ledger: Ledger) -> bool {
    let rig = Rig::new(2).await;
    let killer = Killer::new(call, side);
    let connector: Arc<dyn HostConnector> = Arc::new(rig.connector.clone());
    let connector = Killing { inner: connector, killer: killer.clone() };
    let store = Killing { inner: rig.ledger.clone(), killer: killer.clone() };
    let first = rig.builder_with(Arc::new(connector), Arc::new(store)).start().await.unwrap();
    let mut at = STORY.len();
    for (number, step) in STORY.into_iter().enumerate() {
        step.ask(&first).await;
        let over = first.wait_for(|s| killer.has_struck() || step.is_over(s), PATIENCE).await;
        over.unwrap_or_else(|e| panic!("call {call} {side:?} {ledger:?}: {step:?}: {e}"));
        if killer.has_struck() {
            at = number;
            break;
        }
    }
    rig.leadership.depose();
    drop(first);
    if ledger == Ledger::Lost {
        rig.ledger.lose();
    }
    let second = rig.start().await;
    for step in STORY.into_iter().skip(at) {
        let told = format!("call {call} {side:?} {ledger:?}: {step:?}");
        step.ask(&second).await;
        let status = second.wait_for(|s| step.is_over(s), PATIENCE).await;
        let status = status.unwrap_or_else(|e| panic!("{told}: {e}"));
        check(&rig, &status, step, &told).await;
    }
    killer.has_struck()
}

async fn check(rig: &Rig, status: &Status, step: Step, told: &str) {
    if let Step::Remove = step {
        assert_eq!(rig.containers().await, [], "{told}: orphans");
        assert!(rig.hosts.values().all(|h| h.balancer.table().is_none()), "{told}: a table");
        return;
    }
    let instances = &status.apps[&name("shop")].instances;
    let names: BTreeSet<String> =
        instances.iter().map(|i| i.id.container_name(&rig.cluster.id).to_string()).collect();
    let there: BTreeSet<String> =
        rig.containers().await.into_iter().map(|(_, container)| container).collect();
    assert_eq!(there, names, "{told}: an orphan or a duplicate");
    let addresses: BTreeSet<_> = instances.iter().map(|i| i.address).collect();
    assert_eq!(addresses.len(), names.len(), "{told}: one address twice");
    for host in instances.iter().map(|i| &rig.hosts[&i.host]) {
        let active = host.active(&orchestrator_support::backend(&name("shop")));
        assert_eq!(active, names, "{told}: the table on {}", host.facts.id);
    }
}

async fn killed_at_every_call(side: Side, ledger: Ledger) {
    let mut call = 1;
    while killed_at(call, side, ledger).await {
        call += 1;
        assert!(call < 500, "the story ends");
    }
    assert!(call > 20, "the story has at least so many calls, not {call}");
}

#[tokio::test(start_paused = true)]
async fn killed_before_every_call() {
    killed_at_every_call(Side::Before, Ledger::Kept).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_every_call() {
    killed_at_every_call(Side::After, Ledger::Kept).await;
}

#[tokio::test(start_paused = true)]
async fn killed_before_every_call_and_the_ledger_lost() {
    killed_at_every_call(Side::Before, Ledger::Lost).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_every_call_and_the_ledger_lost() {
    killed_at_every_call(Side::After, Ledger::Lost).await;
}
