#![no_main]
//! Templates of a platform, for a part of a balancer's configuration chosen by the first byte: refused in one
//! bounded message or used; never an abort, and never output that reaches beyond its own part.

use std::sync::LazyLock;

use lb_core::conformance::strategies::table;
use lb_core::{ConfigRenderer, Error, Fragment, RoutingTable};
use lb_fuzz::{choice, drawn, real_certificate};
use lb_haproxy::{HaproxyRenderer, MAX_OUTPUT_BYTES};
use lb_nginx::NginxRenderer;
use libfuzzer_sys::fuzz_target;

/// Tables to try what is accepted on.
static TABLES: LazyLock<Vec<RoutingTable>> = LazyLock::new(|| {
    let tables = table(real_certificate());
    (0..4).filter_map(|seed| drawn(&tables, &[seed])).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let Ok(template) = std::str::from_utf8(rest) else { return };
    match first % 7 {
        part @ 0..3 => tried(haproxy(part, template), "backend"),
        part => tried(nginx(part, template), "upstream"),
    }
});

fn haproxy(part: u8, template: &str) -> Result<HaproxyRenderer, Error> {
    let builder = HaproxyRenderer::builder();
    let builder = match part {
        0 => builder.backend_template(template),
        1 => builder.frontend_template(template),
        _ => builder.defaults_template(template),
    };
    builder.build()
}

fn nginx(part: u8, template: &str) -> Result<NginxRenderer, Error> {
    let builder = NginxRenderer::builder();
    let builder = match part {
        3 => builder.backend_template(template),
        4 => builder.frontend_template(template),
        5 => builder.location_template(template),
        _ => builder.defaults_template(template),
    };
    builder.build()
}

fn tried(renderer: Result<impl ConfigRenderer, Error>, backend: &str) {
    match renderer {
        Ok(renderer) => TABLES.iter().for_each(|table| used(&renderer, table, backend)),
        // A parser's message quotes the template: it may hold line ends, but no more than a screenful.
        Err(error) => assert!(error.to_string().len() < 4096, "{} bytes", error.to_string().len()),
    }
}

/// What passed on the samples may still fail on a table, with an error; its output keeps to its place: what is
/// a backend's begins with `keyword`, its name and nothing before, and each has its place for servers.
fn used(renderer: &impl ConfigRenderer, table: &RoutingTable, keyword: &str) {
    let Ok(config) = renderer.render(table) else { return };
    let (mut begun, mut places) = (Vec::new(), Vec::new());
    for fragment in &config.fragments {
        match fragment {
            Fragment::Servers(name) => places.push(name),
            Fragment::Text { backend, text } => {
                // Beside the listeners, a few parts and the renderer's own lines.
                let parts = 8 + 2 * table.listeners.len();
                assert!(text.len() <= MAX_OUTPUT_BYTES * parts, "{} bytes", text.len());
                assert!(text.ends_with('\n') || text.is_empty(), "a line without an end");
                assert!(text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
                if let Some(name) = backend.as_ref().filter(|name| begun.last() != Some(name)) {
                    assert_eq!(first_words(text), [keyword, name.as_str()], "{text}");
                    begun.push(name);
                }
            }
        }
    }
    let of = |names: &[&lb_core::BackendName]| {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let all: Vec<_> = table.backends.keys().collect();
    assert_eq!((of(&begun), of(&places)), (of(&all), of(&all)));
}

/// The first two words behind comments; quotes and the brace that opens a block are of no word.
fn first_words(text: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || "\"'{".contains(c);
    let words = text.lines().flat_map(|line| {
        let comment = line.split_whitespace().find(|word| word.starts_with('#'));
        let end = comment.and_then(|comment| line.find(comment)).unwrap_or(line.len());
        line[..end].split(ends).filter(|word| !word.is_empty())
    });
    words.take(2).collect()
}
