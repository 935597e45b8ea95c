//! NGINX by hand. It has the features of a generated configuration: HTTP/1.1 and websocket, routing by host name
//! and path, retries, forwarded headers that a client cannot claim, keep-alive to the servers, at most so many
//! connections to each, over all workers; figures of what goes to each server, from a log of every tenth request.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

const HEAD: &str = "\
daemon off;
pid DIR/nginx.pid;
error_log stderr emerg;
worker_processes WORKERS;
worker_rlimit_nofile 16384;
pcre_jit on;
events {
    worker_connections 4096;
}
http {
    client_body_temp_path DIR/body;
    proxy_temp_path DIR/proxy;
    server_tokens off;
    tcp_nodelay on;
    keepalive_requests 1000000;
    keepalive_timeout 60s;
    client_max_body_size 0;
    client_header_timeout 10s;
    server_names_hash_max_size 4096;
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_request_buffering off;
    proxy_connect_timeout 2s;
    proxy_read_timeout 60s;
    proxy_next_upstream error timeout;
    proxy_next_upstream_tries 4;
    map $http_upgrade $to_server {
        default upgrade;
        \"\" \"\";
    }
    proxy_set_header Host $http_host;
    proxy_set_header Connection $to_server;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host \"\";
    proxy_set_header Forwarded \"\";
    server {
        listen BIND reuseport default_server;
        return 404;
    }
";

const LOG_HEAD: &str = "\
    map $connection_requests $counted {
        default 0;
        \"~^(?:[1-9]|10)$\" 1;
        \"~0$\" 10;
    }
    log_format figures '$app $upstream_addr $status $counted $upstream_response_time';
    access_log syslog:server=unix:DIR/log.sock,nohostname figures if=$counted;
";

/// Writes the configuration into `directory`: one virtual server for each host name.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    directory: &Path,
    bind: SocketAddr,
    workers: usize,
    hosts: &[String],
    servers: &[SocketAddr],
) -> io::Result<PathBuf> {
    let head = HEAD
        .replace("DIR", &directory.display().to_string())
        .replace("BIND", &bind.to_string())
        .replace("WORKERS", &workers.to_string());
    let log = LOG_HEAD.replace("DIR", &directory.display().to_string());
    let mut text = head + &log;
    read_log(directory)?;
    for (number, host) in hosts.iter().enumerate() {
        let _ = write!(
            text,
            "    upstream app_{number} {{\n{}        keepalive 64;\n        keepalive_requests 1000000;\n        \
             keepalive_timeout 4s;\n    }}\n    server {{\n        listen {bind};\n        server_name {host};\n        \
             set $app app_{number};\n        location / {{\n            proxy_pass http://app_{number};\n        \
             }}\n    }}\n",
            fixed(number, servers)
        );
    }
    text.push_str("}\n");
    let path = directory.join("nginx.conf");
    fs::write(&path, text)?;
    Ok(path)
}

/// Takes the log's lines for as long as this program runs.
fn read_log(directory: &Path) -> io::Result<()> {
    let path = directory.join("log.sock");
    let socket = UnixDatagram::bind(&path)?;
    // Workers are somebody else.
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    thread::spawn(move || {
        let mut line = [0; 4096];
        while socket.recv(&mut line).is_ok() {}
    });
    Ok(())
}

/// The servers of an `upstream`.
fn fixed(app: usize, servers: &[SocketAddr]) -> String {
    let mut text = format!("        zone app_{app} 128k;\n        least_conn;\n");
    for server in servers {
        let _ =
            writeln!(text, "        server {server} max_fails=2 fail_timeout=2s max_conns=512;");
    }
    text
}
