//! Who gets a request: by host name and path, as `lb_core::Listener::Http` says.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lb_core::{Prefix, Route};

/// The routes of a listener, ready for lookup. `T` is what a route leads to.
#[derive(Debug)]
pub(crate) struct Router<T> {
    exact: BTreeMap<String, Paths<T>>,
    wildcard: BTreeMap<String, Paths<T>>,
    any: Paths<T>,
}

type Paths<T> = BTreeMap<String, Target<T>>;

#[derive(Debug, Clone)]
struct Target<T> {
    to: T,
    prefix: Prefix,
}

/// What a lookup found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'r, 'p, T> {
    pub(crate) to: &'r T,
    /// The path the app is to see.
    pub(crate) path: &'p str,
    /// What was taken off it; empty: nothing.
    pub(crate) stripped: &'p str,
}

impl<T> Router<T> {
    /// Routes whose backend `leads_to` does not know are left out.
    pub(crate) fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        leads_to: impl Fn(&Route) -> Option<T>,
    ) -> Self {
        let mut router =
            Self { exact: BTreeMap::new(), wildcard: BTreeMap::new(), any: BTreeMap::new() };
        for route in routes {
            let Some(to) = leads_to(route) else { continue };
            let paths = match route.host.as_ref().map(|h| (h, h.wildcard_base())) {
                None => &mut router.any,
                Some((_, Some(base))) => router.wildcard.entry(base.to_owned()).or_default(),
                Some((host, None)) => router.exact.entry(host.to_string()).or_default(),
            };
            paths.insert(route.path.to_string(), Target { to, prefix: route.prefix });
        }
        router
    }

    /// Looks up a host name and a path, both normalised.
    pub(crate) fn find<'r, 'p>(&'r self, host: &str, path: &'p str) -> Option<Found<'r, 'p, T>> {
        let exact = self.exact.get(host);
        let base = host.split_once('.').map(|(_, base)| base);
        let wildcard = || base.and_then(|base| self.wildcard.get(base));
        exact
            .and_then(|paths| longest(paths, path))
            .or_else(|| wildcard().and_then(|paths| longest(paths, path)))
            .or_else(|| longest(&self.any, path))
    }
}

/// The longest prefix in whole segments: the path itself, then with its last segment taken off, and so on.
fn longest<'r, 'p, T>(paths: &'r Paths<T>, path: &'p str) -> Option<Found<'r, 'p, T>> {
    let mut prefix = path.trim_end_matches('/');
    loop {
        let key = if prefix.is_empty() { "/" } else { prefix };
        if let Some(target) = paths.get(key) {
            let (stripped, path) = match target.prefix {
                Prefix::Kept => ("", path),
                Prefix::Stripped => path.split_at(prefix.len()),
            };
            let path = if path.is_empty() { "/" } else { path };
            return Some(Found { to: &target.to, path, stripped });
        }
        prefix = &prefix[..prefix.rfind('/')?];
    }
}

