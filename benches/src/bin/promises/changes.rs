//! Deploys: bad ones, ones after the other, many, and beside a stream.

use std::time::{Duration, Instant};

use lb_core::{App, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failure;
use crate::bed::{Bed, STEP, host_of};

/// Deploys beside the stream.
const DEPLOYS: u32 = 100;
/// Apps deployed one after the other.
const APPS: u32 = 50;

/// A version whose process ends with an error, over one that serves.
pub(crate) async fn exits(bed: &Bed, rounds: u32) -> Result<serde_json::Value, Failure> {
    bed.serve(bed.app("shop", "good", 1)?).await?;
    let (mut ready, mut lost, mut without_words) = (0, 0, 0);
    for round in 0..rounds {
        let mut bad = bed.app("shop", &format!("bad-{round}"), 1)?;
        bad.env.insert("WORK_US".parse()?, "much".to_owned());
        bad.rollout.ready_within = Duration::from_secs(2);
        let change = bed.platform.deploy(&App::new(bad)?).await?;
        let mut served = std::pin::pin!(change.served(STEP));
        let error = loop {
            tokio::select! {
                biased;
                served = &mut served => break served.err(),
                version = bed.version_of("shop") => lost += u32::from(version.as_deref() != Some("good")),
            }
        };
        ready += u32::from(error.as_ref().is_none_or(|e| e.kind() != ErrorKind::RolledBack));
        let told = error.is_some_and(|e| e.to_string().contains("WORK_US"));
        without_words += u32::from(!told);
    }
    bed.remove(&"shop".parse()?).await?.gone(STEP).await?;
    Ok(serde_json::json!({
        "declared_ready": ready, "requests_lost": lost, "without_last_words": without_words,
    }))
}

/// One version after the other, each asked for once it is said to serve.
pub(crate) async fn redeploy(bed: &Bed, rounds: u32) -> Result<serde_json::Value, Failure> {
    let (mut old, mut silent) = (0, 0);
    for round in 0..rounds {
        let version = format!("v{round}");
        bed.serve(bed.app("shop", &version, 1)?).await?;
        match bed.version_of("shop").await {
            Some(found) => old += u32::from(found != version),
            None => silent += 1,
        }
    }
    bed.remove(&"shop".parse()?).await?.gone(STEP).await?;
    Ok(serde_json::json!({ "old_version": old, "no_answer": silent }))
}

/// Many apps, each deployed as soon as the one before is stored.
pub(crate) async fn fifty(bed: &Bed) -> Result<serde_json::Value, Failure> {
    let start = Instant::now();
    let mut changes = Vec::new();
    for n in 0..APPS {
        let app = bed.app(&format!("app-{n}"), "1", 2)?;
        changes.push(bed.platform.deploy(&App::new(app)?).await?);
    }
    for change in &changes {
        change.served(STEP).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut removals = Vec::new();
    for change in &changes {
        removals.push(bed.remove(change.app()).await?);
    }
    for removal in removals {
        removal.gone(STEP).await?;
    }
    Ok(serde_json::json!({ "apps": APPS, "seconds": seconds }))
}

/// A websocket to an app that does not change, while others come and go on ports of their own.
pub(crate) async fn stream(bed: &Bed) -> Result<serde_json::Value, Failure> {
    bed.serve(bed.app("chat", "1", 1)?).await?;
    let mut socket = TcpStream::connect(bed.stage.target).await?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        host_of("chat")
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into_owned().into());
    }
    let before = bed.reloads().await?;
    let mut echoes = 0;
    for n in 0..DEPLOYS {
        let name = format!("other-{n}");
        bed.serve(bed.app(&name, "1", 1)?).await?;
        bed.remove(&name.parse()?).await?.gone(STEP).await?;
        match echo(&mut socket).await {
            Ok(()) => echoes += 1,
            Err(error) => {
                eprintln!("cut after {n} deploys: {error}");
                break;
            }
        }
    }
    let reloads = bed.reloads().await? - before;
    drop(socket);
    bed.remove(&"chat".parse()?).await?.gone(STEP).await?;
    Ok(serde_json::json!({ "deploys": DEPLOYS, "echoes": echoes, "reloads": reloads }))
}

async fn echo(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.write_all(b"still there").await?;
    let mut back = [0; 11];
    tokio::time::timeout(Duration::from_secs(10), socket.read_exact(&mut back)).await??;
    Ok(())
}
