//! What a write puts into which rows. Values become text before they are queued, so that the one writer only writes.

use super::read;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef};
use crate::policy::plan::Plan;
use crate::ports::{Commit, JournalError, Stored};
use crate::rollout::effect::EffectId;
use crate::rollout::state::ENGINE_VERSION;
use crate::store::record;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeSet;

/// One thing to write, all or nothing.
#[derive(Debug)]
pub(super) enum Write {
    /// A rollout with its first input.
    Begin(Begin),
    /// One input of a rollout that exists.
    Commit(Rows),
    /// An effect is being carried out (again).
    Attempt(EffectId),
    /// Rows of the mesh; `None` deletes.
    Mesh(Vec<(String, Option<String>)>),
    /// Nothing: written when all before it is.
    Nothing,
}

/// A new rollout.
#[derive(Debug)]
pub(super) struct Begin {
    rows: Rows,
    policy: String,
    route: RouteRef,
    started_at_ms: i64,
    plan: String,
}

/// One input with all that it changes.
#[derive(Debug)]
pub(super) struct Rows {
    id: RolloutId,
    seq: i64,
    finished: bool,
    generation: i64,
    next_deadline_ms: Option<i64>,
    updated_at_ms: i64,
    state: String,
    at_ms: i64,
    input: String,
    effects: Vec<(EffectId, String)>,
    settles: Option<EffectId>,
    pending: BTreeSet<EffectId>,
}

/// A write's answer: the position of an input, 0 where there is none; or why it was refused, having written nothing.
pub(super) type Answer = Result<u64, JournalError>;

impl Begin {
    /// # Errors
    /// A permanent fault: something that JSON cannot hold.
    pub(super) fn of(plan: &Plan, commit: &Commit) -> Result<Self, Fault> {
        Ok(Self {
            rows: Rows::of(commit)?,
            policy: plan.name.clone(),
            route: plan.route.clone(),
            started_at_ms: commit.state.started_at.0,
            plan: record::to_text(plan)?,
        })
    }
}

impl Rows {
    /// # Errors
    /// A permanent fault: something that JSON cannot hold.
    pub(super) fn of(commit: &Commit) -> Result<Self, Fault> {
        let effects = commit.effects.iter().map(|(id, effect)| Ok((id.clone(), record::to_text(effect)?)));
        Ok(Self {
            id: commit.state.id.clone(),
            seq: count(commit.state.seq.0),
            finished: commit.state.is_finished(),
            generation: count(commit.state.generation),
            next_deadline_ms: commit.next_deadline.map(|at| at.0),
            updated_at_ms: commit.state.at.0,
            state: record::to_text(&commit.state)?,
            at_ms: commit.input.at.0,
            input: record::to_text(&commit.input)?,
            effects: effects.collect::<Result<_, Fault>>()?,
            settles: commit.settles.clone(),
            pending: commit.state.open_effects().into_iter().collect(),
        })
    }
}

