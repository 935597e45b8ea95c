//! Errors about an app file read well: where, which field, what would be right.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(clippy::too_many_lines, reason = "lists of cases")]

use lb_core::{App, Count};

const HEAD: &str = "name = \"shop\"\nimage = \"shop:1\"\n";

fn toml(rest: &str) -> String {
    App::from_toml(&format!("{HEAD}{rest}")).unwrap_err().to_string()
}

#[test]
fn a_bad_value_is_named_by_line_app_port_and_field() {
    let cases = [
        (
            "[ports.web]\ncontainer = 80\npath = \"cart\"",
            "read app file line 5, column 8: app \"shop\": port \"web\": path \"cart\": must start with \"/\"",
        ),
        (
            "ports.web = { container = 80, hosts = [\"a\", \"b c\"] }",
            "read app file line 3, column 39: app \"shop\": port \"web\": hosts.1: host name \"b c\": must be a \
             lower-case DNS name such as shop.example.org, or *.example.org, without a final dot",
        ),
        (
            "ports.\"w b\" = { container = 80 }",
            "read app file line 3, column 7: app \"shop\": port \"w b\": must be 1 to 15 of a-z, 0-9 and inner '-'",
        ),
        (
            "replicas = { min = 3, max = 1 }",
            "read app file line 3, column 12: app \"shop\": replicas { min = 3, max = 1 }: \
             min must not exceed max, and max not 10000",
        ),
        (
            "replicas = { min = 1, max = 2, maks = 3 }",
            "read app file line 3, column 12: app \"shop\": replicas must be a number, or { min = 1, max = 2 }",
        ),
        (
            "[resources]\nmemory = \"12 apples\"",
            "read app file line 4, column 10: app \"shop\": resources.memory: size \"12 apples\": \
             must be a whole number with B, kB, MB, GB, KiB, MiB or GiB",
        ),
        (
            "ports.web = { container = 80, protocol = \"tcp\", path = \"/x\" }",
            "read app \"shop\": port \"web\": path: must not be set with protocol \"tcp\"",
        ),
        (
            "ports =",
            "read app file line 3, column 8: string values must be quoted, expected literal string",
        ),
        (
            "[ports.web]\ncontainer = 80\n[ports.web]\noutside = 80",
            "read app file line 5, column 8: web must be there once",
        ),
    ];
    for (rest, error) in cases {
        assert_eq!(toml(rest), error);
    }
}

#[test]
fn json_says_the_same() {
    let text = "{\"name\": \"shop\", \"image\": \"shop:1\",\n \"ports\": {\"web\": {\"container\": 80, \"path\": \"x\"}}}";
    assert_eq!(
        App::from_json(text).unwrap_err().to_string(),
        "read app file line 2, column 48: app \"shop\": port \"web\": path \"x\": must start with \"/\""
    );
    let error = App::from_json("{} x").unwrap_err().to_string();
    assert_eq!(error, "read app file line 1, column 2: name is missing");
}

#[test]
fn an_app_without_a_good_name_is_still_told_apart_by_the_place() {
    let error = App::from_toml("name = \"Shop\"").unwrap_err().to_string();
    assert_eq!(
        error,
        "read app file line 1, column 8: name: app \"Shop\": must be 1 to 32 of a-z, 0-9 and inner '-'"
    );
}

