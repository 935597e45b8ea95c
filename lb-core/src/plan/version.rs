//! Which version an app is meant to run: its image's digest, its revision, and rollout verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::memo::AppMemo;
use super::pass::{AppState, Pass};
use super::place::may_run;
use super::{Action, ActionKey, Done, What};
use crate::ledger::{AppLedger, ResolvedImage, Resolving, SlotLedger, Version};
use crate::model::{App, ImageDigest, ImageRef, Revision};

/// Finds the app's target and the version to run, or has the image resolved.
pub(super) fn resolve(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let Some(view) = app.view else { return };
    take_digest(pass, app);
    let wanted = &view.app;
    remember(app, wanted);
    app.target = digest(app, wanted).map(|digest| version(app, wanted, &digest));
    match app.target.as_ref().map(|t| t.revision) {
        Some(revision) => aim(pass, app, revision),
        None => ask(pass, app, wanted),
    }
    app.effective = effective(app);
}

/// Keeps what is deployed for the time when the app is removed, unless the good version says the same.
fn remember(app: &mut AppState<'_>, wanted: &Arc<App>) {
    let is = |known: &Arc<App>| Arc::ptr_eq(known, wanted) || known == wanted;
    let AppLedger { good, deployed, .. } = &*app.ledger;
    let is_good = good.as_ref().is_some_and(|good| is(&good.app));
    if is_good && deployed.is_some() {
        app.edit().deployed = None;
    } else if !is_good && !deployed.as_ref().is_some_and(is) {
        app.edit().deployed = Some(wanted.clone());
    }
}

/// The outcome of resolving counts only for the image and host that were asked.
fn take_digest(pass: &Pass<'_>, app: &mut AppState<'_>) {
    let Some(Resolving { named, host }) = app.ledger.resolving.clone() else { return };
    for outcome in std::mem::take(&mut app.outcomes) {
        let asked = pass.hosts[outcome.host as usize].id == host;
        if !asked || !matches!(outcome.key, ActionKey::Image(_)) {
            continue;
        }
        let ledger = app.edit();
        ledger.resolving = None;
        if let Ok(Done::Digest(digest)) = outcome.result {
            ledger.image = Some(ResolvedImage { named: named.clone(), digest: digest.clone() });
        }
    }
}

fn digest(app: &mut AppState<'_>, wanted: &App) -> Option<ImageDigest> {
    if let Some(pinned) = wanted.image.digest() {
        return Some(pinned.clone());
    }
    if let Some(known) = &app.ledger.image
        && known.named == wanted.image
    {
        return Some(known.digest.clone());
    }
    // A ledger that knows another image was not lost: this is a deploy.
    if app.ledger.image.is_some() {
        return None;
    }
    let digest = from_labels(app, wanted)?;
    let image = ResolvedImage { named: wanted.image.clone(), digest: digest.clone() };
    app.edit().image = Some(image);
    Some(digest)
}

/// The digest most of the running instances were made from, those of the wanted settings first.
fn from_labels(app: &AppState<'_>, wanted: &App) -> Option<ImageDigest> {
    let same = |image: &ImageRef| {
        (image.repository(), image.tag()) == (wanted.image.repository(), wanted.image.tag())
    };
    let mut votes: BTreeMap<&ImageDigest, Votes> = BTreeMap::new();
    for seen in &app.seen {
        if let Some(digest) = seen.instance.image.digest().filter(|_| same(&seen.instance.image)) {
            let votes = votes.entry(digest).or_insert_with(|| Votes {
                revision: wanted.revision(digest),
                current: 0,
                all: 0,
            });
            votes.all += 1;
            votes.current += u32::from(votes.revision == seen.key.revision);
        }
    }
    votes.into_iter().max_by_key(|(_, v)| (v.current, v.all)).map(|(digest, _)| digest.clone())
}

struct Votes {
    revision: Revision,
    current: u32,
    all: u32,
}

