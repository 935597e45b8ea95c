//! What the file on disk says, read back: how a new process takes over a running HAProxy.

use std::collections::BTreeSet;

use lb_core::{BackendName, FileName, TableHash};

use super::compose::Composed;
use super::server::{ServerEntry, Servers};

/// The table in the file, as far as the balancer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filed {
    /// The hash of the table asked for.
    pub table: TableHash,
    /// The generation mark.
    pub mark: String,
    /// The ports it listens on.
    pub listeners: BTreeSet<u16>,
    /// The files beside it.
    pub files: BTreeSet<FileName>,
    /// The servers.
    pub servers: Servers,
}

impl Filed {
    /// As it will be read back.
    pub(crate) fn of(composed: &Composed, table: TableHash) -> Self {
        let names = composed.files.keys().chain(composed.certificates.keys());
        Self {
            table,
            mark: composed.mark.clone(),
            listeners: composed.listeners.clone(),
            files: names.cloned().collect(),
            servers: composed.servers.clone(),
        }
    }

    /// Reads `haproxy.cfg`; `None` if it was not written by this crate, or by one too new to understand.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut table, mut mark) = (None, None);
        let (mut listeners, mut files) = (BTreeSet::new(), BTreeSet::new());
        let mut servers = Servers::new();
        let mut open: Option<BackendName> = None;
        for line in text.lines().map(str::trim) {
            let Some(note) = line.strip_prefix("# lb ") else {
                if let Some(backend) = &open {
                    let (name, entry) = ServerEntry::parse(line)?;
                    servers.get_mut(backend)?.servers.insert(name, entry);
                }
                continue;
            };
            match note.split_once(' ').unwrap_or((note, "")) {
                ("table", hash) => table = Some(hash.parse().ok()?),
                ("mark", text) => mark = Some(text.to_owned()),
                ("listener", port) => drop(listeners.insert(port.parse().ok()?)),
                ("file", name) => drop(files.insert(FileName::new(name).ok()?)),
                ("servers", rest) => {
                    let (name, sticky) = rest.split_once(' ').unwrap_or((rest, ""));
                    let name = BackendName::new(name).ok()?;
                    servers.entry(name.clone()).or_default().sticky = sticky == "sticky";
                    open = Some(name);
                }
                ("end", "") => open = None,
                _ => return None,
            }
        }
        Some(Self { table: table?, mark: mark?, listeners, files, servers })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use lb_core::{
        AppName, Backend, CertificatePem, ConfigRenderer, CookieName, Listener, Protocol,
        RoutingTable, Server, ServerName, ServerState, Sticky,
    };

    use super::super::compose::GlobalSettings;
    use super::super::limits::Resources;
    use super::*;
    use crate::HaproxyRenderer;

    fn table() -> RoutingTable {
        let name = BackendName::new("shop.web").unwrap();
        let mut backend = Backend::new(AppName::new("shop").unwrap(), Protocol::Http);
        backend.sticky = Some(Sticky { cookie: CookieName::new("LB").unwrap() });
        for id in 1..=3 {
            let address = format!("10.0.0.{id}:80").parse().unwrap();
            let mut server = Server::new(NonZeroU32::new(id).unwrap(), address);
            if id == 2 {
                server.state = ServerState::Draining;
            }
            backend.servers.insert(ServerName::new(format!("s{id}")).unwrap(), server);
        }
        let pem =
            CertificatePem::new(include_str!("../../../testbed/support/data/shop.pem")).unwrap();
        let certificates = [(name.clone(), pem)].into();
        let listener = Listener::Http { routes: [].into(), certificates };
        RoutingTable {
            host: None,
            listeners: BTreeMap::from([(443, listener)]),
            backends: BTreeMap::from([(name, Arc::new(backend))]),
        }
    }

    fn composed(table: &RoutingTable, servers: usize) -> Composed {
        let rendered = HaproxyRenderer::new().render(table).unwrap();
        let settings = GlobalSettings {
            header_bytes: 32 << 10,
            hard_stop_after: Duration::from_secs(60),
            user: vec!["user haproxy".to_owned()],
            abilities: crate::Abilities::default(),
        };
        let limits = Resources::default().limits(servers);
        Composed::new(table, table.hash(), rendered, Path::new("/run/lb"), &settings, limits)
            .unwrap()
    }

    fn changed(change: impl FnOnce(&mut Backend)) -> RoutingTable {
        let mut table = table();
        let backend = table.backends.values_mut().next().unwrap();
        change(Arc::make_mut(backend));
        table
    }

    #[test]
    fn a_file_is_read_back_as_it_was_written() {
        let composed = composed(&table(), 3);
        let filed = Filed::of(&composed, table().hash());
        assert_eq!(Filed::parse(&composed.text), Some(filed.clone()));
        assert_eq!(filed.listeners, [443].into());
        assert!(filed.servers.values().next().unwrap().sticky);
    }

    #[test]
    fn a_file_of_somebody_else_or_of_a_later_version_is_not_understood() {
        assert_eq!(Filed::parse("global\n    maxconn 1\n"), None);
        let text = composed(&table(), 3).text;
        assert_eq!(Filed::parse(&text.replace("# lb mark", "# lb novelty")), None);
        assert_eq!(Filed::parse(&text.replace(" id 2 ", " ")), None);
    }

    #[test]
    fn servers_their_number_and_certificates_are_no_reason_to_reload() {
        let mark = composed(&table(), 3).mark;
        let more = changed(|b| {
            let server = Server::new(NonZeroU32::new(9).unwrap(), "10.0.0.9:80".parse().unwrap());
            b.servers.insert(ServerName::new("s9").unwrap(), server);
            b.servers.remove(&ServerName::new("s1").unwrap());
        });
        assert_eq!(composed(&more, 3).mark, mark);
        assert_eq!(composed(&table(), 30_000).mark, mark);
        let mut renewed = table();
        let pem = CertificatePem::new(include_str!("../../../testbed/support/data/a.pem")).unwrap();
        let Some(Listener::Http { certificates, .. }) = renewed.listeners.get_mut(&443) else {
            panic!("an HTTP listener");
        };
        for certificate in certificates.values_mut() {
            certificate.clone_from(&pem);
        }
        assert_eq!(composed(&renewed, 3).mark, mark);
    }

    #[test]
    fn everything_else_is() {
        let mark = composed(&table(), 3).mark;
        let mut listeners = table();
        listeners
            .listeners
            .insert(80, Listener::Http { routes: [].into(), certificates: [].into() });
        let mut plain = table();
        plain.listeners.insert(443, Listener::Http { routes: [].into(), certificates: [].into() });
        for other in [
            listeners,
            plain,
            changed(|b| b.sticky = None),
            changed(|b| b.health.interval = Duration::from_secs(7)),
            changed(|b| b.limits.connections_per_instance = NonZeroU32::new(5)),
            changed(|b| b.timeouts.server = Duration::from_secs(7)),
        ] {
            assert_ne!(composed(&other, 3).mark, mark);
        }
    }
}
