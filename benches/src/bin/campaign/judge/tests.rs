//! The judge notices: each rule is broken once, and kept once.

use super::*;
use crate::apps::{Flaw, Kind};
use crate::bounds::{DRAIN, EACH, GONE, IN_FLIGHT, REPLACED, SERVED};

const APP: Name = Name(3);

fn wanted(version: u32, replicas: u32) -> Wanted {
    Wanted {
        name: APP,
        kind: Kind::Web,
        version,
        flaw: None,
        replicas,
        trial: false,
        route: 0,
        certificate: 0,
        port: 0,
    }
}

fn at(seconds: f64) -> At {
    Duration::from_secs_f64(seconds)
}

fn answer(sent: f64, result: Result<u32, &str>) -> Answer {
    let result = result.map(|v| (crate::apps::shown(v), "i".to_owned())).map_err(str::to_owned);
    Answer { app: APP, route: 0, sent: at(sent), ended: at(sent + 0.01), what: "GET", result }
}

fn living(versions: &[u32]) -> Census {
    let living = |v: &u32| Living { version: crate::apps::shown(*v), runs: true };
    Census::from([(APP, versions.iter().map(living).collect())])
}

/// An app of two instances of version 1 that is served since second 1.
fn serving() -> Judge {
    let mut judge = Judge::default();
    judge.asked(at(0.0), &wanted(1, 2));
    judge.answered(&answer(1.0, Ok(1)));
    judge.counted(at(2.0), &living(&[1, 1]));
    assert_eq!(judge.owed(), Vec::<String>::new());
    judge
}

fn rules(judge: &Judge) -> Vec<Rule> {
    judge.violations().iter().map(|v| v.rule).collect()
}

#[test]
fn a_lost_request_is_noticed_and_one_before_the_first_answer_is_not_counted() {
    let mut judge = Judge::default();
    judge.asked(at(0.0), &wanted(1, 2));
    judge.answered(&answer(0.5, Err("status 503")));
    assert_eq!((judge.requests, judge.failed), (0, 0));
    judge.answered(&answer(1.0, Ok(1)));
    judge.answered(&answer(10.0, Err("status 503")));
    assert_eq!(rules(&judge), [Rule::RequestLost]);
    assert_eq!((judge.requests, judge.failed), (2, 1));
}

#[test]
fn a_request_by_a_route_that_was_changed_before_it_was_ever_served_is_not_counted() {
    let mut judge = Judge::default();
    judge.asked(at(0.0), &wanted(1, 2));
    judge.asked(at(0.5), &Wanted { route: 1, ..wanted(1, 2) });
    judge.answered(&answer(0.5 - 0.01, Err("status 404")));
    assert_eq!((judge.requests, rules(&judge)), (0, vec![]));
}

#[test]
fn a_request_on_an_instance_that_is_killed_may_fail_and_a_later_one_may_not() {
    let mut judge = serving();
    judge.excuse(at(10.0), Scope::App(APP), Excused::All, at(10.0) + IN_FLIGHT, "killed");
    judge.answered(&answer(10.2, Err("closed")));
    assert_eq!(rules(&judge), []);
    judge.answered(&answer(10.2 + IN_FLIGHT.as_secs_f64(), Err("closed")));
    assert_eq!(rules(&judge), [Rule::RequestLost]);
    let other = Answer { app: Name(4), ..answer(10.2, Err("closed")) };
    judge.asked(at(0.0), &Wanted { name: Name(4), ..wanted(1, 1) });
    judge.answered(&Answer { result: Ok(("v1".into(), "i".into())), ..other.clone() });
    judge.answered(&Answer { sent: at(13.0), ended: at(13.1), ..other });
    assert_eq!(rules(&judge), [Rule::RequestLost; 2], "what excuses one app excuses no other");
}

