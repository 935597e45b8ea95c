//! Services that are slow, down, hanging, half open or rude (faults.md: F11, F12), and what only Podman does.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lb_core::{
    Attachment, ByteSize, ContainerRuntime, ContainerSpec, ErrorKind, NetworkSpec, Quiet,
    RegistryAuth, Resources, Result, Role, RuntimeEvent, Secret,
};
use serde_json::{Value, json};

use fake::{Asked, DEADLINES, Fake, Reply, Then, info, refuse};

fn spec() -> ContainerSpec {
    ContainerSpec::new("c1".parse().unwrap(), Role::Instance, "app:1".parse().unwrap())
}

/// The container as `inspect` shows it when it was made from `spec()`.
fn inspected(status: &str) -> Reply {
    let labels = json!({"lb.cluster": "shop", "lb.spec": spec().hash(), "lb.role": "instance"});
    Reply::Json(
        200,
        json!({"Id": "f00", "Name": "c1", "State": {"Status": status}, "Config": {"Labels": labels}}),
    )
}

/// A well-behaved service but for what `odd` answers.
fn but(odd: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    fake::up(move |asked: &Asked, before| {
        let call = asked.call().replace("/libpod", "");
        odd(&call, before).unwrap_or_else(|| match call.as_str() {
            "GET /info" => info(false),
            "GET /_ping" => Reply::Lines(vec![], Then::End),
            "POST /containers/create" => Reply::Json(201, json!({"Id": "f00", "Warnings": null})),
            "POST /containers/f00/start" => Reply::Json(204, Value::Null),
            "DELETE /containers/f00" => Reply::Json(200, json!([{"Id": "f00"}])),
            "GET /containers/json" => Reply::Json(200, json!([])),
            _ => refuse(404, "no such container"),
        })
    })
}

fn calls(fake: &Fake) -> Vec<String> {
    fake.engine.calls().iter().map(|call| call.replace("/libpod", "")).collect()
}

#[tokio::test]
async fn an_engine_that_is_down_is_unavailable_and_recovers_by_itself() {
    let mut fake = fake::down(|asked, _| match asked.call().as_str() {
        "GET /libpod/info" => info(false),
        _ => Reply::Json(200, json!([])),
    });
    for _ in 0..2 {
        let error = fake.runtime.list().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let engine = format!("engine unix://{}", fake.socket.display());
        assert_eq!((error.operation(), error.subject()), ("list", engine.as_str()));
        assert!(error.message().contains("No such file"), "{error}");
        fake.start();
        for _ in 0..2 {
            fake.runtime.list().await.unwrap();
            assert_eq!(fake.runtime.describe().await.unwrap().version, "4.3.1");
        }
        fake.stop().await;
    }
    let asked = fake.engine.asked();
    let infos = asked.iter().filter(|a| a.path.ends_with("/info")).count();
    assert_eq!(infos, 2, "asked once, and again, for it may have come back as another");
    let list = &asked[0].path;
    assert!(list.starts_with("/v4.0.0/libpod/containers/json?all=true"), "{list}");
    assert!(list.contains("lb.cluster%3Dshop"), "this cluster only: {list}");
}

