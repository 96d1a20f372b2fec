//! What came from outside: deliveries with the rollouts that they ask for, and policies that were pushed. Written by the
//! one writer under the lease, like everything else.

use super::database::Database;
use super::dialect::{Columns, Dialect, Session, Value};
use super::read;
use super::record;
use super::rows::{Answer, Write};
use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::base::time::Timestamp;
use crate::ports::{Deliveries, HookOutcome, HookStart, JournalError, PolicyStore, PushedPolicy, Received};
use crate::rollout::event::Actor;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Deliveries that are remembered. Senders repeat within a day by themselves and GitHub within three days by hand; an
/// organisation that pushes a thousand images a day is remembered for ten.
const DELIVERIES_MAX: i64 = 10_000;
/// Versions of a pushed policy that are kept, to see what was in force lately.
const VERSIONS_MAX: i64 = 50;

/// A delivery as it is written.
#[derive(Debug)]
pub(super) struct Receive {
    ids: Vec<String>,
    source: String,
    at_ms: i64,
    nothing: String,
    starts: Vec<(RolloutId, String)>,
}

/// What came of a start.
#[derive(Debug)]
pub(super) struct Settle {
    rollout: RolloutId,
    outcome: String,
}

/// The next text of a policy.
#[derive(Debug)]
pub(super) struct Push {
    name: String,
    text: String,
    actor: String,
    at_ms: i64,
}

/// A start's body as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StartBody {
    policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    actor: Actor,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outside_windows: Option<String>,
}

impl Receive {
    fn of(received: &Received) -> Result<Self, Fault> {
        let body = |start: &HookStart| StartBody {
            policy: start.policy.clone(),
            image: start.image.clone(),
            revision: start.revision.clone(),
            actor: start.actor.clone(),
            at: start.at,
            not_before: start.not_before,
            outside_windows: start.outside_windows.clone(),
        };
        let starts = received.starts.iter().map(|start| Ok((start.rollout.clone(), record::to_text(&body(start))?)));
        Ok(Self {
            ids: received.ids.clone(),
            source: received.source.clone(),
            at_ms: received.at.0,
            nothing: record::to_text(&received.nothing)?,
            starts: starts.collect::<Result<_, Fault>>()?,
        })
    }

    /// Answers its position, or 0 when one of its ids is known.
    pub(super) async fn apply<D: Dialect>(&self, tx: &mut D::Connection) -> Result<Answer, sqlx::Error> {
        for id in &self.ids {
            let known = "SELECT delivery FROM delivery_ids WHERE id = $1";
            if !tx.rows(known, &[Value::Text(id)]).await?.is_empty() {
                return Ok(Ok(0));
            }
        }
        let last = tx.rows("SELECT max(position) AS last FROM deliveries", &[]).await?;
        let last = last.first().ok_or(sqlx::Error::RowNotFound)?.maybe("last")?;
        let position = last.unwrap_or(0) + 1;
        tx.execute(
            "INSERT INTO deliveries (position, source, at_ms, reasons) VALUES ($1, $2, $3, $4)",
            &[Value::Whole(position), Value::Text(&self.source), Value::Whole(self.at_ms), Value::Text(&self.nothing)],
        )
        .await?;
        for id in &self.ids {
            // A sender may name one id twice.
            let sql = "INSERT INTO delivery_ids (id, delivery) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
            tx.execute(sql, &[Value::Text(id), Value::Whole(position)]).await?;
        }
        for ((rollout, body), n) in self.starts.iter().zip(0..) {
            tx.execute(
                "INSERT INTO delivery_starts (delivery, n, rollout_id, body, outcome) VALUES ($1, $2, $3, $4, '')",
                &[Value::Whole(position), Value::Whole(n), Value::Text(&rollout.0), Value::Text(body)],
            )
            .await?;
        }
        forget::<D>(tx, position - DELIVERIES_MAX).await?;
        Ok(Ok(read::whole(position)))
    }
}

