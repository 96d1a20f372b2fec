//! What was told whom, so that nobody is told twice, whoever tells.

use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use async_trait::async_trait;

/// Keeps short notes by key, for all daemons on one database.
#[async_trait]
pub trait Notes: Send + Sync + 'static {
    /// The note under a key.
    async fn note(&self, key: &str) -> Result<Option<String>, Fault>;
    /// Notes whose keys begin so, by key; 1000 at most.
    async fn notes_under(&self, prefix: &str) -> Result<Vec<(String, String)>, Fault>;
    /// Keeps a note, in place of one that was there.
    async fn set_note(&self, key: &str, value: &str, at: Timestamp) -> Result<(), Fault>;
    /// Keeps a note unless there is one; answers whether there was none. Of two that do so at once, one does.
    async fn first_note(&self, key: &str, value: &str, at: Timestamp) -> Result<bool, Fault>;
    /// Forgets notes under keys that begin so and are older.
    async fn forget_notes(&self, prefix: &str, before: Timestamp) -> Result<(), Fault>;
}