/// What people write who know other tools' files, and what each is told.
#[test]
fn wrong_values_are_answered_with_what_would_be_right() {
    let port = |field: &str| format!("ports.web = {{ container = 80, {field} }}");
    let quotes =
        "must be text: write it in quotes, also a number or true and false, such as \"8080\"";
    let time =
        "must be a time with its unit in quotes, such as \"500ms\", \"30s\", \"5m\" or \"1h 30m\"";
    let check = "must be \"tcp\", or { http = \"/healthz\" } with the path to ask";
    let cases = [
        ("env = { PORT = 8080 }".to_owned(), "env.PORT", quotes),
        ("env = { DEBUG = true }".to_owned(), "env.DEBUG", quotes),
        ("secrets = { PIN = 1234 }".to_owned(), "secrets.PIN", quotes),
        (
            "env = [\"A=b\"]".to_owned(),
            "env",
            "must be names and texts, such as { MODE = \"live\" }",
        ),
        (
            "[resources]\ncpu = \"0.5\"".to_owned(),
            "resources.cpu",
            "must be a number of CPUs without quotes, such as 0.5",
        ),
        (
            "[resources]\ncpu = \"500m\"".to_owned(),
            "resources.cpu",
            "must be a number of CPUs without quotes, such as 0.5",
        ),
        (
            "volumes = [\"pgdata:/data\"]".to_owned(),
            "volumes.0",
            "must be { source = { name = \"data\" }, target = \"/data\" }",
        ),
        (
            "command = \"npm start\"".to_owned(),
            "command",
            "must be a list of texts, such as [\"npm\", \"start\"]",
        ),
        (
            "ports = [\"80:8080\"]".to_owned(),
            "ports",
            "must be tables by name, such as [ports.web]",
        ),
        (
            "ports = { web = 8080 }".to_owned(),
            "port \"web\"",
            "must be a table, such as { container = 8080, outside = 80 }",
        ),
        (
            "ports = { web = { container = \"8080\" } }".to_owned(),
            "container",
            "must be a number from 1 to 65535, without quotes",
        ),
        (port("outside = 70000"), "outside", "must be a number from 1 to 65535, without quotes"),
        (
            port("health = \"/healthz\""),
            "health",
            "must be a table, such as { check = { http = \"/healthz\" } }",
        ),
        (port("health = { check = \"/healthz\" }"), "health.check", check),
        (port("health = { check = { path = \"/healthz\" } }"), "health.check", check),
        (port("health = { interval = 5 }"), "health.interval", time),
        (port("timeouts = { server = \"1d\" }"), "timeouts.server", time),
        (
            port("balance = \"header_hash\""),
            "balance",
            "must be { header_hash = \"x-user\" } with the header's name",
        ),
        (
            port("balance = \"roundrobin\""),
            "balance",
            "must be \"round_robin\", \"least_connections\"",
        ),
        (port("balance = { header_hash = \"X-Session-Id\" }"), "balance", "in lower case"),
        (port("sticky = \"SRV\""), "sticky", "must be { cookie = \"SRV\" } with the cookie's name"),
        (
            port("tls = \"/etc/ssl/cert.pem\""),
            "tls",
            "must be the PEM text itself, from -----BEGIN CERTIFICATE----- on, not the path of a file",
        ),
        (port("protocol = \"https\""), "protocol", "must be \"http\" or \"tcp\""),
        (
            port("healthcheck = 1"),
            "port \"web\"",
            "\"healthcheck\" is no field here: there are container, protocol",
        ),
        ("ports = { web = { outside = 80 } }".to_owned(), "port \"web\"", "container is missing"),
        (
            "stop = { signal = \"SIGFOO\" }".to_owned(),
            "signal",
            "must be a signal of Linux in upper case, such as SIGTERM",
        ),
        ("stop = { grace = 10 }".to_owned(), "stop.grace", time),
        (
            "rollout = { canary = { weight = \"20%\" } }".to_owned(),
            "rollout.canary.weight",
            "must be a whole number from 1 to 99, without quotes and \"%\"",
        ),
        (
            "rollout = { canary = 20 }".to_owned(),
            "rollout.canary",
            "must be a table, such as { weight = 20 }",
        ),
        (
            "scaling = { cpu = \"70%\" }".to_owned(),
            "scaling.cpu",
            "must be a whole number from 1 to 100, without quotes and \"%\"",
        ),
        (
            "[[scaling.schedule]]\nfrom = 8\nuntil = \"9:00\"\nmin = 1".to_owned(),
            "scaling.schedule.0.from",
            "must be a time of day in quotes, such as \"08:00\"",
        ),
        (
            "placement = { exposure = \"all\" }".to_owned(),
            "placement.exposure",
            "must be \"running_hosts\", \"every_host\"",
        ),
        ("registry = \"me:secret\"".to_owned(), "registry", "must be { username"),
    ];
    for (file, field, right) in cases {
        let error = toml(&file);
        assert!(error.contains(field) && error.contains(right), "{file}: {error}");
        assert!(
            error.contains("app file line") && error.contains("app \"shop\""),
            "{file}: {error}"
        );
        let words =
            ["struct", "u8", "u16", "u32", "f64", "expected", "variant", "serde", "jiff", "`"];
        assert!(!words.iter().any(|word| error.contains(word)), "{file}: {error}");
    }
}

#[test]
fn an_empty_file_is_told_what_an_app_must_say() {
    for text in ["", "\n\n", "# nothing yet\n"] {
        let error = App::from_toml(text).unwrap_err().to_string();
        assert_eq!(error, "read app file: is empty: must say at least name, image and a port");
    }
    assert!(App::from_json(" ").unwrap_err().to_string().contains("is empty"));
}

/// One replica that may write a volume: two versions would use it at once.
#[test]
fn an_app_that_writes_a_volume_is_stopped_first_unless_it_says_otherwise() {
    let bounds = |access: &str, rollout: &str| {
        let app = format!(
            "{HEAD}ports.web = {{ container = 80 }}\nrollout = {rollout}\n\
             volumes = [{{ source = {{ name = \"db\" }}, target = \"/data\", access = \"{access}\" }}]"
        );
        let (surge, unavailable) = App::from_toml(&app).unwrap().rollout_bounds();
        (surge.of_rounded_up(100), unavailable.of_rounded_up(100))
    };
    assert_eq!(bounds("read_write", "{}"), (0, 1));
    assert_eq!(bounds("read_only", "{}"), (1, 0));
    assert_eq!(bounds("read_write", "{ max_surge = 2 }"), (2, 0));
    assert_eq!(bounds("read_write", "{ max_unavailable = 0 }"), (1, 0));
    assert_eq!(bounds("read_write", "{ max_unavailable = 2 }"), (0, 2));
    assert_eq!(bounds("read_write", "{ max_surge = 1, max_unavailable = 0 }"), (1, 0));
    assert_eq!(bounds("read_only", "{ max_surge = 0 }"), (0, 1));
    let plain = App::from_toml(&format!("{HEAD}ports.web = {{ container = 80 }}")).unwrap();
    assert_eq!(plain.rollout_bounds(), (Count::Exactly(1), Count::Exactly(0)));
}

#[test]
fn what_has_no_effect_is_noted() {
    let notes = |rest: &str| {
        App::from_toml(&format!("{HEAD}ports.web = {{ container = 80 }}\n{rest}")).unwrap().notes()
    };
    let said = notes("replicas = 3\nscaling = { cpu = 70 }");
    assert!(said[0].contains("scaling rests: replicas is fixed at 3"), "{said:?}");
    assert!(notes("replicas = { min = 1, max = 3 }\nscaling = { cpu = 70 }").is_empty());
    assert!(notes("replicas = 3").is_empty());
}
