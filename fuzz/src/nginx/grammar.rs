//! Which directives may stand where, with what parameters; and that all variables there are have a value.

use std::collections::BTreeSet;

use super::{Directive, Files, read};

/// Where a directive stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Main,
    Events,
    Http,
    Server,
    Location,
    If,
    Upstream,
    Map,
    Stream,
    StreamServer,
    StreamUpstream,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
enum P {
    /// This word.
    Is(&'static str),
    /// A word that begins so.
    Begins(&'static str),
    /// A whole number.
    Number,
    /// A time in whole milliseconds, or in whole seconds, with its unit.
    Time,
    /// Bytes, with or without `k` or `m`.
    Size,
    /// A file name or path.
    File,
    /// A name of letters, digits, `-`, `_` and `.`.
    Name,
    /// A variable.
    Variable,
    /// Any word.
    Any,
}

use P::{Any, Begins, File, Is, Name, Number, Size, Time, Variable};
use Place::{
    Events, Http, If, Location, Main, Map, Server, Stream, StreamServer, StreamUpstream, Upstream,
};

/// Directives without a block. Those of one name and place are choices.
const SETTINGS: &[(&[Place], &str, &[P])] = &[
    (&[Main], "load_module", &[File]),
    (&[Main], "user", &[Name]),
    (&[Main], "daemon", &[Is("off")]),
    (&[Main], "pid", &[Is("nginx.pid")]),
    (&[Main], "error_log", &[Is("stderr"), Is("emerg")]),
    (&[Main], "worker_processes", &[Number]),
    (&[Main], "worker_rlimit_nofile", &[Number]),
    (&[Main], "worker_shutdown_timeout", &[Time]),
    (&[Main], "pcre_jit", &[Is("on")]),
    (&[Events], "worker_connections", &[Number]),
    (&[Http], "map_hash_bucket_size", &[Number]),
    (&[Http], "map_hash_max_size", &[Number]),
    (&[Http], "server_names_hash_bucket_size", &[Number]),
    (&[Http], "server_names_hash_max_size", &[Number]),
    (&[Http], "variables_hash_bucket_size", &[Number]),
    (&[Http], "variables_hash_max_size", &[Number]),
    (&[Http], "default_type", &[Is("application/octet-stream")]),
    (&[Http], "server_tokens", &[Is("off")]),
    (&[Http], "merge_slashes", &[Is("off")]),
    (&[Http], "absolute_redirect", &[Is("off")]),
    (&[Http, Stream], "tcp_nodelay", &[Is("on")]),
    (&[Http], "reset_timedout_connection", &[Is("on")]),
    (&[Http, Upstream], "keepalive_requests", &[Number]),
    (&[Http, Server, Upstream], "keepalive_timeout", &[Time]),
    (&[Http], "keepalive_min_timeout", &[Time]),
    (&[Http, Location], "client_max_body_size", &[Size]),
    (&[Http], "client_body_buffer_size", &[Size]),
    (&[Http], "client_header_buffer_size", &[Size]),
    (&[Http], "large_client_header_buffers", &[Number, Size]),
    (&[Http], "proxy_http_version", &[Is("1.1")]),
    (&[Http], "proxy_request_buffering", &[Is("off")]),
    (&[Location], "proxy_request_buffering", &[Is("on")]),
    (&[Http], "proxy_buffering", &[Is("off")]),
    (&[Http], "proxy_buffer_size", &[Size]),
    (&[Http], "proxy_buffers", &[Number, Size]),
    (&[Http, Stream], "proxy_socket_keepalive", &[Is("on")]),
    (&[Stream], "proxy_half_close", &[Is("on")]),
    (
        &[Http],
        "proxy_ignore_headers",
        &[
            Is("X-Accel-Buffering"),
            Is("X-Accel-Charset"),
            Is("X-Accel-Expires"),
            Is("X-Accel-Limit-Rate"),
            Is("X-Accel-Redirect"),
        ],
    ),
    (&[Http], "proxy_next_upstream", &[Is("error"), Is("timeout")]),
    (&[Http], "proxy_next_upstream_tries", &[Number]),
    (&[Http, Location], "proxy_next_upstream_timeout", &[Time]),
    (&[Http], "ssl_protocols", &[Is("TLSv1.2"), Is("TLSv1.3")]),
    (&[Http], "ssl_session_cache", &[Is("shared:lb_tls:10m")]),
    (&[Http], "ssl_session_timeout", &[Is("1d")]),
    (&[Http, Server], "client_header_timeout", &[Time]),
    (&[Http, Server], "client_body_timeout", &[Time]),
    (&[Http, Server], "send_timeout", &[Time]),
    (&[Http, Location, StreamServer], "proxy_connect_timeout", &[Time]),
    (&[Http, Location], "proxy_send_timeout", &[Time]),
    (&[Http, Location], "proxy_read_timeout", &[Time]),
    (&[StreamServer], "proxy_timeout", &[Time]),
    (&[Http], "client_body_temp_path", &[File]),
    (&[Http], "proxy_temp_path", &[File]),
    (&[Http], "limit_req_zone", &[Any, Begins("zone=lb_rate_"), Begins("rate=")]),
    (&[Http, Server], "access_log", &[Is("off")]),
    (&[Http], "access_log", &[Begins("syslog:server=unix:/"), Is("lb"), Is("if=$lb_counted")]),
    (&[Stream], "access_log", &[Begins("syslog:server=unix:/"), Is("lb")]),
    (&[Http, Stream], "log_format", &[Is("lb"), Is("escape=json"), Begins("{\"")]),
    (&[Http], "add_header", &[Is("Set-Cookie"), Is("$lb_set_cookie"), Is("always")]),
    (&[Server], "listen", &[Begins("unix:/")]),
    (&[Server], "listen", &[Begins("0.0.0.0:")]),
    (&[Server, StreamServer], "listen", &[Begins("0.0.0.0:"), Is("reuseport")]),
    (&[Server], "listen", &[Begins("0.0.0.0:"), Is("ssl")]),
    (&[Server, StreamServer], "listen", &[Begins("0.0.0.0:"), Is("ssl"), Is("reuseport")]),
    (&[Server], "listen", &[Begins("0.0.0.0:"), Is("ssl"), Is("http2")]),
    (&[Server], "listen", &[Begins("0.0.0.0:"), Is("ssl"), Is("reuseport"), Is("http2")]),
    (&[Server], "http2", &[Is("on")]),
    (&[Server, StreamServer], "ssl_certificate", &[File]),
    (&[Server, StreamServer], "ssl_certificate_key", &[File]),
    (&[Server], "set", &[Is("$lb_backend"), Any]),
    (&[Server], "set", &[Is("$lb_strip"), Any]),
    (&[Server], "set", &[Is("$lb_host"), Is("$host")]),
    (&[If], "set", &[Is("$lb_host"), Is("$lb_asked")]),
    (&[If], "rewrite", &[Is("^"), Is("$uri")]),
    (&[Location], "rewrite", &[Is("^"), Is("$lb_rest"), Is("break")]),
    (&[Server], "error_page", &[Is("418"), Is("="), Begins("@lb$")]),
    (&[Server], "error_page", &[Is("494"), Is("="), Is("@lb_large")]),
    (&[Location], "return", &[Is("200"), Begins("mark ")]),
    (&[Location, If], "return", &[Number]),
    (&[Location], "limit_req", &[Begins("zone=lb_rate_"), Begins("burst="), Is("nodelay")]),
    (&[Location], "limit_req_status", &[Is("429")]),
    (&[Location], "proxy_set_header", &[Name, Any]),
    (&[Http, Location], "proxy_hide_header", &[Name]),
    (&[Http], "proxy_headers_hash_max_size", &[Number]),
    (&[Http], "proxy_headers_hash_bucket_size", &[Number]),
    (&[Location], "proxy_pass", &[Is("http://$lb_backend")]),
    (&[Location], "proxy_pass", &[Is("http://$lb_backend$lb_rest$is_args$args")]),
    (&[StreamServer], "proxy_pass", &[Name]),
    (&[Upstream], "keepalive", &[Number]),
    (&[Upstream, StreamUpstream], "zone", &[Name, Size]),
    (&[Upstream, StreamUpstream], "least_conn", &[]),
    (&[Upstream, StreamUpstream], "random", &[Is("two"), Is("least_conn")]),
    (&[Upstream, StreamUpstream], "hash", &[Variable, Is("consistent")]),
];

/// Those of which there may be several in a block, told apart by so many parameters.
const SEVERAL: [(&str, usize); 12] = [
    ("error_page", 1),
    // What tells these apart is in their blocks, if anything.
    ("if", 0),
    ("server", 0),
    ("limit_req_zone", 3),
    ("load_module", 1),
    ("location", 2),
    ("log_format", 1),
    ("map", 2),
    ("proxy_hide_header", 1),
    ("proxy_set_header", 1),
    ("set", 1),
    ("upstream", 1),
];

/// Variables NGINX has, in `http` and in `stream`.
const GIVEN: [&[&str]; 2] = [
    &[
        "args",
        "binary_remote_addr",
        "connection_requests",
        "content_length",
        "host",
        "https",
        "http_cookie",
        "http_host",
        "http_upgrade",
        "is_args",
        "pid",
        "remote_addr",
        "request_id",
        "request_uri",
        "scheme",
        "server_protocol",
        "status",
        "upstream_addr",
        "upstream_response_time",
        "uri",
    ],
    &["remote_addr", "server_port", "status", "upstream_addr"],
];

/// A configuration with its includes in their places, checked; and the files that were included.
pub(super) struct Whole {
    pub(super) main: Vec<Directive>,
    pub(super) included: BTreeSet<String>,
}

/// Reads `nginx.conf` and what it includes.
pub(super) fn whole(files: &Files) -> Result<Whole, String> {
    let mut walk = Walk { files, included: BTreeSet::from(["nginx.conf".to_owned()]) };
    let text = files.get("nginx.conf").ok_or("no nginx.conf")?;
    let main = walk.block(read(text)?, Main)?;
    for (side, given) in ["http", "stream"].into_iter().zip(GIVEN) {
        for block in main.iter().filter(|d| d.name() == side) {
            check_variables(block, given).map_err(|e| format!("{side}: {e}"))?;
        }
    }
    Ok(Whole { main, included: walk.included })
}

struct Walk<'a> {
    files: &'a Files,
    included: BTreeSet<String>,
}

impl Walk<'_> {
    fn block(&mut self, all: Vec<Directive>, place: Place) -> Result<Vec<Directive>, String> {
        let mut checked = Vec::new();
        for directive in all {
            match (directive.name(), directive.parameters()[..].first()) {
                ("include", Some(file)) if directive.block.is_none() => {
                    let text = self.files.get(*file).ok_or(format!("no file {file}"))?;
                    self.included.insert((*file).to_owned());
                    let inner = read(text).map_err(|e| format!("{file}: {e}"))?;
                    if inner.iter().any(|d| d.name() == "include") {
                        return Err(format!("{file}: an include within an include"));
                    }
                    checked.extend(self.block(inner, place)?);
                }
                _ => checked.push(self.directive(directive, place)?),
            }
        }
        once(&checked, place)?;
        Ok(checked)
    }

