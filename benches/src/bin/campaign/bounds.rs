//! What may take how long, and how much may be used: each bound with its reason. The judge knows no others.
//!
//! They are for a machine that is busy with the load, the engine and the instances as well: the figures of the README
//! are an order below.

use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A request must be answered within it, beyond what it asks the app to take. A hung instance is noticed after
/// [`NOTICED`], and what it has not answered by then goes to another.
pub const PATIENCE: Duration = seconds(15);
/// What the app takes for a slow request: longer than a drain's poll, shorter than [`DRAIN`].
pub const SLOW: Duration = Duration::from_millis(1500);
/// The apps' `stop.drain`: longer than the slowest request, so that none is cut.
pub const DRAIN: Duration = seconds(4);
/// The apps' `rollout.ready_within`: a version that is not ready by then is given up.
pub const READY_WITHIN: Duration = seconds(8);

/// From a change to its first answer: an instance starts in a second, a reload takes one, and a host where eight
/// starts are under way makes them wait.
pub const SERVED: Duration = seconds(20);
/// Longer by so much for each instance that a rollout replaces: it starts, is ready, and the one before it drains.
pub const EACH: Duration = seconds(4 + 4);
/// From a removal to nothing left of the app: its instances drain, are stopped, and the table follows.
pub const GONE: Duration = seconds(25);
/// From an instance's end to its successor, where it is the first in a row: seen within a second of the event, or by the
/// next look (10 s) where the event was lost, started and ready.
pub const REPLACED: Duration = seconds(15);
/// A hung instance is taken out after `fall` (3) checks of `interval` (1 s) and `timeout` (2 s) each at most.
pub const NOTICED: Duration = seconds(10);
/// The apps' `health.replace_after`.
pub const REPLACE_AFTER: Duration = seconds(10);
/// A hung instance is replaced so long after it was taken out: as a lost one is, after the app's own time.
pub const HUNG: Duration = seconds(10 + 15);
/// Requests that were on their way when the platform said that a version is served may have met the one before.
pub const CLAIMED: Duration = Duration::from_millis(500);
/// Requests that were on an instance when it ended may fail: so long it may take until its connections are known to be
/// closed everywhere.
pub const IN_FLIGHT: Duration = Duration::from_millis(1000);
/// From a balancer's end to its next answer: it is started again when its end or its silence is seen (10 s), and reads
/// its configuration.
pub const BALANCER_BACK: Duration = seconds(20);
/// From the start of a platform whose balancer ends with it to the first answer.
pub const PLATFORM_BACK: Duration = seconds(10);
/// Between a process's listening and its leading, when another one held the lead.
pub const LED: Duration = seconds(10);
/// After the loss of the last ledger nothing is started for `address_rest`: the balancer may serve addresses that it
/// knew, and nobody else.
pub const FORGOTTEN: Duration = seconds(60);
/// From an engine's return to all that ran on it running again: all instances at once, eight at a time.
pub const ENGINE_BACK: Duration = seconds(45);
/// From the loss of the instances' network to all instances in a new one.
pub const NETWORK_BACK: Duration = seconds(60);
/// Failed actions are tried again after at most a minute: so long what was refused may still be missing once the cause
/// has gone.
pub const RETRIED: Duration = seconds(65);
/// After the first answer of a new route the process that served before it may still accept for a moment.
pub const ARRIVES: Duration = seconds(2);
/// A route that leads nowhere any more is asked so long: longer than [`SERVED`] and [`GONE`].
pub const HAUNTED: Duration = seconds(40);
/// The end of the story until all must be as asked for.
pub const SETTLES: Duration = seconds(60);

/// Resident memory of the platform's process: 24 MB were measured with 50 apps; the in-process balancer carries the load
/// as well.
pub const PLATFORM_MEMORY: u64 = 128 << 20;
/// Resident memory of the balancer's processes together: old workers live on beside the current one while they hold
/// connections.
pub const BALANCER_MEMORY: u64 = 768 << 20;
/// Bytes in the platform's directory: apps, ledger, configurations and the one before each; logs of processes that are
/// rotated at a bound of their own.
pub const FILES: u64 = 96 << 20;
/// Files there.
pub const FILE_COUNT: usize = 1_000;

/// A slot's containers that ended in a row wait: 1 s after the second, doubled each time.
pub fn crash_wait(deaths: u32) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        again => seconds(1 << (again - 2).min(8)),
    }
}
