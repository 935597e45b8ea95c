//! Readiness is found out beside the containers, soon, and for all ports.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(clippy::disallowed_methods, reason = "sockets live in real time")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lb_core::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 210, 0, 16);
const MOMENT: Duration = Duration::from_secs(10);

fn name() -> ContainerName {
    ContainerName::new("c.shop").unwrap()
}

fn quick(check: Check) -> Health {
    let interval = Duration::from_millis(20);
    let timeout = Duration::from_millis(300);
    Health { check, interval, timeout, fall: NonZeroU32::new(2).unwrap(), ..Health::default() }
}

fn spec(checks: &BTreeMap<u16, Health>) -> ContainerSpec {
    let image = ImageRef::new("shop:1").unwrap();
    let mut spec = ContainerSpec::new(name(), Role::Instance, image);
    let assignment = Assignment {
        host: HostId::new("h1").unwrap(),
        address: ADDRESS,
        ports: BTreeMap::new(),
        published: BTreeMap::new(),
    };
    let mut label = |key, text| spec.labels.insert(LabelKey::new(key).unwrap(), text);
    label(label::ASSIGNMENT, serde_json::to_string(&assignment).unwrap());
    label(label::HEALTH, serde_json::to_string(checks).unwrap());
    spec
}

/// An engine that leaves readiness to the prober, whose only address is reached at these local ports.
struct Bed {
    engine: MemoryRuntime,
    local: Arc<[AtomicU16; 2]>,
}

impl Bed {
    async fn new() -> Self {
        let engine = MemoryRuntime::new();
        engine.behave(Behaviour::Unasked);
        engine.ensure_image(&ImageRef::new("shop:1").unwrap(), None, &Quiet).await.unwrap();
        Self { engine, local: Arc::default() }
    }

    /// Container port 8000 + `index` is reached at `port` of this machine.
    fn reach(&self, index: usize, port: u16) {
        self.local[index].store(port, Ordering::SeqCst);
    }

    fn probed(&self) -> Probed {
        let local = self.local.clone();
        Probed::builder(Arc::new(self.engine.clone()))
            .reach(move |address| {
                assert_eq!(address.ip(), ADDRESS);
                let index = usize::from(address.port() - 8000);
                SocketAddr::from((Ipv4Addr::LOCALHOST, local[index].load(Ordering::SeqCst)))
            })
            .build()
    }
}

async fn readiness(runtime: &Probed) -> Readiness {
    runtime.list().await.unwrap()[0].readiness.clone()
}

