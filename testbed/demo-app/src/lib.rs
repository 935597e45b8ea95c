//! A small HTTP and TCP application to balance: for examples, tests and measurements.
//!
//! It is set by environment variables alone ([`Config::from_env`]), as a container or as a process.
//! Every HTTP answer carries `x-instance`, `x-version` and `x-listening-since-us`, the Unix time in
//! microseconds at which its listener was bound: from it follows how long an instance was listening
//! before its first request came.
//!
//! | path | answer |
//! |---|---|
//! | `/` | 200, after [`Config::work`] of CPU time |
//! | `/healthz` | 200 |
//! | `/slow?ms=N` | 200 after N ms |
//! | `POST /echo` | the request's body, up to [`MAX_BODY`] |
//! | `/headers` | the request line and the headers, as they arrived here |
//! | `/burn?ms=N` | 200 after N ms of CPU time |
//! | `/bytes?n=N` | N bytes, up to [`MAX_BYTES`] |
//! | `/fail?status=N` | status N |
//! | `/hang` | never |
//! | `/crash` | none: the process aborts |
//! | `/hog?mib=N` | 200 once N MiB are held for good, up to [`MAX_HOG`] |
//! | `/ws` | websocket handshake (RFC 6455, section 4.2.2), then every byte back |
//!
//! Until [`Config::ready_delay`] has passed every path answers 503, so that a balancer that sends
//! requests to an instance before it is ready is caught. Its life is told on standard error, a line
//! each for `starting`, `listening` and `stopping`.
#![forbid(unsafe_code)]

mod body;
mod burn;
mod config;
mod http;
mod server;
mod stop;
mod websocket;

pub use body::MAX_BYTES;
pub use config::{Config, Stop};
pub use http::{MAX_BODY, MAX_HOG};
pub use server::App;

use std::io::{self, Write as _};
use std::time::Duration;

/// Serves as `config` says, until the process is told to stop (SIGTERM or SIGINT).
///
/// With [`Stop::AtOnce`] it returns with requests still running on the runtime; [`run`] cuts them off.
///
/// # Errors
/// When an address cannot be bound.
pub async fn serve(config: Config) -> io::Result<()> {
    // Before the start delay: as process 1 of a container, a signal without a handler is ignored.
    let stop = stop::listen()?;
    tokio::pin!(stop);
    log(&format!("starting instance={} version={}", config.instance, config.version));
    let app = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        app = App::bind(config) => app?,
    };
    log(&format!("listening http={:?} tcp={:?}", app.http_address(), app.tcp_address()));
    app.serve_until(stop).await;
    log("stopping");
    Ok(())
}

/// The whole program: [`serve`] on a runtime of its own, dropped at once at the end. It fails by itself where it is
/// told to ([`Config::exit_after`]).
///
/// # Errors
/// As [`serve`].
pub fn run(config: Config) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match config.exit_after {
        Some(Duration::ZERO) => fail(config.exit_code),
        Some(after) => {
            runtime.spawn(async move {
                tokio::time::sleep(after).await;
                fail(config.exit_code);
            });
        }
        None => {}
    }
    let end = runtime.block_on(serve(config));
    runtime.shutdown_background();
    end
}

fn fail(code: i32) {
    log(&format!("failing as told, with {code}"));
    std::process::exit(code);
}

fn log(line: &str) {
    // A closed standard error is no reason to stop serving.
    let _ = writeln!(io::stderr(), "demo-app: {line}");
}
