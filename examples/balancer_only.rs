//! Endpoints a platform already has, balanced by HAProxy: no orchestrator, no containers.
//!
//! `cargo run --example balancer_only -- --server 127.0.0.1:9001 --server 127.0.0.1:9002 --port 8080`
//! starts a HAProxy (Debian: `apt-get install haproxy`), which goes on after the program has ended. The same with
//! other servers changes it, with `--end` it ends.
//!
//! With `--attach DIR` HAProxy is the platform's own: it runs `haproxy -W -db -S DIR/master.sock,mode,600 -f
//! DIR/haproxy.cfg`, behind files of its own if it likes, and this program writes the file, changes servers and
//! reloads. The first time the file is all it can do. `--end` then takes out what it put in.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use lb_core::{Backend, Listener, LoadBalancer, Prefix, Protocol, Route, RoutingTable, Server};
use lb_haproxy::HaproxyBalancer;

/// Balances given endpoints.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where an endpoint listens; repeat it.
    #[arg(long, required_unless_present = "end")]
    server: Vec<SocketAddr>,
    /// The outside port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where HAProxy's files and sockets lie.
    #[arg(long, default_value = "/tmp/lb-balancer-only")]
    directory: PathBuf,
    /// The same of a HAProxy that the platform starts and ends.
    #[arg(long, value_name = "DIR", conflicts_with = "directory")]
    attach: Option<PathBuf>,
    /// The program; with `--attach` it only checks configurations.
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    haproxy: PathBuf,
    /// End the HAProxy in the directory instead, or leave the platform's one with nothing of ours.
    #[arg(long)]
    end: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    lb_examples::ended(run(&Arguments::parse()).await)
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error + Send + Sync>> {
    let directory = arguments.attach.as_ref().unwrap_or(&arguments.directory);
    let builder = HaproxyBalancer::builder(directory);
    let balancer = match arguments.attach {
        Some(_) => builder.attached(directory.join("master.sock"), &arguments.haproxy),
        None => builder.as_process(&arguments.haproxy),
    }
    .build()?;
    if arguments.end {
        return Ok(balancer.shutdown().await?);
    }
    // Running it again with other servers changes the running HAProxy, without a reload.
    let applied = balancer.apply(&table(arguments)?).await?;
    println!(
        "{:?}: http://127.0.0.1:{}/ leads to {:?}",
        applied.change, arguments.port, arguments.server
    );
    for (part, reason) in &applied.set_aside {
        println!("left out: {part:?}: {reason}");
    }
    let traffic = balancer.traffic().await?;
    for (name, backend) in &traffic.backends {
        println!("{name}: {} requests, {} in flight", backend.requests, backend.in_flight);
    }
    Ok(())
}

fn table(arguments: &Arguments) -> Result<RoutingTable, Box<dyn Error + Send + Sync>> {
    let mut backend = Backend::new("site".parse()?, Protocol::Http);
    for address in &arguments.server {
        // The name says which server it is, the id its place in consistent hashing: both from the address.
        let name = format!("at-{}", address.to_string().replace([':', '[', ']', '.'], "-"));
        let id = NonZeroU32::new(u32::from(address.port())).ok_or("port 0")?;
        backend.servers.insert(name.parse()?, Server::new(id, *address));
    }
    let route = Route {
        host: None,
        path: "/".parse()?,
        prefix: Prefix::Kept,
        backend: "site.web".parse()?,
    };
    let listener =
        Listener::Http { routes: BTreeSet::from([route]), certificates: BTreeMap::new() };
    Ok(RoutingTable {
        host: None,
        listeners: BTreeMap::from([(arguments.port, listener)]),
        backends: BTreeMap::from([("site.web".parse()?, Arc::new(backend))]),
    })
}
