//! The mesh's rows. Every change of them raises one number, in the statement that also compares it with what the writer
//! knew: of two that change the mesh at once the second one writes nothing, whichever processes they are.
//!
//! In SQLite the process that drives writes them, with everything else. In PostgreSQL any process may, whoever has the lease:
//! the number alone keeps the order, and a connection of its own keeps a busy API from holding a change up.

use super::database::Database;
use super::dialect::{Columns, Dialect, Options, Session, Value};
use super::read::{ask, whole};
use super::rows::Write;
use crate::base::fault::{Fault, FaultKind};
use crate::ports::{JournalError, MeshRows, MeshStore, Saved};
use async_trait::async_trait;
use sqlx::Pool;
use tokio::sync::Mutex;

/// Takes the next number, if nobody else did. A transaction of another process is waited for, and its number then seen.
const NEXT: &str = "UPDATE mesh_sequence SET last = last + 1 WHERE id = 1 AND last = $1";
const PUT: &str = "INSERT INTO mesh_resources (key, body, changed) VALUES ($1, $2, $3) \
                   ON CONFLICT (key) DO UPDATE SET body = excluded.body, changed = excluded.changed";
const DELETE: &str = "DELETE FROM mesh_resources WHERE key = $1";
const DELETED: &str = "INSERT INTO mesh_deleted (key, changed) VALUES ($1, $2) \
                       ON CONFLICT (key) DO UPDATE SET changed = excluded.changed";
const FORGET: &str = "DELETE FROM mesh_deleted WHERE changed <= $1";
/// One statement each, so that rows and number are of one moment. The row without a key has the number; no resource's JSON is
/// empty, so an empty body is one that was deleted.
const ALL: &str = "SELECT '' AS key, '' AS body, last FROM mesh_sequence WHERE id = 1 \
                   UNION ALL SELECT key, body, changed FROM mesh_resources";
const SINCE: &str = "SELECT '' AS key, '' AS body, last FROM mesh_sequence WHERE id = 1 \
                     UNION ALL SELECT key, body, changed FROM mesh_resources WHERE changed > $1 \
                     UNION ALL SELECT key, '', changed FROM mesh_deleted WHERE changed > $1 \
                     AND NOT EXISTS (SELECT 1 FROM mesh_resources WHERE mesh_resources.key = mesh_deleted.key)";

/// Deletions of so many changes are remembered. Whoever follows asks several times a second, so one that is farther behind was
/// away for long and reads everything.
const KEPT: u64 = 10_000;

/// Rows to write, by whoever knows all changes up to `seen`.
#[derive(Debug)]
pub(super) struct MeshChange {
    seen: u64,
    rows: Vec<(String, Option<String>)>,
}

impl MeshChange {
    /// Writes within a transaction; answers the change's number, or `None` when it is not its turn and nothing was written.
    pub(super) async fn apply<D: Dialect>(&self, tx: &mut D::Connection) -> Result<Option<u64>, sqlx::Error> {
        let number = self.seen.saturating_add(1);
        if tx.execute(NEXT, &[Value::Whole(signed(self.seen))]).await? == 0 {
            return Ok(None);
        }
        let changed = Value::Whole(signed(number));
        for (key, body) in &self.rows {
            match body {
                Some(body) => drop(tx.execute(PUT, &[Value::Text(key), Value::Text(body), changed]).await?),
                None => {
                    tx.execute(DELETE, &[Value::Text(key)]).await?;
                    tx.execute(DELETED, &[Value::Text(key), changed]).await?;
                }
            }
        }
        if self.rows.iter().any(|(_, body)| body.is_none()) {
            tx.execute(FORGET, &[Value::Whole(signed(number.saturating_sub(KEPT)))]).await?;
        }
        Ok(Some(number))
    }
}

