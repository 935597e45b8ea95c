//! What a template wrote must be the blocks it was asked for, and nothing that reaches beyond them.

use lb_template::{APP_MARK, NAME_MARK, SERVERS_MARK, TemplateError};

/// Longest line: NGINX takes parameters of up to 4096 bytes.
const MAX_LINE_BYTES: usize = 2000;
/// Deepest blocks: a location in a server, and one further.
const MAX_BLOCKS: usize = 4;
/// Stands for the servers while a block is read.
const SERVERS: &str = "lb_servers_go_here";

/// Directives of an upstream that say how a server is picked: the balancer's.
const PICKING: [&str; 11] = [
    "server",
    "zone",
    "hash",
    "ip_hash",
    "least_conn",
    "least_time",
    "random",
    "sticky",
    "queue",
    "balancer_by_lua_block",
    "balancer_by_lua_file",
];

/// A directive and what is in its block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directive {
    line: usize,
    words: Vec<String>,
    block: Option<Vec<Directive>>,
}

/// Holds text to settings without blocks.
pub(super) fn settings(text: &str) -> Result<(), TemplateError> {
    for directive in read(text)? {
        let name = directive.words[0].as_str();
        if (directive.block.is_some() && name != "map") || name == "include" {
            return Err(directive.wrong("must be a setting, without a block or an include"));
        }
    }
    Ok(())
}

/// Holds text to servers and, for HTTP, the maps they use.
pub(super) fn listener(text: &str, stream: bool) -> Result<(), TemplateError> {
    let allowed: &[&str] = if stream { &["server"] } else { &["server", "map", "geo"] };
    let all = read(text)?;
    if let Some(other) = all.iter().find(|d| !allowed.contains(&d.words[0].as_str())) {
        return Err(other.wrong(&format!("must begin one of {}", allowed.join(", "))));
    }
    let servers: Vec<_> = all.iter().filter(|d| d.words == ["server"]).collect();
    match servers.is_empty() {
        true => Err(TemplateError::Whole("must hold a server block".to_owned())),
        false => match servers.iter().find(|s| s.inside("listen") == 0) {
            Some(server) => Err(server.wrong("must listen")),
            None => Ok(()),
        },
    }
}

/// Holds text to one location of this name.
pub(super) fn location(text: &str, name: &str) -> Result<(), TemplateError> {
    let all = read(text)?;
    match all.as_slice() {
        [one] if one.block.is_some() && one.words == ["location", name] => Ok(()),
        _ => Err(TemplateError::Whole("must be one block \"location {{name}}\"".to_owned())),
    }
}

/// Holds text to one upstream of this name, and cuts it where its servers go.
pub(super) fn upstream(text: &str, name: &str) -> Result<[String; 2], TemplateError> {
    let rule = |rule: &str| TemplateError::Whole(rule.to_owned());
    let all = read(&text.replace(SERVERS_MARK, &format!("{SERVERS};")))?;
    let [one] = all.as_slice() else { return Err(rule("must be one block \"upstream {{name}}\"")) };
    if one.words != ["upstream", name] {
        return Err(rule("must be one block \"upstream {{name}}\""));
    }
    if let Some(other) = one.block.iter().flatten().find(|d| PICKING.contains(&d.words[0].as_str()))
    {
        return Err(other.wrong("must leave servers and how they are picked to the balancer"));
    }
    if one.inside(SERVERS) != 1 || text.matches(SERVERS_MARK).count() != 1 {
        return Err(rule("must hold {{servers}} once, in its block"));
    }
    let (before, after) = text.split_once(SERVERS_MARK).unwrap_or((text, ""));
    let before = before.trim_end_matches([' ', '\t']);
    let after = after.trim_start_matches([' ', '\t']).strip_prefix('\n').unwrap_or(after);
    match before.ends_with('\n') {
        true => Ok([before.to_owned(), super::ended(after.to_owned())]),
        false => Err(rule("must hold {{servers}} on a line of its own")),
    }
}

impl Directive {
    fn wrong(&self, rule: &str) -> TemplateError {
        TemplateError::Output { line: self.line, rule: rule.to_owned() }
    }

    /// How many directives of this name its block holds.
    fn inside(&self, name: &str) -> usize {
        self.block.iter().flatten().filter(|d| d.words[0] == name).count()
    }
}

/// Reads directives as NGINX does (`ngx_conf_read_token`): words, quotes, `;`, `{`, `}` and comments.
fn read(text: &str) -> Result<Vec<Directive>, TemplateError> {
    for (index, line) in text.lines().enumerate() {
        check_bytes(line)
            .map_err(|rule| TemplateError::Output { line: index + 1, rule: rule.to_owned() })?;
    }
    let mut open: Vec<(Directive, Vec<Directive>)> = Vec::new();
    let mut here: Vec<Directive> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut line = 1;
    for token in tokens(text)? {
        line = token.line;
        let wrong = |rule: &str| TemplateError::Output { line, rule: rule.to_owned() };
        match (token.kind, words.is_empty()) {
            (Kind::Word(word), _) => words.push(word),
            (Kind::End, false) => {
                here.push(Directive { line, words: std::mem::take(&mut words), block: None });
            }
            (Kind::Open, false) if open.len() < MAX_BLOCKS => {
                let directive = Directive { line, words: std::mem::take(&mut words), block: None };
                open.push((directive, std::mem::take(&mut here)));
            }
            (Kind::Close, true) => {
                let Some((mut directive, before)) = open.pop() else {
                    return Err(wrong("must not end a block it did not begin"));
                };
                directive.block = Some(std::mem::replace(&mut here, before));
                here.push(directive);
            }
            _ => return Err(wrong("must be whole directives")),
        }
    }
    match (open.is_empty(), words.is_empty()) {
        (true, true) => Ok(here),
        _ => Err(TemplateError::Output { line, rule: "must end what it begins".to_owned() }),
    }
}

