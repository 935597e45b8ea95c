//! Backends in memory that do not tell the truth, on request: what no contract allows, and what happens.

use std::sync::Arc;

use super::{MemoryBalancer, MemoryRuntime, lock};
use crate::routing::RoutingTable;
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

    /// Somebody edits what is in force behind the platform's back. Traffic tells the hash of what is there now,
    /// which is nobody's table.
    pub fn edit_by_hand(&self, edit: impl FnOnce(&mut RoutingTable)) {
        let mut state = lock(&self.shared.state);
        let Some(mut table) = state.table.clone() else { return };
        edit(Arc::make_mut(&mut table));
        let hash = table.hash();
        state.put_in_force(table, hash);
    }

    /// Tables come in force again.
    pub fn heed_tables(&self) {
        lock(&self.shared.state).ignores = false;
    }
}
