//! The lines inside sections.

use std::collections::BTreeSet;

use lb_core::balancer::CLAIMED_FIELDS;

use super::expression::{self, condition, format, sample};
use super::{Config, Mode, Open, Server, is_name};

/// Largest time in milliseconds HAProxy keeps (a signed 32-bit number, `TIMER_LOOK_BACK`).
const MAX_MILLIS: u64 = i32::MAX as u64;
/// Largest number that `atol` into an `int` keeps.
const MAX_INT: u64 = i32::MAX as u64;
/// A time that may be set in each section.
const TIMES: [&str; 8] =
    ["connect", "client", "server", "queue", "http-request", "http-keep-alive", "tunnel", "check"];

/// The variable with the path that is looked up.
const PATH: &str = "txn.lb_path";

/// Fields between a client and the balancer.
const BETWEEN_TWO: [&str; 7] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];
/// Those between an app and the balancer.
const ANSWERS_FIELDS: &str = "^(connection|keep-alive|proxy-connection|upgrade)$";

/// What was met in the section so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    acls: Vec<String>,
    once: Vec<String>,
    ended: bool,
}

type Line = Result<(), String>;

impl Known {
    pub(super) fn line(&mut self, config: &mut Config, open: &Open, words: &[String]) -> Line {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if self.ended && words[0] != "server" {
            return Err("after the servers".into());
        }
        match open {
            Open::Nothing => Err("before the first section".into()),
            Open::Defaults(name) => self.defaults(config, name, &words),
            Open::Frontend(name) => self.frontend(config, name, &words),
            Open::Backend(name) => self.backend(config, name, &words),
        }
    }

    /// Lines that may stand once only: a second one would silently replace the first.
    fn first(&mut self, key: &str) -> Line {
        if self.once.iter().any(|k| k == key) {
            return Err(format!("a second {key}"));
        }
        self.once.push(key.to_owned());
        Ok(())
    }

    fn defaults(&mut self, config: &mut Config, name: &str, words: &[&str]) -> Line {
        match words {
            ["mode", mode] => {
                self.first("mode")?;
                let mode = match *mode {
                    "http" => Mode::Http,
                    "tcp" => Mode::Tcp,
                    _ => return Err("unknown mode".into()),
                };
                config.defaults.insert(name.to_owned(), Some(mode));
                Ok(())
            }
            ["option", "http-keep-alive" | "idle-close-on-response" | "abortonclose"]
            | ["option", "redispatch", "1"]
            | ["retry-on", "conn-failure", "empty-response"]
            | ["http-reuse", "safe"] => self.first(&words.join(" ")),
            ["retries", n] => self.first("retries").and(int(n, 0)),
            ["timeout", ..] => self.timeout(words),
            _ => Err("unknown here".into()),
        }
    }

    fn timeout(&mut self, words: &[&str]) -> Line {
        match words {
            ["timeout", which, time] if TIMES.contains(which) => {
                self.first(&format!("timeout {which}")).and(millis(time).map(drop))
            }
            _ => Err("unknown timeout".into()),
        }
    }