/// Waits until the readiness is as wanted; fails with what it was after a long while.
async fn becomes(runtime: &Probed, wanted: impl Fn(&Readiness) -> bool) -> Readiness {
    let start = Instant::now();
    loop {
        let seen = readiness(runtime).await;
        if wanted(&seen) {
            return seen;
        }
        assert!(start.elapsed() < MOMENT, "still {seen:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn not_ready(readiness: &Readiness) -> bool {
    matches!(readiness, Readiness::NotReady(_))
}

/// A port of this machine nothing listens on.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Answers every request with the status line that `answer` holds at the time.
async fn http(answer: Arc<std::sync::Mutex<&'static str>>) -> (u16, Arc<std::sync::Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            *seen.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer = *answer.lock().unwrap();
            let _ =
                stream.write_all(format!("{answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_port_that_listens_makes_ready_and_an_event_tells() {
    let bed = Bed::new().await;
    let port = closed_port().await;
    bed.reach(0, port);
    let runtime = bed.probed();
    let mut events = runtime.events();
    runtime.run(&spec(&BTreeMap::from([(8000, quick(Check::Tcp))]))).await.unwrap();
    assert_eq!(
        becomes(&runtime, not_ready).await,
        Readiness::NotReady("port 8000: connect: connection refused".into())
    );
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    becomes(&runtime, |r| *r == Readiness::Ready).await;
    drop(listener);
    becomes(&runtime, not_ready).await;

    let mut changes = 0;
    while changes < 3 {
        let event = tokio::time::timeout(MOMENT, events.next()).await.unwrap().unwrap().unwrap();
        changes += u32::from(event == RuntimeEvent::ReadyChanged(name()));
    }
}

#[tokio::test]
async fn every_port_must_pass_and_http_means_200_to_399() {
    let bed = Bed::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answer = Arc::new(std::sync::Mutex::new("HTTP/1.1 503 Starting"));
    let (port, asked) = http(answer.clone()).await;
    bed.reach(0, listener.local_addr().unwrap().port());
    bed.reach(1, port);
    let runtime = bed.probed();
    let path = HealthPath::new("/ready?deep=1").unwrap();
    let checks = BTreeMap::from([(8000, quick(Check::Tcp)), (8001, quick(Check::Http(path)))]);
    runtime.run(&spec(&checks)).await.unwrap();
    assert_eq!(
        becomes(&runtime, not_ready).await,
        Readiness::NotReady("port 8001: GET /ready?deep=1: status 503, must be 200 to 399".into())
    );
    *answer.lock().unwrap() = "HTTP/1.1 302 Found";
    becomes(&runtime, |r| *r == Readiness::Ready).await;
    *answer.lock().unwrap() = "HTTP/1.1 404 Not Found";
    becomes(&runtime, not_ready).await;
    let request = asked.lock().unwrap().clone();
    assert!(request.starts_with("GET /ready?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_does_not_become_ready() {
    let bed = Bed::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.reach(0, silent.local_addr().unwrap().port());
    let runtime = bed.probed();
    let path = HealthPath::new("/").unwrap();
    runtime.run(&spec(&BTreeMap::from([(8000, quick(Check::Http(path)))]))).await.unwrap();
    let seen = becomes(&runtime, not_ready).await;
    assert_eq!(seen, Readiness::NotReady("port 8000: no answer within 300ms".into()));
}

#[tokio::test]
async fn a_restarted_platform_sees_serving_instances_ready_at_its_first_look() {
    let bed = Bed::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.reach(0, listener.local_addr().unwrap().port());
    let rise = NonZeroU32::new(5).unwrap();
    let health = Health { rise, ..quick(Check::Tcp) };
    bed.engine.run(&spec(&BTreeMap::from([(8000, health)]))).await.unwrap();
    assert_eq!(readiness(&bed.probed()).await, Readiness::Ready);
}

#[tokio::test]
async fn containers_started_by_others_are_found_by_events() {
    let bed = Bed::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.reach(0, listener.local_addr().unwrap().port());
    let runtime = bed.probed();
    let mut events = runtime.events();
    assert_eq!(runtime.list().await.unwrap(), Vec::new());
    bed.engine.run(&spec(&BTreeMap::from([(8000, quick(Check::Tcp))]))).await.unwrap();
    let changed = events
        .by_ref()
        .filter(|e| std::future::ready(*e == Ok(RuntimeEvent::ReadyChanged(name()))));
    tokio::time::timeout(MOMENT, std::pin::pin!(changed).next()).await.unwrap().unwrap().unwrap();
    assert_eq!(readiness(&runtime).await, Readiness::Ready);
}

#[tokio::test]
async fn without_checks_running_is_ready_and_bad_labels_are_told() {
    let bed = Bed::new().await;
    let runtime = bed.probed();
    runtime.run(&spec(&BTreeMap::new())).await.unwrap();
    assert_eq!(readiness(&runtime).await, Readiness::Ready);
    runtime.stop(&name(), MOMENT).await.unwrap();

    let mut bad = spec(&BTreeMap::new());
    bad.labels.insert(LabelKey::new(label::HEALTH).unwrap(), "{".into());
    runtime.run(&bad).await.unwrap();
    let Readiness::NotReady(why) = readiness(&runtime).await else { panic!("must not be ready") };
    assert!(why.starts_with("label lb.health: EOF"), "{why}");
}

/// What listed as running ended before it had answered, and another look had seen its end: nobody was left to
/// ask it, and it was taken for one that need not be asked (openship#335 shows what follows: the version that
/// worked is stopped).
#[tokio::test]
async fn what_ends_between_a_listing_and_its_first_answer_is_not_ready() {
    let bed = Bed::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.reach(0, silent.local_addr().unwrap().port());
    let runtime = bed.probed();
    let check = Check::Http(HealthPath::new("/").unwrap());
    let health = Health { timeout: 6 * MOMENT, ..quick(check) };
    runtime.run(&spec(&BTreeMap::from([(8000, health)]))).await.unwrap();
    let (mut asked, _) = silent.accept().await.unwrap();

    let mut list = std::pin::pin!(runtime.list());
    for _ in 0..100 {
        assert!(futures_util::poll!(list.as_mut()).is_pending(), "it waits for the first answer");
        tokio::task::yield_now().await;
    }
    bed.engine.kill(&name()).unwrap();
    // The connection is closed when the probe is given up.
    tokio::time::timeout(MOMENT, asked.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    let listed = list.await.unwrap();
    assert_eq!(listed[0].state, ContainerState::Running, "listed before its end");
    assert_eq!(listed[0].readiness, Readiness::Unknown);
}

#[tokio::test]
async fn what_the_runtime_knows_itself_and_other_roles_are_left_alone() {
    let bed = Bed::new().await;
    bed.engine.behave(Behaviour::NeverReady);
    let runtime = bed.probed();
    runtime.run(&spec(&BTreeMap::new())).await.unwrap();
    assert_eq!(readiness(&runtime).await, Readiness::NotReady("starting".into()));
    runtime.stop(&name(), MOMENT).await.unwrap();
    bed.engine.behave(Behaviour::Unasked);
    runtime.run(&ContainerSpec { role: Role::Balancer, ..spec(&BTreeMap::new()) }).await.unwrap();
    assert_eq!(readiness(&runtime).await, Readiness::Unknown);
}

#[tokio::test]
async fn checks_end_with_the_container_and_with_the_wrapper() {
    let bed = Bed::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bed.reach(0, listener.local_addr().unwrap().port());
    let runtime = bed.probed();
    let spec = spec(&BTreeMap::from([(8000, quick(Check::Tcp))]));
    runtime.run(&spec).await.unwrap();
    becomes(&runtime, |r| *r == Readiness::Ready).await;
    let quiet = async |what: &str| {
        let start = Instant::now();
        // Connections made before may still wait to be accepted.
        while tokio::time::timeout(20 * Duration::from_millis(20), listener.accept()).await.is_ok()
        {
            assert!(start.elapsed() < MOMENT, "still asked after {what}");
        }
    };
    runtime.stop(&name(), MOMENT).await.unwrap();
    quiet("the container went").await;
    runtime.run(&spec).await.unwrap();
    becomes(&runtime, |r| *r == Readiness::Ready).await;
    drop(runtime);
    quiet("the wrapper was dropped").await;
}

#[tokio::test]
async fn from_listening_to_ready_takes_milliseconds() {
    let bed = Bed::new().await;
    let runtime = bed.probed();
    let health = Health { interval: Duration::from_secs(10), ..Health::default() };
    let spec = spec(&BTreeMap::from([(8000, health)]));
    let mut took = Vec::new();
    for _ in 0..11 {
        let port = closed_port().await;
        bed.reach(0, port);
        runtime.run(&spec).await.unwrap();
        becomes(&runtime, not_ready).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut events = runtime.events();
        let _listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let start = Instant::now();
        while events.next().await.unwrap().unwrap() != RuntimeEvent::ReadyChanged(name()) {}
        took.push(start.elapsed());
        runtime.stop(&name(), MOMENT).await.unwrap();
    }
    took.sort();
    println!("listening to ready: median {:?}, worst {:?}", took[5], took[10]);
    assert!(took[5] < Duration::from_millis(50), "{took:?}");
}
