//! Events, usage and logs.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::super::{PATIENCE, eventually, refused};
use super::Bed;
use crate::error::ErrorKind;
use crate::model::ContainerName;
use crate::runtime::{ContainerRuntime, ContainerState, RuntimeEvent};

/// Hears a runtime's events until it is dropped.
#[derive(Debug)]
pub(super) struct Ear {
    heard: watch::Receiver<Vec<RuntimeEvent>>,
    task: AbortHandle,
}

impl Ear {
    pub(super) fn of(runtime: &dyn ContainerRuntime) -> Self {
        let (mut events, (keep, heard)) = (runtime.events(), watch::channel(Vec::new()));
        let listen = async move {
            // An error says that the engine does not answer right now; the stream goes on.
            while let Some(event) = events.next().await {
                keep.send_modify(|heard| heard.extend(event.ok()));
            }
            panic!("the stream of events must not end");
        };
        Self { heard, task: tokio::spawn(listen).abort_handle() }
    }

    pub(super) fn heard(&self) -> Vec<RuntimeEvent> {
        self.heard.borrow().clone()
    }

    /// Returns as soon as this is heard.
    async fn waits_for(&self, event: RuntimeEvent) {
        let mut heard = self.heard.clone();
        let told = heard.wait_for(|heard| heard.contains(&event));
        tokio::time::timeout(PATIENCE, told).await.expect("it is told").unwrap();
    }

    /// Starts containers until the ear hears of one: from then on it is connected.
    pub(super) async fn wakes(&self, bed: &Bed, what: &str) {
        let hears = async || {
            bed.stop(what).await;
            bed.runtime.run(&bed.sleeper(what)).await.unwrap();
            let started = self.waits_for(RuntimeEvent::Started(bed.name(what)));
            tokio::time::timeout(Duration::from_secs(2), started).await.is_ok()
        };
        eventually("events tell of a start", hears).await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn subject(event: &RuntimeEvent) -> Option<&ContainerName> {
    match event {
        RuntimeEvent::Started(name)
        | RuntimeEvent::Exited(name)
        | RuntimeEvent::Removed(name)
        | RuntimeEvent::ReadyChanged(name) => Some(name),
        RuntimeEvent::Resync => None,
    }
}

/// Starts, ends and removals, each of this cluster's containers only.
pub async fn events_tell_of_ours_and_of_nobody_elses(bed: &Bed) {
    let other = bed.beside().await;
    let ear = Ear::of(&*bed.runtime);
    ear.wakes(bed, "first").await;
    other.runtime.run(&other.sleeper("theirs")).await.unwrap();
    other.stop("theirs").await;
    bed.runtime.run(&bed.failing("short")).await.unwrap();
    bed.stop("first").await;
    let (first, short) = (bed.name("first"), bed.name("short"));
    let wanted = [
        RuntimeEvent::Started(short.clone()),
        RuntimeEvent::Exited(short.clone()),
        RuntimeEvent::Exited(first.clone()),
        RuntimeEvent::Removed(first.clone()),
    ];
    let all = async || wanted.iter().all(|event| ear.heard().contains(event));
    eventually("all of them are told", all).await;
    let told: BTreeSet<_> = ear.heard().iter().filter_map(subject).cloned().collect();
    assert_eq!(told, BTreeSet::from([first, short]));
}

/// A listing that begins once a container's end or removal was told shows it, so that nobody need ask again.
pub async fn what_an_event_tells_is_listed(bed: &Bed) {
    let ear = Ear::of(&*bed.runtime);
    ear.wakes(bed, "first").await;
    for short in ["short-1", "short-2", "short-3"] {
        bed.runtime.run(&bed.failing(short)).await.unwrap();
        ear.waits_for(RuntimeEvent::Exited(bed.name(short))).await;
        let state = bed.listed(short).await.unwrap().state;
        assert!(
            matches!(state, ContainerState::Exited(_)),
            "{short} is told to have ended: {state:?}"
        );
        bed.stop(short).await;
        ear.waits_for(RuntimeEvent::Removed(bed.name(short))).await;
        assert!(bed.listed(short).await.is_none(), "{short} is told to be gone");
    }
}

/// Neither of ended ones nor of removed ones.
pub async fn usage_tells_of_running_ones_only(bed: &Bed) {
    bed.runtime.run(&bed.sleeper("sleeps")).await.unwrap();
    bed.runtime.run(&bed.sleeper("stopped")).await.unwrap();
    bed.runtime.run(&bed.failing("ended")).await.unwrap();
    bed.stop("stopped").await;
    let ended =
        async || matches!(bed.listed("ended").await.unwrap().state, ContainerState::Exited(_));
    eventually("it ends", ended).await;
    let usage = bed.runtime.usage().await.unwrap();
    assert_eq!(usage.into_keys().collect::<Vec<_>>(), [bed.name("sleeps")]);
}

/// CPU time and memory of what works and of what does not. Needs programs.
pub async fn usage_counts_up(bed: &Bed) {
    bed.runtime.run(&bed.shell("burns", "while :; do :; done")).await.unwrap();
    bed.runtime.run(&bed.sleeper("sleeps")).await.unwrap();
    let (burns, sleeps) = (bed.name("burns"), bed.name("sleeps"));
    let before = bed.runtime.usage().await.unwrap();
    let worked = async || {
        let now = bed.runtime.usage().await.unwrap();
        now[&burns].cpu > before[&burns].cpu + Duration::from_millis(100)
    };
    eventually("it has worked", worked).await;
    let after = bed.runtime.usage().await.unwrap();
    let spent = |name| after[name].cpu.checked_sub(before[name].cpu).expect("it never goes back");
    let passed = after[&burns].at.duration_since(before[&burns].at);
    assert!(spent(&burns) <= passed.unsigned_abs().mul_f64(1.5), "one busy process");
    assert!(spent(&sleeps) < Duration::from_millis(100), "{:?}", spent(&sleeps));
    let memory = after[&sleeps].memory.get();
    assert!((10 << 10..64 << 20).contains(&memory), "{memory} bytes");
    bed.stop("burns").await;
}

/// And names it.
pub async fn logs_of_nobody_are_not_found(bed: &Bed) {
    let nobody = bed.name("nobody");
    let error = refused(bed.runtime.logs(&nobody, 1).await, ErrorKind::NotFound).to_string();
    assert!(error.contains(nobody.as_str()), "{error}");
}

/// Also after the container has ended. Needs programs.
pub async fn logs_have_both_streams_and_a_tail(bed: &Bed) {
    let lines = "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three";
    let spec = bed.shell("talks", lines);
    bed.runtime.run(&spec).await.unwrap();
    let said = async || bed.runtime.logs(&spec.name, 100).await.unwrap() == "one\ntwo\nthree\n";
    eventually("it has said it all", said).await;
    assert_eq!(bed.runtime.logs(&spec.name, 2).await.unwrap(), "two\nthree\n");
    assert_eq!(bed.runtime.logs(&spec.name, 0).await.unwrap(), "");
}
