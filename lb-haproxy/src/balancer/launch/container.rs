//! HAProxy in a container on the host's network.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lb_core::{
    AbsolutePath, Access, Attachment, Capability, ContainerName, ContainerRuntime, ContainerSpec,
    ErrorKind, ImageRef, Quiet, RegistryAuth, Restart, Role, Signal, UserName, Volume,
    VolumeSource,
};

use super::{CHECK_DEADLINE, Checked, Launch, Owner};
use crate::balancer::directory::Directory;
use crate::error::Failure;

/// Longest time from the container's start to HAProxy's first answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Time between the signal to end and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Lines of the log that are read for a reason.
const LOG_LINES: usize = 100;
/// The `haproxy` user of the official image; by number, so that other images need no such name.
const WORKER: [&str; 2] = ["uid 99", "gid 99"];

/// HAProxy in a container on the host's network, its directory at the same path inside and outside.
#[derive(Debug)]
pub(crate) struct InContainer {
    pub runtime: Arc<dyn ContainerRuntime>,
    pub image: ImageRef,
    pub registry: Option<RegistryAuth>,
    pub name: ContainerName,
    pub directory: Directory,
}

impl InContainer {
    /// The container that serves. The master is root: as another user on the host's network it could not
    /// bind a port below 1024. Without `KILL` it could not signal the workers, which are not.
    fn spec(&self) -> Result<ContainerSpec, Failure> {
        let directory = &self.directory;
        let master = format!("{},mode,600", directory.master_socket().display());
        let config = directory.config().display().to_string();
        let mut spec = self.base(self.name.clone(), Role::Balancer)?;
        spec.args = Some(["-W", "-db", "-S", &master, "-f", &config].map(str::to_owned).to_vec());
        spec.network = Attachment::Host;
        spec.restart = Restart::Always;
        spec.privileges.capabilities = Some(BTreeSet::from([
            Capability::NetBindService,
            Capability::Setuid,
            Capability::Setgid,
            Capability::Kill,
        ]));
        spec.stop_grace = STOP_GRACE;
        Ok(spec)
    }

    fn checker(&self, config: &Path) -> Result<ContainerSpec, Failure> {
        let name = ContainerName::new(format!("{}.check", self.name))?;
        let mut spec = self.base(name, Role::Checker)?;
        let config = config.display().to_string();
        spec.args = Some(vec!["-c".to_owned(), "-f".to_owned(), config]);
        spec.privileges.capabilities = Some(BTreeSet::new());
        Ok(spec)
    }

    fn base(&self, name: ContainerName, role: Role) -> Result<ContainerSpec, Failure> {
        let path = AbsolutePath::new(self.directory.path().to_string_lossy())?;
        let mut spec = ContainerSpec::new(name, role, self.image.clone());
        spec.command = Some(vec!["haproxy".to_owned()]);
        spec.user = Some(UserName::new("0")?);
        spec.volumes = vec![Volume {
            source: VolumeSource::Path(path.clone()),
            target: path,
            access: Access::ReadWrite,
        }];
        spec.privileges.read_only_root = true;
        // The official image says SIGUSR1, at which HAProxy waits for every connection to end.
        spec.stop_signal = Signal::new("SIGTERM")?;
        Ok(spec)
    }

    async fn ensure_image(&self) -> Result<(), Failure> {
        let auth = self.registry.as_ref();
        self.runtime.ensure_image(&self.image, auth, &Quiet).await?;
        Ok(())
    }
}

#[async_trait]
impl Launch for InContainer {
    async fn check(&self, config: &Path) -> Result<Checked, Failure> {
        let spec = self.checker(config)?;
        let exit = match self.runtime.run_to_end(&spec, CHECK_DEADLINE).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.ensure_image().await?;
                self.runtime.run_to_end(&spec, CHECK_DEADLINE).await?
            }
            exit => exit?,
        };
        // 125 and above: the engine or a signal, not HAProxy's opinion of the file.
        match exit.code {
            0 => Ok(Checked::Valid),
            1..125 => Ok(Checked::Invalid(exit.output)),
            code => Err(Failure::Checker {
                message: format!("the container ended with {code}: {}", exit.output),
            }),
        }
    }

    async fn start(&self) -> Result<(), Failure> {
        let spec = self.spec()?;
        let Err(again) = self.runtime.run(&spec).await else { return Ok(()) };
        match again.kind() {
            ErrorKind::NotFound => self.ensure_image().await?,
            // Ours of other settings, or one that does not come up: it does not serve, or it would have
            // answered on its socket.
            ErrorKind::Conflict => self.runtime.stop(&self.name, STOP_GRACE).await?,
            _ => return Err(again.into()),
        }
        self.runtime.run(&spec).await?;
        Ok(())
    }

    async fn stop(&self, _: Option<u32>) -> Result<(), Failure> {
        Ok(self.runtime.stop(&self.name, STOP_GRACE).await?)
    }

    async fn log(&self) -> String {
        self.runtime.logs(&self.name, LOG_LINES).await.unwrap_or_default()
    }

    fn owner(&self) -> Owner {
        Owner::Ours
    }

    fn start_deadline(&self) -> Duration {
        START_DEADLINE
    }

    fn user(&self) -> Vec<String> {
        WORKER.map(str::to_owned).to_vec()
    }

    fn descriptors(&self) -> Option<u64> {
        None
    }
}
