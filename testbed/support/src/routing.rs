//! Who gets a request, and what of it: the same for every balancer. Each case is given a way to have one that
//! serves a table.

use lb_core::Protocol::Http;
use lb_core::RoutingTable;

use super::Routes;
use super::live::{App, Manner, Manner::Echo, ask, free_ports, get};

/// A table whose backends `NAME.web` each have one echo app; routes are added by the test.
async fn apps(names: &[&'static str]) -> (Routes, Vec<App>) {
    let (mut table, mut all) = (Routes::new(), Vec::new());
    for name in names {
        let app = App::start(name, Echo).await;
        table = table.backend(&format!("{name}.web"), Http, &[app.address]);
        all.push(app);
    }
    (table, all)
}

/// Asks for `path` of `host` and says which app answered, or with which status nobody did.
async fn who(port: u16, host: &str, path: &str) -> String {
    let answer = get(port, host, path).await;
    answer.app().map_or_else(|| answer.status().to_string(), str::to_owned)
}

pub async fn the_longest_prefix_wins_in_whole_segments<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let (table, _apps) = apps(&["root", "cart", "cart2"]).await;
    let table = table
        .route(port, "shop.example.org/", "root.web")
        .route(port, "shop.example.org/cart", "cart.web")
        .route(port, "shop.example.org/cart/v2", "cart2.web");
    let _balancer = start(&table.0).await;
    for (path, app) in [
        ("/", "root"),
        ("/cart", "cart"),
        ("/cart/", "cart"),
        ("/cart?item=1", "cart"),
        ("/cart/x", "cart"),
        ("/cartoon", "root"),
        ("/car", "root"),
        ("/cart/v2", "cart2"),
        ("/cart/v2/x", "cart2"),
        ("/cart/v20", "cart"),
        ("/Cart", "root"),
        ("/x/cart", "root"),
    ] {
        assert_eq!(who(port, "shop.example.org", path).await, app, "{path}");
    }
}

pub async fn a_path_is_routed_as_the_app_will_read_it<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let (table, apps) = apps(&["root", "cart", "admin"]).await;
    let table = table.route(port, "/", "root.web").route(port, "/cart", "cart.web").route(
        port,
        "/admin",
        "admin.web",
    );
    let _balancer = start(&table.0).await;
    for (path, app, seen) in [
        ("/cart/../admin", 2, "/admin"),
        ("/cart/%2e%2e/admin", 2, "/admin"),
        ("/cart/.%2E/admin", 2, "/admin"),
        ("/./cart/./x", 1, "/cart/x"),
        ("/%63art/x", 1, "/cart/x"),
        ("/cart/x/..", 1, "/cart/"),
        ("/cart/..", 0, "/"),
        // An encoded slash is no separator (RFC 3986, 2.2), so these dots are part of a name.
        ("/cart/..%2fadmin", 1, "/cart/..%2Fadmin"),
        // Nor is a name that begins with dots a step up.
        ("/cart/.well-known/..x", 1, "/cart/.well-known/..x"),
        ("/cart/x?next=/../admin&p=100%", 1, "/cart/x?next=/../admin&p=100%"),
        // The query is the app's alone, also where the path had to be read.
        ("/%63art/x?p=100%&q=%61", 1, "/cart/x?p=100%&q=%61"),
    ] {
        let before = apps[app].seen().len();
        assert_eq!(get(port, "h", path).await.status(), 200, "{path}");
        let got = apps[app].seen();
        assert_eq!(got.len(), before + 1, "{path} must reach app {app}");
        assert!(
            got[before].start.eq_ignore_ascii_case(&format!("GET {seen} HTTP/1.1")),
            "{path}: {}",
            got[before].start
        );
    }
}

