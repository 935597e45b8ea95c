//! HAProxy by hand. It has the features of a generated configuration: HTTP/1.1 and websocket, host and path
//! routing from a map, health checks, retries, forwarded headers, keep-alive to the servers.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const HEAD: &str = "\
global
    nbthread THREADS
    maxconn 4000
    hard-stop-after 60s
    stats socket DIR/admin.sock mode 600 level admin expose-fd listeners
defaults
    mode http
    option idle-close-on-response
    option forwardfor
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response
    http-reuse safe
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    timeout http-request 10s
    timeout http-keep-alive 60s
    timeout tunnel 1h
frontend web
    bind BIND
    http-request disable-l7-retry if !{ method GET HEAD OPTIONS PUT DELETE }
    use_backend %[base,lower,map_beg(DIR/routes.map,unknown)]
backend unknown
    http-request return status 404
";

/// Writes the configuration and its map into `directory`: one backend for each host name.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    directory: &Path,
    bind: SocketAddr,
    threads: usize,
    hosts: &[String],
    servers: &[SocketAddr],
) -> io::Result<PathBuf> {
    let shown = directory.display().to_string();
    let mut text = HEAD
        .replace("DIR", &shown)
        .replace("BIND", &bind.to_string())
        .replace("THREADS", &threads.to_string());
    let mut map = String::new();
    for (number, host) in hosts.iter().enumerate() {
        let _ = writeln!(map, "{host}/ app_{number}");
        let _ = writeln!(
            text,
            "backend app_{number}\n    balance leastconn\n    option httpchk GET /healthz"
        );
        for (id, server) in servers.iter().enumerate() {
            let id = id + 1;
            let _ = writeln!(
                text,
                "    server s{id} {server} id {id} check inter 1s fall 2 rise 1 maxconn 512"
            );
        }
    }
    std::fs::write(directory.join("routes.map"), map)?;
    let path = directory.join("haproxy.cfg");
    std::fs::write(&path, text)?;
    Ok(path)
}
