//! Templates a platform brings: good ones are used, those that reach beyond their blocks are refused. The limits
//! are `lb_template`'s, and tried with it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use lb_core::{ConfigRenderer, ErrorKind, Fragment, Protocol::Http, RoutingTable};
use lb_nginx::{
    BACKEND_TEMPLATE, DEFAULTS_TEMPLATE, FRONTEND_TEMPLATE, LOCATION_TEMPLATE, NginxRenderer,
    NginxRendererBuilder,
};
use lb_test_support::Routes as Table;

fn table() -> RoutingTable {
    let at = [([10, 0, 0, 1], 80).into()];
    ["a.web", "b.web"]
        .into_iter()
        .fold(Table::new(), |table, name| table.backend(name, Http, &at))
        .route(80, "/", "a.web")
        .0
}

fn text_of(renderer: &NginxRenderer) -> String {
    let config = renderer.render(&table()).unwrap();
    let text = config.fragments.iter().filter_map(|f| match f {
        Fragment::Text { text, .. } => Some(text.clone()),
        Fragment::Servers(_) => None,
    });
    text.chain(config.files.into_values()).collect()
}

fn refused(builder: NginxRendererBuilder, template: &str, because: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(
        text.starts_with("render ") && text.contains(&format!("{template} template: ")),
        "{text}"
    );
    assert!(text.contains(because), "{because:?} is not why: {text}");
}

#[test]
fn templates_of_the_platforms_own_are_used() {
    let backend = BACKEND_TEMPLATE.replace("keepalive 64;", "keepalive 7; # {{app}}, {{name}}\n{{#if (eq name \"a.web\")}}\n        keepalive_time 2h;\n{{/if}}");
    let location = LOCATION_TEMPLATE
        .replace("proxy_pass", "proxy_set_header X-Own {{name}};\n            proxy_pass");
    let renderer = NginxRenderer::builder()
        .backend_template(backend)
        .location_template(location)
        .defaults_template(DEFAULTS_TEMPLATE.replace("server_tokens off", "server_tokens on"))
        .frontend_template(
            FRONTEND_TEMPLATE
                .replace("server_name", "client_max_body_size 7;\n        server_name"),
        )
        .build()
        .unwrap();
    let text = text_of(&renderer);
    for (own, times) in [
        ("keepalive 7; # a, a.web", 1),
        ("keepalive 7; # b, b.web", 1),
        ("keepalive_time 2h;", 1),
        ("proxy_set_header X-Own @lb_ws;", 1),
        ("server_tokens on;", 1),
        ("client_max_body_size 7;", 1),
    ] {
        assert_eq!(text.matches(own).count(), times, "{own}: {text}");
    }
}

#[test]
fn each_template_is_held_to_its_own_blocks() {
    let builder = NginxRenderer::builder;
    let backend =
        |line: &str| builder().backend_template(BACKEND_TEMPLATE.replace("{{servers}}", line));
    refused(backend(""), "backend", "{{servers}} once");
    refused(backend("{{servers}}\n{{servers}}"), "backend", "{{servers}} once");
    refused(backend("{{servers}}\n        server 10.0.0.1;"), "backend", "to the balancer");
    refused(backend("{{servers}}\n        ip_hash;"), "backend", "to the balancer");
    refused(backend("{{servers}}\n}\nupstream x {"), "backend", "one block");
    refused(backend("{{servers}} }"), "backend", "must not end a block");
    refused(backend("{{servers}}\n        # \u{e9}"), "backend", "printable ASCII");
    refused(builder().backend_template("{{> x}}"), "backend", "the partial");
    let location = |text: &str| builder().location_template(format!("{LOCATION_TEMPLATE}{text}"));
    refused(location("location /x { }"), "location", "one block");
    refused(location("}"), "location", "must not end a block");
    refused(location("root /etc;"), "location", "one block");
    let frontend = |text: &str| builder().frontend_template(format!("{FRONTEND_TEMPLATE}{text}"));
    refused(frontend("upstream x { }"), "frontend", "must begin one of");
    refused(frontend("} stream {"), "frontend", "must not end a block");
    refused(frontend("server { server_name x; }"), "frontend", "must listen");
    refused(builder().frontend_template("# nothing\n"), "frontend", "a server block");
    let defaults = |text: &str| builder().defaults_template(format!("{DEFAULTS_TEMPLATE}{text}"));
    refused(defaults("server { listen 1; }"), "defaults", "must be a setting");
    refused(defaults("include /etc/passwd;"), "defaults", "must be a setting");
}
