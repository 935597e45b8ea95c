//! How an [`NginxBalancer`] is made.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_core::balancer::{
    BalancerContainer, ConfigDirectory, Failure, HEADER_BYTES, checked_header_bytes,
};
use lb_core::{
    ByteSize, ConfigRenderer, ContainerName, ContainerRuntime, Error, ImageRef, RegistryAuth,
    Result,
};
use rustix::process::{Resource, getrlimit};

use super::NginxBalancer;
use super::compose::CONFIG;
use super::engine::{Engine, Parts};
use super::launch::{AsProcess, InContainer, Launch};
use super::main_lines::MainSettings;
use crate::NginxRenderer;

/// How long an old worker may live after a reload, unless said otherwise: streams it holds are cut then.
pub const HARD_STOP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Most old workers beside each current one, unless said otherwise. Each costs its configuration and its connections:
/// some 8 MB by default.
pub const MAX_OLD_WORKERS: u32 = 32;
/// Most connections of a worker by default, both sides counted: some 8 MB for each worker.
const MOST_CONNECTIONS: u32 = 16_384;
/// Most workers by default.
const MOST_WORKERS: usize = 64;
/// File descriptors beside connections.
const OVERHEAD: u64 = 256;

/// Settings of an [`NginxBalancer`]: see [`NginxBalancer::builder`].
#[derive(Debug)]
pub struct NginxBalancerBuilder {
    directory: PathBuf,
    renderer: Option<Arc<dyn ConfigRenderer>>,
    mode: Option<Mode>,
    registry: Option<RegistryAuth>,
    hard_stop_after: Duration,
    max_old_workers: u32,
    workers: Option<NonZeroU32>,
    connections: Option<NonZeroU32>,
    header_bytes: ByteSize,
}

#[derive(Debug)]
enum Mode {
    Container(Arc<dyn ContainerRuntime>, ImageRef, ContainerName),
    Process(PathBuf),
}

