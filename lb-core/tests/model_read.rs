//! Errors about an app file read well: where, which field, what would be right.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use lb_core::App;

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
    assert_eq!(error, "read app file line 1, column 2: missing field `name`");
}

#[test]
fn an_app_without_a_good_name_is_still_told_apart_by_the_place() {
    let error = App::from_toml("name = \"Shop\"").unwrap_err().to_string();
    assert_eq!(
        error,
        "read app file line 1, column 8: name: app \"Shop\": must be 1 to 32 of a-z, 0-9 and inner '-'"
    );
}
