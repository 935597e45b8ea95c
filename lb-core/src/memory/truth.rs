//! What is really there, for the simulation's checks: no call of a contract, and no fault.

use super::{MemoryRuntime, lock};
use crate::model::ContainerName;
use crate::runtime::{ContainerSpec, ContainerState, Readiness};

/// A container as it is.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) name: &'a ContainerName,
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) running: bool,
    /// Whether it has address and ports: it has not ended.
    pub(crate) holds: bool,
    pub(crate) ready: bool,
}

impl MemoryRuntime {
    /// A number that is another one whenever anything may have changed.
    pub(crate) fn changes(&self) -> u64 {
        lock(&self.shared.engine).changes
    }

    /// Shows each container, in order of name.
    pub(crate) fn each(&self, mut look: impl FnMut(Held<'_>)) {
        for (name, entry) in &lock(&self.shared.engine).containers {
            let running = entry.state == ContainerState::Running;
            look(Held {
                name,
                spec: &entry.spec,
                running,
                holds: !matches!(entry.state, ContainerState::Exited(_)),
                ready: running && entry.shown() == Readiness::Ready,
            });
        }
    }

    /// How many networks there are.
    pub(crate) fn networks(&self) -> usize {
        lock(&self.shared.engine).networks.len()
    }

    /// Whether a container of this name was ready at any time, between two looks too.
    pub(crate) fn was_ready(&self, name: &str) -> bool {
        let name = ContainerName::new(name);
        name.is_ok_and(|name| lock(&self.shared.engine).ever_ready.contains(&name))
    }

    /// The containers that ended by themselves since this was asked last.
    pub(crate) fn take_died(&self) -> Vec<ContainerName> {
        std::mem::take(&mut lock(&self.shared.engine).died)
    }
}
