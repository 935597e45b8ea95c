//! One app before the judge: which versions may answer, and what is owed.

use std::time::Duration;

use super::{Answer, At, Living, Rule};
use crate::apps::{CERTIFICATES, Flaw, Name, Wanted};
use crate::bounds::{EACH, HAUNTED, READY_WITHIN, SERVED};

/// Versions that may answer, besides the one asked for last: more are not remembered.
const MOST_GRANTS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) wanted: Option<Wanted>,
    /// Whether its version crashes while it serves.
    pub(super) crashing: bool,
    grants: Vec<Grant>,
    debts: Vec<Debt>,
    /// The certificate shown before the one asked for last, and until when it may be.
    renewed: Option<(usize, At)>,
    /// The newest route, and when it was first answered by.
    arrived: Option<(u32, Option<At>)>,
    /// Routes it had: since when it has them no more, and until when they may still lead to it.
    former: Vec<(u32, At, At)>,
}

/// A version that may answer requests sent up to then.
#[derive(Debug)]
struct Grant {
    version: String,
    until: Option<At>,
}

/// Something that must come about.
#[derive(Debug)]
struct Debt {
    what: What,
    since: At,
    by: At,
    told: bool,
}

#[derive(Debug)]
enum What {
    /// An answer of this version by this route.
    Served(String, u32),
    /// So many instances of this version, and no others.
    Whole(String, usize),
    /// As many instances that run as there are to be.
    Replaced(&'static str),
    /// None at all.
    Gone,
}

impl Case {
    /// Until when its instances may come and go by what was asked for.
    pub(super) fn asked(&mut self, at: At, start: At, wanted: &Wanted) -> At {
        let before = self.wanted.replace(wanted.clone());
        let most = before.as_ref().map_or(0, |b| b.replicas).max(wanted.replicas);
        let by = start + SERVED + EACH * most;
        self.debts.retain(|d| matches!(d.what, What::Replaced(_)));
        let new_route = before.as_ref().is_none_or(|b| b.route != wanted.route);
        if new_route {
            // What was sent before a route was in force for the first time may have found nothing there.
            let came = matches!(self.arrived.replace((wanted.route, None)), Some((_, Some(_))));
            let since = if came { at } else { At::ZERO };
            let old = before.as_ref().map(|b| (b.route, since, start + SERVED));
            self.former.extend(old);
        }
        self.grant(at, before.as_ref(), wanted, by);
        if let Some(before) = before.as_ref().filter(|b| b.certificate != wanted.certificate) {
            self.renewed = Some((certificate(before), start + SERVED));
        }
        if wanted.flaw.is_none() {
            let served = What::Served(wanted.shown(), wanted.route);
            let most = if wanted.trial { by + EACH } else { by };
            self.owe(served, at, if new_route { start + SERVED } else { most });
        }
        if wanted.flaw.is_none() && !wanted.trial {
            self.owe(What::Whole(wanted.shown(), wanted.replicas as usize), at, by);
        }
        by + READY_WITHIN
    }

    /// The version asked for may answer from now on; others may no longer once it is in its place.
    fn grant(&mut self, at: At, before: Option<&Wanted>, wanted: &Wanted, by: At) {
        let stays = wanted.trial || wanted.flaw.is_some();
        let new = wanted.shown();
        for grant in self.grants.iter_mut().filter(|g| g.version != new) {
            grant.until = match grant.until {
                // The one before it may stand in for it where its own rollout had not come to its end.
                Some(until) if stays && until >= at => None,
                None if stays => None,
                until => until.or(Some(by)),
            };
        }
        // A version that never listens, or never says that it is ready, must not answer at all.
        let never = matches!(wanted.flaw, Some(Flaw::Exits | Flaw::NeverReady));
        let back = before.is_some_and(|b| b.version > wanted.version);
        if !never {
            match self.grants.iter_mut().find(|g| g.version == new) {
                Some(grant) if back || grant.until.is_some() => grant.until = None,
                Some(_) => {}
                None => self.grants.push(Grant { version: new, until: None }),
            }
        }
        if self.grants.len() > MOST_GRANTS {
            self.grants.remove(0);
        }
    }

    /// From then on the version that is said to be served must be the only one.
    pub(super) fn claimed(&mut self, from: At, version: &str) {
        let is_asked = |w: &Wanted| !w.trial && w.flaw.is_none() && w.shown() == version;
        if self.wanted.as_ref().is_some_and(is_asked) {
            for grant in self.grants.iter_mut().filter(|g| g.version != version) {
                grant.until = grant.until.map(|until| until.min(from));
            }
        }
    }

    pub(super) fn removed(&mut self, at: At, by: At) {
        self.former.extend(self.wanted.take().map(|w| (w.route, at, by)));
        self.debts.clear();
        for grant in &mut self.grants {
            grant.until = grant.until.or(Some(by));
        }
        self.owe(What::Gone, by, by);
    }

    /// Versions and routes it had may come back for a while.
    pub(super) fn amnesty(&mut self, at: At, start: At) -> At {
        let most = self.wanted.as_ref().map_or(1, |w| w.replicas);
        let by = start + SERVED + EACH * most;
        let ends = self.grants.iter_mut().filter_map(|g| g.until.as_mut());
        let renewed = self.renewed.iter_mut().map(|(_, end)| end);
        for end in ends.chain(renewed).chain(self.former.iter_mut().map(|(_, _, end)| end)) {
            *end = (*end).max(by);
        }
        for debt in &mut self.debts {
            debt.by = debt.by.max(by);
        }
        if let Some(wanted) = self.wanted.clone().filter(|w| w.flaw.is_none() && !w.trial) {
            self.debts.retain(|d| !matches!(d.what, What::Whole(..)));
            self.owe(What::Whole(wanted.shown(), wanted.replicas as usize), at, by);
        }
        by
    }

