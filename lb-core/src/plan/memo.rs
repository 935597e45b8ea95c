//! Values derived in earlier passes and kept beside the ledger, so that a pass costs what changed.
//!
//! Nothing here decides anything: a plan made with an empty memo is the same plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pass::Spot;
use crate::ledger::{AppLedger, Version};
use crate::model::{App, AppName, BackendName, HostId};
use crate::routing::{Backend, TableHash};

/// Derived values of the last pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memo {
    /// The hosts the indexes below count.
    pub(super) hosts: Arc<[HostId]>,
    /// By app.
    pub(super) apps: BTreeMap<AppName, Arc<AppMemo>>,
    /// By host, in the order of `hosts`.
    pub(super) tables: Vec<Option<TableMemo>>,
}

/// A ledger with a memo equals the same ledger without.
impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What was derived of one app.
#[derive(Debug, Clone, Default)]
pub(super) struct AppMemo {
    /// What its settings and digest make.
    pub version: Option<Arc<Version>>,
    /// What `routes` were made from.
    pub inputs: Option<RouteInputs>,
    /// Its part of the tables.
    pub routes: Arc<AppRoutes>,
    /// Hosts that have it, by index.
    pub exposed: Vec<u32>,
    pub spots: Option<Spots>,
}

/// Where an app's instances are, as long as its ledger is this one and the hosts are the same.
#[derive(Debug, Clone)]
pub(super) struct Spots {
    pub ledger: Arc<AppLedger>,
    /// In the order of its instances.
    pub list: Arc<[Spot]>,
}

/// What backends and routes are made from: the settings by identity, the servers by a hash.
#[derive(Debug, Clone)]
pub(super) struct RouteInputs {
    pub settings: Arc<App>,
    pub wanted: bool,
    pub servers: u128,
}

/// An app's part of the tables.
#[derive(Debug, Clone, Default)]
pub(super) struct AppRoutes {
    /// Hash of all it leads to.
    pub key: u128,
    /// Hash of what leads to it.
    pub front: u128,
    pub backends: Vec<NamedBackend>,
    /// Instead of `backends` for hosts that cannot reach all servers, by index.
    pub partial: BTreeMap<u32, Vec<NamedBackend>>,
}

/// A backend under its name, with its hash.
#[derive(Debug, Clone)]
pub(super) struct NamedBackend {
    pub name: BackendName,
    pub backend: Arc<Backend>,
    pub hash: TableHash,
}

/// The table last wanted on a host: what it was made from, and its hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableMemo {
    pub inputs: Inputs,
    /// Of its host and listeners.
    pub front: TableHash,
    pub hash: TableHash,
}

/// What a table is made from, hashed: all of it, and what its listeners are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inputs {
    pub all: u128,
    pub front: u128,
}
