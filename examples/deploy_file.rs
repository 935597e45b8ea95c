//! An app from a TOML file, on processes of this machine, until Ctrl-C.
//!
//! `cargo run --example deploy_file -- examples/apps/hello.toml`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt;
use lb_core::{App, Orchestrator};
use lb_local::{LocalHost, Program};

/// Runs an app from a file.
#[derive(Debug, Parser)]
struct Arguments {
    /// The app, in TOML.
    file: PathBuf,
}

fn main() -> ExitCode {
    lb_examples::ended(begin())
}

fn begin() -> Result<(), Box<dyn Error + Send + Sync>> {
    if lb_examples::served()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    lb_examples::log_to_stderr();
    tokio::runtime::Runtime::new()?.block_on(run(&arguments))
}

/// Longest wait for the platform.
const PATIENCE: Duration = Duration::from_secs(60);

fn tell_where(app: &App) {
    for (name, port) in &app.ports {
        if let Some(outside) = port.outside {
            println!("port {name}: http://127.0.0.1:{outside}{}; Ctrl-C ends it", port.path);
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error + Send + Sync>> {
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|e| format!("{}: {e}", arguments.file.display()))?;
    let app = App::from_toml(&text)?;
    let cluster = lb_local::cluster("files".parse()?);
    let directory = tempfile::tempdir()?;
    // On this engine an image is a program; "demo:1" is this one, serving the demo app.
    let demo = Program::new(std::env::current_exe()?).args(["serve"]);
    let host = LocalHost::builder(&cluster, directory.path()).image("demo:1", demo).build()?;
    let platform = Orchestrator::builder(cluster)
        .host(host.facts().clone(), host.handle().clone())
        .start()
        .await?;
    let mut events = platform.events();
    let change = platform.deploy(&app).await?;
    let mut waits = true;
    let mut served = std::pin::pin!(change.served(PATIENCE));
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            served = &mut served, if waits => {
                waits = false;
                match served {
                    Ok(_) => tell_where(&app),
                    Err(error) => println!("{error}"),
                }
            }
            Some(event) = events.next() => println!("{} {}", event.at, event.what),
        }
    }
    platform.remove(&app.name).await?.gone(PATIENCE).await?;
    platform.shutdown().await;
    Ok(host.handle().balancer.shutdown().await?)
}
