//! Changes of a running HAProxy: servers, routes, certificates; and backends, where it can be given new ones.
//!
//! What a request may be sent to comes first, then the routes change, then goes what is not led to any more.

use std::collections::{BTreeMap, BTreeSet};

use lb_core::balancer::Failure;
use lb_core::{BackendName, Change, FileName, TableHash};

use super::compose::{ADMIN_SOCKET, CONFIG, Composed};
use super::engine::{Engine, blocking};
use super::filed::Filed;
use super::look::Met;
use super::members::{self, Member, Steps};
use super::server::Servers;
use crate::control::{self, Change as Command, RowKind, Session, Socket, Stat, Verdict};
use crate::layout;

impl Engine {
    /// Changes what needs no reload, if nothing else differs. `None`: it takes a reload.
    pub(super) async fn without_reload(
        &mut self,
        composed: &Composed,
        asked: TableHash,
        met: &mut Met,
    ) -> Result<Option<Change>, Failure> {
        let Met::Up(session, info) = met else { return Ok(None) };
        let Some(force) = self.force.as_ref().filter(|f| f.loaded.mark == composed.mark()) else {
            return Ok(None);
        };
        if info.mark != composed.mark() || self.parts.directory.is_edited() {
            return Ok(None);
        }
        let filed = &force.filed;
        if force.is_known()
            && filed.table == asked
            && filed.loaded.sections == composed.loaded.sections
            && filed.servers == composed.servers
        {
            return Ok(Some(Change::None));
        }
        let (maps, lists) =
            (self.changed_maps(composed).await?, self.changed_lists(composed).await?);
        let comes = |name: &BackendName| !force.filed.servers.contains_key(name);
        let in_steps = !maps.is_empty() || !lists.is_empty() || composed.servers.keys().any(comes);
        self.write_config(composed, in_steps).await?;
        if let Some(force) = &mut self.force {
            force.filed.unfinished |= in_steps;
        }
        match self.change(session, composed, asked, (&maps, &lists)).await {
            Ok(true) => Ok(Some(Change::Live)),
            Ok(false) => Ok(Some(Change::None)),
            Err(error) => {
                tracing::warn!(%error, "not changed at run time: reloading");
                Ok(None)
            }
        }
    }

    /// In steps, if it takes several: a process that ends between them leaves a file that says so.
    async fn write_config(&self, composed: &Composed, in_steps: bool) -> Result<(), Failure> {
        let text = if in_steps { composed.unfinished() } else { composed.text.clone() };
        self.write(CONFIG, text).await
    }

