//! When a request may fail, and why.

use super::At;
use crate::apps::Name;

/// Whose requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    App(Name),
}

/// What may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excused {
    /// Requests and streams.
    All,
    /// Websockets and TCP streams only.
    Streams,
}

#[derive(Debug, Clone)]
pub(super) struct Excuse {
    /// Every app's without one.
    pub(super) app: Option<Name>,
    pub(super) what: Excused,
    pub(super) from: At,
    pub(super) until: At,
    pub(super) why: &'static str,
}

impl Excuse {
    pub(super) const fn of(
        app: Name,
        what: Excused,
        from: At,
        until: At,
        why: &'static str,
    ) -> Self {
        Self { app: Some(app), what, from, until, why }
    }

    pub(super) fn covers(&self, app: Name, what: Excused) -> bool {
        self.app.is_none_or(|own| own == app) && (self.what == Excused::All || self.what == what)
    }
}
