//! The registry in memory, on a paused clock, against a model of leases: calls are answered and watchers told
//! as the contract says, also where calls fail, answer late or lose their answer.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use lb_core::conformance::strategies::{Failing, error_kind, fault};
use lb_core::*;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// All times are multiples of it but ends of leases, which lie between: nothing happens at once.
const TICK: u64 = 10;

/// What a host says of itself: its number and the last part of its address.
type Facts = (u8, u8);

#[derive(Debug, Clone)]
enum Step {
    Announce(Facts, u64),
    Withdraw(u8),
    Wait(u64),
    /// How the next such call fails.
    Meet(Op, Failing),
    /// Watchers hear that the registry cannot be believed.
    Break(ErrorKind),
    Heal,
}

#[derive(Debug, Clone)]
struct Model {
    now: u64,
    /// By host: its address and when its lease ends.
    leases: BTreeMap<u8, (u8, u64)>,
    /// What watchers were told last.
    told: Told,
    /// How often they were told something.
    tellings: u32,
    failing: BTreeMap<Op, VecDeque<Failing>>,
    late: BTreeMap<Op, u64>,
    /// How the last call was answered; `None`: well.
    answer: Option<ErrorKind>,
}

type Told = Result<BTreeMap<u8, u8>, ErrorKind>;

impl Model {
    fn set(&self) -> BTreeMap<u8, u8> {
        self.leases.iter().map(|(host, (address, _))| (*host, *address)).collect()
    }

    fn tell(&mut self, told: Told) {
        self.told = told;
        self.tellings += 1;
    }

    fn publish(&mut self) {
        let set = self.set();
        if self.told.as_ref() != Ok(&set) {
            self.tell(Ok(set));
        }
    }

    fn advance(&mut self, time: u64) {
        let until = self.now + time;
        let next = |leases: &BTreeMap<u8, (u8, u64)>| {
            let ends = leases.iter().map(|(host, (_, end))| (*end, *host));
            ends.min().filter(|(end, _)| *end < until)
        };
        while let Some((_, host)) = next(&self.leases) {
            self.leases.remove(&host);
            self.publish();
        }
        self.now = until;
    }

    fn call(&mut self, op: Op, work: impl FnOnce(&mut Self)) {
        let failing = self.failing.entry(op).or_default().pop_front();
        self.advance(self.late.get(&op).copied().unwrap_or_default());
        self.answer = match failing {
            Some(Failing::Undone(kind)) => Some(kind),
            Some(Failing::AnswerLost) => Some(ErrorKind::Timeout),
            Some(Failing::Late(_)) | None => None,
        };
        if !matches!(failing, Some(Failing::Undone(_))) {
            work(self);
            self.publish();
        }
    }

    fn meet(&mut self, op: Op, failing: Failing) {
        let late = match failing {
            Failing::Late(time) => time.as_millis() as u64,
            Failing::Undone(_) | Failing::AnswerLost => 0,
        };
        self.late.insert(op, late);
        if late == 0 {
            self.failing.entry(op).or_default().push_back(failing);
        }
    }
}

struct Registry;

impl ReferenceStateMachine for Registry {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        // The empty set is told to whoever begins to watch.
        Just(Model {
            now: 0,
            leases: BTreeMap::new(),
            told: Ok(BTreeMap::new()),
            tellings: 1,
            failing: BTreeMap::new(),
            late: BTreeMap::new(),
            answer: None,
        })
        .boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        let facts = (0..4_u8, 1..3_u8);
        let lease = (1..30_u64).prop_map(|n| n * TICK + TICK / 2);
        let op = prop_oneof![Just(Op::Announce), Just(Op::Withdraw)];
        prop_oneof![
            6 => (facts, lease).prop_map(|(facts, lease)| Step::Announce(facts, lease)),
            4 => (1..20_u64).prop_map(|n| Step::Wait(n * TICK)),
            2 => (0..4_u8).prop_map(Step::Withdraw),
            2 => (op, fault()).prop_map(|(op, fault)| Step::Meet(op, in_ticks(fault.how))),
            1 => error_kind().prop_map(Step::Break),
            1 => Just(Step::Heal),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        model.answer = None;
        match step {
            Step::Announce((host, address), lease) => model.call(Op::Announce, |model| {
                model.leases.insert(*host, (*address, model.now + lease));
            }),
            Step::Withdraw(host) => model.call(Op::Withdraw, |model| {
                model.leases.remove(host);
            }),
            Step::Wait(time) => model.advance(*time),
            Step::Meet(op, failing) => model.meet(*op, *failing),
            Step::Break(kind) => model.tell(Err(*kind)),
            Step::Heal => model.publish(),
        }
        model
    }
}

