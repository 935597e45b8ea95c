#![no_main]
//! What Docker Engine may answer, as JSON, by the first byte; and the kernel's routes, which are read beside it.
//! No panic; the core's rules make of it what is ours and whole, and touch nothing else.

use lb_docker::fuzzing::{self, models};
use lb_fuzz::{choice, given};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    match first % 8 {
        0 => read(rest, |(list, seen, stats)| listed(list, seen, &stats)),
        1 => read(rest, |seen| drop(fuzzing::seen(seen).map(given::inspected))),
        2 => read(rest, |network| given::network(fuzzing::seen_network(network))),
        3 => read(rest, |image| {
            drop(fuzzing::seen_image(image).map(|image| given::image(Some(image), Vec::new())));
        }),
        4 => read(rest, |lines: Vec<models::CreateImageInfo>| {
            given::image(None, lines.into_iter().map(fuzzing::pull_line).collect());
        }),
        5 => read(rest, |event| drop(fuzzing::hint(&event))),
        6 => read(rest, |stats| given::usage(fuzzing::usage(&stats))),
        _ => given::routes(&String::from_utf8_lossy(rest)),
    }
});

fn read<T: DeserializeOwned>(json: &[u8], convert: impl FnOnce(T)) {
    if let Ok(answer) = serde_json::from_slice(json) {
        convert(answer);
    }
}

fn listed(
    list: Vec<models::ContainerSummary>,
    seen: models::ContainerInspectResponse,
    stats: &models::ContainerStatsResponse,
) {
    let list = list.into_iter().filter_map(fuzzing::summary).collect();
    given::listed(list, fuzzing::seen(seen).ok(), fuzzing::usage(stats));
}
