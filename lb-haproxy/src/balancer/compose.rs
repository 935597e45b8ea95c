//! From a rendered configuration to the files HAProxy reads: `global`, the renderer's text, server lines,
//! certificates; with the generation mark, and with the line each part begins at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lb_core::balancer::Failure;
use lb_core::{
    AppName, Backend, BackendName, CertificatePem, ConfigRenderer, FileName, Fragment, Listener,
    Protocol, RenderedConfig, RoutingTable, Secret, TableHash,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::limits::Limits;
use super::loaded::{Loaded, Shape, Shapes};
use super::server::{self, Servers};
use crate::{Abilities, layout};

/// The configuration's file name.
pub(crate) const CONFIG: &str = "haproxy.cfg";
/// The master's socket, in the balancer's directory.
pub(crate) const MASTER_SOCKET: &str = "master.sock";
/// The runtime API's socket, beside it.
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";
/// Where an old worker hands its stick tables to the next.
pub(crate) const PEERS_SOCKET: &str = "peers.sock";

/// More than any worker sees.
const MAX_RELOADS: u32 = 1_000_000;

/// What `global` says beside the table.
#[derive(Debug, Clone)]
pub(crate) struct GlobalSettings {
    /// How long an old worker may live.
    pub hard_stop_after: Duration,
    /// Most bytes of a message's header fields.
    pub header_bytes: u32,
    /// Whom the workers run as: lines of `global`; none where the master is not root.
    pub user: Vec<String>,
    /// What the HAProxy that reads it can do.
    pub abilities: Abilities,
}

/// A whole configuration in memory.
#[derive(Debug, Clone)]
pub(crate) struct Composed {
    /// What a worker has that was loaded with it. Where a running one can be changed to it, its mark and its shapes.
    pub loaded: Loaded,
    /// `haproxy.cfg`.
    pub text: String,
    /// Files beside it that need a reload to change.
    pub files: BTreeMap<FileName, String>,
    /// Maps, which do not.
    pub maps: BTreeMap<FileName, String>,
    /// Which certificates each listener has; the first takes a reload to change.
    pub lists: BTreeMap<FileName, String>,
    /// Certificates, which do not.
    pub certificates: BTreeMap<FileName, Certificate>,
    /// Backends a running HAProxy can be given, and how.
    pub addable: BTreeMap<BackendName, Shape>,
    /// The servers in it.
    pub servers: Servers,
    /// The ports it listens on.
    pub listeners: BTreeSet<u16>,
    parts: Vec<Part>,
    line: usize,
}

/// A certificate and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub backend: BackendName,
    pub pem: Secret,
}

/// Where a part of the text begins.
#[derive(Debug, Clone)]
struct Part {
    line: usize,
    backend: Option<BackendName>,
}

/// What a configuration is composed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// The balancer's directory.
    pub dir: &'a Path,
    pub settings: &'a GlobalSettings,
    pub limits: Limits,
    /// What runs, where a change of it may do.
    pub running: Option<&'a Loaded>,
    /// Shapes to have at hand for backends to come.
    pub shapes: &'a Shapes,
}

impl Composed {
    /// Puts everything together. `asked` is the hash of the table as it was asked for.
    pub(crate) fn new(
        table: &RoutingTable,
        asked: TableHash,
        rendered: RenderedConfig,
        ground: Ground<'_>,
    ) -> Result<Self, Failure> {
        check_fragments(table, &rendered)?;
        let Ground { dir, settings, limits, .. } = ground;
        let certificates = certificates(table);
        let (maps, files): (BTreeMap<_, _>, BTreeMap<_, _>) =
            rendered.files.into_iter().partition(|(name, _)| layout::is_map(name));
        let lists = crt_lists(table);
        let dir = dir.display().to_string();
        let global = global_lines(&dir, settings, limits, &rendered.fragments);
        let peers = layout::peers_section(&format!("{dir}/{PEERS_SOCKET}"));
        let addable = match settings.abilities.backends_at_run_time {
            true => addable(&rendered.fragments),
            false => BTreeMap::new(),
        };
        let frame = frame(&[&global, &peers], &rendered.fragments, &files, &lists);
        let sections = sections(table, &rendered.fragments);
        let loaded = loaded(frame, sections, [&maps, &lists], &addable, ground);
        let servers: Servers = table
            .backends
            .iter()
            .map(|(name, b)| (name.clone(), server::entries(b, table.host.as_ref())))
            .collect();
        let mut composed = Self {
            loaded,
            text: String::new(),
            files,
            maps,
            lists,
            certificates,
            addable,
            servers,
            listeners: table.listeners.keys().copied().collect(),
            parts: Vec::new(),
            line: 1,
        };
        composed.start(asked, &global, limits, &peers);
        let mut fragments = rendered.fragments.into_iter().peekable();
        // Behind what they are made from, before whoever is made from them.
        while let Some(first) =
            fragments.next_if(|f| matches!(f, Fragment::Text { backend: None, .. }))
        {
            composed.add(first);
        }
        composed.add_shapes();
        fragments.for_each(|fragment| composed.add(fragment));
        Ok(composed)
    }

