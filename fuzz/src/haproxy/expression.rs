//! Sample expressions, log formats and conditions (manual, 7 and 8.2.4).

/// Fetches with the number of arguments they take.
const FETCHES: [(&str, usize); 23] = [
    ("bc_dst", 0),
    ("bc_dst_port", 0),
    ("fc_http_major", 0),
    ("internal.htx.data", 0),
    ("method", 0),
    ("path", 0),
    ("path_sub", 0),
    ("query", 0),
    ("req.body_len", 0),
    ("req.body_size", 0),
    ("req.fhdr", 1),
    ("req.hdr", 1),
    ("req.hdrs", 0),
    ("res.hdr", 1),
    ("src", 0),
    ("status", 0),
    ("str", 1),
    ("url", 0),
    ("url_beg", 0),
    ("var", 1),
    ("bool", 1),
    ("TRUE", 0),
    ("FALSE", 0),
];

/// A `%` that begins no code, in a path with a `/` behind it.
const MALFORMED: &str = "%.?[^0-9A-Fa-f]";
/// An absolute target whose host nobody is named before.
const ABSOLUTE: &str = "^https?://[^/@]+(/.*)?$";

/// Converters with the least and most arguments.
const CONVERTERS: [(&str, usize, usize); 11] = [
    ("concat", 1, 3),
    ("field", 2, 3),
    ("host_only", 0, 0),
    ("iif", 2, 2),
    ("ipmask", 1, 2),
    ("length", 0, 0),
    ("map_beg", 1, 2),
    ("rtrim", 1, 1),
    ("sub", 1, 1),
    ("table_conn_rate", 1, 1),
    ("table_http_req_rate", 1, 1),
];

/// A step of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
}

/// A fetch and its converters.
pub(super) fn sample(text: &str) -> Result<Vec<Call>, String> {
    let calls = calls(text)?;
    let Some((fetch, converters)) = calls.split_first() else { return Err("no fetch".into()) };
    let count = fetch.arguments.len();
    if !FETCHES.iter().any(|(name, takes)| *name == fetch.name && *takes == count) {
        return Err(format!("unknown fetch {fetch:?}"));
    }
    for converter in converters {
        let count = converter.arguments.len();
        let fits = |(name, least, most): &(&str, usize, usize)| {
            *name == converter.name && (*least..=*most).contains(&count)
        };
        if !CONVERTERS.iter().any(fits) {
            return Err(format!("unknown converter {converter:?}"));
        }
    }
    Ok(calls)
}

/// `name(a,b),name`: commas inside brackets part arguments, outside calls.
fn calls(text: &str) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(['(', ',']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!("{name:?} in {text:?}"));
        }
        let (arguments, after) = match after.strip_prefix('(') {
            Some(inner) => {
                let (inner, after) = inner.split_once(')').ok_or("an open bracket")?;
                (arguments(name, inner)?, after)
            }
            None => (Vec::new(), after),
        };
        calls.push(Call { name: name.to_owned(), arguments });
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(calls),
            None => return Err(format!("{after:?} after a bracket")),
        }
    }
}

/// Only `concat` has nothing in its first place, where nothing stands between what it appends; only a field is
/// parted by colons, and only a choice (`iif`) is one of brackets.
fn arguments(call: &str, text: &str) -> Result<Vec<String>, String> {
    let more: &[u8] = match call {
        "field" => b":",
        "iif" => b"[]",
        _ => b"",
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b) || more.contains(&b);
    let argument = |(n, text): (usize, &str)| match text.is_empty() && (call, n) != ("concat", 0) {
        false if text.bytes().all(plain) => Ok(text.to_owned()),
        _ => Err(format!("argument {text:?} of {call}")),
    };
    text.split(',').enumerate().map(argument).collect()
}

/// A log format: literal text and `%[...]`.
pub(super) fn format(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let inner = rest[at + 1..].strip_prefix('[').ok_or("a % without [")?;
        // The only brackets inside are round.
        let (expression, after) = inner.split_once(']').ok_or("an open %[")?;
        sample(expression)?;
        rest = after;
    }
    match rest.contains(['[', ']']) {
        true => Err("a stray bracket".into()),
        false => Ok(()),
    }
}

/// What follows `if` or `unless`: terms, each an acl declared in the section or `{ ... }`, some negated; `or` between
/// groups of them.
pub(super) fn condition(words: &[String], acls: &[String]) -> Result<(), String> {
    if words.is_empty() {
        return Err("a condition of nothing".into());
    }
    let mut words = words.iter();
    let mut terms = 0;
    while let Some(word) = words.next() {
        match word.strip_prefix('!').unwrap_or(word) {
            "{" => {
                let inner: Vec<_> = words.by_ref().take_while(|w| *w != "}").cloned().collect();
                if inner.iter().any(|w| w.contains(['{', '}'])) {
                    return Err("brackets within brackets".into());
                }
                test(&inner)?;
                terms += 1;
            }
            "or" if terms > 0 => terms = 0,
            name if acls.iter().any(|a| a == name) => terms += 1,
            name => return Err(format!("unknown acl {name:?}")),
        }
    }
    match terms {
        0 => Err("an open condition".into()),
        _ => Ok(()),
    }
}

/// A fetch, how it is compared, and with what.
pub(super) fn test(words: &[String]) -> Result<(), String> {
    let (expression, rest) = words.split_first().ok_or("an empty test")?;
    let calls = sample(expression)?;
    let number = |text: &String| text.parse::<u64>().is_ok_and(|n| i64::try_from(n).is_ok());
    let fits = match rest {
        [flag, how] if flag == "-m" => how == "found",
        [flag, how, text] if flag == "-m" => match how.as_str() {
            "str" => number(text),
            "reg" => text == MALFORMED,
            _ => false,
        },
        [flag, how, case, text] if flag == "-m" && how == "reg" => case == "-i" && text == ABSOLUTE,
        [flag, how, values @ ..] if flag == "-m" => {
            let protocol = |v: &String| v.bytes().all(|b| b.is_ascii_alphanumeric());
            let (case, values) = values.split_first().ok_or("nothing to compare with")?;
            let compares = ["str", "beg"].contains(&how.as_str()) && case == "-i";
            compares && !values.is_empty() && values.iter().all(protocol)
        }
        [operator, n] if ["ge", "gt", "le", "lt", "eq"].contains(&operator.as_str()) => number(n),
        values => match calls[0].name.as_str() {
            "method" => {
                !values.is_empty()
                    && values.iter().all(|v| v.bytes().all(|b| b.is_ascii_uppercase()))
            }
            "path_sub" => values.len() == 1,
            "status" => values == ["101"],
            "url_beg" => values == ["/"],
            _ => false,
        },
    };
    if fits { Ok(()) } else { Err(format!("unknown test {words:?}")) }
}
