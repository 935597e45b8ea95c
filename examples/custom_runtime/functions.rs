//! The adapter: apps are functions of this process, and a container is a task. [`MemoryRuntime`] keeps the
//! books (names, networks, addresses, whose is what, what is a conflict); this adds what runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use lb_core::{
    Attachment, Behaviour, Container, ContainerId, ContainerName, ContainerRuntime, ContainerSpec,
    EngineInfo, Error, ErrorKind, Exit, ImageDigest, ImageRef, Keyed, MemoryRuntime, NetworkName,
    NetworkSpec, Progress, RegistryAuth, Result, RuntimeEvent, Usage,
};
use tokio::task::JoinHandle;

/// Longest a call may take, beside what it waits for.
const DEADLINE: Duration = Duration::from_secs(10);
/// Where every function serves.
const PORT: u16 = 8080;

/// Serves at the address until it is dropped, or ends with an exit code.
pub type Function = fn(SocketAddr) -> BoxFuture<'static, i64>;
/// What runs, and which container of that name it is.
type Tasks = BTreeMap<ContainerName, (ContainerId, JoinHandle<()>)>;

/// The engine as one cluster sees it.
#[derive(Debug, Clone)]
pub struct Functions {
    /// What there is, and whose.
    pub books: MemoryRuntime,
    images: BTreeMap<String, Function>,
    tasks: Arc<Mutex<Tasks>>,
    /// Gives a call its task, its turn and its deadline: when its caller goes, it still ends.
    calls: Keyed<ContainerName>,
}

impl Functions {
    /// An engine with these images.
    pub fn new(images: &[(&str, Function)]) -> Result<Self> {
        let (books, mut functions) = (MemoryRuntime::new(), BTreeMap::new());
        books.behave(Behaviour::Unasked);
        for (n, (image, function)) in (1..).zip(images) {
            let image: ImageRef = image.parse()?;
            books.publish_image(&image, format!("sha256:{n:064x}").parse()?);
            functions.insert(image.repository().to_owned(), *function);
        }
        Ok(Self { books, images: functions, tasks: Arc::default(), calls: Keyed::default() })
    }

    /// The same engine for another cluster.
    #[allow(dead_code, reason = "this platform has one cluster; the suite asks for several")]
    pub fn beside(&self) -> Self {
        Self { books: self.books.beside(), ..self.clone() }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a container of this spec does, once. The books know no other images.
    fn work(&self, spec: &ContainerSpec) -> BoxFuture<'static, i64> {
        let ip = match &spec.network {
            Attachment::Network { address, .. } => *address,
            _ => Ipv4Addr::LOCALHOST,
        };
        self.images[spec.image.repository()](lb_local::real_address((ip, PORT).into()))
    }
}

#[async_trait]
impl ContainerRuntime for Functions {
    async fn run(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let (this, spec, name) = (self.clone(), spec.clone(), spec.name.clone());
        let call = async move {
            let (id, work) = (this.books.run(&spec).await?, this.work(&spec));
            let mut tasks = this.tasks();
            if tasks.get(&spec.name).is_none_or(|(running, _)| *running != id) {
                let (books, name) = (this.books.clone(), spec.name.clone());
                let task = async move {
                    let exit =
                        Exit { code: work.await, out_of_memory: false, output: String::new() };
                    let _ = books.end(&name, &exit);
                };
                tasks.insert(spec.name, (id.clone(), tokio::spawn(task)));
            }
            Ok(id)
        };
        self.calls.run(name, "run", DEADLINE, call).await
    }

    async fn run_to_end(&self, spec: &ContainerSpec, deadline: Duration) -> Result<Exit> {
        let (this, spec, name) = (self.clone(), spec.clone(), spec.name.clone());
        let call = async move {
            let exit = this.books.run_to_end(&spec, deadline).await?; // whether the books allow it
            let ended = tokio::time::timeout(deadline, this.work(&spec)).await;
            let subject = format!("container \"{}\"", spec.name);
            let late =
                |_| Error::new(ErrorKind::Timeout, "run", subject, "runs on at its deadline");
            ended.map(|code| Exit { code, ..exit }).map_err(late)
        };
        self.calls.run(name, "run", deadline + DEADLINE, call).await
    }

    async fn stop(&self, name: &ContainerName, grace: Duration) -> Result<()> {
        let (this, stopped) = (self.clone(), name.clone());
        let call = async move {
            let ours = this.books.list().await?.iter().any(|container| container.name == stopped);
            if let Some((_, task)) = ours.then(|| this.tasks().remove(&stopped)).flatten() {
                task.abort(); // a function hears no signal: there is nothing to wait for
                let _ = task.await;
            }
            this.books.stop(&stopped, grace).await
        };
        self.calls.run(name.clone(), "stop", DEADLINE, call).await
    }

    async fn describe(&self) -> Result<EngineInfo> {
        Ok(EngineInfo { name: "functions".to_owned(), ..self.books.describe().await? })
    }
    async fn ensure_image(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        progress: &dyn Progress,
    ) -> Result<ImageDigest> {
        self.books.ensure_image(image, auth, progress).await
    }
    async fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.books.ensure_network(network).await
    }
    async fn remove_network(&self, name: &NetworkName) -> Result<()> {
        self.books.remove_network(name).await
    }
    async fn list(&self) -> Result<Vec<Container>> {
        self.books.list().await
    }
    async fn usage(&self) -> Result<BTreeMap<ContainerName, Usage>> {
        self.books.usage().await // nobody measures a task: it has used nothing
    }
    fn events(&self) -> BoxStream<'static, Result<RuntimeEvent>> {
        self.books.events()
    }
    async fn logs(&self, name: &ContainerName, tail: usize) -> Result<String> {
        self.books.logs(name, tail).await
    }
}
