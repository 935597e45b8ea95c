//! What holds whatever happens: random stories on a cluster in memory. The simulation checks every plan
//! (see `plan_sim`); the properties here check where the stories lead.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod plan_sim;

use std::time::Duration;

use lb_core::*;
use plan_sim::Sim;
use proptest::prelude::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Deploy(Deploy),
    Remove(u8),
    Kill(u8),
    /// The host does not answer, or does again.
    Cut(u8),
    Heal(u8),
    /// Its lease ends, or it registers again.
    Lose(u8),
    Return(u8),
    AddHost,
    /// Requests are in flight to this container, or to none.
    Busy(u8),
    Idle,
    LoseLedger,
    Restart,
    Faults(u8),
    Pass(u8),
    Wait(u8),
}

#[derive(Debug, Clone)]
struct Deploy {
    app: u8,
    version: u8,
    count: u8,
    surge: u8,
    unavailable: u8,
    everywhere: bool,
}

impl Deploy {
    fn toml(&self) -> String {
        let Self { app, version, count, surge, unavailable, everywhere } = self;
        let surge = (*surge).max(u8::from(*unavailable == 0));
        let exposure = if *everywhere { "every_host" } else { "running_hosts" };
        format!(
            r#"
            name = "app{app}"
            image = "registry.example.org/app:{version}"
            replicas = {count}
            rollout = {{ max_surge = {surge}, max_unavailable = {unavailable}, ready_within = "20s" }}
            placement = {{ exposure = "{exposure}" }}
            stop = {{ drain = "5s" }}
            [ports.web]
            container = 8080
            outside = 80
            hosts = ["app{app}.example.org"]
            [ports.raw]
            container = 9000
            protocol = "tcp"
            outside = {port}
            "#,
            port = 9000 + u16::from(*app)
        )
    }
}

fn deploy() -> impl Strategy<Value = Deploy> {
    (0..3u8, 1..5u8, 0..5u8, 0..3u8, 0..2u8, any::<bool>()).prop_map(
        |(app, version, count, surge, unavailable, everywhere)| Deploy {
            app,
            version,
            count,
            surge,
            unavailable,
            everywhere,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => deploy().prop_map(Event::Deploy),
        1 => (0..3u8).prop_map(Event::Remove),
        3 => any::<u8>().prop_map(Event::Kill),
        1 => (1..4u8).prop_map(Event::Cut),
        1 => (1..4u8).prop_map(Event::Heal),
        1 => (1..4u8).prop_map(Event::Lose),
        1 => (1..4u8).prop_map(Event::Return),
        1 => Just(Event::AddHost),
        1 => any::<u8>().prop_map(Event::Busy),
        1 => Just(Event::Idle),
        1 => Just(Event::LoseLedger),
        1 => Just(Event::Restart),
        1 => (0..40u8).prop_map(Event::Faults),
        6 => (1..6u8).prop_map(Event::Pass),
        2 => (1..40u8).prop_map(Event::Wait),
    ]
}

fn happen(sim: &mut Sim, event: &Event) {
    match event {
        Event::Deploy(deploy) => sim.deploy(&deploy.toml()),
        Event::Remove(app) => {
            sim.apps.remove(&AppName::new(format!("app{app}")).unwrap());
        }
        Event::Kill(n) => {
            let ids: Vec<_> =
                sim.hosts.values().flat_map(|h| h.containers.keys()).cloned().collect();
            if let Some(id) = ids.get(usize::from(*n) % ids.len().max(1)) {
                sim.kill(id);
            }
        }
        Event::Cut(n) => sim.host(*n).reachable = false,
        Event::Heal(n) => sim.host(*n).reachable = true,
        Event::Lose(n) => {
            let host = sim.host(*n);
            (host.registered, host.reachable) = (false, false);
            sim.strict = false;
        }
        Event::Return(n) => {
            let host = sim.host(*n);
            (host.registered, host.reachable) = (true, true);
        }
        Event::AddHost if sim.hosts.len() < 5 => {
            let n = sim.hosts.len() as u8 + 1;
            sim.add_host(n);
        }
        Event::AddHost => {}
        Event::Busy(n) => sim.occupy(usize::from(*n)),
        Event::Idle => sim.hosts.values_mut().for_each(|h| h.open.clear()),
        Event::LoseLedger => (sim.ledger, sim.strict) = (Ledger::default(), false),
        Event::Restart => {
            let json = serde_json::to_string(&sim.ledger).unwrap();
            let saved: Ledger = serde_json::from_str(&json).unwrap();
            sim.ledger = saved.rebased(sim.now);
        }
        Event::Faults(share) => sim.faults.share = u32::from(*share).saturating_sub(10),
        Event::Pass(n) => (0..*n).for_each(|_| drop(sim.pass())),
        Event::Wait(seconds) => sim.run_for(Duration::from_secs(u64::from(*seconds))),
    }
}

/// Everything is well again.
fn heal(sim: &mut Sim) {
    sim.faults.share = 0;
    sim.ready_after.clear();
    for host in sim.hosts.values_mut() {
        (host.registered, host.reachable) = (true, true);
        host.open.clear();
    }
}

proptest! {
    // 64 stories; PROPTEST_CASES asks for four times as many as are told.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever happens, once it stops happening the cluster is as asked for: no instance too many or too
    /// few, no orphan, no address twice, every table in force; and then nothing more is planned.
    #[test]
    fn every_story_ends_well(
        hosts in 3..5u8,
        events in prop::collection::vec(event(), 1..40),
        seed in any::<u32>(),
        slow in prop::option::of(1..30u64),
    ) {
        let mut sim = Sim::new(hosts);
        sim.faults.seed = seed;
        sim.faults.kinds = vec![
            ErrorKind::Timeout,
            ErrorKind::Unavailable,
            ErrorKind::Conflict,
            ErrorKind::NotFound,
            ErrorKind::Invalid,
        ];
        sim.ready_after.insert("2".into(), slow.map(Duration::from_secs));
        for event in &events {
            happen(&mut sim, event);
        }
        heal(&mut sim);
        sim.settle();
        sim.check_settled();
        prop_assert!(sim.pass().is_empty(), "and then nothing is planned");
    }

    /// Without other trouble, a rollout never has fewer ready instances in the tables than its floor,
    /// nor more live ones than its surge, also when it fails and goes back.
    #[test]
    fn rollouts_keep_their_floor(
        first in deploy(),
        versions in prop::collection::vec((1..5u8, prop::option::of(0..30u64)), 1..6),
        pauses in prop::collection::vec(1..40u64, 6),
        seed in any::<u32>(),
    ) {
        let mut sim = Sim::new(3);
        let first = Deploy { count: first.count.max(1), version: 0, everywhere: true, ..first };
        sim.deploy(&first.toml());
        sim.settle();
        sim.faults.seed = seed;
        let floor = u32::from(first.count.saturating_sub(first.unavailable));
        let most = u32::from(first.count + first.surge.max(u8::from(first.unavailable == 0)));
        for ((version, ready), pause) in versions.into_iter().zip(pauses) {
            sim.ready_after.entry(version.to_string()).or_insert(ready.map(Duration::from_secs));
            sim.deploy(&Deploy { version, ..first.clone() }.toml());
            let end = sim.now + Duration::from_secs(pause);
            while sim.now < end {
                sim.pass();
                sim.now += Duration::from_millis(200);
                let (served, live) = (sim.served_at_least("web"), sim.live());
                prop_assert!(served >= floor, "{served} served, the floor is {floor}");
                prop_assert!(live <= most, "{live} live, at most {most}");
            }
        }
    }
}
