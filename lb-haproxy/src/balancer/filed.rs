//! What the file on disk says, read back: how a new process takes over a running HAProxy.

use std::collections::BTreeSet;

use lb_core::{BackendName, FileName, TableHash};

use super::compose::Composed;
use super::loaded::Loaded;
use super::server::{ServerEntry, Servers};

/// The table in the file, as far as the balancer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filed {
    /// The hash of the table asked for.
    pub table: TableHash,
    /// Whether a worker that runs it was still on its way to it when it was written.
    pub unfinished: bool,
    /// What a worker has that runs it.
    pub loaded: Loaded,
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
        Self {
            table,
            unfinished: false,
            loaded: composed.loaded.clone(),
            listeners: composed.listeners.clone(),
            files: composed.all_files().cloned().collect(),
            servers: composed.servers.clone(),
        }
    }

    /// Reads `haproxy.cfg`; `None` if it was not written by this crate, or by one too new to understand.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut table, mut mark, mut unfinished) = (None, None, false);
        let (mut listeners, mut files) = (BTreeSet::new(), BTreeSet::new());
        let (mut servers, mut loaded) = (Servers::new(), Loaded::default());
        let mut open = Open::Nothing;
        for line in text.lines() {
            let Some(note) = line.trim().strip_prefix("# lb ") else {
                match &open {
                    Open::Nothing => {}
                    Open::Servers(backend) => {
                        let (name, entry) = ServerEntry::parse(line)?;
                        servers.get_mut(backend)?.servers.insert(name, entry);
                    }
                    Open::Shape(name) => {
                        let lines = loaded.shapes.get_mut(name)?;
                        lines.extend([line, "\n"]);
                    }
                }
                continue;
            };
            match note.split_once(' ').unwrap_or((note, "")) {
                ("unfinished", "") => unfinished = true,
                ("table", hash) => table = Some(hash.parse().ok()?),
                ("mark", text) => mark = Some(text.to_owned()),
                ("frame", text) => text.clone_into(&mut loaded.frame),
                ("listener", port) => drop(listeners.insert(port.parse().ok()?)),
                ("file", name) => drop(files.insert(FileName::new(name).ok()?)),
                ("shape", name) => {
                    loaded.shapes.insert(name.to_owned(), String::new());
                    open = Open::Shape(name.to_owned());
                }
                ("servers", rest) => {
                    // Earlier files say nothing of the section.
                    let mut words = rest.split(' ');
                    let name = BackendName::new(words.next()?).ok()?;
                    let (flags, hashes): (Vec<&str>, Vec<&str>) =
                        words.partition(|word| *word == "sticky");
                    let section = hashes.first().map_or(String::new(), ToString::to_string);
                    loaded.sections.insert(name.clone(), section);
                    servers.entry(name.clone()).or_default().sticky = !flags.is_empty();
                    open = Open::Servers(name);
                }
                ("end", "") => open = Open::Nothing,
                _ => return None,
            }
        }
        loaded.mark = mark?;
        Some(Self { table: table?, unfinished, loaded, listeners, files, servers })
    }
}

/// What the lines belong to.
enum Open {
    Nothing,
    Servers(BackendName),
    Shape(String),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use lb_core::{
        AppName, Backend, CertificatePem, ConfigRenderer, CookieName, DomainName, Listener,
        PathPrefix, Prefix, Protocol, Route, RoutingTable, Server, ServerName, ServerState, Sticky,
    };

    use super::super::compose::{GlobalSettings, Ground, standard_shapes};
    use super::super::limits::Resources;
    use super::*;
    use crate::{HaproxyRenderer, Version};

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

    fn composed_on(
        table: &RoutingTable,
        servers: usize,
        running: Option<&Loaded>,
        version: Version,
    ) -> Composed {
        let rendered = HaproxyRenderer::new().render(table).unwrap();
        let settings = GlobalSettings {
            header_bytes: 32 << 10,
            hard_stop_after: Duration::from_secs(60),
            user: vec!["user haproxy".to_owned()],
            abilities: version.abilities(),
        };
        let limits = Resources::default().limits(servers);
        let shapes = standard_shapes(&HaproxyRenderer::new());
        let (dir, settings, shapes) = (Path::new("/run/lb"), &settings, &shapes);
        let ground = Ground { dir, settings, limits, running, shapes };
        Composed::new(table, table.hash(), rendered, ground).unwrap()
    }

    fn composed(table: &RoutingTable, servers: usize) -> Composed {
        composed_on(table, servers, None, Version::OLDEST)
    }

    /// Whether a HAProxy of this version that runs the first table can get to the second without a reload.
    fn becomes(from: &RoutingTable, to: &RoutingTable, version: Version) -> bool {
        let running = composed_on(from, 3, None, version).loaded;
        let composed = composed_on(to, 3, Some(&running), version);
        composed.mark() == running.mark && composed.loaded.shapes == running.shapes
    }

    fn changed(change: impl FnOnce(&mut Backend)) -> RoutingTable {
        let mut table = table();
        let backend = table.backends.values_mut().next().unwrap();
        change(Arc::make_mut(backend));
        table
    }

    /// As `shop.web`, on a route of its own where there is one to lead to it.
    fn with_another(table: &RoutingTable) -> RoutingTable {
        let mut more = table.clone();
        let name = BackendName::new("blog.web").unwrap();
        let backend = Backend::new(AppName::new("blog").unwrap(), Protocol::Http);
        more.backends.insert(name.clone(), Arc::new(backend));
        if let Some(Listener::Http { routes, .. }) = more.listeners.get_mut(&80) {
            routes.insert(route("blog.example.org", name));
        }
        more
    }

