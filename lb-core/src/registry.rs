//! Which hosts there are.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::error::Result;
use crate::model::{HostFacts, HostId, HostSet};

/// Hosts and their leases.
///
/// # Contract
/// - A host is a member from its first `announce` until its lease of `ttl` ends unrenewed, or `withdraw`.
/// - Identity is [`HostFacts::id`]. Announcing again with other facts replaces them; a second registration
///   under the same id is the same host.
/// - All calls are idempotent. Cancelling a call leaves it either done or not done.
#[async_trait]
pub trait HostRegistry: Debug + Send + Sync + 'static {
    /// Registers or renews: what a host says of itself, valid for `ttl`.
    ///
    /// # Errors
    /// `Invalid` for a `ttl` of zero and for facts that [`HostFacts::check`] refuses; `Unavailable` or `Timeout` if the registry cannot be reached.
    async fn announce(&self, host: &HostFacts, ttl: Duration) -> Result<()>;

    /// Ends the lease at once. An absent host is success.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` if the registry cannot be reached.
    async fn withdraw(&self, id: &HostId) -> Result<()>;

    /// The whole set now, and again whenever members or facts change; a mere renewal is no change.
    ///
    /// The stream never ends by itself. An `Err` item says the registry cannot be believed right now; the
    /// stream goes on and yields the whole set once it can. A slow reader sees the latest set, not each.
    fn watch(&self) -> BoxStream<'static, Result<Arc<HostSet>>>;
}
