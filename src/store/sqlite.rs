//! SQLite: one file, one writer, WAL, fsync on every commit.
//!
//! One connection writes, so two inputs never wait on each other's locks; a few others read. The directory is locked
//! for the life of the process: two daemons on one database would each believe that they drive its rollouts.

use super::record;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::policy::plan::Plan;
use crate::ports::{Commit, Journal, JournalError, JournalRow, MeshStore, Stored};
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::state::ENGINE_VERSION;
use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
/// A reader waits so long for a lock. Only a person's `sqlite3` on the same file can hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers: lists and views of the API. More would wait for the two cores this is built for.
const READERS: u32 = 4;

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {directory} is in use by another tidegate{holder}; stop that one, or give this one another directory with --data-dir"
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// ` (process N)` where known.
        holder: String,
    },
    /// A newer release has written it.
    #[error(
        "the database {file} was written by a newer tidegate (schema {found}, this one knows {known}); run that release, or give this one another directory with --data-dir"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its schema.
        found: i64,
        /// The last schema known here.
        known: i64,
    },
    /// Anything else, with what to look at.
    #[error("cannot open {path}: {message}")]
    Failed {
        /// File or directory.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

impl OpenError {
    fn failed(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Failed { path: path.to_owned(), message: error.to_string() }
    }
}

/// An open database.
#[derive(Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Every write of a rollout carries it: see `driver_lease`.
    epoch: i64,
    /// Held for its lock. `None` for readers beside a running daemon.
    _lock: Option<Arc<File>>,
}

impl SqliteStore {
    /// Opens `tidegate.db` in a directory, creating both, and takes over its rollouts.
    ///
    /// # Errors
    /// [`OpenError`]: locked by another process, written by a newer release, or not to be opened at all.
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(directory).map_err(|error| OpenError::failed(directory, error))?;
        let lock = lock(directory)?;
        let file = directory.join("tidegate.db");
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections).connect_with(options.clone());
        let writer = pool(1).await.map_err(|error| OpenError::failed(&file, error))?;
        MIGRATIONS.run(&writer).await.map_err(|error| migration_error(&file, &error))?;
        let readers = pool(READERS).await.map_err(|error| OpenError::failed(&file, error))?;
        let epoch = take_over(&writer).await.map_err(|error| OpenError::failed(&file, error))?;
        Ok(Self { writer, readers, epoch, _lock: Some(Arc::new(lock)) })
    }

    /// Opens a database for reading only, beside a daemon that may be running.
    ///
    /// # Errors
    /// [`OpenError::Failed`] when there is none or it cannot be read.
    pub async fn open_read_only(directory: &Path) -> Result<Self, OpenError> {
        let file = directory.join("tidegate.db");
        let options = SqliteConnectOptions::new().filename(&file).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(READERS).connect_with(options);
        let readers = pool.await.map_err(|error| OpenError::failed(&file, error))?;
        Ok(Self { writer: readers.clone(), readers, epoch: -1, _lock: None })
    }

    /// Finishes what is being written and closes the file.
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// Takes the directory's lock and leaves the process id in it, for the next one's error message.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(|error| OpenError::failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only decoration: the message is right without it.
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
            return Err(OpenError::Locked { directory: directory.to_owned(), holder });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(OpenError::failed(&path, error)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| OpenError::failed(&path, error))?;
    Ok(file)
}

fn migration_error(file: &Path, error: &MigrateError) -> OpenError {
    match error {
        MigrateError::VersionMissing(found) => OpenError::Newer {
            file: file.to_owned(),
            found: *found,
            known: MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0),
        },
        other => OpenError::failed(file, other),
    }
}

/// Raises the driver epoch: writes of whoever drove before are refused from here on.
async fn take_over(writer: &SqlitePool) -> Result<i64, sqlx::Error> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("UPDATE driver_lease SET epoch = epoch + 1 WHERE id = 1").execute(&mut *tx).await?;
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM driver_lease WHERE id = 1").fetch_one(&mut *tx).await?;
    sqlx::query("UPDATE rollouts SET lease_epoch = ? WHERE finished = 0").bind(epoch).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

/// Busy, full and unreachable may pass; anything else will not by itself.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn fault(error: sqlx::Error) -> Fault {
    let text = error.to_string();
    match &error {
        // The code is an extended one, its lowest byte the plain one: SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR,
        // SQLITE_FULL may pass. https://www.sqlite.org/rescode.html
        sqlx::Error::Database(inner) => {
            match inner.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
                Some(5 | 6 | 10 | 13) => Fault::transient("sqlite", text),
                _ => Fault::permanent("sqlite", text),
            }
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Fault::transient("sqlite", text),
        _ => Fault::permanent("sqlite", text),
    }
}

