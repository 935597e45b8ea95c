//! Every field of an app refuses hostile values, naming the field (F20 and F22 of the fault table).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(clippy::too_many_lines, reason = "lists of cases")]

use lb_core::*;
use serde_json::{Value, json};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\
                   -----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

/// An app that sets every field there is.
fn everything() -> Value {
    json!({
        "name": "shop",
        "image": "registry.example.org:5000/team/shop:1.2",
        "registry": { "username": "robot", "password": "hunter2" },
        "command": ["/bin/shop"],
        "args": ["--serve"],
        "user": "www:www",
        "env": { "MODE": "live" },
        "secrets": { "TOKEN": "hunter2" },
        "volumes": [
            { "source": { "path": "/srv/data" }, "target": "/data", "access": "read_only" },
            { "source": { "name": "cache" }, "target": "/cache" },
        ],
        "stop": { "signal": "SIGQUIT", "grace": "5s", "drain": "1m" },
        "resources": { "cpu": 0.5, "memory": "64MiB" },
        "ports": { "web": {
            "container": 8080,
            "protocol": "http",
            "outside": 443,
            "hosts": ["shop.example.org"],
            "path": "/cart",
            "prefix": "stripped",
            "health": {
                "check": { "http": "/ready?deep=1" },
                "interval": "2s", "timeout": "1s", "rise": 2, "fall": 2,
            },
            "balance": { "header_hash": "x-user" },
            "sticky": { "cookie": "SRV" },
            "tls": PEM,
            "limits": {
                "connections_per_instance": 10,
                "queue": "1s",
                "rate": { "requests": 10, "window": "1s" },
                "body": "1MB",
                "slow_start": "10s",
            },
            "timeouts": {
                "connect": "1s", "client": "1s", "server": "1s",
                "request": "1s", "keep_alive": "1s", "tunnel": "1m",
            },
        } },
        "replicas": { "min": 1, "max": 3 },
        "scaling": {
            "cpu": 50, "memory": 50, "requests": 5, "concurrency": 5,
            "policy": "mine",
            "schedule": [{
                "days": ["monday"], "from": "08:00:00", "until": "18:00:00",
                "time_zone": "Europe/Berlin", "min": 2,
            }],
            "largest_step": 2,
            "scale_in_after": "1m",
        },
        "rollout": {
            "max_surge": "25%", "max_unavailable": 1, "ready_within": "1m",
            "canary": { "weight": 10, "instances": 1 },
        },
        "placement": {
            "labels": { "disk": "ssd" },
            "exposure": { "labelled": { "edge": "yes" } },
        },
    })
}

/// Values that must not reach a configuration, a command or a log from any field.
fn hostile() -> Vec<String> {
    let fragments = [
        "\n",
        "\r",
        "\0",
        "#",
        "\"",
        "'",
        "\\",
        "${X}",
        "%[env(PATH)]",
        ";",
        "{",
        "}",
        "$var",
        "\u{e9}",
        "\u{202e}",
        " ",
        "\t",
        "`id`",
        "a\nserver evil 10.0.0.1:80",
        "x; shutdown",
    ];
    let mut values = vec!["a".repeat(10_240)];
    for fragment in fragments {
        values.extend([
            fragment.to_owned(),
            format!("a{fragment}"),
            format!("{fragment}a"),
            format!("/a{fragment}b"),
        ]);
    }
    values
}

/// Values nobody but the process or the registry reads: any text without NUL, of bounded length.
const OPAQUE: [&str; 6] = [
    "/registry/username",
    "/registry/password",
    "/command/0",
    "/args/0",
    "/env/MODE",
    "/secrets/TOKEN",
];

/// The pointers of all values below `value`.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                leaves(value, &format!("{at}/{i}"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

fn all_leaves() -> Vec<String> {
    let mut found = Vec::new();
    leaves(&everything(), "", &mut found);
    assert!(found.len() > 55, "the app sets every field: {}", found.len());
    found
}

