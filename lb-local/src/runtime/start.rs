//! Starting a process, and learning how it ended.

use std::process::Stdio;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lb_core::{
    Attachment, ContainerId, ContainerName, ContainerSpec, Error, ErrorKind, Exit, Result, Role,
    RuntimeEvent,
};
use tokio::process::{Child, Command};

use super::{LocalRuntime, Shared, UNKNOWN_EXIT, blocking, subject};
use crate::convert::{self, CommandLine};
use crate::error::{LocalError, Result as LocalResult};
use crate::logs;
use crate::process::{ProcessId, find_leader};
use crate::program::check_program;
use crate::records::Record;

/// Most output `run_to_end` hands back.
const OUTPUT: u64 = 64 << 10;
/// How often a process that may have ended is looked at.
const LOOK: Duration = Duration::from_millis(10);

impl LocalRuntime {
    /// Makes and starts the container, or finds it running.
    pub(super) async fn start(&self, spec: ContainerSpec) -> Result<ContainerId> {
        let (shared, name) = (self.shared.clone(), spec.name.clone());
        let work = move |here: &Shared| {
            // Registered under the same lock: a list must never see a child that nobody waits for.
            here.records.locked(|| Ok(here.ensure(&spec)?.watched(shared)))
        };
        self.with("run", subject(&name), work).await
    }

    /// Starts the container, waits for its end, and removes it.
    pub(super) async fn start_to_end(
        &self,
        spec: ContainerSpec,
        deadline: Duration,
    ) -> Result<Exit> {
        let name = spec.name.clone();
        if self.is_left_behind(&name).await? {
            self.end(name.clone(), Duration::ZERO).await?;
        }
        self.start(spec).await?;
        let ended = tokio::time::timeout(deadline, self.ended(&name)).await;
        let output = self
            .with("read output of", subject(&name), {
                let name = name.clone();
                move |shared| {
                    let dir = shared.records.container_dir(&name);
                    logs::end(&dir, OUTPUT).map_err(LocalError::file(dir))
                }
            })
            .await;
        self.end(name.clone(), Duration::ZERO).await?;
        let late = |_| {
            let message = format!("not ended within {deadline:?}; killed");
            Error::new(ErrorKind::Timeout, "run", subject(&name), message)
        };
        let code = ended.map_err(late)??;
        Ok(Exit { code, out_of_memory: false, output: output? })
    }

    /// Whether a checker of ours has this name: its process did not live to remove it.
    async fn is_left_behind(&self, name: &ContainerName) -> Result<bool> {
        let wanted = name.clone();
        let look = move |shared: &Shared| {
            let there = shared.records.container(&wanted)?;
            Ok(there.is_some_and(|r| r.cluster == shared.cluster && r.role == Role::Checker))
        };
        self.with("look at", subject(name), look).await
    }

