//! What a binary can do, found out from what it says of itself and what it takes: by programs that say what NGINX's
//! builds say and refuse what they refuse.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::script;
use lb_core::{ErrorKind, LoadBalancer, Membership};
use lb_nginx::NginxBalancer;
use lb_test_support::{Apps, free_port};
use tempfile::TempDir;

/// Debian's, whose stream module is a package of its own.
const DEBIAN: &str = "nginx version: nginx/VERSION
built with OpenSSL 3.0.20 7 Apr 2026 (running with OpenSSL 3.0.19 27 Jan 2026)
TLS SNI support enabled
configure arguments: --with-cc-opt='-g -O2 -fPIC -Wdate-time -D_FORTIFY_SOURCE=2' --prefix=/usr/share/nginx \
--conf-path=/etc/nginx/nginx.conf --modules-path=/usr/lib/nginx/modules --with-compat --with-debug --with-pcre-jit \
--with-http_ssl_module --with-http_v2_module --with-threads --with-http_geoip_module=dynamic --with-stream=dynamic";
/// The official image's.
const OFFICIAL: &str = "nginx version: nginx/VERSION
built by gcc 12.2.0 (Debian 12.2.0-14)
built with OpenSSL 3.0.15 3 Sep 2024
TLS SNI support enabled
configure arguments: --prefix=/etc/nginx --sbin-path=/usr/sbin/nginx --modules-path=/usr/lib/nginx/modules \
--conf-path=/etc/nginx/nginx.conf --user=nginx --group=nginx --with-compat --with-file-aio --with-threads \
--with-http_ssl_module --with-http_v2_module --with-http_v3_module --with-stream --with-stream_ssl_module";

/// Built without streams.
const BARE: &str = "nginx version: nginx/VERSION\nconfigure arguments: --prefix=/etc/nginx";

/// A balancer on such a binary. It takes any few lines but those that load a module, where it has none, and no
/// whole configuration.
fn on(dir: &TempDir, says: &str, version: &str, has_module: bool) -> NginxBalancer {
    let refuses = if has_module { "exit 0" } else { "! grep -q load_module \"$7\"" };
    let whole = "[ -e \"$5/lb_http.conf\" ] && echo '[emerg] whole' && exit 1";
    let text = format!(
        "case \"$*\" in -V) cat <<'END'; exit;; esac\n{}\nEND\n{whole}\n{refuses}",
        says.replace("VERSION", version)
    );
    let program = script(dir.path(), "nginx", &text);
    NginxBalancer::builder(dir.path().join("lb")).as_process(program).build().unwrap()
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("lbn").tempdir_in("/tmp").unwrap()
}

#[tokio::test]
async fn each_binary_is_used_the_best_way_it_has() {
    use Membership::{GentleReload, Reload};
    for (says, version, way) in [
        (DEBIAN, "1.22.1", Reload),
        (OFFICIAL, "1.22.1", Reload),
        (OFFICIAL, "1.27.3", Reload),
        (OFFICIAL, "1.27.4", GentleReload),
        (DEBIAN, "1.28.0", GentleReload),
        (OFFICIAL, "1.30.6", GentleReload),
        // Nobody knows it yet.
        (OFFICIAL, "1.99.0", GentleReload),
        (OFFICIAL, "2.0.0", GentleReload),
    ] {
        let info = on(&directory(), says, version, true).describe().await.unwrap();
        assert_eq!((info.version.as_str(), info.membership), (version, way));
        assert!(!info.servers_without_reload, "{version}");
    }
}

#[tokio::test]
async fn streams_are_passed_on_where_they_are_built_in_or_can_be_loaded() {
    for (says, has_module, streams) in
        [(OFFICIAL, false, true), (DEBIAN, true, true), (DEBIAN, false, false), (BARE, true, false)]
    {
        let dir = directory();
        let raw = Apps::new().tcp(free_port(), "mail");
        let error = on(&dir, says, "1.28.3", has_module).apply(&raw.0).await.unwrap_err();
        let why = if streams { "[emerg] whole" } else { "no stream module" };
        assert!(error.to_string().contains(why), "{says}: {error}");
    }
}

#[tokio::test]
async fn a_binary_that_is_too_old_is_refused() {
    let error = on(&directory(), OFFICIAL, "1.21.6", true).describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("is 1.21.6: must be 1.22.0 or later"), "{error}");
}
