//! What happens to header fields on the way through (RFC 9110, 7.6.1, and RFC 9113, 8.2.3).

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use lb_core::balancer::is_claimed;

/// Fields that belong to one connection.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];
const KEEP_ALIVE: &str = "keep-alive";
const PROXY_CONNECTION: &str = "proxy-connection";
const HTTP2_SETTINGS: &str = "http2-settings";

/// Who asks, for the fields that tell the app.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) client: IpAddr,
    /// The host as the client named it, with its port.
    pub(crate) authority: Option<&'a HeaderValue>,
    /// The path prefix the app does not see; empty: it sees all.
    pub(crate) prefix: &'a str,
}

/// How many bytes fields are, as HTTP/1.1 writes them.
pub(crate) fn bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

/// The protocols a request asks to change to, where it may: not where one of them carries further requests, as
/// HTTP/2 in the clear (gone from the standard, RFC 9113, 3.1) and TLS inside HTTP (RFC 2817) do. Those would pass by
/// routes, limits and fields.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = tokens(headers, &header::CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"));
    let protocols: Vec<&str> = tokens(headers, &header::UPGRADE).collect();
    let may = asked && !protocols.is_empty() && !protocols.iter().any(|p| carries_requests(p));
    may.then(|| HeaderValue::try_from(protocols.join(", ")).ok()).flatten()
}

/// Whether what follows a change to this protocol is requests again.
pub(crate) fn carries_requests(protocol: &str) -> bool {
    let begins = |begin: &str| {
        protocol.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin))
    };
    ["h2", "http", "tls"].into_iter().any(begins)
}

/// Makes a client's fields fit for a server. What a client says of itself there is not believed.
pub(crate) fn to_server(
    headers: &mut HeaderMap,
    asker: Asker<'_>,
    upgrade: Option<HeaderValue>,
    sticky: Option<&str>,
) {
    // Both at once is how requests are smuggled: the framing is ours to write.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(header::EXPECT);
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    if let Some(authority) = asker.authority {
        headers.insert(header::HOST, authority.clone());
    }
    forwarded(headers, asker);
    cookies(headers, sticky);
}

/// Makes a server's fields fit for a client.
pub(crate) fn to_client(headers: &mut HeaderMap, upgraded: Option<HeaderValue>) {
    remove_hop_by_hop(headers);
    if let Some(protocol) = upgraded {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// The value of the client's cookie of this name.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    let mut pairs = pairs.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn forwarded(headers: &mut HeaderMap, asker: Asker<'_>) {
    let claims: Vec<HeaderName> =
        headers.keys().filter(|name| is_claimed(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    let mut set = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    let client = HeaderValue::from_str(&asker.client.to_string()).ok();
    set("x-forwarded-for", client.clone());
    set("x-real-ip", client);
    set("x-forwarded-proto", Some(HeaderValue::from_static("http")));
    let prefix = Some(asker.prefix).filter(|p| !p.is_empty());
    set("x-forwarded-prefix", prefix.and_then(|p| HeaderValue::from_str(p).ok()));
}

/// One field, without the sticky cookie: HTTP/2 clients may send several.
fn cookies(headers: &mut HeaderMap, sticky: Option<&str>) {
    let several = headers.get_all(header::COOKIE).iter().nth(1).is_some();
    if !headers.contains_key(header::COOKIE) || !(several || sticky.is_some()) {
        return;
    }
    let values = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes);
    let pairs = values.flat_map(|v| v.split(|b| *b == b';')).map(<[u8]>::trim_ascii);
    let theirs = |pair: &&[u8]| {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
        !pair.is_empty() && sticky.is_none_or(|ours| name != ours.as_bytes())
    };
    let joined = pairs.filter(theirs).collect::<Vec<_>>().join(&b"; "[..]);
    headers.remove(header::COOKIE);
    if let Ok(value) = HeaderValue::from_bytes(&joined)
        && !joined.is_empty()
    {
        headers.insert(header::COOKIE, value);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // Fields of the message itself are not the connection's, whatever it says.
            .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let each = fields.iter();
        each.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
        let each = headers.iter();
        let mut all: Vec<_> =
            each.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        all.sort();
        all
    }

    #[test]
    fn a_server_sees_what_is_true_and_nothing_of_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret-Hop, content-length"),
            ("x-secret-hop", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-user", "root"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
            ("cookie", "a=1; lb=0123"),
            ("cookie", "b=2"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let authority = HeaderValue::from_static("shop.test:8080");
        let client = Ipv4Addr::new(127, 0, 0, 9).into();
        let asker = Asker { client, authority: Some(&authority), prefix: "/cart" };
        to_server(&mut headers, asker, None, Some("lb"));
        let expected = map(&[
            ("accept", "*/*"),
            ("cookie", "a=1; b=2"),
            ("host", "shop.test:8080"),
            ("x-forwarded-for", "127.0.0.9"),
            ("x-forwarded-prefix", "/cart"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "127.0.0.9"),
        ]);
        assert_eq!(shown(&headers), shown(&expected));
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_fields() {
        let asks = |fields: &[_]| upgrade(&map(fields)).is_some();
        assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!asks(&[("upgrade", "websocket")]));
        assert!(!asks(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]));
        assert!(!asks(&[("connection", "upgrade"), ("upgrade", "websocket, TLS/1.0")]));
        assert!(!asks(&[("connection", "upgrade"), ("upgrade", " , ")]));
    }
}
