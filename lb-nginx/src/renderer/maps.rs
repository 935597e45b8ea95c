//! Routes as maps. NGINX's own locations match decoded paths (`%2F` is a separator there), its server names
//! match any depth of labels; so host name and path are looked up in maps, exact keys only.
//!
//! A lookup for each depth of path there is, the deepest first: the path cut after so many segments, behind
//! the host name. What one does not find, it asks the next for: exact host names, then wildcards, then any.
//! A value is a backend, or `backend/N` where N segments of the path are stripped.
//!
//! A map takes keys of either case for the same, paths do not: so a value begins with the route's path, which
//! must be what was looked up, to the letter. Keys that differ in case alone are written as regular expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lb_core::{FileName, Listener, Prefix, Route};
use serde::Serialize;

use crate::layout;

/// The variables all listeners share. A path is canonical as it came unless it holds dot segments, encoded
/// characters that need no encoding, or a fragment; one that is not is looked up as NGINX decodes it, and
/// passed on so. `Host` is passed on as it came where it names the host that was looked up. A client of HTTP/1.1 may
/// change to any protocol but one that carries further requests (HTTP/2 in the clear, TLS), which nobody would route.
const SHARED: &str = r#"    map $request_uri $lb_raw {
        default "";
        "~^(?<lb_before>[^?]*)" $lb_before;
    }
    map $lb_raw $lb_canonical {
        default 1;
        "~#|/\.\.?(?:/|$)|%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])" "";
    }
    map $lb_canonical $lb_path {
        default $lb_raw;
        "" $uri;
    }
    map $host $lb_parent {
        default "";
        "~^[^.]+\.(?<lb_labels>.+)$" $lb_labels;
    }
    map "$host|$http_host" $lb_asked {
        default $host;
        "~*^([^|]+)\|\1\.?(?::[0-9]*)?$" $http_host;
    }
    map "$server_protocol|$http_connection" $lb_upgrade {
        default "";
        "~*^HTTP/1.1\|(?:.*,)?[^,!-~]*upgrade[^,!-~]*(?:,|$)" _ws;
    }
    map $http_upgrade $lb_ws {
        default $lb_upgrade;
        "" "";
        "~*(?:^|,)[^,!-~]*(?:h2|http|tls)" "";
    }
"#;

/// One lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Stage {
    /// What is looked up.
    pub(super) key: String,
    /// The variable with what it finds, without `$`.
    pub(super) variable: String,
    /// The path that must have been found to the letter, with the variable before it is known to be; absent for
    /// a lookup without a path.
    pub(super) exact: Option<Exact>,
    /// What else.
    pub(super) otherwise: String,
    /// In which file.
    pub(super) map: FileName,
}

/// A path to compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Exact {
    pub(super) path: String,
    pub(super) found: String,
}

/// The routes of a listener, ready to be looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Maps {
    /// In order of precedence.
    pub(super) stages: Vec<Stage>,
    /// Whether any route has a path: else paths are passed on as they came.
    pub(super) paths: bool,
    /// Whether any route strips its prefix.
    pub(super) strips: bool,
    pub(super) files: BTreeMap<FileName, String>,
    /// Length of the longest key, and most keys in one map.
    pub(super) longest: usize,
    pub(super) keys: usize,
    depths: BTreeSet<usize>,
    stripped: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exact,
    Wildcard,
    Any,
}

/// Writes the maps of an HTTP listener.
pub(super) fn maps(port: u16, listener: &Listener) -> Option<Maps> {
    let Listener::Http { routes, .. } = listener else { return None };
    let mut by_stage: BTreeMap<(Kind, std::cmp::Reverse<usize>), Vec<&Route>> = BTreeMap::new();
    for route in routes {
        let kind = match &route.host {
            Some(host) if host.wildcard_base().is_some() => Kind::Wildcard,
            Some(_) => Kind::Exact,
            None => Kind::Any,
        };
        by_stage.entry((kind, std::cmp::Reverse(depth(route)))).or_default().push(route);
    }
    let paths = routes.iter().any(|route| !route.path.is_root());
    let mut maps = Maps { paths, ..Maps::default() };
    let last = by_stage.len();
    for (number, ((kind, depth), routes)) in (1..).zip(by_stage) {
        maps.stage(port, number, last, (kind, depth.0), &routes);
    }
    Some(maps)
}

