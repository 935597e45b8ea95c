//! Templates a platform brings: good ones are used, hostile ones are refused, none ends the process (F21).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::fmt::Write as _;

use common::text_of;
use lb_core::{ConfigRenderer, ErrorKind, Protocol::Http};
use lb_haproxy::{
    BACKEND_TEMPLATE, DEFAULTS_TEMPLATE, FRONTEND_TEMPLATE, HaproxyRenderer, MAX_OUTPUT_BYTES,
    MAX_TEMPLATE_BYTES,
};
use lb_test_support::Routes as Table;

const MINIMAL: &str =
    "backend {{name}} from {{#if tcp}}lb_tcp{{else}}lb_http{{/if}}\n{{servers}}\n";

/// Builds with a backend template, and gives the refusal.
fn refusal(template: impl Into<String>) -> String {
    let error = HaproxyRenderer::builder().backend_template(template).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.starts_with("render ") && text.contains("backend template: "), "{text}");
    assert!(text.len() < 1000, "a bounded message, not {} bytes", text.len());
    text
}

fn refused(template: impl Into<String>, because: &str) {
    let text = refusal(template);
    assert!(text.contains(because), "{because:?} is not why: {text}");
}

/// `MINIMAL` with `line` in its middle.
fn with_line(line: &str) -> String {
    MINIMAL.replace("{{servers}}", &format!("{line}\n{{{{servers}}}}"))
}

fn table() -> Table {
    let at = [([10, 0, 0, 1], 80).into()];
    ["a.web", "b.web"]
        .into_iter()
        .fold(Table::new(), |table, name| table.backend(name, Http, &at))
        .route(80, "/", "a.web")
}

#[test]
fn a_template_of_the_platforms_own_is_used() {
    let template = "# {{app}}\nbackend {{name}} from lb_http\n{{#each this}}\n    # {{@key}}\n{{/each}}\n\
        {{#if (and (eq name \"a.web\") (not tcp))}}\n    http-request set-header X-A 1\n{{/if}}\n\
        \x20   balance {{balance}}\n  {{servers}}";
    let renderer = HaproxyRenderer::builder()
        .backend_template(template.replace(
            "backend {{name}} from lb_http",
            "backend {{name}} from {{#if tcp}}lb_tcp{{else}}lb_http{{/if}}",
        ))
        .build()
        .unwrap();
    let table = table().0;
    let text = text_of(&table, &renderer.render(&table).unwrap());
    let (_, a) = text.split_once("# a\nbackend a.web from lb_http\n").unwrap();
    let (a, b) = a.split_once("# b\nbackend b.web from lb_http\n").unwrap();
    assert!(a.contains("set-header X-A") && !b.contains("set-header X-A"), "names can be compared");
    assert!(a.contains("    balance leastconn\n    server s1 "), "{a}");
}

#[test]
fn names_written_differ_even_where_renderings_are_shared() {
    let template = with_line("    http-response set-header X-Served-By {{name}}/{{app}}");
    let renderer = HaproxyRenderer::builder().backend_template(template).build().unwrap();
    let table = table().0;
    let text = text_of(&table, &renderer.render(&table).unwrap());
    for (name, app) in [("a.web", "a"), ("b.web", "b")] {
        let section = format!(
            "backend {name} from lb_http\n    http-response set-header X-Served-By {name}/{app}\n    server"
        );
        assert!(text.contains(&section), "{text}");
    }
}

