//! The smallest renderer that keeps the balancer's side of the contract honest.

use std::fmt::Write as _;

use lb_core::{
    Balance, ConfigRenderer, Fragment, Listener, Protocol, RenderedConfig, Result, RoutingTable,
};
use lb_haproxy::layout;

/// Routes by path; retries as engines.md says.
#[derive(Debug)]
pub struct PlainRenderer;

const DEFAULTS: &str = "defaults
    option idle-close-on-response
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
    http-reuse safe
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    timeout tunnel 1h
";

impl ConfigRenderer for PlainRenderer {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        let mut config = RenderedConfig::default();
        config.fragments.push(Fragment::Text { backend: None, text: DEFAULTS.to_owned() });
        for (port, listener) in &table.listeners {
            let text = frontend(*port, listener);
            config.fragments.push(Fragment::Text { backend: None, text });
        }
        for (name, backend) in &table.backends {
            let text = body(name, backend);
            config.fragments.push(Fragment::Text { backend: Some(name.clone()), text });
            config.fragments.push(Fragment::Servers(name.clone()));
        }
        Ok(config)
    }
}

fn frontend(port: u16, listener: &Listener) -> String {
    let tls = |secure| match secure {
        true => format!(" ssl crt-list {}", layout::crt_list_file(port)),
        false => String::new(),
    };
    let mut text = format!("frontend {}\n", layout::frontend(port));
    match listener {
        Listener::Http { routes, certificates } => {
            let _ =
                writeln!(text, "    mode http\n    bind :{port}{}", tls(!certificates.is_empty()));
            text.push_str(
                "    http-request disable-l7-retry if !{ method GET HEAD OPTIONS PUT DELETE }\n",
            );
            for route in routes.iter().rev() {
                let _ = writeln!(
                    text,
                    "    use_backend {} if {{ path_beg {} }}",
                    route.backend, route.path
                );
            }
        }
        Listener::Tcp { backend, certificate } => {
            let tls = tls(certificate.is_some());
            let _ = writeln!(
                text,
                "    mode tcp\n    bind :{port}{tls}\n    default_backend {backend}"
            );
        }
    }
    text
}

fn body(name: &lb_core::BackendName, backend: &lb_core::Backend) -> String {
    let mode = if backend.protocol == Protocol::Http { "http" } else { "tcp" };
    let balance = match &backend.balance {
        Balance::RoundRobin | Balance::HeaderHash(_) => "roundrobin",
        Balance::LeastConnections => "leastconn",
        Balance::RandomTwo => "random(2)",
        Balance::SourceHash => "source\n    hash-type consistent",
        Balance::UriHash => "uri\n    hash-type consistent",
    };
    let mut text = format!("backend {name}\n    mode {mode}\n    balance {balance}\n");
    if let Some(sticky) = &backend.sticky {
        let cookie = &sticky.cookie;
        let _ = writeln!(text, "    cookie {cookie} insert indirect nocache dynamic");
        let _ = writeln!(text, "    dynamic-cookie-key {}", layout::cookie_key(name));
    }
    text
}
