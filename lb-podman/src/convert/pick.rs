//! Reading answers leniently: what is absent or of another type is not there, and nothing else suffers.

use std::collections::BTreeMap;

use serde_json::Value;

/// The text at a JSON pointer (RFC 6901).
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The number at a JSON pointer; a text that is one counts.
pub(super) fn number(value: &Value, pointer: &str) -> Option<i64> {
    match value.pointer(pointer)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The yes or no at a JSON pointer.
pub(super) fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer)?.as_bool()
}

/// The texts of the list at a JSON pointer.
pub(super) fn texts<'a>(
    value: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    items(value, pointer).iter().filter_map(Value::as_str)
}

/// The list at a JSON pointer.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The labels at a JSON pointer.
pub(super) fn labels(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = value.pointer(pointer).and_then(Value::as_object);
    let entry = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    map.into_iter().flatten().filter_map(entry).collect()
}
