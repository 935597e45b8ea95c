//! Waiting for a change of an app: until its clients are served by it, or it is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::Orchestrator;
use super::stage::{Question, Stage};
use crate::balancer::ProbeAnswer;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AppName, HostId, Revision};
use crate::store::Generation;

/// Least time between two rounds of questions to listeners.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// An app may answer 502, 503 or 504 itself. What a listener says for so long while its balancer shows all as
/// it should be is taken for the app's own word.
const OWN_WORD: Duration = Duration::from_secs(5);

/// A change of an app that was stored: a deploy, or a count set by hand.
///
/// Dropping it changes nothing: the platform goes on with the change.
#[derive(Debug, Clone)]
pub struct Deployment {
    platform: Orchestrator,
    app: AppName,
    generation: Generation,
}

/// What [`Deployment::served`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Served {
    /// The revision that serves.
    pub revision: Revision,
    /// What each listener of the app answered, by host and outside port. Empty where nothing is wanted: no
    /// outside port, or no instance.
    pub answers: BTreeMap<HostId, BTreeMap<u16, ProbeAnswer>>,
}

impl Deployment {
    pub(super) const fn new(platform: Orchestrator, app: AppName, generation: Generation) -> Self {
        Self { platform, app, generation }
    }

    /// Which app.
    pub const fn app(&self) -> &AppName {
        &self.app
    }

    /// Which of its changes.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Waits until clients of every listener of the app are served by this change: as many instances as are
    /// wanted (of a canary: those of the trial) are ready, every balancer that has the app was seen to have the
    /// table with them in force and nothing of the app set aside, and each listener, asked as a client does
    /// ([`LoadBalancer::probe`](crate::LoadBalancer::probe)), answers.
    ///
    /// A listener with TLS, or of a TCP port, is asked for a connection; of an HTTP port `GET` of the first route
    /// is asked for, and any status but 502, 503 and 504 is an answer. These are too once they stand for 5 s.
    ///
    /// # Errors
    /// - `RolledBack` when the version was not ready in time and the one before serves again, with the last lines
    ///   of what failed.
    /// - `Timeout` at the deadline, with what stands in the way; the platform goes on trying.
    /// - `Conflict` when a later change took its place, `NotFound` when the app was removed.
    /// - `Unavailable` when the loop ends.
    pub async fn served(&self, deadline: Duration) -> Result<Served> {
        let mut obstacles = Vec::new();
        match tokio::time::timeout(deadline, self.wait(&mut obstacles)).await {
            Ok(result) => result.map_err(|e| e.within(format!("app \"{}\"", self.app))),
            Err(_) => Err(late(&self.app, "is not served", deadline, &obstacles)),
        }
    }

    /// Keeps in `obstacles` what stands in the way, for whom the time runs out.
    async fn wait(&self, obstacles: &mut Vec<String>) -> Result<Served> {
        let mut news = self.platform.shared().snapshot.subscribe();
        let mut met = false;
        let time = &self.platform.shared().time;
        let mut in_force = None;
        loop {
            let snapshot = news.borrow_and_update().clone();
            match snapshot.stage(&self.app, self.generation, met) {
                Stage::Over(error) => return Err(error),
                Stage::Unheard(why) => *obstacles = vec![why],
                Stage::Waits(why) => (met, in_force, *obstacles) = (true, None, why),
                Stage::InForce { revision, questions } => {
                    met = true;
                    let now = time.now();
                    let own_word = now.since(*in_force.get_or_insert(now.monotonic)) >= OWN_WORD;
                    match ask_all(questions, own_word).await {
                        Ok(answers) => return Ok(Served { revision, answers }),
                        Err(why) => *obstacles = why,
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                    // Answers may change without a pass.
                    news.mark_changed();
                }
            }
            self.platform.shared().next_pass(&mut news).await?;
        }
    }
}

type Answers = BTreeMap<HostId, BTreeMap<u16, ProbeAnswer>>;

/// Asks all listeners at once: what they answered, or why they do not serve.
async fn ask_all(questions: Vec<Question>, own_word: bool) -> Result<Answers, Vec<String>> {
    let asked = questions.into_iter().map(|Question { link, probe }| async move {
        let answer = link.handle.balancer.probe(&probe).await;
        (link.host.clone(), probe.port, answer)
    });
    let (mut answers, mut wrong) = (Answers::new(), Vec::new());
    for (host, port, answer) in join_all(asked).await {
        match answer {
            Ok(ProbeAnswer::Status(status @ 502..=504)) if !own_word => {
                wrong.push(format!("listener {port} on host \"{host}\" answers {status}"));
            }
            Ok(answer) => drop(answers.entry(host).or_default().insert(port, answer)),
            Err(error) => wrong.push(format!("listener {port} on host \"{host}\": {error}")),
        }
    }
    if wrong.is_empty() { Ok(answers) } else { Err(wrong) }
}

fn late(app: &AppName, what: &str, deadline: Duration, obstacles: &[String]) -> Error {
    let text = format!("{what} within {deadline:?}: {}", obstacles.join("; "));
    Error::new(ErrorKind::Timeout, "wait for", format!("app \"{app}\""), text)
}

/// The removal of an app that was stored.
#[derive(Debug, Clone)]
pub struct Removal {
    platform: Orchestrator,
    app: AppName,
}

impl Removal {
    pub(super) const fn new(platform: Orchestrator, app: AppName) -> Self {
        Self { platform, app }
    }

    /// Waits until nothing of the app is left: no instance, and no balancer that may lead to one.
    ///
    /// # Errors
    /// `Timeout` at the deadline, with what stands in the way; `Conflict` when the app was deployed again;
    /// `Unavailable` when the loop ends.
    pub async fn gone(&self, deadline: Duration) -> Result<()> {
        let mut obstacles = Vec::new();
        match tokio::time::timeout(deadline, self.wait(&mut obstacles)).await {
            Ok(result) => result,
            Err(_) => Err(late(&self.app, "is not gone", deadline, &obstacles)),
        }
    }

    async fn wait(&self, obstacles: &mut Vec<String>) -> Result<()> {
        let mut news = self.platform.shared().snapshot.subscribe();
        let mut heard = false;
        loop {
            let snapshot = news.borrow_and_update().clone();
            match snapshot.left_of(&self.app) {
                Some(left) if left.is_wanted && heard => {
                    let subject = format!("app \"{}\"", self.app);
                    let text = "it was deployed again";
                    return Err(Error::new(ErrorKind::Conflict, "wait for", subject, text));
                }
                Some(left) => {
                    heard |= !left.is_wanted;
                    *obstacles = left.obstacles;
                }
                None => return Ok(()),
            }
            self.platform.shared().next_pass(&mut news).await?;
        }
    }
}
