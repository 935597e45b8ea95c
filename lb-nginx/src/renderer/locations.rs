//! Locations: one for all backends whose requests are passed on alike.
//!
//! Most requests are passed on by `location /`. Those of backends with settings of their own, those whose
//! prefix is stripped, and upgrades (websockets) make a detour to a named location, which is chosen by variables:
//! `error_page 418 = @lb$lb_ws` and the like is the one way NGINX has to go to a location by name without touching the
//! file system.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use lb_core::balancer::CLAIMED_FIELDS;
use lb_core::{Backend, BackendName, Protocol, RateLimit, Result, RoutingTable, Timeouts};
use lb_template::Bounded;
use serde::Serialize;

use super::refuse::limit_req_rate;
use super::syntax;
use super::view::retried_for;
use crate::layout;

/// What the balancer says in a client's place.
const SAID: [&str; 4] = ["x-forwarded-for", "x-forwarded-prefix", "x-forwarded-proto", "x-real-ip"];
/// Fields between a client and who is connected to it, beside those NGINX knows.
const HOPS: [&str; 3] = ["http2-settings", "proxy-authorization", "proxy-connection"];
/// Size of a rate limit's memory: some 160,000 client addresses; the oldest make room.
const RATE_ZONE: &str = "10m";

/// What a location depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Settings {
    connect: Duration,
    server: Duration,
    tunnel: Duration,
    body: Option<u64>,
    rate: Option<RateLimit>,
    cookie: Option<String>,
}

impl Settings {
    fn of(backend: &Backend) -> Self {
        let times = &backend.timeouts;
        Self {
            connect: times.connect,
            server: times.server,
            tunnel: times.tunnel,
            body: backend.limits.body.map(|most| most.get().clamp(1, i64::MAX as u64)),
            rate: backend.limits.rate.clone(),
            cookie: backend.sticky.as_ref().map(|s| s.cookie.to_string()),
        }
    }

    fn usual() -> Self {
        let times = Timeouts::default();
        let (connect, server, tunnel) = (times.connect, times.server, times.tunnel);
        Self { connect, server, tunnel, body: None, rate: None, cookie: None }
    }
}

/// What a location's template sees.
#[derive(Debug, Clone, Serialize)]
struct LocationView<'a> {
    /// `/`, or `@` and the location's name.
    name: String,
    /// Whether it carries an upgrade: a websocket, or another protocol.
    tunnel: bool,
    rate: Option<RateView<'a>>,
    body: Option<BodyView>,
    /// Times in milliseconds where they differ from the defaults.
    connect_ms: Option<u128>,
    retry_ms: u128,
    silence_ms: Option<u128>,
    /// What `X-Forwarded-Prefix` says.
    prefix: &'static str,
    /// Headers of the client's that do not reach the app.
    dropped: Vec<&'static str>,
    /// The cookies the app sees, where one is the balancer's.
    cookies: Option<String>,
    /// A regular expression that matches every path, where the path is replaced by `cut_to`.
    cut: Option<&'static str>,
    cut_to: &'static str,
    /// What follows the backend's name in `proxy_pass`.
    target: &'static str,
}

/// A regular expression for the decimal numbers above this one. NGINX compares an announced length with its
/// limit only where it goes to a location by the request's path.
fn above(number: u64) -> String {
    let digits = number.to_string();
    let mut all = vec![format!("[1-9][0-9]{{{},}}", digits.len())];
    for (at, digit) in digits.bytes().enumerate().filter(|(_, d)| *d < b'9') {
        let rest = digits.len() - at - 1;
        let rest = if rest > 0 { format!("[0-9]{{{rest}}}") } else { String::new() };
        all.push(format!("{}[{}-9]{rest}", &digits[..at], char::from(digit + 1)));
    }
    all.join("|")
}

#[derive(Debug, Clone, Serialize)]
struct RateView<'a> {
    zone: &'a str,
    /// Requests beyond the first that may come at once.
    burst: u32,
}

