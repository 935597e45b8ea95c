//! A simulated host: an engine, a balancer, and what ails it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::dice::Dice;
use crate::error::{ErrorKind, valid};
use crate::host::HostHandle;
use crate::memory::{Faults, MemoryBalancer, MemoryConnector, MemoryRuntime, Op};
use crate::model::{HostFacts, HostId};
use crate::probe::Probed;
use crate::runtime::ContainerRuntime;

/// What calls to an engine take that is well, in milliseconds; a balancer's are the story's to say.
const ENGINE_PACES: [(Op, u64); 5] =
    [(Op::List, 4), (Op::EnsureImage, 20), (Op::EnsureNetwork, 30), (Op::Run, 80), (Op::Stop, 20)];
/// Between the end of a container that is stopped and its removal.
const REMOVAL: Duration = Duration::from_millis(60);
/// What a check of a container takes.
const ANSWER: Duration = Duration::from_millis(15);

/// Calls to an engine that faults are aimed at.
const ENGINE_OPS: [Op; 7] =
    [Op::EnsureImage, Op::EnsureNetwork, Op::RemoveNetwork, Op::Run, Op::Stop, Op::List, Op::Usage];
/// Calls to a balancer that faults are aimed at.
const BALANCER_OPS: [Op; 4] = [Op::Apply, Op::Traffic, Op::Describe, Op::Shutdown];
/// How calls fail.
const KINDS: [ErrorKind; 6] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Conflict,
    ErrorKind::NotFound,
    ErrorKind::Exhausted,
    ErrorKind::Unexpected,
];

/// What is wrong with a host, until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ailment {
    /// Power is off: containers die, the balancer forgets, nobody renews the lease.
    Down,
    /// The same, and it comes back as an empty machine.
    Wiped,
    /// Does not answer the platform, and still renews its lease.
    Cut,
    /// Does not answer the platform nor renew its lease, and goes on serving.
    Isolated,
    /// Each call to the engine takes long, or hangs.
    SlowEngine,
    /// Each call to the balancer takes long, or hangs.
    SlowBalancer,
    /// Calls to the engine fail, come late, or lose their answers.
    FailingEngine,
    /// The same at the balancer: reloads fail.
    FailingBalancer,
    /// Events of the engine are lost.
    Deaf,
    /// The engine lists what was there before.
    StaleListing,
    /// The balancer says it applies tables and does not.
    IgnoredTables,
}

impl Ailment {
    /// How long after its end it can still be felt: calls that hang hold their keys to their deadlines (a
    /// minute), failed ones are tried again after up to a minute, events that were lost are made up for by
    /// the next listing (ten seconds).
    const fn aftermath(self) -> Duration {
        Duration::from_secs(match self {
            Self::SlowEngine | Self::SlowBalancer => 140,
            Self::FailingEngine | Self::FailingBalancer | Self::IgnoredTables => 80,
            Self::Deaf => 12,
            _ => 40,
        })
    }

    /// Whether the lease ends.
    pub(super) const fn is_silent(self) -> bool {
        matches!(self, Self::Down | Self::Wiped | Self::Isolated)
    }

    /// Whether nothing runs.
    pub(super) const fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::Wiped)
    }
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) facts: HostFacts,
    pub(super) engine: MemoryRuntime,
    pub(super) balancer: MemoryBalancer,
    /// The engine with the checks beside it, as hosts give it away.
    runtime: Arc<dyn ContainerRuntime>,
    /// How long its balancer takes over a table.
    apply: Duration,
    pub(super) ailment: Option<(Ailment, Duration)>,
    /// Until then what goes wrong here may be the ailment's doing.
    pub(super) excused: Duration,
    /// Since when it is down.
    pub(super) down: Option<Duration>,
    /// When it last did not renew its lease for an ailment's sake.
    pub(super) silent: Option<Duration>,
    /// When its lease is renewed next.
    pub(super) beat: Duration,
    /// Counts engines: a wiped host has another one.
    pub(super) engines: u64,
}

impl Host {
    /// Must be called within the runtime of the run: its checks begin.
    pub(super) fn new(n: u8, apply: Duration) -> Self {
        let id = valid(HostId::new(format!("h{n}")));
        let engine = engine();
        Self {
            facts: HostFacts::new(id, Ipv4Addr::new(192, 0, 2, n)),
            runtime: probed(&engine),
            engine,
            balancer: balancer(apply),
            apply,
            ailment: None,
            excused: Duration::ZERO,
            down: None,
            silent: None,
            beat: Duration::ZERO,
            engines: 0,
        }
    }

    pub(super) fn id(&self) -> &HostId {
        &self.facts.id
    }

    pub(super) fn handle(&self) -> HostHandle {
        HostHandle { runtime: self.runtime.clone(), balancer: Arc::new(self.balancer.clone()) }
    }

    pub(super) fn is(&self, of: impl Fn(Ailment) -> bool) -> bool {
        self.ailment.is_some_and(|(ailment, _)| of(ailment))
    }