fn in_ticks(failing: Failing) -> Failing {
    match failing {
        Failing::Late(time) => {
            let ticks = time.as_millis() as u64 / 100 + 1;
            Failing::Late(Duration::from_millis(ticks * TICK))
        }
        other => other,
    }
}

/// The registry, somebody who watches it, and how often that one heard something.
struct Watched {
    runtime: tokio::runtime::Runtime,
    registry: MemoryRegistry,
    watch: BoxStream<'static, Result<Arc<HostSet>>>,
    heard: Option<Told>,
    /// What the model had told before the step.
    tellings: u32,
}

impl Watched {
    fn run(&mut self, step: &Step) -> Result<()> {
        let registry = self.registry.clone();
        self.runtime.block_on(async {
            let answer = match step {
                Step::Announce((host, address), lease) => {
                    let facts = HostFacts::new(id(*host), Ipv4Addr::new(192, 0, 2, *address));
                    registry.announce(&facts, Duration::from_millis(*lease)).await
                }
                Step::Withdraw(host) => registry.withdraw(&id(*host)).await,
                Step::Wait(time) => {
                    tokio::time::sleep(Duration::from_millis(*time)).await;
                    Ok(())
                }
                Step::Meet(op, failing) => {
                    failing.ask(registry.faults(), *op);
                    Ok(())
                }
                Step::Break(kind) => {
                    registry.fail(*kind);
                    Ok(())
                }
                Step::Heal => {
                    registry.heal();
                    Ok(())
                }
            };
            tokio::task::yield_now().await;
            answer
        })
    }

    /// What the watcher hears now: at most the latest.
    fn hear(&mut self) -> Option<Told> {
        let told = self.watch.next().now_or_never()?.expect("the stream never ends");
        assert!(self.watch.next().now_or_never().is_none(), "a slow reader sees the latest set");
        Some(match told {
            Ok(set) => Ok(set.hosts.values().map(|h| (number(&h.id), last(h))).collect()),
            Err(error) => Err(error.kind()),
        })
    }
}

fn id(host: u8) -> HostId {
    HostId::new(format!("h{host}")).unwrap()
}

fn number(id: &HostId) -> u8 {
    id.as_str()[1..].parse().unwrap()
}

fn last(facts: &HostFacts) -> u8 {
    match facts.address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => panic!("a host says what it said"),
    }
}

impl StateMachineTest for Registry {
    type SystemUnderTest = Watched;
    type Reference = Self;

    fn init_test(_: &Model) -> Watched {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let registry = MemoryRegistry::new();
        let watch = registry.watch();
        let mut watched = Watched { runtime, registry, watch, heard: None, tellings: 1 };
        watched.heard = watched.hear();
        watched
    }

    fn apply(mut watched: Watched, model: &Model, step: Step) -> Watched {
        let answer = watched.run(&step);
        assert_eq!(answer.err().map(|e| e.kind()), model.answer, "{step:?}");
        let heard = watched.hear();
        let news = model.tellings > watched.tellings;
        assert_eq!(heard.is_some(), news, "told exactly when something is new: {step:?}");
        watched.heard = heard.or(watched.heard);
        watched.tellings = model.tellings;
        watched
    }

    fn check_invariants(watched: &Watched, model: &Model) {
        assert_eq!(watched.heard.as_ref(), Some(&model.told));
        let begun = watched.registry.watch().next().now_or_never().flatten();
        let begun = begun.expect("whoever begins to watch hears the whole set now");
        assert_eq!(begun.is_ok(), model.told.is_ok());
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn watchers_hear_what_leases_say(sequential 1..60 => Registry);
}