/// Notes the revision asked for; what crashed before says nothing about another.
fn aim(pass: &Pass<'_>, app: &mut AppState<'_>, revision: Revision) {
    if app.ledger.resolving.is_some() {
        app.edit().resolving = None;
    }
    if app.ledger.target == Some(revision) {
        return;
    }
    let ledger = app.edit();
    ledger.target = Some(revision);
    ledger.failed = None;
    forgive(ledger, pass.now.monotonic);
}

/// Forgets the crashes of all slots.
pub(super) fn forgive(ledger: &mut AppLedger, now: Duration) {
    for slot in ledger.slots.values_mut() {
        *slot = SlotLedger { next: slot.next, until: now.min(slot.until), ..SlotLedger::default() };
    }
}

/// The version of these settings; hashing them is kept from pass to pass.
fn version(app: &mut AppState<'_>, wanted: &Arc<App>, digest: &ImageDigest) -> Arc<Version> {
    if let Some(known) = &app.memo.version
        && known.digest == *digest
        && (Arc::ptr_eq(&known.app, wanted) || known.app == *wanted)
    {
        return known.clone();
    }
    let revision = wanted.revision(digest);
    let made = Version { revision, digest: digest.clone(), app: wanted.clone() };
    let made = Arc::new(made);
    app.memo = Arc::new(AppMemo { version: Some(made.clone()), ..AppMemo::clone(&app.memo) });
    made
}

/// Has one host that may run the app resolve its image. Asked again each pass: asking twice is harmless.
fn ask(pass: &mut Pass<'_>, app: &mut AppState<'_>, wanted: &App) {
    let key = ActionKey::Image(app.name.clone());
    let under_way = app.ledger.resolving.clone().and_then(|r| {
        let host = pass.hosts.iter().position(|h| h.id == r.host && h.reachable())?;
        Some((host as u32, r.named))
    });
    let (host, image) = match under_way {
        Some(asked) => asked,
        None => match first_able(pass, wanted, &key) {
            Some(host) => (host, wanted.image.clone()),
            None => return no_host(pass, app),
        },
    };
    let asked = Resolving { named: image.clone(), host: pass.hosts[host as usize].id.clone() };
    if app.ledger.resolving.as_ref() != Some(&asked) {
        app.edit().resolving = Some(asked);
    }
    let auth = wanted.registry.clone();
    let action = Action::ResolveImage { app: app.name.clone(), image, auth };
    pass.hosts[host as usize].images.push(action);
}

/// The emptiest host that may run it and has not just failed to resolve its image.
fn first_able(pass: &mut Pass<'_>, wanted: &App, key: &ActionKey) -> Option<u32> {
    let mut able: Vec<u32> = (0..pass.hosts.len() as u32)
        .filter(|h| may_run(&pass.hosts[*h as usize], wanted))
        .collect();
    able.sort_by_key(|h| pass.hosts[*h as usize].used.instances);
    able.into_iter().find(|host| !pass.must_wait(*host, key))
}

fn no_host(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    if app.ledger.resolving.is_some() {
        app.edit().resolving = None;
    }
    let key = ActionKey::Image(app.name.clone());
    let errors = pass.hosts.iter().flat_map(|h| &h.ledger.retries).filter(|r| r.key == key);
    let error = errors.map(|r| r.error.clone()).next();
    let text = match error {
        Some(error) => format!("the image cannot be resolved, and is tried again: {error}"),
        None => "no reachable host may run it".to_owned(),
    };
    pass.say(Some(&app.name.clone()), None, What::Failed, text);
}

/// The target, unless its rollout failed and there is something to go back to.
fn effective(app: &AppState<'_>) -> Option<Arc<Version>> {
    let good = |app: &AppState<'_>| app.ledger.good.clone().map(Arc::new);
    let Some(target) = app.target.clone() else { return good(app) };
    if app.ledger.failed == Some(target.revision) {
        return good(app).or(Some(target));
    }
    Some(target)
}
