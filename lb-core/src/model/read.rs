//! Reading an app file: errors say where in the text and in the app, what was wrong, and show no secret.

use serde_path_to_error::{Path, Segment};

use super::app::AppSpec;
use super::hints::plain_words;
use super::names::AppName;
use crate::error::{Error, Result};

/// Longest part of a parser's message that is repeated.
const SHOWN: usize = 300;

/// A place in the text, both from 1.
struct Place {
    line: usize,
    column: usize,
}

pub(super) fn toml(text: &str) -> Result<AppSpec> {
    let place = |e: &toml::de::Error| e.span().map(|span| Place::of(text, span.start));
    not_empty(text)?;
    let parsed = toml::Deserializer::parse(text).map_err(|e| {
        let said = e.message();
        let key =
            e.span().filter(|_| said.starts_with("duplicate key")).and_then(|span| text.get(span));
        let message = key.map(|key| format!("{} must be there once", plain(key)));
        wrong(place(&e).as_ref(), None, None, message.as_deref().unwrap_or(said))
    })?;
    serde_path_to_error::deserialize(parsed).map_err(|e| {
        let inner = e.inner();
        let table = text.parse::<toml::Table>().ok();
        let name = table.as_ref().and_then(|t| t.get("name")?.as_str());
        wrong(place(inner).as_ref(), name, Some(e.path()), inner.message())
    })
}

pub(super) fn json(text: &str) -> Result<AppSpec> {
    not_empty(text)?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut parser).map_err(|e| {
        let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
        let name = value.as_ref().and_then(|v| v.get("name")?.as_str());
        json_wrong(e.inner(), name, Some(e.path()))
    })?;
    parser.end().map_err(|e| json_wrong(&e, None, None))?;
    Ok(read)
}

fn not_empty(text: &str) -> Result<()> {
    let says = |line: &str| !line.is_empty() && !line.starts_with('#');
    match text.lines().map(str::trim).any(says) {
        true => Ok(()),
        false => {
            Err(Error::invalid("app file", "is empty: must say at least name, image and a port"))
        }
    }
}

/// `serde_json` puts the place at the end of its message.
fn json_wrong(e: &serde_json::Error, name: Option<&str>, path: Option<&Path>) -> Error {
    let place = Place { line: e.line(), column: e.column() };
    let text = e.to_string();
    let end = format!(" at line {} column {}", place.line, place.column);
    wrong(Some(&place), name, path, text.strip_suffix(&end).unwrap_or(&text))
}

fn wrong(place: Option<&Place>, name: Option<&str>, path: Option<&Path>, message: &str) -> Error {
    let path: Vec<String> = path.into_iter().flat_map(Path::iter).filter_map(shown).collect();
    let message = match plain_words(&path, message) {
        Some(words) => words,
        None if hides(&path) && message.starts_with("invalid ") => {
            "must be of another type".to_owned()
        }
        None => plain(message),
    };
    let mut subject = match place {
        Some(Place { line, column }) => vec![format!("app file line {line}, column {column}")],
        None => vec!["app file".to_owned()],
    };
    if let Some(name) = name.and_then(|name| AppName::new(name).ok()) {
        subject.push(format!("app \"{name}\""));
    }
    subject.extend(within(&path, &message));
    Error::invalid(subject.join(": "), message)
}

/// The parts of the path in words, without a last one the message begins with itself.
fn within(path: &[String], message: &str) -> Vec<String> {
    let (port, fields) = match path {
        [ports, name, fields @ ..] if ports == "ports" => (Some(name), fields),
        fields => (None, fields),
    };
    let fields = match fields {
        [rest @ .., last] if names(message, last) => rest,
        all => all,
    };
    let mut parts = Vec::new();
    parts.extend(port.filter(|_| !message.starts_with("port ")).map(|n| format!("port \"{n}\"")));
    if !fields.is_empty() {
        parts.push(fields.join("."));
    }
    parts
}

/// Whether the message says itself which field it is about: `path "cart": ...`, `replicas { ...`.
fn names(message: &str, field: &str) -> bool {
    message.strip_prefix(field).is_some_and(|rest| rest.starts_with([' ', ':']))
}

fn shown(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(format!("{index}")),
        Segment::Map { key } => Some(plain(key)),
        Segment::Enum { variant } => Some(plain(variant)),
        Segment::Unknown => None,
    }
}

/// Whether values under this path must not show.
fn hides(path: &[String]) -> bool {
    path.iter().any(|part| ["secrets", "registry", "tls", "env"].contains(&part.as_str()))
}

/// On one line, without control characters, and cut.
fn plain(text: &str) -> String {
    let on_one_line = |c: char| if c.is_control() { ' ' } else { c };
    let plain: String = text.trim_end().chars().take(SHOWN).map(on_one_line).collect();
    match text.chars().nth(SHOWN) {
        Some(_) => format!("{plain}... ({} bytes)", text.len()),
        None => plain,
    }
}

impl Place {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
