#![no_main]
//! App files, TOML or JSON by the first byte: no panic; a refusal is one bounded line that shows no secret;
//! what is accepted is the same after both formats, with the same revision.

use lb_core::{App, ImageDigest, Secret};
use lb_fuzz::{check_message, choice};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = choice(data) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let read = if first & 1 == 0 { App::from_toml(text) } else { App::from_json(text) };
    match read {
        Ok(app) => comes_back(&app),
        Err(error) => check_message(&error),
    }
});

fn comes_back(app: &App) {
    let json = serde_json::to_string(app).expect("an app is JSON");
    let again = App::from_json(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    assert_eq!(&again, app, "{json}");
    let toml = toml::to_string(app).unwrap_or_else(|e| panic!("an app is TOML: {e}: {json}"));
    let again = App::from_toml(&toml).unwrap_or_else(|e| panic!("{e}: {toml}"));
    assert_eq!(&again, app, "{toml}");
    let digest = ImageDigest::new(format!("sha256:{:064}", 0)).expect("a digest");
    assert_eq!(again.revision(&digest), app.revision(&digest));
    // What shows an app shows no secret of it, but where something else of the app is the same text.
    let mut without = (**app).clone();
    without.secrets.values_mut().for_each(|secret| *secret = Secret::new("x"));
    let without = App::new(without).expect("an app");
    let (shown, elsewhere) = (format!("{app:?}"), format!("{without:?}"));
    for secret in app.secrets.values().map(|s| s.expose()).filter(|s| s.len() > 12) {
        assert_eq!(
            shown.matches(secret).count(),
            elsewhere.matches(secret).count(),
            "a secret shows"
        );
    }
}
