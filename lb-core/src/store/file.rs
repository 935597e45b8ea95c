//! Apps, ledger and leadership in the files of one directory: enough for a platform on one machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::disk::{io_error, open_lock, shown};
use super::salvage::Salvage;
use super::snapshot::{Fallback, Mark, Payload, Reading, Snapshot};
use super::{
    AppChange, AppSet, AppStore, Generation, Latest, Leadership, LedgerStore, Standing, StoredApp,
    Term, fenced, put_into,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::model::{App, AppName};
use crate::time::{Clock, SystemClock};

/// Schema of `apps.json`: all apps by name with their generations, and the latest of these. In schema 1 it was
/// the apps alone.
const APPS_SCHEMA: u32 = 2;
/// Schema of `ledger.json`: the ledger and the term that saved it.
const LEDGER_SCHEMA: u32 = 1;
/// Schema of `term.json`: the latest term begun.
const TERM_SCHEMA: u32 = 1;
/// Time between two looks at a lock that another process holds.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Longest time between two tries after errors; it doubles from [`LOOK_AGAIN`].
const LOOK_AGAIN_MOST: Duration = Duration::from_secs(30);

/// An [`AppStore`] in `apps.json` of a directory.
///
/// The file holds secrets and is readable by its owner only. A damaged file gives way to
/// `apps.previous.json`; watchers hear so ([`AppSet::trouble`]) with what was lost, as long as the damaged file
/// is there: the next change keeps it aside as `apps.json.damaged`. Other processes may put apps too: whoever watches hears of it within a second.
#[derive(Debug)]
pub struct FileAppStore(Arc<AppFile>);

#[derive(Debug)]
struct AppFile {
    file: Snapshot<Kept>,
    apps: Latest<Arc<AppSet>>,
    /// Changes are told in the order they are made.
    turns: Turns,
}

/// What `apps.json` holds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of the latest `put`, also of an app that was removed.
    generation: Generation,
    apps: BTreeMap<AppName, StoredApp>,
}

impl Payload for Kept {
    fn read(schema: u32, text: &str) -> serde_json::Result<Self> {
        if schema > 1 {
            return serde_json::from_str(text);
        }
        let apps: BTreeMap<AppName, Arc<App>> = serde_json::from_str(text)?;
        let generation = Generation::default();
        let stored = |app| StoredApp { app, generation, deploy: generation };
        let apps = apps.into_iter().map(|(name, app)| (name, stored(app))).collect();
        Ok(Self { generation, apps })
    }
}

impl Kept {
    /// The next generation. It counts milliseconds of the wall clock where that is ahead, so that none comes
    /// again when the file was lost, or gave way to the one before.
    fn next(&self) -> Generation {
        let now = SystemClock::new().now().wall.as_millisecond();
        self.generation.next().max(Generation(u64::try_from(now).unwrap_or_default()))
    }
}

impl FileAppStore {
    /// Reads the apps kept in `directory`, which need not exist yet.
    ///
    /// # Errors
    /// `Corrupt` when neither the file nor the one before can be read; `Unsupported` when its schema is
    /// newer; `Unavailable` for an error of the file system.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let file = Snapshot::new(directory.into(), "apps", APPS_SCHEMA, Fallback::Previous);
        let open = move || {
            let apps = Latest::new(Ok(Arc::new(set(&file, file.read()?))));
            Ok(Self(Arc::new(AppFile { file, apps, turns: Turns::default() })))
        };
        blocking("open", open).await
    }

    async fn change(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut Kept) -> Result<()> + Send + 'static,
    ) -> Result<Generation> {
        let store = self.0.clone();
        let work = move || {
            let kept = store.file.update(|old| {
                let mut kept = old.unwrap_or_default();
                change(&mut kept).map(|()| kept)
            })?;
            let generation = kept.generation;
            store.apps.tell_news(Arc::new(set(&store.file, Reading::whole(kept))));
            Ok(generation)
        };
        self.0.turns.take(operation, work).await
    }
}

impl AppFile {
    /// Tells what another process wrote, if the file is not the one it was; the mark it has now.
    async fn look(self: Arc<Self>, known: Option<Mark>) -> Result<Option<Mark>> {
        let store = self.clone();
        let look = move || {
            let mark = Some(store.file.mark()?);
            if mark != known {
                store.apps.tell_news(Arc::new(set(&store.file, store.file.read()?)));
            }
            Ok(mark)
        };
        self.turns.take("watch", look).await
    }
}

