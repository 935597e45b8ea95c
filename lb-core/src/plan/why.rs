//! What stands in the way of each app, said in every pass for as long as it does.

use super::pass::{AppState, Condition, Fact, Pass};
use super::{ActionKey, InstanceState, What};
use crate::ledger::{InstanceLedger, Phase};
use crate::runtime::Readiness;

/// Most reasons of one kind that an app has in a pass: of thousands the first tell enough.
pub(super) const MOST_SAID: u32 = 16;

/// Says of the instances that are not what they are meant to be why they are not.
pub(super) fn app(pass: &mut Pass<'_>, app: &AppState<'_>) {
    let waits = |(record, fact): &(&InstanceLedger, &Fact)| {
        fact.condition != Condition::Ready || !record.is_live()
    };
    let waiting = app.ledger.instances.iter().zip(&app.facts).filter(waits);
    let mut said = Vec::new();
    for (record, fact) in waiting.take(MOST_SAID as usize) {
        if let Some((what, text)) = why(pass, app, record, fact) {
            said.push((record.assignment.host.clone(), what, text));
        }
    }
    for (host, what, text) in said {
        pass.say(Some(&app.name), Some(&host), what, text);
    }
}

fn why(
    pass: &Pass<'_>,
    app: &AppState<'_>,
    record: &InstanceLedger,
    fact: &Fact,
) -> Option<(What, String)> {
    let id = record.id(&app.name);
    let host = &pass.hosts[fact.spot.host? as usize];
    let key = ActionKey::Instance(id.clone());
    if let Some(retry) = host.ledger.retries.iter().find(|r| r.key == key) {
        return Some((What::Failed, format!("{id}: {}", retry.error)));
    }
    if !record.is_live() {
        return None;
    }
    let starting = matches!(record.phase, Phase::Starting { .. });
    match fact.condition {
        Condition::NotReady | Condition::Unasked => {
            let InstanceState::Running(Readiness::NotReady(why)) = app.state_of(fact)? else {
                return None;
            };
            let how = if starting { "is not ready yet" } else { "fails its checks" };
            Some((What::Health, format!("{id} {how}: {why}")))
        }
        _ => None,
    }
}
