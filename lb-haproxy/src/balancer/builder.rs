//! How a [`HaproxyBalancer`] is made.

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

use super::HaproxyBalancer;
use super::compose::{CONFIG, GlobalSettings, MASTER_SOCKET};
use super::engine::{Engine, Parts};
use super::launch::{AsProcess, Attached, InContainer, Launch};
use super::limits::Resources;
use crate::{Abilities, HaproxyRenderer};

/// How long an old worker may keep its connections after a reload, unless said otherwise.
pub const HARD_STOP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Most old workers beside the current one, unless said otherwise: each holds its configuration and connections in
/// memory.
pub const MAX_OLD_WORKERS: u32 = 64;

/// Settings of a [`HaproxyBalancer`]: see [`HaproxyBalancer::builder`].
#[derive(Debug)]
pub struct HaproxyBalancerBuilder {
    directory: PathBuf,
    renderer: Option<Arc<dyn ConfigRenderer>>,
    mode: Option<Mode>,
    registry: Option<RegistryAuth>,
    hard_stop_after: Duration,
    max_old_workers: u32,
    header_bytes: ByteSize,
    resources: Resources,
}

#[derive(Debug)]
enum Mode {
    Container(Arc<dyn ContainerRuntime>, ImageRef, ContainerName),
    Process(PathBuf),
    Attached { master_socket: PathBuf, checker: PathBuf },
}

impl HaproxyBalancerBuilder {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            renderer: None,
            mode: None,
            registry: None,
            hard_stop_after: HARD_STOP_AFTER,
            max_old_workers: MAX_OLD_WORKERS,
            header_bytes: HEADER_BYTES,
            resources: Resources::default(),
        }
    }

    /// Writes frontends and backend bodies. Default: [`HaproxyRenderer`].
    #[must_use]
    pub fn renderer(mut self, renderer: Arc<dyn ConfigRenderer>) -> Self {
        self.renderer = Some(renderer);
        self
    }

    /// Runs HAProxy in a container on the host's network, restarted always. The official image of 2.6 or
    /// later ([`DEFAULT_IMAGE`](crate::DEFAULT_IMAGE)), or one with `haproxy` in its path.
    ///
    /// The calling process must be root on the same host: the sockets in the directory are root's only.
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

    /// Runs HAProxy as a process: `program` is its binary.
    ///
    /// Dropping the balancer, and the end of this process, leave it serving; a balancer built later on the
    /// same directory takes it over. [`shutdown`](lb_core::LoadBalancer::shutdown) ends it. While this
    /// process lives, a HAProxy it started is started again when it ends by itself.
    #[must_use]
    pub fn as_process(mut self, program: impl Into<PathBuf>) -> Self {
        self.mode = Some(Mode::Process(program.into()));
        self
    }

    /// Uses a HAProxy that the platform starts and ends: `haproxy -W -db -S MASTER_SOCKET,mode,600 -f
    /// DIRECTORY/haproxy.cfg`, behind `-f` files of its own if it likes (`user` and `group` belong there).
    /// `checker` is a HAProxy binary of
    /// the same version, which checks each configuration first.
    ///
    /// The first `apply` writes the file; until HAProxy runs from it, calls fail with `Unavailable`.
    #[must_use]
    pub fn attached(
        mut self,
        master_socket: impl Into<PathBuf>,
        checker: impl Into<PathBuf>,
    ) -> Self {
        let (master_socket, checker) = (master_socket.into(), checker.into());
        self.mode = Some(Mode::Attached { master_socket, checker });
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

    /// Most old workers beside the current one. Default [`MAX_OLD_WORKERS`]. The more of them hold connections, the
    /// rarer a reload becomes (up to 8: one a second; beside more, one in up to 20 s, see
    /// [`reload_interval`](lb_core::balancer::reload_interval)); beyond this many the oldest one's connections are
    /// shut, and counted in [`BalancerInfo::cut`](lb_core::BalancerInfo::cut).
    #[must_use]
    pub const fn max_old_workers(mut self, most: NonZeroU32) -> Self {
        self.max_old_workers = most.get();
        self
    }

    /// Most bytes of header fields of a request, and of an answer: 8 KiB to 1 MiB, default
    /// [`HEADER_BYTES`](lb_core::balancer::HEADER_BYTES).
    ///
    /// The price is memory: a busy request holds up to two buffers, each of this and 8 KiB, so 80 KiB by default; idle
    /// connections hold none.
    #[must_use]
    pub const fn header_bytes(mut self, most: ByteSize) -> Self {
        self.header_bytes = most;
        self
    }

    /// Threads. Default: the CPUs this process may use.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroU32) -> Self {
        self.resources.threads = Some(threads);
        self
    }

    /// Most connections at a time. Default: what the limit of file descriptors allows, at most 100,000; in
    /// a container, whose limit is the engine's, 9,616. Never more than a known limit allows.
    #[must_use]
    pub const fn max_connections(mut self, connections: NonZeroU32) -> Self {
        self.resources.connections = Some(connections);
        self
    }

    /// Makes the balancer. Nothing is started or written before the first call.
    ///
    /// # Errors
    /// `Invalid` when the directory cannot hold sockets or stand in a configuration, when the mode is missing, or
    /// when a bound is out of its range.
    pub fn build(self) -> Result<HaproxyBalancer> {
        let parts = self.parts().map_err(|failure| failure.during("build", super::PROGRAM))?;
        Ok(HaproxyBalancer::new(Engine::new(parts)))
    }

    fn parts(mut self) -> Result<Parts, Failure> {
        let directory = ConfigDirectory::new(self.directory, CONFIG)?;
        let missing = |field: &'static str, calls: &str| Failure::Setup {
            field,
            message: format!("must be set by {calls}"),
        };
        let renderer = self.renderer.unwrap_or_else(|| Arc::new(HaproxyRenderer::new()));
        let mode = self
            .mode
            .ok_or_else(|| missing("mode", "in_container(), as_process() or attached()"))?;
        if self.hard_stop_after.is_zero() {
            return Err(Error::invalid("hard_stop_after", "must be more than 0").into());
        }
        let header_bytes = checked_header_bytes(self.header_bytes)?;
        let mut master_socket = directory.path().join(MASTER_SOCKET);
        let launch: Box<dyn Launch> = match mode {
            Mode::Container(runtime, image, name) => {
                let (registry, directory) = (self.registry, directory.path().to_owned());
                Box::new(InContainer(BalancerContainer {
                    runtime,
                    image,
                    registry,
                    name,
                    directory,
                }))
            }
            Mode::Process(program) => Box::new(AsProcess::new(program, &directory)),
            Mode::Attached { master_socket: theirs, checker } => {
                master_socket.clone_from(&theirs);
                Box::new(Attached { master_socket: theirs, checker, config: directory.config() })
            }
        };
        self.resources.descriptors = launch.descriptors();
        let settings = GlobalSettings {
            header_bytes,
            hard_stop_after: self.hard_stop_after,
            user: launch.user(),
            abilities: Abilities::default(),
        };
        let resources = self.resources;
        let max_old_workers = self.max_old_workers;
        Ok(Parts {
            directory,
            master_socket,
            renderer,
            launch,
            settings,
            max_old_workers,
            resources,
        })
    }
}
