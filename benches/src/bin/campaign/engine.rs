//! An engine that hangs by itself, as Docker 20.10 does now and then: its network controller locks itself out, and from
//! then on it neither starts nor describes anything. It and the platform are started again, as an operator does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::blocking;
use super::bounds::{ENGINE_BACK, REPLACED};
use super::desk::Desk;
use super::ground::Ground;
use super::judge::{At, Excused, Rule, Scope};
use super::keeper::Keeper;

/// Between two questions.
const ASK: Duration = Duration::from_secs(2);
/// An engine that has not answered by then hangs. A platform that starts waits for it twice as long.
const HANGS: Duration = Duration::from_secs(5);
const WHY: &str = "the engine hung by itself";

/// Looks until it is dropped.
pub async fn mind(desk: Arc<Desk>, ground: Arc<Ground>, keeper: Arc<Keeper>) {
    while ground.restart.is_some() {
        sleep(ASK).await;
        let (from, restarts) = (desk.now(), ground.restarts());
        let asked = ground.clone();
        let answer = timeout(HANGS, blocking(move || asked.engine(&["info"]))).await;
        // One that is being restarted does not answer either.
        if answer.is_err() && ground.restarts() == restarts {
            desk.say("engine", "hangs by itself: it and the platform are started again");
            start_again(from, &desk, &ground, &keeper).await;
        }
    }
}

async fn start_again(from: At, desk: &Desk, ground: &Arc<Ground>, keeper: &Keeper) {
    desk.judge().excuse(from, Scope::All, Excused::All, At::MAX, WHY);
    keeper.kill().await;
    let engine = ground.clone();
    let restarted = blocking(move || engine.restart_engine()).await;
    let started = keeper.start().await;
    let back = desk.now() + ENGINE_BACK;
    let mut judge = desk.judge();
    judge.ends(WHY, back);
    judge.hinder(from, back);
    judge.all_lost(from, REPLACED, WHY);
    if let Err(error) = restarted.and(started) {
        judge.violate(desk.now(), Rule::Platform, format!("the engine: {error}"));
    }
}
