//! The balancer's own lines: those before the renderer's text, and those it includes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lb_core::{Backend, BackendName, Balance, RoutingTable};

use super::abilities::Abilities;
use super::compose::{Ground, LOG_SOCKET, NONE_SOCKET, STATUS_SOCKET, TEMPORARY};
use crate::layout;

/// How long a client's idle connection outlives a reload where NGINX can keep it (1.27.4).
pub(super) const KEPT_IDLE: Duration = Duration::from_secs(10);
/// Bytes of a message's head beside its header fields: the first line.
const BESIDE_HEADERS: u32 = 16 << 10;
/// File descriptors beside connections.
const OVERHEAD: u32 = 256;

/// What the main block says beside the table.
#[derive(Debug, Clone)]
pub(crate) struct MainSettings {
    /// How long an old worker may live.
    pub hard_stop_after: Duration,
    /// How many workers.
    pub workers: u32,
    /// Connections of each worker, both sides counted.
    pub connections: u32,
    /// Most bytes of header fields.
    pub header_bytes: u32,
}

/// Lines of the main block, before the renderer's text. `user` is whom workers run as.
pub(crate) fn main_lines(
    settings: &MainSettings,
    abilities: &Abilities,
    user: Option<&str>,
) -> String {
    let mut text = String::new();
    for module in &abilities.modules {
        let _ = writeln!(text, "load_module {};", module.display());
    }
    if let Some(user) = user {
        let _ = writeln!(text, "user {user};");
    }
    let MainSettings { hard_stop_after, workers, connections, .. } = settings;
    let _ = write!(
        text,
        "daemon off;\npid nginx.pid;\nerror_log stderr emerg;\nworker_processes {workers};\n\
         worker_rlimit_nofile {};\nworker_shutdown_timeout {}ms;\npcre_jit on;\n\
         events {{\n    worker_connections {connections};\n}}\n",
        connections + OVERHEAD,
        hard_stop_after.as_millis(),
    );
    text
}

/// Lines of `http` that say where temporary files go: NGINX's own places may not be writable.
pub(crate) fn temporary_paths(dir: &Path, kinds: &[&str]) -> String {
    let at = |kind: &str| format!("{}/{TEMPORARY}/{kind}", dir.display());
    let mut text = format!("    client_body_temp_path {};\n", at("body"));
    for kind in kinds {
        let _ = writeln!(text, "    {kind}_temp_path {};", at(kind));
    }
    text
}

/// Lines of `http` that bound header fields. A request's first lines have a buffer of their own, and all others, one of
/// them or many, the other; an answer's head has one.
fn header_lines(bytes: u32) -> String {
    let whole = bytes + BESIDE_HEADERS;
    format!(
        "    client_header_buffer_size {BESIDE_HEADERS};\n    large_client_header_buffers 1 {bytes};\n    \
         proxy_buffer_size {whole};\n    proxy_buffers 4 {whole};\n"
    )
}

/// Lines of `http` for this table. `mark` goes where the status server says it.
pub(crate) fn http_lines(ground: Ground<'_>, table: &RoutingTable, mark: &str) -> String {
    let Ground { dir, settings, abilities, .. } = ground;
    let dir_text = dir.display();
    let mut text = temporary_paths(dir, &abilities.temporary);
    text.push_str(&header_lines(settings.header_bytes));
    if abilities.version.reloads_gently() {
        let _ = writeln!(text, "    keepalive_min_timeout {}s;", KEPT_IDLE.as_secs());
    }
    text.push_str(&log_lines(dir));
    text.push_str(&hash_maps(table));
    let _ = write!(
        text,
        "    server {{\n        listen unix:{dir_text}/{STATUS_SOCKET};\n        access_log off;\n        \
         location = /status {{\n            return 200 \"mark {mark}\\npid $pid\\n\";\n        }}\n    }}\n    \
         server {{\n        listen unix:{dir_text}/{NONE_SOCKET};\n        \
         access_log off;\n        set $lb_backend \"\";\n        set $lb_strip \"\";\n        \
         location / {{\n            return 503;\n        }}\n    }}\n"
    );
    text
}