    fn directive(&mut self, mut directive: Directive, place: Place) -> Result<Directive, String> {
        let wrong = format!("not known in {place:?}: {:?}", directive.words);
        let Some(block) = directive.block.take() else {
            return if setting_fits(&directive, place) { Ok(directive) } else { Err(wrong) };
        };
        let inner = opens(&directive, place).ok_or(wrong)?;
        directive.block = Some(self.block(block, inner)?);
        Ok(directive)
    }
}

/// The place that a block is.
fn opens(directive: &Directive, place: Place) -> Option<Place> {
    let parameters = directive.parameters();
    match (place, directive.name(), &parameters[..]) {
        (Main, "events", []) => Some(Events),
        (Main, "http", []) => Some(Http),
        (Main, "stream", []) => Some(Stream),
        (Http, "server", []) => Some(Server),
        (Stream, "server", []) => Some(StreamServer),
        (Http, "upstream", [name]) if is_name(name) => Some(Upstream),
        (Stream, "upstream", [name]) if is_name(name) => Some(StreamUpstream),
        (Http, "map", [_, to]) if is_variable(to) => Some(Map),
        (Server, "location", ["/"] | ["=", "/status"]) => Some(Location),
        (Server, "location", [at]) if at.strip_prefix('@').is_some_and(is_name) => Some(Location),
        (Server, "if", ["($lb_canonical", "=", "", ")"] | ["($http_host", "!=", "$host)"]) => {
            Some(If)
        }
        (
            Server,
            "if",
            ["($lb_backend", "=", "", ")"] | ["($lb_location)" | "($lb_form)" | "($lb_ws)"],
        ) => Some(If),
        (Location, "if", [over]) if over.starts_with("($lb_over_") && over.ends_with(')') => {
            Some(If)
        }
        _ => None,
    }
}

