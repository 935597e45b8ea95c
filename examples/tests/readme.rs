//! The README's app file is one.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use lb_core::App;

#[test]
fn the_readmes_app_is_valid_and_served() {
    let readme = include_str!("../../README.md");
    let file = readme.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let app = App::from_toml(file).unwrap();
    assert_eq!(app.name.as_str(), "shop");
    assert_eq!((app.replicas.min, app.replicas.max), (2, 10));
    assert_eq!(app.ports[&"web".parse().unwrap()].outside.unwrap().get(), 80);
}
