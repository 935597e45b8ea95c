//! Backends in memory that do not tell the truth, on request: what no contract allows, and what happens.

use super::{MemoryBalancer, MemoryRuntime, lock};
use crate::runtime::Container;

/// What an engine says that is not so.
#[derive(Debug, Default)]
pub(super) struct Lies {
    /// What is listed instead of what is there.
    pub(super) listing: Option<Vec<Container>>,
    pub(super) loses_events: bool,
}

impl MemoryRuntime {
    /// From now on listings repeat what is there now, whatever happens, until [`be_honest`](Self::be_honest).
    pub fn repeat_listing(&self) {
        let listing = lock(&self.shared.engine).list(self.owner);
        lock(&self.shared.lies).listing = Some(listing);
    }

    /// From now on nobody hears of what happens, until [`be_honest`](Self::be_honest): what was missed is
    /// not said then either.
    pub fn lose_events(&self) {
        lock(&self.shared.lies).loses_events = true;
    }

    /// Listings and events are the truth again.
    pub fn be_honest(&self) {
        *lock(&self.shared.lies) = Lies::default();
    }
}

impl MemoryBalancer {
    /// From now on tables are said to be in force and are not, as after a reload whose new worker never
    /// comes up, until [`heed_tables`](Self::heed_tables). Its traffic still tells which table is.
    pub fn ignore_tables(&self) {
        lock(&self.shared.state).ignores = true;
    }

    /// Tables come in force again.
    pub fn heed_tables(&self) {
        lock(&self.shared.state).ignores = false;
    }
}
