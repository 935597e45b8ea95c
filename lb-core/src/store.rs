//! What must outlive the process, and who leads.

mod disk;
mod file;
mod latest;
mod salvage;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use self::file::{FileAppStore, FileLeadership, FileLedgerStore};
pub(crate) use self::latest::Latest;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::model::{App, AppName, Claim, shown};
use crate::scale::LoadSample;

/// The apps wanted, by name, and what a person should know of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSet {
    /// By name.
    pub apps: BTreeMap<AppName, StoredApp>,
    /// What of them was lost, such as the last change with a damaged file, for as long as nobody has seen to it.
    /// The apps are to be believed all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Error>,
}

impl Deref for AppSet {
    type Target = BTreeMap<AppName, StoredApp>;
    fn deref(&self) -> &Self::Target {
        &self.apps
    }
}

impl DerefMut for AppSet {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.apps
    }
}

/// An app as a store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredApp {
    /// The app.
    pub app: Arc<App>,
    /// Of the latest `put`.
    pub generation: Generation,
    /// Of the latest `put` that was a [`Deploy`](AppChange::Deploy).
    pub deploy: Generation,
}

/// Counts the `put`s of an app: each has a higher one than all before.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::str::FromStr for Generation {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let number = crate::model::whole(text).map(Self);
        number.ok_or_else(|| Error::invalid(shown("generation", text), "must be a whole number"))
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a `put` means for an app that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppChange {
    /// A deploy: what its image's tag means is looked up again, and what failed before is tried again, also
    /// when nothing in it is new.
    Deploy,
    /// A change of what is deployed, such as a count set by hand: the tag keeps the meaning it has.
    Adjust,
}

/// The desired apps.
///
/// # Contract
/// - `put` of an app refuses one whose [`Claim`](crate::Claim)s clash with another app's, naming the owner.
/// - Generations of an app's `put`s rise strictly, over restarts of the store and when the app was removed
///   between them.
/// - A call that returned `Ok` has reached stable storage, where there is one.
/// - All calls are idempotent; cancelling one leaves it done or not done.
#[async_trait]
pub trait AppStore: Debug + Send + Sync + 'static {
    /// Adds or replaces; gives the generation. An app that is not there is deployed, whatever `change` says.
    ///
    /// # Errors
    /// `Conflict` naming the owner of a claim; `Unavailable` if the store cannot be written.
    async fn put(&self, app: &App, change: AppChange) -> Result<Generation>;

    /// Removes. Absent is success.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be written.
    async fn remove(&self, name: &AppName) -> Result<()>;

    /// All apps now, and again after each `put` and `remove`. Never ends; an `Err` item says the store cannot be
    /// believed right now. A slow reader sees the latest set.
    fn watch(&self) -> BoxStream<'static, Result<Arc<AppSet>>>;
}

/// The planner's ledger. Losing it costs delay, never safety.
#[async_trait]
pub trait LedgerStore: Debug + Send + Sync + 'static {
    /// The ledger saved last, `None` at first.
    ///
    /// # Errors
    /// `Corrupt` when neither it nor the one before can be read; `Unsupported` when its schema is newer.
    async fn load(&self) -> Result<Option<Ledger>>;

    /// Saves it, replacing the one before as a whole.
    ///
    /// # Errors
    /// `Fenced` when a leader of a higher term has saved; `Unavailable` if it cannot be written.
    async fn save(&self, ledger: &Ledger, term: Term) -> Result<()>;
}

/// Measurements of the past, for policies that learn from them. Cancelling a call leaves it done or not done.
#[async_trait]
pub trait LoadStore: Debug + Send + Sync + 'static {
    /// Adds a sample; the store keeps a bounded number an app and drops the oldest.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be written.
    async fn append(&self, app: &AppName, sample: &LoadSample) -> Result<()>;

    /// The latest `most` samples of an app, oldest first.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be read.
    async fn recent(&self, app: &AppName, most: usize) -> Result<Vec<LoadSample>>;
}

/// Counts leaders: each new one has a higher term than all before.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

/// Whether this process leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It leads, in this term.
    Leader(Term),
    /// Another leads, or nobody yet.
    Follower,
}

/// Chooses one leader among processes.
///
/// # Contract
/// At most one process believes itself leader of a term; terms never repeat and only rise. Between two
/// terms both may believe: the term fences the older.
pub trait Leadership: Debug + Send + Sync + 'static {
    /// Stands for election: the standing now, and again at each change. Dropping the stream resigns, also while
    /// it waits; dropping the wait for an item loses none.
    fn campaign(&self) -> BoxStream<'static, Result<Standing>>;
}

/// Puts an app into the set, as of this generation.
pub(crate) fn put_into(
    apps: &mut BTreeMap<AppName, StoredApp>,
    app: Arc<App>,
    change: AppChange,
    generation: Generation,
) -> Result<()> {
    refuse_clashes(apps, &app)?;
    let deploy = match (change, apps.get(&app.name)) {
        (AppChange::Adjust, Some(known)) => known.deploy,
        _ => generation,
    };
    apps.insert(app.name.clone(), StoredApp { app, generation, deploy });
    Ok(())
}

/// Refuses an app whose claims clash with another app's, naming the owner.
fn refuse_clashes(apps: &BTreeMap<AppName, StoredApp>, app: &App) -> Result<()> {
    for (port_name, port) in &app.ports {
        for claim in port.claims() {
            let Some(owner) = owner_of(apps, app, &claim) else { continue };
            let subject = format!("app \"{}\": port \"{port_name}\"", app.name);
            let rule = format!("{claim} is already claimed by app \"{owner}\"");
            return Err(Error::new(ErrorKind::Conflict, "put", subject, rule));
        }
    }
    Ok(())
}

fn owner_of<'a>(
    apps: &'a BTreeMap<AppName, StoredApp>,
    app: &App,
    claim: &Claim,
) -> Option<&'a AppName> {
    let clashes = |other: &App| {
        other.ports.values().flat_map(crate::model::Port::claims).any(|c| c.clashes(claim))
    };
    let mut others = apps.values().map(|other| &other.app).filter(|other| other.name != app.name);
    others.find(|other| clashes(other)).map(|other| &other.name)
}

/// A write of a term that is over.
pub(crate) fn fenced(term: Term, seen: Term) -> Error {
    let rule = format!("term {} is over, a leader of term {} has saved", term.0, seen.0);
    Error::new(ErrorKind::Fenced, "save", "ledger", rule)
}
