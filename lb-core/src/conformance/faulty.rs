//! Faults on request around any backend.

mod balancer;
mod runtime;
mod stores;

use std::sync::Arc;

use crate::memory::Faults;

/// A backend that fails, answers late or loses answers when [`Faults`] say so, and is the same backend
/// when they do not. Streams are passed on as they are.
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    faults: Faults,
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps a backend, without faults so far.
    pub fn new(inner: Arc<T>) -> Self {
        Self { inner, faults: Faults::default() }
    }

    /// The faults of its calls.
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }
}
