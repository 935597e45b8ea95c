//! A campaign from its beginning to its end.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use lb_examples::StageOptions;
use serde::Serialize;
use tokio::time::sleep;

use super::apps::Flaw;
use super::bounds::{GONE, SETTLES};
use super::changes::Changes;
use super::desk::Desk;
use super::faults::Faults;
use super::ground::Ground;
use super::judge::Rule;
use super::keeper::Keeper;
use super::load::Load;
use super::platform::Order;
use super::story::{Act, Story};
use super::{Arguments, Failure, blocking, engine, watch};

/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_millis(250);
/// Between two signs of life.
const SIGN: Duration = Duration::from_secs(10);

/// What is printed last.
#[derive(Debug, Serialize)]
struct Sum {
    engine: String,
    balancer: String,
    minutes: f64,
    seed: u64,
    changes: u64,
    faults: u64,
    requests: u64,
    failed: u64,
    violations: u64,
}

struct Campaign {
    desk: Arc<Desk>,
    ground: Arc<Ground>,
    keeper: Arc<Keeper>,
    changes: Changes,
    faults: Faults,
}

pub async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let ground = Arc::new(Ground::take(&arguments.stage, arguments.restart.clone())?);
    let desk = Arc::new(Desk::new(arguments.story));
    let words = platform_arguments(&ground);
    let keeper = Arc::new(Keeper::new(desk.clone(), words, ground.log()));
    let load = Load::new(desk.clone(), ground.common.clone());
    let mut campaign = Campaign {
        changes: Changes::new(desk.clone(), keeper.clone(), load, ground.common.clone()),
        faults: Faults::new(desk.clone(), keeper.clone(), ground.clone()),
        desk,
        ground,
        keeper,
    };
    let all = || (campaign.desk.clone(), campaign.ground.clone(), campaign.keeper.clone());
    let (desk, ground, keeper) = all();
    let watch = tokio::spawn(watch::watch(desk, ground, keeper));
    let (desk, ground, keeper) = all();
    let mind = tokio::spawn(engine::mind(desk, ground, keeper));
    let cancelled = tokio::select! {
        biased;
        () = cancelled() => true,
        told = campaign.tell(arguments) => { told?; false }
    };
    if cancelled {
        eprintln!(
            "cancelled: everything is removed; once more ends at once and leaves what there is"
        );
    }
    let ended = tokio::select! {
        biased;
        () = cancelled_again(cancelled) => Err("cancelled twice".into()),
        () = campaign.end(!cancelled) => Ok(()),
    };
    watch.abort();
    mind.abort();
    ended.and_then(|()| campaign.report(arguments, cancelled))
}

/// This program's own arguments do for the platform, but for where it is.
fn platform_arguments(ground: &Ground) -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    words.extend(["--cluster".into(), ground.common.cluster.clone().into()]);
    words.extend(["--directory".into(), ground.state().into()]);
    words
}

async fn cancelled() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A second time, where the first was.
async fn cancelled_again(once: bool) {
    match once {
        true => cancelled().await,
        false => std::future::pending().await,
    }
}

impl Campaign {
    async fn tell(&mut self, arguments: &Arguments) -> Result<(), Failure> {
        self.keeper.start().await?;
        let mut story = Story::new(arguments.seed, arguments.apps.max(4), self.ground.powers);
        for wanted in story.opening() {
            self.changes.deploy(&wanted).await;
        }
        let begun = self.desk.now();
        let length = Duration::from_secs_f64(arguments.minutes * 60.0);
        let mut sign = begun + SIGN;
        loop {
            let (at, act) = story.draw();
            if at >= length {
                break;
            }
            sleep((begun + at).saturating_sub(self.desk.now())).await;
            match act {
                Act::Change(change) => self.changes.make(&change).await,
                Act::Fault(fault) => self.faults.strike(&fault, &mut self.changes).await,
            }
            if self.desk.now() >= sign {
                sign = self.desk.now() + SIGN;
                self.show();
            }
        }
        self.settle().await;
        Ok(())
    }

    fn show(&self) {
        let judge = self.desk.judge();
        let (at, changes, faults) = (self.desk.now(), self.changes.count, self.faults.count);
        eprintln!(
            "{:.0} s: {changes} changes, {faults} faults, {} requests, {} failed, {} violations",
            at.as_secs_f64(),
            judge.requests,
            judge.failed,
            judge.count()
        );
    }