/// The apps as they were read, and what was lost of them.
fn set(file: &Snapshot<Kept>, reading: Reading<Kept>) -> AppSet {
    let Kept { apps, .. } = reading.value.unwrap_or_default();
    let damaged: Vec<PathBuf> = file.aside().chain(reading.damage.map(|_| file.file())).collect();
    let trouble = (!damaged.is_empty()).then(|| trouble(&damaged, &apps));
    AppSet { apps, trouble }
}

fn trouble(damaged: &[PathBuf], apps: &BTreeMap<AppName, StoredApp>) -> Error {
    let read: Vec<_> = damaged.iter().flat_map(|path| Salvage::read(path).apps).collect();
    let is_newer = |(name, generation): &&(AppName, Generation)| {
        apps.get(name).is_none_or(|known| known.generation < *generation)
    };
    let lost: BTreeSet<_> =
        read.iter().filter(is_newer).map(|(name, _)| format!("\"{name}\"")).collect();
    let what = match (lost.is_empty(), read.is_empty()) {
        (false, _) => {
            format!("lost was what it says of {}", lost.into_iter().collect::<Vec<_>>().join(", "))
        }
        (true, true) => "which app its last change was of cannot be read".to_owned(),
        (true, false) => "what can be read of it is there again".to_owned(),
    };
    let rule = format!(
        "is damaged, and the apps are those of before its last change: {what}. Deploy or remove again what is \
         missing, and delete the damaged file"
    );
    let paths: Vec<_> = damaged.iter().map(|path| shown(path)).collect();
    Error::new(ErrorKind::Corrupt, "read", paths.join(", "), rule)
}

#[async_trait]
impl AppStore for FileAppStore {
    async fn put(&self, app: &App, change: AppChange) -> Result<Generation> {
        let app = Arc::new(app.clone());
        let put = move |kept: &mut Kept| {
            kept.generation = kept.next();
            put_into(&mut kept.apps, app, change, kept.generation)
        };
        self.change("put", put).await
    }

    async fn remove(&self, name: &AppName) -> Result<()> {
        let name = name.clone();
        let remove = move |kept: &mut Kept| {
            kept.apps.remove(&name);
            Ok(())
        };
        self.change("remove", remove).await.map(drop)
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<AppSet>>> {
        let watched = (self.0.clone(), self.0.apps.watch(), None);
        stream::unfold(watched, |(store, mut news, mut mark)| async move {
            loop {
                tokio::select! {
                    apps = news.next() => return Some((apps?, (store, news, mark))),
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
                match store.clone().look(mark).await {
                    Ok(now) => mark = now,
                    // What is told stays: another look follows.
                    Err(error) => tracing::warn!(%error, "apps of other processes are not heard"),
                }
            }
        })
        .boxed()
    }
}

/// A [`LedgerStore`] in `ledger.json` of a directory. A damaged file gives way to `ledger.previous.json`; where both
/// are, the next ledger is begun anew. What was damaged is kept aside as `ledger.json.damaged`.
#[derive(Debug)]
pub struct FileLedgerStore {
    file: Arc<Snapshot<Saved>>,
    turns: Turns,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    term: Term,
    ledger: Ledger,
}

impl Payload for Saved {}

impl FileLedgerStore {
    /// The ledger kept in `directory`, which need not exist yet. Reads nothing.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            file: Arc::new(Snapshot::new(
                directory.into(),
                "ledger",
                LEDGER_SCHEMA,
                Fallback::Anew,
            )),
            turns: Turns::default(),
        }
    }
}

#[async_trait]
impl LedgerStore for FileLedgerStore {
    async fn load(&self) -> Result<Option<Ledger>> {
        let file = self.file.clone();
        let saved = blocking("load", move || file.read()).await?;
        if let Some(error) = saved.damage {
            tracing::warn!(%error, "the ledger before it is taken");
        }
        Ok(saved.value.map(|saved| saved.ledger))
    }

    async fn save(&self, ledger: &Ledger, term: Term) -> Result<()> {
        let (file, ledger) = (self.file.clone(), ledger.clone());
        let save = move || {
            file.update(|old| match old {
                Some(old) if old.term > term => Err(fenced(term, old.term)),
                _ => Ok(Saved { term, ledger }),
            })
        };
        self.turns.take("save", save).await.map(drop)
    }
}

/// A [`Leadership`] by a lock on `leader.lock` of a directory, which the system releases when the process
/// ends however it ends. `term.json` counts: it is written before a term begins, so no term repeats.
///
/// For processes of one machine, or of a file system that carries `flock` between machines. The lock is
/// of the file itself: do not delete it while a process runs.
#[derive(Debug, Clone)]
pub struct FileLeadership {
    directory: Arc<Path>,
}