#[derive(Debug)]
struct Token {
    line: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        let skipped = rest.trim_start();
        let line = text[..text.len() - skipped.len()].matches('\n').count() + 1;
        let Some(first) = skipped.chars().next() else { return Ok(tokens) };
        let (kind, length) = match first {
            '#' => {
                rest = skipped.find('\n').map_or("", |end| &skipped[end..]);
                continue;
            }
            '{' => (Kind::Open, 1),
            '}' => (Kind::Close, 1),
            ';' => (Kind::End, 1),
            '"' | '\'' => quoted(skipped, first).ok_or_else(|| TemplateError::Output {
                line,
                rule: "must end its quotes".to_owned(),
            })?,
            _ => bare(skipped),
        };
        tokens.push(Token { line, kind });
        rest = &skipped[length..];
    }
}

fn quoted(text: &str, quote: char) -> Option<(Kind, usize)> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some((Kind::Word(text[1..at].to_owned()), at + 1)),
            _ => {}
        }
    }
    None
}

/// A word ends at white space, `;` or `{`; but `${` begins a variable.
fn bare(text: &str) -> (Kind, usize) {
    let (mut escaped, mut dollar) = (false, false);
    let end = text.char_indices().find(|(_, c)| {
        let ends = match c {
            _ if escaped => false,
            '{' => !dollar,
            c => c.is_ascii_whitespace() || *c == ';',
        };
        (escaped, dollar) = (!escaped && *c == '\\', *c == '$');
        ends
    });
    let end = end.map_or(text.len(), |(at, _)| at);
    (Kind::Word(text[..end].to_owned()), end)
}

fn check_bytes(line: &str) -> Result<(), &'static str> {
    let marks = [NAME_MARK, APP_MARK, SERVERS_MARK];
    let plain = |c: char| {
        c == '\t' || c == ' ' || c.is_ascii_graphic() || marks.iter().any(|m| m.starts_with(c))
    };
    match (line.chars().all(plain), line.len() > MAX_LINE_BYTES) {
        (false, _) => Err("must be printable ASCII"),
        (_, true) => Err("must be at most 2000 bytes"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_words_quotes_and_comments_are_told_apart() {
        let all =
            read("# {\nserver { listen 80; if ($a = \"};{\") { rewrite ^ ${b}c; } }\n").unwrap();
        assert_eq!(all.len(), 1);
        let server = &all[0];
        assert_eq!((server.inside("listen"), server.inside("if")), (1, 1));
        let inner = server.block.as_ref().unwrap()[1].block.as_ref().unwrap();
        assert_eq!(inner[0].words, ["rewrite", "^", "${b}c"]);
    }

    #[test]
    fn what_reaches_beyond_its_block_is_refused() {
        for text in
            ["}", "server {", "a \"b;", "server { } } http {", "; ", "a b", "{ }", "\u{e9};"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(location("location @x { } location @y { }", "@x").is_err());
        assert!(location("location @y { }", "@x").is_err());
        assert!(location("location @x { proxy_pass http://$lb_backend; }", "@x").is_ok());
        assert!(settings("lua_shared_dict x 1m; server { }").is_err());
        assert!(listener("upstream x { }", false).is_err());
    }

    #[test]
    fn an_upstream_is_cut_where_its_servers_go() {
        let text = format!("upstream a.b {{\n  {SERVERS_MARK}\n  keepalive 4;\n}}");
        let [before, after] = upstream(&text, "a.b").unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("upstream a.b {\n", "  keepalive 4;\n}\n"));
        for wrong in [
            "upstream a.b {\n}\n".to_owned(),
            format!("{SERVERS_MARK}\nupstream a.b {{ }}\n"),
            format!("upstream a.b {{ {SERVERS_MARK}\n}}\n"),
            format!("upstream a.b {{\n{SERVERS_MARK}\n{SERVERS_MARK}\n}}\n"),
            format!("upstream a.b {{\n{SERVERS_MARK}\nx {{\n{SERVERS_MARK}\n}}\n}}\n"),
            format!("upstream a.b {{\n{SERVERS_MARK}\nserver 10.0.0.1;\n}}\n"),
            format!("upstream a.b {{\nleast_conn;\n{SERVERS_MARK}\n}}\n"),
            format!("upstream c {{\n{SERVERS_MARK}\n}}\n"),
        ] {
            assert!(upstream(&wrong, "a.b").is_err(), "{wrong}");
        }
    }
}
