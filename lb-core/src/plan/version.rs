//! Which version an app is meant to run: its image's digest, its revision, and rollout verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::memo::AppMemo;
use super::pass::{AppState, Pass};
use super::place::may_run;
use super::{Action, ActionKey, AppView, Done, What};
use crate::ledger::{AppLedger, ResolvedImage, Resolving, SlotLedger, Version};
use crate::model::{App, ImageDigest, ImageRef, Revision};
use crate::store::Generation;

/// Finds the app's target and the version to run, or has the image resolved.
pub(super) fn resolve(pass: &mut Pass<'_>, app: &mut AppState<'_>) {
    let Some(view) = app.view else { return };
    take_digest(pass, app);
    let wanted = &view.app;
    remember(app, wanted);
    app.target = digest(app, view).map(|digest| version(app, wanted, &digest));
    match app.target.as_ref().map(|t| t.revision) {
        Some(revision) => aim(pass, app, view, revision),
        None => ask(pass, app, view),
    }
    app.effective = effective(app, wanted);
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
    let Some(Resolving { named, host, deploy }) = app.ledger.resolving.clone() else { return };
    for outcome in std::mem::take(&mut app.outcomes) {
        let asked = pass.hosts[outcome.host as usize].id == host;
        if !asked || !matches!(outcome.key, ActionKey::Image(_)) {
            continue;
        }
        let ledger = app.edit();
        ledger.resolving = None;
        if let Ok(Done::Digest(digest)) = outcome.result {
            let (named, digest) = (named.clone(), digest.clone());
            ledger.image = Some(ResolvedImage { named, digest, deploy });
        }
    }
}

/// What the image means in this deploy, as far as that is known.
fn digest(app: &mut AppState<'_>, view: &AppView) -> Option<ImageDigest> {
    let wanted = &view.app;
    if let Some(pinned) = wanted.image.digest() {
        return Some(pinned.clone());
    }
    if app.ledger.image.is_none() {
        take_from_labels(app, view);
    }
    let known = app.ledger.image.as_ref()?;
    let is_meant = known.named == wanted.image && known.deploy == view.deploy;
    is_meant.then(|| known.digest.clone())
}

/// Nothing is remembered: the ledger was lost, and the tag was looked up for what runs, unless a deploy that
/// was asked for since then is another.
fn take_from_labels(app: &mut AppState<'_>, view: &AppView) {
    let Some(digest) = from_labels(app, &view.app) else { return };
    let deploy = if view.asked_here { Generation::default() } else { view.deploy };
    let named = view.app.image.clone();
    app.edit().image = Some(ResolvedImage { named, digest, deploy });
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

/// Notes the revision asked for; what crashed before says nothing about another, nor about a deploy that asks
/// for the same one again.
fn aim(pass: &Pass<'_>, app: &mut AppState<'_>, view: &AppView, revision: Revision) {
    if app.ledger.resolving.is_some() {
        app.edit().resolving = None;
    }
    if app.ledger.target == Some(revision) && app.ledger.deploy == view.deploy {
        return;
    }
    let ledger = app.edit();
    ledger.target = Some(revision);
    ledger.deploy = view.deploy;
    ledger.failed = None;
    ledger.last_end = None;
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
fn ask(pass: &mut Pass<'_>, app: &mut AppState<'_>, view: &AppView) {
    let wanted = &view.app;
    let key = ActionKey::Image(app.name.clone());
    let under_way = app.ledger.resolving.clone().and_then(|asked| {
        let host = pass.hosts.iter().position(|h| h.id == asked.host && h.reachable())?;
        Some((host as u32, asked))
    });
    let (host, asked) = match under_way {
        Some(asked) => asked,
        None => match first_able(pass, wanted, &key) {
            Some(host) => {
                let (named, id) = (wanted.image.clone(), pass.hosts[host as usize].id.clone());
                (host, Resolving { named, host: id, deploy: view.deploy })
            }
            None => return no_host(pass, app),
        },
    };
    let image = asked.named.clone();
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

/// The target, unless its rollout failed and there is something to go back to. While a tag is looked up again,
/// what serves goes on; where nothing has served yet, with what the tag meant before.
fn effective(app: &mut AppState<'_>, wanted: &Arc<App>) -> Option<Arc<Version>> {
    let good = |app: &AppState<'_>| app.ledger.good.clone().map(Arc::new);
    let Some(target) = app.target.clone() else {
        return good(app).or_else(|| {
            let known = app.ledger.image.clone().filter(|known| known.named == wanted.image)?;
            Some(version(app, wanted, &known.digest))
        });
    };
    if app.ledger.failed == Some(target.revision) {
        return good(app).or(Some(target));
    }
    Some(target)
}
