//! The rules of an app: what a field must hold where its type does not say so, and what fields must be to each
//! other. Whatever passes can be planned, written, and read back.

use std::collections::BTreeSet;
use std::time::Duration;

use super::app::{
    AppSpec, DAY, Exposure, MAX_ENTRIES, MAX_INSTANCES, MAX_MEMORY, MAX_PORTS, MAX_VALUE,
    MIN_MEMORY, Replicas, Scaling, ScheduledFloor,
};
use super::names::shown;
use super::units::{Count, Cpu};
use crate::error::{Error, Result};

/// Longest time between a stop signal and SIGKILL.
const MOST_GRACE: Duration = Duration::from_secs(3600);
/// Least and most CPU time of an instance.
const CPUS: std::ops::RangeInclusive<Cpu> = Cpu::from_millis(10)..=Cpu::from_millis(1_024_000);

impl AppSpec {
    pub(super) fn check(&self) -> Result<()> {
        self.check_ports()?;
        self.check_process()?;
        self.check_volumes()?;
        self.check_place()?;
        self.replicas.check()?;
        self.check_scaling()?;
        self.check_rollout()?;
        match self.stop.grace > MOST_GRACE || self.stop.drain > DAY {
            true => Err(Error::invalid("stop", "grace must be at most 1h and drain at most 24h")),
            false => Ok(()),
        }
    }

    fn check_ports(&self) -> Result<()> {
        if !(1..=MAX_PORTS).contains(&self.ports.len()) {
            return Err(Error::invalid("ports", format!("must be 1 to {MAX_PORTS}")));
        }
        let mut inside = BTreeSet::new();
        for (name, port) in &self.ports {
            let here = |e: Error| e.within(format!("port \"{name}\""));
            port.check().map_err(here)?;
            if !inside.insert(port.container) {
                let rule = "must not be another port's of this app";
                return Err(here(Error::invalid("container", rule)));
            }
        }
        self.check_claims()
    }

    fn check_claims(&self) -> Result<()> {
        let claims: Vec<_> = self
            .ports
            .iter()
            .flat_map(|(name, port)| port.claims().map(move |c| (c, name)))
            .collect();
        for (i, (claim, name)) in claims.iter().enumerate() {
            if let Some((_, owner)) = claims[..i].iter().find(|(earlier, _)| earlier.clashes(claim))
            {
                let rule = format!("{claim} is already claimed by port \"{owner}\" of this app");
                return Err(Error::invalid(format!("port \"{name}\""), rule));
            }
        }
        Ok(())
    }

    fn check_process(&self) -> Result<()> {
        let lists = [("command", &self.command), ("args", &self.args)];
        for (field, list) in lists.iter().filter_map(|(f, l)| l.as_ref().map(|l| (*f, l))) {
            if list.len() > MAX_ENTRIES {
                return Err(at_most(field, MAX_ENTRIES, "entries"));
            }
            list.iter().try_for_each(|value| check_value(field, value))?;
        }
        if self.command.as_ref().is_some_and(|c| c.first().is_none_or(String::is_empty)) {
            return Err(Error::invalid("command", "must name a program"));
        }
        self.check_variables()?;
        match &self.registry {
            Some(registry) => registry.check().map_err(|e| e.within("registry")),
            None => Ok(()),
        }
    }

    fn check_variables(&self) -> Result<()> {
        if self.env.len() + self.secrets.len() > MAX_ENTRIES {
            return Err(at_most("env, secrets", MAX_ENTRIES, "variables"));
        }
        for (name, value) in &self.env {
            check_value(&shown("env", name.as_str()), value)?;
        }
        for (name, value) in &self.secrets {
            let field = || shown("secrets", name.as_str());
            check_value(&field(), value.expose())?;
            if self.env.contains_key(name) {
                return Err(Error::invalid(field(), "must not be in env as well"));
            }
        }
        Ok(())
    }

    fn check_volumes(&self) -> Result<()> {
        if self.volumes.len() > MAX_ENTRIES {
            return Err(at_most("volumes", MAX_ENTRIES, "entries"));
        }
        let mut targets = BTreeSet::new();
        for volume in &self.volumes {
            let target = || shown("volume", volume.target.as_str());
            let place = volume.target.parts().collect::<Vec<_>>();
            if place.is_empty() {
                return Err(Error::invalid(target(), "must be mounted below \"/\""));
            }
            if !targets.insert(place) {
                return Err(Error::invalid(target(), "must be mounted once"));
            }
        }
        Ok(())
    }

