#![forbid(unsafe_code)]
//! What several fuzz targets use.

pub mod given;
pub mod haproxy;
pub mod nginx;
#[path = "../../lb-core/tests/plan_sim/mod.rs"]
pub mod plan_sim;

use std::collections::btree_map::Entry;

use lb_core::{CertificatePem, RoutingTable};
use proptest::prelude::*;
use proptest::strategy::{SBoxedStrategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Bytes that seed one value.
const SEED: usize = 4;
/// Most tables that are joined to one.
const MOST_TABLES: usize = 4;

/// The value a strategy makes of this seed, of which 32 bytes count.
///
/// Not proptest's `PassThrough`, which takes bytes as they are: it gives half of what is left to every choice
/// that might still shrink, so that few of the bytes decide anything.
pub fn drawn<S: Strategy>(strategy: &S, seed: &[u8]) -> Option<S::Value> {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(seed).for_each(|(to, from)| *to = *from);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    Some(strategy.new_tree(&mut runner).ok()?.current())
}

/// A value for each few bytes: what libFuzzer inserts, removes or changes is a value of its own.
pub fn all_drawn<S: Strategy>(strategy: &S, data: &[u8]) -> impl Iterator<Item = S::Value> {
    data.chunks(SEED).filter_map(move |seed| drawn(strategy, seed))
}

/// A table, joined of those that were drawn: of two parts of one name the first stays.
pub fn joined_tables(strategy: &SBoxedStrategy<RoutingTable>, data: &[u8]) -> Option<RoutingTable> {
    let mut tables = all_drawn(strategy, data).take(MOST_TABLES);
    let mut whole = tables.next()?;
    for table in tables {
        for (name, backend) in table.backends {
            whole.backends.entry(name).or_insert(backend);
        }
        for (port, listener) in table.listeners {
            if let Entry::Vacant(free) = whole.listeners.entry(port) {
                free.insert(listener);
                // It may lead to a backend of the same name and another protocol.
                if whole.check().is_err() {
                    whole.listeners.remove(&port);
                }
            }
        }
    }
    Some(whole)
}

/// Certificates that can be loaded: NGINX chooses among them by the names in them.
pub fn real_certificate() -> SBoxedStrategy<CertificatePem> {
    let [shop, b] = [
        include_str!("../../testbed/support/data/shop.pem"),
        include_str!("../../testbed/support/data/b.pem"),
    ]
    .map(|pem| Just(CertificatePem::new(pem).expect("a certificate")));
    prop_oneof![shop, b].sboxed()
}

/// Splits off the first byte, which chooses what the rest is taken for.
pub fn choice(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

/// An error as a log shows it: one line, bounded, and nothing in it that could pass for another line.
pub fn check_message(error: &dyn std::error::Error) {
    const MOST: usize = 4096;
    let text = error.to_string();
    assert!(text.len() <= MOST, "a message of {} bytes", text.len());
    let odd = text.chars().find(|c| c.is_control());
    assert!(odd.is_none(), "a message with {odd:?}: {text:?}");
}