impl Maps {
    fn stage(
        &mut self,
        port: u16,
        number: usize,
        last: usize,
        (kind, depth): (Kind, usize),
        routes: &[&Route],
    ) {
        let host = match kind {
            Kind::Exact => "$host",
            Kind::Wildcard => "$lb_parent",
            Kind::Any => "",
        };
        let cut = if depth > 0 { format!("$lb_cut_{depth}") } else { "/".to_owned() };
        let map = layout::map_file(port, number);
        let lines = self.lines(routes, depth);
        self.files.insert(map.clone(), lines);
        self.keys = self.keys.max(routes.len());
        self.depths.extend((depth > 0).then_some(depth));
        let variable = |n: usize| format!("lb_{port}_{n}");
        let otherwise =
            if number == last { "\"\"".to_owned() } else { format!("${}", variable(number + 1)) };
        self.stages.push(Stage {
            key: format!("\"{host}{cut}\""),
            exact: (depth > 0)
                .then(|| Exact { path: cut.clone(), found: format!("lb_{port}_{number}_found") }),
            variable: variable(number),
            otherwise,
            map,
        });
    }

    fn lines(&mut self, routes: &[&Route], depth: usize) -> String {
        let mut by_key: BTreeMap<String, Vec<&Route>> = BTreeMap::new();
        for route in routes {
            by_key.entry(key(route).to_ascii_lowercase()).or_default().push(route);
        }
        let mut text = String::new();
        for (lower, routes) in by_key {
            self.longest = self.longest.max(lower.len());
            for route in &routes {
                let value = self.value(route, depth);
                let _ = match routes.len() {
                    1 => writeln!(text, "{} {value};", key(route)),
                    _ => writeln!(text, "\"~^{}$\" {value};", key(route).replace('.', "\\.")),
                };
            }
        }
        text
    }

    fn value(&mut self, route: &Route, depth: usize) -> String {
        let strips = route.prefix == Prefix::Stripped && depth > 0;
        if strips {
            self.strips = true;
            self.stripped.insert(depth);
        }
        match (depth, strips) {
            (0, _) => route.backend.to_string(),
            (_, false) => format!("{}={}", route.path, route.backend),
            (_, true) => format!("{}={}/{depth}", route.path, route.backend),
        }
    }
}

fn key(route: &Route) -> String {
    let host = route.host.as_ref().map_or("", |h| h.wildcard_base().unwrap_or(h.as_str()));
    format!("{host}{}", route.path)
}

fn depth(route: &Route) -> usize {
    if route.path.is_root() { 0 } else { route.path.as_str().matches('/').count() }
}

/// The maps that the lookups of all listeners build on.
pub(super) fn shared_maps(maps: &BTreeMap<u16, Maps>) -> String {
    let mut text = SHARED.to_owned();
    let depths: BTreeSet<usize> = maps.values().flat_map(|m| &m.depths).copied().collect();
    for depth in depths {
        let segments = "/[^/]+".repeat(depth);
        let _ = write!(
            text,
            "    map $lb_path $lb_cut_{depth} {{\n        default \"\";\n        \
             \"~^(?<lb_upto_{depth}>{segments})(?:/|$)\" $lb_upto_{depth};\n    }}\n"
        );
    }
    let stripped: BTreeSet<usize> = maps.values().flat_map(|m| &m.stripped).copied().collect();
    if stripped.is_empty() {
        return text;
    }
    text.push_str("    map \"$lb_strip:$lb_path\" $lb_prefix {\n        default \"\";\n");
    for depth in &stripped {
        let segments = "/[^/]+".repeat(*depth);
        let _ = writeln!(
            text,
            "        \"~^{depth}:(?<lb_prefix_{depth}>{segments})\" $lb_prefix_{depth};"
        );
    }
    text.push_str("    }\n    map \"$lb_strip:$lb_path\" $lb_rest {\n        default /;\n");
    for depth in &stripped {
        let segments = "/[^/]+".repeat(*depth);
        let _ = writeln!(
            text,
            "        \"~^{depth}:{segments}(?<lb_rest_{depth}>/.*)$\" $lb_rest_{depth};"
        );
    }
    text.push_str("    }\n");
    text
}
