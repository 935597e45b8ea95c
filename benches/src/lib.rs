#![forbid(unsafe_code)]
//! What the measuring programs share. Each program prints one JSON line on standard output and everything
//! else on standard error.

pub mod hand_tuned;
pub mod process;
pub mod stats;
pub mod wrk;
