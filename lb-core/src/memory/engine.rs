//! A container engine as a state machine: no task, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{ByteSize, ContainerName, ImageDigest, ImageRef, NetworkName};
use crate::runtime::{
    Attachment, Container, ContainerId, ContainerSpec, ContainerState, Exit, NetworkSpec,
    Readiness, Restart, Role, RuntimeEvent, SpecHash,
};

/// What a container does once it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It becomes ready after so long.
    ReadyAfter(Duration),
    /// It runs and never becomes ready.
    NeverReady,
    /// It runs and nobody has asked it, as with engines: [`Probed`](crate::Probed) finds out.
    Unasked,
    /// It ends by itself with code 1 after so long, without having been ready.
    ExitsAfter(Duration),
}

/// A cluster on the engine.
pub(super) type Owner = u32;

/// An event, and who hears it; `None`: all.
#[derive(Debug, Clone)]
pub(super) struct News {
    pub(super) to: Option<Owner>,
    pub(super) event: RuntimeEvent,
}

/// When a container was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    Now,
    Before,
}

#[derive(Debug, Default)]
pub(super) struct Engine {
    /// What tags lead to at the registry; `None`: any image exists.
    pub(super) registry: Option<BTreeMap<String, ImageDigest>>,
    /// What a tag led to when it was fetched last, and the digests that are here.
    tags: BTreeMap<String, ImageDigest>,
    digests: BTreeSet<ImageDigest>,
    pub(super) networks: BTreeMap<NetworkName, (Owner, NetworkSpec)>,
    pub(super) containers: BTreeMap<ContainerName, Entry>,
    /// Held by others on this host.
    pub(super) foreign_names: BTreeSet<ContainerName>,
    pub(super) foreign_subnets: Vec<Ipv4Net>,
    pub(super) foreign_ports: BTreeSet<u16>,
    made: u64,
    /// Clusters beside the first.
    pub(super) owners: Owner,
    /// Listings do not tell readiness; see [`MemoryRuntime::hide_readiness`](super::MemoryRuntime).
    pub(super) hides_readiness: bool,
    /// Counts what the holder did, so that whoever compares need not.
    #[cfg(feature = "sim")]
    pub(super) changes: u64,
    /// Containers that ended by themselves, since somebody looked.
    #[cfg(feature = "sim")]
    pub(super) died: Vec<ContainerName>,
    /// Containers that were ready at any time.
    #[cfg(feature = "sim")]
    pub(super) ever_ready: BTreeSet<ContainerName>,
    /// What nobody has heard yet; the holder sends it.
    pub(super) news: Vec<News>,
}

#[derive(Debug)]
pub(super) struct Entry {
    owner: Owner,
    id: ContainerId,
    pub(super) spec: ContainerSpec,
    hash: SpecHash,
    pub(super) state: ContainerState,
    readiness: Readiness,
    /// Set by a test: overrides `readiness`.
    pinned: Option<Readiness>,
    /// What it wrote.
    written: String,
    /// Runs, and answers nobody.
    paused: bool,
    /// Its network went away under it: nobody reaches it.
    detached: bool,
    work: Work,
}

/// CPU time up to a moment, and the rate since.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    pub(super) cpu: Duration,
    pub(super) since: Duration,
    pub(super) rate: f64,
    pub(super) memory: ByteSize,
}

impl Work {
    pub(super) fn cpu_at(&self, now: Duration) -> Duration {
        self.cpu + now.saturating_sub(self.since).mul_f64(self.rate)
    }
}

/// `repository:tag`, the name a tag is known by.
pub(super) fn tagged(image: &ImageRef) -> String {
    format!("{}:{}", image.repository(), image.tag().unwrap_or("latest"))
}

fn made_up_digest(tagged: &str) -> ImageDigest {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(tagged) {
        let _ = write!(text, "{byte:02x}");
    }
    ImageDigest::new(text).unwrap_or_else(|e| unreachable!("a SHA-256 is a digest: {e}"))
}

fn conflict(operation: &'static str, subject: String, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, operation, subject, message)
}

impl Engine {
    pub(super) fn ensure_image(&mut self, image: &ImageRef) -> Result<ImageDigest> {
        let name = tagged(image);
        let absent = || Error::new(ErrorKind::NotFound, "pull", image.to_string(), "no such image");
        let digest = match (image.digest(), &self.registry) {
            (Some(digest), _) if self.digests.contains(digest) => digest.clone(),
            (Some(digest), None) => digest.clone(),
            (Some(digest), Some(known)) => {
                known.values().find(|d| *d == digest).cloned().ok_or_else(absent)?
            }
            (None, None) => made_up_digest(&name),
            (None, Some(known)) => {
                known.get(&name).or_else(|| self.tags.get(&name)).cloned().ok_or_else(absent)?
            }
        };
        self.digests.insert(digest.clone());
        self.tags.insert(name, digest.clone());
        Ok(digest)
    }

