//! Setups whose backends lie behind a wrapper.

use std::fmt;
use std::sync::Arc;

/// A setup whose backends of the trait `T` are wrapped, such as in [`Wire`](super::Wire):
///
/// ```
/// # use lb_core::conformance::{Wire, Wrapped};
/// # use lb_core::ContainerRuntime;
/// # fn over_the_wire<S>(setup: S) -> Wrapped<S, dyn ContainerRuntime> {
/// Wrapped::new(setup, |runtime| Arc::new(Wire::new(runtime)))
/// # }
/// # use std::sync::Arc;
/// ```
pub struct Wrapped<S, T: ?Sized> {
    pub(super) setup: S,
    wrap: fn(Arc<T>) -> Arc<T>,
}

impl<S, T: ?Sized> Wrapped<S, T> {
    /// Wraps what `setup` makes.
    pub const fn new(setup: S, wrap: fn(Arc<T>) -> Arc<T>) -> Self {
        Self { setup, wrap }
    }

    pub(super) fn wrap(&self, backend: Arc<T>) -> Arc<T> {
        (self.wrap)(backend)
    }
}

impl<S: fmt::Debug, T: ?Sized> fmt::Debug for Wrapped<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped").field("setup", &self.setup).finish_non_exhaustive()
    }
}
