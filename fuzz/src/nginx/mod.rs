//! A strict reader of NGINX's configuration language, as far as our templates and the balancer's lines use it
//! (`ngx_conf_read_token`, and the module references of nginx.org), and what a configuration must hold of its
//! table.
//!
//! It knows no more than it must: a directive, a parameter, a variable or a place it does not know is an error,
//! also where NGINX would take it. Comments stand on lines of their own.

mod grammar;
mod table;
mod tame;

use std::collections::BTreeMap;

pub use self::table::holds;
pub use self::tame::tame;

/// Most bytes of a word (`NGX_CONF_BUFFER`, which a word and what follows it must fit).
const MAX_WORD: usize = 4096;
/// Most words of a directive (`NGX_CONF_MAX_ARGS` and its name).
const MAX_WORDS: usize = 9;

/// Files by name; the one NGINX begins with is `nginx.conf`.
pub type Files = BTreeMap<String, String>;

/// A directive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directive {
    /// Its name and parameters, without quotes.
    pub words: Vec<String>,
    /// What is in its block.
    pub block: Option<Vec<Directive>>,
}

impl Directive {
    fn name(&self) -> &str {
        &self.words[0]
    }

    fn parameters(&self) -> Vec<&str> {
        self.words[1..].iter().map(String::as_str).collect()
    }

    /// The directives of this name in its block.
    fn inside<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Directive> + use<'a> {
        let name = name.to_owned();
        self.block.iter().flatten().filter(move |d| d.name() == name)
    }

    /// The parameters of the only directive of this name in its block.
    fn only(&self, name: &str) -> Result<Vec<&str>, String> {
        let mut all = self.inside(name);
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one.parameters()),
            _ => Err(format!("not one {name} in {:?}", self.words)),
        }
    }
}

/// Reads the directives of a file. What it includes stays as it is.
///
/// # Errors
/// What is not known, and where.
pub fn read(text: &str) -> Result<Vec<Directive>, String> {
    let mut reader = Reader { rest: text, line: 1 };
    let all = reader.block(0).map_err(|e| format!("line {}: {e}", reader.line))?;
    match text.is_empty() || text.ends_with('\n') {
        true => Ok(all),
        false => Err("the last line has no end".into()),
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    /// Directives up to the end of the block, or of the file.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, String> {
        let mut all = Vec::new();
        loop {
            self.skip();
            if self.rest.is_empty() {
                return if depth == 0 { Ok(all) } else { Err("a block is not ended".into()) };
            }
            if self.takes("}") {
                return if depth > 0 { Ok(all) } else { Err("no block to end".into()) };
            }
            all.push(self.directive(depth)?);
        }
    }

    fn directive(&mut self, depth: usize) -> Result<Directive, String> {
        let mut directive = Directive::default();
        loop {
            self.skip();
            let words = directive.words.len();
            if words > MAX_WORDS {
                return Err(format!("{words} words: {:?}", directive.words));
            }
            if words > 0 && self.takes(";") {
                return Ok(directive);
            }
            if words > 0 && self.takes("{") {
                directive.block = Some(self.block(depth + 1)?);
                return Ok(directive);
            }
            directive.words.push(self.word()?);
        }
    }

    /// Blanks, line ends, and lines that are comments.
    fn skip(&mut self) {
        loop {
            let blank = self.rest.find(|c| c != ' ' && c != '\n').unwrap_or(self.rest.len());
            self.advance(blank);
            if !self.rest.starts_with("# ") {
                return;
            }
            self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn advance(&mut self, bytes: usize) {
        let (read, rest) = self.rest.split_at(bytes);
        self.line += read.matches('\n').count();
        self.rest = rest;
    }

    fn takes(&mut self, token: &str) -> bool {
        let there = self.rest.starts_with(token);
        self.advance(if there { token.len() } else { 0 });
        there
    }

    fn word(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().filter(|c| "\"'".contains(*c));
        let word = if let Some(quote) = quote {
            self.advance(1);
            let end = self.rest.find([quote, '\n']).ok_or("an open quote")?;
            let word = self.rest[..end].to_owned();
            self.advance(end);
            if !self.takes(&quote.to_string()) || !self.rest.starts_with([' ', ';', ')', '\n']) {
                return Err("a quote that is not the end of a word".into());
            }
            word
        } else {
            let end = self.rest.find([' ', ';', '\n', '{']).unwrap_or(self.rest.len());
            let word = self.rest[..end].to_owned();
            self.advance(end);
            if word.is_empty() || word.contains(['"', '\'', '}', '#']) {
                return Err(format!("a word that would have to be quoted: {word:?}"));
            }
            word
        };
        check_bytes(&word).map(|()| word)
    }
}

/// Printable, and escapes only of what has no other meaning escaped (`\t`, `\r`, `\n`, quotes, `\`).
fn check_bytes(word: &str) -> Result<(), String> {
    let odd = word.bytes().find(|b| *b != b' ' && !b.is_ascii_graphic());
    // A name that would mean something to a map begins with one.
    let body = word.strip_prefix('\\').unwrap_or(word);
    let escaped = body.split('\\').skip(1).find(|rest| {
        // The status server's answer has lines.
        let plain = |c: char| c.is_ascii_digit() || ".|?".contains(c);
        !(rest.starts_with(plain) || rest.starts_with('n') && word.starts_with("mark "))
    });
    match (odd, escaped) {
        (Some(odd), _) => Err(format!("holds {odd:#x}: {word:?}")),
        (_, Some(_)) => Err(format!("an escape that means something else: {word:?}")),
        _ if word.len() >= MAX_WORD => Err(format!("{} bytes", word.len())),
        _ => Ok(()),
    }
}
