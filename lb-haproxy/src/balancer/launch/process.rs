//! HAProxy as a plain process, where there is no engine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{ConfigDirectory, Failure, KeptProcess, Owner};

use super::{Checked, Launch, check_by, unprivileged, version_by};
use crate::balancer::compose::MASTER_SOCKET;
use crate::balancer::limits::own_descriptors;

/// Longest time from start to the first answer.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// HAProxy as a child that outlives us. While we live, it is started again when it ends.
#[derive(Debug)]
pub(crate) struct AsProcess {
    program: PathBuf,
    process: KeptProcess,
}

impl AsProcess {
    pub(crate) fn new(program: PathBuf, directory: &ConfigDirectory) -> Self {
        let master = format!("{},mode,600", directory.path().join(MASTER_SOCKET).display());
        let words = ["-W", "-db", "-S", &master, "-f"].map(Into::into);
        let args = words.into_iter().chain([directory.config().into()]).collect();
        Self { process: KeptProcess::new(program.clone(), args), program }
    }
}

#[async_trait]
impl Launch for AsProcess {
    async fn version(&self) -> Result<String, Failure> {
        version_by(&self.program).await
    }

    async fn check(&self, config: &Path) -> Result<Checked, Failure> {
        check_by(&self.program, config).await
    }

    async fn start(&self) -> Result<(), Failure> {
        Ok(self.process.start().await?)
    }

    async fn stop(&self, master: Option<u32>) -> Result<(), Failure> {
        self.process.stop(master).await;
        Ok(())
    }

    async fn log(&self) -> String {
        self.process.log()
    }

    fn owner(&self) -> Owner {
        Owner::OursAlike
    }

    fn start_deadline(&self) -> Duration {
        START_DEADLINE
    }

    fn user(&self) -> Vec<String> {
        unprivileged()
    }

    fn descriptors(&self) -> Option<u64> {
        own_descriptors()
    }
}
