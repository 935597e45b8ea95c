//! A platform on a stage, and apps on it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::time::Duration;

use lb_core::{App, AppName, AppSpec, Check, Orchestrator, Removal, Replicas};
use lb_examples::{DEMO_HOST, Stage, StageOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failure;

/// Longest wait for anything.
pub(crate) const STEP: Duration = Duration::from_secs(180);

pub(crate) struct Bed {
    pub(crate) stage: Stage,
    pub(crate) platform: Orchestrator,
}

impl Bed {
    pub(crate) async fn set(options: &StageOptions) -> Result<Self, Failure> {
        let stage = Stage::alone(options).await?;
        let platform = Orchestrator::builder(stage.cluster.clone())
            .host(stage.facts.clone(), stage.handle.clone())
            .start()
            .await?;
        Ok(Self { stage, platform })
    }

    /// An app on the stage's port, by its host name.
    pub(crate) fn app(&self, name: &str, version: &str, count: u32) -> Result<AppSpec, Failure> {
        let mut app = AppSpec::from(self.stage.app(name, version)?);
        app.replicas = Replicas::fixed(count);
        for port in app.ports.values_mut() {
            port.hosts = [host_of(name).parse()?].into();
            port.health.check = Check::Tcp;
        }
        Ok(app)
    }

    /// The same on a port of its own.
    pub(crate) fn app_apart(&self, name: &str, version: &str) -> Result<AppSpec, Failure> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut app = self.app(name, version, 1)?;
        app.ports.values_mut().for_each(|port| port.outside = NonZeroU16::new(free));
        Ok(app)
    }

    pub(crate) async fn serve(&self, app: AppSpec) -> Result<(), Failure> {
        self.platform.deploy(&App::new(app)?).await?.served(STEP).await?;
        Ok(())
    }

    pub(crate) async fn remove(&self, name: &AppName) -> Result<Removal, Failure> {
        Ok(self.platform.remove(name).await?)
    }

    /// The version that a new connection is answered by; `None`: no answer, or a failure.
    pub(crate) async fn version_of(&self, app: &str) -> Option<String> {
        let answer = get(self.stage.target, &host_of(app), "/").await.ok()?;
        let version = answer.lines().find_map(|line| line.strip_prefix("x-version: "))?;
        answer.starts_with("HTTP/1.1 200").then(|| version.to_owned())
    }

    pub(crate) async fn reloads(&self) -> Result<u64, Failure> {
        Ok(self.stage.handle.balancer.describe().await?.reloads)
    }

    pub(crate) async fn strike(&self) -> Result<(), Failure> {
        let names: Vec<AppName> = self.platform.status().apps.keys().cloned().collect();
        let mut removals = Vec::new();
        for name in names {
            removals.push(self.platform.remove(&name).await?);
        }
        for removal in removals {
            removal.gone(STEP).await?;
        }
        self.platform.shutdown().await;
        self.stage.handle.balancer.shutdown().await?;
        self.stage.strike();
        Ok(())
    }
}

pub(crate) fn host_of(app: &str) -> String {
    format!("{app}.{DEMO_HOST}")
}

/// One request on a connection of its own: the whole answer.
pub(crate) async fn get(to: SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
