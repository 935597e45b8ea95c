#![no_main]
//! What NGINX and its files may say, by the first byte: the status server, log lines,
//! `nginx -V`, complaints of a check, the files in force, and the kernel's table of sockets. No panic; what is
//! accepted holds what callers lean on.

use lb_fuzz::choice;
use lb_nginx::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let text = String::from_utf8_lossy(rest);
    match first % 6 {
        0 => fuzzing::status(&text),
        1 => fuzzing::log_line(rest),
        2 => fuzzing::version(&text),
        3 => fuzzing::complaint(&text),
        4 => fuzzing::filed(&text),
        _ => fuzzing::connection(&text),
    }
});
