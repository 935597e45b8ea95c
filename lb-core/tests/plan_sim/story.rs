//! Histories on the simulated cluster.

use std::time::Duration;

use lb_core::conformance::strategies::{Deployment, Happening};
use lb_core::{HostId, Ledger};
use proptest::sample::Index;

use super::Sim;

/// Most hosts of a story.
const MAX_HOSTS: usize = 5;

impl Sim {
    /// Has it happen.
    pub fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Deploy(deployment) => self.deploy(deployment.app()),
            Happening::Remove(app) => drop(self.apps.remove(&Deployment::name_of(*app))),
            Happening::Kill(index) => self.kill_one(*index),
            Happening::Cut(index) => self.any_host(*index).reachable = false,
            Happening::Heal(index) => self.any_host(*index).reachable = true,
            Happening::Lose(index) => {
                let host = self.any_host(*index);
                (host.registered, host.reachable) = (false, false);
                self.strict = false;
            }
            Happening::Return(index) => {
                let host = self.any_host(*index);
                (host.registered, host.reachable) = (true, true);
            }
            Happening::Join if self.hosts.len() < MAX_HOSTS => {
                self.add_host(self.hosts.len() as u8 + 1);
            }
            Happening::Join => {}
            Happening::Busy(index) => self.occupy(index.index(usize::MAX)),
            Happening::Idle => self.hosts.values_mut().for_each(|h| h.open.clear()),
            Happening::LoseLedger => {
                self.restart();
                self.ledger = Ledger::default();
                self.strict = false;
            }
            Happening::Restart => self.restart(),
            Happening::Faults(schedule) => self.faults = schedule.calls().collect(),
            Happening::Passes(n) => (0..*n).for_each(|_| drop(self.pass())),
            Happening::Wait(time) => self.run_for(*time),
        }
    }

    /// The planner's process begins again with what it saved, and does not know what others put in force, nor yet who is
    /// ready.
    pub fn restart(&mut self) {
        let json = serde_json::to_string(&self.ledger).unwrap();
        let saved: Ledger = serde_json::from_str(&json).unwrap();
        self.ledger = saved.rebased(self.now);
        for host in self.hosts.values_mut() {
            host.inherited = true;
            host.unasked = true;
            host.set_aside.clear();
        }
    }

    fn any_host(&mut self, index: Index) -> &mut super::SimHost {
        let ids: Vec<HostId> = self.hosts.keys().cloned().collect();
        self.hosts.get_mut(index.get(&ids)).unwrap()
    }

    fn kill_one(&mut self, index: Index) {
        let ids: Vec<_> = self.hosts.values().flat_map(|h| h.containers.keys()).cloned().collect();
        if !ids.is_empty() {
            self.kill(index.get(&ids));
        }
    }

    /// Everything is well again, and the cluster is given the time it needs: it must be as asked for, and
    /// then nothing more be planned.
    pub fn end_well(&mut self) {
        self.faults.clear();
        self.ready_after.clear();
        for host in self.hosts.values_mut() {
            (host.registered, host.reachable) = (true, true);
            host.open.clear();
        }
        self.settle();
        self.check_settled();
        let more = self.pass();
        assert!(more.is_empty(), "nothing is left to do, and yet: {more:?}");
    }

    /// Instances of this version become ready after `time`; `None`: never.
    pub fn ready_in(&mut self, version: u8, time: Option<u64>) {
        self.ready_after.insert(version.to_string(), time.map(Duration::from_secs));
    }
}