impl FileLeadership {
    /// Leadership among the processes that name this directory, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into().into() }
    }
}

impl Leadership for FileLeadership {
    fn campaign(&self) -> BoxStream<'static, Result<Standing>> {
        let candidate = Candidate {
            directory: self.directory.clone(),
            held: None,
            begun: None,
            follows: false,
            pause: Duration::ZERO,
        };
        stream::unfold(candidate, |mut candidate| async move {
            let standing = candidate.next().await;
            Some((standing, candidate))
        })
        .boxed()
    }
}

#[derive(Debug)]
struct Candidate {
    directory: Arc<Path>,
    /// The lock, while it leads.
    held: Option<std::fs::File>,
    /// A term that has begun and was not told yet.
    begun: Option<Term>,
    /// Whether it has been told that it follows.
    follows: bool,
    pause: Duration,
}

impl Candidate {
    /// The standing once it differs from what was told before, or an error.
    async fn next(&mut self) -> Result<Standing> {
        if let Some(term) = self.begun.take() {
            return Ok(Standing::Leader(term));
        }
        if self.held.is_some() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(self.pause).await;
            let directory = self.directory.clone();
            match blocking("campaign", move || take_seat(&directory)).await {
                Ok(Some(Seat { lock, term, damage })) => {
                    self.held = Some(lock);
                    let Some(damage) = damage else { return Ok(Standing::Leader(term)) };
                    self.begun = Some(term);
                    return Err(damage);
                }
                Ok(None) => {
                    self.pause = LOOK_AGAIN;
                    if !std::mem::replace(&mut self.follows, true) {
                        return Ok(Standing::Follower);
                    }
                }
                Err(e) => {
                    self.pause = (self.pause * 2).clamp(LOOK_AGAIN, LOOK_AGAIN_MOST);
                    self.follows = false;
                    return Err(e);
                }
            }
        }
    }
}

impl Payload for Term {}

/// The term that saved a ledger; the rest of it does not matter here.
#[derive(Debug, Serialize, Deserialize)]
struct SavedBy {
    term: Term,
}

impl Payload for SavedBy {}

struct Seat {
    lock: std::fs::File,
    term: Term,
    /// What was wrong with the counter.
    damage: Option<Error>,
}

/// Takes the lock and begins the next term; `None` while another holds it.
///
/// A counter that was lost begins above the term of the ledger, a damaged one also above all that can have been
/// counted: at the milliseconds of the wall clock.
fn take_seat(directory: &Path) -> Result<Option<Seat>> {
    let path = directory.join("leader.lock");
    std::fs::create_dir_all(directory).map_err(|e| io_error("make", directory, e))?;
    let lock = open_lock(&path).map_err(|e| io_error("open", &path, e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
        Err(std::fs::TryLockError::Error(e)) => return Err(io_error("lock", &path, e)),
    }
    let counter =
        Snapshot::<Term>::new(directory.to_owned(), "term", TERM_SCHEMA, Fallback::Refuse);
    let damage = counter.read().err().filter(|e| e.kind() == ErrorKind::Corrupt);
    let ledger =
        Snapshot::<SavedBy>::new(directory.to_owned(), "ledger", LEDGER_SCHEMA, Fallback::Anew);
    let saved = ledger.read().ok().and_then(|ledger| ledger.value).map(|by| by.term);
    let now = SystemClock::new().now().wall.as_millisecond();
    let above = Term(u64::try_from(now).unwrap_or_default());
    let term = counter.update_from(Some(above), |last| {
        let last = last.unwrap_or_default().max(saved.unwrap_or_default());
        Ok(Term(last.0.saturating_add(1)))
    })?;
    Ok(Some(Seat { lock, term, damage }))
}

/// Changes one at a time, in the order they were asked for: one whose caller is gone holds its turn until it
/// has ended, so that it never undoes a later one.
#[derive(Debug, Default)]
struct Turns(Arc<Mutex<()>>);

impl Turns {
    async fn take<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.0.clone().lock_owned().await;
        let work = move || {
            let _turn = turn;
            work()
        };
        blocking(operation, work).await
    }
}

/// Runs work that blocks on a thread for it. It runs to its end also when the wait is dropped.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| match e.operation().is_empty() {
            true => e.during(operation),
            false => e,
        }),
        Err(e) => {
            let what = "the task ended early";
            Err(Error::new(ErrorKind::Unexpected, operation, "files", what).with_source(e))
        }
    }
}