    fn has_image(&self, image: &ImageRef) -> bool {
        match image.digest() {
            Some(digest) => self.digests.contains(digest),
            None => self.tags.contains_key(&tagged(image)),
        }
    }

    pub(super) fn ensure_network(&mut self, owner: Owner, spec: &NetworkSpec) -> Result<()> {
        let subject = || format!("network \"{}\"", spec.name);
        if !spec.subnet.contains(&spec.engine_range) {
            let rule = format!("engine range {} must lie in {}", spec.engine_range, spec.subnet);
            return Err(Error::new(ErrorKind::Invalid, "make", subject(), rule));
        }
        match self.networks.get(&spec.name) {
            Some((theirs, _)) if *theirs != owner => {
                return Err(conflict("make", subject(), "is not this cluster's"));
            }
            Some((_, there)) if there == spec => return Ok(()),
            Some((_, there)) => {
                let rule = format!("exists with subnet {}", there.subnet);
                return Err(conflict("make", subject(), rule));
            }
            None => {}
        }
        let made = self.networks.values().map(|(_, network)| network.subnet);
        let mut taken = made.chain(self.foreign_subnets.iter().copied());
        if let Some(other) = taken.find(|t| t.contains(&spec.subnet) || spec.subnet.contains(t)) {
            let rule = format!("subnet {} overlaps {other}", spec.subnet);
            return Err(conflict("make", subject(), rule));
        }
        self.networks.insert(spec.name.clone(), (owner, spec.clone()));
        Ok(())
    }

    pub(super) fn remove_network(&mut self, owner: Owner, name: &NetworkName) -> Result<()> {
        let subject = || format!("network \"{name}\"");
        if self.networks.get(name).is_some_and(|(theirs, _)| *theirs != owner) {
            return Err(conflict("remove", subject(), "is not this cluster's"));
        }
        let attached = |e: &&Entry| matches!(&e.spec.network, Attachment::Network { name: n, .. } if n == name);
        if let Some(entry) = self.containers.values().find(attached) {
            let rule = format!("container \"{}\" is attached", entry.spec.name);
            return Err(conflict("remove", subject(), rule));
        }
        self.networks.remove(name);
        Ok(())
    }

    /// Makes and starts the container; tells whether this call started it.
    pub(super) fn run(
        &mut self,
        owner: Owner,
        spec: &ContainerSpec,
    ) -> Result<(ContainerId, Started)> {
        self.admit_name(owner, spec)?;
        if let Some(entry) = self.containers.get(&spec.name) {
            let same = entry.hash == spec.hash();
            match (&entry.state, same) {
                (ContainerState::Running, true) => return Ok((entry.id.clone(), Started::Before)),
                (ContainerState::Created, true) => {}
                (ContainerState::Exited(_), true) => return Err(taken(spec, "has exited")),
                (_, false) => return Err(taken(spec, "was made from another spec")),
            }
        } else {
            self.make(owner, spec)?;
        }
        Ok((self.start(&spec.name), Started::Now))
    }

    pub(super) fn make(&mut self, owner: Owner, spec: &ContainerSpec) -> Result<()> {
        self.admit(owner, spec)?;
        self.made += 1;
        let entry = Entry {
            owner,
            id: ContainerId(format!("memory-{}", self.made)),
            spec: spec.clone(),
            hash: spec.hash(),
            state: ContainerState::Created,
            readiness: Readiness::NotReady("not started".into()),
            pinned: None,
            written: String::new(),
            paused: false,
            detached: false,
            work: Work::default(),
        };
        self.containers.insert(spec.name.clone(), entry);
        Ok(())
    }

    fn start(&mut self, name: &ContainerName) -> ContainerId {
        let entry =
            self.containers.get_mut(name).unwrap_or_else(|| unreachable!("\"{name}\" was made"));
        entry.state = ContainerState::Running;
        entry.readiness = Readiness::NotReady("starting".into());
        self.news.push(News { to: Some(entry.owner), event: RuntimeEvent::Started(name.clone()) });
        entry.id.clone()
    }

    /// Whether the engine can run it to its end, once a checker that was left under its name is gone.
    pub(super) fn admit_checker(&mut self, owner: Owner, spec: &ContainerSpec) -> Result<()> {
        self.admit(owner, spec)?;
        match self.containers.get(&spec.name).map(|entry| entry.spec.role) {
            None => Ok(()),
            Some(Role::Checker) => self.stop(owner, &spec.name),
            Some(_) => Err(taken(spec, "is no checker")),
        }
    }

