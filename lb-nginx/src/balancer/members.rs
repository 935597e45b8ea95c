//! What changes without a reload: the names of servers; and what is open to servers that left.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lb_core::balancer::Failure;
use lb_core::{Error, ErrorKind, TableHash};

use super::compose::{CONFIG, Composed, RECORD_FILE, STATUS_SOCKET};
use super::engine::{Engine, blocking};
use super::filed::Filed;
use super::look::Met;
use super::server::Record;
use crate::control;

impl Engine {
    /// Whether NGINX serves this already. Where its servers have other names, the files say so afterwards.
    pub(super) async fn in_force_already(
        &mut self,
        composed: &Composed,
        asked: TableHash,
        met: &Met,
    ) -> Result<bool, Failure> {
        let (Met::Up(status), Some(force)) = (met, &self.force) else { return Ok(false) };
        if self.parts.directory.is_edited()
            || force.mark != composed.mark
            || status.mark != composed.mark
        {
            return Ok(false);
        }
        if force.table != asked || force.record != composed.record {
            // While the names in them are those of the table before.
            self.count_logged();
            self.write(composed).await?;
            self.force = Some(Filed::of(composed, asked));
        }
        Ok(true)
    }

    /// The record first: the configuration's head names the table.
    async fn write(&self, composed: &Composed) -> Result<(), Failure> {
        let directory = self.parts.directory.clone();
        let (record, config) = (composed.record.text(), composed.text.clone());
        blocking(move || {
            directory.replace(RECORD_FILE, record.as_bytes())?;
            Ok(directory.replace(CONFIG, config.as_bytes())?)
        })
        .await
    }

    /// Shuts what is still open to servers that left the table, whichever worker holds it.
    pub(super) async fn shut_left(&self, before: &Record, now: &Record) {
        let addresses = |record: &Record| -> BTreeSet<SocketAddr> {
            record.backends().flat_map(|(_, servers)| servers.values().copied()).collect()
        };
        let mut left = addresses(before);
        let stays = addresses(now);
        left.retain(|address| !stays.contains(address));
        let status = self.parts.directory.path().join(STATUS_SOCKET);
        let work = blocking(move || {
            if left.is_empty() {
                return Ok(0);
            }
            let wrong = |why: String| Error::new(ErrorKind::Unavailable, "", "sockets", why);
            if !control::shares_network(&status) {
                let why = "this process must be in NGINX's network namespace".to_owned();
                return Err(wrong(why).into());
            }
            Ok(control::shut(&left).map_err(|e| wrong(e.to_string()))?)
        });
        match work.await {
            Ok(0) => {}
            Ok(shut) => tracing::info!(shut, "connections to servers that left"),
            Err(error) => tracing::warn!(%error, "connections to servers that left not shut"),
        }
    }
}
