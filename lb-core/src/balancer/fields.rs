//! Header fields: how many a balancer takes, and those by which a proxy tells an app who asks, where a client's own are
//! not believed.

use crate::error::{Error, Result};
use crate::model::ByteSize;

/// Most bytes of header fields of a request, and of an answer, unless a balancer is told otherwise: 16 KiB. A request
/// with more gets 431, or 400 where the balancer cannot tell; an answer with more is a 502.
pub const HEADER_BYTES: ByteSize = ByteSize::new(16 << 10);

/// Most header fields of a request, and of an answer.
pub const HEADER_FIELDS: u32 = 1_000;

/// Holds a bound on header fields to 8 KiB to 1 MiB; how many bytes it is.
///
/// # Errors
/// `Invalid` naming `header_bytes`.
pub fn checked_header_bytes(bytes: ByteSize) -> Result<u32> {
    match u32::try_from(bytes.get()) {
        Ok(most) if (8 << 10..=1 << 20).contains(&most) => Ok(most),
        _ => Err(Error::invalid("header_bytes", "must be 8 KiB to 1 MiB")),
    }
}

/// Names of such fields that apps, their frameworks and libraries believe, in lower case and in order. Every balancer
/// drops a client's; it says `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-prefix` and `x-real-ip` itself.
///
/// Fields whose name holds a `_` are dropped all: CGI, WSGI and PHP read them as those with a `-`. Where a balancer
/// can go by part of a name, it does ([`is_claimed`]). `proxy` names no client, but becomes the proxy an app's own
/// requests take (httpoxy.org).
pub const CLAIMED_FIELDS: [&str; 59] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "proxy",
    "proxy-client-ip",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-forwarded-access-token",
    "x-forwarded-by",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-for",
    "x-forwarded-groups",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-preferred-username",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-forwarded-uri",
    "x-forwarded-user",
    "x-http-host-override",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-remote-addr",
    "x-original-uri",
    "x-original-url",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-true-client-ip",
    "x-url-scheme",
    "x-user-ip",
];

/// Whether a client's field of this name (in lower case) is dropped: one of [`CLAIMED_FIELDS`], any that begins with
/// `x-forwarded` or ends with `client-ip`, and any with a `_`.
pub fn is_claimed(name: &str) -> bool {
    name.starts_with("x-forwarded")
        || name.ends_with("client-ip")
        || name.contains('_')
        || CLAIMED_FIELDS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_bounded_and_the_list_is_in_order_and_what_it_names_claimed() {
        assert!(CLAIMED_FIELDS.is_sorted());
        assert!(CLAIMED_FIELDS.iter().all(|name| is_claimed(name)));
        assert!(
            ["x-forwarded-anything", "x-any-client-ip", "x_real_ip", "http_proxy"]
                .into_iter()
                .all(is_claimed)
        );
        assert!(checked_header_bytes(HEADER_BYTES).is_ok());
        assert!(checked_header_bytes(ByteSize::new((8 << 10) - 1)).is_err());
        assert!(checked_header_bytes(ByteSize::new((1 << 20) + 1)).is_err());
        assert!(!["host", "x-request-id", "via", "x-client-version"].into_iter().any(is_claimed));
    }
}