pub async fn a_path_that_cannot_be_read_is_refused<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [plain, by_path] = free_ports();
    let (table, apps) = apps(&["root", "cart"]).await;
    let table = table.route(plain, "/", "root.web").route(by_path, "/", "root.web");
    let _balancer = start(&table.route(by_path, "/cart", "cart.web").0).await;
    for port in [plain, by_path] {
        for path in ["/%", "/a%4", "/%zz", "/%4z", "/%z4", "/%2%61", "/%61/%?x=1"] {
            assert_eq!(get(port, "h", path).await.status(), 400, "{path}");
        }
        assert!(apps.iter().all(|app| app.seen().is_empty()));
    }
    for port in [plain, by_path] {
        for path in ["/x?%", "/%4a", "/a%Fb/", "/%2520%20"] {
            assert_eq!(get(port, "h", path).await.status(), 200, "{path}");
        }
    }
}

pub async fn a_host_name_counts_without_case_port_and_final_dot<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let (table, _apps) = apps(&["shop", "any"]).await;
    let table = table.route(port, "shop.example.org/", "shop.web").route(port, "/any", "any.web");
    let _balancer = start(&table.0).await;
    for (host, path, app) in [
        ("shop.example.org", "/", "shop"),
        ("SHOP.Example.ORG", "/", "shop"),
        ("shop.example.org.", "/", "shop"),
        ("shop.example.org:80", "/", "shop"),
        ("Shop.example.org.:8443", "/any", "shop"),
        ("shop.example.org.evil.net", "/", "404"),
        ("evil.net", "/", "404"),
        ("xshop.example.org", "/", "404"),
        ("[::1]:80", "/any", "any"),
        ("[::1]", "/any", "any"),
        ("127.0.0.1:80", "/any/x", "any"),
        ("[::1]:80", "/", "404"),
    ] {
        assert_eq!(who(port, host, path).await, app, "{host}{path}");
    }
    let without_host = ask(port, "GET /any HTTP/1.0\r\n\r\n").await;
    assert_eq!(without_host.app(), Some("any"));
    let absolute = "GET http://shop.example.org/x HTTP/1.1\r\nHost: shop.example.org\r\n\r\n";
    assert_eq!(ask(port, absolute).await.app(), Some("shop"));
}

pub async fn exact_names_come_before_wildcards_and_those_before_any<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let (table, _apps) = apps(&["www", "tenant", "any"]).await;
    let table = table
        .route(port, "www.example.org/shop", "www.web")
        .route(port, "*.example.org/", "tenant.web")
        .route(port, "/", "any.web")
        .route(port, "/shop/deep", "any.web");
    let _balancer = start(&table.0).await;
    for (host, path, app) in [
        ("www.example.org", "/shop", "www"),
        // The more specific host name wins over the longer path.
        ("www.example.org", "/shop/deep", "www"),
        ("www.example.org", "/", "tenant"),
        ("a.example.org", "/shop/deep", "tenant"),
        ("A.EXAMPLE.ORG.:80", "/", "tenant"),
        // A wildcard is one further label, no more and no less.
        ("example.org", "/", "any"),
        ("a.b.example.org", "/", "any"),
        ("example.com", "/shop", "any"),
    ] {
        assert_eq!(who(port, host, path).await, app, "{host}{path}");
    }
}

pub async fn a_stripped_prefix_is_gone_and_said_in_a_header<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let (table, apps) = apps(&["root", "cart", "api"]).await;
    let table = table
        .route(port, "/", "root.web")
        .strip(port, "shop.example.org/cart", "cart.web")
        .strip(port, "/api/v1", "api.web");
    let _balancer = start(&table.0).await;
    for (host, path, app, seen, prefix) in [
        ("shop.example.org", "/cart", 1, "/", Some("/cart")),
        ("shop.example.org", "/cart/", 1, "/", Some("/cart")),
        ("shop.example.org", "/cart/list", 1, "/list", Some("/cart")),
        ("shop.example.org", "/cart?q=/a", 1, "/?q=/a", Some("/cart")),
        ("shop.example.org", "/cart/a/b/?q=1", 1, "/a/b/?q=1", Some("/cart")),
        ("shop.example.org", "/%63art//x", 1, "//x", Some("/cart")),
        ("shop.example.org", "/cart/../cart/x", 1, "/x", Some("/cart")),
        ("h", "/api/v1", 2, "/", Some("/api/v1")),
        ("h", "/api/v1/items/7", 2, "/items/7", Some("/api/v1")),
        ("h", "/api/v2", 0, "/api/v2", None),
        ("h", "/cart/list", 0, "/cart/list", None),
    ] {
        let before = apps[app].seen().len();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Prefix: /evil\r\n\r\n");
        assert_eq!(ask(port, request).await.status(), 200, "{host}{path}");
        let got = apps[app].seen();
        assert_eq!(got.len(), before + 1, "{host}{path} must reach app {app}");
        assert_eq!(got[before].start, format!("GET {seen} HTTP/1.1"), "{host}{path}");
        assert_eq!(got[before].header("x-forwarded-prefix"), prefix, "{host}{path}");
    }
    assert_eq!(who(port, "shop.example.org/cart", "/x").await, "400", "a path in the host name");
}

