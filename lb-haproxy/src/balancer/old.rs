//! Workers of earlier configurations, which keep their connections.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::engine::Engine;
use super::look::LOOK_AGAIN;
use super::members::Member;
use crate::control::{Master, SessionEntry};
use lb_core::balancer::Failure;

/// Longest time to shut connections of old workers; what is left ends with them (`hard-stop-after`).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the master may list a worker that has ended and answers no more.
const ENDING_PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Shuts what old workers still hold to servers that left the table.
    pub(super) async fn shut_on_old_workers(&mut self, gone: &[Member]) {
        let may_be = self.force.as_ref().is_some_and(|force| force.old_workers);
        if !may_be || gone.is_empty() {
            return;
        }
        match timeout(PATIENCE, self.shut_all(gone)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "connections of old workers not shut"),
            Err(_) => tracing::warn!(?PATIENCE, "connections of old workers not all shut"),
        }
    }

    /// Before a reload makes one more old worker than there may be, the oldest one's connections are shut: without
    /// any it ends.
    pub(super) async fn make_room(&mut self) {
        if !self.force.as_ref().is_some_and(|force| force.old_workers) {
            return;
        }
        match timeout(PATIENCE, self.shut_oldest()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the oldest worker's connections not shut"),
            Err(_) => tracing::warn!(?PATIENCE, "the oldest worker's connections not all shut"),
        }
    }

    async fn shut_oldest(&mut self) -> Result<(), Failure> {
        let old = self.processes().await?.old;
        let most = self.parts.max_old_workers as usize;
        let Some(oldest) = old.last().filter(|_| old.len() >= most) else { return Ok(()) };
        let mut sessions = self.of_old(*oldest, Master::sessions).await?.unwrap_or_default();
        // Who asks is one of them.
        sessions.retain(SessionEntry::has_server);
        tracing::warn!(
            old = old.len(),
            most,
            shut = sessions.len(),
            "the oldest worker has to end"
        );
        for session in sessions {
            self.master.shut(*oldest, &session).await?;
            self.cut += 1;
        }
        Ok(())
    }

    /// What an old worker says. `None`: it has ended, and holds nothing. Nothing else means that.
    pub(super) async fn of_old<T>(
        &self,
        worker: u32,
        ask: impl AsyncFn(&Master, u32) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let patience = Instant::now() + ENDING_PATIENCE;
        loop {
            let error = match ask(&self.master, worker).await {
                Ok(said) => return Ok(Some(said)),
                Err(error) => error,
            };
            if !self.processes().await?.old.contains(&worker) {
                return Ok(None);
            }
            if Instant::now() >= patience {
                return Err(error);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// An old worker refuses commands about servers ("Proxy is disabled"): each connection is shut by itself.
    async fn shut_all(&mut self, gone: &[Member]) -> Result<(), Failure> {
        let old = self.processes().await?.old;
        if let Some(force) = &mut self.force {
            force.old_workers = !old.is_empty();
        }
        let gone: BTreeSet<_> = gone.iter().map(Member::target).collect();
        for worker in old {
            let sessions = match self.of_old(worker, Master::sessions).await {
                Ok(sessions) => sessions.unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(worker, %error, "an old worker does not say what it holds");
                    continue;
                }
            };
            for session in sessions {
                let goes = gone.contains(&session.target());
                if goes && !session.connecting {
                    self.master.shut(worker, &session).await?;
                }
            }
        }
        Ok(())
    }
}
