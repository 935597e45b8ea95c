//! Apps, ledger, load and leadership in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::{Faults, Op, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Ledger;
use crate::model::{App, AppName};
use crate::scale::LoadSample;
use crate::store::{
    AppChange, AppSet, AppStore, Generation, Latest, Leadership, LedgerStore, LoadStore, Standing,
    Term, fenced, put_into,
};
use crate::watched::Watched;

/// Samples kept for each app.
pub const SAMPLES_KEPT: usize = 4096;

/// An [`AppStore`] in memory. Clones share one set.
#[derive(Debug, Clone)]
pub struct MemoryAppStore {
    apps: Arc<Latest<Arc<AppSet>>>,
    kept: Arc<Mutex<Kept>>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Kept {
    apps: Arc<AppSet>,
    /// Of the latest `put`.
    generation: Generation,
}

impl Default for MemoryAppStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryAppStore {
    /// No apps.
    pub fn new() -> Self {
        Self::after(Generation::default())
    }

    /// No apps; the first generation is the one after `generation`. For a process that begins again with
    /// nothing but a ledger, which knows the generations of the one before.
    pub fn after(generation: Generation) -> Self {
        let apps = Latest::new(Ok(Arc::default()));
        let kept = Kept { apps: Arc::default(), generation };
        Self { apps: Arc::new(apps), kept: Arc::new(Mutex::new(kept)), faults: Faults::default() }
    }

    /// The faults of `put` and `remove`.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Watchers hear that the store cannot be believed, until [`heal`](Self::heal) or a change.
    pub fn fail(&self, kind: ErrorKind) {
        self.apps.tell(Err(Error::new(kind, "watch", "apps", "a fault was asked for")));
    }

    /// Watchers hear the whole set again.
    pub fn heal(&self) {
        self.apps.tell(Ok(lock(&self.kept).apps.clone()));
    }

    fn change(
        &self,
        change: impl FnOnce(&mut AppSet, Generation) -> Result<()>,
    ) -> Result<Generation> {
        let mut kept = lock(&self.kept);
        let mut apps = AppSet::clone(&kept.apps);
        let generation = kept.generation.next();
        change(&mut apps, generation)?;
        if apps != *kept.apps {
            *kept = Kept { apps: Arc::new(apps), generation };
            self.apps.tell(Ok(kept.apps.clone()));
        }
        Ok(generation)
    }
}

#[async_trait]
impl AppStore for MemoryAppStore {
    async fn put(&self, app: &App, change: AppChange) -> Result<Generation> {
        let put = |apps: &mut AppSet, generation| {
            put_into(apps, Arc::new(app.clone()), change, generation)
        };
        let subject = format!("app \"{}\"", app.name);
        self.faults.call(Op::Put, &subject, || self.change(put)).await
    }

    async fn remove(&self, name: &AppName) -> Result<()> {
        let remove = |apps: &mut AppSet, _| {
            apps.remove(name);
            Ok(())
        };
        let removed = || self.change(remove).map(drop);
        self.faults.call(Op::Remove, &format!("app \"{name}\""), removed).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<AppSet>>> {
        self.apps.watch()
    }
}

/// A [`LedgerStore`] in memory. Clones share one ledger.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedgerStore {
    saved: Arc<Mutex<Saved>>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Saved {
    ledger: Option<(Ledger, Term)>,
    damaged: bool,
}

impl MemoryLedgerStore {
    /// No ledger yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The faults of `load` and `save`.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The ledger is gone.
    pub fn lose(&self) {
        *lock(&self.saved) = Saved::default();
    }

    /// What is saved cannot be read any more: `load` fails with `Corrupt` until the next `save`.
    pub fn damage(&self) {
        lock(&self.saved).damaged = true;
    }
}

#[async_trait]
impl LedgerStore for MemoryLedgerStore {
    async fn load(&self) -> Result<Option<Ledger>> {
        let load = || match &*lock(&self.saved) {
            Saved { damaged: true, .. } => {
                let text = "is damaged, as asked for";
                Err(Error::new(ErrorKind::Corrupt, "load", "ledger", text))
            }
            Saved { ledger, .. } => Ok(ledger.as_ref().map(|(ledger, _)| ledger.clone())),
        };
        self.faults.call(Op::Load, "ledger", load).await
    }

