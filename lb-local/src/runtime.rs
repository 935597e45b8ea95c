//! Apps as operating-system processes.

mod start;
mod stop;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use lb_core::{
    ClusterId, Container, ContainerId, ContainerName, ContainerRuntime, ContainerSpec,
    ContainerState, EngineInfo, Error, Exit, ImageDigest, ImageRef, Keyed, NetworkName,
    NetworkSpec, Progress, Readiness, RegistryAuth, Result, RuntimeEvent, Usage,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::error::{LocalError, Result as LocalResult};
use crate::program::{Images, Program};
use crate::records::{Record, Records};
use crate::{logs, network, usage};

/// Deadline of every call that does not name its own.
const CALL: Duration = Duration::from_secs(30);
/// Events kept for a reader that lags; beyond it the reader is told to list again.
const EVENTS: usize = 256;
/// The exit code of a process whose end nobody saw, because its parent had gone.
const UNKNOWN_EXIT: i64 = -1;

/// Runs containers as processes of this machine, each told a loopback address of its own.
///
/// What a process is not: it is not confined. It sees the host's files, runs as the orchestrator's user,
/// and its CPU and memory limits are not enforced. `hosts` of a spec are not put into `/etc/hosts`.
///
/// State lies in a directory. Processes live on when this value and even its process end; a new value on
/// the same directory adopts them, after which a process's exit code is -1 (not known), because only a
/// parent learns it.
///
/// ```no_run
/// # async fn example() -> lb_core::Result<()> {
/// use lb_core::{ClusterId, ContainerRuntime as _};
/// use lb_local::{LocalRuntime, Program};
/// let runtime = LocalRuntime::builder(ClusterId::new("demo")?, "/tmp/demo")
///     .image("web:1", Program::new("/usr/local/bin/web").args(["--listen", "{address}:{port}"]))
///     .build()?;
/// assert!(runtime.list().await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalRuntime {
    shared: Arc<Shared>,
    keyed: Keyed<String>,
}

/// Settings of a [`LocalRuntime`].
#[derive(Debug)]
pub struct LocalRuntimeBuilder {
    cluster: ClusterId,
    dir: PathBuf,
    images: Vec<(String, Program)>,
}

/// What background tasks share with the value itself.
#[derive(Debug)]
struct Shared {
    cluster: ClusterId,
    records: Records,
    images: Images,
    events: broadcast::Sender<RuntimeEvent>,
    /// Processes whose parent this value is: their end is known once it is written down.
    children: Mutex<BTreeSet<ContainerId>>,
    sweeper: OnceLock<()>,
}

impl LocalRuntime {
    /// A runtime of `cluster` with its state in `dir`, which is made if needed.
    pub fn builder(cluster: ClusterId, dir: impl AsRef<Path>) -> LocalRuntimeBuilder {
        LocalRuntimeBuilder { cluster, dir: dir.as_ref().to_owned(), images: Vec::new() }
    }

    /// Runs `work` on the files, off the async threads.
    async fn with<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        work: impl FnOnce(&Shared) -> LocalResult<T> + Send + 'static,
    ) -> Result<T> {
        self.shared.clone().start_sweeper();
        let shared = self.shared.clone();
        let done = blocking(move || work(&shared)).await;
        done.map_err(|e| e.during(operation, subject.to_string()))
    }

    /// As [`with`](Self::with), after earlier work on the same key, to its end even if nobody waits.
    async fn change<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: String,
        work: impl FnOnce(&Shared) -> LocalResult<T> + Send + 'static,
    ) -> Result<T> {
        let (this, key) = (self.clone(), subject.clone());
        let work = async move { this.with(operation, subject, work).await };
        self.keyed.run(key, operation, CALL, work).await
    }
}

impl LocalRuntimeBuilder {
    /// Registers a program under an image name such as `web:1`. The tag is `latest` where it has none.
    #[must_use]
    pub fn image(mut self, image: impl Into<String>, program: Program) -> Self {
        self.images.push((image.into(), program));
        self
    }

    /// Opens the directory.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be made or read; `Invalid` for an image name that is none.
    pub fn build(self) -> Result<LocalRuntime> {
        let mut images = Images::default();
        for (name, program) in self.images {
            images.add(&ImageRef::new(name)?, program);
        }
        let records = Records::open(&self.dir)
            .map_err(|e| e.during("open", format!("directory {}", self.dir.display())))?;
        let shared = Shared {
            cluster: self.cluster,
            records,
            images,
            events: broadcast::Sender::new(EVENTS),
            children: Mutex::default(),
            sweeper: OnceLock::new(),
        };
        Ok(LocalRuntime { shared: Arc::new(shared), keyed: Keyed::default() })
    }
}

#[async_trait]
impl ContainerRuntime for LocalRuntime {
    async fn describe(&self) -> Result<EngineInfo> {
        Ok(EngineInfo {
            name: "local".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            addresses: cfg!(target_os = "linux"),
            limits: false,
        })
    }

