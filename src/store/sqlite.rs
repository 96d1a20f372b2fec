//! SQLite: one file, one writer, WAL, fsync on every commit.
//!
//! One connection writes, so two inputs never wait on each other's locks; a few others read. Writes that wait at the
//! same time share a commit: see `writer`. The directory is locked for the life of the process: two daemons on one
//! database would each believe that they drive its rollouts.

mod read;
mod rows;
mod writer;

use self::rows::{Begin, Rows, Write};
use self::writer::Writer;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::policy::plan::Plan;
use crate::ports::{Commit, Journal, JournalError, JournalRow, MeshStore, Stored};
use crate::rollout::effect::{Effect, EffectId};
use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
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
    writer: Writer,
    readers: SqlitePool,
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
        Ok(Self { writer: Writer::start(writer, epoch), readers, _lock: Some(Arc::new(lock)) })
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
        Ok(Self { writer: Writer::none(), readers, _lock: None })
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
        // The code is an extended one, its lowest byte the plain one: SQLITE_BUSY, SQLITE_LOCKED, SQLITE_NOMEM,
        // SQLITE_READONLY (a disk that the kernel took for broken), SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN may
        // pass. https://www.sqlite.org/rescode.html
        sqlx::Error::Database(inner) => {
            match inner.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
                Some(5 | 6 | 7 | 8 | 10 | 13 | 14) => Fault::transient("sqlite", text),
                _ => Fault::permanent("sqlite", text),
            }
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Fault::transient("sqlite", text),
        _ => Fault::permanent("sqlite", text),
    }
}

#[async_trait]
impl Journal for SqliteStore {
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError> {
        self.writer.write(Write::Begin(Begin::of(plan, commit)?)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError> {
        self.writer.write(Write::Commit(Rows::of(commit)?)).await
    }

    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError> {
        self.writer.write(Write::Attempt(effect.clone())).await.map(drop)
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

#[async_trait]
impl MeshStore for SqliteStore {
    async fn load(&self) -> Result<Vec<(String, String)>, Fault> {
        read::mesh(&self.readers).await
    }

    async fn save(&self, changes: Vec<(String, Option<String>)>) -> Result<(), Fault> {
        match self.writer.write(Write::Mesh(changes)).await {
            Ok(_) => Ok(()),
            Err(JournalError::Fault(fault)) => Err(fault),
            // Rows of the mesh belong to no rollout.
            Err(other) => Err(Fault::permanent("sqlite", other)),
        }
    }
}
