//! The platform as a process of its own, which can be killed: it is told what to do on its standard input, a line of JSON
//! each, and answers likewise. When the input ends it ends too, and the apps go on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use lb_core::{
    App, AppName, FileAppStore, FileLeadership, FileLedgerStore, HostHandle, Orchestrator, Standing,
    Status,
};
use lb_examples::{Stage, StageOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Failure;

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
    pub apps: BTreeMap<String, Seen>,
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
    let platform = Orchestrator::builder(stage.cluster.clone())
        .host(stage.facts.clone(), stage.handle.clone())
        .apps(Arc::new(FileAppStore::open(&files).await?))
        .ledger(Arc::new(FileLedgerStore::new(&files)))
        .leadership(Arc::new(FileLeadership::new(&files)))
        .start()
        .await?;
    let mut orders = orders();
    while let Some(line) = orders.recv().await {
        let order: Order = serde_json::from_str(&line)?;
        let last = matches!(order, Order::End);
        let error = obey(&platform, &stage.handle, order).await.err().map(|e| e.to_string());
        let mut word = word(&platform.status());
        word.error = error;
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&word)?)?;
        if last {
            return Ok(());
        }
    }
    platform.shutdown().await;
    Ok(())
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

async fn obey(platform: &Orchestrator, host: &HostHandle, order: Order) -> lb_core::Result<()> {
    match order {
        Order::Deploy(app) => platform.deploy(&app).await.map(drop),
        Order::Remove(name) => platform.remove(&name).await,
        Order::Look => Ok(()),
        Order::End => {
            platform.shutdown().await;
            host.balancer.shutdown().await
        }
    }
}

fn word(status: &Status) -> Word {
    let apps = status.apps.iter().map(|(name, app)| {
        let instances = app.instances.iter().map(|i| format!("{} {:?} {:?}", i.id, i.state, i.server));
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
        error.chain(host.set_aside.iter().map(|(part, why)| {
            format!("set aside: {}: {why}", String::from(part.clone()))
        }))
    });
    Word {
        error: None,
        leads: matches!(status.standing, Standing::Leader(_)),
        apps: apps.collect(),
        reasons: status.reasons.iter().map(|r| r.text.clone()).collect(),
        troubles: troubles.chain(hosts).collect(),
    }
}