fn count(number: u64) -> i64 {
    // Sequence numbers and generations rise by one: 2^63 of them do not happen.
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stored(row: &SqliteRow) -> Result<Stored, Fault> {
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

async fn insert_effects(tx: &mut Transaction<'_, Sqlite>, commit: &Commit) -> Result<(), Fault> {
    for (id, effect) in &commit.effects {
        sqlx::query(
            "INSERT INTO effects (rollout_id, seq, n, body, status, attempts) VALUES (?, ?, ?, ?, 'intended', 0)",
        )
        .bind(&id.rollout.0)
        .bind(count(id.seq.0))
        .bind(i64::from(id.n))
        .bind(record::to_text(effect)?)
        .execute(&mut **tx)
        .await
        .map_err(fault)?;
    }
    Ok(())
}

/// Answers the row's position: rows are never deleted, so SQLite numbers them in the order of their commits.
async fn insert_journal(tx: &mut Transaction<'_, Sqlite>, commit: &Commit) -> Result<u64, Fault> {
    let inserted =
        sqlx::query("INSERT INTO journal (rollout_id, seq, at_ms, engine_version, input) VALUES (?, ?, ?, ?, ?)")
            .bind(&commit.state.id.0)
            .bind(count(commit.input.seq.0))
            .bind(commit.input.at.0)
            .bind(i64::from(ENGINE_VERSION))
            .bind(record::to_text(&commit.input)?)
            .execute(&mut **tx)
            .await
            .map_err(fault)?;
    Ok(u64::try_from(inserted.last_insert_rowid()).unwrap_or_default())
}

/// The effect that the input settles is done; whatever the state no longer waits for is superseded.
async fn settle(tx: &mut Transaction<'_, Sqlite>, commit: &Commit) -> Result<(), Fault> {
    let mut mark = Vec::new();
    if let Some(id) = &commit.settles {
        mark.push((id.clone(), "settled"));
    }
    let open = sqlx::query("SELECT seq, n FROM effects WHERE rollout_id = ? AND status = 'intended'")
        .bind(&commit.state.id.0)
        .fetch_all(&mut **tx)
        .await
        .map_err(fault)?;
    for row in open {
        let id = effect_id(&commit.state.id, &row)?;
        if Some(&id) != commit.settles.as_ref() && !commit.state.pending.contains_key(&id) {
            mark.push((id, "superseded"));
        }
    }
    for (id, status) in mark {
        sqlx::query("UPDATE effects SET status = ? WHERE rollout_id = ? AND seq = ? AND n = ?")
            .bind(status)
            .bind(&id.rollout.0)
            .bind(count(id.seq.0))
            .bind(i64::from(id.n))
            .execute(&mut **tx)
            .await
            .map_err(fault)?;
    }
    Ok(())
}

fn effect_id(rollout: &RolloutId, row: &SqliteRow) -> Result<EffectId, Fault> {
    let seq: i64 = row.try_get("seq").map_err(fault)?;
    let n: i64 = row.try_get("n").map_err(fault)?;
    Ok(EffectId {
        rollout: rollout.clone(),
        seq: Seq(u64::try_from(seq).unwrap_or_default()),
        n: u8::try_from(n).unwrap_or_default(),
    })
}

#[async_trait]
impl Journal for SqliteStore {
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(fault)?;
        let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM driver_lease WHERE id = 1")
            .fetch_one(&mut *tx)
            .await
            .map_err(fault)?;
        if epoch != self.epoch {
            return Err(JournalError::Fenced(commit.state.id.clone()));
        }
        let route = plan.route.to_string();
        let live = sqlx::query("SELECT id, format, plan, state FROM rollouts WHERE route = ? AND finished = 0")
            .bind(&route)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
        if let Some(row) = live {
            let Stored { plan, state } = stored(&row)?;
            let (since, by) = (state.started_at.rfc3339(), state.started_by.to_string());
            return Err(JournalError::AlreadyLive { id: state.id, route: plan.route, since, by });
        }
        sqlx::query(
            "INSERT INTO rollouts (id, policy, route, seq, finished, generation, lease_epoch, next_deadline_ms, \
             started_at_ms, updated_at_ms, format, plan, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&commit.state.id.0)
        .bind(&plan.name)
        .bind(&route)
        .bind(count(commit.state.seq.0))
        .bind(commit.state.is_finished())
        .bind(count(commit.state.generation))
        .bind(self.epoch)
        .bind(commit.next_deadline.map(|at| at.0))
        .bind(commit.state.started_at.0)
        .bind(commit.state.at.0)
        .bind(record::FORMAT)
        .bind(record::to_text(plan)?)
        .bind(record::to_text(&commit.state)?)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        let position = insert_journal(&mut tx, commit).await?;
        insert_effects(&mut tx, commit).await?;
        tx.commit().await.map_err(fault)?;
        Ok(position)
    }

    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(fault)?;
        let updated = sqlx::query(
            "UPDATE rollouts SET seq = ?, finished = ?, generation = ?, next_deadline_ms = ?, updated_at_ms = ?, \
             state = ? WHERE id = ? AND seq = ? AND lease_epoch = ?",
        )
        .bind(count(commit.state.seq.0))
        .bind(commit.state.is_finished())
        .bind(count(commit.state.generation))
        .bind(commit.next_deadline.map(|at| at.0))
        .bind(commit.state.at.0)
        .bind(record::to_text(&commit.state)?)
        .bind(&commit.state.id.0)
        .bind(count(commit.state.seq.0) - 1)
        .bind(self.epoch)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        if updated.rows_affected() != 1 {
            return Err(JournalError::Fenced(commit.state.id.clone()));
        }
        let position = insert_journal(&mut tx, commit).await?;
        insert_effects(&mut tx, commit).await?;
        settle(&mut tx, commit).await?;
        tx.commit().await.map_err(fault)?;
        Ok(position)
    }

    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError> {
        let updated = sqlx::query(
            "UPDATE effects SET attempts = attempts + 1 WHERE rollout_id = ? AND seq = ? AND n = ? \
             AND EXISTS (SELECT 1 FROM rollouts WHERE id = effects.rollout_id AND lease_epoch = ?)",
        )
        .bind(&effect.rollout.0)
        .bind(count(effect.seq.0))
        .bind(i64::from(effect.n))
        .bind(self.epoch)
        .execute(&self.writer)
        .await
        .map_err(fault)?;
        match updated.rows_affected() {
            1 => Ok(()),
            _ => Err(JournalError::Fenced(effect.rollout.clone())),
        }
    }

    async fn live(&self) -> Result<Vec<Stored>, Fault> {
        let rows =
            sqlx::query("SELECT id, format, plan, state FROM rollouts WHERE finished = 0 ORDER BY started_at_ms")
                .fetch_all(&self.readers)
                .await
                .map_err(fault)?;
        rows.iter().map(stored).collect()
    }

    async fn unsettled(&self, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault> {
        let rows = sqlx::query(
            "SELECT seq, n, body FROM effects WHERE rollout_id = ? AND status = 'intended' ORDER BY seq, n",
        )
        .bind(&id.0)
        .fetch_all(&self.readers)
        .await
        .map_err(fault)?;
        let mut effects = Vec::with_capacity(rows.len());
        for row in &rows {
            let body: String = row.try_get("body").map_err(fault)?;
            let effect = record::effect(&body).map_err(|fault| of_rollout(&id.0, fault))?;
            effects.push((effect_id(id, row)?, effect));
        }
        Ok(effects)
    }

    async fn get(&self, id: &RolloutId) -> Result<Option<Stored>, Fault> {
        let row = sqlx::query("SELECT id, format, plan, state FROM rollouts WHERE id = ?")
            .bind(&id.0)
            .fetch_optional(&self.readers)
            .await
            .map_err(fault)?;
        row.as_ref().map(stored).transpose()
    }

    async fn list(&self, limit: u32) -> Result<Vec<Stored>, Fault> {
        let rows = sqlx::query(
            "SELECT id, format, plan, state FROM rollouts ORDER BY finished, started_at_ms DESC, id LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(fault)?;
        rows.iter().map(stored).collect()
    }

    async fn last_generation(&self, route: &RouteRef) -> Result<u64, Fault> {
        let highest: Option<i64> = sqlx::query_scalar("SELECT max(generation) FROM rollouts WHERE route = ?")
            .bind(route.to_string())
            .fetch_one(&self.readers)
            .await
            .map_err(fault)?;
        Ok(highest.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    async fn position(&self) -> Result<u64, Fault> {
        let last: Option<i64> =
            sqlx::query_scalar("SELECT max(rowid) FROM journal").fetch_one(&self.readers).await.map_err(fault)?;
        Ok(last.and_then(|position| u64::try_from(position).ok()).unwrap_or(0))
    }

    async fn since(&self, position: u64, limit: u32) -> Result<Vec<(u64, RolloutId, Seq)>, Fault> {
        let rows = sqlx::query(
            "SELECT rowid AS position, rollout_id, seq FROM journal WHERE rowid > ? ORDER BY rowid LIMIT ?",
        )
        .bind(count(position))
        .bind(limit)
        .fetch_all(&self.readers)
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

    async fn inputs(&self, id: &RolloutId) -> Result<Vec<JournalRow>, Fault> {
        let rows = sqlx::query("SELECT engine_version, input FROM journal WHERE rollout_id = ? ORDER BY seq")
            .bind(&id.0)
            .fetch_all(&self.readers)
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
}

#[async_trait]
impl MeshStore for SqliteStore {
    async fn load(&self) -> Result<Vec<(String, String)>, Fault> {
        sqlx::query_as("SELECT key, body FROM mesh_resources ORDER BY key")
            .fetch_all(&self.readers)
            .await
            .map_err(fault)
    }

    async fn save(&self, changes: Vec<(String, Option<String>)>) -> Result<(), Fault> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(fault)?;
        for (key, body) in changes {
            let query = match &body {
                Some(body) => sqlx::query(
                    "INSERT INTO mesh_resources (key, body) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body",
                )
                .bind(&key)
                .bind(body),
                None => sqlx::query("DELETE FROM mesh_resources WHERE key = ?").bind(&key),
            };
            query.execute(&mut *tx).await.map_err(fault)?;
        }
        tx.commit().await.map_err(fault)
    }
}
