//! Makes things go wrong as the story says, and tells the judge what that excuses and what is owed then.

mod files;
mod instances;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::bounds::{BALANCER_BACK, LED, NETWORK_BACK, PLATFORM_BACK, RETRIED};
use super::changes::Changes;
use super::desk::Desk;
use super::ground::Ground;
use super::judge::{At, Excused, Rule, Scope};
use super::keeper::Keeper;
use super::story::{Fault, File};
use super::{blocking, census, engine};

/// Does what goes wrong.
#[derive(Debug)]
pub struct Faults {
    pub desk: Arc<Desk>,
    pub keeper: Arc<Keeper>,
    pub ground: Arc<Ground>,
    /// When there is a platform again.
    pub platform_back: At,
    /// What ends by itself after a while.
    pub later: JoinSet<()>,
    pub count: u64,
    intruders: bool,
}

impl Faults {
    pub fn new(desk: Arc<Desk>, keeper: Arc<Keeper>, ground: Arc<Ground>) -> Self {
        let later = JoinSet::new();
        Self { desk, keeper, ground, platform_back: At::ZERO, later, count: 0, intruders: false }
    }

    pub async fn strike(&mut self, fault: &Fault, changes: &mut Changes) {
        self.count += 1;
        self.desk.say("fault", &fault.to_string());
        match fault {
            Fault::PlatformKilled { down } => self.kill_platform(*down).await,
            Fault::PlatformReplaced => self.replace_platform().await,
            Fault::Killed { app, all, deaths } => self.kill(*app, *all, *deaths).await,
            Fault::Paused { app } => self.pause(*app).await,
            Fault::OutOfMemory { app, deaths } => self.exhaust(*app, *deaths, changes).await,
            Fault::BalancerKilled => self.kill_balancer(),
            Fault::BalancerPaused { time } => self.pause_balancer(*time),
            Fault::NetworkRemoved => self.remove_network().await,
            Fault::EngineRestarted => {
                let (now, back, why) =
                    (self.desk.now(), self.platform_back, "the engine was restarted");
                engine::restart(&self.desk, &self.ground, now, back, why).await;
            }
            Fault::DiskFull { time } => self.fill_disk(*time),
            Fault::Damaged { file: File::Balancer, damage } => self.damage_balancer(*damage),
            Fault::Damaged { file, damage } => self.damage(*file, *damage, changes).await,
            Fault::PortTaken { time, wanted } => {
                self.take_port(*time, changes.common.first_port + wanted.port);
                changes.deploy(wanted).await;
                let now = self.desk.now();
                self.desk.judge().postpone(now, wanted.name, now + *time + RETRIED);
            }
            Fault::ForeignContainer => self.intrude().await,
        }
    }

    /// What ends with the platform where the balancer is in its process.
    fn without_platform(&self, back: At) {
        let now = self.desk.now();
        let mut judge = self.desk.judge();
        judge.hinder(now, back + LED);
        if !self.ground.powers.own_balancer {
            let why = "the balancer ended with the platform";
            judge.excuse(now, Scope::All, Excused::All, back + PLATFORM_BACK, why);
        }
    }

    async fn kill_platform(&mut self, down: Duration) {
        self.platform_back = self.desk.now() + down;
        self.without_platform(self.platform_back);
        self.keeper.kill().await;
        let (keeper, desk) = (self.keeper.clone(), self.desk.clone());
        self.later.spawn(async move {
            sleep(down).await;
            match keeper.start().await {
                Ok(()) => desk.say("platform", "is started again"),
                Err(error) => desk.say("platform", &format!("cannot be started: {error}")),
            }
        });
    }

    async fn replace_platform(&mut self) {
        let now = self.desk.now();
        self.without_platform(now + LED);
        // One that is to come back later finds another in its place.
        if let Err(error) = self.keeper.replace().await {
            let text = format!("a second one cannot be started: {error}");
            self.desk.judge().violate(now, Rule::Platform, text);
        }
        self.without_platform(self.desk.now() + LED);
    }

    fn kill_balancer(&self) {
        let now = self.desk.now();
        let back = now.max(self.platform_back) + BALANCER_BACK;
        {
            let mut judge = self.desk.judge();
            judge.excuse(now, Scope::All, Excused::All, back, "the balancer was killed");
            judge.hinder(now, back);
        }
        census::signal(&census::balancer(&self.ground.state()), Signal::KILL);
    }

    fn pause_balancer(&mut self, time: Duration) {
        let now = self.desk.now();
        // Table and checks rest as well, and a table that was not taken in time is tried again.
        self.desk.judge().hinder(now, now + 2 * time);
        let pids = census::balancer(&self.ground.state());
        census::signal(&pids, Signal::STOP);
        let desk = self.desk.clone();
        self.later.spawn(async move {
            sleep(time).await;
            census::signal(&pids, Signal::CONT);
            desk.say("balancer", "goes on");
        });
    }

    async fn remove_network(&self) {
        let now = self.desk.now();
        let back = now.max(self.platform_back) + NETWORK_BACK;
        {
            let mut judge = self.desk.judge();
            judge.excuse(now, Scope::All, Excused::All, back, "the network was removed");
            judge.hinder(now, back);
        }
        let ground = self.ground.clone();
        if let Err(error) = blocking(move || ground.remove_networks()).await {
            self.desk.say("fault", &format!("the network stays: {error}"));
        }
    }

    fn take_port(&mut self, time: Duration, port: u16) {
        let Ok(held) = TcpListener::bind(("0.0.0.0", port)) else {
            self.desk.say("fault", &format!("port {port} is taken already"));
            return;
        };
        let desk = self.desk.clone();
        self.later.spawn(async move {
            sleep(time).await;
            drop(held);
            desk.say("port", &format!("{port} is free"));
        });
    }

    async fn intrude(&mut self) {
        self.look_after_intruders().await;
        let ground = self.ground.clone();
        match blocking(move || ground.intrude()).await {
            Ok(()) => self.intruders = true,
            Err(error) => self.desk.say("fault", &format!("no foreign container: {error}")),
        }
    }

    /// What belongs to somebody else must be there still.
    pub async fn look_after_intruders(&mut self) {
        let ground = self.ground.clone();
        let Ok((_, there)) = blocking(move || Ok(ground.intruders())).await else { return };
        if std::mem::take(&mut self.intruders) && there == 0 {
            let text = "somebody else's container was removed".to_owned();
            self.desk.judge().violate(self.desk.now(), Rule::Foreign, text);
        }
    }
}