    /// Whether the engine can make it: name, image, network, address and ports.
    pub(super) fn admit(&self, owner: Owner, spec: &ContainerSpec) -> Result<()> {
        let subject = || format!("container \"{}\"", spec.name);
        self.admit_name(owner, spec)?;
        if !self.has_image(&spec.image) {
            let rule = format!("image {} is not on the host", spec.image);
            return Err(Error::new(ErrorKind::NotFound, "run", subject(), rule));
        }
        if let Attachment::Network { name, address } = &spec.network {
            self.admit_address(name, *address).map_err(|e| e.within(subject()).during("run"))?;
        }
        let clash = spec.publish.iter().find(|p| self.port_is_taken(p.address, p.host));
        match clash {
            Some(p) => {
                let rule = format!("port {} of {} is already allocated", p.host, p.address);
                Err(conflict("run", subject(), rule))
            }
            None => Ok(()),
        }
    }

    fn admit_name(&self, owner: Owner, spec: &ContainerSpec) -> Result<()> {
        match self.is_foreign(owner, &spec.name) {
            true => Err(taken(spec, "is not this cluster's")),
            false => Ok(()),
        }
    }

    fn is_foreign(&self, owner: Owner, name: &ContainerName) -> bool {
        self.foreign_names.contains(name)
            || self.containers.get(name).is_some_and(|entry| entry.owner != owner)
    }

    fn admit_address(&self, name: &NetworkName, address: Ipv4Addr) -> Result<()> {
        let field = format!("address {address}");
        let Some((_, network)) = self.networks.get(name) else {
            let subject = format!("network \"{name}\"");
            return Err(Error::new(ErrorKind::NotFound, "", subject, "must be made first"));
        };
        let subnet = network.subnet;
        let reserved = [Some(subnet.network()), Some(subnet.broadcast()), subnet.hosts().next()];
        if !subnet.contains(&address) || reserved.contains(&Some(address)) {
            return Err(Error::invalid(field, format!("must be a free address of {subnet}")));
        }
        let holds = |e: &&Entry| {
            let here = Attachment::Network { name: name.clone(), address };
            e.holds_resources() && e.spec.network == here
        };
        match self.containers.values().find(holds) {
            Some(owner) => {
                Err(conflict("", field, format!("is container \"{}\"'s", owner.spec.name)))
            }
            None => Ok(()),
        }
    }

    fn port_is_taken(&self, address: IpAddr, port: u16) -> bool {
        let held = self.containers.values().filter(|e| e.holds_resources());
        let meets =
            |other: IpAddr| other == address || other.is_unspecified() || address.is_unspecified();
        self.foreign_ports.contains(&port)
            || held.flat_map(|e| &e.spec.publish).any(|p| p.host == port && meets(p.address))
    }

    /// Its network goes away, whoever made it, and what is attached runs on without an address.
    pub(super) fn lose_networks(&mut self) {
        self.networks.clear();
        for name in self.names() {
            self.change(&name, |entry| {
                entry.detached |= matches!(entry.spec.network, Attachment::Network { .. });
            });
        }
    }

    /// The first half of a stop that is not done at once: the container has ended and is still there.
    pub(super) fn end_to_stop(&mut self, owner: Owner, name: &ContainerName) {
        let stops = |e: &&mut Entry| {
            e.owner == owner
                && e.state == ContainerState::Running
                && e.spec.restart != Restart::Always
        };
        let Some(entry) = self.containers.get_mut(name).filter(stops) else { return };
        entry.exit(Exit { code: 143, out_of_memory: false, output: String::new() });
        self.news.push(News { to: Some(owner), event: RuntimeEvent::Exited(name.clone()) });
    }

    pub(super) fn stop(&mut self, owner: Owner, name: &ContainerName) -> Result<()> {
        if self.is_foreign(owner, name) {
            let subject = format!("container \"{name}\"");
            return Err(conflict("stop", subject, "is not this cluster's"));
        }
        let Some(entry) = self.containers.remove(name) else { return Ok(()) };
        let mut tell = |event| self.news.push(News { to: Some(owner), event });
        if entry.state == ContainerState::Running {
            tell(RuntimeEvent::Exited(name.clone()));
        }
        tell(RuntimeEvent::Removed(name.clone()));
        Ok(())
    }

    /// Ends a running container; one that restarts always runs again at once. Whether it ran.
    pub(super) fn end(&mut self, name: &ContainerName, exit: &Exit) -> bool {
        let running = |e: &&mut Entry| e.state == ContainerState::Running;
        let Some(entry) = self.containers.get_mut(name).filter(running) else { return false };
        entry.written.push_str(&exit.output);
        entry.exit(Exit { output: String::new(), ..exit.clone() });
        let again = entry.spec.restart == Restart::Always;
        self.news.push(News { to: Some(entry.owner), event: RuntimeEvent::Exited(name.clone()) });
        #[cfg(feature = "sim")]
        self.died.push(name.clone());
        if again {
            self.start(name);
            self.settle(name, Readiness::Ready);
        }
        true
    }