    /// Names the load; stands in `description`.
    pub(crate) fn mark(&self) -> &str {
        &self.loaded.mark
    }

    /// The text while a worker is on its way to it.
    pub(crate) fn unfinished(&self) -> String {
        self.text.replacen("# lb table ", "# lb unfinished\n# lb table ", 1)
    }

    /// The backend a line of `haproxy.cfg` was written for, counted from 1.
    pub(crate) fn backend_at(&self, line: usize) -> Option<&BackendName> {
        let after = self.parts.partition_point(|part| part.line <= line);
        self.parts.get(after.checked_sub(1)?)?.backend.as_ref()
    }

    /// All files by name, the configuration last.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (String, &[u8])> {
        let files = self.files.iter().chain(&self.maps).chain(&self.lists);
        let files = files.map(|(name, text)| (name.to_string(), text.as_bytes()));
        let certificates =
            self.certificates.iter().map(|(n, c)| (n.to_string(), c.pem.expose().as_bytes()));
        files.chain(certificates).chain([(CONFIG.to_owned(), self.text.as_bytes())])
    }

    /// The names of all files beside the configuration.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = &FileName> {
        let texts = self.files.keys().chain(self.maps.keys()).chain(self.lists.keys());
        texts.chain(self.certificates.keys())
    }

    /// The names of all files, the configuration last.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.contents().map(|(name, _)| name)
    }

    /// Where each listener binds, as the renderer wrote it. A `bind` this cannot read is HAProxy's to judge.
    pub(crate) fn binds(&self) -> BTreeMap<u16, SocketAddr> {
        let words = self.text.lines().filter_map(|l| l.trim_start().strip_prefix("bind "));
        let address = |word: &str| match word.strip_prefix('*').unwrap_or(word).strip_prefix(':') {
            Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from(([0; 4], port))),
            None => word.parse().ok(),
        };
        let binds = words.filter_map(|rest| address(rest.split_whitespace().next()?));
        binds.map(|a| (a.port(), a)).filter(|(port, _)| self.listeners.contains(port)).collect()
    }

    fn start(&mut self, asked: TableHash, global: &str, limits: Limits, peers: &str) {
        let mut text = header(asked, self);
        let Limits { connections, spare_pairs, .. } = limits;
        let mark = self.mark();
        // Connections and pipes are not part of the mark: they follow the count of servers, which is no
        // reason to reload.
        let _ = write!(
            text,
            "global\n{global}    maxconn {connections}\n    maxpipes {spare_pairs}\n    \
             description {mark}\n{peers}"
        );
        self.line = text.matches('\n').count() + 1;
        self.text = text;
    }

    fn add(&mut self, fragment: Fragment) {
        let from = self.text.len();
        let backend = match fragment {
            Fragment::Text { backend, text } => {
                match backend.as_ref().and_then(|name| Some((name, self.addable.get(name)?))) {
                    Some((name, shape)) => self.text.push_str(&shape.backend_line(name)),
                    None => self.text.push_str(&text),
                }
                backend
            }
            Fragment::Servers(name) => {
                if let Some(backend) = self.servers.get(&name) {
                    let section = self.loaded.sections.get(&name).map_or("", String::as_str);
                    servers_block(&mut self.text, &name, section, backend);
                }
                Some(name)
            }
        };
        self.part(from, backend);
    }

    /// Each is the part of the first backend made from it.
    fn add_shapes(&mut self) {
        for (name, lines) in self.loaded.shapes.clone() {
            let from = self.text.len();
            let _ = write!(self.text, "# lb shape {name}\n{lines}# lb end\n");
            let first = self.addable.iter().find(|(_, shape)| shape.name == name);
            self.part(from, first.map(|(backend, _)| backend.clone()));
        }
    }

    fn part(&mut self, from: usize, backend: Option<BackendName>) {
        self.parts.push(Part { line: self.line, backend });
        self.line += self.text[from..].matches('\n').count();
    }
}

/// Comments that let a later process know what is in the file.
fn header(asked: TableHash, composed: &Composed) -> String {
    let mut text = "# Written by lb-haproxy; the next change overwrites it.\n".to_owned();
    let _ = writeln!(text, "# lb table {asked}");
    let _ = writeln!(text, "# lb mark {}", composed.mark());
    let _ = writeln!(text, "# lb frame {}", composed.loaded.frame);
    for port in &composed.listeners {
        let _ = writeln!(text, "# lb listener {port}");
    }
    for file in composed.all_files() {
        let _ = writeln!(text, "# lb file {file}");
    }
    text
}

