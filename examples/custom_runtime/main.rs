//! A container engine of one's own, and an app on it behind the in-process balancer.
//!
//! `cargo run --example custom_runtime` deploys a function of this program in three instances and asks them.
//! The adapter is [`functions`]; that it is right is said by the suite of its contract, which
//! `tests/conformance.rs` runs over it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

mod functions;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use functions::Functions;
use lb_core::{App, HostFacts, HostHandle, Orchestrator, Probed};
use lb_local::{LocalBalancer, real_address};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longest wait for the platform.
const PATIENCE: Duration = Duration::from_secs(60);

/// The app: says where it is.
async fn hello(at: SocketAddr) -> i64 {
    let Ok(listener) = tokio::net::TcpListener::bind(at).await else { return 1 };
    let text = format!("hello from {at}\n");
    let length = text.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}");
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return 2 };
        let exchange = async {
            // A probe connects and says nothing.
            if stream.read(&mut [0; 4096]).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
            }
            stream.shutdown().await
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), exchange).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Functions::new(&[("hello", |at| Box::pin(hello(at)))])?;
    let probed = Probed::builder(Arc::new(engine)).reach(real_address).build();
    let host = HostHandle { runtime: Arc::new(probed), balancer: Arc::new(LocalBalancer::new()) };
    let platform = Orchestrator::builder(lb_local::cluster("functions".parse()?))
        .host(HostFacts::new("here".parse()?, Ipv4Addr::LOCALHOST), host)
        .start()
        .await?;

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let app = App::from_toml(&format!(
        "name = \"hello\"\nimage = \"hello\"\nreplicas = 3\n\
         [ports.web]\ncontainer = 8080\noutside = {port}\nhosts = [\"hello.test\"]\nbalance = \"round_robin\""
    ))?;
    platform.deploy(&app).await?.served(PATIENCE).await?;
    for _ in 0..6 {
        let answer = tokio::task::spawn_blocking(move || ask(port)).await??;
        println!("{}", answer.lines().last().unwrap_or_default());
    }

    platform.remove(&app.name).await?.gone(PATIENCE).await?;
    platform.shutdown().await;
    Ok(())
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: hello.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