    fn frontend(&mut self, config: &mut Config, name: &str, words: &[&str]) -> Line {
        let frontend = config.frontends.get_mut(name).ok_or("no such frontend")?;
        match words {
            ["bind", address, rest @ ..] => {
                check_bind(address)?;
                match rest {
                    [] => {}
                    ["ssl", "crt-list", file, alpn @ ..] if is_file(file) => {
                        let http = matches!(alpn, ["alpn", "h2,http/1.1"]);
                        if http != (frontend.mode == Mode::Http) || !(http || alpn.is_empty()) {
                            return Err("ALPN of another mode".into());
                        }
                        frontend.crt_list = Some((*file).to_owned());
                    }
                    _ => return Err("unknown options".into()),
                }
                match frontend.binds.insert((*address).to_owned()) {
                    true => Ok(()),
                    false => Err("bound twice".into()),
                }
            }
            ["timeout", ..] => self.timeout(words),
            ["default_backend", backend] if is_name(backend) => {
                frontend.default_backend = Some((*backend).to_owned());
                self.first("default_backend")
            }
            _ if frontend.mode == Mode::Tcp => Err("unknown in tcp".into()),
            ["option", "forwardfor"] => self.first("forwardfor"),
            ["use_backend", choice] => {
                frontend.chooses = true;
                self.first("use_backend").and(format(choice))
            }
            ["acl", ..] => self.acl(words),
            ["http-request", "set-var(txn.lb_path)", "path"] => self.first(PATH),
            ["http-request", "set-var(txn.lb_route)", expression, rest @ ..] => {
                let calls = sample(expression)?;
                if expression.contains(PATH) && !self.once.iter().any(|k| k == PATH) {
                    return Err("looks a path up that is not set".into());
                }
                let map = calls.iter().find(|c| c.name == "map_beg").ok_or("looks nothing up")?;
                frontend.lookups.push(map.arguments[0].clone());
                self.guarded(rest)
            }
            ["http-request", rest @ ..] => self.http_request(rest),
            ["http-response", rest @ ..] => self.http_response(rest),
            _ => Err("unknown here".into()),
        }
    }

    fn backend(&mut self, config: &mut Config, name: &str, words: &[&str]) -> Line {
        let backend = config.backends.get_mut(name).ok_or("no such backend")?;
        if words[0] != "server" {
            backend.rules.push(words.join(" "));
        }
        let http = backend.mode == Mode::Http;
        match words {
            ["server", server, rest @ ..] if is_name(server) => {
                self.ended = true;
                let made = server_line(rest)?;
                if backend.servers.values().any(|s| s.id == made.id) {
                    return Err("an id twice".into());
                }
                match backend.servers.insert((*server).to_owned(), made) {
                    None => Ok(()),
                    Some(_) => Err("a server twice".into()),
                }
            }
            ["balance", algorithm @ ..] => {
                check_balance(algorithm, http)?;
                backend.balance = Some(algorithm.join(" "));
                self.first("balance")
            }
            ["hash-type", "consistent", "sdbm", "avalanche"] => self.first("hash-type"),
            [
                "cookie",
                cookie,
                "insert",
                "indirect",
                "nocache",
                "dynamic",
                "httponly",
                secure @ ..,
                "attr",
                "SameSite=Lax",
            ] if http && (secure.is_empty() || secure == ["secure"]) => {
                backend.secure = !secure.is_empty();
                backend.cookie = Some((*cookie).to_owned());
                self.first("cookie")
            }
            ["dynamic-cookie-key", key] if http && *key == name => self.first("dynamic-cookie-key"),
            ["timeout", ..] => self.timeout(words),
            ["option", "httpchk"] => self.first("httpchk"),
            ["http-check", rest @ ..] => self.http_check(rest),
            ["stick-table", ..] => self.first("stick-table").and(stick_table(words)),
            ["tcp-request", "content", "track-sc0", key] if !http => key_of(key),
            ["tcp-request", "content", "reject", rest @ ..] if !http => self.guarded(rest),
            ["acl", ..] => self.acl(words),
            ["http-request", rest @ ..] if http => self.http_request(rest),
            _ => Err("unknown here".into()),
        }
    }

    fn http_check(&mut self, words: &[&str]) -> Line {
        match words {
            [set @ ("set-var(check.lb_open)" | "set-var(check.lb_close)"), expression] => {
                self.first(set).and(key_of(expression))
            }
            ["send", "meth", "GET", "uri", uri, "ver", "HTTP/1.1", headers @ ..]
                if uri.starts_with('/') && headers.len() % 3 == 0 =>
            {
                self.first("http-check send")?;
                headers.chunks_exact(3).try_for_each(|header| match header {
                    ["hdr", name, value] if is_name(name) => format(value),
                    _ => Err("no header".into()),
                })
            }
            ["expect", "status", "200-399"] => self.first("http-check expect"),
            _ => Err("unknown http-check".into()),
        }
    }