    fn route(host: &str, backend: BackendName) -> Route {
        let (host, path) = (Some(DomainName::new(host).unwrap()), PathPrefix::new("/").unwrap());
        Route { host, path, prefix: Prefix::Kept, backend }
    }

    /// With certificates for these backends at 443.
    fn certified(names: &[&str]) -> RoutingTable {
        let mut table = with_another(&table());
        let pem = CertificatePem::new(include_str!("../../../testbed/support/data/b.pem")).unwrap();
        let named = |name: &&str| (BackendName::new(*name).unwrap(), pem.clone());
        let certificates = names.iter().map(named).collect();
        table.listeners.insert(443, Listener::Http { routes: [].into(), certificates });
        table
    }

    /// One route on port 80.
    fn routed(host: &str) -> RoutingTable {
        let mut table = table();
        let routes = [route(host, BackendName::new("shop.web").unwrap())].into();
        table.listeners.insert(80, Listener::Http { routes, certificates: [].into() });
        table
    }

    #[test]
    fn a_file_is_read_back_as_it_was_written() {
        for version in [Version::OLDEST, Version::new(3, 4)] {
            let table = with_another(&table());
            let composed = composed_on(&table, 3, None, version);
            let filed = Filed::of(&composed, table.hash());
            assert_eq!(Filed::parse(&composed.text), Some(filed.clone()), "{version}");
            let unfinished = Filed { unfinished: true, ..filed.clone() };
            assert_eq!(Filed::parse(&composed.unfinished()), Some(unfinished), "{version}");
            assert_eq!(filed.listeners, [443].into());
            assert!(filed.servers.values().any(|backend| backend.sticky));
            assert_eq!(filed.loaded.shapes.is_empty(), version == Version::OLDEST);
        }
    }

    #[test]
    fn a_file_of_somebody_else_or_of_a_later_version_is_not_understood() {
        assert_eq!(Filed::parse("global\n    maxconn 1\n"), None);
        let text = composed(&table(), 3).text;
        assert_eq!(Filed::parse(&text.replace("# lb mark", "# lb novelty")), None);
        assert_eq!(Filed::parse(&text.replace(" id 2 ", " ")), None);
    }

    #[test]
    fn a_file_that_does_not_tell_of_sections_is_understood_and_takes_a_reload() {
        let composed = composed(&table(), 3);
        let section = composed.loaded.sections.values().next().unwrap();
        let frame = format!("# lb frame {}\n", composed.loaded.frame);
        let text = composed.text.replace(&frame, "").replace(&format!(" {section}"), "");
        let filed = Filed::parse(&text).unwrap();
        assert_eq!(filed.servers, composed.servers);
        let again = composed_on(&table(), 3, Some(&filed.loaded), Version::OLDEST);
        assert_eq!(again.loaded.frame, composed.loaded.frame, "not what is in the file");
    }

    #[test]
    fn servers_routes_and_certificates_are_no_reason_to_reload() {
        let more = changed(|b| {
            let server = Server::new(NonZeroU32::new(9).unwrap(), "10.0.0.9:80".parse().unwrap());
            b.servers.insert(ServerName::new("s9").unwrap(), server);
            b.servers.remove(&ServerName::new("s1").unwrap());
        });
        let mut renewed = table();
        let pem = CertificatePem::new(include_str!("../../../testbed/support/data/a.pem")).unwrap();
        let Some(Listener::Http { certificates, .. }) = renewed.listeners.get_mut(&443) else {
            panic!("an HTTP listener");
        };
        for certificate in certificates.values_mut() {
            certificate.clone_from(&pem);
        }
        for version in [Version::OLDEST, Version::new(3, 4)] {
            assert!(becomes(&table(), &more, version));
            assert!(becomes(&table(), &renewed, version));
            assert!(becomes(&routed("a.example.org"), &routed("b.example.org"), version));
            let [one, two] = [certified(&["blog.web"]), certified(&["blog.web", "shop.web"])];
            assert!(becomes(&one, &two, version) && becomes(&two, &one, version));
            // The first is for clients that name no host.
            assert!(!becomes(&certified(&["shop.web"]), &two, version));
        }
        let mark = composed(&table(), 3).loaded.mark;
        assert_eq!(composed(&table(), 30_000).loaded.mark, mark);
    }

    #[test]
    fn a_backend_may_leave_and_come_back_and_a_new_one_comes_where_it_can_be_added() {
        let without = routed("shop.example.org");
        let with = with_another(&without);
        for (version, comes) in
            [(Version::OLDEST, false), (Version::new(3, 2), false), (Version::new(3, 4), true)]
        {
            assert!(becomes(&with, &without, version), "{version}");
            assert_eq!(becomes(&without, &with, version), comes, "{version}");
            let running = composed_on(&with, 3, None, version).loaded;
            let left = composed_on(&without, 3, Some(&running), version);
            let sections = running.sections.clone();
            let remembered = Loaded { sections, ..left.loaded };
            let back = composed_on(&with, 3, Some(&remembered), version);
            assert_eq!(back.mark(), running.mark, "{version}");
        }
    }

    #[test]
    fn everything_else_is() {
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
            for version in [Version::OLDEST, Version::new(3, 4)] {
                assert!(!becomes(&table(), &other, version));
                let mark = composed_on(&table(), 3, None, version).loaded.mark;
                assert_ne!(composed_on(&other, 3, None, version).loaded.mark, mark);
            }
        }
    }
}
