//! How far followers of the journal have come, once for both databases.
//!
//! Not under the driver's lease: a position only rises, and whoever wrote it has told what lies before it.

use super::database::Database;
use super::dialect::{Columns, Dialect, Value};
use super::read::ask;
use crate::base::fault::Fault;
use crate::policy::plan::NoticeKind;
use crate::ports::NewsCursor;
use async_trait::async_trait;

const READ: &str = "SELECT position FROM cursors WHERE name = $1";
const RAISE: &str = "INSERT INTO cursors (name, position) VALUES ($1, $2) \
                     ON CONFLICT (name) DO UPDATE SET position = excluded.position \
                     WHERE excluded.position > cursors.position";
/// The follower that tells places outside. GitHub was the first of them.
const fn name(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Github => "news",
        NoticeKind::Slack => "news-slack",
        NoticeKind::Webhook => "news-webhook",
    }
}

#[async_trait]
impl<D: Dialect> NewsCursor for Database<D> {
    async fn told(&self, kind: NoticeKind) -> Result<Option<u64>, Fault> {
        let rows = ask(&self.readers, READ, &[Value::Text(name(kind))]).await?;
        let position = rows.first().map(|row| row.whole("position").map_err(D::fault)).transpose()?;
        Ok(position.map(|position| u64::try_from(position).unwrap_or(0)))
    }

    async fn set_told(&self, kind: NoticeKind, position: u64) -> Result<(), Fault> {
        let position = Value::Whole(i64::try_from(position).unwrap_or(i64::MAX));
        self.change(RAISE, &[Value::Text(name(kind)), position]).await.map(|_| ())
    }
}
