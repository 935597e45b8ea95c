//! A table becomes a configuration: the same one each time, and nothing but what the renderer owns.

use std::collections::BTreeMap;

use super::super::certificate::shows_key;
use super::bed::{Bed, features, name_of, plain, text, tls};
use crate::config::Fragment;
use crate::error::ErrorKind;
use crate::routing::RoutingTable;

/// Whatever the value, the order of calls and what was rendered between.
pub async fn equal_tables_give_equal_bytes(bed: &Bed) {
    let other = bed.setup.renderer();
    let first: Vec<_> = features().iter().map(|(_, table)| bed.renderer.render(table)).collect();
    for (rendered, (what, table)) in first.iter().zip(features()).rev() {
        let json = serde_json::to_string(&table).unwrap();
        let copy: RoutingTable = serde_json::from_str(&json).unwrap();
        assert_eq!(&other.render(&copy), rendered, "{what}");
        assert_eq!(&bed.renderer.render(&table), rendered, "{what}");
    }
}

/// A host without apps has a balancer all the same.
pub async fn the_empty_table_renders(bed: &Bed) {
    let config = bed.render(&RoutingTable::default());
    let places = config.fragments.iter().any(|f| matches!(f, Fragment::Servers(_)));
    assert!(!places, "there is no backend");
}

/// Also a backend without servers, and one that no listener leads to.
pub async fn each_backend_has_one_place_for_its_servers(bed: &Bed) {
    let mut lonely = plain("shop");
    lonely.listeners.clear();
    let lonely = ("lonely", lonely);
    for (what, table) in features().into_iter().chain([lonely]) {
        let Ok(config) = bed.renderer.render(&table) else { continue };
        let mut places = BTreeMap::new();
        for fragment in &config.fragments {
            if let Fragment::Servers(name) = fragment {
                *places.entry(name).or_insert(0) += 1;
            }
        }
        let wanted: BTreeMap<_, _> = table.backends.keys().map(|name| (name, 1)).collect();
        assert_eq!(places, wanted, "{what}");
    }
}

/// The lines of servers are the balancer's: without that a change of servers would be a reload.
pub async fn servers_do_not_change_the_text(bed: &Bed) {
    for (what, table) in features() {
        assert_eq!(bed.renderer.render(&table), bed.renderer.render(&table.shape()), "{what}");
    }
}

/// No value can end its line, and the balancer can put lines between.
pub async fn text_is_whole_lines_of_printable_characters(bed: &Bed) {
    for (what, table) in features() {
        let Ok(config) = bed.renderer.render(&table) else { continue };
        for text in text(&config) {
            assert!(text.is_empty() || text.ends_with('\n'), "{what}: {text:?}");
            let odd = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
            assert_eq!(odd, None, "{what}: {text:?}");
        }
    }
}

/// By their names without a directory.
pub async fn files_are_named_in_the_text(bed: &Bed) {
    for (what, table) in features() {
        let Ok(config) = bed.renderer.render(&table) else { continue };
        for file in config.files.keys() {
            let named = text(&config).any(|text| text.contains(file.as_str()));
            assert!(named, "{what}: nothing refers to {file}");
        }
    }
}

/// Certificates too: neither text nor files hold them.
pub async fn private_keys_stay_with_the_balancer(bed: &Bed) {
    let config = bed.render(&tls());
    for text in text(&config) {
        assert!(!shows_key(text) && !text.contains("BEGIN CERTIFICATE"), "{text}");
    }
}

/// A feature is expressed, or refused naming the backend; none is left out in silence.
pub async fn what_cannot_be_expressed_is_invalid_and_named(bed: &Bed) {
    let plain = bed.render(&plain("shop"));
    for (what, table) in features().into_iter().skip(1) {
        match bed.renderer.render(&table) {
            Ok(config) => {
                // These can be words of the server lines.
                let of_servers =
                    matches!(what, "no servers" | "slow start" | "connection limit" | "http check")
                        || what.starts_with("balance");
                assert!(of_servers || config != plain, "{what} changes nothing");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
                assert!(error.to_string().contains("shop"), "{what}: names the backend: {error}");
            }
        }
    }
}

/// So that a message about a line can name the app.
pub async fn text_of_one_app_is_marked_as_its(bed: &Bed) {
    let mut table = plain("shop");
    table.backends.extend(plain("blog").backends);
    let config = bed.render(&table);
    for app in ["shop", "blog"] {
        let name = name_of(app);
        let marked = config.fragments.iter().any(
            |fragment| matches!(fragment, Fragment::Text { backend: Some(b), .. } if *b == name),
        );
        assert!(marked, "no text is marked as {app}'s");
    }
}
