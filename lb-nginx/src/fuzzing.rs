//! Doors for `fuzz/` and this crate's own properties: compiled for tests and under `--cfg fuzzing`, which
//! cargo-fuzz sets. Not a feature, so that no user can come to lean on it.
//!
//! All but [`files`] take what NGINX, its files or the kernel could say, and panic if what is accepted breaks
//! what callers lean on.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lb_core::{
    AppName, Backend, BackendName, ConfigRenderer, Listener, PathPrefix, Prefix, Protocol, Result,
    Route, RoutingTable, Server, ServerName, SetAside,
};

use crate::balancer::{
    Abilities, Built, Composed, Filed, Ground, MainSettings, Module, Record, culprits,
};
use crate::control::{Status, parse_connection, parse_line};
use crate::renderer::NginxRenderer;
use crate::version::Version;

/// Where the files are said to be.
const DIRECTORY: &str = "/run/lb";

/// All files the balancer writes for a table, by name.
///
/// # Errors
/// What the renderer refuses.
pub fn files(
    renderer: &NginxRenderer,
    table: &RoutingTable,
    version: Version,
) -> Result<BTreeMap<String, String>> {
    let composed = composed(renderer, table, version)?;
    let read = Filed::parse(&composed.text, &composed.record.text());
    assert_eq!(read, Some(Filed::of(&composed, table.hash())), "read back");
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|e| panic!("not text: {e}"));
    Ok(composed.contents().map(|(name, bytes)| (name, text(bytes))).collect())
}

fn composed(renderer: &NginxRenderer, table: &RoutingTable, version: Version) -> Result<Composed> {
    let abilities = Abilities::of(version);
    let settings = MainSettings {
        hard_stop_after: Duration::from_secs(60),
        workers: 2,
        connections: 1024,
        header_bytes: 32 << 10,
    };
    let dir = Path::new(DIRECTORY);
    let ground = Ground { dir, settings: &settings, abilities: &abilities, user: None };
    let composed = Composed::new(table, table.hash(), renderer.render(table)?, ground);
    Ok(composed.unwrap_or_else(|e| panic!("a table that renders: {e}")))
}

/// The status server: a mark of one word.
pub fn status(text: &str) {
    let Ok(status) = Status::parse(text) else { return };
    assert!(!status.mark.contains([' ', '\n']), "{status:?}");
}

/// A datagram of the log: times are numbers from 0 up.
pub fn log_line(datagram: &[u8]) {
    let Some((_, mut line)) = parse_line(datagram) else { return };
    assert!(line.seconds.is_finite() && line.seconds >= 0.0, "{line:?}");
    line.add(line);
}

/// `nginx -V`: a module is a file of modules.
pub fn version(text: &str) {
    let Some(built) = Built::parse(text) else { return };
    if let Module::Loaded(module) = built.stream() {
        assert!(module.extension().is_some_and(|e| e == "so"), "{}", module.display());
    }
    let _ = built.temporary();
}

/// What a check or a reload wrote: it blames parts of the table only, with a reason of a line.
pub fn complaint(text: &str) {
    static COMPOSED: LazyLock<(RoutingTable, Composed)> = LazyLock::new(|| {
        let table = table();
        let composed = composed(&NginxRenderer::new(), &table, Version::OLDEST);
        (table, composed.unwrap_or_else(|e| panic!("{e}")))
    });
    let (table, composed) = &*COMPOSED;
    for (part, reason) in culprits(text, composed, &Path::new(DIRECTORY).join("stage")) {
        let there = match &part {
            SetAside::Backend(name) => table.backends.contains_key(name),
            SetAside::Listener(port) => table.listeners.contains_key(port),
        };
        assert!(there && !reason.contains('\n'), "{part:?}: {reason}");
    }
}

/// The files in force, `nginx.conf` before a NUL and the record after it: what is read is read again.
pub fn filed(text: &str) {
    let (config, record) = text.split_once('\0').unwrap_or((text, ""));
    let _ = Filed::parse(config, record);
    if let Some(record) = Record::parse(record) {
        assert_eq!(Record::parse(&record.text()), Some(record.clone()));
    }
}

/// A line of the kernel's table of sockets.
pub fn connection(line: &str) {
    let _ = parse_connection(line);
}

fn table() -> RoutingTable {
    let mut table = RoutingTable::default();
    let name = |text| BackendName::new(text).unwrap_or_else(|e| unreachable!("a name: {e}"));
    let (web, sql) = (name("shop.web"), name("db.sql"));
    for (name, protocol) in [(&web, Protocol::Http), (&sql, Protocol::Tcp)] {
        let app = AppName::new("shop").unwrap_or_else(|e| unreachable!("a name: {e}"));
        let mut backend = Backend::new(app, protocol);
        let server = Server::new(NonZeroU32::MIN, ([10, 0, 0, 1], 80).into());
        let s1 = ServerName::new("s1").unwrap_or_else(|e| unreachable!("a name: {e}"));
        backend.servers.insert(s1, server);
        table.backends.insert(name.clone(), Arc::new(backend));
    }
    let route = Route { host: None, path: PathPrefix::root(), prefix: Prefix::Kept, backend: web };
    let http = Listener::Http { routes: [route].into(), certificates: BTreeMap::new() };
    table.listeners =
        [(80, http), (5432, Listener::Tcp { backend: sql, certificate: None })].into();
    table
}
