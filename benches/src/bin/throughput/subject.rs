//! The balancers that can be measured: ours, the same by hand, and the processes whose CPU time counts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;
use lb_benches::hand_tuned;
use lb_benches::process::{children, haproxy_pid};
use lb_core::{LoadBalancer, Result};
use lb_haproxy::{HaproxyBalancer, HaproxyRenderer};
use lb_nginx::{NginxBalancer, NginxRenderer};

/// Which balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// HAProxy.
    Haproxy,
    /// NGINX.
    Nginx,
}

impl Subject {
    /// The program, where Debian has it.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Haproxy => "/usr/sbin/haproxy",
            Self::Nginx => "/usr/sbin/nginx",
        }
    }

    /// Ours.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn ours(
        self,
        directory: &Path,
        program: &Path,
        bind: IpAddr,
    ) -> Result<Arc<dyn LoadBalancer>> {
        if self == Self::Haproxy {
            let renderer = Arc::new(HaproxyRenderer::builder().bind_address(bind).build()?);
            let balancer = HaproxyBalancer::builder(directory).renderer(renderer);
            return Ok(Arc::new(balancer.as_process(program).build()?));
        }
        let renderer = Arc::new(NginxRenderer::builder().bind_address(bind).build()?);
        let balancer = NginxBalancer::builder(directory).renderer(renderer).as_process(program);
        Ok(Arc::new(balancer.build()?))
    }

    /// The command that serves a configuration written by hand into `directory`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn by_hand(
        self,
        directory: &Path,
        program: &Path,
        bind: SocketAddr,
        hosts: &[String],
        servers: &[SocketAddr],
    ) -> io::Result<Command> {
        let threads = std::thread::available_parallelism()?.get();
        let mut command = Command::new(program);
        if self == Self::Haproxy {
            let config = hand_tuned::haproxy::write(directory, bind, threads, hosts, servers)?;
            command.arg("-db").arg("-f").arg(config);
            return Ok(command);
        }
        let config = hand_tuned::nginx::write(directory, bind, threads, hosts, servers)?;
        command.arg("-p").arg(directory).arg("-c").arg(config);
        Ok(command)
    }

    /// The processes that serve from `directory`.
    ///
    /// # Errors
    /// When they cannot be found.
    pub fn workers(self, directory: &Path) -> io::Result<Vec<u32>> {
        if self == Self::Haproxy {
            return Ok(vec![haproxy_pid(&directory.join("admin.sock"))?]);
        }
        let text = std::fs::read_to_string(directory.join("nginx.pid"))?;
        children(text.trim().parse().map_err(io::Error::other)?)
    }
}
