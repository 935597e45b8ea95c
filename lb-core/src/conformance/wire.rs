//! A wire without a network: every argument and result becomes JSON and comes back.

mod balancer;
mod runtime;
mod stores;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;

/// A backend whose arguments, results, errors and stream items are encoded and decoded on their way, as an
/// agent does it over the network.
#[derive(Debug)]
pub struct Wire<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Wire<T> {
    /// Puts a wire before a backend.
    pub const fn new(inner: Arc<T>) -> Self {
        Self(inner)
    }
}

/// The value as it arrives. Only values the contract allows are sent, so none may fail.
fn sent<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let name = std::any::type_name::<T>();
    let json = serde_json::to_vec(value).unwrap_or_else(|e| panic!("{name} must encode: {e}"));
    serde_json::from_slice(&json)
        .unwrap_or_else(|e| panic!("{name} must decode: {e} in {}", String::from_utf8_lossy(&json)))
}

/// The result as it arrives: the error loses its source, nothing else.
fn answer<T: Serialize + DeserializeOwned>(result: Result<T>) -> Result<T> {
    result.map(|value| sent(&value)).map_err(|error| sent(&error))
}

fn answers<T>(stream: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    stream.map(answer).boxed()
}
