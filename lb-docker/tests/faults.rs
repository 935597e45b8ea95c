//! Engines that are slow, down, hanging, half open or rude (faults.md: F11, F12).
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lb_core::{
    ContainerRuntime, ContainerSpec, ErrorKind, Quiet, RegistryAuth, Result, Role, RuntimeEvent,
    Secret,
};
use serde_json::{Value, json};

use fake::{Asked, DEADLINES, Fake, Reply, Then, refuse, version};

fn spec() -> ContainerSpec {
    ContainerSpec::new("c1".parse().unwrap(), Role::Instance, "app:1".parse().unwrap())
}

/// The container as `inspect` shows it when it was made from `spec()`.
fn inspected(status: &str) -> Reply {
    let labels = json!({"lb.cluster": "shop", "lb.spec": spec().hash(), "lb.role": "instance"});
    Reply::Json(
        200,
        json!({"Id": "f00", "Name": "/c1", "State": {"Status": status}, "Config": {"Labels": labels}}),
    )
}

/// A well-behaved engine but for what `odd` answers.
fn but(odd: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    fake::up(move |asked: &Asked, before| {
        let call = asked.call();
        odd(&call, before).unwrap_or_else(|| match call.as_str() {
            "GET /version" => version(),
            "POST /containers/create" => Reply::Json(201, json!({"Id": "f00", "Warnings": []})),
            "POST /containers/f00/start" | "DELETE /containers/f00" => {
                Reply::Json(204, Value::Null)
            }
            "GET /containers/json" => Reply::Json(200, json!([])),
            _ => refuse(404, "No such container"),
        })
    })
}

#[tokio::test]
async fn the_lower_api_version_is_asked_for() {
    for (theirs, path) in [("1.41", "/v1.41/containers/json"), ("1.99", "/v1.53/containers/json")] {
        let fake = but(move |call, _| {
            (call == "GET /version").then(|| Reply::Json(200, json!({"ApiVersion": theirs})))
        });
        fake.runtime.list().await.unwrap();
        fake.runtime.list().await.unwrap();
        let asked = fake.engine.asked();
        assert_eq!(asked[0].path, "/version", "no version while none is agreed");
        assert!(asked[1].path.starts_with(path), "{}", asked[1].path);
        assert!(
            asked[1].path.contains("lb.cluster%3Dshop"),
            "this cluster only: {}",
            asked[1].path
        );
        assert_eq!(asked.iter().filter(|a| a.path == "/version").count(), 1, "agreed once");
        assert_eq!(asked[1].headers["host"], "docker");
    }
}

#[tokio::test]
async fn an_engine_that_is_down_is_unavailable_and_recovers_by_itself() {
    let mut fake = fake::down(|asked, _| match asked.call().as_str() {
        "GET /version" => version(),
        _ => Reply::Json(200, json!([])),
    });
    for _ in 0..2 {
        let error = fake.runtime.list().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let engine = format!("engine unix://{}", fake.socket.display());
        assert_eq!((error.operation(), error.subject()), ("list", engine.as_str()));
        assert!(error.message().contains("No such file"), "{error}");
        fake.start();
        fake.runtime.list().await.unwrap();
        fake.stop().await;
    }
    let versions = fake.engine.asked().iter().filter(|a| a.path == "/version").count();
    assert_eq!(versions, 2, "it may have come back as another version");
}

