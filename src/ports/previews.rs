//! The seam to the routes of previews.

use crate::base::fault::Fault;
use crate::rollout::effect::PreviewRoute;
use crate::rollout::event::PreviewReading;
use async_trait::async_trait;

/// Makes and removes the routes of previews. Each call may be made twice for one purpose, and the second one changes nothing
/// more.
#[async_trait]
pub trait Previews: Send + Sync + 'static {
    /// What is in the way of such a route, before anything is done; `None` where nothing is.
    async fn obstacle(&self, preview: &PreviewRoute) -> Result<Option<Obstacle>, Fault>;
    /// Makes the route; one that an earlier rollout has left is taken over.
    ///
    /// # Errors
    /// A permanent fault where a route of that name is somebody else's.
    async fn open(&self, preview: &PreviewRoute) -> Result<(), Fault>;
    /// Removes the route. Somebody else's is left alone, and counts as removed.
    async fn close(&self, preview: &PreviewRoute) -> Result<(), Fault>;
    /// The route of that name now, and its version; which proxies have it is not told here. `None` where there is none.
    async fn read(&self, preview: &PreviewRoute) -> Result<Option<(PreviewReading, u64)>, Fault>;
}

/// Why a preview cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What is in the way, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}