/// Reads the value both ways; the errors must be the same rule and safe to show.
fn refusal(app: &Value) -> Option<String> {
    let from_json = App::from_json(&app.to_string()).err();
    let from_toml = App::from_toml(&toml::to_string(app).unwrap()).err();
    assert_eq!(from_json.is_some(), from_toml.is_some(), "TOML and JSON agree: {app}");
    for error in [&from_json, &from_toml].into_iter().flatten() {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() < 1000, "{} bytes: {text}", text.len());
        assert!(!text.contains("hunter2"), "{text}");
    }
    from_json.map(|e| e.to_string())
}

/// The last part of a pointer that is a field's name.
fn field(pointer: &str) -> &str {
    let named = |part: &&str| part.parse::<u32>().is_err();
    pointer.rsplit('/').find(named).unwrap()
}

#[test]
fn the_app_with_every_field_is_accepted() {
    assert_eq!(refusal(&everything()), None);
}

#[test]
fn every_field_refuses_hostile_values_and_says_which_it_is() {
    for pointer in all_leaves().iter().filter(|p| !OPAQUE.contains(&p.as_str())) {
        for value in hostile() {
            let mut app = everything();
            *app.pointer_mut(pointer).unwrap() = Value::String(value.clone());
            let shown: String = value.chars().take(40).collect();
            let refused =
                refusal(&app).unwrap_or_else(|| panic!("{pointer} must refuse {shown:?}"));
            assert!(refused.contains(field(pointer)), "{pointer} = {shown:?}: {refused}");
        }
    }
}

#[test]
fn every_name_refuses_hostile_values_and_says_which_it_is() {
    let maps = [
        ("/ports", "web", "port"),
        ("/placement/labels", "disk", "label"),
        ("/placement/exposure/labelled", "edge", "label"),
    ];
    for (pointer, key, what) in maps {
        for hostile in hostile() {
            let mut app = everything();
            let map = app.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            let value = map.remove(key).unwrap();
            map.insert(hostile.clone(), value);
            let refused = refusal(&app)
                .unwrap_or_else(|| panic!("a name in {pointer} must not be {hostile:?}"));
            assert!(refused.contains(what), "{pointer}: {refused}");
        }
    }
}

/// Engines and the kernel take any name (`discovery.type`), and no balancer sees one.
#[test]
fn a_variables_name_is_anything_a_process_can_be_given() {
    let names =
        ["discovery.type", "xpack.security.enabled", "my-var", "1st", "a b", "gr\u{fc}n", "a\nb"];
    for (pointer, key) in [("/env", "MODE"), ("/secrets", "TOKEN")] {
        let named = |name: &str, value: Value| {
            let mut app = everything();
            let map = app.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            map.remove(key);
            map.insert(name.to_owned(), value);
            app
        };
        let long = "x".repeat(255);
        for name in names.into_iter().chain([long.as_str()]) {
            assert_eq!(refusal(&named(name, json!("v"))), None, "{name:?}");
            let refused = refusal(&named(name, json!("a\0b"))).unwrap();
            assert!(refused.contains("must be at most 32768 bytes without NUL"), "{refused}");
        }
        for name in ["", "a=b", "=", "a\0b", &"x".repeat(256)] {
            let refused = refusal(&named(name, json!("v"))).unwrap();
            assert!(refused.contains("must be 1 to 255 bytes without '=' and NUL"), "{refused}");
        }
    }
}