pub async fn forwarded_headers_say_what_is_and_not_what_a_client_claims<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port] = free_ports();
    let (table, apps) = apps(&["shop"]).await;
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    let request = "GET / HTTP/1.1\r\nHost: Shop.example.org:81\r\nX-Forwarded-For: 1.2.3.4\r\n\
        x-forwarded-for: 5.6.7.8\r\nX-FORWARDED-PROTO: https\r\nX-Forwarded-Host: evil.net\r\n\
        X-Forwarded-Port: 443\r\nX-Forwarded-Server: evil\r\nForwarded: for=1.2.3.4\r\n\
        X-Request-Id: 7\r\n\r\n";
    assert_eq!(ask(port, request).await.status(), 200);
    let seen = &apps[0].seen()[0];
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!((seen.header("x-forwarded-host"), seen.header("x-forwarded-port")), (None, None));
    assert_eq!(seen.header("x-forwarded-server"), None);
    assert_eq!(seen.header("forwarded"), None);
    assert_eq!(seen.header("host"), Some("Shop.example.org:81"), "the app sees the host asked for");
    assert_eq!(seen.header("x-request-id"), Some("7"));
}

pub async fn an_answer_asks_nothing_of_the_balancer<P>(start: impl AsyncFn(&RoutingTable) -> P) {
    let [port] = free_ports();
    let app = App::start("shop", Manner::Direct).await;
    let table = Routes::new().backend("shop.web", Http, &[app.address]);
    let _balancer = start(&table.route(port, "/", "shop.web").0).await;
    let answer = ask(port, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!((answer.status(), answer.app()), (200, Some("shop")));
    assert_eq!((answer.body.as_slice(), app.seen().len()), (&b"hello"[..], 1));
}

pub async fn nobody_answers_404_without_a_route_and_503_without_a_server<P>(
    start: impl AsyncFn(&RoutingTable) -> P,
) {
    let [port, bare] = free_ports();
    let table = Routes::new()
        .backend("empty.web", Http, &[])
        .backend("shop.web", Http, &[])
        .route(port, "/empty", "empty.web")
        .route(bare, "shop.example.org/", "shop.web");
    let _balancer = start(&table.0).await;
    assert_eq!(who(port, "h", "/empty").await, "503");
    assert_eq!(who(port, "h", "/other").await, "404");
    assert_eq!(who(bare, "h", "/").await, "404");
    assert_eq!(who(bare, "shop.example.org", "/").await, "503");
}

/// Gives the cases that hold for every balancer to a macro that makes a test of each.
#[macro_export]
macro_rules! routing_cases {
    ($make:ident) => {
        $make! { routing:
            the_longest_prefix_wins_in_whole_segments
            a_path_is_routed_as_the_app_will_read_it
            an_answer_asks_nothing_of_the_balancer
            a_path_that_cannot_be_read_is_refused
            a_host_name_counts_without_case_port_and_final_dot
            exact_names_come_before_wildcards_and_those_before_any
            a_stripped_prefix_is_gone_and_said_in_a_header
            forwarded_headers_say_what_is_and_not_what_a_client_claims
            nobody_answers_404_without_a_route_and_503_without_a_server
        }
    };
}
