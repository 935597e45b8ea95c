//! Names the renderer and the balancer share: sections, files, and what the renderer needs of `global`.
//!
//! Names of ours hold a `_`, which no [`BackendName`] can: they never meet an app's.

use std::path::Path;

use lb_core::balancer::HEADER_FIELDS;
use lb_core::{BackendName, FileName};

/// The backend that answers 404 where no route leads. It has no servers and is no backend of the table.
pub const NO_ROUTE: &str = "lb_no_route";

/// The `peers` section that hands rate-limit tables to the next worker. The balancer always writes it
/// ([`peers_section`]): the renderer's stick tables name it.
pub const PEERS: &str = "lb_peers";

/// The name of the only peer, this process: `global` says so with `localpeer`, and no `-L` is passed.
pub const LOCAL_PEER: &str = "lb";

/// Lines the renderer needs in `global`, whatever it writes.
///
/// - `default-path config`: maps and crt-lists are named without a directory (HAProxy 2.5).
/// - `localpeer`: see [`LOCAL_PEER`]. Must stand before the `peers` section.
/// - `tune.pattern.cache-size 0`: the cache of matched patterns costs a request more than the few searches
///   it saves; maps are trees and never use it (measured by `throughput` in `benches/`).
const GLOBAL_LINES: [&str; 3] =
    ["default-path config", "localpeer lb", "tune.pattern.cache-size 0"];

/// Allows what HAProxy calls experimental. 3.4 warns of it where nothing is.
const EXPERIMENTAL: &str = "expose-experimental-directives";

/// The lines of `global` that go with a rendered text, of these parts; the balancer puts them there as they are.
///
/// `expose-experimental-directives` is one of them where a part has `http-request normalize-uri`, which is refused
/// without it (to this day), or names the directive itself: a template that uses something else of the kind says so in
/// a comment. The action `percent-decode-unreserved` takes a condition only behind `strict`: without that word 2.6
/// reads the condition and then does nothing. Done for each request it costs 3 % of the CPU, so it has a condition.
pub fn global_lines<'a>(parts: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
    let experimental = |part: &str| part.contains("normalize-uri") || part.contains(EXPERIMENTAL);
    let needed = parts.into_iter().any(experimental).then_some(EXPERIMENTAL);
    GLOBAL_LINES.into_iter().chain(needed).collect()
}

/// The variable the renderer's rules take the bound on a request's header fields from.
const HEADER_BYTES: &str = "proc.lb_header_bytes";

/// Room in a buffer beside a message's header fields: the first line, 8 bytes a field, what is added on the way, and
/// the part of a streamed body that is waited for ([`STREAMED_BODY_BYTES`](crate::STREAMED_BODY_BYTES)).
pub const BESIDE_HEADERS: u32 = 8 << 10;

/// Further lines of `global`, for messages with header fields of so many bytes. HAProxy keeps a message's head in one
/// buffer, and answers 400 where it does not fit; the rules answer 431 to what fits and is too long all the same.
pub fn header_lines(bytes: u32) -> [String; 3] {
    [
        format!("tune.bufsize {}", bytes + BESIDE_HEADERS),
        format!("tune.http.maxhdr {HEADER_FIELDS}"),
        format!("set-var {HEADER_BYTES} int({bytes})"),
    ]
}

/// The section between `global` and the renderer's text. `socket` is a path both an old and a new worker
/// can bind and connect to; it must not hold white space.
///
/// HAProxy 2.6 hands the tables over only once the old worker is older than 10 s (two waits of 5 s for
/// peers that could teach it); a reload before that forgets the rates.
pub fn peers_section(socket: &str) -> String {
    format!("peers {PEERS}\n    peer {LOCAL_PEER} unix@{socket}\n")
}

/// The frontend of a listener. HAProxy allows letters, digits, `-`, `_`, `.` and `:` (manual, section 2).
pub fn frontend(port: u16) -> String {
    format!("listener_{port}")
}

/// The inverse of [`frontend`], for statistics; `None` for any other name.
pub fn listener_port(frontend: &str) -> Option<u16> {
    let digits = frontend.strip_prefix("listener_")?;
    digits.parse().ok().filter(|port: &u16| port.to_string() == digits)
}

/// The certificates of a TLS listener: `bind ... ssl crt-list FILE`. The balancer writes it and the PEM
/// files it names; the first line is the default for clients that name no host.
pub fn crt_list_file(port: u16) -> FileName {
    file(&format!("listener-{port}.crt-list"))
}

/// Host name and path to backend, for exact host names.
pub fn exact_map_file(port: u16) -> FileName {
    file(&format!("listener-{port}.exact.map"))
}

/// The same for wildcards, keyed without `*.`.
pub fn wildcard_map_file(port: u16) -> FileName {
    file(&format!("listener-{port}.wildcard.map"))
}

/// Path to backend, for routes of any host name.
pub fn any_map_file(port: u16) -> FileName {
    file(&format!("listener-{port}.any.map"))
}

/// Whether a file is a map: its contents change without a reload.
pub fn is_map(file: &FileName) -> bool {
    Path::new(file.as_str()).extension().is_some_and(|extension| extension == "map")
}

/// The key of sticky cookies, which are a hash of it and the server's address. The balancer repeats it by
/// `set dynamic-cookie-key backend` after each `add server`, before enabling it.
pub fn cookie_key(backend: &BackendName) -> &str {
    backend.as_str()
}

fn file(name: &str) -> FileName {
    FileName::new(name).unwrap_or_else(|e| unreachable!("names of ours are file names: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontends_are_found_again_by_name_and_never_meet_a_backend() {
        for port in [1, 80, u16::MAX] {
            assert_eq!(listener_port(&frontend(port)), Some(port));
            assert!(BackendName::new(frontend(port)).is_err());
        }
        for other in ["listener_080", "listener_", "listener_65536", "listener-80", NO_ROUTE] {
            assert_eq!(listener_port(other), None, "{other}");
        }
        assert!(BackendName::new(NO_ROUTE).is_err() && BackendName::new(PEERS).is_err());
    }

    #[test]
    fn global_names_the_local_peer() {
        assert!(global_lines([]).contains(&format!("localpeer {LOCAL_PEER}").as_str()));
    }

    #[test]
    fn experimental_directives_are_exposed_where_there_are_some() {
        assert!(!global_lines(["    balance leastconn\n"]).contains(&EXPERIMENTAL));
        for part in [
            "    http-request normalize-uri path-strip-dot\n",
            "# expose-experimental-directives\n",
        ] {
            assert!(global_lines(["global\n", part]).contains(&EXPERIMENTAL), "{part}");
        }
    }
}