    /// Nothing happens any more: in time all must be as asked for, and the platform say so.
    async fn settle(&mut self) {
        self.desk.say("story", "ends; all must come to be as asked for");
        while self.faults.later.join_next().await.is_some() {}
        let start = self.desk.now();
        let deadline = start.max(self.desk.judge().hindered()) + SETTLES;
        loop {
            let owed = self.desk.judge().owed();
            let word = self.keeper.tell(&Order::Look).await.unwrap_or_default();
            let steady = self.steady();
            let unsettled = word.apps.iter().filter(|(n, app)| steady(n) && !app.settled);
            let unsettled: Vec<String> = unsettled.map(|(n, a)| format!("{n}: {a:?}")).collect();
            if owed.is_empty() && unsettled.is_empty() && word.troubles.is_empty() {
                self.desk.say("story", "all is as asked for");
                return;
            }
            if self.desk.now() > deadline {
                let text = format!(
                    "not settled in {SETTLES:?}: owed {owed:?}; {unsettled:?}; troubles {:?}; reasons {:?}",
                    word.troubles, word.reasons
                );
                self.desk.judge().violate(self.desk.now(), Rule::NotAsAsked, text);
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Whether an app is one that comes to rest: a trial does not, and what becomes of a version that crashes nobody
    /// says. One that is not asked for must go.
    fn steady(&self) -> impl Fn(&str) -> bool + '_ {
        |name| {
            let wanted = self.changes.wanted.values().find(|w| w.name.to_string() == name);
            wanted.is_none_or(|w| !w.trial && w.flaw != Some(Flaw::Crashes))
        }
    }

    /// Everything is removed, and nothing may be left.
    async fn end(&mut self, judged: bool) {
        self.faults.later.shutdown().await;
        self.changes.load.end().await;
        let _ = self.keeper.start().await;
        self.desk.say("story", "everything is removed");
        for wanted in self.changes.wanted.clone().into_values() {
            self.changes.remove(&wanted).await;
        }
        self.changes.load.end().await;
        self.faults.look_after_intruders().await;
        // Who stays in the cluster's network holds it.
        let ground = self.ground.clone();
        if let Err(error) = blocking(move || ground.end_intruders()).await {
            self.desk.say("story", &format!("somebody else's container stays: {error}"));
        }
        let deadline = self.desk.now() + GONE + SETTLES;
        while !self.is_gone().await && self.desk.now() < deadline {
            sleep(LOOK).await;
        }
        self.keeper.end().await;
        let ground = self.ground.clone();
        let left = blocking(move || Ok(ground.left_behind())).await.unwrap_or_default();
        if judged && !left.is_empty() {
            let text = format!("at the end: {left:?}");
            self.desk.judge().violate(self.desk.now(), Rule::LeftBehind, text);
        }
        self.desk.say_violations();
    }

    async fn is_gone(&self) -> bool {
        let word = self.keeper.tell(&Order::Look).await.unwrap_or_default();
        let ground = self.ground.clone();
        let left = blocking(move || Ok(ground.left_of_apps())).await;
        word.apps.is_empty() && left.is_ok_and(|left| left.is_empty())
    }

    fn report(&self, arguments: &Arguments, cancelled: bool) -> Result<ExitCode, Failure> {
        let (requests, failed, violations) = {
            let judge = self.desk.judge();
            (judge.requests, judge.failed, judge.count())
        };
        let sum = Sum {
            engine: arguments.stage.engine.to_string(),
            balancer: balancer(&arguments.stage),
            minutes: arguments.minutes,
            seed: arguments.seed,
            changes: self.changes.count,
            faults: self.faults.count,
            requests,
            failed,
            violations,
        };
        if violations != 0 {
            eprintln!("the story of seed {}:\n{}", arguments.seed, self.desk.story());
            let log = std::fs::read_to_string(self.ground.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(200);
            eprintln!("the platform's last words:\n{}", lines[last..].join("\n"));
        }
        self.ground.clear()?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&sum)?)?;
        Ok(match violations {
            0 if !cancelled => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

/// The balancer as the command line names it.
pub fn balancer(options: &StageOptions) -> String {
    let chosen = options.balancer.as_ref().and_then(ValueEnum::to_possible_value);
    let usual = match options.engine {
        lb_examples::Engine::Local => "in-process",
        _ => "haproxy",
    };
    chosen.map_or_else(|| usual.to_owned(), |value| value.get_name().to_owned())
}