fn servers_block(
    text: &mut String,
    name: &BackendName,
    section: &str,
    backend: &server::BackendServers,
) {
    let sticky = if backend.sticky { " sticky" } else { "" };
    let _ = writeln!(text, "    # lb servers {name} {section}{sticky}");
    backend.write(text);
    text.push_str("    # lb end\n");
}

/// The lines of `global` that need a reload to change.
fn global_lines(
    dir: &str,
    settings: &GlobalSettings,
    limits: Limits,
    fragments: &[Fragment],
) -> String {
    let parts = fragments.iter().filter_map(|fragment| match fragment {
        Fragment::Text { text, .. } => Some(text.as_str()),
        Fragment::Servers(_) => None,
    });
    let mut lines: Vec<String> =
        layout::global_lines(parts).iter().map(ToString::to_string).collect();
    lines.extend(layout::header_lines(settings.header_bytes));
    lines.push(format!("nbthread {}", limits.threads));
    lines.push(format!(
        "stats socket {dir}/{ADMIN_SOCKET} mode 600 level admin expose-fd listeners"
    ));
    lines.push(format!("hard-stop-after {}ms", settings.hard_stop_after.as_millis()));
    // Old workers are bounded by their number, not by the reloads they have seen: one that holds a stream may see any
    // number of them. Newer versions have a bound of their own.
    lines.push(format!("mworker-max-reloads {MAX_RELOADS}"));
    // The worker that hands its stick tables over connects as an unprivileged user.
    lines.push("unix-bind mode 666".to_owned());
    lines.extend(settings.user.iter().cloned());
    if settings.abilities.asks_for_chroot && !settings.user.is_empty() {
        // Where it is: elsewhere a worker could not reach the sockets.
        lines.push("chroot /".to_owned());
    }
    lines.iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

/// Names everything that needs a reload to change in any HAProxy: all but servers, backends, maps, and certificates
/// beside the first of a listener.
fn frame(
    fixed: &[&str],
    fragments: &[Fragment],
    files: &BTreeMap<FileName, String>,
    lists: &BTreeMap<FileName, String>,
) -> String {
    let mut bytes = fixed.concat().into_bytes();
    for fragment in fragments {
        if let Fragment::Text { backend: None, text } = fragment {
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    add_files(&mut bytes, files);
    for (name, list) in lists {
        let first = list.lines().next().unwrap_or_default();
        bytes.extend_from_slice(format!("\0{name}\0{first}").as_bytes());
    }
    hashed(&bytes)
}

/// Names what each backend's section says, but its servers.
fn sections(table: &RoutingTable, fragments: &[Fragment]) -> BTreeMap<BackendName, String> {
    let mut bytes: BTreeMap<&BackendName, Vec<u8>> = BTreeMap::new();
    for fragment in fragments {
        match fragment {
            Fragment::Text { backend: Some(name), text } => {
                bytes.entry(name).or_default().extend_from_slice(text.as_bytes());
            }
            Fragment::Servers(name) => {
                let settings = table.backends.get(name).map(|b| server::settings(b));
                let line = format!("\0{}\0", settings.unwrap_or_default());
                bytes.entry(name).or_default().extend_from_slice(line.as_bytes());
            }
            Fragment::Text { backend: None, .. } => {}
        }
    }
    bytes.into_iter().map(|(name, bytes)| (name.clone(), hashed(&bytes))).collect()
}

/// What a worker has in the end: as it runs and can be changed, or as it is loaded with all this.
fn loaded(
    frame: String,
    sections: BTreeMap<BackendName, String>,
    changeable: [&BTreeMap<FileName, String>; 2],
    addable: &BTreeMap<BackendName, Shape>,
    ground: Ground<'_>,
) -> Loaded {
    if let Some(running) = ground.running.filter(|r| r.becomes(&frame, &sections, addable)) {
        let Loaded { mark, frame, shapes, .. } = running.clone();
        return Loaded { mark, frame, sections, shapes };
    }
    let mut bytes = frame.clone().into_bytes();
    for (name, section) in &sections {
        bytes.extend_from_slice(format!("\0{name}\0{section}").as_bytes());
    }
    for files in changeable {
        add_files(&mut bytes, files);
    }
    let shapes = match ground.settings.abilities.backends_at_run_time {
        true => addable.values().map(Shape::named).chain(ground.shapes.clone()).collect(),
        false => Shapes::new(),
    };
    Loaded { mark: hashed(&bytes), frame, sections, shapes }
}

/// Backends of one text each that a HAProxy could also be given.
fn addable(fragments: &[Fragment]) -> BTreeMap<BackendName, Shape> {
    let mut texts: BTreeMap<&BackendName, Vec<&str>> = BTreeMap::new();
    for fragment in fragments {
        if let Fragment::Text { backend: Some(name), text } = fragment {
            texts.entry(name).or_default().push(text);
        }
    }
    let shape = |(name, texts): (&BackendName, Vec<&str>)| match texts.as_slice() {
        [text] => Some((name.clone(), Shape::of(name, text)?)),
        _ => None,
    };
    texts.into_iter().filter_map(shape).collect()
}

/// Those of backends that say nothing of their own: most apps.
pub(crate) fn standard_shapes(renderer: &dyn ConfigRenderer) -> Shapes {
    let mut table = RoutingTable::default();
    for protocol in [Protocol::Http, Protocol::Tcp] {
        // Names of constants.
        let Ok(app) = AppName::new("standard") else { continue };
        let Ok(name) = BackendName::new(format!("standard.{protocol:?}").to_lowercase()) else {
            continue;
        };
        table.backends.insert(name, Arc::new(Backend::new(app, protocol)));
    }
    // A renderer that refuses them has none.
    let fragments = renderer.render(&table).map(|rendered| rendered.fragments).unwrap_or_default();
    addable(&fragments).values().map(Shape::named).collect()
}

fn add_files(bytes: &mut Vec<u8>, files: &BTreeMap<FileName, String>) {
    for (name, contents) in files {
        bytes.extend_from_slice(format!("\0{name}\0{contents}").as_bytes());
    }
}

fn hashed(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// The renderer's side of its contract: each backend's servers once, each text ended.
fn check_fragments(table: &RoutingTable, rendered: &RenderedConfig) -> Result<(), Failure> {
    let mut placed = BTreeSet::new();
    let wrong = |message: String| Err(Failure::Configuration { message });
    for fragment in &rendered.fragments {
        match fragment {
            Fragment::Text { backend, text } if !text.is_empty() && !text.ends_with('\n') => {
                let whose = backend.as_ref().map_or("all".to_owned(), ToString::to_string);
                return wrong(format!("renderer: the text for {whose} must end with a newline"));
            }
            Fragment::Servers(name) if !table.backends.contains_key(name) => {
                return wrong(format!("renderer: backend \"{name}\" is not in the table"));
            }
            Fragment::Servers(name) if !placed.insert(name) => {
                return wrong(format!("renderer: the servers of \"{name}\" must stand once"));
            }
            Fragment::Text { .. } | Fragment::Servers(_) => {}
        }
    }
    match table.backends.keys().find(|name| !placed.contains(name)) {
        Some(name) => wrong(format!("renderer: the servers of \"{name}\" have no place")),
        None => Ok(()),
    }
}

fn of_listener(listener: &Listener) -> Vec<(&BackendName, &CertificatePem)> {
    match listener {
        Listener::Http { certificates, .. } => certificates.iter().collect(),
        Listener::Tcp { backend, certificate } => {
            certificate.iter().map(|c| (backend, c)).collect()
        }
    }
}

fn certificates(table: &RoutingTable) -> BTreeMap<FileName, Certificate> {
    let all = table.listeners.iter().flat_map(|(port, listener)| {
        of_listener(listener).into_iter().map(move |(backend, pem)| {
            let pem = Secret::new(with_final_newline(pem.expose()));
            (pem_file(*port, backend), Certificate { backend: backend.clone(), pem })
        })
    });
    all.collect()
}

fn with_final_newline(pem: &str) -> String {
    format!("{}\n", pem.trim_end_matches('\n'))
}

fn crt_lists(table: &RoutingTable) -> BTreeMap<FileName, String> {
    let list = |(port, listener): (&u16, &Listener)| {
        let names =
            of_listener(listener).into_iter().map(|(b, _)| format!("{}\n", pem_file(*port, b)));
        let text: String = names.collect();
        (!text.is_empty()).then(|| (layout::crt_list_file(*port), text))
    };
    table.listeners.iter().filter_map(list).collect()
}

/// `PORT.BACKEND.pem`, or a hash in the backend's place where that is longer than a file name may be.
fn pem_file(port: u16, backend: &BackendName) -> FileName {
    let hashed = || format!("{port}.{:016x}.pem", xxh3_64(backend.as_str().as_bytes()));
    FileName::new(format!("{port}.{backend}.pem"))
        .or_else(|_| FileName::new(hashed()))
        .unwrap_or_else(|e| unreachable!("hexadecimal digits are a file name: {e}"))
}