    async fn save(&self, ledger: &Ledger, term: Term) -> Result<()> {
        let save = || {
            let mut saved = lock(&self.saved);
            match &saved.ledger {
                Some((_, seen)) if *seen > term => Err(fenced(term, *seen)),
                _ => {
                    *saved = Saved { ledger: Some((ledger.clone(), term)), damaged: false };
                    Ok(())
                }
            }
        };
        self.faults.call(Op::Save, "ledger", save).await
    }
}

/// A [`LoadStore`] in memory: the latest [`SAMPLES_KEPT`] of each app. Clones share one store.
#[derive(Debug, Clone, Default)]
pub struct MemoryLoadStore {
    samples: Arc<Mutex<BTreeMap<AppName, VecDeque<LoadSample>>>>,
    faults: Faults,
}

impl MemoryLoadStore {
    /// No samples.
    pub fn new() -> Self {
        Self::default()
    }

    /// The faults of `append` and `recent`.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

#[async_trait]
impl LoadStore for MemoryLoadStore {
    async fn append(&self, app: &AppName, sample: &LoadSample) -> Result<()> {
        let append = || {
            let mut samples = lock(&self.samples);
            let ring = samples.entry(app.clone()).or_default();
            ring.push_back(*sample);
            if ring.len() > SAMPLES_KEPT {
                ring.pop_front();
            }
            Ok(())
        };
        self.faults.call(Op::Append, &format!("app \"{app}\""), append).await
    }

    async fn recent(&self, app: &AppName, most: usize) -> Result<Vec<LoadSample>> {
        let recent = || {
            let samples = lock(&self.samples);
            let ring = samples.get(app).into_iter().flatten();
            let skipped = ring.clone().count().saturating_sub(most);
            Ok(ring.skip(skipped).copied().collect())
        };
        self.faults.call(Op::Recent, &format!("app \"{app}\""), recent).await
    }
}

/// A [`Leadership`] in memory: one seat, and each stream of a clone stands for it.
#[derive(Debug, Clone)]
pub struct MemoryLeadership {
    seat: Arc<Watched<Seat>>,
}

#[derive(Debug, Default)]
struct Seat {
    /// The latest term begun.
    term: Term,
    /// The candidate that holds it.
    holder: Option<u64>,
    candidates: u64,
}

impl Default for MemoryLeadership {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLeadership {
    /// An empty seat; the first leader's term is 1.
    pub fn new() -> Self {
        Self::after(Term(0))
    }

    /// An empty seat; the first leader's term is the one after `term`.
    pub fn after(term: Term) -> Self {
        let seat = Seat { term, ..Seat::default() };
        Self { seat: Arc::new(Watched::new(seat)) }
    }

    /// Takes the seat from its holder; whoever stands may take it, the holder too, in a new term.
    pub fn depose(&self) {
        self.seat.change(|seat| {
            seat.holder = None;
            true
        });
    }
}

impl Leadership for MemoryLeadership {
    fn campaign(&self) -> BoxStream<'static, Result<Standing>> {
        let mut id = 0;
        self.seat.change(|seat| {
            seat.candidates += 1;
            id = seat.candidates;
            false
        });
        let candidate = Candidate { id, seat: self.seat.clone(), heard: 0, told: None };
        stream::unfold(candidate, |mut candidate| async move {
            let standing = candidate.next().await;
            Some((Ok(standing), candidate))
        })
        .boxed()
    }
}

#[derive(Debug)]
struct Candidate {
    id: u64,
    seat: Arc<Watched<Seat>>,
    /// Changes of the seat heard of.
    heard: u64,
    told: Option<Standing>,
}

impl Candidate {
    /// The standing once it differs from what was told before.
    async fn next(&mut self) -> Standing {
        loop {
            let standing = self.stand();
            if self.told != Some(standing) {
                self.told = Some(standing);
                return standing;
            }
            self.seat.changed_since(self.heard).await;
        }
    }

    /// Takes the seat if it is empty.
    fn stand(&mut self) -> Standing {
        self.heard = self.seat.changes();
        let mut standing = Standing::Follower;
        self.seat.change(|seat| {
            let takes = seat.holder.is_none();
            if takes {
                seat.holder = Some(self.id);
                seat.term = Term(seat.term.0 + 1);
            }
            if seat.holder == Some(self.id) {
                standing = Standing::Leader(seat.term);
            }
            takes
        });
        standing
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.seat.change(|seat| {
            let resigns = seat.holder == Some(self.id);
            if resigns {
                seat.holder = None;
            }
            resigns
        });
    }
}
