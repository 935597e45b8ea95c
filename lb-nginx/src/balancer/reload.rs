//! A new shape: checked, put in place, started or reloaded, and seen running; or everything put back.

use std::time::Duration;

use lb_core::balancer::{Aside, Failure, reasons, shortened};
use lb_core::{Change, TableHash};
use tokio::time::{Instant, sleep};

use super::compose::Composed;
use super::culprits::culprits;
use super::engine::{Engine, blocking};
use super::filed::Filed;
use super::launch::{Checked, check, complaints};
use super::look::{LOOK_AGAIN, Met};
use crate::control::Processes;

/// Longest time from the reload until a new worker shows its mark and no old one accepts: NGINX itself tries
/// for 2.5 s to bind a port, and must not succeed after everything was put back...
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// ... and more for each so many bytes of configuration, which take time to read.
const BYTES_A_SECOND: usize = 2 * 1024 * 1024;
/// Where processes cannot be seen: how long nobody but new workers must have answered. A master tells old
/// workers to end 0.1 s after the new ones began.
const ALONE_FOR: Duration = Duration::from_millis(300);

/// How a try ended, when it did not fail for good.
#[derive(Debug)]
pub(crate) enum Tried {
    /// In force.
    Changed(Change),
    /// NGINX refuses these parts; without them it may come up.
    Refused(Aside, Failure),
}

impl Engine {
    /// Tries a new shape.
    pub(super) async fn reload(
        &mut self,
        composed: &Composed,
        asked: TableHash,
        met: &Met,
    ) -> Result<Tried, Failure> {
        self.last_attempt = Some(Instant::now());
        let (directory, staged) = (self.parts.directory.clone(), composed.clone());
        blocking(move || {
            let files: Vec<_> = staged.contents().collect();
            Ok(directory
                .stage(files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())))?)
        })
        .await?;
        if let Some(refused) = self.check(composed).await? {
            return Ok(refused);
        }
        self.count_logged();
        if matches!(met, Met::Up(_)) {
            self.make_room().await?;
        }
        let (directory, staged) = (self.parts.directory.clone(), composed.clone());
        let snapshot = blocking(move || Ok(directory.snapshot(staged.names())?)).await?;
        let (directory, staged) = (self.parts.directory.clone(), composed.clone());
        let placed = blocking(move || Ok(directory.promote(staged.names())?)).await;
        let seen = match placed {
            Ok(()) => self.bring_up(composed, met).await,
            Err(error) => Err(error),
        };
        self.replaced = Instant::now();
        if let Err(error) = seen {
            tracing::warn!(%error, "rolling back");
            let directory = self.parts.directory.clone();
            blocking(move || Ok(directory.restore(&snapshot)?)).await?;
            return self.after_failure(composed, error, met).await;
        }
        let change = if matches!(met, Met::Down) { Change::Start } else { Change::Reload };
        self.in_force(Filed::of(composed, asked), change).await;
        Ok(Tried::Changed(change))
    }

    /// NGINX's own opinion of the staged files.
    async fn check(&mut self, composed: &Composed) -> Result<Option<Tried>, Failure> {
        let directory = self.parts.directory.stage_path();
        let Checked::Invalid(output) = check(&*self.parts.launch, &directory).await? else {
            return Ok(None);
        };
        let staged = self.parts.directory.staged_config();
        let parts = culprits(&output, composed, &staged);
        let message = match parts.is_empty() {
            true => shortened(&output),
            false => reasons(&parts),
        };
        tracing::warn!(%message, "configuration refused");
        let failure = Failure::Configuration { message };
        match parts.is_empty() {
            true => Err(failure),
            false => Ok(Some(Tried::Refused(parts, failure))),
        }
    }

    /// Starts or reloads, and waits until new workers are seen.
    async fn bring_up(&self, composed: &Composed, met: &Met) -> Result<(), Failure> {
        let size = Duration::from_secs((composed.text.len() / BYTES_A_SECOND) as u64);
        let before = self.processes().await?;
        let patience = match met {
            Met::Down => {
                self.parts.launch.start().await?;
                self.parts.launch.start_deadline()
            }
            Met::Up(_) => {
                self.parts.launch.reload().await?;
                SEEN_WITHIN
            }
        };
        let deadline = Instant::now() + patience + size;
        let mut alone_since: Option<Instant> = None;
        loop {
            // While it starts nobody may answer, or one that is about to end.
            let answers = self.socket.status().await.is_ok_and(|s| s.mark == composed.mark);
            let alone = match (answers, self.processes().await?) {
                (false, _) => {
                    alone_since = None;
                    false
                }
                (true, Some(now)) => now.are_new(before.as_ref(), self.parts.settings.workers),
                (true, None) => {
                    alone_since.get_or_insert_with(Instant::now).elapsed() >= ALONE_FOR
                        || matches!(met, Met::Down)
                }
            };
            if alone {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = complaints(&self.parts.launch.log().await);
                let message = format!("no worker with mark {} in time; {log}", composed.mark);
                return Err(Failure::NotSeen { message });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The files are the last good ones again: what now?
    async fn after_failure(
        &mut self,
        composed: &Composed,
        error: Failure,
        met: &Met,
    ) -> Result<Tried, Failure> {
        let log = self.parts.launch.log().await;
        match (met, self.meet().await) {
            // It did not come up at all: it must not try for ever with files that are gone.
            (Met::Down, _) => self.parts.launch.stop().await?,
            // It ran before and does not any more: back up with the files it ran with.
            (Met::Up(_), Ok(Met::Down)) => self.parts.launch.start().await?,
            _ => {}
        }
        let config = self.parts.directory.config();
        let parts = culprits(&complaints(&log).replace("; ", "\n"), composed, &config);
        match parts.is_empty() {
            true => Err(error),
            false => Ok(Tried::Refused(parts, error)),
        }
    }

    async fn in_force(&mut self, filed: Filed, change: Change) {
        let before = self.force.take();
        if change == Change::Reload {
            self.reloads += 1;
        }
        tracing::info!(mark = %filed.mark, ?change, "configuration in force");
        self.parts.directory.loaded();
        self.force = Some(filed.clone());
        let Some(before) = before else { return };
        self.shut_left(&before.record, &filed.record).await;
        let directory = self.parts.directory.clone();
        let tidy = move || {
            directory.tidy(&before.files, &filed.files);
            Ok(())
        };
        let _ = blocking(tidy).await;
    }
}

impl Processes {
    /// Whether workers of this master began after `before`, all of them, and no earlier one accepts.
    fn are_new(&self, before: Option<&Self>, count: u32) -> bool {
        let earlier = |pid: &u32| before.is_some_and(|b| b.workers.contains(pid));
        self.workers.len() >= count as usize && !self.workers.iter().any(earlier)
    }
}
