//! Histories: what happens to a cluster, one thing after the other.
//!
//! A history names no host or container: an [`Index`] picks among those there are when it happens, so that
//! a history means something to any cluster and stays whole while it shrinks.

use std::time::Duration;

use proptest::collection::{SizeRange, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::SBoxedStrategy;

use super::fault::{FaultSchedule, fault_schedule};
use crate::error::valid;
use crate::model::{App, AppName};
use crate::staged::{self, Staged};

/// Apps of a history are numbered below this.
pub const APPS: u8 = 3;
/// Most instances of an app of a history.
pub const MAX_COUNT: u8 = 4;

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Happening {
    /// An app is deployed, or another version or count of it.
    Deploy(Deployment),
    /// The app of this number is removed, if it is there.
    Remove(u8),
    /// A container dies.
    Kill(Index),
    /// A host does not answer.
    Cut(Index),
    /// It answers again.
    Heal(Index),
    /// A host's lease ends, and it does not answer.
    Lose(Index),
    /// It registers again and answers.
    Return(Index),
    /// Another host registers.
    Join,
    /// Requests stay in flight to a container.
    Busy(Index),
    /// All requests end.
    Idle,
    /// What the planner remembers is lost.
    LoseLedger,
    /// The planner's process begins again with what it saved.
    Restart,
    /// The next actions fail so; faults that were to come before are forgotten.
    Faults(FaultSchedule),
    /// So many passes.
    Passes(u8),
    /// Time passes, with passes in it.
    Wait(Duration),
}

/// An app of a history: one HTTP port under a host name of its own and one TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployment {
    /// Its number, below [`APPS`].
    pub app: u8,
    /// The image's tag: another one is a rollout.
    pub version: u8,
    /// How many instances.
    pub count: u8,
    /// `max_surge`; 0 counts as 1 where `unavailable` is 0.
    pub surge: u8,
    /// `max_unavailable`.
    pub unavailable: u8,
    /// Whether every host has its listeners.
    pub everywhere: bool,
}

impl Deployment {
    /// A new instance that is not ready within this fails its rollout.
    pub const READY_WITHIN: Duration = staged::READY_WITHIN;
    /// Longest drain.
    pub const DRAIN: Duration = Duration::from_secs(5);

    /// The name of the app of this number.
    pub fn name_of(app: u8) -> AppName {
        valid(AppName::new(format!("app{app}")))
    }

    /// `max_surge` as the app has it.
    pub fn surge(&self) -> u32 {
        staged::surge(self.surge.into(), self.unavailable.into())
    }

    /// The app it stands for.
    pub fn app(&self) -> App {
        let staged = Staged {
            name: Self::name_of(self.app),
            version: self.version.into(),
            number: self.app,
            count: self.count.into(),
            surge: self.surge.into(),
            unavailable: self.unavailable.into(),
            drain: Self::DRAIN,
            everywhere: self.everywhere,
        };
        staged.app()
    }
}

/// A deployment of one of the [`APPS`].
pub fn deployment() -> SBoxedStrategy<Deployment> {
    (0..APPS, 1..5_u8, 0..=MAX_COUNT, 0..3_u8, 0..2_u8, any::<bool>())
        .prop_map(|(app, version, count, surge, unavailable, everywhere)| Deployment {
            app,
            version,
            count,
            surge,
            unavailable,
            everywhere,
        })
        .sboxed()
}

/// One thing that happens.
pub fn happening() -> SBoxedStrategy<Happening> {
    prop_oneof![
        6 => (1..6_u8).prop_map(Happening::Passes),
        5 => deployment().prop_map(Happening::Deploy),
        2 => (1..40_u64).prop_map(|s| Happening::Wait(Duration::from_secs(s))),
        1 => (0..APPS).prop_map(Happening::Remove),
        8 => of_hosts(),
        6 => of_the_platform(),
    ]
    .sboxed()
}

fn of_hosts() -> SBoxedStrategy<Happening> {
    let index = any::<Index>;
    prop_oneof![
        3 => index().prop_map(Happening::Kill),
        1 => index().prop_map(Happening::Cut),
        1 => index().prop_map(Happening::Heal),
        1 => index().prop_map(Happening::Lose),
        1 => index().prop_map(Happening::Return),
        1 => Just(Happening::Join),
    ]
    .sboxed()
}

fn of_the_platform() -> SBoxedStrategy<Happening> {
    prop_oneof![
        1 => any::<Index>().prop_map(Happening::Busy),
        1 => Just(Happening::Idle),
        1 => Just(Happening::LoseLedger),
        1 => Just(Happening::Restart),
        2 => fault_schedule().prop_map(Happening::Faults),
    ]
    .sboxed()
}

/// So many things, one after the other.
pub fn history(size: impl Into<SizeRange>) -> SBoxedStrategy<Vec<Happening>> {
    vec(happening(), size).sboxed()
}