    pub(super) fn lost(&mut self, at: At, by: At, how: &'static str) {
        for debt in self.debts.iter_mut().filter(|d| matches!(d.what, What::Whole(..))) {
            debt.by = debt.by.max(by);
        }
        self.owe(What::Replaced(how), at, by);
    }

    fn owe(&mut self, what: What, since: At, by: At) {
        self.debts.push(Debt { what, since, by, told: false });
    }

    /// What is owed comes later by as long as it was hindered, and never sooner than its own time after that.
    pub(super) fn hinder(&mut self, at: At, longer: Duration) {
        for debt in &mut self.debts {
            debt.by += longer;
        }
        let open = self.grants.iter_mut().filter_map(|g| g.until.as_mut());
        let renewed = self.renewed.iter_mut().map(|(_, end)| end);
        let open = open.chain(renewed);
        for end in
            open.chain(self.former.iter_mut().map(|(_, _, end)| end)).filter(|end| **end >= at)
        {
            *end += longer;
        }
    }

    /// Whether the route has yet to be answered by, or only just was.
    pub(super) fn is_arriving(&self, route: u32, sent: At, grace: Duration) -> bool {
        match self.arrived {
            Some((newest, None)) => newest == route,
            Some((newest, Some(at))) => newest == route && sent < at + grace,
            None => false,
        }
    }

    /// Takes a certificate in; what is wrong with it.
    pub(super) fn shown(&self, at: At, number: Option<usize>) -> Option<String> {
        let wanted = self.wanted.as_ref().map(certificate)?;
        let before = self.renewed.filter(|(_, until)| at <= *until).map(|(number, _)| number);
        match number == Some(wanted) || (before.is_some() && number == before) {
            true => None,
            false => Some(format!("certificate {number:?} is shown, {wanted} is asked for")),
        }
    }

    /// Whether nothing was to be had there any more when the request was sent.
    pub(super) fn is_former(&self, route: u32, sent: At) -> bool {
        self.former.iter().any(|(old, since, _)| *old == route && sent >= *since)
    }

    /// Takes an answer in; what is wrong with it.
    pub(super) fn served(
        &mut self,
        answer: &Answer,
        version: &str,
        instance: &str,
    ) -> Option<(Rule, String)> {
        if let Some((route, first @ None)) = &mut self.arrived
            && *route == answer.route
        {
            *first = Some(answer.ended);
        }
        self.debts.retain(|d| match &d.what {
            What::Served(wanted, route) => {
                !(wanted == version && *route == answer.route && answer.sent >= d.since)
            }
            _ => true,
        });
        let (app, what) = (answer.app, answer.what);
        let may = |g: &Grant| g.version == version && g.until.is_none_or(|end| answer.sent <= end);
        if !self.grants.iter().any(may) {
            let asked: Vec<_> = self.grants.iter().map(|g| g.version.as_str()).collect();
            let text = format!("{app} {what}: {version} ({instance}) answered; may: {asked:?}");
            return Some((Rule::WrongVersion, text));
        }
        let former = self.former.iter().find(|(route, ..)| *route == answer.route);
        if former.is_some_and(|(.., end)| answer.sent > *end) {
            let text = format!("{app} {what}: {version} answered by the route it had before");
            return Some((Rule::StillServed, text));
        }
        None
    }

    /// Takes a count in; what is overdue.
    pub(super) fn counted(&mut self, at: At, name: Name, living: &[Living]) -> Vec<(Rule, String)> {
        let running = living.iter().filter(|l| l.runs).count();
        let wanted = self.wanted.as_ref().map_or(0, |w| w.replicas) as usize;
        self.debts.retain(|debt| !match &debt.what {
            What::Served(..) => false,
            What::Whole(version, count) => {
                living.len() == *count && living.iter().all(|l| l.runs && l.version == *version)
            }
            What::Replaced(_) => at > debt.since && running >= wanted,
            What::Gone => living.is_empty(),
        });
        let late = self.debts.iter_mut().filter(|d| at > d.by && !d.told);
        late.map(|debt| {
            debt.told = true;
            let since = at.saturating_sub(debt.since).as_secs_f64();
            let seen: Vec<String> = living.iter().map(Living::to_string).collect();
            let (rule, text) = debt.what.words();
            (rule, format!("{name}: {text} for {since:.1} s; there is {seen:?}"))
        })
        .collect()
    }

    /// Whether nothing is owed and nothing may answer any more: what answers later is nobody's.
    pub(super) fn is_over(&self, at: At) -> bool {
        let ends = self.former.iter().map(|(.., end)| *end);
        let last = ends.max().unwrap_or_default() + HAUNTED;
        self.wanted.is_none() && self.debts.is_empty() && at > last
    }

    pub(super) fn owed(&self, name: Name) -> Vec<String> {
        self.debts.iter().map(|d| format!("{name}: {}", d.what.words().1)).collect()
    }
}

/// Its number among those there are.
const fn certificate(wanted: &Wanted) -> usize {
    wanted.certificate % CERTIFICATES.len()
}

impl What {
    fn words(&self) -> (Rule, String) {
        match self {
            Self::Served(version, route) => {
                (Rule::NotServed, format!("no answer of {version} by route {route}"))
            }
            Self::Whole(version, count) => {
                (Rule::NotAsAsked, format!("not {count} instances of {version} alone"))
            }
            Self::Replaced(how) => (Rule::NotReplaced, format!("not replaced ({how})")),
            Self::Gone => (Rule::LeftBehind, "removed, and not gone".to_owned()),
        }
    }
}

impl std::fmt::Display for Living {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.version, if self.runs { "" } else { " paused" })
    }
}
