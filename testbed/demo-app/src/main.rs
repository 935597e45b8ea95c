//! The demo app as a program of its own; see the library for what it serves.
#![forbid(unsafe_code)]

fn main() -> std::io::Result<()> {
    demo_app::run(demo_app::Config::from_env()?)
}
