//! What a binary can do, found out from what it says of itself and what it takes: by programs that say what NGINX's
//! builds say and refuse what they refuse.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::script;
use lb_core::{ErrorKind, LoadBalancer, Membership};
use lb_nginx::{NginxBalancer, NginxBalancerBuilder};
use tempfile::TempDir;

/// Debian 12's, whose Lua module is a package of its own.
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

/// A balancer on such a binary. It takes any configuration; one with Lua only where it has it.
fn on(dir: &TempDir, says: &str, version: &str, has_lua: bool) -> NginxBalancerBuilder {
    let refuses = if has_lua { "exit 0" } else { "! grep -q lua \"$7\"" };
    let text = format!(
        "case \"$*\" in -V) cat <<'END'; exit;; esac\n{}\nEND\n{refuses}",
        says.replace("VERSION", version)
    );
    let program = script(dir.path(), "nginx", &text);
    NginxBalancer::builder(dir.path().join("lb")).as_process(program)
}

#[tokio::test]
async fn each_binary_is_used_the_best_way_it_has() {
    use Membership::{GentleReload, Reload, RunTimeHttp};
    for (says, version, has_lua, with, without) in [
        (DEBIAN, "1.22.1", true, RunTimeHttp, Reload),
        (DEBIAN, "1.22.1", false, Reload, Reload),
        (OFFICIAL, "1.22.1", false, Reload, Reload),
        (OFFICIAL, "1.27.3", false, Reload, Reload),
        (OFFICIAL, "1.27.4", false, GentleReload, GentleReload),
        (OFFICIAL, "1.28.0", false, GentleReload, GentleReload),
        (OFFICIAL, "1.28.0", true, RunTimeHttp, GentleReload),
        (OFFICIAL, "1.30.0", false, GentleReload, GentleReload),
    ] {
        let dir = tempfile::Builder::new().prefix("lbn").tempdir_in("/tmp").unwrap();
        let info = on(&dir, says, version, has_lua).build().unwrap().describe().await.unwrap();
        assert_eq!((info.version.as_str(), info.membership), (version, with), "Lua: {has_lua}");
        assert_eq!(info.servers_without_reload, with == RunTimeHttp);
        let by_reload = on(&dir, says, version, has_lua).without_lua().build().unwrap();
        assert_eq!(by_reload.describe().await.unwrap().membership, without, "{version}");
    }
}

#[tokio::test]
async fn a_binary_that_is_too_old_is_refused() {
    let dir = tempfile::Builder::new().prefix("lbn").tempdir_in("/tmp").unwrap();
    let old = on(&dir, OFFICIAL, "1.21.6", true).build().unwrap();
    let error = old.describe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("is 1.21.6: must be 1.22 or later"), "{error}");
}
