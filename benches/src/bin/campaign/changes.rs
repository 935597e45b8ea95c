//! Makes the changes of the story, and tells the judge what is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::apps::{Common, Name, Wanted};
use super::desk::Desk;
use super::judge::Rule;
use super::keeper::Keeper;
use super::load::Load;
use super::platform::Order;
use super::story::{Change, How};

/// Between two tries of what was refused.
const AGAIN: Duration = Duration::from_millis(500);

/// Asks for apps.
#[derive(Debug)]
pub struct Changes {
    pub desk: Arc<Desk>,
    pub keeper: Arc<Keeper>,
    pub load: Load,
    pub common: Common,
    /// The apps asked for now.
    pub wanted: BTreeMap<Name, Wanted>,
    pub count: u64,
}

impl Changes {
    pub const fn new(desk: Arc<Desk>, keeper: Arc<Keeper>, load: Load, common: Common) -> Self {
        Self { desk, keeper, load, common, wanted: BTreeMap::new(), count: 0 }
    }

    pub async fn make(&mut self, change: &Change) {
        let wanted = &change.wanted;
        self.count += 1;
        self.desk.say("change", &format!("{}: {}", change.how, words(wanted)));
        match change.how {
            How::Deployed => self.deploy(wanted).await,
            How::Undone(stays) => {
                self.deploy(wanted).await;
                sleep(stays).await;
                self.remove(wanted).await;
            }
            How::Removed => self.remove(wanted).await,
            How::Route => {
                let before = self.wanted.get(&wanted.name).cloned();
                self.load.go(wanted);
                self.ask(wanted).await;
                self.load.come(wanted);
                if let Some(before) = before {
                    self.load.haunt(&before);
                }
            }
            _ => self.ask(wanted).await,
        }
    }

    /// A new app, with its visitors.
    pub async fn deploy(&mut self, wanted: &Wanted) {
        self.ask(wanted).await;
        self.load.come(wanted);
    }

    /// Asks for an app as it is to be.
    pub async fn ask(&mut self, wanted: &Wanted) {
        self.wanted.insert(wanted.name, wanted.clone());
        self.desk.judge().asked(self.desk.now(), wanted);
        match wanted.app(&self.common) {
            Ok(app) => self.order(&Order::Deploy(Box::new(app))).await,
            Err(error) => self.refused(&error.to_string()),
        }
    }

    pub async fn remove(&mut self, wanted: &Wanted) {
        self.load.go(wanted);
        self.wanted.remove(&wanted.name);
        self.desk.judge().removed(self.desk.now(), wanted.name);
        self.withdraw(wanted.name).await;
        self.load.haunt(wanted);
    }

    async fn withdraw(&self, name: Name) {
        match name.to_string().parse() {
            Ok(name) => self.order(&Order::Remove(name)).await,
            Err(error) => self.refused(&format!("{name}: {error}")),
        }
    }

    /// Asks for everything as it is to be, as people do who know that the platform has lost something.
    pub async fn ask_again(&mut self) {
        for wanted in self.wanted.values() {
            match wanted.app(&self.common) {
                Ok(app) => self.order(&Order::Deploy(Box::new(app))).await,
                Err(error) => self.refused(&error.to_string()),
            }
        }
        let Some(word) = self.keeper.tell(&Order::Look).await else { return };
        let names = word.stored.iter().filter_map(|name| name.strip_prefix("app")?.parse().ok());
        for name in names.map(Name).filter(|name| !self.wanted.contains_key(name)) {
            self.withdraw(name).await;
        }
    }

    /// What is refused while nothing can be expected, as on a full disk, is asked for again.
    async fn order(&self, order: &Order) {
        loop {
            let word = self.keeper.tell(order).await;
            let Some(error) = word.and_then(|word| word.error) else { return };
            if self.desk.now() > self.desk.judge().hindered() {
                return self.refused(&error);
            }
            sleep(AGAIN).await;
        }
    }

    fn refused(&self, error: &str) {
        self.desk.judge().violate(self.desk.now(), Rule::Platform, format!("refused: {error}"));
    }
}

fn words(wanted: &Wanted) -> String {
    let Wanted { name, kind, replicas, route, certificate, flaw, trial, .. } = wanted;
    let flaw = flaw.map(|flaw| format!(", {flaw:?}")).unwrap_or_default();
    let trial = if *trial { ", on trial" } else { "" };
    let version = wanted.shown();
    format!(
        "{name} {kind:?} {version}{flaw}{trial} x{replicas} route {route} certificate {certificate}"
    )
}
