#![no_main]
//! What HAProxy may answer, by the first byte: tables of statistics and processes, `show info`, sessions,
//! replies to commands, and lines of its file. No panic; what is accepted holds what callers lean on.

use lb_fuzz::choice;
use lb_haproxy::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let text = String::from_utf8_lossy(rest);
    match first % 6 {
        0 => fuzzing::show_stat(&text),
        1 => fuzzing::show_info(&text),
        2 => fuzzing::show_proc(&text),
        3 => fuzzing::show_sess(&text),
        4 => fuzzing::replies(&text),
        _ => fuzzing::server_line(&text),
    }
});