/// Changes rise by one: 2^63 of them do not happen.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A connection for the mesh's rows alone, where every process may change them.
pub(super) struct Link<D: Dialect> {
    options: Options<D>,
    /// `None` before the first change, and after one that failed.
    open: Mutex<Option<D::Connection>>,
}

impl<D: Dialect> Link<D> {
    pub(super) fn new(options: Options<D>) -> Self {
        Self { options, open: Mutex::default() }
    }

    async fn save(&self, change: &MeshChange) -> Result<Saved, Fault> {
        let mut open = self.open.lock().await;
        let mut connection = self.begin(&mut open).await.map_err(D::fault)?;
        let written = D::bounded(change.apply::<D>(&mut connection)).await;
        let (end, saved) = match written {
            Ok(Some(number)) => ("COMMIT", Saved::Done(number)),
            Ok(None) => ("ROLLBACK", Saved::Behind),
            Err(error) => {
                *open = D::recover(connection).await;
                return Err(D::fault(error));
            }
        };
        if let Err(error) = D::bounded(connection.say(end)).await {
            *open = D::recover(connection).await;
            // The answer may have been lost and not the change.
            return Err(Fault { kind: FaultKind::Unknown, ..D::fault(error) });
        }
        *open = Some(connection);
        Ok(saved)
    }

    /// A connection with a transaction begun; a new one in place of one that was lost meanwhile.
    async fn begin(&self, open: &mut Option<D::Connection>) -> Result<D::Connection, sqlx::Error> {
        if let Some(mut kept) = open.take()
            && D::bounded(kept.say(D::BEGIN)).await.is_ok()
        {
            return Ok(kept);
        }
        let mut connection = D::connect(&self.options).await?;
        D::bounded(connection.say(D::BEGIN)).await?;
        Ok(connection)
    }

    /// Ends the connection.
    pub(super) async fn close(&self) {
        if let Some(connection) = self.open.lock().await.take() {
            // What was to be kept is committed, however this ends.
            let _ = D::bounded(sqlx::Connection::close(connection)).await;
        }
    }
}

async fn rows<D: Dialect>(readers: &Pool<D>, sql: &'static str, values: &[Value<'_>]) -> Result<MeshRows, Fault> {
    let mut found = MeshRows::default();
    for row in ask(readers, sql, values).await? {
        let (key, body) = (row.text("key").map_err(D::fault)?, row.text("body").map_err(D::fault)?);
        if key.is_empty() {
            found.sequence = whole(row.whole("last").map_err(D::fault)?);
        } else {
            found.rows.push((key, (!body.is_empty()).then_some(body)));
        }
    }
    Ok(found)
}

#[async_trait]
impl<D: Dialect> MeshStore for Database<D> {
    fn is_shared(&self) -> bool {
        self.mesh.is_some()
    }

    async fn load(&self) -> Result<MeshRows, Fault> {
        let mut all = rows(&self.readers, ALL, &[]).await?;
        all.rows.sort();
        Ok(MeshRows { is_all: true, ..all })
    }

    async fn since(&self, seen: u64) -> Result<MeshRows, Fault> {
        let changed = rows(&self.readers, SINCE, &[Value::Whole(signed(seen))]).await?;
        // A number that went back is that of a database which was restored.
        let is_told = changed.sequence >= seen && changed.sequence - seen <= KEPT;
        if is_told { Ok(changed) } else { self.load().await }
    }

    async fn save(&self, seen: u64, changes: Vec<(String, Option<String>)>) -> Result<Saved, Fault> {
        let change = MeshChange { seen, rows: changes };
        if let Some(link) = &self.mesh {
            return link.save(&change).await;
        }
        match self.writer.write::<D>(Write::Mesh(change)).await {
            Ok(0) => Ok(Saved::Behind),
            Ok(number) => Ok(Saved::Done(number)),
            Err(JournalError::Fault(fault)) => Err(fault),
            // Rows of the mesh belong to no rollout.
            Err(other) => Err(Fault::permanent(D::SOURCE, other)),
        }
    }
}