#[tokio::test]
async fn refusals_and_nonsense_have_their_kind() {
    let cases = [
        (refuse(500, "something broke"), ErrorKind::Unexpected, "something broke"),
        (refuse(503, "starting"), ErrorKind::Unavailable, "starting"),
        (Reply::Text(500, "<html>proxy</html>"), ErrorKind::Unexpected, "proxy"),
        (Reply::Text(200, "not json"), ErrorKind::Unexpected, "does not parse"),
        (Reply::Close, ErrorKind::Unavailable, "cannot be reached"),
        (Reply::Hang, ErrorKind::Timeout, "did not answer within 400ms"),
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
    for delete in [Reply::Json(204, Value::Null), refuse(500, "cannot")] {
        let fake = but(move |call, _| match call {
            "POST /containers/f00/start" => Some(refuse(500, "port is already allocated")),
            "DELETE /containers/f00" => Some(delete.clone()),
            _ => None,
        });
        let error = fake.runtime.run(&spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        let calls =
            ["POST /containers/create", "POST /containers/f00/start", "DELETE /containers/f00"];
        assert_eq!(fake.engine.calls(), calls);
    }
}

#[tokio::test]
async fn a_creation_without_an_answer_is_tidied_up() {
    for silence in [Reply::Hang, Reply::Close] {
        let kind = if matches!(silence, Reply::Hang) {
            ErrorKind::Timeout
        } else {
            ErrorKind::Unavailable
        };
        let fake = but(move |call, _| match call {
            "POST /containers/create" => Some(silence.clone()),
            "GET /containers/c1/json" => Some(inspected("created")),
            _ => None,
        });
        assert_eq!(fake.runtime.run(&spec()).await.unwrap_err().kind(), kind);
        assert_eq!(fake.engine.calls().last().unwrap(), "DELETE /containers/f00");
    }
    // One that runs by now was not half-made: it stays.
    let fake = but(|call, _| match call {
        "POST /containers/create" => Some(Reply::Close),
        "GET /containers/c1/json" => Some(inspected("running")),
        _ => None,
    });
    fake.runtime.run(&spec()).await.unwrap_err();
    assert!(!fake.engine.calls().contains(&"DELETE /containers/f00".to_owned()));
}

#[tokio::test]
async fn a_name_taken_but_not_yet_shown_is_waited_for() {
    let fake = but(|call, before| match call {
        "POST /containers/create" => Some(refuse(
            409,
            "Conflict. The container name \"/c1\" is already in use by container \"f00\".",
        )),
        "GET /containers/c1/json" => (before >= 2).then(|| inspected("running")),
        _ => None,
    });
    assert_eq!(fake.runtime.run(&spec()).await.unwrap().0, "f00");
}

#[tokio::test]
async fn a_removal_under_way_is_waited_for() {
    let fake = but(|call, _| match call {
        "GET /containers/c1/json" => Some(inspected("exited")),
        "DELETE /containers/f00" => {
            Some(refuse(409, "removal of container f00 is already in progress"))
        }
        "POST /containers/f00/wait" => Some(Reply::Json(200, json!({"StatusCode": 137}))),
        _ => None,
    });
    fake.runtime.stop(&spec().name, Duration::ZERO).await.unwrap();
    assert_eq!(fake.engine.calls().last().unwrap(), "POST /containers/f00/wait");
}

#[tokio::test]
async fn what_runs_on_a_key_does_not_hold_up_another() {
    let fake = but(|call, before| match (call, before) {
        ("POST /containers/create", 0) => Some(Reply::Hang),
        _ => None,
    });
    let runtime = fake.runtime.clone();
    let slow = tokio::spawn(async move { runtime.run(&spec()).await });
    while fake.engine.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let other = ContainerSpec { name: "c2".parse().unwrap(), ..spec() };
    let started = Instant::now();
    fake.runtime.run(&other).await.unwrap();
    assert!(started.elapsed() < DEADLINES.change, "{:?}", started.elapsed());
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn questions_about_many_are_bounded_and_the_vanished_are_left_out() {
    let fake = but(|call, _| match call {
        "GET /containers/json" => {
            let labels = json!({"lb.cluster": "shop", "lb.spec": "x", "lb.role": "instance"});
            let one = |n: usize| json!({"Id": format!("i{n}"), "Names": [format!("/c{n}")], "Labels": labels, "State": "exited"});
            Some(Reply::Json(200, (0..30).map(one).collect()))
        }
        "GET /containers/i7/json" => None,
        c if c.starts_with("GET /containers/i") => Some(Reply::Late(
            Duration::from_millis(10),
            json!({"Id": "x", "State": {"Status": "exited", "ExitCode": 9}}),
        )),
        _ => None,
    });
    let listed = fake.runtime.list().await.unwrap();
    assert_eq!(listed.len(), 29);
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
    assert!((2..=4).contains(&fake.engine.most()), "{} at once", fake.engine.most());
}

#[tokio::test]
async fn a_login_is_sent_as_docker_reads_it() {
    let fake = but(|call, _| match call {
        "POST /images/create" => {
            let digest = format!("Digest: sha256:{}", "a".repeat(64));
            Some(Reply::Lines(vec![json!({ "status": digest })], Then::End))
        }
        _ => None,
    });
    let auth = RegistryAuth { username: "u".into(), password: Secret::new("?>~?>~?>~ÿÿÿ") };
    fake.runtime
        .ensure_image(&"r.example.org/app:1".parse().unwrap(), Some(&auth), &Quiet)
        .await
        .unwrap();
    let asked = fake.engine.asked();
    let pull = asked.iter().find(|a| a.call() == "POST /images/create").unwrap();
    let login = &pull.headers["x-registry-auth"];
    assert!(login.contains(['-', '_']) && !login.contains(['+', '/']), "{login}");
    assert!(
        pull.path.contains("fromImage=r.example.org%2Fapp&") && pull.path.contains("tag=1"),
        "{}",
        pull.path
    );
    assert!(pull.body.is_empty());
}

fn happened(action: &str, name: &str, nanos: i64) -> Value {
    json!({"Type": "container", "Action": action, "time": nanos / 1_000_000_000, "timeNano": nanos,
        "Actor": {"ID": "1", "Attributes": {"name": name}}})
}

type Events = BoxStream<'static, Result<RuntimeEvent>>;

async fn next(events: &mut Events) -> Result<RuntimeEvent> {
    tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn each_gap_in_the_events_is_followed_by_resync() {
    let fake = but(|call, before| {
        (call == "GET /events").then(|| match before {
            0 => Reply::Lines(
                vec![happened("start", "c1", 5), json!({"Type": "container", "new": 1})],
                Then::End,
            ),
            1 => Reply::Close,
            2 => refuse(500, "not yet"),
            3 => Reply::Lines(vec![json!("garbage")], Then::Silence),
            _ => Reply::Lines(vec![happened("die", "c1", 6)], Then::Silence),
        })
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started("c1".parse().unwrap()));
    let error = next(&mut events).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "the first failure of a row is told: {error}");
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    // Garbage may come with the answer's head, before it counts as a subscription, or after.
    let mut last = next(&mut events).await.unwrap();
    if last == RuntimeEvent::Resync {
        last = next(&mut events).await.unwrap();
    }
    assert_eq!(last, RuntimeEvent::Exited("c1".parse().unwrap()));
}

#[tokio::test]
async fn a_half_open_subscription_is_renewed_from_where_it_was() {
    let fake = but(|call, before| {
        (call == "GET /events").then(|| match before {
            0 => Reply::Lines(
                vec![happened("start", "c1", 1_772_445_600_000_000_007)],
                Then::Silence,
            ),
            _ => {
                Reply::Lines(vec![happened("die", "c1", 1_772_445_609_000_000_000)], Then::Silence)
            }
        })
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started("c1".parse().unwrap()));
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Exited("c1".parse().unwrap()));
    let asked = fake.engine.asked();
    let since: Vec<_> = asked.iter().filter(|a| a.call() == "GET /events").collect();
    assert!(!since[0].path.contains("since="), "{}", since[0].path);
    assert!(since[1].path.contains("since=1772445600.000000008"), "{}", since[1].path);
}

#[tokio::test]
async fn a_quiet_subscription_is_renewed_from_its_beginning_by_the_engines_clock() {
    let fake = but(|call, before| {
        (call == "GET /events").then(|| match before {
            0 => Reply::Lines(vec![], Then::Silence),
            _ => Reply::Lines(vec![happened("start", "c1", 1)], Then::Silence),
        })
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Started("c1".parse().unwrap()));
    let asked = fake.engine.asked();
    let last = asked.last().unwrap();
    // The fake's date is 2026-03-02 10:00:00; a second back, for dates have no fractions.
    assert!(last.path.contains("since=1772445599.000000000"), "{}", last.path);
}

#[tokio::test]
async fn an_engine_that_falls_silent_altogether_is_told_and_resynced_after() {
    let silent = Arc::new(AtomicBool::new(false));
    let hush = silent.clone();
    let fake = but(move |call, _| {
        (call == "GET /events").then(|| match silent.load(Ordering::Relaxed) {
            true => Reply::Hang,
            false => Reply::Lines(vec![], Then::Silence),
        })
    });
    let mut events = fake.runtime.events();
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
    hush.store(true, Ordering::Relaxed);
    let error = next(&mut events).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    hush.store(false, Ordering::Relaxed);
    assert_eq!(next(&mut events).await.unwrap(), RuntimeEvent::Resync);
}
