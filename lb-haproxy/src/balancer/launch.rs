//! The ways HAProxy is checked, started and ended.

mod attached;
mod container;
mod process;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{Failure, Owner, run_program};
use lb_core::{Error, Exit};

pub(crate) use self::attached::Attached;
pub(crate) use self::container::InContainer;
pub(crate) use self::process::AsProcess;

use crate::version;

/// Longest time the check of a configuration may take.
pub(crate) const CHECK_DEADLINE: Duration = Duration::from_secs(20);

/// One way to have a HAProxy.
#[async_trait]
pub(crate) trait Launch: Debug + Send + Sync {
    /// What the HAProxy that will run calls its version.
    async fn version(&self) -> Result<String, Failure>;

    /// Has a configuration checked by the HAProxy that will run it.
    async fn check(&self, config: &Path) -> Result<Checked, Failure>;

    /// Starts it. One that starts or runs already is success.
    async fn start(&self) -> Result<(), Failure>;

    /// Ends it. `master` is its process, where that is known.
    async fn stop(&self, master: Option<u32>) -> Result<(), Failure>;

    /// What it wrote last.
    async fn log(&self) -> String;

    /// Whose process it is.
    fn owner(&self) -> Owner;

    /// How long it may take from `start` to the first answer.
    fn start_deadline(&self) -> Duration;

    /// Lines of `global` that say whom the workers run as.
    fn user(&self) -> Vec<String>;

    /// The limit of its file descriptors, where it is known.
    fn descriptors(&self) -> Option<u64>;
}

/// What a check said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    Valid,
    /// With all it wrote.
    Invalid(String),
}

/// Runs `haproxy -c` as a process.
async fn check_by(program: &Path, config: &Path) -> Result<Checked, Failure> {
    let args = ["-c".into(), "-f".into(), config.into()];
    let exit = run_program(program, &args, CHECK_DEADLINE).await;
    Ok(Checked::from(exit.map_err(|e| unchecked(&e))?))
}

/// Runs `haproxy -v` as a process.
async fn version_by(program: &Path) -> Result<String, Failure> {
    let exit = run_program(program, &["-v".into()], CHECK_DEADLINE).await;
    Ok(version::named(&exit.map_err(|e| unchecked(&e))?.output).to_owned())
}

/// Nothing could be said about the file.
fn unchecked(error: &Error) -> Failure {
    let message = format!("{}: {}", error.subject(), error.message());
    Failure::Checker { message }
}

impl From<Exit> for Checked {
    fn from(exit: Exit) -> Self {
        match exit.code {
            0 => Self::Valid,
            _ => Self::Invalid(exit.output),
        }
    }
}

/// Whom workers of a process run as: `haproxy` where there is such a user, nobody else's rights at least.
fn unprivileged() -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    let named = |file: &str| {
        std::fs::read_to_string(file)
            .is_ok_and(|text| text.lines().any(|l| l.starts_with("haproxy:")))
    };
    let lines: &[&str] = match (root, named("/etc/passwd") && named("/etc/group")) {
        (false, _) => &[],
        (true, true) => &["user haproxy", "group haproxy"],
        (true, false) => &["uid 65534", "gid 65534"],
    };
    lines.iter().map(ToString::to_string).collect()
}