    /// Begins to ail.
    pub(super) fn ail(
        &mut self,
        ailment: Ailment,
        until: Duration,
        dice: &mut Dice,
        links: &MemoryConnector,
    ) {
        self.ailment = Some((ailment, until));
        match ailment {
            Ailment::Down | Ailment::Wiped => {
                links.cut(self.id());
                self.engine.restart();
                self.balancer.lose_table();
            }
            Ailment::Cut | Ailment::Isolated => links.cut(self.id()),
            Ailment::SlowEngine => slow(self.engine.faults(), &ENGINE_OPS, dice),
            Ailment::SlowBalancer => slow(self.balancer.faults(), &BALANCER_OPS, dice),
            Ailment::FailingEngine => fail(self.engine.faults(), &ENGINE_OPS, dice),
            Ailment::FailingBalancer => fail(self.balancer.faults(), &BALANCER_OPS, dice),
            Ailment::Deaf => self.engine.lose_events(),
            Ailment::StaleListing => self.engine.repeat_listing(),
            Ailment::IgnoredTables => self.balancer.ignore_tables(),
        }
    }

    /// Notes what can be felt of the ailment now.
    pub(super) fn suffer(&mut self, now: Duration) {
        let Some((ailment, _)) = self.ailment else { return };
        self.excuse(now + ailment.aftermath());
        if ailment.is_silent() {
            self.silent = Some(now);
        }
        if ailment.is_down() {
            self.down = self.down.or(Some(now));
        }
    }

    /// Its checks begin again, as with the platform where that runs on the host: nobody knows who is ready.
    pub(super) fn ask_anew(&mut self, links: &MemoryConnector) {
        self.runtime = probed(&self.engine);
        links.insert(self.id().clone(), self.handle());
        if self.is(|a| a == Ailment::Cut || a.is_silent()) {
            links.cut(self.id());
        }
    }

    /// What goes wrong here until then need not be the planner's doing.
    pub(super) fn excuse(&mut self, until: Duration) {
        self.excused = self.excused.max(until);
    }

    /// Is well again.
    pub(super) fn recover(&mut self, links: &MemoryConnector) {
        let Some((ailment, _)) = self.ailment.take() else { return };
        self.down = None;
        self.engine.faults().clear();
        self.balancer.faults().clear();
        self.engine.be_honest();
        self.balancer.heed_tables();
        if ailment == Ailment::Wiped {
            self.engine = engine();
            self.runtime = probed(&self.engine);
            self.balancer = balancer(self.apply);
            self.engines += 1;
            links.insert(self.id().clone(), self.handle());
        }
        links.mend(self.id());
        self.beat = Duration::ZERO;
    }
}

fn engine() -> MemoryRuntime {
    let engine = MemoryRuntime::new();
    for (op, millis) in ENGINE_PACES {
        engine.faults().pace(op, Duration::from_millis(millis));
    }
    engine.hide_readiness();
    engine.remove_after(REMOVAL);
    engine
}

fn balancer(apply: Duration) -> MemoryBalancer {
    let balancer = MemoryBalancer::new();
    balancer.faults().pace(Op::Apply, apply);
    balancer.faults().pace(Op::Traffic, Duration::from_millis(2));
    balancer
}

/// Readiness is found out by asking, as on every host.
fn probed(engine: &MemoryRuntime) -> Arc<dyn ContainerRuntime> {
    let asked = engine.clone();
    let asker = move |address: SocketAddr, _| {
        let engine = asked.clone();
        let answer = async move {
            tokio::time::sleep(ANSWER).await;
            match address.ip() {
                IpAddr::V4(address) => engine.answer(address).await,
                IpAddr::V6(_) => Err("no such address".to_owned()),
            }
        };
        answer.boxed()
    };
    Arc::new(Probed::builder(Arc::new(engine.clone())).asker(Arc::new(asker)).build())
}

fn slow(faults: &Faults, ops: &[Op], dice: &mut Dice) {
    let delay = match dice.chance(30) {
        true => Duration::from_secs(3600),
        false => dice.millis(500, 20_000),
    };
    for op in ops {
        faults.delay(*op, delay);
    }
}

fn fail(faults: &Faults, ops: &[Op], dice: &mut Dice) {
    for _ in 0..dice.within(1, 6) {
        let (Some(op), Some(kind)) = (dice.pick(ops).copied(), dice.pick(&KINDS).copied()) else {
            continue;
        };
        // An engine that refuses a subnet it has made a network of is none: nothing could tell it from one that
        // somebody else holds.
        let kind = match (op, kind) {
            (Op::EnsureNetwork, ErrorKind::Conflict) => ErrorKind::Unavailable,
            (_, kind) => kind,
        };
        match dice.below(4) {
            0 => faults.lose_next_answer(op),
            1 => faults.delay_next(op, dice.millis(100, 20_000)),
            _ => faults.fail_next(op, kind),
        }
    }
}
