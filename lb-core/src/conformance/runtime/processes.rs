//! What runs in a container: these cases need a setup whose containers run programs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{PATIENCE, eventually, refused};
use super::Bed;
use crate::error::ErrorKind;
use crate::model::Secret;
use crate::runtime::{ContainerSpec, Restart};

/// Output has both streams; the container is gone afterwards.
pub async fn run_to_end_gives_code_and_output_and_removes(bed: &Bed) {
    let spec = bed.shell("check", "echo out; echo err >&2; exit 7");
    for _ in 0..2 {
        let exit = bed.runtime.run_to_end(&spec, PATIENCE).await.unwrap();
        assert_eq!((exit.code, exit.out_of_memory), (7, false));
        assert_eq!(exit.output.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["err", "out"]));
        assert!(bed.names().await.is_empty());
    }
    let good = bed.runtime.run_to_end(&bed.shell("check", "true"), PATIENCE).await.unwrap();
    assert_eq!((good.code, good.output.as_str()), (0, ""));
}

/// And is removed.
pub async fn run_to_end_kills_at_its_deadline(bed: &Bed) {
    let deadline = Duration::from_millis(700);
    let call = bed.runtime.run_to_end(&bed.sleeper("long"), deadline).await;
    let error = refused(call, ErrorKind::Timeout).to_string();
    assert!(error.contains(bed.name("long").as_str()), "{error}");
    assert!(bed.names().await.is_empty());
}

/// 64 KiB of whole lines.
pub async fn output_keeps_its_end(bed: &Bed) {
    let lines = "i=1; while [ $i -le 20000 ]; do echo $i; i=$((i+1)); done";
    let exit = bed.runtime.run_to_end(&bed.shell("chatty", lines), PATIENCE).await.unwrap();
    let length = exit.output.len();
    assert!((60 << 10..=64 << 10).contains(&length), "{length} bytes");
    assert!(exit.output.ends_with("19999\n20000\n"));
    let first: usize = exit.output.lines().next().unwrap().parse().unwrap();
    assert_eq!(exit.output.lines().count(), 20000 - first + 1, "whole lines");
}

/// Byte for byte.
pub async fn arguments_and_environment_reach_the_process(bed: &Bed) {
    // A shell hides variables that it could not name itself.
    let own = "tr '\\0' '\\n' </proc/$$/environ | grep '^discovery'";
    let all = "echo \"$1|$PLAIN|$HIDDEN|${TERM_OF_THE_TEST:-unset}\"";
    let spec = bed.shell("set", &format!("{all}; {own}"));
    let mut args = spec.args.clone().unwrap_or_default();
    args.extend(["zero".to_owned(), "one 'two' $three".to_owned()]);
    let spec = ContainerSpec {
        args: Some(args),
        env: BTreeMap::from([
            ("PLAIN".parse().unwrap(), "a=b \"c\" $d".to_owned()),
            ("discovery.type".parse().unwrap(), "single-node".to_owned()),
        ]),
        secrets: BTreeMap::from([("HIDDEN".parse().unwrap(), Secret::new("s3cret"))]),
        ..spec
    };
    let exit = bed.runtime.run_to_end(&spec, PATIENCE).await.unwrap();
    assert_eq!(
        exit.output,
        "one 'two' $three|a=b \"c\" $d|s3cret|unset\ndiscovery.type=single-node\n"
    );
}

/// The spec's, and the process decides when it ends.
pub async fn a_stop_asks_by_its_signal(bed: &Bed) {
    // SIGRTMIN+3 ends systemd; by number, for shells know few names.
    for (name, signal, trap) in [("one", "SIGUSR1", "USR1"), ("two", "SIGRTMIN+3", "37")] {
        let program = format!("trap 'exit 0' {trap}; echo ready; while :; do sleep 0.05; done");
        let stop_signal = Some(signal.parse().unwrap());
        let spec = ContainerSpec { stop_signal, ..bed.shell(name, &program) };
        bed.runtime.run(&spec).await.unwrap();
        let ready = async || bed.runtime.logs(&spec.name, 1).await.unwrap() == "ready\n";
        eventually("its trap is set", ready).await;
        let stop = bed.runtime.stop(&spec.name, PATIENCE * 4);
        tokio::time::timeout(PATIENCE, stop).await.expect("it ends before the grace").unwrap();
        assert!(bed.names().await.is_empty());
    }
}

/// One that does not listen.
pub async fn a_stop_kills_after_the_grace(bed: &Bed) {
    let spec = bed.shell("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    bed.runtime.run(&spec).await.unwrap();
    let ready = async || bed.runtime.logs(&spec.name, 1).await.unwrap() == "ready\n";
    eventually("its trap is set", ready).await;
    let grace = Duration::from_millis(1500);
    let mut stop = bed.runtime.stop(&spec.name, grace);
    let early = tokio::time::timeout(Duration::from_millis(1400), &mut stop).await;
    assert!(early.is_err(), "it has its grace");
    tokio::time::timeout(PATIENCE, stop).await.expect("and is killed after it").unwrap();
    assert!(bed.names().await.is_empty());
}

/// As the same container; stopping it is for good, and so is the end of a checker.
pub async fn an_always_restarted_container_comes_back(bed: &Bed) {
    let spec =
        ContainerSpec { restart: Restart::Always, ..bed.shell("phoenix", "echo up; sleep 0.3") };
    let id = bed.runtime.run(&spec).await.unwrap();
    let back = async || bed.runtime.logs(&spec.name, 9).await.unwrap().lines().count() >= 2;
    eventually("it has come back", back).await;
    eventually("it runs", async || bed.runs("phoenix").await).await;
    assert_eq!(bed.listed("phoenix").await.unwrap().id, id);
    bed.stop("phoenix").await;
    let check = ContainerSpec { restart: Restart::Always, ..bed.shell("check", "exit 7") };
    assert_eq!(bed.runtime.run_to_end(&check, PATIENCE).await.unwrap().code, 7);
    assert!(bed.names().await.is_empty());
}
