//! What must hold, and whether it did. It is told all that was asked for, all that went wrong and all that was seen, each
//! with its time, and knows nothing else: told the same, it says the same.

mod case;
mod excuse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use self::case::Case;
use self::excuse::Excuse;
pub use self::excuse::{Excused, Scope};
use super::apps::{Name, Wanted};
use super::bounds::{ARRIVES, CLAIMED, GONE};

/// Time since the run began.
pub type At = Duration;

/// Violations kept in words; all are counted.
const KEPT: usize = 200;
/// Of those that are alike: of one rule, app and way of asking.
const ALIKE: u32 = 5;

/// What did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A request failed that nothing excuses.
    RequestLost,
    /// A websocket or TCP stream was cut that nothing excuses.
    StreamCut,
    /// A version answered that was not asked for then.
    WrongVersion,
    /// An app answered where it is not to be found any more.
    StillServed,
    /// A change was not served in time.
    NotServed,
    /// An instance that was lost was not replaced in time.
    NotReplaced,
    /// Not the instances that were asked for, in time.
    NotAsAsked,
    /// Something is left of what was removed.
    LeftBehind,
    /// More memory or files than the bound.
    TooMuch,
    /// The platform ended, or refused what it must take.
    Platform,
    /// Something that belongs to somebody else was touched.
    Foreign,
}

/// Something that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub at: At,
    pub rule: Rule,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

/// A request and what came of it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub app: Name,
    /// The host name or port it went to, by its number.
    pub route: u32,
    pub sent: At,
    pub ended: At,
    /// What was asked, for people.
    pub what: &'static str,
    /// The version that answered and the instance, or why it failed.
    pub result: Result<(String, String), String>,
}

/// An instance's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    pub version: String,
    /// Whether it runs: not paused.
    pub runs: bool,
}

/// The instances of each app, as the kernel shows them.
pub type Census = BTreeMap<Name, Vec<Living>>;

/// Holds what was asked for against what was seen.
#[derive(Debug, Default)]
pub struct Judge {
    cases: BTreeMap<Name, Case>,
    excuses: Vec<Excuse>,
    /// Nothing can be expected before.
    hindered: At,
    violations: Vec<Violation>,
    untold: usize,
    alike: BTreeMap<(Rule, String), u32>,
    pub requests: u64,
    pub failed: u64,
    count: u64,
}

impl Judge {
    /// An app is asked for as it is to be; it is asked for at `at`, and stored.
    pub fn asked(&mut self, at: At, wanted: &Wanted) {
        let start = at.max(self.hindered);
        let case = self.cases.entry(wanted.name).or_default();
        let until = case.asked(at, start, wanted);
        // Its own streams end with the instances it loses, and what a crashing version holds with that.
        self.excuses.push(Excuse::of(wanted.name, Excused::Streams, at, until, "its own change"));
        if wanted.flaw == Some(super::apps::Flaw::Crashes) {
            case.crashing = true;
            self.excuse(at, Scope::App(wanted.name), Excused::All, At::MAX, "its version crashes");
        } else if std::mem::take(&mut case.crashing) {
            for excuse in &mut self.excuses {
                if excuse.app == Some(wanted.name) && excuse.until == At::MAX {
                    excuse.until = until;
                }
            }
        }
    }

    /// An app is not asked for any more.
    pub fn removed(&mut self, at: At, app: Name) {
        let by = at.max(self.hindered) + GONE;
        if let Some(case) = self.cases.get_mut(&app) {
            case.removed(at, by);
        }
        self.excuses.push(Excuse::of(app, Excused::Streams, at, by, "it is removed"));
    }

    /// Requests may fail from `at` to `until`.
    pub fn excuse(&mut self, at: At, scope: Scope, what: Excused, until: At, why: &'static str) {
        let app = match scope {
            Scope::All => None,
            Scope::App(app) => Some(app),
        };
        self.excuses.push(Excuse { app, what, from: at, until, why });
    }

    /// Nothing can be expected until `until`: what is owed is owed so much later.
    pub fn hinder(&mut self, at: At, until: At) {
        // What hinders at the same time hinders once.
        let from = at.max(self.hindered);
        let longer = until.saturating_sub(from);
        self.hindered = self.hindered.max(until);
        for case in self.cases.values_mut() {
            case.hinder(at, longer);
        }
        let open = |e: &&mut Excuse| e.until >= at && e.until != At::MAX && e.app.is_some();
        for excuse in self.excuses.iter_mut().filter(open) {
            excuse.until = excuse.until.saturating_add(longer);
        }
    }

    /// What one app is owed comes until `until` later.
    pub fn postpone(&mut self, at: At, app: Name, until: At) {
        if let Some(case) = self.cases.get_mut(&app) {
            case.hinder(at, until.saturating_sub(at));
        }
    }

    /// An excuse that had no end has one.
    pub fn ends(&mut self, why: &str, until: At) {
        for excuse in self.excuses.iter_mut().filter(|e| e.why == why && e.until == At::MAX) {
            excuse.until = until;
        }
    }

