//! Changing certificates, and which ones listeners have, without a reload.

use lb_core::balancer::Failure;
use lb_core::{FileName, Secret};

use super::compose::Composed;
use super::engine::{Engine, blocking};
use crate::control::{
    abort_certificate, commit_certificate, delete_certificate, list_certificate, listed,
    new_certificate, set_certificate,
};

impl Engine {
    /// Lists that differ from those in the directory: all, where it is not known what the worker has.
    pub(super) async fn changed_lists(
        &self,
        composed: &Composed,
    ) -> Result<Vec<FileName>, Failure> {
        let all = !self.force.as_ref().is_some_and(|force| force.known.certificates);
        let mut changed = Vec::new();
        for (name, list) in &composed.lists {
            if all || self.read(name).await?.as_ref() != Some(list) {
                changed.push(name.clone());
            }
        }
        Ok(changed)
    }

    /// Has the worker offer certificates that these lists lack, before a route needs them. Gives whether there were any,
    /// and those it has listed that have to go, with their lists.
    pub(super) async fn list_certificates(
        &mut self,
        composed: &Composed,
        lists: &[FileName],
    ) -> Result<(bool, Vec<(FileName, String)>), Failure> {
        let (mut added, mut stale) = (false, Vec::new());
        for list in lists {
            let Some(wanted) = composed.lists.get(list) else { continue };
            let has = listed(&self.runtime(), list).await?;
            for name in wanted.lines().filter(|name| !has.iter().any(|h| h == name)) {
                let found = composed.certificates.iter().find(|(file, _)| file.as_str() == name);
                let Some((file, certificate)) = found else { continue };
                new_certificate(&self.runtime(), file).await?;
                self.change_certificate(file, &certificate.pem).await?;
                list_certificate(&self.runtime(), list, file).await?;
                added = true;
            }
            self.write(list.as_str(), wanted.clone()).await?;
            let goes = |name: &String| !wanted.lines().any(|w| w == name);
            stale.extend(has.into_iter().filter(goes).map(|name| (list.clone(), name)));
        }
        Ok((added, stale))
    }

    /// Has it forget them.
    pub(super) async fn unlist_certificates(
        &self,
        stale: &[(FileName, String)],
    ) -> Result<(), Failure> {
        for (list, name) in stale {
            delete_certificate(&self.runtime(), list, name).await?;
            tracing::info!(certificate = name, "certificate deleted");
        }
        Ok(())
    }

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
        let all = !std::mem::replace(&mut force.known.certificates, false);
        let mut changed = false;
        for (name, certificate) in &composed.certificates {
            let differs = self.differs(name, &certificate.pem).await?;
            if differs || all {
                self.change_certificate(name, &certificate.pem).await?;
            }
            changed |= differs;
        }
        if let Some(force) = &mut self.force {
            force.known.certificates = true;
        }
        Ok(changed)
    }

    async fn change_certificate(&self, name: &FileName, pem: &Secret) -> Result<(), Failure> {
        let socket = self.runtime();
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