    /// By what is remembered; where an answer shows that this is not so, once more by what is read.
    /// Gives whether anything was to be done.
    async fn change(
        &mut self,
        session: &mut Session,
        composed: &Composed,
        asked: TableHash,
        (maps, lists): (&[ChangedMap], &[FileName]),
    ) -> Result<bool, Failure> {
        let Some(force) = &mut self.force else { return Ok(false) };
        let wanted = &composed.servers;
        let settled = std::mem::replace(&mut force.known.servers, false);
        if !settled {
            force.loaded.sections = sections_in(&control::stat(session).await?, &force.filed);
        }
        let mut steps = match settled {
            true => Steps::between(&force.filed.servers, wanted, &force.lingering),
            false => read_steps(session, wanted).await?,
        };
        let comes = |name: &&BackendName| !(settled && force.filed.servers.contains_key(*name));
        // Also those that left, and could not be deleted.
        let published: Vec<_> = match self.parts.settings.abilities.backends_at_run_time {
            true => wanted.keys().filter(comes).cloned().collect(),
            false => Vec::new(),
        };
        // From here on the file is the new one: so is what must be repaired if this ends early.
        let unfinished = force.filed.unfinished;
        let filed = Filed { unfinished, ..Filed::of(composed, asked) };
        let before = std::mem::replace(&mut force.filed, filed).files;
        let added = self.add_backends(session, composed).await?;
        if let Err(error) = members::come(session, &steps).await {
            tracing::warn!(%error, "unexpected answer: reading the servers again");
            steps = read_steps(session, wanted).await?;
            members::come(session, &steps).await?;
        }
        members::run(session, &each(published, Command::Publish)).await?;
        let (listed, stale) = self.list_certificates(composed, lists).await?;
        let routed = self.change_maps(maps).await?;
        let lingering = self.force.as_ref().map(|f| f.lingering.clone()).unwrap_or_default();
        let left = match members::go(session, &steps, &lingering).await {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, "unexpected answer: reading the servers again");
                steps = read_steps(session, wanted).await?;
                members::carry_out(session, &steps, &lingering).await?
            }
        };
        let deleted = self.delete_backends(session).await?;
        self.unlist_certificates(&stale).await?;
        let certified = self.change_certificates(composed).await?;
        let gone: Vec<Member> = steps.gone().cloned().collect();
        if self.force.as_ref().is_some_and(|force| force.filed.unfinished) {
            self.write_config(composed, false).await?;
        }
        if !before.iter().eq(composed.all_files().collect::<BTreeSet<_>>()) {
            let directory = self.parts.directory.clone();
            let now = composed.all_files().cloned().collect();
            blocking(move || {
                directory.tidy(&before, &now);
                Ok(())
            })
            .await?;
        }
        if let Some(force) = &mut self.force {
            force.lingering = left;
            (force.known.servers, force.filed.unfinished) = (true, false);
        }
        self.shut_on_old_workers(&gone).await;
        let moved = !steps.only_forgets(&lingering) || added || routed || deleted;
        Ok(moved || listed || !stale.is_empty() || certified)
    }

    /// Gives the worker the backends it lacks. They take no requests before they are published.
    async fn add_backends(
        &mut self,
        session: &mut Session,
        composed: &Composed,
    ) -> Result<bool, Failure> {
        let Some(force) = &mut self.force else { return Ok(false) };
        let mut added = false;
        for (name, section) in &composed.loaded.sections {
            match force.loaded.sections.get(name) {
                Some(known) if known == section => continue,
                Some(_) => return Err(Failure::reply(name.as_str(), "another section is there")),
                None => {}
            }
            let Some(shape) = composed.addable.get(name) else {
                return Err(Failure::reply(name.as_str(), "the worker has no such backend"));
            };
            let add = Command::AddBackend(name.clone(), shape.name.clone(), shape.mode);
            members::run(session, &[add]).await?;
            tracing::info!(backend = %name, shape = shape.name, "backend added");
            force.loaded.sections.insert(name.clone(), section.clone());
            added = true;
        }
        Ok(added)
    }

    /// Deletes backends that left, where HAProxy can. Those that stay, for they have a stick table or a request, or for
    /// it cannot, have no route and no server.
    pub(super) async fn delete_backends(&mut self, session: &mut Session) -> Result<bool, Failure> {
        let Some(force) = &mut self.force else { return Ok(false) };
        if !self.parts.settings.abilities.backends_at_run_time {
            return Ok(false);
        }
        let stays = |name: &BackendName| force.filed.servers.contains_key(name);
        let left = force.loaded.sections.keys().filter(|name| !stays(name));
        let left: Vec<BackendName> = left.cloned().collect();
        members::run(session, &each(left.clone(), Command::Unpublish)).await?;
        let mut deleted = false;
        for name in left {
            let delete = Command::DeleteBackend(name.clone());
            match delete.judge(&session.ask(&delete.to_string()).await?)? {
                Verdict::Done => {
                    tracing::info!(backend = %name, "backend deleted");
                    force.loaded.sections.remove(&name);
                    deleted = true;
                }
                Verdict::Busy => {}
            }
        }
        Ok(deleted)
    }

    /// Maps that differ from those in the directory: all, where it is not known what the worker has.
    async fn changed_maps(&self, composed: &Composed) -> Result<Vec<ChangedMap>, Failure> {
        let all = !self.force.as_ref().is_some_and(|force| force.known.maps);
        let mut changed = Vec::new();
        for (name, wanted) in &composed.maps {
            let before = self.read(name).await?;
            let differs = before.as_deref() != Some(wanted.as_str());
            if all || differs {
                let (name, wanted) = (name.clone(), wanted.clone());
                changed.push(ChangedMap { name, wanted, before, differs });
            }
        }
        Ok(changed)
    }

    /// Has the worker take them over. Gives whether any differs.
    async fn change_maps(&mut self, changed: &[ChangedMap]) -> Result<bool, Failure> {
        let Some(force) = &mut self.force else { return Ok(false) };
        force.known.maps &= changed.is_empty();
        // A route that goes from one map to another must be in one of them at any time.
        if changed.len() > 1 {
            for ChangedMap { name, wanted, before, .. } in changed {
                let both = union(wanted, before.as_deref().unwrap_or_default());
                control::replace_map(&self.runtime(), name, &both).await?;
            }
        }
        for ChangedMap { name, wanted, .. } in changed {
            // The file first: a worker that starts again finds it.
            self.write(name.as_str(), wanted.clone()).await?;
            control::replace_map(&self.runtime(), name, wanted).await?;
            tracing::info!(map = %name, "routes changed");
        }
        if let Some(force) = &mut self.force {
            force.known.maps = true;
        }
        Ok(changed.iter().any(|map| map.differs))
    }

    /// Has the worker take over the maps in the directory, where it is not known what it has.
    pub(super) async fn route_again(&mut self) -> Result<(), Failure> {
        let Some(force) = self.force.as_ref().filter(|force| !force.known.maps) else {
            return Ok(());
        };
        let maps: Vec<_> =
            force.filed.files.iter().filter(|f| layout::is_map(f)).cloned().collect();
        for name in maps {
            let contents = self.read(&name).await?.unwrap_or_default();
            control::replace_map(&self.runtime(), &name, &contents).await?;
        }
        if let Some(force) = &mut self.force {
            force.known.maps = true;
        }
        Ok(())
    }

    pub(super) async fn read(&self, name: &FileName) -> Result<Option<String>, Failure> {
        let path = self.parts.directory.path().join(name.as_str());
        blocking(move || Ok(std::fs::read_to_string(path).ok())).await
    }

    pub(super) async fn write(&self, name: &str, text: String) -> Result<(), Failure> {
        let (directory, name) = (self.parts.directory.clone(), name.to_owned());
        blocking(move || Ok(directory.replace(&name, text.as_bytes())?)).await
    }

    pub(super) fn runtime(&self) -> Socket {
        Socket::new(self.parts.directory.path().join(ADMIN_SOCKET))
    }
}

