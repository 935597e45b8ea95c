//! Ending a process and everything it forked.

use std::time::Duration;

use lb_core::{ContainerName, Result, RuntimeEvent};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::{LocalRuntime, blocking, subject};
use crate::error::{LocalError, Result as LocalResult};
use crate::process::{ProcessId, find_leader, kill_marked, stop_signal};

/// How often a process that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long the kernel may take to end a process that was killed.
const KILLED: Duration = Duration::from_secs(10);

impl LocalRuntime {
    /// Signal, grace, SIGKILL, and the directory goes.
    pub(super) async fn end(&self, name: ContainerName, grace: Duration) -> Result<()> {
        let wanted = name.clone();
        let found = self.with("stop", subject(&name), move |shared| {
            let dir = shared.records.container_dir(&wanted);
            match shared.records.container(&wanted)? {
                None => Ok(None),
                Some(r) if r.cluster != shared.cluster => {
                    Err(LocalError::Conflict("it is another cluster's".into()))
                }
                Some(r) => {
                    let process =
                        r.process.filter(ProcessId::is_alive).or_else(|| find_leader(&dir));
                    let signal = stop_signal(r.stop_signal.as_ref());
                    Ok(Some((process, signal)))
                }
            }
        });
        let Some((process, signal)) = found.await? else { return Ok(()) };
        if let Some(process) = process {
            let ended = end_process(process, signal, grace).await;
            ended.map_err(|e| e.during("stop", subject(&name)))?;
        }
        let gone = name.clone();
        self.with("remove", subject(&name), move |shared| {
            kill_marked(&shared.records.container_dir(&gone));
            shared.records.locked(|| shared.records.remove_container(&gone))
        })
        .await?;
        tracing::info!(container = %name, "stopped");
        self.shared.tell(RuntimeEvent::Removed(name));
        Ok(())
    }
}

async fn end_process(process: ProcessId, signal: Signal, grace: Duration) -> LocalResult<()> {
    let tell = |signal| {
        let failed =
            |e| LocalError::Conflict(format!("process {} refuses signals: {e}", process.pid));
        process.signal_group(signal).map_err(failed)
    };
    if !grace.is_zero() {
        tell(signal)?;
        if gone_within(&process, grace).await? {
            return Ok(());
        }
    }
    tell(Signal::KILL)?;
    match gone_within(&process, KILLED).await? {
        true => Ok(()),
        false => Err(LocalError::Unkillable { pid: process.pid }),
    }
}

async fn gone_within(process: &ProcessId, time: Duration) -> LocalResult<bool> {
    let deadline = Instant::now() + time;
    loop {
        let who = process.clone();
        if !blocking(move || Ok(who.is_alive())).await? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}
