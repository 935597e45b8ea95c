//! From a rendered configuration to the files NGINX reads: main lines, the renderer's text, servers,
//! certificates; with the generation mark, and with the line each part begins at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use lb_core::balancer::Failure;
use lb_core::{
    BackendName, CertificatePem, FileName, Fragment, Listener, Protocol, RenderedConfig,
    RoutingTable, Secret, TableHash,
};
use xxhash_rust::xxh3::xxh3_128;

use super::abilities::Abilities;
use super::main_lines::{self, MainSettings};
use super::server::{self, Record};
use crate::layout;

/// The configuration's file name.
pub(crate) const CONFIG: &str = "nginx.conf";
/// The record of servers, which a later process reads.
pub(crate) const RECORD_FILE: &str = "lb_servers.txt";
/// The directory of what only the balancer may reach.
pub(crate) const PRIVATE: &str = "private";
/// Says the mark.
pub(crate) const STATUS_SOCKET: &str = "private/status.sock";
/// Answers 503 for backends without a server.
pub(crate) const NONE_SOCKET: &str = "none.sock";
/// Takes log lines.
pub(crate) const LOG_SOCKET: &str = "log.sock";
/// Takes signals for a master in a container.
pub(crate) const ORDERS: &str = "private/orders";
/// The directory of temporary files.
pub(crate) const TEMPORARY: &str = "tmp";

/// A whole configuration in memory.
#[derive(Debug, Clone)]
pub(crate) struct Composed {
    /// Names what needs a reload to change.
    pub mark: String,
    /// `nginx.conf`.
    pub text: String,
    /// The servers.
    pub record: Record,
    /// Files beside it but the record.
    pub files: BTreeMap<FileName, String>,
    /// Certificates.
    pub certificates: BTreeMap<FileName, Certificate>,
    /// The ports it listens on; for byte streams with the backend.
    pub listeners: BTreeMap<u16, Option<BackendName>>,
    parts: Vec<Part>,
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

/// What a configuration is composed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub dir: &'a Path,
    pub settings: &'a MainSettings,
    pub abilities: &'a Abilities,
    /// Whom workers run as.
    pub user: Option<&'a str>,
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
        let record = Record::of(table);
        let certificates = certificates(table);
        let mut files = rendered.files;
        if table.backends.values().any(|b| b.protocol == Protocol::Tcp) {
            files.insert(file(layout::STREAM_INCLUDE), main_lines::stream_lines(ground.dir));
        }
        let main = main_lines::main_lines(ground.settings, ground.abilities, ground.user);
        let body = body(table, rendered.fragments, ground);
        let unmarked = main_lines::http_lines(ground, table, "");
        let mark = mark(&[&main, &body.text, &unmarked], &files, &certificates);
        let http = main_lines::http_lines(ground, table, &mark);
        files.insert(file(layout::HTTP_INCLUDE), http);
        let mut composed = Self {
            mark,
            text: String::new(),
            record,
            files,
            certificates,
            listeners: table.listeners.iter().map(|(port, l)| (*port, stream_of(l))).collect(),
            parts: Vec::new(),
        };
        let head = header(asked, &composed) + &main;
        let offset = head.matches('\n').count();
        composed.parts = body.parts;
        composed.parts.iter_mut().for_each(|part| part.line += offset);
        composed.text = head + &body.text;
        Ok(composed)
    }

    /// The backend a line of `nginx.conf` was written for, counted from 1.
    pub(crate) fn backend_at(&self, line: usize) -> Option<&BackendName> {
        let after = self.parts.partition_point(|part| part.line <= line);
        self.parts.get(after.checked_sub(1)?)?.backend.as_ref()
    }

    /// All files by name, the configuration last.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let files =
            self.files.iter().map(|(name, text)| (name.to_string(), text.clone().into_bytes()));
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|(n, c)| (n.to_string(), c.pem.expose().into()));
        let record = (RECORD_FILE.to_owned(), self.record.text().into_bytes());
        let config = (CONFIG.to_owned(), self.text.clone().into_bytes());
        files.chain(certificates).chain([record, config])
    }

    /// The names of all files, the configuration last.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.contents().map(|(name, _)| name)
    }

    /// Where each listener binds, as the renderer wrote it. A `listen` this cannot read is NGINX's to judge.
    pub(crate) fn binds(&self) -> BTreeMap<u16, SocketAddr> {
        let words = self.text.lines().filter_map(|l| l.trim_start().strip_prefix("listen "));
        let address =
            |rest: &str| -> Option<SocketAddr> { rest.split([' ', ';']).next()?.parse().ok() };
        let binds = words.filter_map(address).map(|a| (a.port(), a));
        binds.filter(|(port, _)| self.listeners.contains_key(port)).collect()
    }
}

