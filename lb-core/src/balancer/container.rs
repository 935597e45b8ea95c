//! A balancer in a container on the host's network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    AbsolutePath, Access, ContainerName, ImageRef, RegistryAuth, Signal, UserName, Volume,
    VolumeSource,
};
use crate::runtime::{
    Attachment, Capability, ContainerRuntime, ContainerSpec, Exit, Quiet, Restart, Role,
};

/// Time between the signal to end and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Lines of the log that are read for a reason.
const LOG_LINES: usize = 100;

/// A balancer's container, its directory at the same path inside and outside, its root read-only.
///
/// The master is root: as another user on the host's network it could not bind a port below 1024. Without
/// `KILL` it could not signal the workers, which are not.
#[derive(Debug)]
pub struct BalancerContainer {
    /// The engine.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// The balancer's image.
    pub image: ImageRef,
    /// Login at its registry.
    pub registry: Option<RegistryAuth>,
    /// What it is called; its checker is called `NAME.check`.
    pub name: ContainerName,
    /// The balancer's directory.
    pub directory: PathBuf,
}

impl BalancerContainer {
    /// Runs a command of the image to its end, away from the network and with no other capabilities.
    ///
    /// # Errors
    /// The engine's; `Unavailable` when not the command but the engine or a signal ended it.
    pub async fn run_to_end(
        &self,
        command: Vec<String>,
        capabilities: impl IntoIterator<Item = Capability>,
        deadline: Duration,
    ) -> Result<Exit> {
        let name = ContainerName::new(format!("{}.check", self.name))?;
        let mut spec = self.spec(name, Role::Checker, command)?;
        spec.privileges.capabilities = Some(capabilities.into_iter().collect());
        let exit = match self.runtime.run_to_end(&spec, deadline).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.ensure_image().await?;
                self.runtime.run_to_end(&spec, deadline).await?
            }
            exit => exit?,
        };
        match exit.code {
            0..125 => Ok(exit),
            code => Err(Error::new(
                ErrorKind::Unavailable,
                "",
                self.name.as_str(),
                format!("the checker ended with {code}: {}", exit.output),
            )),
        }
    }

    /// Starts the command that serves, with what every balancer needs and these capabilities.
    ///
    /// # Errors
    /// The engine's.
    pub async fn start(
        &self,
        command: Vec<String>,
        capabilities: impl IntoIterator<Item = Capability>,
    ) -> Result<()> {
        let mut spec = self.spec(self.name.clone(), Role::Balancer, command)?;
        spec.network = Attachment::Host;
        spec.restart = Restart::Always;
        let needed =
            [Capability::NetBindService, Capability::Setuid, Capability::Setgid, Capability::Kill];
        let all = needed.into_iter().chain(capabilities);
        spec.privileges.capabilities = Some(all.collect());
        spec.stop_grace = STOP_GRACE;
        let Err(again) = self.runtime.run(&spec).await else { return Ok(()) };
        match again.kind() {
            ErrorKind::NotFound => self.ensure_image().await?,
            // Ours of other settings, or one that does not come up: it does not serve, or it would have
            // answered on its socket.
            ErrorKind::Conflict => self.stop().await?,
            _ => return Err(again),
        }
        self.runtime.run(&spec).await?;
        Ok(())
    }

    /// Ends it. Absent is success.
    ///
    /// # Errors
    /// The engine's.
    pub async fn stop(&self) -> Result<()> {
        self.runtime.stop(&self.name, STOP_GRACE).await
    }

    /// What it wrote last; empty when that cannot be had.
    pub async fn log(&self) -> String {
        self.runtime.logs(&self.name, LOG_LINES).await.unwrap_or_default()
    }

    /// The first word of the command is the program, in place of the image's entry script.
    fn spec(&self, name: ContainerName, role: Role, command: Vec<String>) -> Result<ContainerSpec> {
        let path = AbsolutePath::new(self.directory.to_string_lossy())?;
        let mut words = command.into_iter();
        let mut spec = ContainerSpec::new(name, role, self.image.clone());
        spec.command = Some(words.by_ref().take(1).collect());
        spec.args = Some(words.collect());
        spec.user = Some(UserName::new("0")?);
        spec.volumes = vec![Volume {
            source: VolumeSource::Path(path.clone()),
            target: path,
            access: Access::ReadWrite,
        }];
        spec.privileges.read_only_root = true;
        // The official images say signals at which a balancer waits for every connection to end.
        spec.stop_signal = Some(Signal::new("SIGTERM")?);
        Ok(spec)
    }

    async fn ensure_image(&self) -> Result<()> {
        let auth = self.registry.as_ref();
        self.runtime.ensure_image(&self.image, auth, &Quiet).await?;
        Ok(())
    }
}