    /// Waits until the container has ended.
    async fn ended(&self, name: &ContainerName) -> Result<i64> {
        loop {
            let wanted = name.clone();
            let over = self.with("wait for", subject(name), move |shared| {
                let record = shared.records.container(&wanted)?;
                Ok(record.map_or(Some(UNKNOWN_EXIT), |record| shared.end_of(&record)))
            });
            match over.await? {
                Some(code) => return Ok(code),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// A container that runs now; with its process where we have just become its parent.
struct Started {
    record: Record,
    child: Option<Child>,
}

impl Started {
    fn watched(self, shared: Arc<Shared>) -> ContainerId {
        let id = self.record.id.clone();
        let Some(child) = self.child else { return id };
        let children = shared.children.lock();
        children.unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        shared.tell(RuntimeEvent::Started(self.record.name.clone()));
        tokio::spawn(watch(shared, self.record, child));
        id
    }
}

/// Waits for a child's end and writes it down. Outlives the runtime: the code would be lost otherwise.
async fn watch(shared: Arc<Shared>, record: Record, mut child: Child) {
    let code = child.wait().await.map_or(UNKNOWN_EXIT, exit_code);
    let (name, id) = (record.name, record.id);
    let (here, who, which) = (shared.clone(), name.clone(), id.clone());
    let written = blocking(move || here.records.put_exit(&who, &which, code)).await;
    if let Err(error) = written {
        tracing::warn!(container = %name, %error, "exit not written");
    }
    shared.children.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    tracing::info!(container = %name, code, "exited");
    shared.tell(RuntimeEvent::Exited(name));
}

/// Exit code; 128 + signal for a signal.
fn exit_code(status: std::process::ExitStatus) -> i64 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = || status.signal().map(|s| 128 + i64::from(s));
    status.code().map(i64::from).or_else(signal).unwrap_or(UNKNOWN_EXIT)
}

impl Shared {
    /// Under the lock: brings the container to running, whatever an earlier attempt left behind.
    fn ensure(&self, spec: &ContainerSpec) -> LocalResult<Started> {
        convert::check(spec)?;
        let Some(record) = self.records.container(&spec.name)? else {
            return self.launch(spec, Record::new(self.cluster.clone(), spec));
        };
        let conflict = |what: &str| Err(LocalError::Conflict(what.into()));
        if record.cluster != self.cluster {
            return conflict("the name is taken by another cluster's container");
        }
        if record.spec != spec.hash() {
            return conflict("the name is taken by a container made from another spec");
        }
        match &record.process {
            Some(_) if record.is_alive() => Ok(Started { record, child: None }),
            Some(_) => conflict("the name is taken by a container that has exited"),
            None => match find_leader(&self.records.container_dir(&spec.name)) {
                Some(process) => self.adopt(record, process),
                None => self.launch(spec, record),
            },
        }
    }

    fn adopt(&self, record: Record, process: ProcessId) -> LocalResult<Started> {
        let record = Record { process: Some(process), ..record };
        self.records.put_container(&record)?;
        Ok(Started { record, child: None })
    }

    fn launch(&self, spec: &ContainerSpec, record: Record) -> LocalResult<Started> {
        self.check_address(spec)?;
        let (image, _) = self.images.find(&spec.image)?;
        let dir = self.records.container_dir(&spec.name);
        let command = convert::command_line(spec, image, &dir)?;
        check_program(&command.program).map_err(|e| blame(spec, e))?;
        self.records.put_container(&record)?;
        let launched = spawn(&command, &dir).and_then(|child| self.started(record, child));
        if launched.is_err() {
            self.records.remove_container(&spec.name)?;
        }
        launched
    }

    fn started(&self, record: Record, mut child: Child) -> LocalResult<Started> {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let record = Record { process: pid.map(ProcessId::of), ..record };
        match self.records.put_container(&record) {
            Ok(()) => {
                tracing::info!(container = %record.name, pid, "started");
                Ok(Started { record, child: Some(child) })
            }
            Err(e) => {
                let _ = child.start_kill();
                Err(e)
            }
        }
    }

    fn check_address(&self, spec: &ContainerSpec) -> LocalResult<()> {
        let Attachment::Network { name, address } = &spec.network else { return Ok(()) };
        match self.records.network(name)? {
            None => return Err(LocalError::Missing(format!("network {name} must be made first"))),
            Some(n) if !n.spec.subnet.contains(address) => {
                let rule =
                    format!("address {address} must lie in network {name}, {}", n.spec.subnet);
                return Err(LocalError::Invalid(rule));
            }
            Some(_) => {}
        }
        let has_it = |r: &Record| {
            r.name != spec.name
                && r.network.as_ref().is_some_and(|(_, taken)| taken == address)
                && (r.is_alive() || self.is_child(&r.id))
        };
        match self.records.containers()?.iter().find(|r| has_it(r)) {
            Some(r) => Err(LocalError::Conflict(format!(
                "address {address} is taken by container {}",
                r.name
            ))),
            None => Ok(()),
        }
    }
}

/// A program that is not there is the image's fault, or that of the command in its place.
fn blame(spec: &ContainerSpec, error: LocalError) -> LocalError {
    match (&spec.command, error) {
        (Some(_), LocalError::Missing(rule)) => LocalError::Invalid(rule),
        (_, error) => error,
    }
}

fn spawn(command: &CommandLine, dir: &std::path::Path) -> LocalResult<Child> {
    let log = logs::open(dir).map_err(LocalError::file(dir))?;
    let same_log = log.try_clone().map_err(LocalError::file(dir))?;
    Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(&command.env)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(same_log)
        .process_group(0)
        .spawn()
        .map_err(|source| LocalError::Spawn { program: command.program.clone(), source })
}
