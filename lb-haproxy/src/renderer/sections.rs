//! What a template wrote must be the section it was asked for, and nothing that reaches beyond it.

use lb_template::{APP_MARK, NAME_MARK, SERVERS_MARK, TemplateError};

/// Longest line: HAProxy 2.6 takes longer ones, people do not.
const MAX_LINE_BYTES: usize = 2000;

/// Keywords that begin a section (manual of 3.2, chapters 3, 4 and 12), where indentation means nothing.
const SECTIONS: [&str; 22] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "mailers",
    "userlist",
    "resolvers",
    "program",
    "cache",
    "ring",
    "http-errors",
    "fcgi-app",
    "log-forward",
    "log-profile",
    "crt-store",
    "acme",
    "traces",
    "aggregations",
    "dynamic-update",
    "healthcheck",
];

/// Keywords of lines the balancer owns.
const SERVERS: [&str; 4] = ["server", "server-template", "dispatch", "use-server"];

/// Holds text to one section with this first line (its first two words).
pub(super) fn one_section(text: &str, keyword: &str, name: &str) -> Result<(), TemplateError> {
    let opened = section_lines(text, |words| *words == [keyword, name])?;
    match opened {
        1 => Ok(()),
        n => Err(TemplateError::Whole(format!(
            "must begin one section with \"{keyword}\" and its name, not {n}"
        ))),
    }
}

/// Holds text to `defaults` sections, the two that others build upon among them.
pub(super) fn defaults_sections(text: &str) -> Result<(), TemplateError> {
    section_lines(text, |words| words[0] == "defaults")?;
    for name in ["lb_http", "lb_tcp"] {
        let opens = |line: &&str| line.split_ascii_whitespace().eq(["defaults", name]);
        if text.lines().filter(opens).count() != 1 {
            return Err(TemplateError::Whole(format!("must hold \"defaults {name}\" once")));
        }
    }
    Ok(())
}

/// Checks each line; the number of lines that open a section, each of which must be `own`.
fn section_lines(text: &str, own: impl Fn(&[&str; 2]) -> bool) -> Result<usize, TemplateError> {
    let mut opened = 0;
    for (index, line) in text.lines().enumerate() {
        let wrong = |rule: &str| TemplateError::Output { line: index + 1, rule: rule.to_owned() };
        check_bytes(line).map_err(wrong)?;
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        let keyword = plain(first);
        if SECTIONS.contains(&keyword.as_str()) {
            if !own(&[first, words.next().unwrap_or_default()]) {
                return Err(wrong("must not begin another section"));
            }
            opened += 1;
        } else if opened == 0 && !first.starts_with('#') {
            return Err(wrong("must stand inside the section"));
        }
        if SERVERS.contains(&keyword.as_str()) || keyword.starts_with('.') {
            return Err(wrong("must not be a server line or a preprocessor directive"));
        }
    }
    Ok(opened)
}

fn check_bytes(line: &str) -> Result<(), &'static str> {
    let marks = [NAME_MARK, APP_MARK, SERVERS_MARK];
    let plain = |c: char| {
        c == '\t' || c == ' ' || c.is_ascii_graphic() || marks.iter().any(|m| m.starts_with(c))
    };
    match (line.chars().all(plain), line.len() > MAX_LINE_BYTES, line.ends_with('\\')) {
        (false, ..) => Err("must be printable ASCII"),
        (_, true, _) => Err("must be at most 2000 bytes"),
        (.., true) => Err("must not end with a backslash"),
        _ => Ok(()),
    }
}

/// A word as HAProxy reads it: without quotes and backslashes.
fn plain(word: &str) -> String {
    word.chars().filter(|c| !"\"'\\".contains(*c)).collect()
}

/// The text before the servers' mark, which must stand once, as the last line.
pub(super) fn before_servers(text: &str) -> Result<&str, TemplateError> {
    let rule = || TemplateError::Whole("must hold {{servers}} once, as the last line".to_owned());
    let body = text.trim_end().strip_suffix(SERVERS_MARK).ok_or_else(rule)?;
    let body = body.trim_end_matches([' ', '\t']);
    match body.ends_with('\n') && !body.contains(SERVERS_MARK) {
        true => Ok(body),
        false => Err(rule()),
    }
}
