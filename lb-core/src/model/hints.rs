//! What would be right in each field of an app file, in the words of whoever writes one.

/// Said of whatever stands there, also where it is of the right type: the parser's own words would not help.
const TIMES: &str =
    "must be a time with its unit in quotes, such as \"500ms\", \"30s\", \"5m\" or \"1h 30m\"";
const TIME_OF_DAY: &str = "must be a time of day in quotes, such as \"08:00\"";

const PORT_NUMBER: &str = "must be a number from 1 to 65535, without quotes";
const COUNT: &str = "must be a whole number of at least 1, without quotes";
const SHARE: &str = "must be a whole number from 1 to 100, without quotes and \"%\"";
const VARIABLE: &str =
    "must be text: write it in quotes, also a number or true and false, such as \"8080\"";
const VARIABLES: &str = "must be names and texts, such as { MODE = \"live\" }";
const WORDS: &str = "must be a list of texts, such as [\"npm\", \"start\"]";
const WORD: &str = "must be text in quotes";
const LABELS: &str = "must be names and texts, such as { disk = \"ssd\" }";
const TABLE: &str = "must be a table with fields of its own";

/// Fields by their path; `*` stands for any name or number.
const HINTS: &[(&str, &str)] = &[
    ("name", WORD),
    ("image", "must be text in quotes, such as \"registry.example.org/shop:1.2\""),
    ("registry", "must be { username = \"...\", password = \"...\" }"),
    ("registry.*", WORD),
    ("command", WORDS),
    ("command.*", WORD),
    ("args", WORDS),
    ("args.*", WORD),
    ("user", "must be text in quotes, such as \"www\" or \"1000:1000\""),
    ("env", VARIABLES),
    ("env.*", VARIABLE),
    ("secrets", VARIABLES),
    ("secrets.*", VARIABLE),
    ("volumes", "must be a list, such as [{ source = { name = \"data\" }, target = \"/data\" }]"),
    (
        "volumes.*",
        "must be { source = { name = \"data\" }, target = \"/data\" }, with { path = \"/srv/data\" } as the source for a directory of the host",
    ),
    (
        "volumes.*.source",
        "must be { name = \"data\" } for a volume, or { path = \"/srv/data\" } for a directory of the host",
    ),
    ("volumes.*.source.*", WORD),
    ("volumes.*.target", "must be a path in quotes, such as \"/data\""),
    ("volumes.*.access", "must be \"read_write\" or \"read_only\""),
    ("stop", "must be a table, such as { signal = \"SIGQUIT\", grace = \"10s\" }"),
    ("stop.signal", "must be the name of a signal in quotes, such as \"SIGQUIT\""),
    ("resources", "must be a table, such as { cpu = 0.5, memory = \"256MiB\" }"),
    ("resources.cpu", "must be a number of CPUs without quotes, such as 0.5"),
    ("resources.memory", "must be a number of bytes, or text such as \"512MiB\""),
    ("ports", "must be tables by name, such as [ports.web] with container = 8080 below it"),
    ("ports.*", "must be a table, such as { container = 8080, outside = 80 }"),
    ("ports.*.container", PORT_NUMBER),
    ("ports.*.outside", PORT_NUMBER),
    ("ports.*.protocol", "must be \"http\" or \"tcp\""),
    ("ports.*.hosts", "must be a list of host names, such as [\"shop.example.org\"]"),
    ("ports.*.hosts.*", WORD),
    ("ports.*.path", "must be a path in quotes, such as \"/cart\""),
    ("ports.*.prefix", "must be \"kept\" or \"stripped\""),
    ("ports.*.health", "must be a table, such as { check = { http = \"/healthz\" } }"),
    ("ports.*.health.check", "must be \"tcp\", or { http = \"/healthz\" } with the path to ask"),
    ("ports.*.health.check.*", "must be { http = \"/healthz\" } with the path to ask"),
    ("ports.*.health.rise", COUNT),
    ("ports.*.health.fall", COUNT),
    (
        "ports.*.balance",
        "must be \"round_robin\", \"least_connections\", \"random_two\", \"source_hash\", \"uri_hash\", or { header_hash = \"x-user\" } with the header's name",
    ),
    ("ports.*.balance.*", "must be { header_hash = \"x-user\" } with the header's name in quotes"),
    ("ports.*.sticky", "must be { cookie = \"SRV\" } with the cookie's name"),
    ("ports.*.sticky.*", WORD),
    ("ports.*.tls", "must be the PEM text of the certificates and their private key, in quotes"),
    ("ports.*.limits", "must be a table, such as { connections_per_instance = 100 }"),
    ("ports.*.limits.connections_per_instance", COUNT),
    ("ports.*.limits.rate", "must be { requests = 100, window = \"1m\" }"),
    ("ports.*.limits.rate.requests", COUNT),
    ("ports.*.limits.body", "must be a number of bytes, or text such as \"10MB\""),
    ("ports.*.timeouts", "must be a table, such as { server = \"5m\" }"),
    ("replicas", "must be a number, or { min = 1, max = 2 }"),
    ("scaling", "must be a table, such as { cpu = 70 }"),
    ("scaling.cpu", SHARE),
    ("scaling.memory", SHARE),
    ("scaling.requests", COUNT),
    ("scaling.concurrency", COUNT),
    ("scaling.largest_step", COUNT),
    ("scaling.policy", WORD),
    (
        "scaling.schedule",
        "must be a list, such as [{ from = \"08:00\", until = \"18:00\", min = 2 }]",
    ),
    (
        "scaling.schedule.*",
        "must be a table, such as { from = \"08:00\", until = \"18:00\", min = 2 }",
    ),
    ("scaling.schedule.*.days", "must be a list of days, such as [\"monday\", \"friday\"]"),
    ("scaling.schedule.*.days.*", "must be a day, such as \"monday\""),
    ("scaling.schedule.*.time_zone", "must be text in quotes, such as \"Europe/Berlin\""),
    ("scaling.schedule.*.min", "must be a whole number without quotes"),
    ("rollout", "must be a table, such as { max_surge = 1, max_unavailable = 0 }"),
    ("rollout.max_surge", "must be a number, or a percentage such as \"25%\""),
    ("rollout.max_unavailable", "must be a number, or a percentage such as \"25%\""),
    ("rollout.canary", "must be a table, such as { weight = 20 }"),
    ("rollout.canary.weight", "must be a whole number from 1 to 99, without quotes and \"%\""),
    ("rollout.canary.instances", COUNT),
    ("placement", "must be a table, such as { labels = { disk = \"ssd\" } }"),
    ("placement.labels", LABELS),
    ("placement.labels.*", WORD),
    (
        "placement.exposure",
        "must be \"running_hosts\", \"every_host\", or { labelled = { edge = \"yes\" } }",
    ),
    ("placement.exposure.*", "must be { labelled = { edge = \"yes\" } } with the labels of hosts"),
    ("placement.exposure.*.*", WORD),
];

