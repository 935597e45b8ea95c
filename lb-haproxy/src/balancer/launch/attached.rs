//! A HAProxy the platform already runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{Failure, Owner};

use super::{Checked, Launch, check_by, version_by};
use crate::balancer::limits::own_descriptors;

/// A HAProxy started by somebody else from our file.
#[derive(Debug)]
pub(crate) struct Attached {
    pub master_socket: PathBuf,
    pub checker: PathBuf,
    pub config: PathBuf,
}

#[async_trait]
impl Launch for Attached {
    async fn version(&self) -> Result<String, Failure> {
        version_by(&self.checker).await
    }

    async fn check(&self, config: &Path) -> Result<Checked, Failure> {
        check_by(&self.checker, config).await
    }

    async fn start(&self) -> Result<(), Failure> {
        Err(Failure::Start {
            message: format!(
                "it is the platform's to start: haproxy -W -db -S {},mode,600 -f {}",
                self.master_socket.display(),
                self.config.display()
            ),
        })
    }

    async fn stop(&self, _: Option<u32>) -> Result<(), Failure> {
        Ok(())
    }

    async fn log(&self) -> String {
        String::new()
    }

    fn owner(&self) -> Owner {
        Owner::Platform
    }

    fn start_deadline(&self) -> Duration {
        Duration::ZERO
    }

    /// Who starts it says whom it runs as.
    fn user(&self) -> Vec<String> {
        Vec::new()
    }

    fn descriptors(&self) -> Option<u64> {
        own_descriptors()
    }
}
