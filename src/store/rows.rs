//! What a write puts into which rows. Values become text before they are queued, so that the one writer only writes.

use super::dialect::{Columns, Dialect, Session, Value};
use super::mesh::MeshChange;
use super::read;
use super::triggers::{Push, Receive, Settle};
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef};
use crate::policy::plan::Plan;
use crate::ports::{Commit, JournalError, Stored};
use crate::rollout::effect::EffectId;
use crate::rollout::state::ENGINE_VERSION;
use crate::store::record;
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
    /// Rows of the mesh.
    Mesh(MeshChange),
    /// An event from outside.
    Receive(Receive),
    /// What came of a rollout that one asked for.
    Settle(Settle),
    /// A policy's next text.
    Push(Push),
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
    /// 1 when it is, else 0, in either database.
    finished: i64,
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
            finished: i64::from(commit.state.is_finished()),
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
    /// Writes within a transaction that has the lease in hand. `Ok(Err(_))` is a refusal, which has written nothing:
    /// whatever shares the transaction may still be committed. `epoch` is this process's lease.
    ///
    /// # Errors
    /// The database's: the transaction is broken.
    pub(super) async fn apply<D: Dialect>(&self, tx: &mut D::Connection, epoch: i64) -> Result<Answer, sqlx::Error> {
        match self {
            Self::Begin(begin) => begin.apply::<D>(tx, epoch).await,
            Self::Commit(rows) => rows.apply::<D>(tx, epoch).await,
            Self::Attempt(effect) => attempt::<D>(tx, effect, epoch).await,
            // No change has the number 0.
            Self::Mesh(change) => Ok(Ok(change.apply::<D>(tx).await?.unwrap_or(0))),
            Self::Receive(receive) => receive.apply::<D>(tx).await,
            Self::Settle(settle) => settle.apply::<D>(tx).await,
            Self::Push(push) => push.apply::<D>(tx).await,
        }
    }

    /// What a process that does not have the lease is told.
    pub(super) fn fenced<D: Dialect>(&self) -> JournalError {
        match self {
            Self::Begin(begin) => JournalError::Fenced(begin.rows.id.clone()),
            Self::Commit(rows) => JournalError::Fenced(rows.id.clone()),
            Self::Attempt(effect) => JournalError::Fenced(effect.rollout.clone()),
            // Lasting, so that nobody keeps the change to write it later: by then it would undo the other one's.
            Self::Mesh(_) => JournalError::Fault(Fault::permanent(
                D::SOURCE,
                "this process does not drive the database (another one does, or none): the mesh was not changed",
            )),
            // Whoever drives is asked instead.
            Self::Receive(_) | Self::Settle(_) | Self::Push(_) => JournalError::Fault(Fault::transient(
                D::SOURCE,
                "this process does not drive the database (another one does, or none): nothing was written",
            )),
        }
    }
}

impl Begin {
    async fn apply<D: Dialect>(&self, tx: &mut D::Connection, epoch: i64) -> Result<Answer, sqlx::Error> {
        let rows = &self.rows;
        let route = self.route.to_string();
        let sql = "SELECT id, format, plan, state FROM rollouts WHERE route = $1 AND finished = 0";
        if let Some(row) = tx.rows(sql, &[Value::Text(&route)]).await?.first() {
            return Ok(Err(match read::stored::<D>(row) {
                Ok(Stored { state, .. }) => {
                    let (since, by) = (state.started_at.rfc3339(), state.started_by.to_string());
                    JournalError::AlreadyLive { id: state.id, route: self.route.clone(), since, by }
                }
                Err(fault) => JournalError::Fault(fault),
            }));
        }
        tx.execute(
            "INSERT INTO rollouts (id, policy, route, seq, finished, generation, lease_epoch, next_deadline_ms, \
             started_at_ms, updated_at_ms, format, plan, state) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            &[
                Value::Text(&rows.id.0),
                Value::Text(&self.policy),
                Value::Text(&route),
                Value::Whole(rows.seq),
                Value::Whole(rows.finished),
                Value::Whole(rows.generation),
                Value::Whole(epoch),
                Value::Maybe(rows.next_deadline_ms),
                Value::Whole(self.started_at_ms),
                Value::Whole(rows.updated_at_ms),
                Value::Whole(record::FORMAT),
                Value::Text(&self.plan),
                Value::Text(&rows.state),
            ],
        )
        .await?;
        let position = rows.journal::<D>(tx).await?;
        rows.intend::<D>(tx).await?;
        Ok(Ok(position))
    }
}