#[test]
fn a_field_nobody_knows_is_refused_wherever_it_stands() {
    let mut objects = vec![String::new()];
    for leaf in all_leaves() {
        let parents = leaf.match_indices('/').map(|(i, _)| leaf[..i].to_owned());
        objects.extend(parents.filter(|p| everything().pointer(p).unwrap().is_object()));
    }
    objects.sort();
    objects.dedup();
    let named = ["/ports", "/placement/labels", "/placement/exposure/labelled", "/env", "/secrets"];
    for object in objects.iter().filter(|o| !named.contains(&o.as_str())) {
        let mut app = everything();
        let map = app.pointer_mut(object).unwrap().as_object_mut().unwrap();
        map.insert("nobody_knows".into(), json!(1));
        assert!(refusal(&app).is_some(), "{object} accepts a field nobody knows");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let numbers = all_leaves()
        .into_iter()
        .filter(|p| everything().pointer(p).unwrap().is_number())
        .collect::<Vec<_>>();
    assert_eq!(numbers.len(), 18, "{numbers:?}");
    for pointer in numbers {
        for number in [json!(-1), json!(1e300), json!(4_294_967_296_u64)] {
            let mut app = everything();
            *app.pointer_mut(&pointer).unwrap() = number.clone();
            let refused = refusal(&app).unwrap_or_else(|| panic!("{pointer} must refuse {number}"));
            assert!(refused.contains(field(&pointer)) || refused.contains("replicas"), "{refused}");
        }
    }
}

#[test]
fn a_number_within_a_text_has_no_sign() {
    for (pointer, value) in [
        ("/image", "registry.example.org:+5000/shop:1"),
        ("/resources/memory", "+64MiB"),
        ("/rollout/max_surge", "+25%"),
    ] {
        let mut app = everything();
        *app.pointer_mut(pointer).unwrap() = json!(value);
        let refused = refusal(&app).unwrap_or_else(|| panic!("{pointer} must refuse {value}"));
        assert!(refused.contains(field(pointer)), "{refused}");
    }
}

#[test]
fn values_for_the_process_are_opaque_but_for_nul_and_length() {
    let app = |pointer: &str, value: &str| {
        let mut app = everything();
        *app.pointer_mut(pointer).unwrap() = json!(value);
        app
    };
    let opaque = OPAQUE.iter().filter(|p| **p != "/registry/username");
    for pointer in opaque {
        for value in hostile().iter().filter(|v| !v.contains('\0')) {
            let read = App::from_json(&app(pointer, value).to_string()).unwrap();
            let kept = serde_json::to_value(&read).unwrap();
            assert_eq!(kept.pointer(pointer).unwrap(), value, "{pointer} is kept as it is");
        }
        assert_eq!(refusal(&app(pointer, &"x".repeat(MAX_VALUE))), None);
        for value in ["a\0b".to_owned(), "x".repeat(MAX_VALUE + 1)] {
            let refused = refusal(&app(pointer, &value)).unwrap();
            assert!(refused.contains(field(pointer)), "{pointer}: {refused}");
            assert!(refused.ends_with("must be at most 32768 bytes without NUL"), "{refused}");
        }
    }
    for value in ["", "a\nb", "a\0b", &"x".repeat(256)] {
        let refused = refusal(&app("/registry/username", value)).unwrap();
        assert!(refused.contains("registry: username: must be 1 to 255 bytes"), "{refused}");
    }
}

#[test]
fn secrets_show_in_no_error_whatever_is_wrong_around_them() {
    let wrong = [
        r#"name = "shop" image = "shop:1" secrets = { TOKEN = "hunter2" }"#,
        "name = \"shop\"\nimage = \"shop:1\"\nsecrets = { TOKEN = \"hunter2\", X = 1 }",
        "name = \"shop\"\nimage = \"shop:1\"\nsecrets = \"hunter2\"",
        "name = \"shop\"\nimage = \"shop:1\"\nregistry = \"hunter2\"",
        "name = \"shop\"\nimage = \"shop:1\"\nregistry = { username = \"x\", password = [\"hunter2\"] }",
        "name = \"shop\"\nimage = \"shop:1\"\nsecrets = { TOKEN = \"hunter2\" }\nenv = { TOKEN = \"x\" }\nports.web.container = 1",
        "name = \"shop\"\nimage = \"shop:1\"\nports.web = { container = 1, tls = \"hunter2\" }",
        "name = \"shop\"\nimage = \"shop:1\"\nports.web = { container = 1, tls = [\"hunter2\"] }",
        "secrets = { TOKEN = \"hunter2 }",
    ];
    for text in wrong {
        let error = App::from_toml(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let app = App::from_json(&everything().to_string()).unwrap();
    assert!(!format!("{app:?}").contains("hunter2"));
    assert!(!format!("{app:?}").contains("AAAA"), "nor does a private key");
}

#[test]
fn fields_are_checked_against_each_other() {
    let cases = [
        ("/ports/web/protocol", json!("tcp"), "port \"web\": hosts: must not be set"),
        ("/replicas", json!({"min": 3, "max": 2}), "min must not exceed max"),
        ("/replicas", json!({"min": 1, "max": 10_001}), "and max not 10000"),
        ("/scaling/schedule/0/until", json!("08:00:00"), "from and until must differ"),
        ("/scaling/cpu", json!(0), "cpu and memory must be 1 to 100"),
        ("/rollout/canary/weight", json!(0), "rollout.canary.weight: must be 1 to 99"),
        ("/rollout/ready_within", json!("18446744073709551615s"), "must be at most 24h"),
        ("/scaling/scale_in_after", json!("25h"), "scaling.scale_in_after: must be at most 24h"),
        ("/rollout", json!({"max_surge": 0, "max_unavailable": 0}), "must not both be 0"),
        ("/rollout", json!({"max_surge": "0%", "max_unavailable": 0}), "must not both be 0"),
        ("/resources/memory", json!("1MiB"), "resources.memory: must be 6MiB to 1048576GiB"),
        ("/resources/memory", json!("2000000GiB"), "resources.memory: must be 6MiB to 1048576GiB"),
        ("/resources/cpu", json!(0), "resources.cpu: must be 0.01 to 1024 CPUs"),
        ("/resources/cpu", json!(1025), "resources.cpu: must be 0.01 to 1024 CPUs"),
        ("/ports/web/limits/body", json!("2000000GiB"), "limits.body: must be at most 1048576GiB"),
        ("/replicas", json!(10_001), "replicas 10001: must be at most 10000"),
        ("/scaling/schedule/0/min", json!(50), "scaling.schedule.min 50: must not exceed 3"),
        (
            "/rollout/canary/instances",
            json!(10_001),
            "rollout.canary.instances: must be at most 10000",
        ),
        ("/resources", json!({}), "scaling.memory: needs resources.memory"),
        ("/volumes/1/target", json!("/data"), "volume \"/data\": must be mounted once"),
        ("/volumes/1/target", json!("/data/"), "volume \"/data/\": must be mounted once"),
        ("/volumes/1/target", json!("//data"), "volume \"//data\": must be mounted once"),
        ("/volumes/1/target", json!("/data/."), "volume \"/data/.\": must be mounted once"),
        ("/volumes/1/target", json!("/./data"), "volume \"/./data\": must be mounted once"),
        ("/volumes/1/target", json!("/"), "must be mounted below"),
        ("/volumes/1/target", json!("/./"), "must be mounted below"),
        ("/secrets", json!({"MODE": "x"}), "secrets \"MODE\": must not be in env as well"),
        ("/command", json!([]), "command: must name a program"),
        ("/stop/drain", json!("25h"), "stop: grace must be at most 1h and drain at most 24h"),
        ("/ports/web/timeouts/connect", json!("1ms"), "timeouts.connect: must be 10ms to 24h"),
        ("/ports/web/limits/rate/window", json!("2h"), "limits.rate.window: must be 1s to 1h"),
        ("/ports", json!({}), "ports: must be 1 to 32"),
    ];
    for (pointer, value, rule) in cases {
        let mut app = everything();
        *app.pointer_mut(pointer).unwrap() = value;
        let refused = refusal(&app).unwrap_or_else(|| panic!("{pointer}: {rule}"));
        assert!(refused.starts_with("read app"), "{refused}");
        assert!(refused.contains("app \"shop\": "), "{refused}");
        assert!(refused.contains(rule), "{refused}");
    }
}
