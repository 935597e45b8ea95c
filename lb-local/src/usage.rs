//! CPU and memory of process groups, from `/proc`.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::{ByteSize, Usage};

use crate::process::all;

/// Usage by process group, in one walk over `/proc`. Memory is resident memory, shared libraries
/// included; CPU is of the processes alive, so a child's share goes when it ends.
pub(crate) fn by_group() -> BTreeMap<i32, Usage> {
    let at = jiff::Timestamp::now();
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let mut groups: BTreeMap<i32, Usage> = BTreeMap::new();
    for process in all() {
        let usage = groups.entry(process.group).or_insert(Usage {
            at,
            cpu: Duration::ZERO,
            memory: ByteSize::new(0),
        });
        usage.cpu += Duration::from_millis(process.cpu_ticks * 1000 / ticks);
        usage.memory = ByteSize::new(usage.memory.get() + process.resident_pages * page);
    }
    groups
}
