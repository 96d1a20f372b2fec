//! Notes of what was told whom, once for both databases.
//!
//! Not under the driver's lease: whoever took a message's place over reads the note of whoever sent it.

use super::database::Database;
use super::dialect::{Columns, Dialect, Value};
use super::read::ask;
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::ports::Notes;
use async_trait::async_trait;

const READ: &str = "SELECT value FROM notes WHERE key = $1";
/// Keys begin so, by comparison and not by pattern: a `%` or `_` in one is itself.
const UNDER: &str = "SELECT key, value FROM notes WHERE substr(key, 1, length($1)) = $1 ORDER BY key LIMIT 1000";
const SET: &str = "INSERT INTO notes (key, value, at_ms) VALUES ($1, $2, $3) \
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms";
const FIRST: &str = "INSERT INTO notes (key, value, at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const FORGET: &str = "DELETE FROM notes WHERE at_ms < $2 AND substr(key, 1, length($1)) = $1";

#[async_trait]
impl<D: Dialect> Notes for Database<D> {
    async fn note(&self, key: &str) -> Result<Option<String>, Fault> {
        let rows = ask(&self.readers, READ, &[Value::Text(key)]).await?;
        rows.first().map(|row| row.text("value").map_err(D::fault)).transpose()
    }

    async fn notes_under(&self, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
        let rows = ask(&self.readers, UNDER, &[Value::Text(prefix)]).await?;
        let pair = |row: &<D::Connection as super::dialect::Session>::Row| Ok((row.text("key")?, row.text("value")?));
        rows.iter().map(|row| pair(row).map_err(D::fault)).collect()
    }

    async fn set_note(&self, key: &str, value: &str, at: Timestamp) -> Result<(), Fault> {
        self.change(SET, &[Value::Text(key), Value::Text(value), Value::Whole(at.0)]).await.map(|_| ())
    }

    async fn first_note(&self, key: &str, value: &str, at: Timestamp) -> Result<bool, Fault> {
        let values = [Value::Text(key), Value::Text(value), Value::Whole(at.0)];
        Ok(self.change(FIRST, &values).await? == 1)
    }

    async fn forget_notes(&self, prefix: &str, before: Timestamp) -> Result<(), Fault> {
        self.change(FORGET, &[Value::Text(prefix), Value::Whole(before.0)]).await.map(|_| ())
    }
}