    fn acl(&mut self, words: &[&str]) -> Line {
        let ["acl", name, test @ ..] = words else { return Err("an acl without a name".into()) };
        if !is_name(name) || self.acls.iter().any(|a| a == name) {
            return Err("not one new name".into());
        }
        self.acls.push((*name).to_owned());
        expression::test(&owned(test))
    }

    fn http_request(&self, words: &[&str]) -> Line {
        let rest = match words {
            ["normalize-uri", "path-strip-dot", rest @ ..]
            | ["normalize-uri", "percent-decode-unreserved", "strict", rest @ ..]
            | ["normalize-uri", "path-strip-dotdot", "full", rest @ ..]
            | ["disable-l7-retry", rest @ ..] => rest,
            ["del-header", rest @ ..] => fields(rest, ends_here)?,
            ["add-header", name, value, rest @ ..] if is_name(name) => {
                format(value)?;
                rest
            }
            ["set-path" | "set-pathq" | "set-query" | "set-uri", text, rest @ ..] => {
                format(text)?;
                rest
            }
            [
                "set-var(txn.lb_query)" | "set-var(txn.lb_streamed)" | "set-var(txn.lb_upgrade)",
                expression,
                rest @ ..,
            ] => {
                sample(expression)?;
                rest
            }
            ["track-sc0", key, rest @ ..] => {
                key_of(key)?;
                rest
            }
            ["deny", "deny_status", status, rest @ ..]
            | ["return", "status", status, rest @ ..] => {
                let known = ["400", "404", "411", "413", "429", "431"].contains(status);
                if known { rest } else { return Err("unknown status".into()) }
            }
            ["wait-for-body", "time", time, "at-least", bytes, rest @ ..] => {
                millis(time)?;
                int(bytes, 1)?;
                rest
            }
            _ => return Err("unknown http-request".into()),
        };
        self.guarded(rest)
    }

    fn http_response(&self, words: &[&str]) -> Line {
        match words {
            ["return", "status", "502", rest @ ..] => self.guarded(rest),
            ["del-header", rest @ ..] => {
                self.guarded(fields(rest, |names| names == ANSWERS_FIELDS)?)
            }
            _ => Err("unknown http-response".into()),
        }
    }

    /// Nothing more, or a condition.
    fn guarded(&self, words: &[&str]) -> Line {
        match words {
            [] => Ok(()),
            ["if" | "unless", terms @ ..] => condition(&owned(terms), &self.acls),
            _ => Err(format!("unknown rest {words:?}")),
        }
    }
}

/// What follows fields that are told by a regular expression.
fn fields<'a, 'w>(
    words: &'a [&'w str],
    known: impl Fn(&str) -> bool,
) -> Result<&'a [&'w str], String> {
    match words {
        [names, "-m", "reg", rest @ ..] if known(names) => Ok(rest),
        _ => Err("no fields, or others".into()),
    }
}

