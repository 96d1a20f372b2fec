//! What is read back: rollouts with their journals and intents.

use super::dialect::{Columns, Dialect, Session, Value};
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::ports::{JournalRow, Stored};
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::state::EndingKind;
use crate::store::record;
use sqlx::Pool;

type Row<D> = <<D as sqlx::Database>::Connection as Session>::Row;

/// A rollout from a row with `id`, `format`, `plan` and `state`.
pub(super) fn stored<D: Dialect>(row: &impl Columns) -> Result<Stored, Fault> {
    let (id, format) = (row.text("id").map_err(D::fault)?, row.whole("format").map_err(D::fault)?);
    let (plan, state) = (row.text("plan").map_err(D::fault)?, row.text("state").map_err(D::fault)?);
    let read = record::plan(format, &plan).and_then(|plan| Ok(Stored { plan, state: record::state(format, &state)? }));
    read.map_err(|fault| of_rollout(&id, fault))
}

/// The same fault, naming the rollout whose row is concerned.
fn of_rollout(id: &str, fault: Fault) -> Fault {
    Fault { message: format!("rollout {id}: {}", fault.message), ..fault }
}

/// An effect's identifier from its columns.
pub(super) fn effect_id(rollout: &RolloutId, seq: i64, n: i64) -> EffectId {
    EffectId { rollout: rollout.clone(), seq: Seq(whole(seq)), n: u8::try_from(n).unwrap_or_default() }
}

/// What is stored was counted up from 0.
pub(super) fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Asks one of the readers. A connection that gave no answer is not asked again: whatever it still had to say would be
/// taken for the next answer, or waited for.
pub(super) async fn ask<D: Dialect>(
    readers: &Pool<D>,
    sql: &'static str,
    values: &[Value<'_>],
) -> Result<Vec<Row<D>>, Fault> {
    let mut reader = readers.acquire().await.map_err(D::fault)?;
    let answer = D::bounded(reader.rows(sql, values)).await;
    if matches!(answer, Err(sqlx::Error::Io(_))) {
        drop(reader.detach());
    }
    answer.map_err(D::fault)
}

pub(super) async fn live<D: Dialect>(readers: &Pool<D>) -> Result<Vec<Stored>, Fault> {
    let sql = "SELECT id, format, plan, state FROM rollouts WHERE finished = 0 ORDER BY started_at_ms";
    ask(readers, sql, &[]).await?.iter().map(stored::<D>).collect()
}

pub(super) async fn unsettled<D: Dialect>(readers: &Pool<D>, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
    let sql = "SELECT seq, n, body FROM effects WHERE rollout_id = $1 AND status = 'intended' ORDER BY seq, n";
    let mut effects = Vec::new();
    for row in ask(readers, sql, &[Value::Text(&id.0)]).await? {
        let body = row.text("body").map_err(D::fault)?;
        let effect = record::effect(&body).map_err(|fault| of_rollout(&id.0, fault))?;
        let (seq, n) = (row.whole("seq").map_err(D::fault)?, row.whole("n").map_err(D::fault)?);
        effects.push((effect_id(id, seq, n), effect));
    }
    Ok(effects)
}

pub(super) async fn get<D: Dialect>(readers: &Pool<D>, id: &RolloutId) -> Result<Option<Stored>, Fault> {
    let sql = "SELECT id, format, plan, state FROM rollouts WHERE id = $1";
    ask(readers, sql, &[Value::Text(&id.0)]).await?.first().map(stored::<D>).transpose()
}

pub(super) async fn list<D: Dialect>(readers: &Pool<D>, limit: u32) -> Result<Vec<Stored>, Fault> {
    let sql = "SELECT id, format, plan, state FROM rollouts ORDER BY finished, started_at_ms DESC, id LIMIT $1";
    ask(readers, sql, &[Value::Whole(i64::from(limit))]).await?.iter().map(stored::<D>).collect()
}

pub(super) async fn last_generation<D: Dialect>(readers: &Pool<D>, route: &RouteRef) -> Result<u64, Fault> {
    let sql = "SELECT max(generation) AS highest FROM rollouts WHERE route = $1";
    highest::<D>(&ask(readers, sql, &[Value::Text(&route.to_string())]).await?, "highest")
}

/// Rollouts of a route that are looked through for one that ended well: so many in a row do not fail.
const LOOKED_THROUGH: i64 = 200;
/// Read at once: a state may have hundreds of kilobytes.
const PAGE: i64 = 10;

pub(super) async fn last_succeeded<D: Dialect>(readers: &Pool<D>, route: &RouteRef) -> Result<Option<Stored>, Fault> {
    let sql = "SELECT id, format, plan, state FROM rollouts WHERE route = $1 ORDER BY started_at_ms DESC, id DESC \
               LIMIT $2 OFFSET $3";
    let route = route.to_string();
    let mut offset = 0;
    while offset < LOOKED_THROUGH {
        let rows = ask(readers, sql, &[Value::Text(&route), Value::Whole(PAGE), Value::Whole(offset)]).await?;
        for row in &rows {
            let stored = stored::<D>(row)?;
            if stored.state.ending.as_ref().is_some_and(|ending| ending.kind == EndingKind::Succeeded) {
                return Ok(Some(stored));
            }
        }
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE {
            break;
        }
        offset += PAGE;
    }
    Ok(None)
}

pub(super) async fn position<D: Dialect>(readers: &Pool<D>) -> Result<u64, Fault> {
    highest::<D>(&ask(readers, D::POSITION, &[]).await?, "position")
}

/// The one number of the one row; 0 for none.
fn highest<D: Dialect>(rows: &[Row<D>], column: &str) -> Result<u64, Fault> {
    let found = rows.first().map(|row| row.maybe(column)).transpose().map_err(D::fault)?;
    Ok(found.flatten().map_or(0, whole))
}

pub(super) async fn since<D: Dialect>(
    readers: &Pool<D>,
    position: u64,
    limit: u32,
) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
    let after = i64::try_from(position).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for row in ask(readers, D::SINCE, &[Value::Whole(after), Value::Whole(i64::from(limit))]).await? {
        let rollout = RolloutId(row.text("rollout_id").map_err(D::fault)?);
        let (position, seq) = (row.whole("position").map_err(D::fault)?, row.whole("seq").map_err(D::fault)?);
        found.push((whole(position), rollout, Seq(whole(seq))));
    }
    Ok(found)
}

pub(super) async fn inputs<D: Dialect>(readers: &Pool<D>, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
    let sql = "SELECT engine_version, input FROM journal WHERE rollout_id = $1 ORDER BY seq";
    let mut inputs = Vec::new();
    for row in ask(readers, sql, &[Value::Text(&id.0)]).await? {
        let version = row.whole("engine_version").map_err(D::fault)?;
        let input = record::input(&row.text("input").map_err(D::fault)?).map_err(|fault| of_rollout(&id.0, fault))?;
        inputs.push(JournalRow { engine_version: u32::try_from(version).unwrap_or_default(), input });
    }
    Ok(inputs)
}