#[test]
fn a_version_nobody_asked_for_is_noticed() {
    let mut judge = serving();
    judge.answered(&answer(3.0, Ok(2)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
}

#[test]
fn the_version_before_may_answer_during_the_rollout_and_not_after_it() {
    let mut judge = serving();
    judge.asked(at(10.0), &wanted(2, 2));
    judge.answered(&answer(11.0, Ok(1)));
    judge.answered(&answer(12.0, Ok(2)));
    assert_eq!(rules(&judge), []);
    let after = 10.1 + (SERVED + EACH * 2).as_secs_f64();
    judge.answered(&answer(after, Ok(1)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
}

#[test]
fn what_is_said_to_be_served_must_be_the_only_one() {
    let mut judge = serving();
    judge.asked(at(10.0), &wanted(2, 2));
    judge.claimed(at(12.0), APP, "v1");
    judge.answered(&answer(13.0, Ok(1)));
    assert_eq!(rules(&judge), [], "what was said of the version before counts no more");
    judge.claimed(at(14.0), APP, "v2");
    judge.answered(&answer(14.1, Ok(1)));
    assert_eq!(rules(&judge), []);
    judge.answered(&answer(15.0, Ok(1)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
}

#[test]
fn a_version_that_is_never_ready_must_not_answer_and_the_one_before_goes_on() {
    let mut judge = serving();
    let flawed = Wanted { flaw: Some(Flaw::NeverReady), ..wanted(2, 2) };
    judge.asked(at(10.0), &flawed);
    judge.answered(&answer(100.0, Ok(1)));
    assert_eq!(rules(&judge), []);
    judge.answered(&answer(11.0, Ok(2)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
    judge.asked(at(110.0), &wanted(3, 2));
    judge.answered(&answer(112.0, Ok(3)));
    judge.answered(&answer(112.0 + 60.0, Ok(1)));
    assert_eq!(rules(&judge), [Rule::WrongVersion; 2], "a good one takes its place");
}

#[test]
fn beside_a_trial_the_version_before_an_unfinished_rollout_may_go_on() {
    let mut judge = serving();
    judge.asked(at(10.0), &wanted(2, 2));
    judge.asked(at(12.0), &Wanted { trial: true, ..wanted(3, 2) });
    judge.answered(&answer(100.0, Ok(1)));
    assert_eq!(rules(&judge), []);
    judge.asked(at(110.0), &wanted(3, 2));
    judge.answered(&answer(200.0, Ok(1)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
}

#[test]
fn a_version_that_is_withdrawn_may_not_answer_any_more() {
    let mut judge = serving();
    judge.asked(at(10.0), &Wanted { trial: true, ..wanted(2, 2) });
    judge.answered(&answer(60.0, Ok(2)));
    judge.answered(&answer(60.0, Ok(1)));
    judge.asked(at(70.0), &wanted(1, 2));
    judge.answered(&answer(300.0, Ok(1)));
    assert_eq!(rules(&judge), []);
    judge.answered(&answer(300.0, Ok(2)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
}

#[test]
fn a_late_replacement_is_noticed_once() {
    let mut judge = serving();
    judge.lost(at(10.0), APP, REPLACED, "killed");
    let by = 10.0 + REPLACED.as_secs_f64();
    judge.counted(at(by - 0.1), &living(&[1]));
    assert_eq!(rules(&judge), []);
    judge.counted(at(by + 0.1), &living(&[1]));
    judge.counted(at(by + 0.5), &living(&[1]));
    assert_eq!(rules(&judge), [Rule::NotReplaced]);
}

#[test]
fn a_replacement_in_time_is_taken_and_a_hung_one_is_none() {
    let mut judge = serving();
    judge.lost(at(10.0), APP, REPLACED, "paused");
    let mut hung = living(&[1, 1]);
    hung.entry(APP).or_default()[0].runs = false;
    judge.counted(at(11.0), &hung);
    assert_eq!(judge.owed().len(), 1);
    judge.counted(at(12.0), &living(&[1, 1]));
    assert_eq!(judge.owed().len(), 0);
    assert_eq!(rules(&judge), []);
}

#[test]
fn a_change_that_is_not_served_is_noticed_although_its_instances_are_there() {
    let mut judge = serving();
    judge.asked(at(10.0), &wanted(2, 2));
    judge.counted(at(100.0), &living(&[2, 2]));
    assert_eq!(rules(&judge), [Rule::NotServed]);
}

#[test]
fn too_many_instances_are_noticed() {
    let mut judge = serving();
    judge.asked(at(10.0), &wanted(1, 1));
    judge.answered(&answer(11.0, Ok(1)));
    judge.counted(at(100.0), &living(&[1, 1]));
    assert_eq!(rules(&judge), [Rule::NotAsAsked]);
}

#[test]
fn what_is_owed_comes_later_where_it_was_hindered_and_no_sooner() {
    let mut judge = serving();
    judge.lost(at(10.0), APP, REPLACED, "killed");
    judge.hinder(at(11.0), at(41.0));
    let by = 40.0 + REPLACED.as_secs_f64();
    judge.counted(at(by - 0.1), &living(&[1]));
    assert_eq!(rules(&judge), []);
    judge.counted(at(by + 0.1), &living(&[1]));
    assert_eq!(rules(&judge), [Rule::NotReplaced]);
}

#[test]
fn a_stream_may_end_by_its_own_app_s_change_and_by_no_other_s() {
    let mut judge = serving();
    judge.asked(at(200.0), &Wanted { name: Name(4), ..wanted(1, 1) });
    judge.cut(at(201.0), APP, "websocket", at(2.0), "closed");
    assert_eq!(rules(&judge), [Rule::StreamCut]);
    judge.asked(at(300.0), &wanted(1, 1));
    judge.cut(at(300.0) + DRAIN, APP, "websocket", at(201.0), "closed");
    assert_eq!(rules(&judge), [Rule::StreamCut]);
}

#[test]
fn an_app_that_was_removed_must_be_gone() {
    let mut judge = serving();
    judge.removed(at(10.0), APP);
    judge.answered(&answer(10.5, Err("status 404")));
    let after = at(10.0) + GONE;
    judge.answered(&answer(after.as_secs_f64() + 1.0, Ok(1)));
    assert_eq!(rules(&judge), [Rule::WrongVersion]);
    judge.counted(after + at(1.5), &living(&[1]));
    assert_eq!(rules(&judge), [Rule::WrongVersion, Rule::LeftBehind]);
}

#[test]
fn a_request_that_was_sent_before_the_removal_must_be_answered() {
    let mut judge = serving();
    judge.removed(at(10.0), APP);
    judge.answered(&Answer { ended: at(11.0), ..answer(9.5, Err("closed")) });
    assert_eq!(rules(&judge), [Rule::RequestLost]);
}

#[test]
fn a_route_that_was_given_up_must_not_lead_there() {
    let mut judge = serving();
    judge.asked(at(10.0), &Wanted { route: 1, ..wanted(1, 2) });
    judge.answered(&Answer { route: 1, ..answer(11.0, Ok(1)) });
    judge.answered(&answer(12.0, Ok(1)));
    judge.answered(&answer(13.0, Err("status 404")));
    assert_eq!(rules(&judge), []);
    judge.answered(&answer(11.0 + SERVED.as_secs_f64(), Ok(1)));
    assert_eq!(rules(&judge), [Rule::StillServed]);
}

#[test]
fn a_certificate_nobody_asked_for_is_noticed() {
    let mut judge = serving();
    judge.shown(at(3.0), APP, Some(0));
    judge.asked(at(10.0), &Wanted { certificate: 1, ..wanted(1, 2) });
    judge.shown(at(11.0), APP, Some(0));
    judge.shown(at(11.0), APP, Some(1));
    assert_eq!(rules(&judge), []);
    judge.shown(at(11.0) + SERVED, APP, Some(0));
    judge.shown(at(11.0) + SERVED, APP, None);
    assert_eq!(rules(&judge), [Rule::WrongVersion; 2]);
}
