//! The platform as a process of its own, which can be killed: it is told what to do on its standard input, a line of JSON
//! each, and answers likewise. When the input ends it ends too, and the apps go on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lb_core::{
    App, AppName, AppStore, Deployment, FileAppStore, FileLeadership, FileLedgerStore, HostHandle,
    Orchestrator, Standing, Status,
};
use lb_examples::{Stage, StageOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Failure;

/// A deployment is waited for so long.
const LONGEST: Duration = Duration::from_secs(300);

/// What the platform is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    Deploy(Box<App>),
    Remove(AppName),
    Look,
    /// The balancer ends as well.
    End,
}

/// What it answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Word {
    /// Why the order was refused.
    pub error: Option<String>,
    pub leads: bool,
    /// The version of each app that it says is served; none while one is on trial.
    pub served: BTreeMap<String, String>,
    pub apps: BTreeMap<String, Seen>,
    /// The apps in the store, which may know some that are not in [`apps`](Self::apps) yet.
    pub stored: Vec<String>,
    pub reasons: Vec<String>,
    pub troubles: Vec<String>,
}

/// An app in the platform's eyes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    pub wanted: u32,
    pub ready: u32,
    pub settled: bool,
    pub failed: bool,
    pub instances: Vec<String>,
}

/// Where apps, ledger and leadership lie.
pub fn files(options: &StageOptions) -> PathBuf {
    options.directory.clone().unwrap_or_default().join("platform")
}

/// Runs until the input ends or it is told to.
pub async fn serve(options: &StageOptions) -> Result<(), Failure> {
    let stage = Stage::set(options).await?;
    let files = files(options);
    let apps = Arc::new(FileAppStore::open(&files).await?);
    let platform = Orchestrator::builder(stage.cluster.clone())
        .host(stage.facts.clone(), stage.handle.clone())
        .apps(apps.clone())
        .ledger(Arc::new(FileLedgerStore::new(&files)))
        .leadership(Arc::new(FileLeadership::new(&files)))
        .start()
        .await?;
    let served = Served::default();
    let mut orders = orders();
    while let Some(line) = orders.recv().await {
        let order: Order = serde_json::from_str(&line)?;
        let last = matches!(order, Order::End);
        let error =
            obey(&platform, &stage.handle, &served, order).await.err().map(|e| e.to_string());
        let mut word = word(&platform.status());
        word.error = error;
        word.stored = stored(apps.as_ref()).await?;
        word.served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&word)?)?;
        if last {
            return Ok(());
        }
    }
    platform.shutdown().await;
    Ok(())
}

async fn stored(apps: &impl AppStore) -> lb_core::Result<Vec<String>> {
    let now = apps.watch().next().await.transpose()?.unwrap_or_default();
    Ok(now.apps.keys().map(ToString::to_string).collect())
}

/// The lines of the input, until it ends.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.map(|line| sender.blocking_send(line)).take_while(Result::is_ok).for_each(drop);
    });
    orders
}

/// The version of each app whose deployment was served.
type Served = Arc<Mutex<BTreeMap<String, String>>>;

async fn obey(
    platform: &Orchestrator,
    host: &HostHandle,
    served: &Served,
    order: Order,
) -> lb_core::Result<()> {
    match order {
        Order::Deploy(app) => {
            forget(served, &app.name);
            let deployment = platform.deploy(&app).await?;
            if app.rollout.canary.is_none() {
                tokio::spawn(await_served(served.clone(), *app, deployment));
            }
            Ok(())
        }
        Order::Remove(name) => {
            forget(served, &name);
            platform.remove(&name).await.map(drop)
        }
        Order::Look => Ok(()),
        Order::End => {
            platform.shutdown().await;
            host.balancer.shutdown().await
        }
    }
}

fn forget(served: &Served, app: &AppName) {
    served.lock().unwrap_or_else(PoisonError::into_inner).remove(app.as_str());
}

/// One that a later change takes the place of ends with an error.
async fn await_served(served: Served, app: App, deployment: Deployment) {
    let version = app.env.iter().find(|(name, _)| name.as_str() == "VERSION");
    if let (Ok(_), Some((_, version))) = (deployment.served(LONGEST).await, version) {
        let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
        served.insert(app.name.to_string(), version.clone());
    }
}

fn word(status: &Status) -> Word {
    let apps = status.apps.iter().map(|(name, app)| {
        let instances =
            app.instances.iter().map(|i| format!("{} {:?} {:?}", i.id, i.state, i.server));
        let seen = Seen {
            wanted: app.wanted,
            ready: app.ready,
            settled: app.is_settled(),
            failed: app.failed.is_some(),
            instances: instances.collect(),
        };
        (name.to_string(), seen)
    });
    let troubles = status.troubles.iter().map(|(part, error)| format!("{part}: {error}"));
    let hosts = status.hosts.iter().flat_map(|(id, host)| {
        let error = host.error.iter().map(move |e| format!("host {id}: {e}"));
        error.chain(
            host.set_aside
                .iter()
                .map(|(part, why)| format!("set aside: {}: {why}", String::from(part.clone()))),
        )
    });
    Word {
        error: None,
        served: BTreeMap::new(),
        stored: Vec::new(),
        leads: matches!(status.standing, Standing::Leader(_)),
        apps: apps.collect(),
        reasons: status.reasons.iter().map(|r| r.text.clone()).collect(),
        troubles: troubles.chain(hosts).collect(),
    }
}
