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
            tokio::join!(restart(&desk, &ground, from, At::ZERO, WHY), keeper.kill());
            if let Err(error) = keeper.start().await {
                desk.say("platform", &format!("cannot be started: {error}"));
            }
        }
    }
}

/// Restarts it, and tells the judge what that excuses, from when, and what is owed once there is a platform again.
pub async fn restart(
    desk: &Desk,
    ground: &Arc<Ground>,
    from: At,
    platform_back: At,
    why: &'static str,
) {
    desk.judge().excuse(from, Scope::All, Excused::All, At::MAX, why);
    let engine = ground.clone();
    let restarted = blocking(move || engine.restart_engine()).await;
    let now = desk.now();
    let back = now.max(platform_back) + ENGINE_BACK;
    let mut judge = desk.judge();
    judge.ends(why, back);
    judge.hinder(from, back);
    judge.all_lost(from, REPLACED, why);
    if let Err(error) = restarted {
        judge.violate(now, Rule::Platform, format!("the engine: {error}"));
    }
}
