//! The seam to a chat in which people answer.

use crate::base::fault::Fault;
use async_trait::async_trait;

/// Knows who is who in a chat, and says something to one of them.
#[async_trait]
pub trait Chat: Send + Sync + 'static {
    /// Whether a user is a member of a group.
    async fn is_member(&self, group: &str, user: &str) -> Result<bool, Fault>;
    /// Says something in a channel that only this user sees.
    async fn whisper(&self, channel: &str, user: &str, text: &str) -> Result<(), Fault>;
}