fn setting_fits(directive: &Directive, place: Place) -> bool {
    let parameters = directive.parameters();
    match (place, directive.name()) {
        // A key and its value.
        (Map, key) => parameters.len() == 1 && !["hostnames", "volatile"].contains(&key),
        (Server, "server_name") => parameters.iter().all(|n| n.is_empty() || is_host(n)),
        // How these look, the table says.
        (Upstream | StreamUpstream, "server") => !parameters.is_empty(),
        _ => SETTINGS.iter().any(|(places, name, wanted)| {
            places.contains(&place)
                && *name == directive.name()
                && wanted.len() == parameters.len()
                && wanted.iter().zip(&parameters).all(|(p, word)| p.fits(word))
        }),
    }
}

/// NGINX refuses most of what stands twice; the rest would be silently replaced.
fn once(all: &[Directive], place: Place) -> Result<(), String> {
    let mut met = BTreeSet::new();
    for directive in all {
        let name = directive.name();
        let apart = match (place, SEVERAL.iter().find(|(several, _)| *several == name)) {
            (Map, _) | (_, None) => 0,
            (_, Some(("server" | "if", _))) => continue,
            (_, Some((_, parameters))) => *parameters,
        };
        let key: Vec<&str> = directive.words.iter().take(1 + apart).map(String::as_str).collect();
        if !met.insert(key.clone()) {
            return Err(format!("a second {key:?} in {place:?}"));
        }
    }
    Ok(())
}