impl NginxBalancerBuilder {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            renderer: None,
            mode: None,
            registry: None,
            hard_stop_after: HARD_STOP_AFTER,
            max_old_workers: MAX_OLD_WORKERS,
            workers: None,
            connections: None,
            header_bytes: HEADER_BYTES,
        }
    }

    /// Writes listeners, locations and upstreams. Default: [`NginxRenderer`].
    #[must_use]
    pub fn renderer(mut self, renderer: Arc<dyn ConfigRenderer>) -> Self {
        self.renderer = Some(renderer);
        self
    }

    /// Runs NGINX in a container on the host's network, restarted always. The official image of 1.22 or
    /// later, or one with `nginx`, `sh`, `id`, `mkfifo`, `sort`, `wc` and a user `nginx`.
    ///
    /// The calling process must be root on the same host, with `CAP_NET_ADMIN`: the sockets in the directory are
    /// root's only, and connections of servers that left are shut ([what happens without](crate#connections-of-servers-that-left)).
    #[must_use]
    pub fn in_container(
        mut self,
        runtime: Arc<dyn ContainerRuntime>,
        image: ImageRef,
        name: ContainerName,
    ) -> Self {
        self.mode = Some(Mode::Container(runtime, image, name));
        self
    }

    /// Runs NGINX as a process: `program` is its binary. As root, its workers run as `nginx`, `www-data` or
    /// `nobody`. Without `CAP_NET_ADMIN`, connections of servers that left
    /// [end by themselves](crate#connections-of-servers-that-left).
    ///
    /// Dropping the balancer, and the end of this process, leave it serving; a balancer built later on the
    /// same directory takes it over. [`shutdown`](lb_core::LoadBalancer::shutdown) ends it. While this
    /// process lives, an NGINX it started is started again when it ends by itself.
    #[must_use]
    pub fn as_process(mut self, program: impl Into<PathBuf>) -> Self {
        self.mode = Some(Mode::Process(program.into()));
        self
    }

    /// Login at the image's registry.
    #[must_use]
    pub fn registry(mut self, auth: RegistryAuth) -> Self {
        self.registry = Some(auth);
        self
    }

    /// How long an old worker may keep its connections after a reload: websockets and TCP streams live on there
    /// through changes of other apps, and are cut at this time. Default [`HARD_STOP_AFTER`].
    #[must_use]
    pub const fn hard_stop_after(mut self, time: Duration) -> Self {
        self.hard_stop_after = time;
        self
    }

    /// Most old workers beside each current one. Default [`MAX_OLD_WORKERS`]. The more of them hold connections, the
    /// rarer a reload becomes (up to 8: one a second; beside more, one in up to 20 s, see
    /// [`reload_interval`](lb_core::balancer::reload_interval)); beyond this many the oldest end with what they hold, which is
    /// counted in [`BalancerInfo::cut`](lb_core::BalancerInfo::cut) where this process sees NGINX's.
    #[must_use]
    pub const fn max_old_workers(mut self, most: NonZeroU32) -> Self {
        self.max_old_workers = most.get();
        self
    }

    /// Workers. Default: the CPUs this process may use.
    #[must_use]
    pub const fn workers(mut self, workers: NonZeroU32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Most connections of each worker, clients and servers counted. Default: what the limit of file
    /// descriptors allows a process of ours, at most 16,384.
    #[must_use]
    pub const fn worker_connections(mut self, connections: NonZeroU32) -> Self {
        self.connections = Some(connections);
        self
    }

    /// Most bytes of header fields of a request, and of an answer: 8 KiB to 1 MiB, default
    /// [`HEADER_BYTES`](lb_core::balancer::HEADER_BYTES).
    ///
    /// The price is memory: a busy request holds up to two buffers, each of this and 16 KiB, so 96 KiB by default; idle
    /// connections hold none.
    #[must_use]
    pub const fn header_bytes(mut self, most: ByteSize) -> Self {
        self.header_bytes = most;
        self
    }

    /// Makes the balancer. Nothing is started or written before the first call.
    ///
    /// # Errors
    /// `Invalid` when the directory cannot hold sockets or stand in a configuration, when the mode is missing, or
    /// when a bound is out of its range.
    pub fn build(self) -> Result<NginxBalancer> {
        let parts = self.parts().map_err(|failure| failure.during("build", super::PROGRAM))?;
        Ok(NginxBalancer::new(Engine::new(parts)))
    }

    fn parts(self) -> Result<Parts, Failure> {
        let directory = ConfigDirectory::new(self.directory, CONFIG)?;
        let renderer = self.renderer.unwrap_or_else(|| Arc::new(NginxRenderer::new()));
        if self.hard_stop_after.is_zero() {
            return Err(Error::invalid("hard_stop_after", "must be more than 0").into());
        }
        let header_bytes = checked_header_bytes(self.header_bytes)?;
        let mut descriptors = None;
        let launch: Box<dyn Launch> = match self.mode {
            Some(Mode::Container(runtime, image, name)) => {
                let (registry, directory) = (self.registry, directory.path().to_owned());
                Box::new(InContainer(BalancerContainer {
                    runtime,
                    image,
                    registry,
                    name,
                    directory,
                }))
            }
            Some(Mode::Process(program)) => {
                descriptors = getrlimit(Resource::Nofile).maximum;
                Box::new(AsProcess::new(program, &directory))
            }
            None => {
                let message = "must be set by in_container() or as_process()".to_owned();
                return Err(Failure::Setup { field: "mode", message });
            }
        };
        let allowed = descriptors.map_or(u64::MAX, |limit| limit.saturating_sub(OVERHEAD).max(64));
        let asked = self.connections.map_or(MOST_CONNECTIONS, NonZeroU32::get);
        let settings = MainSettings {
            hard_stop_after: self.hard_stop_after,
            workers: self.workers.map_or_else(cpus, NonZeroU32::get),
            connections: u64::from(asked).min(allowed) as u32,
            header_bytes,
        };
        let max_old_workers = self.max_old_workers;
        Ok(Parts { directory, renderer, launch, settings, max_old_workers })
    }
}

/// CPUs this process may use: affinity and the cgroup's quota count.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_WORKERS)) as u32
}