    async fn ensure_image(
        &self,
        image: &ImageRef,
        _auth: Option<&RegistryAuth>,
        _progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        let wanted = image.clone();
        self.with("resolve", format!("image {image}"), move |shared| {
            let (found, digest) = shared.images.find(&wanted)?;
            found.check().map(|()| digest)
        })
        .await
    }

    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        let spec = network.clone();
        self.change("make", format!("network {}", network.name), move |shared| {
            network::ensure(&shared.records, &shared.cluster, spec)
        })
        .await
    }

    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        let network = name.clone();
        self.change("remove", format!("network {name}"), move |shared| {
            network::remove(&shared.records, &shared.cluster, &network)
        })
        .await
    }

    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let (this, owned) = (self.clone(), spec.clone());
        let key = subject(&spec.name);
        self.keyed.run(key, "run", CALL, async move { this.start(owned).await }).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        let (this, owned) = (self.clone(), spec.clone());
        let key = subject(&spec.name);
        let bound = deadline + CALL;
        self.keyed
            .run(key, "run", bound, async move { this.start_to_end(owned, deadline).await })
            .await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        let (this, owned) = (self.clone(), name.clone());
        let key = subject(name);
        self.keyed.run(key, "stop", grace + CALL, async move { this.end(owned, grace).await }).await
    }

    async fn list(&self) -> Result<Vec<Container>> {
        self.with("list", "containers", |shared| {
            let own = shared.own()?;
            Ok(own.into_iter().map(|record| shared.container(record)).collect())
        })
        .await
    }

    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.with("read", "usage", |shared| {
            let groups = usage::by_group();
            let running = shared.own()?.into_iter().filter(Record::is_alive);
            let usage_of = |r: Record| Some((r.name, *groups.get(&r.process?.pid)?));
            Ok(running.filter_map(usage_of).collect())
        })
        .await
    }

    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        // The stream holds a sender too: it goes silent, but never ends, when the runtime is dropped.
        let state = (self.shared.events.clone(), self.shared.events.subscribe());
        stream::unfold(state, |(sender, mut receiver)| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => RuntimeEvent::Resync,
                Err(RecvError::Closed) => return None,
            };
            Some((Ok::<_, Error>(event), (sender, receiver)))
        })
        .boxed()
    }

    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        let wanted = name.clone();
        self.with("read logs of", subject(name), move |shared| {
            let dir = shared.records.container_dir(&wanted);
            match shared.records.container(&wanted)? {
                Some(r) if r.cluster == shared.cluster => {
                    logs::tail(&dir, tail).map_err(LocalError::file(dir))
                }
                _ => Err(LocalError::Missing("there is no such container".into())),
            }
        })
        .await
    }
}

impl Shared {
    fn own(&self) -> LocalResult<Vec<Record>> {
        let mut records = self.records.containers()?;
        records.retain(|r| r.cluster == self.cluster);
        Ok(records)
    }

    fn container(&self, record: Record) -> Container {
        let state = self.state(&record);
        let Record { name, id, role, spec, labels, .. } = record;
        Container { name, id, role, spec, labels, state, readiness: Readiness::Unknown }
    }

    fn state(&self, record: &Record) -> ContainerState {
        let exited = |code| {
            ContainerState::Exited(Exit { code, out_of_memory: false, output: String::new() })
        };
        match (&record.process, self.end_of(record)) {
            (_, Some(code)) => exited(code),
            (None, None) => ContainerState::Created,
            (Some(_), None) => ContainerState::Running,
        }
    }

    /// How it ended, as far as that is known. `None`: it has not, or was never started.
    fn end_of(&self, record: &Record) -> Option<i64> {
        let runs = |r: &Record| r.process.is_none() || self.is_child(&r.id) || r.is_alive();
        if record.exit.is_some() || runs(record) {
            return record.exit;
        }
        // It has ended since the record was read, or is only just ours: whoever waits for a child writes down how it
        // ended before the child is forgotten, and a start is over once the lock is free.
        let again = self.records.locked(|| {
            let now = self.records.container(&record.name)?.filter(|now| now.id == record.id);
            Ok(match now {
                Some(now) if now.exit.is_some() || runs(&now) => now.exit,
                _ => Some(UNKNOWN_EXIT),
            })
        });
        again.unwrap_or(Some(UNKNOWN_EXIT))
    }

    fn is_child(&self, id: &ContainerId) -> bool {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Tells whoever listens; nobody listening is fine.
    fn tell(&self, event: RuntimeEvent) {
        let _ = self.events.send(event);
    }
}

impl fmt::Debug for LocalRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRuntime")
            .field("cluster", &self.shared.cluster)
            .field("records", &self.shared.records)
            .finish_non_exhaustive()
    }
}

fn subject(name: &ContainerName) -> String {
    format!("container {name}")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> LocalResult<T> + Send + 'static,
) -> LocalResult<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(LocalError::Lost))
}

#[cfg(test)]
mod tests {
    use lb_core::{ContainerRuntime as _, ImageRef, Role};

    use futures_util::StreamExt as _;

    use super::*;
    use crate::Program;

    /// Between a look at the records and one at the processes a child may end, be written down and be forgotten.
    #[tokio::test]
    async fn a_record_read_before_the_end_tells_how_it_ended() -> Result<()> {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = ClusterId::new("c1")?;
        let program = Program::new("/bin/sh").args(["-c", "read line; exit 7"]);
        let runtime =
            LocalRuntime::builder(cluster, dir.path()).image("test:1", program).build()?;
        let name = ContainerName::new("c1.web")?;
        let spec = ContainerSpec::new(name.clone(), Role::Instance, ImageRef::new("test:1")?);
        let mut events = runtime.events();
        runtime.run(&spec).await?;
        let record = runtime.shared.records.container(&name).ok().flatten().expect("a record");
        let before = Record { exit: None, ..record };
        while !matches!(events.next().await, Some(Ok(RuntimeEvent::Exited(_)))) {}
        assert_eq!(runtime.shared.end_of(&before), Some(7));
        Ok(())
    }
}
