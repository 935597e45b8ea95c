//! What happened, a line each: equal runs have equal traces.

use std::fmt::{Display, Write as _};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Trace(String);

impl Trace {
    /// Adds a line.
    pub(super) fn say(&mut self, at: Duration, who: impl Display, what: impl Display) {
        let _ = writeln!(self.0, "{:10.3} {who:<8} {what}", at.as_secs_f64());
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}
