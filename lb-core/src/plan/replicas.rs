//! First step: how many instances an app should have. A policy proposes; limits are applied here.

use std::time::Duration;

use super::What;
use super::pass::{AppState, Pass};
use crate::model::App;
use crate::scale::{Decision, LoadView, PolicyMemory, ScalePolicy};
use crate::time::Now;

/// A policy is asked at most this often.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(15);

/// The wanted count, kept in the ledger. `rolling`: a rollout is under way, which freezes scaling in.
pub(super) fn decide(pass: &mut Pass<'_>, app: &mut AppState<'_>, rolling: Rolling) -> u32 {
    let Some(view) = app.view else { return 0 };
    let limits = view.app.replicas;
    let before = app.ledger.wanted;
    let start = before
        .unwrap_or_else(|| app.ledger.instances.iter().filter(|i| i.is_live()).count() as u32);
    let current = start.clamp(limits.min, limits.max);
    let mut wanted = match &view.policy {
        Some(policy) => ask(pass, app, policy.as_ref(), current),
        None => current,
    };
    if rolling == Rolling::Yes && wanted < current {
        let text = format!("{wanted} instances would do: kept at {current} during the rollout");
        pass.say(Some(&app.name.clone()), None, What::Scale, text);
        wanted = current;
    }
    if before != Some(wanted) {
        app.edit().wanted = Some(wanted);
    }
    wanted
}

/// Whether instances of another revision than the one to run are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rolling {
    Yes,
    No,
}

fn ask(pass: &mut Pass<'_>, app: &mut AppState<'_>, policy: &dyn ScalePolicy, current: u32) -> u32 {
    let Some(view) = app.view else { return current };
    let now = pass.now;
    if let Some(next) = app.ledger.asked.map(|at| at + ASK_EVERY)
        && next > now.monotonic
    {
        pass.wake(next);
        return current;
    }
    let ready = app.ready();
    let live = app.ledger.instances.iter().filter(|i| i.is_live()).count() as u32;
    let load = LoadView {
        app: &view.app,
        wanted: current,
        ready,
        starting: live - ready,
        samples: &view.load,
    };
    let (decision, memory) = policy.decide(&load, &app.ledger.policy, now);
    let fits = memory.fits();
    if !fits {
        let text = "its policy remembers too much: all of it is forgotten".to_owned();
        pass.say(Some(&app.name.clone()), None, What::Scale, text);
    }
    let ledger = app.edit();
    ledger.asked = Some(now.monotonic);
    ledger.policy = if fits { memory } else { PolicyMemory::default() };
    pass.wake(now.monotonic + ASK_EVERY);
    let (count, reason) = match decision {
        Decision::Hold(reason) => return held(pass, app, current, &reason),
        Decision::Want { count, reason } => (count, reason),
    };
    if count < current && !measured(app, now) {
        return held(pass, app, current, "the load was not measured lately");
    }
    limited(pass, app, &view.app, Proposal { current, count, reason })
}

fn held(pass: &mut Pass<'_>, app: &AppState<'_>, current: u32, reason: &str) -> u32 {
    pass.say(Some(&app.name), None, What::Scale, format!("kept at {current}: {reason}"));
    current
}

struct Proposal {
    current: u32,
    count: u32,
    reason: String,
}

fn limited(pass: &mut Pass<'_>, app: &AppState<'_>, settings: &App, asked: Proposal) -> u32 {
    let Proposal { current, count, reason } = asked;
    let step = settings.scaling.as_ref().and_then(|s| s.largest_step).map_or(u32::MAX, u32::from);
    let stepped = count.clamp(current.saturating_sub(step), current.saturating_add(step));
    let wanted = stepped.clamp(settings.replicas.min, settings.replicas.max);
    if wanted != count {
        let text = format!("{count} instances asked for ({reason}): limits make it {wanted}");
        pass.say(Some(&app.name), None, What::Clamped, text);
    }
    if wanted != current {
        let text = format!("from {current} to {wanted} instances: {reason}");
        pass.say(Some(&app.name), None, What::Scale, text);
    }
    wanted
}

/// Whether the newest sample is recent and sane: no other ever scales in.
fn measured(app: &AppState<'_>, now: Now) -> bool {
    let last = app.view.and_then(|v| v.load.last());
    last.is_some_and(|last| last.is_fresh(now) && last.is_sound())
}
