//! Containers as clients meet them: who answers at an address, and what may befall those that do.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{MemoryRuntime, lock};
use crate::model::ContainerName;
use crate::runtime::Readiness;

impl MemoryRuntime {
    /// From now on listings do not tell readiness, as engines' do not: [`Probed`](crate::Probed) finds it out
    /// by asking, as whoever calls [`answer`](Self::answer) does.
    pub fn hide_readiness(&self) {
        self.shared.with(|engine| engine.hides_readiness = true);
    }

    /// What a client gets that asks a container at this address: an error where nobody is, or where who is
    /// there is not ready, with the reason.
    ///
    /// # Errors
    /// For people. One that is [paused](Self::pause) never answers.
    pub async fn answer(&self, address: Ipv4Addr) -> Result<(), String> {
        let readiness = {
            let engine = lock(&self.shared.engine);
            match engine.at(address) {
                None => Some(Readiness::NotReady("connect: refused".to_owned())),
                Some(entry) if entry.is_paused() => None,
                Some(entry) => Some(entry.shown()),
            }
        };
        match readiness {
            Some(Readiness::Ready) => Ok(()),
            Some(Readiness::NotReady(why)) => Err(why),
            Some(Readiness::Unknown) => Err("not started".to_owned()),
            None => std::future::pending().await,
        }
    }

    /// The container runs on and answers nobody, until [`resume`](Self::resume) or its end.
    pub fn pause(&self, name: &ContainerName) {
        self.shared.with(|engine| engine.pause(name, true));
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&self, name: &ContainerName) {
        self.shared.with(|engine| engine.pause(name, false));
    }

    /// The networks are removed by somebody, and what is attached to them runs on without an address: nobody
    /// reaches it any more.
    pub fn lose_networks(&self) {
        self.shared.with(super::engine::Engine::lose_networks);
    }

    /// From now on a container that is stopped has ended so long before it is removed, and listings show it.
    pub fn remove_after(&self, removal: Duration) {
        *lock(&self.shared.removal) = removal;
    }
}
