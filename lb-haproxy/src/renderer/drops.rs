//! The fields of a client's request that end at the balancer.

use std::collections::BTreeMap;

use lb_core::balancer::CLAIMED_FIELDS;

/// Fields of one connection (RFC 9110, 7.6.1); what is left of a change of protocols is written anew.
const BETWEEN_TWO: [&str; 7] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];

/// A regular expression for their names, and those by which a client claims what a proxy knows
/// ([`is_claimed`](lb_core::balancer::is_claimed)), in lower case as HAProxy keeps them. Names are grouped by their
/// first letter, by which most are told from others.
pub(super) fn dropped() -> String {
    let by_pattern = |name: &&str| name.starts_with("x-forwarded") || name.ends_with("client-ip");
    let named = CLAIMED_FIELDS.into_iter().filter(|name| !by_pattern(name));
    let mut groups = BTreeMap::<&str, Vec<&str>>::new();
    for name in named.chain(BETWEEN_TWO) {
        let (first, rest) = name.split_at(1);
        groups.entry(first).or_default().push(rest);
    }
    let group = |(first, rest): (&str, Vec<&str>)| format!("{first}({})", rest.join("|"));
    let groups: Vec<String> = groups.into_iter().map(group).collect();
    format!("^([^_]*_|x-forwarded|({}|.*client-ip)$)", groups.join("|"))
}
