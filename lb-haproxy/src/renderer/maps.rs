//! Routes as map files: one `map_beg` lookup is the longest path of a host name.
//!
//! Keys end with `/`, and the looked-up text gets a `/` appended: `/cart` is no prefix of `/cartoon`. A
//! value is a backend, or `backend/N` where N segments of the path are stripped. Look them up in `set-var`
//! only: HAProxy opens the files of log formats (`use_backend %[...]`) after `default-path` has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lb_core::{Error, FileName, Prefix, Result, Route};
use serde::Serialize;

use crate::layout;

/// The host name: no port (also of `[::1]:80`), lower case, no final dot.
const HOST: &str = "req.hdr(host),host_only,rtrim(.)";
/// Appends the path and a `/`. A converter costs half of what a log format does.
const PATH: &str = "concat(,txn.lb_path,/)";
/// The same of the root, where no route has another path.
const ROOT: &str = "concat(/)";

/// One lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Stage {
    /// What is looked up, as a sample expression; with [`Maps::paths`] the path stands in `txn.lb_path`.
    pub(super) key: String,
    /// In which file.
    pub(super) map: FileName,
}

/// Routes that take this many segments off the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Strip {
    /// How many.
    pub(super) segments: usize,
    /// The field of the path, counted from 1 and split at `/`, where the rest begins.
    pub(super) rest: usize,
}

/// The routes of a listener, ready to be looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Maps {
    /// In order of precedence.
    pub(super) stages: Vec<Stage>,
    /// Whether a route has a path, so that a request's counts.
    pub(super) paths: bool,
    pub(super) strips: Vec<Strip>,
    pub(super) files: BTreeMap<FileName, String>,
}

/// Writes the maps of a listener's routes.
///
/// # Errors
/// `Invalid` where two routes claim the same host name and path.
pub(super) fn maps(port: u16, routes: &BTreeSet<Route>) -> Result<Maps> {
    let (mut exact, mut wildcard, mut any) = (String::new(), String::new(), String::new());
    let mut depths = BTreeSet::new();
    let mut before: Option<&Route> = None;
    for route in routes {
        if before.is_some_and(|b| (&b.host, &b.path) == (&route.host, &route.path)) {
            return Err(claimed_twice(port, route));
        }
        before = Some(route);
        let depth = stripped(route);
        depths.extend(depth);
        match route.host.as_ref().map(|host| (host, host.wildcard_base())) {
            Some((_, Some(base))) => line(&mut wildcard, base, route, depth),
            Some((host, None)) => line(&mut exact, host.as_str(), route, depth),
            None => line(&mut any, "", route, depth),
        }
    }
    let paths = routes.iter().any(|route| !route.path.is_root());
    let (path, any_host) = match paths {
        true => (PATH, "var(txn.lb_path),concat(/)"),
        false => (ROOT, "str(/)"),
    };
    let stages = [
        (format!("{HOST},{path}"), layout::exact_map_file(port), exact),
        (format!("{HOST},field(2,.,0),{path}"), layout::wildcard_map_file(port), wildcard),
        (any_host.to_owned(), layout::any_map_file(port), any),
    ];
    let strips = depths.into_iter().map(|n| Strip { segments: n, rest: n + 2 }).collect();
    let mut maps = Maps { paths, strips, ..Maps::default() };
    for (key, map, text) in stages.into_iter().filter(|(_, _, text)| !text.is_empty()) {
        maps.files.insert(map.clone(), text);
        maps.stages.push(Stage { key, map });
    }
    Ok(maps)
}

/// How many segments a route takes off the path.
fn stripped(route: &Route) -> Option<usize> {
    let strips = route.prefix == Prefix::Stripped && !route.path.is_root();
    strips.then(|| route.path.as_str().matches('/').count())
}

fn line(map: &mut String, host: &str, route: &Route, depth: Option<usize>) {
    let path = route.path.as_str().trim_end_matches('/');
    let written = match depth {
        None => writeln!(map, "{host}{path}/ {}", route.backend),
        Some(depth) => writeln!(map, "{host}{path}/ {}/{depth}", route.backend),
    };
    written.unwrap_or_else(|e| unreachable!("a String takes all: {e}"));
}

fn claimed_twice(port: u16, route: &Route) -> Error {
    let host = route.host.as_ref().map_or("any host", |h| h.as_str());
    Error::invalid(
        format!("listener {port}: route \"{host}{}\"", route.path),
        "must lead to one backend",
    )
}
