//! What a backend makes of an engine's answers, put before the core's rules for it: a runtime on an engine
//! whose answers are given. Of cluster `c`, it has a container `c.a`, a network `c.net` and an image
//! `r.example.org/a:1`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use lb_core::engine::{
    Bounds, Calls, Deadlines, EngineApi, EngineRuntime, Failure, OnEngine, PullLine, Seen,
    SeenImage, SeenNetwork, Subscription, Summary, Which,
};
use lb_core::{
    ClusterId, ContainerRuntime, ContainerSpec, ContainerState, EngineInfo, ErrorKind, ImageDigest,
    ImageRef, NetworkName, NetworkSpec, Quiet, RegistryAuth, Role, Usage, label,
};
use tokio::runtime::{Builder, Runtime};

use crate::check_message;

static TOKIO: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// The answers. What is not given is absent; what is to be made is refused.
#[derive(Debug, Default)]
struct Answers {
    containers: Vec<Summary>,
    container: Option<Seen>,
    network: Option<SeenNetwork>,
    image: Option<SeenImage>,
    pull: Vec<PullLine>,
    usage: Option<Usage>,
    /// Ids of what was started, stopped or removed.
    touched: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct Engine(EngineRuntime<Answers>);

impl OnEngine for Engine {
    type Api = Answers;

    fn on_engine(&self) -> &EngineRuntime<Answers> {
        &self.0
    }
}

impl Engine {
    fn new(answers: Answers) -> Self {
        let calls = Calls::new(Deadlines::default(), Bounds::default());
        Self(EngineRuntime::new(cluster(), answers, calls))
    }

    fn touched(&self) -> Vec<String> {
        self.0.api().touched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn cluster() -> ClusterId {
    ClusterId::new("c").expect("a name")
}

fn spec() -> ContainerSpec {
    let image = "r.example.org/a:1".parse().expect("an image");
    ContainerSpec::new("c.a".parse().expect("a name"), Role::Instance, image)
}

fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.get(label::CLUSTER).is_some_and(|owner| owner == "c")
}

/// A list: taken over is what has a name, a role and a spec of ours, without our own labels, in order.
pub fn listed(containers: Vec<Summary>, inspected: Option<Seen>, usage: Option<Usage>) {
    let named = |name: &str| {
        let same = |s: &&Summary| s.name.as_ref().is_some_and(|n| n.as_str() == name);
        containers.iter().filter(same).collect::<Vec<_>>()
    };
    let answers = Answers {
        containers: containers.clone(),
        container: inspected,
        usage,
        ..Answers::default()
    };
    let engine = Engine::new(answers);
    let list = TOKIO.block_on(engine.list()).expect("nothing failed");
    assert!(list.is_sorted_by_key(|c| &c.name), "{list:?}");
    let own = [label::CLUSTER, label::ROLE, label::SPEC];
    for container in list {
        // An answer may list one id twice.
        let says = |s: &&Summary| {
            let label = |key| s.labels.get(key).map(String::as_str);
            s.id == container.id.0
                && label(label::ROLE) == Some(container.role.as_str())
                && label(label::SPEC) == Some(container.spec.as_str())
        };
        let sources = named(container.name.as_str());
        assert!(sources.iter().any(says), "from nowhere: {container:?}");
        assert!(container.labels.keys().all(|key| !own.contains(&key.as_str())), "{container:?}");
    }
    let usages = TOKIO.block_on(engine.usage()).expect("nothing failed");
    for (name, usage) in usages {
        assert!(!named(name.as_str()).is_empty());
        self::usage(Some(usage));
    }
}

/// A container found by its name: one of another name is nobody, one of another cluster is never touched,
/// and only one that runs what was asked for is success.
pub fn inspected(seen: Seen) {
    let by_name = seen.name == "c.a";
    let (ours, id) = (by_name && is_ours(&seen.labels), seen.id.clone());
    let same = seen.labels.get(label::SPEC).is_some_and(|s| s == spec().hash().as_str());
    let ended = matches!(seen.state, ContainerState::Exited(_));
    let engine = Engine::new(Answers { container: Some(seen), ..Answers::default() });
    match TOKIO.block_on(engine.run(&spec())) {
        Ok(run) => assert!(ours && same && !ended && run.0 == id),
        Err(error) => check_message(&error),
    }
    let stopped = TOKIO.block_on(engine.stop(&spec().name, Duration::ZERO));
    assert_eq!(stopped.is_ok(), ours || !by_name, "{stopped:?}");
    let touched = engine.touched();
    assert!(touched.iter().all(|t| *t == id) && (ours || touched.is_empty()), "{touched:?}");
}

/// A network found by its name: success only with our label, subnet and range; a foreign one stays.
pub fn network(seen: SeenNetwork) {
    let net = |text: &str| text.parse::<ipnet::Ipv4Net>().expect("a net");
    let name = NetworkName::new("c.net").expect("a name");
    let spec = NetworkSpec {
        name: name.clone(),
        subnet: net("10.1.0.0/24"),
        engine_range: net("10.1.0.192/26"),
    };
    let ours = seen.name == "c.net" && is_ours(&seen.labels);
    let subnet = seen.subnet.is_some_and(|subnet| subnet.trunc() == spec.subnet);
    let inside = |range: &std::ops::RangeInclusive<_>| {
        spec.engine_range.contains(range.start()) && spec.engine_range.contains(range.end())
    };
    let fits = ours && subnet && seen.range.as_ref().is_some_and(inside);
    let engine = Engine::new(Answers { network: Some(seen), ..Answers::default() });
    match TOKIO.block_on(engine.ensure_network(&spec)) {
        Ok(()) => assert!(fits),
        Err(error) => {
            assert!(!fits, "{error}");
            check_message(&error);
        }
    }
    let _ = TOKIO.block_on(engine.remove_network(&name));
    assert_eq!(engine.touched().is_empty(), !ours);
}

/// An image that is here or was fetched: its digest is one of its own, or the one that was told.
pub fn image(seen: Option<SeenImage>, pull: Vec<PullLine>) {
    let mut known: Vec<ImageDigest> = pull.iter().filter_map(|l| l.digest.clone()).collect();
    if let Some(image) = &seen {
        known.extend(
            image.digests.iter().map(|(_, digest)| digest.clone()).chain([image.id.clone()]),
        );
    }
    let engine = Engine::new(Answers { image: seen, pull, ..Answers::default() });
    match TOKIO.block_on(engine.ensure_image(&spec().image, None, &Quiet)) {
        Ok(digest) => assert!(known.contains(&digest), "{digest}"),
        Err(error) => check_message(&error),
    }
}

/// Counters: of a time after 1970.
pub fn usage(usage: Option<Usage>) {
    assert!(usage.is_none_or(|usage| usage.at > jiff::Timestamp::UNIX_EPOCH), "{usage:?}");
}

/// The kernel's routes: one in the way is named in a line.
pub fn routes(table: &str) {
    let subnet = "10.1.0.0/24".parse().expect("a net");
    if let Some(route) = lb_core::engine::route_in_the_way(table, subnet) {
        assert!(route.contains(" on ") && !route.contains('\n'), "{route:?}");
    }
}

impl Answers {
    fn touch(&self, id: &str) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
    }
}

fn given<T: Clone>(answer: Option<&T>) -> Result<T, Failure> {
    let message = "not here".to_owned();
    let absent = || Failure::Refused { kind: ErrorKind::NotFound, status: 404, message };
    answer.cloned().ok_or_else(absent)
}

fn refused<T>() -> Result<T, Failure> {
    let message = "not made".to_owned();
    Err(Failure::Refused { kind: ErrorKind::Invalid, status: 400, message })
}

#[async_trait]
impl EngineApi for Answers {
    fn endpoint(&self) -> String {
        "given".into()
    }

