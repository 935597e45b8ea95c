//! HAProxy as a plain process, where there is no engine.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Checked, Launch, Owner, check_by, unprivileged};
use crate::balancer::directory::Directory;
use crate::balancer::limits::own_descriptors;
use crate::error::Failure;

/// Longest time from start to the first answer.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Time between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Lines of its output that are kept.
const LOG_LINES: usize = 200;
/// First and longest pause before a process that ended by itself is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that ran so long starts over with the first pause.
const SETTLED: Duration = Duration::from_secs(60);

/// HAProxy as a child in a process group of its own, so that a Ctrl-C meant for us does not end it. It
/// outlives us. While we live, it is started again when it ends.
#[derive(Debug)]
pub(crate) struct AsProcess {
    program: PathBuf,
    directory: Directory,
    log: Arc<Mutex<VecDeque<String>>>,
    watch: tokio::sync::Mutex<Option<Watch>>,
}

/// The task that keeps the process running.
#[derive(Debug)]
struct Watch {
    enough: CancellationToken,
    task: JoinHandle<()>,
}

impl Watch {
    /// Ends the process and the task.
    async fn end(self) {
        self.enough.cancel();
        let _ = self.task.await;
    }
}

impl AsProcess {
    pub(crate) fn new(program: PathBuf, directory: Directory) -> Self {
        Self { program, directory, log: Arc::default(), watch: tokio::sync::Mutex::default() }
    }

    fn runner(&self) -> Runner {
        Runner {
            program: self.program.clone(),
            directory: self.directory.clone(),
            log: self.log.clone(),
        }
    }
}

#[async_trait]
impl Launch for AsProcess {
    async fn check(&self, config: &Path) -> Result<Checked, Failure> {
        check_by(&self.program, config).await
    }

    async fn start(&self) -> Result<(), Failure> {
        let mut watch = self.watch.lock().await;
        if let Some(earlier) = watch.take() {
            earlier.end().await;
        }
        let runner = self.runner();
        let child = runner.spawn()?;
        let enough = CancellationToken::new();
        let task = tokio::spawn(runner.keep_running(child, enough.clone()));
        *watch = Some(Watch { enough, task });
        Ok(())
    }

    async fn stop(&self, master: Option<u32>) -> Result<(), Failure> {
        if let Some(watch) = self.watch.lock().await.take() {
            watch.end().await;
        }
        let pid = master.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let Some(pid) = pid else { return Ok(()) };
        end(pid).await
    }

    async fn log(&self) -> String {
        let lines = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    fn owner(&self) -> Owner {
        Owner::OursAlike
    }

    fn start_deadline(&self) -> Duration {
        START_DEADLINE
    }

    fn user(&self) -> Vec<String> {
        unprivileged()
    }

    fn descriptors(&self) -> Option<u64> {
        own_descriptors()
    }
}

/// Asks a process to end, and makes it.
async fn end(pid: Pid) -> Result<(), Failure> {
    let gone = |signal| kill_process(pid, signal).is_err();
    if gone(Signal::TERM) {
        return Ok(());
    }
    let ended = async {
        while rustix::process::test_kill_process(pid).is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(STOP_GRACE, ended).await.is_err() {
        gone(Signal::KILL);
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Runner {
    program: PathBuf,
    directory: Directory,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Runner {
    fn spawn(&self) -> Result<Child, Failure> {
        let master = format!("{},mode,600", self.directory.master_socket().display());
        let mut child = Command::new(&self.program)
            .args(["-W", "-db", "-S", &master, "-f"])
            .arg(self.directory.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| Failure::Start { message: format!("{}: {e}", self.program.display()) })?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(self.clone().read(out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(self.clone().read(err));
        }
        Ok(child)
    }

    /// Keeps the last lines. HAProxy ignores that nobody reads any more once we are gone.
    async fn read(self, output: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(target: "lb_haproxy::output", line);
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    }

    async fn keep_running(self, mut child: Child, enough: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            tokio::select! {
                biased;
                () = enough.cancelled() => return reap(child).await,
                status = child.wait() => tracing::warn!(?status, "haproxy ended"),
            }
            pause = match started.elapsed() > SETTLED {
                true => FIRST_PAUSE,
                false => pause,
            };
            child = loop {
                tokio::select! {
                    biased;
                    () = enough.cancelled() => return,
                    () = sleep(pause) => {}
                }
                pause = LONGEST_PAUSE.min(pause * 2);
                match self.spawn() {
                    Ok(child) => break child,
                    Err(error) => tracing::warn!(%error, "haproxy not started again"),
                }
            };
        }
    }
}

/// Ends a child nobody wants any more, and takes its exit status.
async fn reap(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP_GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