/// Forgets deliveries up to a position, but for those that wait for an outcome.
async fn forget<D: Dialect>(tx: &mut D::Connection, position: i64) -> Result<(), sqlx::Error> {
    let sql = "SELECT position FROM deliveries WHERE position <= $1 AND NOT EXISTS \
               (SELECT 1 FROM delivery_starts WHERE delivery = deliveries.position AND outcome = '')";
    for row in tx.rows(sql, &[Value::Whole(position)]).await? {
        let old = [Value::Whole(row.whole("position")?)];
        tx.execute("DELETE FROM delivery_ids WHERE delivery = $1", &old).await?;
        tx.execute("DELETE FROM delivery_starts WHERE delivery = $1", &old).await?;
        tx.execute("DELETE FROM deliveries WHERE position = $1", &old).await?;
    }
    Ok(())
}

impl Settle {
    pub(super) async fn apply<D: Dialect>(&self, tx: &mut D::Connection) -> Result<Answer, sqlx::Error> {
        let sql = "UPDATE delivery_starts SET outcome = $1 WHERE rollout_id = $2 AND outcome = ''";
        tx.execute(sql, &[Value::Text(&self.outcome), Value::Text(&self.rollout.0)]).await?;
        Ok(Ok(0))
    }
}

impl Push {
    fn of(policy: &PushedPolicy) -> Result<Self, Fault> {
        let actor = record::to_text(&policy.actor)?;
        Ok(Self { name: policy.name.clone(), text: policy.text.clone(), actor, at_ms: policy.at.0 })
    }

    /// Answers the version that holds from now on.
    pub(super) async fn apply<D: Dialect>(&self, tx: &mut D::Connection) -> Result<Answer, sqlx::Error> {
        let sql = "SELECT version, text FROM pushed_policies WHERE name = $1 ORDER BY version DESC LIMIT 1";
        let last = match tx.rows(sql, &[Value::Text(&self.name)]).await?.first() {
            Some(row) if row.text("text")? == self.text => return Ok(Ok(read::whole(row.whole("version")?))),
            Some(row) => row.whole("version")?,
            None => 0,
        };
        tx.execute(
            "INSERT INTO pushed_policies (name, version, text, actor, at_ms) VALUES ($1, $2, $3, $4, $5)",
            &[
                Value::Text(&self.name),
                Value::Whole(last + 1),
                Value::Text(&self.text),
                Value::Text(&self.actor),
                Value::Whole(self.at_ms),
            ],
        )
        .await?;
        let old = [Value::Text(&self.name), Value::Whole(last + 1 - VERSIONS_MAX)];
        tx.execute("DELETE FROM pushed_policies WHERE name = $1 AND version <= $2", &old).await?;
        Ok(Ok(read::whole(last + 1)))
    }
}

/// A write's answer where no rollout is concerned.
fn answered<D: Dialect>(answer: Answer) -> Result<u64, Fault> {
    answer.map_err(|error| match error {
        JournalError::Fault(fault) => fault,
        other => Fault::permanent(D::SOURCE, other),
    })
}

fn start<D: Dialect>(row: &impl Columns) -> Result<HookStart, Fault> {
    let text = |column| row.text(column).map_err(D::fault);
    let (rollout, outcome) = (RolloutId(text("rollout_id")?), text("outcome")?);
    let body: StartBody = record::of_trigger("start", &text("body")?)?;
    let StartBody { policy, image, revision, actor, at, not_before, outside_windows } = body;
    let outcome = if outcome.is_empty() { None } else { Some(record::of_trigger("outcome", &outcome)?) };
    Ok(HookStart { rollout, policy, image, revision, actor, at, not_before, outside_windows, outcome })
}

fn pushed<D: Dialect>(row: &impl Columns) -> Result<PushedPolicy, Fault> {
    let text = |column| row.text(column).map_err(D::fault);
    let whole = |column| row.whole(column).map_err(D::fault);
    Ok(PushedPolicy {
        name: text("name")?,
        version: read::whole(whole("version")?),
        text: text("text")?,
        actor: record::of_trigger("actor", &text("actor")?)?,
        at: Timestamp(whole("at_ms")?),
    })
}

#[async_trait]
impl<D: Dialect> Deliveries for Database<D> {
    async fn receive(&self, received: &Received) -> Result<bool, Fault> {
        let answer = self.writer.write::<D>(Write::Receive(Receive::of(received)?)).await;
        Ok(answered::<D>(answer)? > 0)
    }

