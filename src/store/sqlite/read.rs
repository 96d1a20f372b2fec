//! What is read back: rollouts with their journals and intents, and the mesh's rows.

use super::fault;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::ports::{JournalRow, Stored};
use crate::rollout::effect::{Effect, EffectId};
use crate::store::record;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

/// A rollout from a row with `id`, `format`, `plan` and `state`.
pub(super) fn stored(row: &SqliteRow) -> Result<Stored, Fault> {
    let id: String = row.try_get("id").map_err(fault)?;
    let format: i64 = row.try_get("format").map_err(fault)?;
    let plan: String = row.try_get("plan").map_err(fault)?;
    let state: String = row.try_get("state").map_err(fault)?;
    let read = record::plan(format, &plan).and_then(|plan| Ok(Stored { plan, state: record::state(format, &state)? }));
    read.map_err(|fault| of_rollout(&id, fault))
}

/// The same fault, naming the rollout whose row is concerned.
fn of_rollout(id: &str, fault: Fault) -> Fault {
    Fault { message: format!("rollout {id}: {}", fault.message), ..fault }
}

/// An effect's identifier from its columns.
pub(super) fn effect_id(rollout: &RolloutId, seq: i64, n: i64) -> EffectId {
    EffectId {
        rollout: rollout.clone(),
        seq: Seq(u64::try_from(seq).unwrap_or_default()),
        n: u8::try_from(n).unwrap_or_default(),
    }
}

pub(super) async fn live(readers: &SqlitePool) -> Result<Vec<Stored>, Fault> {
    let rows = sqlx::query("SELECT id, format, plan, state FROM rollouts WHERE finished = 0 ORDER BY started_at_ms")
        .fetch_all(readers)
        .await
        .map_err(fault)?;
    rows.iter().map(stored).collect()
}

pub(super) async fn unsettled(readers: &SqlitePool, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
    let rows =
        sqlx::query("SELECT seq, n, body FROM effects WHERE rollout_id = ? AND status = 'intended' ORDER BY seq, n")
            .bind(&id.0)
            .fetch_all(readers)
            .await
            .map_err(fault)?;
    let mut effects = Vec::with_capacity(rows.len());
    for row in &rows {
        let body: String = row.try_get("body").map_err(fault)?;
        let effect = record::effect(&body).map_err(|fault| of_rollout(&id.0, fault))?;
        let (seq, n) = (row.try_get("seq").map_err(fault)?, row.try_get("n").map_err(fault)?);
        effects.push((effect_id(id, seq, n), effect));
    }
    Ok(effects)
}

pub(super) async fn get(readers: &SqlitePool, id: &RolloutId) -> Result<Option<Stored>, Fault> {
    let row = sqlx::query("SELECT id, format, plan, state FROM rollouts WHERE id = ?")
        .bind(&id.0)
        .fetch_optional(readers)
        .await
        .map_err(fault)?;
    row.as_ref().map(stored).transpose()
}

pub(super) async fn list(readers: &SqlitePool, limit: u32) -> Result<Vec<Stored>, Fault> {
    let rows =
        sqlx::query("SELECT id, format, plan, state FROM rollouts ORDER BY finished, started_at_ms DESC, id LIMIT ?")
            .bind(limit)
            .fetch_all(readers)
            .await
            .map_err(fault)?;
    rows.iter().map(stored).collect()
}

pub(super) async fn last_generation(readers: &SqlitePool, route: &RouteRef) -> Result<u64, Fault> {
    let highest: Option<i64> = sqlx::query_scalar("SELECT max(generation) FROM rollouts WHERE route = ?")
        .bind(route.to_string())
        .fetch_one(readers)
        .await
        .map_err(fault)?;
    Ok(highest.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

pub(super) async fn position(readers: &SqlitePool) -> Result<u64, Fault> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(rowid) FROM journal").fetch_one(readers).await.map_err(fault)?;
    Ok(last.and_then(|position| u64::try_from(position).ok()).unwrap_or(0))
}

pub(super) async fn since(
    readers: &SqlitePool,
    position: u64,
    limit: u32,
) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
    let rows =
        sqlx::query("SELECT rowid AS position, rollout_id, seq FROM journal WHERE rowid > ? ORDER BY rowid LIMIT ?")
            .bind(i64::try_from(position).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(readers)
            .await
            .map_err(fault)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let position: i64 = row.try_get("position").map_err(fault)?;
        let rollout: String = row.try_get("rollout_id").map_err(fault)?;
        let seq: i64 = row.try_get("seq").map_err(fault)?;
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        found.push((whole(position), RolloutId(rollout), Seq(whole(seq))));
    }
    Ok(found)
}

pub(super) async fn inputs(readers: &SqlitePool, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
    let rows = sqlx::query("SELECT engine_version, input FROM journal WHERE rollout_id = ? ORDER BY seq")
        .bind(&id.0)
        .fetch_all(readers)
        .await
        .map_err(fault)?;
    let mut inputs = Vec::with_capacity(rows.len());
    for row in rows {
        let version: i64 = row.try_get("engine_version").map_err(fault)?;
        let text: String = row.try_get("input").map_err(fault)?;
        let engine_version = u32::try_from(version).unwrap_or_default();
        let input = record::input(&text).map_err(|fault| of_rollout(&id.0, fault))?;
        inputs.push(JournalRow { engine_version, input });
    }
    Ok(inputs)
}

pub(super) async fn mesh(readers: &SqlitePool) -> Result<Vec<(String, String)>, Fault> {
    sqlx::query_as("SELECT key, body FROM mesh_resources ORDER BY key").fetch_all(readers).await.map_err(fault)
}