    /// Until when nothing can be expected.
    pub const fn hindered(&self) -> At {
        self.hindered
    }

    /// What was asked for may have been forgotten, and what was asked for before be served: all is asked for again.
    pub fn amnesty(&mut self, at: At) {
        let start = at.max(self.hindered);
        for (name, case) in &mut self.cases {
            let until = case.amnesty(at, start);
            self.excuses.push(Excuse::of(*name, Excused::Streams, at, until, "asked for again"));
        }
    }

    /// An instance of the app ended by a fault: its successor is owed within `within`.
    pub fn lost(&mut self, at: At, app: Name, within: Duration, how: &'static str) {
        let start = at.max(self.hindered);
        if let Some(case) = self.cases.get_mut(&app) {
            case.lost(at, start + within, how);
        }
    }

    /// All instances did.
    pub fn all_lost(&mut self, at: At, within: Duration, how: &'static str) {
        let start = at.max(self.hindered);
        for case in self.cases.values_mut().filter(|case| case.wanted.is_some()) {
            case.lost(at, start + within, how);
        }
    }

    /// A request ended.
    pub fn answered(&mut self, answer: &Answer) {
        let Some(case) = self.cases.get_mut(&answer.app) else { return };
        match &answer.result {
            Ok((version, instance)) => {
                self.requests += 1;
                if let Some((rule, text)) = case.served(answer, version, instance) {
                    self.violate(answer.ended, rule, text);
                }
            }
            Err(_) if case.is_arriving(answer.route, answer.sent, ARRIVES) => {}
            Err(_) if case.is_former(answer.route, answer.sent) => {}
            Err(why) => {
                self.requests += 1;
                self.failed += 1;
                if self.excused(answer.app, Excused::All, answer.sent, answer.ended).is_none() {
                    let took = (answer.ended.saturating_sub(answer.sent)).as_secs_f64();
                    let text = format!("{} {}: {why} after {took:.2} s", answer.app, answer.what);
                    self.violate(answer.ended, Rule::RequestLost, text);
                }
            }
        }
    }

    /// The platform says that this version of an app is served: no other may answer what is sent from then on.
    pub fn claimed(&mut self, at: At, app: Name, version: &str) {
        if let Some(case) = self.cases.get_mut(&app) {
            case.claimed(at + CLAIMED, version);
        }
    }

    /// A listener showed the certificate of this number, or an unknown one.
    pub fn shown(&mut self, at: At, app: Name, number: Option<usize>) {
        let Some(case) = self.cases.get_mut(&app) else { return };
        if let Some(text) = case.shown(at, number) {
            self.violate(at, Rule::WrongVersion, format!("{app}: {text}"));
        }
    }

    /// A stream of an app was cut. `open` is since when.
    pub fn cut(&mut self, at: At, app: Name, what: &str, open: At, why: &str) {
        // What cut it may have happened while nothing was on its way.
        let from = at.saturating_sub(Duration::from_secs(2));
        if self.excused(app, Excused::Streams, from.max(open), at).is_none() {
            let age = at.saturating_sub(open).as_secs_f64();
            self.violate(at, Rule::StreamCut, format!("{app} {what} of {age:.1} s: {why}"));
        }
    }

    /// The instances there are.
    pub fn counted(&mut self, at: At, census: &Census) {
        let mut found = Vec::new();
        for (name, case) in &mut self.cases {
            let living = census.get(name).map_or(&[][..], Vec::as_slice);
            found.extend(case.counted(at, *name, living));
        }
        self.cases.retain(|_, case| !case.is_over(at));
        for (rule, text) in found {
            self.violate(at, rule, text);
        }
        self.excuses.retain(|e| e.until.saturating_add(Duration::from_secs(120)) >= at);
    }

    /// Something did not hold. What was told often is only counted.
    pub fn violate(&mut self, at: At, rule: Rule, text: String) {
        self.count += 1;
        let kind: String = text.split(": ").take(2).collect();
        let alike = self.alike.entry((rule, kind)).or_default();
        *alike += 1;
        if *alike <= ALIKE && self.violations.len() < KEPT {
            self.violations.push(Violation { at, rule, text });
        }
    }

    /// Why a failure between two times is excused.
    fn excused(&self, app: Name, what: Excused, from: At, until: At) -> Option<&'static str> {
        let fits = |e: &&Excuse| e.covers(app, what) && e.from <= until && e.until >= from;
        self.excuses.iter().find(fits).map(|e| e.why)
    }

    /// What is owed still, and by when at the latest.
    pub fn owed(&self) -> Vec<String> {
        self.cases.iter().flat_map(|(name, case)| case.owed(*name)).collect()
    }

    /// Violations that were not handed out before.
    pub fn news(&mut self) -> Vec<Violation> {
        let new = self.violations[self.untold..].to_vec();
        self.untold = self.violations.len();
        new
    }

    #[cfg(test)]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// All violations, those beyond what is kept too.
    pub const fn count(&self) -> u64 {
        self.count
    }
}
