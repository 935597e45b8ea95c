//! A renderer of one's own: a routing table as a list for people, and the same table by the built-in
//! HAProxy renderer with one template replaced.
//!
//! `cargo run --example custom_renderer`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use lb_core::{
    Backend, ConfigRenderer, Fragment, Listener, Prefix, Protocol, RenderedConfig, Result, Route,
    RoutingTable, Server,
};
use lb_haproxy::HaproxyRenderer;

/// Writes who gets what, a line a route. Pure: equal tables, equal bytes.
#[derive(Debug)]
struct Overview;

impl ConfigRenderer for Overview {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        table.check()?;
        let mut config = RenderedConfig::default();
        for (port, listener) in &table.listeners {
            let mut text = String::new();
            match listener {
                Listener::Http { routes, .. } => {
                    for Route { host, path, backend, .. } in routes {
                        let host = host.as_ref().map_or("any host", |h| h.as_str());
                        let _ = writeln!(text, "{port} {host} {path} -> {backend}");
                    }
                }
                Listener::Tcp { backend, .. } => {
                    let _ = writeln!(text, "{port} tcp -> {backend}");
                }
            }
            config.fragments.push(Fragment::Text { backend: None, text });
        }
        // Where the balancer writes each backend's servers.
        config.fragments.extend(table.backends.keys().cloned().map(Fragment::Servers));
        Ok(config)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let table = table()?;
    show("overview", &Overview.render(&table)?);
    let own = HaproxyRenderer::builder()
        .backend_template("backend {{name}}\n    # ours\n    balance roundrobin\n{{{servers}}}")
        .build()?;
    show("haproxy.cfg with a backend template of our own", &own.render(&table)?);
    Ok(())
}

fn show(title: &str, config: &RenderedConfig) {
    println!("--- {title}");
    for fragment in &config.fragments {
        match fragment {
            Fragment::Text { text, .. } => print!("{text}"),
            Fragment::Servers(backend) => println!("    (servers of {backend})"),
        }
    }
}

fn table() -> std::result::Result<RoutingTable, Box<dyn Error>> {
    let mut shop = Backend::new("shop".parse()?, Protocol::Http);
    shop.servers
        .insert("shop-1".parse()?, Server::new(NonZeroU32::MIN, "192.0.2.10:8080".parse()?));
    let route = Route {
        host: Some("shop.example.org".parse()?),
        path: "/cart".parse()?,
        prefix: Prefix::Kept,
        backend: "shop.web".parse()?,
    };
    let listener =
        Listener::Http { routes: BTreeSet::from([route]), certificates: BTreeMap::new() };
    Ok(RoutingTable {
        host: None,
        listeners: BTreeMap::from([(80, listener)]),
        backends: BTreeMap::from([("shop.web".parse()?, Arc::new(shop))]),
    })
}