impl P {
    fn fits(self, word: &str) -> bool {
        match self {
            Is(wanted) => word == wanted,
            Begins(start) => word.starts_with(start),
            Number => is_number(word),
            Time => {
                word.strip_suffix("ms").or_else(|| word.strip_suffix('s')).is_some_and(is_number)
            }
            Size => is_number(word.strip_suffix(['k', 'm']).unwrap_or(word)),
            File => is_name(&word.replace('/', "")) && !word.contains(".."),
            Name => is_name(word),
            Variable => is_variable(word),
            Any => true,
        }
    }
}

/// Whole, and kept in 63 bits.
fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i64>().is_ok()
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !text.is_empty() && text.bytes().all(plain)
}

fn is_host(text: &str) -> bool {
    is_name(text.strip_prefix("*.").unwrap_or(text)) && !text.contains('_')
}

fn is_variable(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.strip_prefix('$').is_some_and(|name| !name.is_empty() && name.bytes().all(plain))
}

/// Every variable that is used is NGINX's own, or set by a map, a capture or `set`.
fn check_variables(side: &Directive, given: &[&str]) -> Result<(), String> {
    let (mut set, mut used) = (BTreeSet::new(), BTreeSet::new());
    variables(side, false, &mut set, &mut used);
    let known = |name: &&String| {
        set.contains(*name) || given.contains(&name.as_str()) || name.starts_with("http_")
    };
    match used.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(format!("nothing sets ${name}")),
    }
}

fn variables(
    directive: &Directive,
    in_map: bool,
    set: &mut BTreeSet<String>,
    used: &mut BTreeSet<String>,
) {
    // Where the variables of a directive begin: what stands before is set by it, or no text.
    let from = match directive.name() {
        _ if in_map => {
            let captures = directive.name().split("(?<").skip(1);
            set.extend(captures.filter_map(|c| Some(c.split_once('>')?.0.to_owned())));
            1
        }
        "set" => {
            set.extend(named(&directive.words[1]));
            2
        }
        "map" => {
            set.extend(named(&directive.words[2]));
            used.extend(named(&directive.words[1]));
            directive.words.len()
        }
        _ => 1,
    };
    used.extend(directive.words.iter().skip(from).flat_map(|word| named(word)));
    for inner in directive.block.iter().flatten() {
        variables(inner, directive.name() == "map", set, used);
    }
}

/// The variables in a text.
fn named(text: &str) -> Vec<String> {
    let name = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    text.split('$').skip(1).map(name).collect()
}
