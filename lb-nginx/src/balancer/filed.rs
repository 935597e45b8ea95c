//! What the files on disk say, read back: how a new process takes over a running NGINX.

use std::collections::{BTreeMap, BTreeSet};

use lb_core::balancer::{ConfigDirectory, Failure};
use lb_core::{BackendName, FileName, TableHash};

use super::compose::{Composed, RECORD_FILE};
use super::server::Record;

/// The table in the files, as far as the balancer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filed {
    /// The hash of the table asked for.
    pub table: TableHash,
    /// The generation mark.
    pub mark: String,
    /// The ports it listens on; for byte streams with the backend.
    pub listeners: BTreeMap<u16, Option<BackendName>>,
    /// The files beside it.
    pub files: BTreeSet<FileName>,
    /// The servers.
    pub record: Record,
}

impl Filed {
    /// As it will be read back.
    pub(crate) fn of(composed: &Composed, table: TableHash) -> Self {
        let names = composed.files.keys().chain(composed.certificates.keys()).cloned();
        Self {
            table,
            mark: composed.mark.clone(),
            listeners: composed.listeners.clone(),
            files: names.chain(FileName::new(RECORD_FILE)).collect(),
            record: composed.record.clone(),
        }
    }

    /// Reads the files in force; `None`: there are none of ours, or none that fit together.
    pub(crate) fn read(directory: &ConfigDirectory) -> Result<Option<Self>, Failure> {
        let Some(config) = directory.read_config()? else { return Ok(None) };
        let record =
            std::fs::read_to_string(directory.path().join(RECORD_FILE)).unwrap_or_default();
        Ok(Self::parse(&config, &record))
    }

    pub(crate) fn parse(config: &str, record: &str) -> Option<Self> {
        let (mut table, mut mark) = (None, None);
        let (mut listeners, mut files) = (BTreeMap::new(), BTreeSet::new());
        for note in config.lines().filter_map(|l| l.strip_prefix("# lb ")) {
            let words: Vec<&str> = note.split(' ').collect();
            match words.as_slice() {
                ["table", hash] => table = Some(hash.parse().ok()?),
                ["mark", text] => mark = Some((*text).to_owned()),
                ["listener", port] => drop(listeners.insert(port.parse().ok()?, None)),
                ["stream", port, backend] => {
                    listeners.insert(port.parse().ok()?, Some(BackendName::new(backend).ok()?));
                }
                ["file", name] => drop(files.insert(FileName::new(name).ok()?)),
                _ => return None,
            }
        }
        let record = Record::parse(record)?;
        Some(Self { table: table?, mark: mark?, listeners, files, record })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use lb_core::{
        AppName, Backend, ConfigRenderer, Listener, Protocol, RoutingTable, Server, ServerName,
    };

    use super::super::abilities::Abilities;
    use super::super::compose::Ground;
    use super::super::main_lines::MainSettings;
    use super::*;
    use crate::{NginxRenderer, Version};

    fn table() -> RoutingTable {
        let mut table = RoutingTable::default();
        for (name, protocol) in [("shop.web", Protocol::Http), ("db.sql", Protocol::Tcp)] {
            let mut backend = Backend::new(AppName::new("shop").unwrap(), protocol);
            let server = Server::new(NonZeroU32::MIN, "10.0.0.1:80".parse().unwrap());
            backend.servers.insert(ServerName::new("s1").unwrap(), server);
            table.backends.insert(BackendName::new(name).unwrap(), Arc::new(backend));
        }
        let http = Listener::Http { routes: [].into(), certificates: [].into() };
        let backend = BackendName::new("db.sql").unwrap();
        table.listeners = [(80, http), (5432, Listener::Tcp { backend, certificate: None })].into();
        table
    }

    fn composed(table: &RoutingTable) -> Composed {
        let abilities = Abilities::of(Version::OLDEST);
        let settings = MainSettings {
            hard_stop_after: Duration::from_secs(60),
            workers: 2,
            connections: 1024,
            header_bytes: 32 << 10,
        };
        let dir = Path::new("/run/lb");
        let ground = Ground { dir, settings: &settings, abilities: &abilities, user: None };
        let rendered = NginxRenderer::new().render(table).unwrap();
        Composed::new(table, table.hash(), rendered, ground).unwrap()
    }

    fn changed(name: &str, change: impl FnOnce(&mut Backend)) -> RoutingTable {
        let mut table = table();
        let backend = table.backends.get_mut(&BackendName::new(name).unwrap()).unwrap();
        change(Arc::make_mut(backend));
        table
    }

    fn one_more(backend: &mut Backend) {
        let server = Server::new(NonZeroU32::new(9).unwrap(), "10.0.0.9:80".parse().unwrap());
        backend.servers.insert(ServerName::new("s9").unwrap(), server);
    }

    #[test]
    fn files_are_read_back_as_they_were_written() {
        let composed = composed(&table());
        let filed = Filed::of(&composed, table().hash());
        assert_eq!(Filed::parse(&composed.text, &composed.record.text()), Some(filed.clone()));
        assert_eq!(filed.listeners[&5432].as_ref().unwrap().as_str(), "db.sql");
        assert_eq!(composed.binds().keys().collect::<Vec<_>>(), [&80, &5432]);
        assert_eq!(Filed::parse("events { }\n", ""), None);
        let text = composed.text.replace("# lb mark", "# lb novelty");
        assert_eq!(Filed::parse(&text, &composed.record.text()), None);
    }

    #[test]
    fn another_name_of_a_server_is_no_reason_to_reload_and_all_else_is() {
        let mark = composed(&table()).mark;
        let renamed = changed("shop.web", |b| {
            let server = b.servers.pop_first().unwrap().1;
            b.servers.insert(ServerName::new("s7").unwrap(), server);
        });
        assert_eq!(composed(&renamed).mark, mark);
        let mut listeners = table();
        listeners
            .listeners
            .insert(81, Listener::Http { routes: [].into(), certificates: [].into() });
        for other in [
            listeners,
            changed("shop.web", one_more),
            changed("db.sql", one_more),
            changed("shop.web", |b| b.timeouts.server = Duration::from_secs(7)),
        ] {
            assert_ne!(composed(&other).mark, mark);
        }
    }
}
