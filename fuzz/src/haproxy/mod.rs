//! A strict reader of HAProxy's configuration language, as far as our templates use it (manual 2.6, sections 2,
//! 4, 5 and 7), and what a configuration must hold of its table.
//!
//! It knows no more than it must: a line, a keyword, a fetch, a converter or an argument it does not know is an
//! error, also where HAProxy would take it. Quotes are allowed around one whole word; escapes, comments and
//! environment variables are not.

mod expression;
mod grammar;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

pub use self::table::holds;

/// Longest line in bytes, its end included (`LINESIZE`).
const MAX_LINE: usize = 2048;
/// Most words of a line (`MAX_LINE_ARGS`).
const MAX_WORDS: usize = 64;

/// What a configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `http` or `tcp`, by name; `None` until it says so.
    pub defaults: BTreeMap<String, Option<Mode>>,
    /// By name.
    pub frontends: BTreeMap<String, Frontend>,
    /// By name.
    pub backends: BTreeMap<String, Backend>,
}

/// What a section carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Requests.
    Http,
    /// Byte streams.
    Tcp,
}

/// A `frontend` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// From its defaults.
    pub mode: Mode,
    /// Where it listens, each once.
    pub binds: BTreeSet<String>,
    /// The certificates' file, with TLS.
    pub crt_list: Option<String>,
    /// Maps looked up, in order.
    pub lookups: Vec<String>,
    /// Whether what was looked up chooses the backend.
    pub chooses: bool,
    /// Who gets the rest.
    pub default_backend: Option<String>,
}

/// A `backend` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// From its defaults.
    pub mode: Mode,
    /// The algorithm's words.
    pub balance: Option<String>,
    /// The cookie's name.
    pub cookie: Option<String>,
    /// Whether it is for TLS alone.
    pub secure: bool,
    /// The other lines, as they are, in order.
    pub rules: Vec<String>,
    /// By name.
    pub servers: BTreeMap<String, Server>,
}

/// A `server` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Written out and unique.
    pub id: u32,
    /// 0 to 256.
    pub weight: u16,
    /// Whether it takes nothing.
    pub disabled: bool,
    /// Checks: interval in milliseconds, rise, fall.
    pub check: (u64, u32, u32),
    /// Most connections.
    pub maxconn: Option<u32>,
    /// In milliseconds.
    pub slowstart: Option<u64>,
}

/// Where the reader stands.
enum Open {
    Nothing,
    Defaults(String),
    Frontend(String),
    Backend(String),
}

/// Reads a configuration that begins with its `defaults`.
///
/// # Errors
/// The first line that is not known, with what is wrong.
pub fn read(text: &str) -> Result<Config, String> {
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut config = Config::default();
    let mut open = Open::Nothing;
    let mut known = grammar::Known::default();
    for (number, line) in text.lines().enumerate() {
        let here = |e: String| format!("line {}: {e}: {line}", number + 1);
        let words = words(line).map_err(here)?;
        let Some(first) = words.first() else { return Err(here("empty".into())) };
        if line.starts_with(' ') {
            known.line(&mut config, &open, &words).map_err(here)?;
        } else {
            open = config.section(first, &words).map_err(here)?;
            known = grammar::Known::default();
        }
    }
    config.leads_somewhere()?;
    Ok(config)
}

/// The words of a line (manual, 2.2): split at blanks, quotes taken off.
fn words(line: &str) -> Result<Vec<String>, String> {
    if line.len() >= MAX_LINE {
        return Err(format!("{} bytes long", line.len()));
    }
    let odd = line.bytes().find(|b| !(*b == b' ' || b.is_ascii_graphic()) || b"\\'#`".contains(b));
    // At the end of a regular expression, where no variable can begin.
    let ends =
        |(at, _): (usize, &str)| matches!(line.as_bytes().get(at + 1), None | Some(b' ' | b')'));
    let odd = odd.or((!line.match_indices('$').all(ends)).then_some(b'$'));
    if let Some(odd) = odd {
        return Err(format!("holds {:?}", char::from(odd)));
    }
    let words: Result<Vec<_>, _> =
        line.split(' ').filter(|w| !w.is_empty()).map(unquoted).collect();
    let words = words?;
    match words.len() > MAX_WORDS {
        true => Err(format!("{} words", words.len())),
        false => Ok(words),
    }
}

fn unquoted(word: &str) -> Result<String, String> {
    let inner = match word.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').ok_or("an open quote")?,
        None => word,
    };
    match inner.contains('"') || inner.is_empty() {
        true => Err("a quote within a word, or nothing in quotes".into()),
        false => Ok(inner.to_owned()),
    }
}

/// Names of sections and servers (manual, 2): letters, digits and `-_.:`.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    !text.is_empty() && text.bytes().all(plain)
}

impl Config {
    fn section(&mut self, keyword: &str, words: &[String]) -> Result<Open, String> {
        let name = words.get(1).filter(|n| is_name(n)).ok_or("no name")?.clone();
        if keyword == "defaults" {
            let new = words.len() == 2 && !self.defaults.contains_key(&name);
            self.defaults.insert(name.clone(), None);
            return if new { Ok(Open::Defaults(name)) } else { Err("not one new name".into()) };
        }
        let mode = match words {
            [_, _, from, defaults] if from == "from" => {
                self.defaults.get(defaults).copied().flatten()
            }
            _ => None,
        };
        let mode = mode.ok_or("not \"from\" defaults that stand before it")?;
        let twice = match keyword {
            "frontend" => self.frontends.insert(name.clone(), Frontend::new(mode)).is_some(),
            "backend" => self.backends.insert(name.clone(), Backend::new(mode)).is_some(),
            _ => return Err("no section known here".into()),
        };
        match (twice, keyword) {
            (true, _) => Err("a second of this name".into()),
            (false, "frontend") => Ok(Open::Frontend(name)),
            (false, _) => Ok(Open::Backend(name)),
        }
    }

    /// All defaults say their mode; each frontend listens, and leads to a backend of its mode.
    fn leads_somewhere(&self) -> Result<(), String> {
        if let Some((name, _)) = self.defaults.iter().find(|(_, mode)| mode.is_none()) {
            return Err(format!("defaults {name} have no mode"));
        }
        for (name, frontend) in &self.frontends {
            let Some(default) = &frontend.default_backend else {
                return Err(format!("{name} leads nowhere"));
            };
            match self.backends.get(default) {
                Some(backend) if backend.mode == frontend.mode => {}
                Some(_) => return Err(format!("{name} leads to {default} of another mode")),
                None => return Err(format!("{name} leads to {default}, which is not there")),
            }
            if frontend.binds.is_empty() {
                return Err(format!("{name} does not listen"));
            }
        }
        Ok(())
    }
}

impl Frontend {
    const fn new(mode: Mode) -> Self {
        Self {
            mode,
            binds: BTreeSet::new(),
            crt_list: None,
            lookups: Vec::new(),
            chooses: false,
            default_backend: None,
        }
    }
}

impl Backend {
    const fn new(mode: Mode) -> Self {
        Self {
            mode,
            balance: None,
            cookie: None,
            secure: false,
            rules: Vec::new(),
            servers: BTreeMap::new(),
        }
    }
}