    /// The container's own readiness, unless a test has pinned another.
    pub(super) fn settle(&mut self, name: &ContainerName, readiness: Readiness) {
        self.change(name, |entry| entry.readiness = readiness);
    }

    pub(super) fn pin(&mut self, name: &ContainerName, readiness: Readiness) {
        self.change(name, |entry| entry.pinned = Some(readiness));
    }

    pub(super) fn unpin(&mut self, name: &ContainerName) {
        self.change(name, |entry| entry.pinned = None);
    }

    /// It runs on and answers nobody, or does again.
    pub(super) fn pause(&mut self, name: &ContainerName, paused: bool) {
        self.change(name, |entry| entry.paused = paused);
    }

    fn change(&mut self, name: &ContainerName, change: impl FnOnce(&mut Entry)) {
        let hides = self.hides_readiness;
        let Some(entry) = self.containers.get_mut(name) else { return };
        let before = entry.shown();
        change(entry);
        #[cfg(feature = "sim")]
        if entry.shown() == Readiness::Ready && entry.state == ContainerState::Running {
            self.ever_ready.insert(name.clone());
        }
        if entry.shown() != before && !hides {
            let event = RuntimeEvent::ReadyChanged(name.clone());
            self.news.push(News { to: Some(entry.owner), event });
        }
    }

    /// The running container of this name and identity.
    pub(super) fn still_runs(&self, name: &ContainerName, id: &ContainerId) -> bool {
        self.containers.get(name).is_some_and(|e| e.id == *id && e.state == ContainerState::Running)
    }

    pub(super) fn list(&self, owner: Owner) -> Vec<Container> {
        let ours = self.containers.values().filter(|e| e.owner == owner);
        ours.map(|entry| self.seen(entry)).collect()
    }

    fn seen(&self, entry: &Entry) -> Container {
        let hidden = self.hides_readiness && entry.state == ContainerState::Running;
        Container {
            name: entry.spec.name.clone(),
            id: entry.id.clone(),
            role: entry.spec.role,
            spec: entry.hash.clone(),
            labels: entry.spec.labels.clone(),
            state: entry.state.clone(),
            readiness: if hidden { Readiness::Unknown } else { entry.shown() },
        }
    }

    /// Who answers at an address, if anybody is there.
    pub(super) fn at(&self, address: Ipv4Addr) -> Option<&Entry> {
        let is_there = |e: &&Entry| {
            let there =
                matches!(e.spec.network, Attachment::Network { address: a, .. } if a == address);
            there && e.state == ContainerState::Running && !e.detached
        };
        self.containers.values().find(is_there)
    }

    pub(super) fn running(&self, owner: Owner) -> impl Iterator<Item = (&ContainerName, Work)> {
        let runs = move |e: &Entry| e.owner == owner && e.state == ContainerState::Running;
        let running = self.containers.iter().filter(move |(_, e)| runs(e));
        running.map(|(name, e)| (name, e.work))
    }

    /// The last `tail` lines a container wrote; `None`: it is not there.
    pub(super) fn written(
        &self,
        owner: Owner,
        name: &ContainerName,
        tail: usize,
    ) -> Option<String> {
        let entry = self.containers.get(name).filter(|entry| entry.owner == owner)?;
        let lines: Vec<&str> = entry.written.lines().collect();
        Some(lines[lines.len().saturating_sub(tail)..].join("\n"))
    }

    pub(super) fn work_of(&mut self, name: &ContainerName) -> Option<&mut Work> {
        self.containers.get_mut(name).map(|e| &mut e.work)
    }

    pub(super) fn names(&self) -> Vec<ContainerName> {
        self.containers.keys().cloned().collect()
    }
}

fn taken(spec: &ContainerSpec, why: &str) -> Error {
    let rule = format!("a container of this name {why}");
    conflict("run", format!("container \"{}\"", spec.name), rule)
}

impl Entry {
    /// An exited container has lost its address and ports, as on Docker.
    fn holds_resources(&self) -> bool {
        !matches!(self.state, ContainerState::Exited(_))
    }

    fn exit(&mut self, exit: Exit) {
        self.state = ContainerState::Exited(exit);
        self.readiness = Readiness::NotReady("exited".into());
        self.paused = false;
    }

    pub(super) fn shown(&self) -> Readiness {
        let says = |why: &str| Readiness::NotReady(why.into());
        match (&self.state, &self.pinned) {
            (ContainerState::Running, _) if self.detached => says("has no network"),
            (ContainerState::Running, _) if self.paused => says("no answer"),
            (ContainerState::Running, Some(pinned)) => pinned.clone(),
            _ => self.readiness.clone(),
        }
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }
}