    fn check_place(&self) -> Result<()> {
        if self.resources.cpu.is_some_and(|cpu| !CPUS.contains(&cpu)) {
            return Err(Error::invalid("resources.cpu", "must be 0.01 to 1024 CPUs"));
        }
        if self.resources.memory.is_some_and(|m| !(MIN_MEMORY..=MAX_MEMORY).contains(&m)) {
            let rule = format!("must be {MIN_MEMORY} to {MAX_MEMORY}");
            return Err(Error::invalid("resources.memory", rule));
        }
        let labels = match &self.placement.exposure {
            Exposure::Labelled(labels) => labels.len().max(self.placement.labels.len()),
            _ => self.placement.labels.len(),
        };
        match labels > MAX_ENTRIES {
            true => Err(at_most("placement", MAX_ENTRIES, "labels")),
            false => Ok(()),
        }
    }

    fn check_scaling(&self) -> Result<()> {
        let Some(scaling) = &self.scaling else { return Ok(()) };
        if scaling.memory.is_some() && self.resources.memory.is_none() {
            return Err(Error::invalid("scaling.memory", "needs resources.memory"));
        }
        scaling.check()?;
        // A count that is fixed, also by hand, lets scaling rest.
        let most = if self.replicas.is_fixed() { MAX_INSTANCES } else { self.replicas.max };
        match scaling.schedule.iter().find(|floor| floor.min > most) {
            Some(floor) => Err(Error::invalid(
                format!("scaling.schedule.min {}", floor.min),
                format!("must not exceed {most}, the most instances there may be"),
            )),
            None => Ok(()),
        }
    }

    fn check_rollout(&self) -> Result<()> {
        let rollout = &self.rollout;
        if rollout.ready_within > DAY {
            return Err(Error::invalid("rollout.ready_within", "must be at most 24h"));
        }
        let (surge, unavailable) = self.rollout_bounds();
        let is_none = |count: Count| count.of_rounded_up(100) == 0;
        if is_none(surge) && is_none(unavailable) {
            let rule = "max_surge and max_unavailable must not both be 0";
            return Err(Error::invalid("rollout", rule));
        }
        let Some(canary) = &rollout.canary else { return Ok(()) };
        if !(1..=99).contains(&canary.weight.get()) {
            return Err(Error::invalid("rollout.canary.weight", "must be 1 to 99"));
        }
        match canary.instances.get() > MAX_INSTANCES {
            true => Err(at_most("rollout.canary.instances", MAX_INSTANCES as usize, "")),
            false => Ok(()),
        }
    }
}

impl Replicas {
    pub(super) fn check(self) -> Result<()> {
        let Self { min, max } = self;
        match (self.is_fixed(), min <= max && max <= MAX_INSTANCES) {
            (_, true) => Ok(()),
            (true, false) => Err(Error::invalid(
                format!("replicas {max}"),
                format!("must be at most {MAX_INSTANCES}"),
            )),
            (false, false) => Err(Error::invalid(
                format!("replicas {{ min = {min}, max = {max} }}"),
                format!("min must not exceed max, and max not {MAX_INSTANCES}"),
            )),
        }
    }
}

impl Scaling {
    fn check(&self) -> Result<()> {
        if [self.cpu, self.memory].iter().flatten().any(|p| p.get() == 0) {
            return Err(Error::invalid("scaling", "cpu and memory must be 1 to 100"));
        }
        if self.scale_in_after.is_some_and(|after| after > DAY) {
            return Err(Error::invalid("scaling.scale_in_after", "must be at most 24h"));
        }
        if self.schedule.len() > MAX_ENTRIES {
            return Err(at_most("scaling.schedule", MAX_ENTRIES, "entries"));
        }
        self.schedule.iter().try_for_each(ScheduledFloor::check)
    }
}

impl ScheduledFloor {
    fn check(&self) -> Result<()> {
        if jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            let field = shown("scaling.schedule.time_zone", &self.time_zone);
            let rule = "must be an IANA time zone such as \"Europe/Berlin\"";
            return Err(Error::invalid(field, rule));
        }
        match self.from == self.until {
            true => Err(Error::invalid("scaling.schedule", "from and until must differ")),
            false => Ok(()),
        }
    }
}

fn at_most(field: &str, most: usize, of: &str) -> Error {
    Error::invalid(field, format!("must be at most {most} {of}").trim_end())
}

/// Values the engine hands to a process or a registry: the kernel cannot carry NUL, and bounds each.
pub(super) fn check_value(field: &str, value: &str) -> Result<()> {
    match value.len() > MAX_VALUE || value.contains('\0') {
        true => {
            Err(Error::invalid(field, format!("must be at most {MAX_VALUE} bytes without NUL")))
        }
        false => Ok(()),
    }
}