#[test]
fn templates_that_would_end_the_process_are_refused() {
    let nested = |count: usize| {
        let (open, close) = ("{{#if tcp}}".repeat(count), "{{/if}}".repeat(count));
        format!("{open}{MINIMAL}{close}")
    };
    refused(nested(20_000), "at most 65536 bytes");
    refused(nested(3_000), "at most 256 tags");
    refused(nested(120), "nest at most");
    let elses = format!("{{{{#if tcp}}}}{}{{{{/if}}}}", "{{else if tcp}}x".repeat(200));
    refused(with_line(&elses), "nest at most");
    let brackets =
        |n: usize| format!("{{{{#if {}tcp{}}}}}{{{{/if}}}}", "(not ".repeat(n), ")".repeat(n));
    refused(with_line(&brackets(10_000)), "at most");
    refused(with_line(&brackets(500)), "nest at most");
    let list = format!("{{{{#each {}{}}}}}{{{{/each}}}}", "[".repeat(500), "]".repeat(500));
    refusal(with_line(&list));
    let objects =
        format!("{{{{#each {}1{}}}}}{{{{/each}}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    refusal(with_line(&objects));
}

#[test]
fn recursion_is_refused() {
    refused(with_line("{{> t}}"), "the partial");
    refused(with_line("{{#> t}}{{/t}}"), "the partial");
    refused(with_line("{{#*inline \"a\"}}{{> b}}{{/inline}}"), "the decorator");
    refused(with_line("{{* x}}"), "the decorator");
    for helper in [
        "{{lookup this \"name\"}}",
        "{{log name}}",
        "{{{{raw}}}} {{{{/raw}}}}",
        "{{#fn}}{{/fn}}",
        "{{len name}}",
    ] {
        refused(with_line(helper), "the helper");
    }
    for helper in ["{{log}}", "{{lookup}}", "{{nothing}}", "{{rate.nothing}}"] {
        refusal(with_line(helper));
    }
}

#[test]
fn loops_and_output_are_bounded() {
    let loops = |n: usize| format!("{}x{}", "{{#each this}}".repeat(n), "{{/each}}".repeat(n));
    refused(with_line(&loops(8)), "steps");
    let comment = format!("#{}\n", "x".repeat(1000)).repeat(60);
    let much = format!("{{{{#each this}}}}{comment}{{{{/each}}}}");
    assert!(much.len() < MAX_TEMPLATE_BYTES && much.len() * 10 > MAX_OUTPUT_BYTES);
    refused(with_line(&much), "must write at most");
}

#[test]
fn output_stays_within_its_section() {
    for line in [
        "global",
        "  global",
        "defaults",
        "listen x",
        "frontend x",
        "backend other",
        "peers lb_peers",
        "backend sample.web",
        "\"backend\" x",
        "bac\"kend\" x",
        "'global'",
        "gl\\obal",
        "userlist u",
        "cache c",
        "ring r",
        "http-errors e",
        "resolvers r",
        "program p",
        "fcgi-app f",
    ] {
        refused(with_line(line), "must not begin another section");
    }
    for line in [
        "server x 10.0.0.1:80",
        "  server-template x 3 a:80",
        ".if 1",
        ".alert x",
        "\"server\" x 1:1",
    ] {
        refused(with_line(line), "must not be a server line");
    }
    refused(with_line("    balance roundrobin \\"), "backslash");
    refused(with_line("    # \u{e9}"), "printable ASCII");
    refused(with_line("    # {{#with \"\u{e9}\"}}{{this}}{{/with}}"), "printable ASCII");
    refused(with_line("    # {{#with \"a\\nglobal\"}}{{this}}{{/with}}"), "another section");
    refused(with_line("    # a\rglobal"), "control characters");
    refused(with_line("    # {{#with \"\\u0003\"}}{{this}}{{/with}}"), "a control character");
    refused(with_line("    # \0"), "control characters");
    refused(with_line(&format!("# {}", "x".repeat(2000))), "at most 2000 bytes");
    refused(format!("retries 3\n{MINIMAL}"), "inside the section");
    refused(format!("\"# a quoted word is no comment\"\n{MINIMAL}"), "inside the section");
    refused("backend other from lb_http\n{{servers}}\n", "another section");
    refused("", "one section");
}

#[test]
fn servers_stand_once_at_the_end() {
    let head = "backend {{name}} from lb_http\n";
    for wrong in [
        head.to_owned(),
        format!("{head}{{{{servers}}}}\n{{{{servers}}}}\n"),
        format!("{head}{{{{servers}}}}\n    balance roundrobin\n"),
        format!("{head}    balance {{{{servers}}}}\n"),
        "backend {{name}} {{servers}}\n".to_owned(),
    ] {
        refused(wrong, "{{servers}} once");
    }
}

#[test]
fn the_other_templates_are_held_to_theirs() {
    let builder = HaproxyRenderer::builder;
    let frontend =
        |text: String| builder().frontend_template(text).build().unwrap_err().to_string();
    assert!(frontend(format!("{FRONTEND_TEMPLATE}global\n")).contains("another section"));
    assert!(frontend("# nothing\n".to_owned()).contains("one section"));
    assert!(frontend("{{> x}}".to_owned()).contains("frontend template: "));
    let defaults =
        |text: String| builder().defaults_template(text).build().unwrap_err().to_string();
    assert!(defaults(format!("{DEFAULTS_TEMPLATE}backend x\n")).contains("another section"));
    assert!(defaults("defaults lb_http\n".to_owned()).contains("defaults lb_tcp"));
    assert!(defaults(String::new()).contains("defaults template: "));
    let own = DEFAULTS_TEMPLATE.replace("retries 3", "retries 2");
    let config = builder().defaults_template(own).build().unwrap().render(&table().0).unwrap();
    assert!(text_of(&table().0, &config).contains("    retries 2\n"));
}

#[test]
fn no_text_ends_the_process() {
    let mut seed = 1_u64;
    let mut draw = |most: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % most
    };
    let pieces = [
        "{{",
        "}}",
        "{{{",
        "}}}",
        "{{#if tcp}}",
        "{{/if}}",
        "{{else}}",
        "{{#each this}}",
        "{{/each}}",
        "{{~",
        "~}}",
        "(",
        ")",
        "[",
        "]",
        "\"",
        "'",
        "\\",
        "{{!--",
        "--}}",
        "{{name}}",
        "{{servers}}",
        "\n",
        "backend ",
        " ",
        "as |x y|",
        "@root",
        "../",
        "this",
        ".",
        "eq ",
        "{{{{raw}}}}",
        "{{>",
        "=",
    ];
    for _ in 0..3000 {
        let mut text = if draw(2) == 0 { String::new() } else { BACKEND_TEMPLATE.to_owned() };
        for _ in 0..draw(60) {
            write!(text, "{}", pieces[draw(pieces.len())]).unwrap();
        }
        if let Err(e) = HaproxyRenderer::builder().backend_template(text).build() {
            assert!(e.to_string().len() < 1000);
        }
    }
}
