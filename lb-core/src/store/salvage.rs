//! What can still be read of a damaged file of apps: whose changes were lost with it.

use std::path::Path;

use super::Generation;
use crate::model::AppName;

/// Most bytes of a damaged file that are read.
const MOST: u64 = 64 << 20;

/// What a damaged file says of apps, in so far as it does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Salvage {
    /// The apps it names, as of their generations.
    pub(super) apps: Vec<(AppName, Generation)>,
}

impl Salvage {
    /// What the file says before it becomes unreadable.
    pub(super) fn read(path: &Path) -> Self {
        let read = std::fs::File::open(path).and_then(|file| {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST), &mut text)
                .map(|_| text)
        });
        Self::of(&String::from_utf8_lossy(&read.unwrap_or_default()))
    }

    fn of(text: &str) -> Self {
        let mut apps = Vec::new();
        let mut rest = text.split_once("\"apps\":{").map_or("", |(_, rest)| rest);
        while let Some((name, after)) = value(rest) {
            let Some((app, after)) = after.strip_prefix(':').and_then(value) else { break };
            let name = name.as_str().and_then(|name| AppName::new(name).ok());
            let generation = app.get("generation").and_then(serde_json::Value::as_u64);
            if let (Some(name), Some(generation)) = (name, generation) {
                apps.push((name, Generation(generation)));
            }
            rest = after.strip_prefix(',').unwrap_or_default();
        }
        Self { apps }
    }
}

/// The value a text begins with, and what is behind it.
fn value(text: &str) -> Option<(serde_json::Value, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"schema":2,"checksum":"x","payload":{"generation":9,"apps":{"a":{"app":{"name":"a"},"generation":7,"deploy":7},"b":{"app":{},"generation":9,"deploy":8}}}}"#;

    fn names(text: &str) -> Vec<String> {
        Salvage::of(text).apps.iter().map(|(name, n)| format!("{name} {n}")).collect()
    }

    #[test]
    fn what_is_before_the_damage_is_read() {
        assert_eq!(names(TEXT), ["a 7", "b 9"]);
        assert_eq!(names(&TEXT[..TEXT.len() - 12]), ["a 7"]);
        for cut in 0..TEXT.len() {
            assert!(names(&TEXT[..cut]).len() <= 2, "never a panic");
        }
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names(&TEXT.replace("\"app\"", "app")), Vec::<String>::new());
    }
}
