//! When an observer looks, and what it tells.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::error::ErrorKind;
use crate::host::HostHandle;
use crate::memory::{MemoryBalancer, MemoryRuntime, Op};
use crate::runtime::{ContainerRuntime, ContainerSpec, Readiness};
use crate::time::SystemClock;

struct Rig {
    engine: MemoryRuntime,
    balancer: MemoryBalancer,
    link: Arc<Link>,
    inbox: Arc<Inbox>,
    time: Arc<Ticker>,
}

impl Rig {
    fn start() -> Self {
        let (engine, balancer) = (MemoryRuntime::new(), MemoryBalancer::new());
        let handle =
            HostHandle { runtime: Arc::new(engine.clone()), balancer: Arc::new(balancer.clone()) };
        let link = Link::new("h1".parse().unwrap(), handle, CancellationToken::new());
        let (link, inbox) = (Arc::new(link), Arc::new(Inbox::default()));
        let time = Arc::new(Ticker::new(Arc::new(SystemClock::new())));
        let observer = Observer {
            cluster: "demo".parse().unwrap(),
            link: link.clone(),
            inbox: inbox.clone(),
            time: time.clone(),
            settings: Arc::default(),
        };
        tokio::spawn(observer.run());
        Self { engine, balancer, link, inbox, time }
    }

    /// The next sight the loop is woken for.
    async fn woken(&self) -> Sight {
        loop {
            self.inbox.woken().await;
            let sight = self.inbox.take().hosts.remove(&self.link.host).and_then(|h| h.sight);
            if let Some(sight) = sight {
                return sight;
            }
        }
    }

    /// Whether the loop is woken within so long.
    async fn is_woken_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.woken()).await.is_ok()
    }

    fn lists(&self) -> u64 {
        self.engine.faults().calls(Op::List)
    }

    async fn run(&self, slot: u32, labelled: bool) -> crate::model::ContainerName {
        let id: InstanceId = InstanceId {
            app: "shop".parse().unwrap(),
            revision: "0123456789".parse().unwrap(),
            slot,
            incarnation: 0,
        };
        let name = id.container_name(&"demo".parse().unwrap());
        let image: ImageRef = "shop:1".parse().unwrap();
        self.engine.ensure_image(&image, None, &crate::runtime::Quiet).await.unwrap();
        let mut spec = ContainerSpec::new(name.clone(), Role::Instance, image);
        if labelled {
            let assignment = Assignment {
                host: self.link.host.clone(),
                address: [10, 0, 0, 5].into(),
                ports: BTreeMap::new(),
                published: BTreeMap::new(),
            };
            let json = serde_json::to_string(&assignment).unwrap();
            spec.labels.insert(LabelKey::new(label::ASSIGNMENT).unwrap(), json);
            spec.labels.insert(LabelKey::new(label::IMAGE).unwrap(), "shop:1".to_owned());
        }
        self.engine.run(&spec).await.unwrap();
        name
    }
}

#[tokio::test(start_paused = true)]
async fn a_readiness_change_is_told_at_once_and_a_burst_costs_one_look() {
    let rig = Rig::start();
    let name = rig.run(0, true).await;
    rig.woken().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.inbox.take();
    let (before, began) = (rig.lists(), rig.time.now());
    for _ in 0..10 {
        rig.engine.set_ready(&name, Readiness::NotReady("x".into()));
        rig.engine.set_ready(&name, Readiness::Ready);
    }
    rig.engine.set_ready(&name, Readiness::NotReady("down".into()));
    let sight = rig.woken().await;
    let took = rig.time.now().since(began.monotonic);
    assert!(took < Duration::from_millis(5), "{took:?}");
    let state = &sight.seen.unwrap().instances[0].state;
    assert_eq!(*state, InstanceState::Running(Readiness::NotReady("down".into())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.lists() - before <= 2, "{} looks", rig.lists() - before);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_host_is_looked_at_each_resync_and_wakes_nobody() {
    let rig = Rig::start();
    rig.run(0, true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    while rig.is_woken_within(Duration::from_millis(100)).await {}
    let before = rig.lists();
    assert!(!rig.is_woken_within(Duration::from_secs(100)).await);
    assert!((10..=15).contains(&(rig.lists() - before)), "{}", rig.lists() - before);
    let sight = rig.inbox.take().hosts.remove(&rig.link.host).and_then(|h| h.sight).unwrap();
    assert!(sight.seen.unwrap().began > Duration::from_secs(90), "but the loop has the latest");
}

#[tokio::test(start_paused = true)]
async fn a_draining_host_is_polled() {
    let rig = Rig::start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rig.lists();
    rig.link.set_watched(true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!((18..=22).contains(&(rig.lists() - before)), "{}", rig.lists() - before);
    rig.link.set_watched(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rig.lists();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(rig.lists(), before);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_told_once_and_asked_less_and_less() {
    let rig = Rig::start();
    rig.run(0, true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.inbox.take();
    for _ in 0..100 {
        rig.engine.faults().fail_next(Op::List, ErrorKind::Unavailable);
    }
    rig.link.look.notify_one();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let sight = rig.woken().await;
    assert!(sight.error.is_some());
    assert_eq!(sight.seen.unwrap().instances.len(), 1, "what was seen last stands");
    let before = rig.lists();
    assert!(!rig.is_woken_within(Duration::from_secs(100)).await);
    assert!((10..=25).contains(&(rig.lists() - before)), "{}", rig.lists() - before);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_does_not_answer_is_not_seen_and_the_engine_is() {
    let rig = Rig::start();
    rig.balancer.faults().delay(Op::Traffic, Duration::from_secs(3600));
    rig.run(0, true).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sight = rig.inbox.take().hosts.remove(&rig.link.host).and_then(|h| h.sight).unwrap();
    let seen = sight.seen.unwrap();
    assert_eq!((seen.instances.len(), seen.balancer.is_none()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn containers_that_are_no_instances_are_left_out_and_order_is_by_id() {
    let rig = Rig::start();
    for slot in [10, 2, 1] {
        rig.run(slot, true).await;
    }
    rig.run(3, false).await;
    let foreign = ContainerSpec::new(
        "other.shop".parse().unwrap(),
        Role::Instance,
        "shop:1".parse().unwrap(),
    );
    rig.engine.run(&foreign).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sight = rig.inbox.take().hosts.remove(&rig.link.host).and_then(|h| h.sight).unwrap();
    let slots: Vec<u32> = sight.seen.unwrap().instances.iter().map(|i| i.id.slot).collect();
    assert_eq!(slots, [1, 2, 10]);
}