#[tokio::test]
async fn refusals_and_nonsense_have_their_kind() {
    let cases = [
        (refuse(500, "something broke"), ErrorKind::Unexpected, "something broke"),
        (refuse(503, "starting"), ErrorKind::Unavailable, "starting"),
        (Reply::Text(500, "<html>proxy</html>"), ErrorKind::Unexpected, "proxy"),
        (Reply::Text(200, "not json"), ErrorKind::Unexpected, "does not parse"),
        (Reply::Json(200, json!({"cause": "?"})), ErrorKind::Unexpected, "list of containers"),
        (Reply::Close, ErrorKind::Unavailable, "cannot be reached"),
        (Reply::Hang, ErrorKind::Timeout, "did not answer within 600ms"),
        (Reply::Late(Duration::from_secs(5), json!([])), ErrorKind::Timeout, "did not answer"),
    ];
    for (reply, kind, word) in cases {
        let shown = format!("{reply:?}");
        let fake = but(move |call, _| (call == "GET /containers/json").then(|| reply.clone()));
        let started = Instant::now();
        let error = fake.runtime.list().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
        assert!(error.message().contains(word), "{shown}: {error}");
        assert!(started.elapsed() < DEADLINES.read * 3, "{shown}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_and_keeps_its_reason() {
    for delete in [Reply::Json(200, json!([])), refuse(500, "cannot")] {
        let fake = but(move |call, _| match call {
            "POST /containers/f00/start" => {
                Some(refuse(500, "listen tcp4: bind: address already in use"))
            }
            "DELETE /containers/f00" => Some(delete.clone()),
            _ => None,
        });
        let error = fake.runtime.run(&spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        let wanted = [
            "GET /info",
            "POST /containers/create",
            "POST /containers/f00/start",
            "DELETE /containers/f00",
        ];
        assert_eq!(calls(&fake), wanted);
    }
}

#[tokio::test]
async fn a_creation_without_an_answer_is_tidied_up() {
    for (silence, kind) in [
        (Reply::Hang, ErrorKind::Timeout),
        (Reply::Close, ErrorKind::Unavailable),
        (Reply::Text(201, "half"), ErrorKind::Unexpected),
    ] {
        let fake = but(move |call, _| match call {
            "POST /containers/create" => Some(silence.clone()),
            "GET /containers/c1/json" => Some(inspected("created")),
            _ => None,
        });
        assert_eq!(fake.runtime.run(&spec()).await.unwrap_err().kind(), kind);
        assert_eq!(calls(&fake).last().unwrap(), "DELETE /containers/f00");
    }
}

#[tokio::test]
async fn a_name_taken_but_not_yet_shown_is_waited_for() {
    let fake = but(|call, before| match call {
        "POST /containers/create" => Some(refuse(
            500,
            "creating container storage: the container name \"c1\" is already in use by f00",
        )),
        "GET /containers/c1/json" => (before >= 2).then(|| inspected("running")),
        _ => None,
    });
    assert_eq!(fake.runtime.run(&spec()).await.unwrap().0, "f00");
}

#[tokio::test]
async fn so_already_is_success() {
    let fake = but(|call, _| match call {
        "POST /containers/f00/start" | "POST /containers/f00/stop" => {
            Some(Reply::Json(304, Value::Null))
        }
        "GET /containers/c1/json" => Some(inspected("running")),
        _ => None,
    });
    fake.runtime.run(&spec()).await.unwrap();
    fake.runtime.stop(&spec().name, Duration::from_millis(1200)).await.unwrap();
    let asked = fake.engine.asked();
    let stop = asked.iter().find(|a| a.path.contains("/stop")).unwrap();
    assert!(stop.path.to_lowercase().contains("timeout=2"), "{}", stop.path);
    assert_eq!(calls(&fake).last().unwrap(), "DELETE /containers/f00");
}

#[tokio::test]
async fn what_a_rootless_engine_cannot_do_is_not_even_tried() {
    let fake = but(|call, _| (call == "GET /info").then(|| info(true)));
    let described = fake.runtime.describe().await.unwrap();
    assert!(!described.addresses && !described.limits, "{described:?}");
    let network = NetworkSpec {
        name: "n".parse().unwrap(),
        subnet: "203.0.113.0/24".parse().unwrap(),
        engine_range: "203.0.113.240/28".parse().unwrap(),
    };
    let attached =
        Attachment::Network { name: network.name.clone(), address: [203, 0, 113, 9].into() };
    let memory = Resources { cpu: None, memory: Some(ByteSize::mib(9)) };
    let errors = [
        fake.runtime.ensure_network(&network).await.unwrap_err(),
        fake.runtime.run(&ContainerSpec { network: attached, ..spec() }).await.unwrap_err(),
        fake.runtime.run(&ContainerSpec { resources: memory, ..spec() }).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(!calls(&fake).iter().any(|call| call.starts_with("POST")), "{:?}", calls(&fake));
    fake.runtime.run(&spec()).await.unwrap();
}

const REPOSITORY: &str = "r.example.org/app";

fn digest(n: u8) -> String {
    format!("sha256:{}", format!("{n:02x}").repeat(32))
}

/// The image as `inspect` shows it, with these digests at its registry.
fn image(digests: &[u8]) -> Reply {
    let known: Vec<_> = digests.iter().map(|n| format!("{REPOSITORY}@{}", digest(*n))).collect();
    Reply::Json(200, json!({"Id": &digest(1)[7..], "Digest": digest(2), "RepoDigests": known}))
}

fn pulled() -> Reply {
    let lines = ["Trying to pull r.example.org/app:1...\n", "Getting image source signatures\n"];
    let mut lines: Vec<_> = lines.iter().map(|line| json!({ "stream": line })).collect();
    lines.push(json!({"id": &digest(1)[7..], "images": [&digest(1)[7..]]}));
    Reply::Lines(lines, Then::End)
}

const IMAGE: &str = "GET /images/r.example.org/app:1/json";
const PULL: &str = "POST /images/pull";

#[tokio::test]
async fn a_tag_is_fetched_afresh_under_its_login() {
    let fake = but(|call, before| match (call, before) {
        (IMAGE, 0) => None,
        (IMAGE, _) => Some(image(&[2])),
        (PULL, _) => Some(pulled()),
        _ => None,
    });
    let auth = RegistryAuth { username: "u".into(), password: Secret::new("p") };
    let wanted = format!("{REPOSITORY}:1").parse().unwrap();
    for _ in 0..2 {
        let got = fake.runtime.ensure_image(&wanted, Some(&auth), &Quiet).await.unwrap();
        assert_eq!(got.as_str(), digest(2));
    }
    let asked = fake.engine.asked();
    let pulls: Vec<_> = asked.iter().filter(|a| a.path.contains("/pull")).collect();
    assert_eq!(pulls.len(), 2, "what a tag means is asked each time");
    // {"username":"u","password":"p"} or the like, in base64.
    assert!(pulls[0].headers["x-registry-auth"].starts_with("ey"), "{:?}", pulls[0].headers);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_leaves_what_is_here() {
    let trying = || Reply::Lines(vec![json!({"stream": "Trying to pull x...\n"})], Then::Silence);
    let refusing = || {
        let error = "pinging container registry: dial tcp 127.0.0.1:1: connect: connection refused";
        Reply::Lines(vec![json!({ "error": error })], Then::End)
    };
    for reply in [trying(), refusing()] {
        let (hung, refused) = (reply.clone(), reply);
        let fake = but(move |call, _| match call {
            IMAGE => Some(image(&[2])),
            PULL => Some(hung.clone()),
            _ => None,
        });
        let wanted = format!("{REPOSITORY}:1").parse().unwrap();
        let got = fake.runtime.ensure_image(&wanted, None, &Quiet).await.unwrap();
        assert_eq!(got.as_str(), digest(2));
        let absent = but(move |call, _| (call == PULL).then(|| refused.clone()));
        let error = absent.runtime.ensure_image(&wanted, None, &Quiet).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn of_several_digests_the_registrys_counts() {
    // 3 is of a copy that came by another way; 2 is this machine's own manifest, so the last to be thought of.
    let fake = fake::up(|asked, before| {
        let foreign = asked.path.contains(&digest(3).replace(':', "%3A"));
        match asked.call().replace("/libpod", "").as_str() {
            IMAGE if before == 0 => refuse(404, "no such image"),
            IMAGE => image(&[2, 3, 4]),
            PULL if foreign => Reply::Lines(
                vec![json!({"error": "manifest unknown: manifest unknown"})],
                Then::End,
            ),
            PULL => pulled(),
            other => panic!("{other}"),
        }
    });
    let wanted = format!("{REPOSITORY}:1").parse().unwrap();
    let got = fake.runtime.ensure_image(&wanted, None, &Quiet).await.unwrap();
    assert_eq!(got.as_str(), digest(4));
}

fn happened(action: &str, name: &str, nanos: i64) -> Value {
    json!({"Type": "container", "Action": action, "time": nanos / 1_000_000_000, "timeNano": nanos,
        "Actor": {"ID": "1", "Attributes": {"name": name}}})
}

type Events = BoxStream<'static, Result<RuntimeEvent>>;

async fn next(events: &mut Events) -> Result<RuntimeEvent> {
    tokio::time::timeout(Duration::from_secs(12), events.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn each_gap_in_the_events_is_followed_by_resync() {
    let fake = but(|call, before| {
        (call == "GET /events").then(|| match before {
            0 => Reply::Lines(
                vec![happened("start", "c1", 5), json!({"Type": "container", "new": 1})],
                Then::End,
            ),
            1 => refuse(500, "not yet"),
            2 => Reply::Lines(vec![json!("garbage")], Then::End),
            // Podman 4 says nothing, not even that it has heard, until something happens.
            _ => Reply::Lines(vec![happened("died", "c1", 6)], Then::Silence),
        })
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started("c1".parse().unwrap()));
    let error = next(&mut events).await.unwrap_err();
    assert_eq!(error.message(), "not yet (HTTP 500)", "the first failure of a row is told");
    let mut resyncs = 0;
    loop {
        match next(&mut events).await.unwrap() {
            RuntimeEvent::Resync => resyncs += 1,
            last => break assert_eq!(last, RuntimeEvent::Exited("c1".parse().unwrap())),
        }
    }
    assert_eq!(resyncs, 2, "after the refusal, and after the end");
}

#[tokio::test]
async fn a_silent_subscription_begins_and_goes_on_where_it_was() {
    let fake = but(|call, before| match (call, before) {
        ("GET /events", 0) => Some(Reply::Hang),
        ("GET /events", 1) => Some(Reply::Lines(
            vec![happened("start", "c1", 1_772_445_600_000_000_007)],
            Then::Silence,
        )),
        ("GET /events", _) => Some(Reply::Lines(
            vec![happened("died", "c1", 1_772_445_609_000_000_000)],
            Then::Silence,
        )),
        _ => None,
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync, "silence is consent");
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started("c1".parse().unwrap()));
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Exited("c1".parse().unwrap()));
    let asked = fake.engine.asked();
    let since: Vec<_> = asked.iter().filter(|a| a.path.contains("/events")).collect();
    // The fake's date is 2026-03-02 10:00:00; a second back, for dates have no fractions.
    for (subscription, from) in
        [(0, "1772445599.000000000"), (1, "1772445599.000000000"), (2, "1772445600.000000008")]
    {
        let path = &since[subscription].path;
        assert!(path.contains(&format!("since={from}")), "{subscription}: {path}");
    }
    assert!(since[0].path.contains("lb.cluster%3Dshop"), "{}", since[0].path);
}

#[tokio::test]
async fn an_engine_that_falls_silent_altogether_is_told_and_resynced_after() {
    let silent = Arc::new(AtomicBool::new(false));
    let hush = silent.clone();
    let fake = but(move |call, _| {
        (call == "GET /events" || silent.load(Ordering::Relaxed)).then_some(Reply::Hang)
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    hush.store(true, Ordering::Relaxed);
    let error = next(&mut events).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    hush.store(false, Ordering::Relaxed);
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
}
