//! Instances that end, hang, or take too much.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::timeout;

use super::Faults;
use crate::apps::{Kind, Name};
use crate::bounds::{HUNG, IN_FLIGHT, NOTICED, REPLACED, crash_wait};
use crate::census::{self, Instance};
use crate::changes::Changes;
use crate::client::Connection;
use crate::judge::{At, Excused, Scope};

/// What an instance is told to hold: more than it may.
const TOO_MUCH: &str = "/hog?mib=512";

impl Faults {
    fn of(&self, app: Name) -> Vec<Instance> {
        census::instances(&self.ground.common.cluster).remove(&app).unwrap_or_default()
    }

    /// Whether others of the app serve, as far as the platform says, while `victims` do not. In the middle of a rollout
    /// they may be about to leave.
    async fn others_serve(&self, app: Name, living: &[Instance], victims: usize) -> bool {
        let word = self.keeper.try_tell(&crate::platform::Order::Look).await;
        let seen = word.and_then(|word| word.apps.get(&app.to_string()).cloned());
        let ready = seen.filter(|app| app.settled).map_or(0, |app| app.ready as usize);
        let running = living.iter().filter(|i| i.runs).count();
        ready.min(running) > victims
    }

    /// From when on something can be expected.
    fn able(&self) -> At {
        self.desk.now().max(self.platform_back).max(self.desk.judge().hindered())
    }

    pub(super) async fn kill(&mut self, app: Name, all: bool, deaths: u32) {
        let living = self.of(app);
        let victims = if all { living.len() } else { living.len().min(1) };
        let others = self.others_serve(app, &living, victims).await;
        let victims: Vec<u32> = living.iter().take(victims).map(|i| i.pid).collect();
        self.will_end(app, others, deaths, "killed");
        census::signal(&victims, Signal::KILL);
    }

    /// Tells what an instance's sudden end excuses, and what is owed.
    fn will_end(&self, app: Name, others: bool, deaths: u32, why: &'static str) {
        let now = self.desk.now();
        let within = REPLACED + crash_wait(deaths);
        let gap = match others {
            true => IN_FLIGHT,
            false => self.able().saturating_sub(now) + within,
        };
        let mut judge = self.desk.judge();
        judge.excuse(now, Scope::App(app), Excused::All, now + gap, why);
        judge.lost(now, app, within, why);
    }

    pub(super) async fn pause(&mut self, app: Name) {
        let living = self.of(app);
        let Some(victim) = living.iter().find(|i| i.runs) else { return };
        let others = self.others_serve(app, &living, 1).await;
        let now = self.desk.now();
        let gone = self.able() + NOTICED + HUNG;
        let until = if others { self.able() + NOTICED } else { gone };
        {
            let mut judge = self.desk.judge();
            judge.excuse(now, Scope::App(app), Excused::All, until, "an instance hangs");
            judge.excuse(now, Scope::App(app), Excused::Streams, gone, "an instance hangs");
            judge.lost(now, app, NOTICED + HUNG, "paused");
        }
        census::signal(&[victim.pid], Signal::STOP);
    }

    pub(super) async fn exhaust(&mut self, app: Name, deaths: u32, changes: &Changes) {
        let wanted = changes.wanted.get(&app).filter(|wanted| wanted.kind != Kind::Raw);
        let Some(wanted) = wanted else { return self.kill(app, false, deaths).await };
        let living = self.of(app);
        let others = self.others_serve(app, &living, 1).await;
        self.will_end(app, others, deaths, "out of memory");
        let target = changes.load.target(wanted);
        self.later.spawn(async move {
            let ask = async {
                let mut connection = Connection::open(&target).await.ok()?;
                // A POST, which goes to one instance and no other.
                connection.ask(&target, "POST", TOO_MUCH, "Connection: close\r\n", b"").await.ok()
            };
            let _ = timeout(Duration::from_secs(10), ask).await;
        });
    }
}