/// Whether these are the fields of a request that end at the balancer, all of them and no other.
fn ends_here(expression: &str) -> bool {
    let inner = expression.strip_prefix("^([^_]*_|x-forwarded|(");
    let Some(groups) = inner.and_then(|i| i.strip_suffix(")|.*client-ip)$)")) else { return false };
    let mut names = BTreeSet::new();
    for group in groups.split(")|") {
        let Some((first, rest)) = group.split_once('(') else { return false };
        names.extend(rest.split('|').map(|rest| format!("{first}{rest}")));
    }
    let by_pattern = |n: &&str| n.starts_with("x-forwarded") || n.ends_with("client-ip");
    let claimed = CLAIMED_FIELDS.into_iter().filter(|name| !by_pattern(name));
    names == claimed.chain(BETWEEN_TWO).map(str::to_owned).collect::<BTreeSet<String>>()
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// `*:80`, or one address and port.
fn check_bind(address: &str) -> Line {
    let port = address.strip_prefix("*:").and_then(|p| p.parse::<u16>().ok());
    match port.is_some_and(|p| p > 0) {
        true => Ok(()),
        false => Err("binds to no port of all addresses".into()),
    }
}

fn check_balance(words: &[&str], http: bool) -> Line {
    let known = match words {
        ["roundrobin" | "leastconn" | "random(2)" | "source"] => true,
        ["uri", "path-only"] => http,
        [header] => {
            let name = header.strip_prefix("hdr(").and_then(|rest| rest.strip_suffix(')'));
            http && name.is_some_and(is_name)
        }
        _ => false,
    };
    if known { Ok(()) } else { Err("unknown algorithm".into()) }
}

fn stick_table(words: &[&str]) -> Line {
    let [
        "stick-table",
        "type",
        "ipv6",
        "size",
        size,
        "expire",
        time,
        "store",
        rate,
        "peers",
        peers,
    ] = words
    else {
        return Err("unknown stick-table".into());
    };
    let rate = ["conn_rate(", "http_req_rate("].iter().find_map(|r| rate.strip_prefix(r));
    let window = rate.and_then(|r| r.strip_suffix(')')).ok_or("unknown counter")?;
    if millis(window)? != millis(time)? || !is_name(peers) {
        return Err("a window of another length, or no peers".into());
    }
    int(size, 1)
}

fn key_of(key: &str) -> Line {
    sample(key).map(drop)
}

fn server_line(words: &[&str]) -> Result<Server, String> {
    let (words, disabled) = match words {
        [rest @ .., "disabled"] => (rest, true),
        all => (all, false),
    };
    let [
        address,
        "id",
        id,
        "weight",
        weight,
        "check",
        "inter",
        inter,
        "rise",
        rise,
        "fall",
        fall,
        "pool-max-conn",
        "-1",
        "pool-purge-delay",
        "100ms",
        rest @ ..,
    ] = words
    else {
        return Err("unknown server".into());
    };
    let whole = |text: &str| text.parse::<u32>().map_err(|e| format!("{text}: {e}"));
    [id, rise, fall].into_iter().try_for_each(|n| int(n, 1))?;
    let mut server = Server {
        address: address.parse().map_err(|e| format!("{address}: {e}"))?,
        id: whole(id)?,
        weight: weight.parse().ok().filter(|w| *w <= 256).ok_or("a weight above 256")?,
        disabled,
        check: (millis(inter)?, whole(rise)?, whole(fall)?),
        maxconn: None,
        slowstart: None,
    };
    let mut rest = rest.chunks_exact(2);
    for pair in rest.by_ref() {
        match pair {
            ["maxconn", n] if server.maxconn.is_none() => {
                int(n, 1)?;
                server.maxconn = Some(whole(n)?);
            }
            ["slowstart", time] if server.slowstart.is_none() => {
                server.slowstart = Some(millis(time)?);
            }
            _ => return Err(format!("unknown {pair:?}")),
        }
    }
    if !rest.remainder().is_empty() || server.address.port() == 0 {
        return Err("a half setting, or no port".into());
    }
    Ok(server)
}

fn is_file(text: &str) -> bool {
    is_name(text) && !text.starts_with('.')
}

fn int(text: &str, least: u64) -> Line {
    match text.parse::<u64>() {
        Ok(n) if (least..=MAX_INT).contains(&n) => Ok(()),
        _ => Err(format!("{text} is not {least} to {MAX_INT}")),
    }
}

/// A time with its unit written out.
fn millis(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("ms").and_then(|n| n.parse().ok());
    number.filter(|n| (1..=MAX_MILLIS).contains(n)).ok_or(format!("{text} is no time that is kept"))
}
