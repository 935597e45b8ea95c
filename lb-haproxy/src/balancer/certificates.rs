//! Changing the contents of certificates without a reload.

use lb_core::balancer::Failure;
use lb_core::{FileName, Secret};

use super::compose::{ADMIN_SOCKET, Composed};
use super::engine::{Engine, blocking};
use crate::control::{Socket, abort_certificate, commit_certificate, set_certificate};

impl Engine {
    /// Has the worker take over certificates that differ from those in the directory: all, where it is not
    /// known what the worker has. Gives whether any differs.
    ///
    /// HAProxy reads the new one first, then the file is replaced, then it is put in use: a certificate
    /// HAProxy refuses never reaches the directory.
    pub(super) async fn change_certificates(
        &mut self,
        composed: &Composed,
    ) -> Result<bool, Failure> {
        let Some(force) = &mut self.force else { return Ok(false) };
        let all = !std::mem::replace(&mut force.certified, false);
        let mut changed = false;
        for (name, certificate) in &composed.certificates {
            let differs = self.differs(name, &certificate.pem).await?;
            if differs || all {
                self.change_certificate(name, &certificate.pem).await?;
            }
            changed |= differs;
        }
        if let Some(force) = &mut self.force {
            force.certified = true;
        }
        Ok(changed)
    }

    async fn change_certificate(&self, name: &FileName, pem: &Secret) -> Result<(), Failure> {
        let socket = Socket::new(self.parts.directory.path().join(ADMIN_SOCKET));
        set_certificate(&socket, name, pem).await?;
        let (directory, file, bytes) = (self.parts.directory.clone(), name.clone(), pem.clone());
        let written =
            blocking(move || Ok(directory.replace(file.as_str(), bytes.expose().as_bytes())?))
                .await;
        if let Err(error) = written {
            abort_certificate(&socket, name).await;
            return Err(error);
        }
        commit_certificate(&socket, name).await?;
        tracing::info!(certificate = %name, "certificate changed");
        Ok(())
    }

    async fn differs(&self, name: &FileName, pem: &Secret) -> Result<bool, Failure> {
        let (path, pem) = (self.parts.directory.path().join(name.as_str()), pem.clone());
        blocking(move || {
            Ok(std::fs::read(path).map_or(true, |bytes| bytes != pem.expose().as_bytes()))
        })
        .await
    }
}