/// Fields that hold a time.
const TIME_FIELDS: &[(&str, &str)] = &[
    ("stop.grace", TIMES),
    ("stop.drain", TIMES),
    ("ports.*.health.interval", TIMES),
    ("ports.*.health.timeout", TIMES),
    ("ports.*.health.replace_after", TIMES),
    ("ports.*.limits.queue", TIMES),
    ("ports.*.limits.slow_start", TIMES),
    ("ports.*.limits.rate.window", TIMES),
    ("ports.*.timeouts.*", TIMES),
    ("scaling.scale_in_after", TIMES),
    ("rollout.ready_within", TIMES),
    ("scaling.schedule.*.from", TIME_OF_DAY),
    ("scaling.schedule.*.until", TIME_OF_DAY),
];

/// What a parser says of a field that is not there, or not known, comes before what the field should be.
const ABOUT_FIELDS: [&str; 3] = ["unknown field ", "missing field ", "duplicate field "];
/// How a parser begins that does not know what a field is for.
const OF_TYPES: [&str; 5] =
    ["invalid type", "invalid value", "invalid length", "unknown variant", "data did not match"];

/// The parser's message about the field at this path, in plain words.
pub(super) fn plain_words(path: &[String], message: &str) -> Option<String> {
    if ABOUT_FIELDS.iter().any(|start| message.starts_with(start)) {
        return about_fields(message);
    }
    if let Some(hint) = find(TIME_FIELDS, path) {
        return Some(hint.to_owned());
    }
    if !OF_TYPES.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    Some(find(HINTS, path).unwrap_or(TABLE).to_owned())
}

fn find<'a>(hints: &[(&str, &'a str)], path: &[String]) -> Option<&'a str> {
    let is = |pattern: &str| {
        let mut parts = pattern.split('.');
        path.iter().all(|part| parts.next().is_some_and(|p| p == "*" || p == part))
            && parts.next().is_none()
    };
    hints.iter().find(|(pattern, _)| is(pattern)).map(|(_, hint)| *hint)
}

/// ``unknown field `maks`, expected `min` or `max` `` and its kin. The field that is not known is anything a writer
/// may have written, backticks among it; the others are ours.
fn about_fields(message: &str) -> Option<String> {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (field, known) = rest.rsplit_once("`, expected ").or(rest.rsplit_once("`, "))?;
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Some(format!("{field:?} is no field here: there are {known}"));
    }
    let field = message.split('`').nth(1)?;
    let wrong = if message.starts_with("missing") { "is missing" } else { "must be there once" };
    Some(format!("{field} {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_known_may_be_written_in_any_way() {
        for (message, said) in [
            (
                "unknown field `maks`, expected `min` or `max`",
                "\"maks\" is no field here: there are min, max",
            ),
            (
                "unknown field `a`, expected `\u{7f}`, expected one of `min`, `max`, `step`",
                "\"a`, expected `\\u{7f}\" is no field here: there are min, max, step",
            ),
            ("unknown field `a`, there are no fields", "\"a\" is no field here: there are none"),
            ("missing field `image`", "image is missing"),
            ("duplicate field `image`", "image must be there once"),
        ] {
            assert_eq!(about_fields(message).as_deref(), Some(said), "{message}");
        }
    }
}