impl Rows {
    async fn apply<D: Dialect>(&self, tx: &mut D::Connection, epoch: i64) -> Result<Answer, sqlx::Error> {
        let updated = tx
            .execute(
            "UPDATE rollouts SET seq = $1, finished = $2, generation = $3, next_deadline_ms = $4, updated_at_ms = $5, \
             state = $6 WHERE id = $7 AND seq = $8 AND lease_epoch = $9",
            &[
                Value::Whole(self.seq),
                Value::Whole(self.finished),
                Value::Whole(self.generation),
                Value::Maybe(self.next_deadline_ms),
                Value::Whole(self.updated_at_ms),
                Value::Text(&self.state),
                Value::Text(&self.id.0),
                Value::Whole(self.seq - 1),
                Value::Whole(epoch),
            ],
        )
        .await?;
        if updated != 1 {
            return self.refused::<D>(tx, epoch).await;
        }
        let position = self.journal::<D>(tx).await?;
        self.intend::<D>(tx).await?;
        self.settle::<D>(tx).await?;
        Ok(Ok(position))
    }

    /// Why no row was there to update: another process drives, or a commit that was reported as failed had been made
    /// all the same (a disk may fail after writing, a connection before the answer).
    async fn refused<D: Dialect>(&self, tx: &mut D::Connection, epoch: i64) -> Result<Answer, sqlx::Error> {
        let found = tx.rows("SELECT lease_epoch FROM rollouts WHERE id = $1", &[Value::Text(&self.id.0)]).await?;
        let lease = found.first().map(|row| row.whole("lease_epoch")).transpose()?;
        if lease != Some(epoch) {
            return Ok(Err(JournalError::Fenced(self.id.clone())));
        }
        Ok(Err(JournalError::Ahead(self.id.clone())))
    }

    /// Answers the row's position: rows are never deleted, and numbered in the order of their commits.
    async fn journal<D: Dialect>(&self, tx: &mut D::Connection) -> Result<u64, sqlx::Error> {
        let noted = tx
            .rows(
                D::NOTE,
                &[
                    Value::Text(&self.id.0),
                    Value::Whole(self.seq),
                    Value::Whole(self.at_ms),
                    Value::Whole(i64::from(ENGINE_VERSION)),
                    Value::Text(&self.input),
                ],
            )
            .await?;
        Ok(read::whole(noted.first().ok_or(sqlx::Error::RowNotFound)?.whole("position")?))
    }

    async fn intend<D: Dialect>(&self, tx: &mut D::Connection) -> Result<(), sqlx::Error> {
        for (id, body) in &self.effects {
            tx.execute(
                "INSERT INTO effects (rollout_id, seq, n, body, status, attempts) VALUES ($1, $2, $3, $4, 'intended', 0)",
                &[
                    Value::Text(&id.rollout.0),
                    Value::Whole(count(id.seq.0)),
                    Value::Whole(i64::from(id.n)),
                    Value::Text(body),
                ],
            )
            .await?;
        }
        Ok(())
    }

    /// The effect that the input settles is done; whatever the state no longer waits for is superseded.
    async fn settle<D: Dialect>(&self, tx: &mut D::Connection) -> Result<(), sqlx::Error> {
        let mut mark: Vec<(EffectId, &str)> = self.settles.iter().map(|id| (id.clone(), "settled")).collect();
        let sql = "SELECT seq, n FROM effects WHERE rollout_id = $1 AND status = 'intended'";
        for row in tx.rows(sql, &[Value::Text(&self.id.0)]).await? {
            let id = read::effect_id(&self.id, row.whole("seq")?, row.whole("n")?);
            if Some(&id) != self.settles.as_ref() && !self.pending.contains(&id) {
                mark.push((id, "superseded"));
            }
        }
        for (id, status) in mark {
            tx.execute(
                "UPDATE effects SET status = $1 WHERE rollout_id = $2 AND seq = $3 AND n = $4",
                &[
                    Value::Text(status),
                    Value::Text(&id.rollout.0),
                    Value::Whole(count(id.seq.0)),
                    Value::Whole(i64::from(id.n)),
                ],
            )
            .await?;
        }
        Ok(())
    }
}

async fn attempt<D: Dialect>(tx: &mut D::Connection, effect: &EffectId, epoch: i64) -> Result<Answer, sqlx::Error> {
    let updated = tx
        .execute(
            "UPDATE effects SET attempts = attempts + 1 WHERE rollout_id = $1 AND seq = $2 AND n = $3 \
         AND EXISTS (SELECT 1 FROM rollouts WHERE id = effects.rollout_id AND lease_epoch = $4)",
            &[
                Value::Text(&effect.rollout.0),
                Value::Whole(count(effect.seq.0)),
                Value::Whole(i64::from(effect.n)),
                Value::Whole(epoch),
            ],
        )
        .await?;
    Ok(match updated {
        1 => Ok(0),
        _ => Err(JournalError::Fenced(effect.rollout.clone())),
    })
}
