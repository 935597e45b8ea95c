//! NGINX as a plain process, where there is no engine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use lb_core::Exit;
use lb_core::balancer::{ConfigDirectory, Failure, KeptProcess, Owner, run_program};
use rustix::process::{Pid, Signal, kill_process};

use super::{CHECK_DEADLINE, Launch, Worker, unchecked};
use crate::balancer::compose::{NONE_SOCKET, STATUS_SOCKET};
use crate::control::{Processes, orphans};

/// Longest time from start to the first answer.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Users that workers run as, the first that there is.
const USERS: [&str; 3] = ["nginx", "www-data", "nobody"];

/// NGINX as a child that outlives us. While we live, it is started again when it ends.
#[derive(Debug)]
pub(crate) struct AsProcess {
    program: PathBuf,
    config: PathBuf,
    process: KeptProcess,
}

impl AsProcess {
    pub(crate) fn new(program: PathBuf, directory: &ConfigDirectory) -> Self {
        let prefix = format!("{}/", directory.path().display());
        let words = ["-e", "stderr", "-p", &prefix, "-c"].map(Into::into);
        let args = words.into_iter().chain([directory.config().into()]).collect();
        let dir = directory.path().to_owned();
        let process = KeptProcess::new(program.clone(), args)
            .before_start(move |earlier| clear_the_way(&dir, earlier));
        Self { process, program, config: directory.config() }
    }

    fn master(&self) -> Option<u32> {
        Processes::find(&self.config).map(|p| p.master)
    }
}

/// A master that was killed leaves workers, which hold the ports and go on with what they were told last; and
/// sockets in the file system, which no other can bind.
fn clear_the_way(dir: &Path, earlier: Option<u32>) {
    let filed = || std::fs::read_to_string(dir.join("nginx.pid")).ok()?.trim().parse().ok();
    if let Some(master) = earlier.or_else(filed) {
        for worker in orphans(master) {
            tracing::warn!(worker, master, "worker of a master that died: told to end");
            let _ = signal(worker, Signal::QUIT);
        }
    }
    for name in [STATUS_SOCKET, NONE_SOCKET] {
        let _ = std::fs::remove_file(dir.join(name));
    }
}

fn signal(pid: u32, signal: Signal) -> Result<(), Failure> {
    let wrong = |message: String| Failure::Start { message };
    let raw = Pid::from_raw(pid.cast_signed()).ok_or_else(|| wrong(format!("no process {pid}")))?;
    kill_process(raw, signal).map_err(|e| wrong(format!("process {pid} cannot be told: {e}")))
}

#[async_trait]
impl Launch for AsProcess {
    async fn run(&self, args: &[&str]) -> Result<Exit, Failure> {
        let args: Vec<_> = args.iter().map(Into::into).collect();
        run_program(&self.program, &args, CHECK_DEADLINE).await.map_err(|e| unchecked(&e))
    }

    async fn worker(&self) -> Result<Option<Worker>, Failure> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let found = USERS.iter().find_map(|user| worker(user, &passwd, &group));
        found.map(Some).ok_or_else(|| Failure::Setup {
            field: "user",
            message: format!("one of {} must be there for workers to run as", USERS.join(", ")),
        })
    }

    async fn start(&self) -> Result<(), Failure> {
        Ok(self.process.start().await?)
    }

    async fn reload(&self) -> Result<(), Failure> {
        let gone = || Failure::Start { message: "nginx does not run".to_owned() };
        signal(self.master().ok_or_else(gone)?, Signal::HUP)
    }

    async fn end_oldest(&self, count: u32) -> Result<(), Failure> {
        let old = Processes::find(&self.config).map(|p| p.old).unwrap_or_default();
        for worker in old.into_iter().take(count as usize) {
            // One that has ended meanwhile is what was wanted.
            let _ = signal(worker, Signal::TERM);
        }
        Ok(())
    }

    async fn stop(&self) -> Result<(), Failure> {
        self.process.stop(self.master()).await;
        Ok(())
    }

    async fn log(&self) -> String {
        self.process.log()
    }

    fn owner(&self) -> Owner {
        Owner::OursAlike
    }

    fn sees_processes(&self) -> bool {
        true
    }

    fn start_deadline(&self) -> Duration {
        START_DEADLINE
    }
}

/// A user of `/etc/passwd` with the group that is its own.
fn worker(user: &str, passwd: &str, group: &str) -> Option<Worker> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let entry = passwd.lines().map(fields).find(|f| f.len() > 3 && f[0] == user)?;
    let group = group.lines().map(fields).find(|f| f.len() > 2 && f[2] == entry[3])?;
    let (uid, gid) = (entry[2].parse().ok()?, entry[3].parse().ok()?);
    Some(Worker { names: format!("{user} {}", group[0]), uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_its_users_own_group() {
        let (passwd, group) = (
            "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
            "root:x:0:\nnogroup:x:65534:\n",
        );
        let nobody = worker("nobody", passwd, group).unwrap();
        assert_eq!((nobody.names.as_str(), nobody.uid), ("nobody nogroup", 65534));
        assert_eq!(worker("nginx", passwd, group), None);
    }
}
