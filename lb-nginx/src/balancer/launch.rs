//! The ways NGINX is checked, started, told to reload and ended.

mod container;
mod process;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{Failure, Owner, shortened};
use lb_core::{Error, Exit};

pub(crate) use self::container::InContainer;
pub(crate) use self::process::AsProcess;
use super::compose::CONFIG;

/// Longest time the check of a configuration may take.
pub(crate) const CHECK_DEADLINE: Duration = Duration::from_secs(20);

/// One way to have an NGINX.
#[async_trait]
pub(crate) trait Launch: Debug + Send + Sync {
    /// Runs the binary that serves, with these arguments, to its end.
    async fn run(&self, args: &[&str]) -> Result<Exit, Failure>;

    /// Whom workers run as; `None`: as whom we run.
    async fn worker(&self) -> Result<Option<Worker>, Failure>;

    /// Starts it. One that starts or runs already is success.
    async fn start(&self) -> Result<(), Failure>;

    /// Has it read its configuration again.
    async fn reload(&self) -> Result<(), Failure>;

    /// Workers of earlier configurations, where they cannot be seen from here. Default: not known.
    async fn old_workers(&self) -> Option<u32> {
        None
    }

    /// Ends so many workers of earlier configurations, the oldest, with what they hold.
    async fn end_oldest(&self, count: u32) -> Result<(), Failure>;

    /// Ends it.
    async fn stop(&self) -> Result<(), Failure>;

    /// What it wrote last.
    async fn log(&self) -> String;

    /// Whose process it is.
    fn owner(&self) -> Owner;

    /// Whether it can be told that nothing runs: whoever answers is then of a master that has died.
    fn sees_processes(&self) -> bool;

    /// How long it may take from `start` to the first answer.
    fn start_deadline(&self) -> Duration;
}

/// Whom workers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worker {
    /// User and group, as the `user` directive takes them.
    pub names: String,
    /// The user's number.
    pub uid: u32,
    /// The group's.
    pub gid: u32,
}

/// What a check said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    Valid,
    /// With all it wrote.
    Invalid(String),
}

/// Has the configuration in a directory checked.
pub(crate) async fn check(launch: &dyn Launch, directory: &Path) -> Result<Checked, Failure> {
    let prefix = format!("{}/", directory.display());
    let config = directory.join(CONFIG).display().to_string();
    let exit = launch.run(&["-t", "-e", "stderr", "-p", &prefix, "-c", &config]).await?;
    match exit.code {
        0 => Ok(Checked::Valid),
        _ => Ok(Checked::Invalid(exit.output)),
    }
}

/// Nothing could be said.
fn unchecked(error: &Error) -> Failure {
    Failure::Checker { message: format!("{}: {}", error.subject(), error.message()) }
}

/// What NGINX complains of in its latest start or reload.
pub(crate) fn complaints(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("[emerg]")).collect();
    let last = lines.len().saturating_sub(5);
    shortened(&match lines.is_empty() {
        true => log.to_owned(),
        false => lines[last..].join("; "),
    })
}
