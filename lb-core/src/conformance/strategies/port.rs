//! Ports of apps, and the settings a port and a backend share.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::SBoxedStrategy;

use super::name::{certificate, cookie_name, domain_name, header_name, health_path, path_prefix};
use super::{count, millis};
use crate::model::{
    Balance, ByteSize, Check, Health, MAX_MEMORY, Port, PortLimits, Prefix, Protocol, RateLimit,
    Sticky, Timeouts,
};

/// 24 h, the longest of most times, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;
/// Largest of counts that have no bound of their own; no balancer takes a larger one.
const MANY: u32 = i32::MAX as u32;

/// A port of either protocol.
pub fn port() -> SBoxedStrategy<Port> {
    prop_oneof![3 => http_port(), 1 => tcp_port()].sboxed()
}

/// A port that speaks HTTP.
pub fn http_port() -> SBoxedStrategy<Port> {
    let place = (inside(), outside(), btree_set(domain_name(), 0..3), path_prefix(), prefix());
    let rules = (
        health(),
        balance(Protocol::Http),
        option::of(sticky()),
        option::weighted(0.2, certificate()),
        port_limits(Protocol::Http),
        timeouts(),
    );
    (place, rules)
        .prop_map(|((container, outside, hosts, path, prefix), rules)| {
            let (health, balance, sticky, tls, limits, timeouts) = rules;
            let port = Port::http(container);
            Port {
                outside,
                hosts,
                path,
                prefix,
                health,
                balance,
                sticky,
                tls,
                limits,
                timeouts,
                ..port
            }
        })
        .sboxed()
}

/// A port that carries a byte stream.
pub fn tcp_port() -> SBoxedStrategy<Port> {
    let rules = (
        health(),
        balance(Protocol::Tcp),
        option::weighted(0.2, certificate()),
        port_limits(Protocol::Tcp),
        timeouts(),
    );
    (inside(), outside(), rules)
        .prop_map(|(container, outside, (health, balance, tls, limits, timeouts))| {
            let hosts = BTreeSet::new();
            let port = Port::tcp(container);
            Port { outside, hosts, health, balance, tls, limits, timeouts, ..port }
        })
        .sboxed()
}

fn inside() -> SBoxedStrategy<NonZeroU16> {
    prop_oneof![Just(8080), 1..=u16::MAX].prop_map(nonzero).sboxed()
}

fn outside() -> SBoxedStrategy<Option<NonZeroU16>> {
    prop_oneof![Just(None), (80..83_u16).prop_map(Some), (1..=u16::MAX).prop_map(Some)]
        .prop_map(|port| port.map(nonzero))
        .sboxed()
}

fn nonzero(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap_or(NonZeroU16::MIN)
}

/// What happens to a path's prefix.
pub(super) fn prefix() -> SBoxedStrategy<Prefix> {
    prop_oneof![Just(Prefix::Kept), Just(Prefix::Stripped)].sboxed()
}

/// Stickiness by a cookie.
pub(super) fn sticky() -> SBoxedStrategy<Sticky> {
    cookie_name().prop_map(|cookie| Sticky { cookie }).sboxed()
}

/// Readiness checks: the default, then any.
pub fn health() -> SBoxedStrategy<Health> {
    let check = prop_oneof![Just(Check::Tcp), health_path().prop_map(Check::Http)];
    let time = || millis(10..=DAY);
    let any = (check, time(), time(), count(MANY), count(MANY), time()).prop_map(
        |(check, interval, timeout, rise, fall, replace_after)| Health {
            check,
            interval,
            timeout,
            rise,
            fall,
            replace_after,
        },
    );
    prop_oneof![Just(Health::default()), any].sboxed()
}

/// The algorithms that `protocol` allows.
pub fn balance(protocol: Protocol) -> SBoxedStrategy<Balance> {
    let any = prop_oneof![
        Just(Balance::LeastConnections),
        Just(Balance::RoundRobin),
        Just(Balance::RandomTwo),
        Just(Balance::SourceHash),
    ];
    match protocol {
        Protocol::Tcp => any.sboxed(),
        Protocol::Http => prop_oneof![
            4 => any,
            1 => Just(Balance::UriHash),
            1 => header_name().prop_map(Balance::HeaderHash),
        ]
        .sboxed(),
    }
}

/// Limits that `protocol` allows: the default (none), then any.
pub fn port_limits(protocol: Protocol) -> SBoxedStrategy<PortLimits> {
    let rate = (count(u32::MAX), millis(1000..=3_600_000))
        .prop_map(|(requests, window)| RateLimit { requests, window });
    let body = match protocol {
        Protocol::Http => option::of(prop_oneof![0..100_000_u64, any::<u64>()]).sboxed(),
        Protocol::Tcp => Just(None).sboxed(),
    };
    let any = (
        option::of(count(MANY)),
        millis(10..=DAY),
        option::of(rate),
        body,
        option::of(millis(10..=DAY)),
    )
        .prop_map(|(connections_per_instance, queue, rate, body, slow_start)| PortLimits {
            connections_per_instance,
            queue,
            rate,
            body: body.map(|bytes| ByteSize::new(bytes.min(MAX_MEMORY.get()))),
            slow_start,
        });
    prop_oneof![Just(PortLimits::default()), any].sboxed()
}

/// Times: the defaults, then any.
pub fn timeouts() -> SBoxedStrategy<Timeouts> {
    let time = || millis(10..=DAY);
    let any = [time(), time(), time(), time(), time(), time()].prop_map(
        |[connect, client, server, request, keep_alive, tunnel]| Timeouts {
            connect,
            client,
            server,
            request,
            keep_alive,
            tunnel,
        },
    );
    prop_oneof![Just(Timeouts::default()), any].sboxed()
}