#[derive(Debug, Clone, Serialize)]
struct BodyView {
    /// Largest body.
    bytes: u64,
    /// The variable that is set where a longer one is announced.
    over: String,
}

/// How the path is passed on.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// As it came, or decoded where it was not canonical.
    Kept,
    /// Without its prefix, otherwise as it came.
    Stripped,
    /// Without its prefix, decoded.
    Cut,
}

/// The locations of a table.
#[derive(Debug)]
pub(super) struct Locations {
    /// What locations of these settings are told apart by: nothing for the usual ones, or `_N`.
    by_settings: BTreeMap<Settings, String>,
    by_backend: BTreeMap<BackendName, String>,
    cookies: BTreeMap<String, usize>,
    rates: BTreeMap<RateLimit, String>,
    bodies: BTreeMap<u64, usize>,
    strips: bool,
}

impl Locations {
    pub(super) fn new(table: &RoutingTable, strips: bool) -> Self {
        let http = || table.backends.iter().filter(|(_, b)| b.protocol == Protocol::Http);
        let all: BTreeSet<Settings> = http().map(|(_, b)| Settings::of(b)).collect();
        let usual = Settings::usual();
        let mut by_settings = BTreeMap::from([(usual.clone(), String::new())]);
        let others = all.iter().filter(|s| **s != usual);
        by_settings.extend((1..).zip(others).map(|(n, s)| (s.clone(), format!("_{n}"))));
        let cookies: BTreeSet<&String> = all.iter().filter_map(|s| s.cookie.as_ref()).collect();
        let rates: BTreeSet<&RateLimit> = all.iter().filter_map(|s| s.rate.as_ref()).collect();
        let bodies: BTreeSet<u64> = all.iter().filter_map(|s| s.body).collect();
        Self {
            bodies: (1..).zip(bodies).map(|(n, bytes)| (bytes, n)).collect(),
            cookies: (1..).zip(cookies).map(|(n, cookie)| (cookie.clone(), n)).collect(),
            rates: (1..).zip(rates).map(|(n, r)| (r.clone(), format!("lb_rate_{n}"))).collect(),
            by_backend: http()
                .filter_map(|(name, b)| {
                    let settings = Settings::of(b);
                    (settings != usual).then(|| (name.clone(), by_settings[&settings].clone()))
                })
                .collect(),
            by_settings,
            strips,
        }
    }

    /// Backend to the location's number, for those with settings of their own.
    pub(super) fn file(&self) -> String {
        let mut text = String::new();
        for (name, location) in &self.by_backend {
            let _ = writeln!(text, "{} {location};", layout::map_key(name));
        }
        text
    }

    /// The maps that choose a location, and the memory of rate limits.
    pub(super) fn maps(&self) -> String {
        let mut text = String::new();
        for (rate, zone) in &self.rates {
            let rate = limit_req_rate(rate).unwrap_or_default();
            let _ = writeln!(
                text,
                "    limit_req_zone $binary_remote_addr$lb_backend zone={zone}:{RATE_ZONE} rate={rate};"
            );
        }
        for (bytes, n) in &self.bodies {
            let _ = write!(
                text,
                "    map $content_length $lb_over_{n} {{\n        default \"\";\n        \
                 \"~^0*(?:{})$\" 1;\n    }}\n",
                above(*bytes)
            );
        }
        for (cookie, n) in &self.cookies {
            let _ = write!(
                text,
                "    map $http_cookie $lb_cookies_{n} {{\n        default $http_cookie;\n        \
                 \"~^{cookie}=[^;]*(?:; *(?<lb_after_{n}>.*))?$\" $lb_after_{n};\n        \
                 \"~^(?<lb_first_{n}>.+?); *{cookie}=[^;]*(?<lb_last_{n}>;.*)?$\" \
                 \"$lb_first_{n}$lb_last_{n}\";\n    }}\n"
            );
        }
        if self.strips {
            text.push_str(
                "    map \"$lb_canonical:$lb_strip\" $lb_form {\n        default \"\";\n        \
                 \"~^1:[0-9]\" _strip;\n        \"~^:[0-9]\" _cut;\n    }\n",
            );
        }
        let _ = write!(
            text,
            "    map $lb_backend $lb_location {{\n        default \"\";\n        include {};\n    }}\n",
            layout::locations_file(),
        );
        text
    }

