//! What the planner remembers of a host.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Shift;
use crate::plan::ActionKey;
use crate::routing::TableHash;

/// What the planner remembers of one host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostLedger {
    /// Where it was last registered.
    pub address: Option<IpAddr>,
    /// Its part of the cluster's range, once it needed one. It keeps it.
    pub subnet: Option<Ipv4Net>,
    /// Subnets its engine refused.
    pub refused: Vec<Ipv4Net>,
    /// What is known of its network.
    pub network: NetworkLedger,
    /// Since when its lease is gone.
    pub lost: Option<Lost>,
    /// The tables wanted there, oldest first; the last is wanted now. Bounded.
    pub tables: Vec<TableLedger>,
    /// The table its balancer said to have put in force last, until it was looked whether that is so.
    pub said: Option<Said>,
    /// Whether this process has seen its balancer serve a table that is remembered here: one that is not cannot
    /// come from a ledger that was lost any more.
    pub met: bool,
    /// Before this time none of its addresses is given out: set when its balancer serves a table that a lost
    /// ledger knew.
    pub quarantine: Duration,
    /// Whether it was asked to clear everything, and nothing was wanted there since.
    pub clearing: bool,
    /// Addresses and ports of its instances that must not be used again yet.
    pub resting: Vec<Resting>,
    /// Actions that failed and wait.
    pub retries: Vec<Retry>,
}

/// What is known of a host's network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkLedger {
    /// Nothing was asked for, or all was cleared.
    #[default]
    Absent,
    /// It was asked for and may be there.
    Asked,
    /// It was made since this process began.
    Made,
}

/// A host whose lease is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Since when.
    pub since: Duration,
    /// The `seq` from which on nothing was decided for its balancer.
    pub seq: u64,
    /// Whether that is believed, and its instances replaced.
    pub believed: bool,
}

/// A table once wanted on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLedger {
    /// Which.
    pub hash: TableHash,
    /// The ledger's `seq` from which on it was wanted.
    pub seq: u64,
}

/// A table that is said to be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Which.
    pub hash: TableHash,
    /// Whether all of it is: nothing was set aside.
    #[serde(default = "whole")]
    pub whole: bool,
    /// When that was said.
    pub at: Duration,
}

const fn whole() -> bool {
    true
}

/// An address, and the host ports beside it, that must not be used again yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resting {
    /// The address.
    pub address: Ipv4Addr,
    /// The host ports.
    pub ports: Vec<u16>,
    /// Not before this time,
    pub until: Duration,
    /// and not before every balancer is known to have dropped what was dropped by this `seq`.
    pub seq: u64,
}

/// An action that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Which.
    pub key: ActionKey,
    /// For a table: which one failed. Another is tried at once.
    pub table: Option<TableHash>,
    /// Failures in a row.
    pub failures: u32,
    /// Not before this time.
    pub until: Duration,
    /// The last error, in words.
    pub error: String,
}

impl HostLedger {
    pub(super) fn rebased(mut self, shift: Shift) -> Self {
        if self.network == NetworkLedger::Made {
            self.network = NetworkLedger::Asked;
        }
        if let Some(lost) = &mut self.lost {
            lost.since = shift.now;
        }
        self.said = None;
        self.met = false;
        self.quarantine = shift.until(self.quarantine);
        for resting in &mut self.resting {
            resting.until = shift.until(resting.until);
        }
        for retry in &mut self.retries {
            retry.until = shift.until(retry.until);
        }
        self
    }
}