    fn is_here(&self) -> bool {
        false
    }

    async fn describe(&self) -> Result<EngineInfo, Failure> {
        refused()
    }

    async fn create(&self, _: &ClusterId, _: &ContainerSpec, _: &str) -> Result<String, Failure> {
        refused()
    }

    async fn start(&self, id: &str) -> Result<(), Failure> {
        self.touch(id);
        Ok(())
    }

    async fn stop(&self, id: &str, _: Duration) -> Result<(), Failure> {
        self.touch(id);
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), Failure> {
        self.touch(id);
        Ok(())
    }

    async fn ended(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    async fn container(&self, _: &str) -> Result<Seen, Failure> {
        given(self.container.as_ref())
    }

    async fn containers(&self, _: &ClusterId, _: Which) -> Result<Vec<Summary>, Failure> {
        Ok(self.containers.clone())
    }

    async fn usage(&self, _: &str) -> Result<Option<Usage>, Failure> {
        Ok(self.usage)
    }

    async fn output(&self, _: &str, _: Option<usize>, _: usize) -> Result<String, Failure> {
        Ok(String::new())
    }

    async fn network(&self, _: &NetworkName) -> Result<SeenNetwork, Failure> {
        given(self.network.as_ref())
    }

    async fn make_network(&self, _: &ClusterId, _: &NetworkSpec) -> Result<(), Failure> {
        refused()
    }

    async fn remove_network(&self, id: &str) -> Result<(), Failure> {
        self.touch(id);
        Ok(())
    }

    async fn image(&self, _: &str) -> Result<SeenImage, Failure> {
        given(self.image.as_ref())
    }

    async fn resolve(
        &self,
        _: &ImageRef,
        _: Option<&RegistryAuth>,
    ) -> Result<Option<ImageDigest>, Failure> {
        Ok(None)
    }

    fn pull<'a>(
        &'a self,
        _: &'a ImageRef,
        _: &'a str,
        _: Option<&'a RegistryAuth>,
    ) -> BoxStream<'a, Result<PullLine, Failure>> {
        stream::iter(self.pull.iter().cloned().map(Ok)).boxed()
    }

    async fn subscribe(&self, _: &ClusterId, _: Option<i128>) -> Result<Subscription, Failure> {
        refused()
    }
}