    /// The file that every HTTP listener includes.
    pub(super) fn render(&self, template: &Bounded) -> Result<String> {
        let mut text =
            "        if ($lb_backend = \"\") {\n            return 404;\n        }\n".to_owned();
        let mut place = "@lb".to_owned();
        for detour in self.detours() {
            place.push_str(detour);
            let _ = write!(text, "        if ({detour}) {{\n            return 418;\n        }}\n");
        }
        let _ = writeln!(text, "        error_page 418 = {place};");
        // NGINX's own number for header fields beyond its bound, of which it says 400.
        text.push_str(
            "        error_page 494 = @lb_large;\n        location @lb_large {\n            return 431;\n        }\n",
        );
        let forms: &[Form] = match self.strips {
            true => &[Form::Kept, Form::Stripped, Form::Cut],
            false => &[Form::Kept],
        };
        for (settings, name) in &self.by_settings {
            for form in forms {
                for tunnel in [false, true] {
                    let view = self.view(settings, name, *form, tunnel);
                    let written = template.render(&view).and_then(|location| {
                        syntax::location(&location, &view.name).map(|()| super::ended(location))
                    });
                    text.push_str(&written.map_err(|e| e.about("location"))?);
                }
            }
        }
        Ok(text)
    }

    /// The variables that are not empty where a request is not served by `location /`. What they hold makes
    /// the name of the location.
    fn detours(&self) -> impl Iterator<Item = &'static str> {
        let own = (!self.by_backend.is_empty()).then_some("$lb_location");
        own.into_iter().chain(self.strips.then_some("$lb_form")).chain(["$lb_ws"])
    }

    fn view(&self, settings: &Settings, name: &str, form: Form, tunnel: bool) -> LocationView<'_> {
        let usual = Timeouts::default();
        let (suffix, prefix, cut, target) = match form {
            Form::Kept => ("", "\"\"", None, ""),
            Form::Stripped => ("_strip", "$lb_prefix", None, "$lb_rest$is_args$args"),
            Form::Cut => ("_cut", "$lb_prefix", Some("^"), ""),
        };
        let silence = if tunnel { settings.tunnel } else { settings.server };
        let unusual = |time: Duration, usual| (time != usual).then_some(time.as_millis());
        let name = format!("{name}{suffix}{}", if tunnel { "_ws" } else { "" });
        LocationView {
            name: if name.is_empty() { "/".to_owned() } else { format!("@lb{name}") },
            tunnel,
            rate: settings
                .rate
                .as_ref()
                .map(|rate| RateView { zone: &self.rates[rate], burst: rate.requests.get() - 1 }),
            body: settings
                .body
                .map(|bytes| BodyView { bytes, over: format!("$lb_over_{}", self.bodies[&bytes]) }),
            connect_ms: unusual(settings.connect, usual.connect),
            retry_ms: retried_for(settings.connect).as_millis(),
            silence_ms: unusual(silence, usual.server),
            prefix,
            dropped: dropped(),
            cookies: settings.cookie.as_ref().map(|c| format!("$lb_cookies_{}", self.cookies[c])),
            cut,
            cut_to: "$lb_rest",
            target,
        }
    }
}

/// What a client could claim that only a proxy knows, and what is not for the app.
fn dropped() -> Vec<&'static str> {
    let claimed = CLAIMED_FIELDS.into_iter().filter(|name| !SAID.contains(name));
    claimed.chain(HOPS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_above_a_bound_and_no_others_are_matched() {
        assert_eq!(
            above(1000),
            "[1-9][0-9]{4,}|[2-9][0-9]{3}|1[1-9][0-9]{2}|10[1-9][0-9]{1}|100[1-9]"
        );
        assert_eq!(above(9), "[1-9][0-9]{1,}");
    }
}
