#![forbid(unsafe_code)]
//! What the example programs share: a host to run on, and the demo app to run there.

mod image;
mod parts;
mod stage;

use std::error::Error;
use std::process::ExitCode;

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

/// Log lines on standard error, by `RUST_LOG`; warnings by default.
pub fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The README's program is compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
