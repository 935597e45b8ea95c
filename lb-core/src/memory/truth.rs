//! What is really there, for checks of tests and simulations: no call of a contract, and no fault.

use super::{MemoryRuntime, lock};
use crate::model::ContainerName;
use crate::runtime::{ContainerSpec, ContainerState, Readiness};

/// A container as it is.
#[derive(Debug)]
pub struct HeldContainer<'a> {
    /// Its name.
    pub name: &'a ContainerName,
    /// What it was made from.
    pub spec: &'a ContainerSpec,
    /// Whether its process runs.
    pub running: bool,
    /// Whether it has address and ports: it has not ended.
    pub holds: bool,
    /// Whether it runs and is ready, by what it is or by what a test pinned.
    pub ready: bool,
}

impl MemoryRuntime {
    /// A number that is another one whenever anything may have changed.
    pub fn changes(&self) -> u64 {
        lock(&self.shared.engine).changes
    }

    /// Shows each container, in order of name.
    pub fn each(&self, mut look: impl FnMut(HeldContainer<'_>)) {
        for (name, entry) in &lock(&self.shared.engine).containers {
            let running = entry.state == ContainerState::Running;
            look(HeldContainer {
                name,
                spec: &entry.spec,
                running,
                holds: !matches!(entry.state, ContainerState::Exited(_)),
                ready: running && entry.shown() == Readiness::Ready,
            });
        }
    }

    /// How many networks there are.
    pub fn networks(&self) -> usize {
        lock(&self.shared.engine).networks.len()
    }

    /// Whether a container of this name was ready at any time, between two looks too.
    pub fn was_ready(&self, name: &str) -> bool {
        let name = ContainerName::new(name);
        name.is_ok_and(|name| lock(&self.shared.engine).ever_ready.contains(&name))
    }

    /// The containers that ended by themselves since this was asked last.
    pub fn take_died(&self) -> Vec<ContainerName> {
        std::mem::take(&mut lock(&self.shared.engine).died)
    }
}
