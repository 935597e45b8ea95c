#![forbid(unsafe_code)]
//! What the example programs share: a host to run on, and the demo app to run there.

mod image;
mod parts;
mod stage;

use std::error::Error;
use std::process::ExitCode;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

pub use self::image::IMAGE as DEMO_IMAGE;
pub use self::parts::{Balancer, Engine};
pub use self::stage::{DEMO_HOST, Stage, StageOptions};

/// What a program may fail by.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Serves the demo app if this process was started to be one (its first argument is `serve`), and says so.
///
/// The programs run themselves as the app, so that they need nothing but Rust.
///
/// # Errors
/// When the app cannot listen.
pub fn served() -> std::io::Result<bool> {
    let asked = std::env::args().nth(1).as_deref() == Some("serve");
    if asked {
        demo_app::run(demo_app::Config::from_env()?)?;
    }
    Ok(asked)
}

/// How a program ends: with its error in words for people, not as `main` shows one that it returns.
#[allow(clippy::print_stderr, reason = "the last words of a program for people")]
pub fn ended(result: Result<(), Failure>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Log lines on standard error, by `RUST_LOG` (`debug`, `lb_core=debug,warn`, ...); warnings by default.
pub fn log_to_stderr() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|wanted| wanted.parse().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(tracing::Level::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