    async fn seen(&self, ids: &[String]) -> Result<Option<Received>, Fault> {
        for id in ids {
            let sql = "SELECT d.position, d.source, d.at_ms, d.reasons FROM deliveries d \
                       JOIN delivery_ids i ON i.delivery = d.position WHERE i.id = $1";
            let rows = read::ask(&self.readers, sql, &[Value::Text(id)]).await?;
            let Some(row) = rows.first() else { continue };
            let position = row.whole("position").map_err(D::fault)?;
            let sql = "SELECT rollout_id, body, outcome FROM delivery_starts WHERE delivery = $1 ORDER BY n";
            let starts = read::ask(&self.readers, sql, &[Value::Whole(position)]).await?;
            return Ok(Some(Received {
                ids: ids.to_vec(),
                source: row.text("source").map_err(D::fault)?,
                at: Timestamp(row.whole("at_ms").map_err(D::fault)?),
                nothing: record::of_trigger("delivery", &row.text("reasons").map_err(D::fault)?)?,
                starts: starts.iter().map(start::<D>).collect::<Result<_, Fault>>()?,
            }));
        }
        Ok(None)
    }

    async fn open(&self) -> Result<Vec<HookStart>, Fault> {
        let sql = "SELECT rollout_id, body, outcome FROM delivery_starts WHERE outcome = '' ORDER BY delivery, n";
        read::ask(&self.readers, sql, &[]).await?.iter().map(start::<D>).collect()
    }

    async fn start(&self, rollout: &RolloutId) -> Result<Option<HookStart>, Fault> {
        let sql = "SELECT rollout_id, body, outcome FROM delivery_starts WHERE rollout_id = $1";
        read::ask(&self.readers, sql, &[Value::Text(&rollout.0)]).await?.first().map(start::<D>).transpose()
    }

    async fn settle(&self, rollout: &RolloutId, outcome: &HookOutcome) -> Result<(), Fault> {
        let settle = Settle { rollout: rollout.clone(), outcome: record::to_text(outcome)? };
        answered::<D>(self.writer.write::<D>(Write::Settle(settle)).await).map(drop)
    }
}

#[async_trait]
impl<D: Dialect> PolicyStore for Database<D> {
    async fn push(&self, policy: &PushedPolicy) -> Result<u64, Fault> {
        answered::<D>(self.writer.write::<D>(Write::Push(Push::of(policy)?)).await)
    }

    async fn pushed(&self, name: &str) -> Result<Option<PushedPolicy>, Fault> {
        let sql = "SELECT name, version, text, actor, at_ms FROM pushed_policies WHERE name = $1 \
                   ORDER BY version DESC LIMIT 1";
        read::ask(&self.readers, sql, &[Value::Text(name)]).await?.first().map(pushed::<D>).transpose()
    }

    async fn all_pushed(&self) -> Result<Vec<PushedPolicy>, Fault> {
        let sql = "SELECT name, version, text, actor, at_ms FROM pushed_policies p WHERE version = \
                   (SELECT max(version) FROM pushed_policies WHERE name = p.name) ORDER BY name";
        read::ask(&self.readers, sql, &[]).await?.iter().map(pushed::<D>).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_starts_and_outcomes_keep_their_form() {
        let text =
            r#"{"policy":"checkout","image":"shop/checkout:v2","actor":{"name":"ada","via":"hook:github"},"at":7}"#;
        let body: StartBody = record::of_trigger("start", text).unwrap();
        assert_eq!(record::to_text(&body).unwrap(), text);
        for (text, outcome) in [
            (r#"{"outcome":"started"}"#, HookOutcome::Started),
            (r#"{"outcome":"nothing","why":"w"}"#, HookOutcome::Nothing { why: "w".into() }),
            (
                r#"{"outcome":"refused","why":"w","hint":"h"}"#,
                HookOutcome::Refused { why: "w".into(), hint: "h".into() },
            ),
        ] {
            assert_eq!(record::to_text(&outcome).unwrap(), text);
            assert_eq!(record::of_trigger::<HookOutcome>("outcome", text).unwrap(), outcome);
        }
    }
}