/// A `Host` or `:authority` as routes know it: lower case, without port and final dot.
pub(crate) fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').map_or(authority, |end| &authority[..end + 2]),
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// A path without dot segments, unreserved characters decoded (RFC 3986, 6.2.2.2 and 6.2.2.3): what
/// routes are looked up by, and what the app sees, so that both read it alike. None where a `%` begins no code:
/// nobody can know how the app would read that.
pub(crate) fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let plain = !path.contains('%') && !path.contains("/.");
    if plain || !path.starts_with('/') {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    let mut kept: Vec<&str> = Vec::new();
    for segment in decoded[1..].split('/') {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if decoded.ends_with("/.") || decoded.ends_with("/..") {
        kept.push("");
    }
    Some(Cow::Owned(format!("/{}", kept.join("/"))))
}

fn decode_unreserved(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (code, further) = after.split_at_checked(2)?;
        if !code.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(code, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(["%", code]);
        }
        rest = further;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use lb_core::{BackendName, DomainName, PathPrefix};

    use super::*;

    fn route(host: &str, path: &str, prefix: Prefix, to: &str) -> Route {
        Route {
            host: (!host.is_empty()).then(|| DomainName::new(host).unwrap()),
            path: PathPrefix::new(path).unwrap(),
            prefix,
            backend: BackendName::new(to).unwrap(),
        }
    }

    fn router() -> Router<String> {
        let routes = [
            route("", "/", Prefix::Kept, "any"),
            route("", "/everywhere", Prefix::Kept, "any-everywhere"),
            route("shop.test", "/", Prefix::Kept, "shop"),
            route("shop.test", "/cart", Prefix::Kept, "cart"),
            route("shop.test", "/cart/v2", Prefix::Stripped, "cart2"),
            route("shop.test", "/admin", Prefix::Stripped, "admin"),
            route("only.test", "/api", Prefix::Kept, "api"),
            route("*.shop.test", "/", Prefix::Kept, "tenant"),
            route("eu.shop.test", "/pay", Prefix::Kept, "eu"),
        ];
        Router::new(&routes, |r| Some(r.backend.to_string()))
    }

    #[test]
    fn precedence() {
        let table = [
            ("shop.test", "/", "shop", "/"),
            ("shop.test", "/cart", "cart", "/cart"),
            ("shop.test", "/cart/", "cart", "/cart/"),
            ("shop.test", "/cart/list", "cart", "/cart/list"),
            ("shop.test", "/cartoon", "shop", "/cartoon"),
            ("shop.test", "/Cart", "shop", "/Cart"),
            ("shop.test", "/cart/v2", "cart2", "/"),
            ("shop.test", "/cart/v2/", "cart2", "/"),
            ("shop.test", "/cart/v2/x/y", "cart2", "/x/y"),
            ("shop.test", "/cart/v22", "cart", "/cart/v22"),
            ("shop.test", "/cart/../admin", "admin", "/"),
            ("shop.test", "/cart/%2e%2E/admin/u", "admin", "/u"),
            ("shop.test", "/./cart//v2", "cart", "/cart//v2"),
            ("shop.test", "//cart", "shop", "//cart"),
            ("shop.test", "/../../cart", "cart", "/cart"),
            ("shop.test", "/%63art", "cart", "/cart"),
            ("shop.test", "/cart%2Fv2", "shop", "/cart%2Fv2"),
            ("SHOP.test:8080", "/cart", "cart", "/cart"),
            ("shop.test.", "/cart", "cart", "/cart"),
            ("shop.test.:80", "/cart", "cart", "/cart"),
            ("a.shop.test", "/cart", "tenant", "/cart"),
            ("b.a.shop.test", "/cart", "any", "/cart"),
            ("eu.shop.test", "/pay/now", "eu", "/pay/now"),
            ("eu.shop.test", "/cart", "tenant", "/cart"),
            ("only.test", "/api/1", "api", "/api/1"),
            ("only.test", "/other", "any", "/other"),
            ("only.test", "/everywhere/x", "any-everywhere", "/everywhere/x"),
            ("[::1]:80", "/", "any", "/"),
            ("", "/", "any", "/"),
        ];
        let router = router();
        for (host, path, to, sees) in table {
            let path_seen = normalise(path).unwrap();
            let found = router.find(&host_of(host), &path_seen).unwrap();
            assert_eq!((found.to.as_str(), found.path), (to, sees), "{host}{path}");
        }
    }

    #[test]
    fn nothing_matches_where_no_route_covers() {
        let router =
            Router::new(&[route("a.test", "/x", Prefix::Kept, "a")], |r| Some(r.backend.clone()));
        assert_eq!(router.find("a.test", "/y"), None);
        assert_eq!(router.find("b.test", "/x"), None);
        assert_eq!(router.find("a.test", "*"), None);
    }

    #[test]
    fn hosts_and_paths_in_their_normal_form() {
        assert_eq!(host_of("[::1]:80"), "[::1]");
        assert_eq!(host_of("[::1]"), "[::1]");
        assert_eq!(host_of("[broken"), "[broken");
        assert_eq!(host_of("A.b.:1"), "a.b");
        for (path, normal) in [
            ("/", "/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/.hidden", "/a/.hidden"),
            ("/a/...", "/a/..."),
            ("//", "//"),
            ("/a//../b", "/a/b"),
            ("/a%2fb%2F", "/a%2fb%2F"),
            ("*", "*"),
        ] {
            assert_eq!(normalise(path).as_deref(), Some(normal), "{path}");
        }
        for malformed in ["/%", "/a%4", "/a%zz", "/%61/%", "/%€"] {
            assert_eq!(normalise(malformed), None, "{malformed}");
        }
    }
}