/// One line for each of a connection's first ten requests, then one that counts for ten at every tenth. Each
/// look at a request costs as much as a hundredth of it: there is one.
fn log_lines(dir: &Path) -> String {
    format!(
        r#"    map $connection_requests $lb_counted {{
        default 0;
        1 1;
        2 1;
        3 1;
        4 1;
        5 1;
        6 1;
        7 1;
        8 1;
        9 1;
        10 1;
        "~0$" 10;
    }}
    log_format lb escape=json '{{"backend":"$lb_backend","server":"$upstream_addr","status":"$status","requests":"$lb_counted","seconds":"$upstream_response_time"}}';
    access_log syslog:server=unix:{}/{LOG_SOCKET},nohostname,tag=lb lb if=$lb_counted;
"#,
        dir.display()
    )
}

/// Lines of `stream`.
pub(crate) fn stream_lines(dir: &Path) -> String {
    format!(
        r#"    log_format lb escape=json '{{"port":"$server_port","server":"$upstream_addr","status":"$status","requests":"1","seconds":""}}';
    access_log syslog:server=unix:{}/{LOG_SOCKET},nohostname,tag=lb lb;
    proxy_socket_keepalive on;
    proxy_half_close on;
    tcp_nodelay on;
"#,
        dir.display()
    )
}

/// Backends whose hash needs a map, with its number: by cookie, or by a header that may be missing.
pub(crate) fn hashed(
    table: &RoutingTable,
) -> impl Iterator<Item = (usize, &BackendName, &Backend)> {
    let needs = |b: &Backend| b.sticky.is_some() || matches!(b.balance, Balance::HeaderHash(_));
    let backends = table.backends.iter().filter(move |(_, b)| needs(b));
    (1..).zip(backends).map(|(n, (name, b))| (n, name, &**b))
}

/// A cookie holds a client's own number, drawn when it first came; without the header requests are spread by
/// such numbers too.
fn hash_maps(table: &RoutingTable) -> String {
    let (mut text, mut cookies) = (String::new(), String::new());
    for (n, name, backend) in hashed(table) {
        if let Some(sticky) = &backend.sticky {
            let cookie = &sticky.cookie;
            let _ = write!(
                text,
                "    map $http_cookie $lb_hash_{n} {{\n        default $request_id;\n        \
                 \"~(?:^|; *){cookie}=(?<lb_client_{n}>[^;]+)\" $lb_client_{n};\n    }}\n    \
                 map $http_cookie $lb_cookie_{n} {{\n        \
                 default \"{cookie}=$request_id; Path=/; HttpOnly; SameSite=Lax$lb_secure\";\n        \
                 \"~(?:^|; *){cookie}=[^;]\" \"\";\n    }}\n"
            );
            let _ = writeln!(cookies, "        {} $lb_cookie_{n};", layout::map_key(name));
        } else if let Balance::HeaderHash(header) = &backend.balance {
            let variable = header.as_str().replace('-', "_");
            let _ = write!(
                text,
                "    map $http_{variable} $lb_hash_{n} {{\n        default $http_{variable};\n        \
                 \"\" $request_id;\n    }}\n"
            );
        }
    }
    if !cookies.is_empty() {
        let _ = write!(
            text,
            "    map $https $lb_secure {{\n        default \"; Secure\";\n        \"\" \"\";\n    }}\n    \
             map $lb_backend $lb_set_cookie {{\n        default \"\";\n{cookies}    }}\n    \
             add_header Set-Cookie $lb_set_cookie always;\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_core::{AppName, CookieName, Protocol, Sticky};

    use super::*;

    #[test]
    fn a_sticky_backend_may_be_called_as_a_parameter_of_maps_is() {
        let mut backend = Backend::new(AppName::new("shop").unwrap(), Protocol::Http);
        backend.sticky = Some(Sticky { cookie: CookieName::new("LB").unwrap() });
        let mut table = RoutingTable::default();
        table.backends.insert(BackendName::new("default").unwrap(), Arc::new(backend));
        let maps = hash_maps(&table);
        assert!(maps.contains("        \\default $lb_cookie_1;\n"), "{maps}");
    }
}