fn count(number: u64) -> i64 {
    // Sequence numbers and generations rise by one: 2^63 of them do not happen.
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Write {
    /// Writes within a transaction. `Ok(Err(_))` is a refusal, which has written nothing: whatever shares the transaction
    /// may still be committed. `epoch` is this process's lease.
    ///
    /// # Errors
    /// The database's: the transaction is broken.
    pub(super) async fn apply(&self, tx: &mut SqliteConnection, epoch: i64) -> Result<Answer, sqlx::Error> {
        match self {
            Self::Begin(begin) => begin.apply(tx, epoch).await,
            Self::Commit(rows) => rows.apply(tx, epoch).await,
            Self::Attempt(effect) => attempt(tx, effect, epoch).await,
            Self::Mesh(changes) => {
                mesh(tx, changes).await?;
                Ok(Ok(0))
            }
            Self::Nothing => Ok(Ok(0)),
        }
    }
}

impl Begin {
    async fn apply(&self, tx: &mut SqliteConnection, epoch: i64) -> Result<Answer, sqlx::Error> {
        let rows = &self.rows;
        let lease: i64 = sqlx::query_scalar("SELECT epoch FROM driver_lease WHERE id = 1").fetch_one(&mut *tx).await?;
        if lease != epoch {
            return Ok(Err(JournalError::Fenced(rows.id.clone())));
        }
        let route = self.route.to_string();
        let live = sqlx::query("SELECT id, format, plan, state FROM rollouts WHERE route = ? AND finished = 0")
            .bind(&route)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = live {
            return Ok(Err(match read::stored(&row) {
                Ok(Stored { state, .. }) => {
                    let (since, by) = (state.started_at.rfc3339(), state.started_by.to_string());
                    JournalError::AlreadyLive { id: state.id, route: self.route.clone(), since, by }
                }
                Err(fault) => JournalError::Fault(fault),
            }));
        }
        sqlx::query(
            "INSERT INTO rollouts (id, policy, route, seq, finished, generation, lease_epoch, next_deadline_ms, \
             started_at_ms, updated_at_ms, format, plan, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&rows.id.0)
        .bind(&self.policy)
        .bind(&route)
        .bind(rows.seq)
        .bind(rows.finished)
        .bind(rows.generation)
        .bind(epoch)
        .bind(rows.next_deadline_ms)
        .bind(self.started_at_ms)
        .bind(rows.updated_at_ms)
        .bind(record::FORMAT)
        .bind(&self.plan)
        .bind(&rows.state)
        .execute(&mut *tx)
        .await?;
        let position = rows.journal(tx).await?;
        rows.intend(tx).await?;
        Ok(Ok(position))
    }
}

impl Rows {
    async fn apply(&self, tx: &mut SqliteConnection, epoch: i64) -> Result<Answer, sqlx::Error> {
        let updated = sqlx::query(
            "UPDATE rollouts SET seq = ?, finished = ?, generation = ?, next_deadline_ms = ?, updated_at_ms = ?, \
             state = ? WHERE id = ? AND seq = ? AND lease_epoch = ?",
        )
        .bind(self.seq)
        .bind(self.finished)
        .bind(self.generation)
        .bind(self.next_deadline_ms)
        .bind(self.updated_at_ms)
        .bind(&self.state)
        .bind(&self.id.0)
        .bind(self.seq - 1)
        .bind(epoch)
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() != 1 {
            return self.refused(tx, epoch).await;
        }
        let position = self.journal(tx).await?;
        self.intend(tx).await?;
        self.settle(tx).await?;
        Ok(Ok(position))
    }

    /// Why no row was there to update: another process drives, or a commit that was reported as failed had been made
    /// all the same (a disk may fail after writing).
    async fn refused(&self, tx: &mut SqliteConnection, epoch: i64) -> Result<Answer, sqlx::Error> {
        let lease: Option<i64> = sqlx::query_scalar("SELECT lease_epoch FROM rollouts WHERE id = ?")
            .bind(&self.id.0)
            .fetch_optional(&mut *tx)
            .await?;
        if lease != Some(epoch) {
            return Ok(Err(JournalError::Fenced(self.id.clone())));
        }
        Ok(Err(JournalError::Ahead(self.id.clone())))
    }

    /// Answers the row's position: rows are never deleted, so SQLite numbers them in the order of their commits.
    async fn journal(&self, tx: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
        let inserted =
            sqlx::query("INSERT INTO journal (rollout_id, seq, at_ms, engine_version, input) VALUES (?, ?, ?, ?, ?)")
                .bind(&self.id.0)
                .bind(self.seq)
                .bind(self.at_ms)
                .bind(i64::from(ENGINE_VERSION))
                .bind(&self.input)
                .execute(&mut *tx)
                .await?;
        Ok(u64::try_from(inserted.last_insert_rowid()).unwrap_or_default())
    }

    async fn intend(&self, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for (id, body) in &self.effects {
            sqlx::query(
                "INSERT INTO effects (rollout_id, seq, n, body, status, attempts) VALUES (?, ?, ?, ?, 'intended', 0)",
            )
            .bind(&id.rollout.0)
            .bind(count(id.seq.0))
            .bind(i64::from(id.n))
            .bind(body)
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }

    /// The effect that the input settles is done; whatever the state no longer waits for is superseded.
    async fn settle(&self, tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut mark: Vec<(EffectId, &str)> = self.settles.iter().map(|id| (id.clone(), "settled")).collect();
        let open = sqlx::query("SELECT seq, n FROM effects WHERE rollout_id = ? AND status = 'intended'")
            .bind(&self.id.0)
            .fetch_all(&mut *tx)
            .await?;
        for row in open {
            let id = read::effect_id(&self.id, row.try_get("seq")?, row.try_get("n")?);
            if Some(&id) != self.settles.as_ref() && !self.pending.contains(&id) {
                mark.push((id, "superseded"));
            }
        }
        for (id, status) in mark {
            sqlx::query("UPDATE effects SET status = ? WHERE rollout_id = ? AND seq = ? AND n = ?")
                .bind(status)
                .bind(&id.rollout.0)
                .bind(count(id.seq.0))
                .bind(i64::from(id.n))
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }
}

async fn attempt(tx: &mut SqliteConnection, effect: &EffectId, epoch: i64) -> Result<Answer, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE effects SET attempts = attempts + 1 WHERE rollout_id = ? AND seq = ? AND n = ? \
         AND EXISTS (SELECT 1 FROM rollouts WHERE id = effects.rollout_id AND lease_epoch = ?)",
    )
    .bind(&effect.rollout.0)
    .bind(count(effect.seq.0))
    .bind(i64::from(effect.n))
    .bind(epoch)
    .execute(&mut *tx)
    .await?;
    Ok(match updated.rows_affected() {
        1 => Ok(0),
        _ => Err(JournalError::Fenced(effect.rollout.clone())),
    })
}

async fn mesh(tx: &mut SqliteConnection, changes: &[(String, Option<String>)]) -> Result<(), sqlx::Error> {
    for (key, body) in changes {
        let query = match body {
            Some(body) => sqlx::query(
                "INSERT INTO mesh_resources (key, body) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body",
            )
            .bind(key)
            .bind(body),
            None => sqlx::query("DELETE FROM mesh_resources WHERE key = ?").bind(key),
        };
        query.execute(&mut *tx).await?;
    }
    Ok(())
}
