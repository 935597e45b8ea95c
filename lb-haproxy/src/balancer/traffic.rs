//! What goes through HAProxy, over all its workers, and whether it still is what the file says.

use std::collections::BTreeMap;

use lb_core::balancer::Failure;
use lb_core::{
    BackendName, BackendTraffic, ErrorKind, ServerName, ServerTraffic, TableHash, Traffic,
};

use super::engine::Engine;
use super::live::backends_in;
use super::look::Met;
use super::members::{self, Steps};
use super::totals::readings;
use crate::control::{self, Master, Row, RowKind, Session, Stat};

impl Engine {
    /// Reads all workers. Servers that are not as the file says are put right first.
    pub(crate) async fn traffic(&mut self) -> Result<Traffic, Failure> {
        let met = self.meet().await?;
        self.remember(&met).await?;
        let (mut session, info) = match met {
            Met::Up(session, info) => (session, info),
            Met::Foreign => return Ok(Traffic::default()),
            Met::Down => {
                let message = "haproxy does not run; the next table starts it";
                return Err(lb_core::Error::new(ErrorKind::Unavailable, "", "", message).into());
            }
        };
        let (table, stat) = self.verified(&mut session).await?;
        let (mut old, mut runs) = (Vec::new(), vec![info.run()]);
        for worker in self.processes().await?.old {
            let Some((info, stat)) = self.of_old(worker, Master::counted).await? else { continue };
            self.totals.add(info.run(), readings(&stat));
            runs.push(info.run());
            old.push(stat);
        }
        self.totals.add(info.run(), readings(&stat));
        self.totals.keep_sources(&runs);
        let wanted = |b: &BackendName, s: Option<&ServerName>| {
            let backend = self.force.as_ref().and_then(|f| f.filed.servers.get(b));
            backend.is_some_and(|b| s.is_none_or(|s| b.servers.contains_key(s)))
        };
        self.totals.keep(wanted);
        if let Some(force) = &mut self.force {
            force.old_workers = !old.is_empty();
        }
        Ok(Traffic { table, old_workers: old.len() as u32, ..self.report(&stat, &old) })
    }

    /// The table the worker shows, and the statistics it shows it by. What differs is repaired once.
    async fn verified(
        &mut self,
        session: &mut Session,
    ) -> Result<(Option<TableHash>, Stat), Failure> {
        let stat = control::stat(session).await?;
        if self.look_for_edits().await?
            || self.force.as_ref().is_some_and(|force| force.filed.unfinished)
        {
            return Ok((None, stat));
        }
        if let Err(error) = self.route_again().await {
            tracing::warn!(%error, "routes not known");
            return Ok((None, stat));
        }
        let Some(force) = &mut self.force else { return Ok((None, stat)) };
        let wanted = &force.filed.servers;
        let backends = backends_in(&stat);
        if !wanted.keys().all(|name| backends.contains(name)) {
            tracing::warn!("backends of the file are not there");
            force.known.servers = false;
            return Ok((None, stat));
        }
        let steps = Steps::from_running(&members::running(&stat), wanted);
        if steps.is_empty() {
            force.lingering.clear();
            force.known.servers = true;
            return Ok((Some(force.filed.table), stat));
        }
        if !(force.known.servers && steps.only_forgets(&force.lingering)) {
            tracing::warn!(?steps, "servers differ from the file: repairing");
        }
        force.known.servers = false;
        force.lingering = match members::carry_out(session, &steps, &force.lingering).await {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, "servers not repaired");
                return Ok((None, stat));
            }
        };
        if force.lingering.is_empty()
            && let Err(error) = self.delete_backends(session).await
        {
            tracing::warn!(%error, "backends not deleted");
        }
        let Some(force) = &mut self.force else { return Ok((None, stat)) };
        let stat = control::stat(session).await?;
        let steps = Steps::from_running(&members::running(&stat), &force.filed.servers);
        force.known.servers = steps.only_forgets(&force.lingering);
        Ok((force.known.servers.then_some(force.filed.table), stat))
    }

    fn report(&self, current: &Stat, old: &[Stat]) -> Traffic {
        let mut backends: BTreeMap<BackendName, BackendTraffic> = BTreeMap::new();
        if let Some(force) = &self.force {
            backends
                .extend(force.filed.servers.keys().map(|b| (b.clone(), BackendTraffic::default())));
        }
        for row in &current.rows {
            self.add_row(&mut backends, row, Worker::Current);
        }
        for stat in old {
            for row in &stat.rows {
                self.add_row(&mut backends, row, Worker::Old { idle: stat.idle });
            }
        }
        for (name, backend) in &mut backends {
            let sum = self.totals.of(name, None);
            (backend.requests, backend.failures) = (sum.requests, sum.failures);
            for (server, traffic) in &mut backend.servers {
                traffic.requests = self.totals.of(name, Some(server)).requests;
            }
        }
        Traffic { backends, ..Traffic::default() }
    }

    /// An old worker's rows count only while it holds connections there, or clients that may come there: it lets each
    /// of its idle clients send one more request (`option idle-close-on-response`), and leads it by the states its
    /// servers had when it was replaced.
    fn add_row(
        &self,
        backends: &mut BTreeMap<BackendName, BackendTraffic>,
        row: &Row,
        worker: Worker,
    ) {
        let Ok(name) = BackendName::new(&row.backend) else { return };
        let expected = worker.expected(row);
        let holds = row.open + row.queued + expected > 0;
        let known = self.force.as_ref().and_then(|f| f.filed.servers.get(&name));
        if !holds && (worker != Worker::Current || known.is_none()) {
            return;
        }
        let backend = backends.entry(name).or_default();
        match &row.kind {
            RowKind::Backend { response_time } => {
                backend.in_flight += row.open;
                backend.queued += row.queued;
                if worker == Worker::Current {
                    backend.response_time = *response_time;
                }
            }
            RowKind::Server { name, status, .. } => {
                let Ok(name) = ServerName::new(name) else { return };
                if !holds && known.is_none_or(|b| !b.servers.contains_key(&name)) {
                    return;
                }
                let server: &mut ServerTraffic = backend.servers.entry(name).or_default();
                server.open += row.open;
                server.expected += expected;
                server.up |= worker == Worker::Current && is_up(status);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    Current,
    Old { idle: u64 },
}

impl Worker {
    /// Requests that may come to the row's server without being asked for.
    fn expected(self, row: &Row) -> u64 {
        match (self, &row.kind) {
            (Self::Old { idle }, RowKind::Server { status, .. }) if is_up(status) => idle,
            _ => 0,
        }
    }
}

fn is_up(status: &str) -> bool {
    status.starts_with("UP") || status == "no check"
}