/// The renderer's text with servers in it.
#[derive(Debug, Default)]
struct Body {
    text: String,
    parts: Vec<Part>,
}

fn body(table: &RoutingTable, fragments: Vec<Fragment>, ground: Ground<'_>) -> Body {
    let mut body = Body::default();
    let numbers: BTreeMap<_, _> = main_lines::hashed(table).map(|(n, name, _)| (name, n)).collect();
    let (none, version) = (ground.dir.join(NONE_SOCKET), ground.abilities.version);
    let mut line = 1;
    for fragment in fragments {
        let (backend, text) = match fragment {
            Fragment::Text { backend, text } => (backend, version.worded(&text)),
            Fragment::Servers(name) => {
                let text = match table.backends.get(&name) {
                    Some(b) => {
                        let hashed = numbers.get(&name).copied();
                        server::upstream_lines(&name, b, table.host.as_ref(), hashed, &none)
                    }
                    None => String::new(),
                };
                (Some(name), text)
            }
        };
        body.parts.push(Part { line, backend });
        line += text.matches('\n').count();
        body.text.push_str(&text);
    }
    body
}

/// Comments that let a later process know what is in the file.
fn header(asked: TableHash, composed: &Composed) -> String {
    let mut text = "# Written by lb-nginx; the next change overwrites it.\n".to_owned();
    let _ = writeln!(text, "# lb table {asked}");
    let _ = writeln!(text, "# lb mark {}", composed.mark);
    for (port, stream) in &composed.listeners {
        let _ = match stream {
            Some(backend) => writeln!(text, "# lb stream {port} {backend}"),
            None => writeln!(text, "# lb listener {port}"),
        };
    }
    for file in composed.files.keys().chain(composed.certificates.keys()) {
        let _ = writeln!(text, "# lb file {file}");
    }
    let _ = writeln!(text, "# lb file {RECORD_FILE}");
    text
}

/// Names everything that needs a reload to change: all but the names servers have.
fn mark(
    texts: &[&str],
    files: &BTreeMap<FileName, String>,
    certificates: &BTreeMap<FileName, Certificate>,
) -> String {
    let mut bytes = texts.join("\0").into_bytes();
    let certificates = certificates.iter().map(|(name, c)| (name, c.pem.expose()));
    for (name, contents) in files.iter().map(|(n, t)| (n, t.as_str())).chain(certificates) {
        bytes.extend_from_slice(format!("\0{name}\0{contents}").as_bytes());
    }
    format!("{:032x}", xxh3_128(&bytes))
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

fn stream_of(listener: &Listener) -> Option<BackendName> {
    match listener {
        Listener::Http { .. } => None,
        Listener::Tcp { backend, .. } => Some(backend.clone()),
    }
}

fn certificates(table: &RoutingTable) -> BTreeMap<FileName, Certificate> {
    let mut all = BTreeMap::new();
    let mut add = |port: u16, backend: &BackendName, pem: &CertificatePem| {
        let text = format!("{}\n", pem.expose().trim_end_matches('\n'));
        let certificate = Certificate { backend: backend.clone(), pem: Secret::new(text) };
        all.insert(layout::pem_file(port, backend), certificate);
    };
    for (port, listener) in &table.listeners {
        match listener {
            Listener::Http { certificates, .. } => {
                for (backend, pem) in certificates {
                    add(*port, backend, pem);
                }
            }
            Listener::Tcp { backend, certificate: Some(pem) } => add(*port, backend, pem),
            Listener::Tcp { .. } => {}
        }
    }
    all
}

fn file(name: &str) -> FileName {
    FileName::new(name).unwrap_or_else(|e| unreachable!("names of ours are file names: {e}"))
}
