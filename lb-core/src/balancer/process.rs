//! A balancer as a plain process: run to its end as a checker, or kept running as a server.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Exit;

/// Time between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Lines of its output that are kept.
const LOG_LINES: usize = 200;
/// First and longest pause before a process that ended by itself is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that ran so long starts over with the first pause.
const SETTLED: Duration = Duration::from_secs(60);

/// Runs a program to its end: its exit code and all it wrote, standard error first.
///
/// # Errors
/// `Unavailable` when it cannot be started, ends by a signal, or is not done within the deadline.
pub async fn run_program(program: &Path, args: &[OsString], deadline: Duration) -> Result<Exit> {
    let wrong = |message: String| {
        let subject = program.display().to_string();
        Error::new(ErrorKind::Unavailable, "", subject, message)
    };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(deadline, command.output())
        .await
        .map_err(|_| wrong(format!("was not done within {deadline:?}")))?
        .map_err(|e| wrong(e.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.code() {
        Some(code) => Ok(Exit {
            code: code.into(),
            output: text(&output.stderr) + &text(&output.stdout),
            out_of_memory: false,
        }),
        None => Err(wrong(format!("was ended: {}", output.status))),
    }
}

/// A child in a process group of its own, so that a Ctrl-C meant for us does not end it. It outlives us;
/// while we live, it is started again when it ends.
#[derive(Debug)]
pub struct KeptProcess {
    runner: Runner,
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

impl KeptProcess {
    /// The program and its arguments. Nothing is started yet.
    pub fn new(program: PathBuf, args: Vec<OsString>) -> Self {
        let before = Before(Arc::new(|_| {}));
        let runner = Runner { program, args: args.into(), log: Arc::default(), before };
        Self { runner, watch: tokio::sync::Mutex::default() }
    }

    /// Has something done before each start, with the process id of the child before, if there was one: its
    /// own children may have outlived it.
    #[must_use]
    pub fn before_start(mut self, work: impl Fn(Option<u32>) + Send + Sync + 'static) -> Self {
        self.runner.before = Before(Arc::new(work));
        self
    }

    /// Starts it; one that this value started before is ended first.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be started.
    pub async fn start(&self) -> Result<()> {
        let mut watch = self.watch.lock().await;
        if let Some(earlier) = watch.take() {
            earlier.end().await;
        }
        let child = self.runner.spawn(None)?;
        let enough = CancellationToken::new();
        let task = tokio::spawn(self.runner.clone().keep_running(child, enough.clone()));
        *watch = Some(Watch { enough, task });
        Ok(())
    }

    /// Ends it: what this value started, and `pid`, which an earlier one did.
    pub async fn stop(&self, pid: Option<u32>) {
        if let Some(watch) = self.watch.lock().await.take() {
            watch.end().await;
        }
        if let Some(pid) = pid.and_then(raw) {
            end(pid).await;
        }
    }

    /// The last lines it wrote.
    pub fn log(&self) -> String {
        let lines = self.runner.log.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// Asks a process to end, and makes it.
async fn end(pid: Pid) {
    if kill_process(pid, Signal::TERM).is_err() {
        return;
    }
    let ended = async {
        while test_kill_process(pid).is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(STOP_GRACE, ended).await.is_err() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.cast_signed())
}

#[derive(Clone)]
struct Before(Arc<dyn Fn(Option<u32>) + Send + Sync>);

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Before")
    }
}

#[derive(Debug, Clone)]
struct Runner {
    program: PathBuf,
    args: Arc<[OsString]>,
    log: Arc<Mutex<VecDeque<String>>>,
    before: Before,
}

impl Runner {
    fn spawn(&self, earlier: Option<u32>) -> Result<Child> {
        (self.before.0)(earlier);
        let mut child = Command::new(&self.program)
            .args(&*self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| {
                let subject = self.program.display().to_string();
                Error::new(ErrorKind::Unavailable, "", subject, format!("cannot be started: {e}"))
            })?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(self.clone().read(out));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(self.clone().read(err));
        }
        Ok(child)
    }

    /// Keeps the last lines. A balancer ignores that nobody reads any more once we are gone.
    async fn read(self, output: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(program = %self.program.display(), line);
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
            let pid = child.id();
            tokio::select! {
                biased;
                () = enough.cancelled() => return reap(child).await,
                settled = ended(&mut child) => if settled { pause = FIRST_PAUSE },
            }
            tracing::warn!(program = %self.program.display(), "ended by itself");
            child = loop {
                tokio::select! {
                    biased;
                    () = enough.cancelled() => return,
                    () = sleep(pause) => {}
                }
                pause = LONGEST_PAUSE.min(pause * 2);
                match self.spawn(pid) {
                    Ok(child) => break child,
                    Err(error) => tracing::warn!(%error, "not started again"),
                }
            };
        }
    }
}

/// Waits for the child's end: whether it had run for long.
async fn ended(child: &mut Child) -> bool {
    let early = timeout(SETTLED, child.wait()).await.is_ok();
    if !early {
        let _ = child.wait().await;
    }
    !early
}

/// Ends a child nobody wants any more, and takes its exit status.
async fn reap(mut child: Child) {
    if let Some(pid) = child.id().and_then(raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP_GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