/// A map the worker has to take over.
struct ChangedMap {
    name: FileName,
    wanted: String,
    /// What the directory has.
    before: Option<String>,
    differs: bool,
}

/// The steps from the servers as they are shown.
async fn read_steps(session: &mut Session, wanted: &Servers) -> Result<Steps, Failure> {
    let stat = control::stat(session).await?;
    Ok(Steps::from_running(&members::running(&stat), wanted))
}

/// The sections a worker has, which began with this file: what it has beside is not known.
fn sections_in(stat: &Stat, filed: &Filed) -> BTreeMap<BackendName, String> {
    let known = |name: BackendName| {
        let section = filed.loaded.sections.get(&name).cloned().unwrap_or_default();
        (name, section)
    };
    backends_in(stat).into_iter().map(known).collect()
}

/// The backends a worker has that a table could have named.
pub(super) fn backends_in(stat: &Stat) -> BTreeSet<BackendName> {
    let backends = stat.rows.iter().filter(|row| matches!(row.kind, RowKind::Backend { .. }));
    backends.filter_map(|row| BackendName::new(&row.backend).ok()).collect()
}

fn each(names: Vec<BackendName>, command: fn(BackendName) -> Command) -> Vec<Command> {
    names.into_iter().map(command).collect()
}

/// The lines of both, those of `wanted` where both have one for a key.
fn union(wanted: &str, before: &str) -> String {
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let keys: BTreeSet<String> = wanted.lines().map(key).collect();
    let kept = before.lines().filter(|line| !keys.contains(&key(line)));
    wanted.lines().chain(kept).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_on_its_way_is_in_both_maps() {
        let both = union("a/ new\nb/ b\n", "a/ old\nc/ c\n");
        assert_eq!(both, "a/ new\nb/ b\nc/ c\n");
        assert_eq!(union("", ""), "");
    }
}
