//! An open database: the ports of the store over one writer and a few readers, whichever database it is.

use super::dialect::{Dialect, Session, Value};
use super::mesh::Link;
use super::read;
use super::rows::{Begin, Rows, Write};
use super::writer::Writer;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::policy::plan::Plan;
use crate::ports::{Commit, Journal, JournalError, JournalRow, Stored};
use crate::rollout::effect::{Effect, EffectId};
use async_trait::async_trait;
use sqlx::Pool;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Connections that read: lists and views of the API. More would wait for the two cores this is built for.
pub(super) const READERS: u32 = 4;
/// Closing takes no longer: what was written is committed, and a connection that hangs is closed with the process.
const CLOSING: Duration = Duration::from_secs(5);

/// An open database. Clones are the same one.
pub struct Database<D: Dialect> {
    pub(super) writer: Writer,
    pub(super) readers: Pool<D>,
    pub(super) kept: D::Kept,
    /// Writes the mesh's rows where every process may; else whoever drives does.
    pub(super) mesh: Option<Arc<Link<D>>>,
}

impl<D: Dialect> Database<D> {
    /// Finishes what is being written and closes the connections.
    pub async fn close(&self) {
        let closing = async {
            self.writer.close().await;
            if let Some(mesh) = &self.mesh {
                mesh.close().await;
            }
            self.readers.close().await;
        };
        let _ = tokio::time::timeout(CLOSING, closing).await;
    }

    /// One statement that writes, on a connection of the readers and not under the driver's lease; answers how many rows it
    /// changed. A connection that gave no answer is given up.
    pub(super) async fn change(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let mut connection = self.readers.acquire().await.map_err(D::fault)?;
        let changed = D::bounded(connection.execute(sql, values)).await;
        if matches!(changed, Err(sqlx::Error::Io(_))) {
            drop(connection.detach());
        }
        changed.map_err(D::fault)
    }
}

impl<D: Dialect> Clone for Database<D> {
    fn clone(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            readers: self.readers.clone(),
            kept: self.kept.clone(),
            mesh: self.mesh.clone(),
        }
    }
}

impl<D: Dialect> fmt::Debug for Database<D> {
    // Connection options hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("source", &D::SOURCE).finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Dialect> Journal for Database<D> {
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError> {
        self.writer.write::<D>(Write::Begin(Begin::of(plan, commit)?)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError> {
        self.writer.write::<D>(Write::Commit(Rows::of(commit)?)).await
    }

    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError> {
        self.writer.write::<D>(Write::Attempt(effect.clone())).await.map(drop)
    }

    async fn live(&self) -> Result<Vec<Stored>, Fault> {
        read::live(&self.readers).await
    }

    async fn unsettled(&self, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
        read::unsettled(&self.readers, id).await
    }

    async fn get(&self, id: &RolloutId) -> Result<Option<Stored>, Fault> {
        read::get(&self.readers, id).await
    }

    async fn list(&self, limit: u32) -> Result<Vec<Stored>, Fault> {
        read::list(&self.readers, limit).await
    }

    async fn last_generation(&self, route: &RouteRef) -> Result<u64, Fault> {
        read::last_generation(&self.readers, route).await
    }

    async fn last_succeeded(&self, route: &RouteRef) -> Result<Option<Stored>, Fault> {
        read::last_succeeded(&self.readers, route).await
    }

    async fn position(&self) -> Result<u64, Fault> {
        read::position(&self.readers).await
    }

    async fn since(&self, position: u64, limit: u32) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
        read::since(&self.readers, position, limit).await
    }

    async fn inputs(&self, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
        read::inputs(&self.readers, id).await
    }
}
