//! Floors by time of day.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::{Decision, LoadView, PolicyMemory, ScalePolicy};
use crate::model::{Day, ScheduledFloor};
use crate::time::Now;

/// Another policy, never below the floors in force; real demand above a floor counts.
///
/// A window is the time between two instants: each local time it names is taken on its day, a skipped one
/// as much later as was skipped, a repeated one at its first occurrence. So a window in an hour that the
/// clocks skip or repeat is in force once.
#[derive(Debug, Clone)]
pub struct Floors {
    windows: Vec<Window>,
    inner: Arc<dyn ScalePolicy>,
}

#[derive(Debug, Clone)]
struct Window {
    days: BTreeSet<Day>,
    from: Time,
    until: Time,
    /// `None`: not known here; the floor then always holds.
    zone: Option<TimeZone>,
    min: u32,
}

impl Floors {
    /// These floors under `inner`. The floor of a time zone that is not known here always holds.
    pub fn new(schedule: &[ScheduledFloor], inner: Arc<dyn ScalePolicy>) -> Self {
        let window = |floor: &ScheduledFloor| Window {
            days: floor.days.clone(),
            from: floor.from,
            until: floor.until,
            zone: TimeZone::get(&floor.time_zone).ok(),
            min: floor.min,
        };
        Self { windows: schedule.iter().map(window).collect(), inner }
    }

    /// The highest floor in force, 0 if none is.
    pub fn at(&self, wall: Timestamp) -> u32 {
        self.windows.iter().filter(|w| w.is_open(wall)).map(|w| w.min).max().unwrap_or_default()
    }
}

impl ScalePolicy for Floors {
    fn decide(
        &self,
        load: &LoadView<'_>,
        memory: &PolicyMemory,
        now: Now,
    ) -> (Decision, PolicyMemory) {
        let (decision, memory) = self.inner.decide(load, memory, now);
        let floor = self.at(now.wall);
        if decision.count(load.wanted) >= floor {
            return (decision, memory);
        }
        let reason = format!("the schedule's floor is {floor}");
        let decision = match floor == load.wanted {
            true => Decision::Hold(reason),
            false => Decision::Want { count: floor, reason },
        };
        (decision, memory)
    }
}

impl Window {
    fn is_open(&self, wall: Timestamp) -> bool {
        let Some(zone) = &self.zone else { return true };
        let today = zone.to_datetime(wall).date();
        // A window is shorter than a day: it began today or yesterday.
        [Some(today), today.yesterday().ok()].into_iter().flatten().any(|day| {
            self.days_include(day)
                && self.span(zone, day).is_some_and(|(from, until)| from <= wall && wall < until)
        })
    }

    fn days_include(&self, day: Date) -> bool {
        self.days.is_empty() || self.days.contains(&day_of(day.weekday()))
    }

    /// When the window that begins on `day` opens and closes.
    fn span(&self, zone: &TimeZone, day: Date) -> Option<(Timestamp, Timestamp)> {
        let last = if self.until > self.from { day } else { day.tomorrow().ok()? };
        let at = |day: Date, time| zone.to_timestamp(day.to_datetime(time)).ok();
        let (from, until) = (at(day, self.from)?, at(last, self.until)?);
        if until > from {
            return Some((from, until));
        }
        // The start fell into a skipped hour and was moved past the end: the window keeps its length.
        let length = last.to_datetime(self.until).duration_since(day.to_datetime(self.from));
        Some((from, from.checked_add(length.as_secs().seconds()).ok()?))
    }
}

const fn day_of(weekday: Weekday) -> Day {
    match weekday {
        Weekday::Monday => Day::Monday,
        Weekday::Tuesday => Day::Tuesday,
        Weekday::Wednesday => Day::Wednesday,
        Weekday::Thursday => Day::Thursday,
        Weekday::Friday => Day::Friday,
        Weekday::Saturday => Day::Saturday,
        Weekday::Sunday => Day::Sunday,
    }
}
