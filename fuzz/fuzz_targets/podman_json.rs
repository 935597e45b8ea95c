#![no_main]
//! What Podman may answer, as JSON, by the first byte. No panic; the core's rules make of it what is ours and
//! whole, and touch nothing else.

use lb_fuzz::{choice, given};
use lb_podman::fuzzing;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let Ok(answer) = serde_json::from_slice::<Value>(rest) else { return };
    match first % 8 {
        0 => listed(&answer),
        1 => drop(fuzzing::seen(&answer).map(given::inspected)),
        2 => given::network(fuzzing::seen_network(&answer)),
        3 => drop(fuzzing::seen_image(&answer).map(|image| given::image(Some(image), Vec::new()))),
        4 => {
            let lines: Result<Vec<_>, _> =
                answer.as_array().into_iter().flatten().map(fuzzing::pull_line).collect();
            if let Ok(lines) = lines {
                given::image(None, lines);
            }
        }
        5 => drop(fuzzing::hint(&answer)),
        6 => given::usage(fuzzing::usage(&answer)),
        _ => {
            let id = fuzzing::created(&answer);
            assert_eq!(id.ok().as_deref(), answer.get("Id").and_then(Value::as_str));
            assert_eq!(fuzzing::engine_info(&answer).name, "podman");
        }
    }
});

/// `[LIST, INSPECTED, STATISTICS]`.
fn listed(answer: &Value) {
    let at = |n: usize| answer.get(n).unwrap_or(&Value::Null);
    if let Ok(list) = fuzzing::summaries(at(0)) {
        given::listed(list, fuzzing::seen(at(1)).ok(), fuzzing::usage(at(2)));
    }
}
