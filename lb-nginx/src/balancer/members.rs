//! Changing servers without a reload, where Lua picks them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lb_core::balancer::Failure;
use lb_core::{Change, Error, ErrorKind, TableHash};

use super::compose::{CONFIG, Composed, RECORD_FILE, STATUS_SOCKET};
use super::engine::{Engine, blocking};
use super::filed::Filed;
use super::look::Met;
use super::server::Record;
use crate::control;

impl Engine {
    /// Changes what needs no reload, if nothing else differs. `None`: it takes a reload.
    pub(super) async fn without_reload(
        &mut self,
        composed: &Composed,
        asked: TableHash,
        met: &Met,
    ) -> Result<Option<Change>, Failure> {
        let Met::Up(status) = met else { return Ok(None) };
        let Some(force) = self.force.as_mut() else { return Ok(None) };
        if force.filed.mark != composed.mark || status.mark != composed.mark {
            return Ok(None);
        }
        let state = composed.record.state();
        let same = status.lua.as_ref().is_none_or(|lua| lua.state == state);
        if same && force.filed.table == asked && force.filed.state == state {
            return Ok(Some(Change::None));
        }
        let before = force.filed.record.clone();
        let text = match force.settled {
            true => composed.record.changes(&before),
            false if same => None,
            false => Some(composed.record.text()),
        };
        self.write(composed).await?;
        if let Some(force) = &mut self.force {
            // From here on the files are the new ones: so is what must be repaired if this ends early.
            (force.filed, force.settled) = (Filed::of(composed, asked), false);
        }
        let Some(text) = text else {
            self.settle();
            return Ok(Some(Change::None));
        };
        if let Err(error) = self.socket.put_servers(&text).await {
            tracing::warn!(%error, "not changed at run time: reloading");
            return Ok(None);
        }
        self.settle();
        self.shut_left(&before, &composed.record).await;
        Ok(Some(Change::Servers))
    }

    fn settle(&mut self) {
        if let Some(force) = &mut self.force {
            force.settled = true;
        }
    }

    /// Tells Lua all servers of the files anew: after a rollback, or where somebody else told it others.
    pub(super) async fn repair(&mut self) -> Result<(), Failure> {
        let Some(force) = &mut self.force else { return Ok(()) };
        self.socket.put_servers(&force.filed.record.text()).await?;
        force.settled = true;
        Ok(())
    }

    /// The record first: it names the state that the configuration's head must name too.
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
            record.backends().flat_map(|(_, entry)| entry.servers().into_values()).collect()
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
