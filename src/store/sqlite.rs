//! SQLite: one file, one writer, WAL, fsync on every commit.
//!
//! One connection writes, so two inputs never wait on each other's locks; a few others read. The directory is locked for
//! the life of the process: two daemons on one database would each believe that they drive its rollouts. Whoever opens
//! it takes over its rollouts by raising the epoch of the lease, and has the lease until it ends.

use super::database::{Database, READERS};
use super::dialect::{Columns, Dialect, Options, Session, Value, session};
use super::writer::{Turn, Writer};
use crate::base::fault::Fault;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Sqlite};
use std::fs::File;
use std::future::Future;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
/// Anyone waits so long for a lock. Only a person's `sqlite3` on the same file can hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

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

/// An open SQLite database.
pub type SqliteStore = Database<Sqlite>;

impl SqliteStore {
    /// Opens `tidegate.db` in a directory, creating both, and takes over its rollouts.
    ///
    /// # Errors
    /// [`OpenError`]: locked by another process, written by a newer release, or not to be opened at all.
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(directory).map_err(|error| OpenError::failed(directory, error))?;
        let lock = lock(directory)?;
        let file = directory.join("tidegate.db");
        let failed = |error: sqlx::Error| OpenError::failed(&file, error);
        let options = writable(&file);
        let mut connection = options.connect().await.map_err(failed)?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| migration_error(&file, &error))?;
        let readers = pool(options.clone()).await.map_err(failed)?;
        let epoch = take_over(&mut connection).await.map_err(failed)?;
        let writer = Writer::start::<Sqlite>(options, connection, Turn::of(epoch));
        Ok(Self { writer, readers, kept: Some(Arc::new(lock)), mesh: None })
    }

    /// Opens `tidegate.db` in a directory for its tokens: a daemon may be running on it, and goes on driving. Where there
    /// is no database, or an older one without a daemon, it is made or brought up to date first.
    ///
    /// # Errors
    /// [`OpenError`]: [`OpenError::Locked`] where a daemon of an older release has it, which knows no tokens.
    pub async fn open_beside(directory: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(directory).map_err(|error| OpenError::failed(directory, error))?;
        let file = directory.join("tidegate.db");
        let failed = |error: sqlx::Error| OpenError::failed(&file, error);
        let options = writable(&file);
        if !is_up_to_date(&file).await {
            // Nothing is brought up to date beneath a daemon that is running.
            let _lock = lock(directory)?;
            let mut connection = options.connect().await.map_err(failed)?;
            MIGRATIONS.run(&mut connection).await.map_err(|error| migration_error(&file, &error))?;
            sqlx::Connection::close(connection).await.map_err(failed)?;
        }
        let readers = pool(options).await.map_err(failed)?;
        Ok(Self { writer: Writer::none(), readers, kept: None, mesh: None })
    }

    /// Opens a database for reading only, beside a daemon that may be running.
    ///
    /// # Errors
    /// [`OpenError::Failed`] when there is none or it cannot be read.
    pub async fn open_read_only(directory: &Path) -> Result<Self, OpenError> {
        let file = directory.join("tidegate.db");
        let options = SqliteConnectOptions::new().filename(&file).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let readers = pool(options).await.map_err(|error| OpenError::failed(&file, error))?;
        Ok(Self { writer: Writer::none(), readers, kept: None, mesh: None })
    }
}

fn writable(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// Whether a database is there with everything that this release knows. One of a newer release is not: opening it says so.
async fn is_up_to_date(file: &Path) -> bool {
    let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let Ok(mut connection) = options.connect().await else { return false };
    let sql = "SELECT max(version) AS version FROM _sqlx_migrations WHERE success";
    let found = connection.rows(sql, &[]).await.ok();
    let version = found.and_then(|rows| rows.first().and_then(|row| row.maybe("version").ok().flatten()));
    // Read only: a connection that is not closed well leaves nothing behind.
    let _ = sqlx::Connection::close(connection).await;
    version == MIGRATIONS.iter().map(|migration| migration.version).max()
}

async fn pool(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await
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
async fn take_over(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let mut tx = sqlx::Connection::begin_with(connection, Sqlite::BEGIN).await?;
    tx.execute("UPDATE driver_lease SET epoch = epoch + 1 WHERE id = 1", &[]).await?;
    let lease = tx.rows(Sqlite::FENCE, &[]).await?;
    let epoch = lease.first().ok_or(sqlx::Error::RowNotFound)?.whole("epoch")?;
    tx.execute("UPDATE rollouts SET lease_epoch = $1 WHERE finished = 0", &[Value::Whole(epoch)]).await?;
    tx.commit().await?;
    Ok(epoch)
}

session!(Sqlite, SqliteConnection, SqliteRow);

impl Dialect for Sqlite {
    /// The directory's lock. `None` for readers beside a running daemon.
    type Kept = Option<Arc<File>>;

    const SOURCE: &'static str = "sqlite";
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const FENCE: &'static str = "SELECT epoch FROM driver_lease WHERE id = 1";
    const NOTE: &'static str = "INSERT INTO journal (rollout_id, seq, at_ms, engine_version, input) \
                                VALUES ($1, $2, $3, $4, $5) RETURNING rowid AS position";
    const POSITION: &'static str = "SELECT max(rowid) AS position FROM journal";
    const SINCE: &'static str =
        "SELECT rowid AS position, rollout_id, seq FROM journal WHERE rowid > $1 ORDER BY rowid LIMIT $2";
    /// Some tens of milliseconds of work.
    const GROUP: usize = 256;

    async fn connect(options: &Options<Self>) -> Result<SqliteConnection, sqlx::Error> {
        options.connect().await
    }

    /// A disk that is slow answers in the end, and one that hangs hangs the process's other files as well.
    fn bounded<T: Send>(
        answer: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> impl Future<Output = Result<T, sqlx::Error>> + Send {
        answer
    }

    async fn recover(mut connection: SqliteConnection) -> Option<SqliteConnection> {
        match connection.say("ROLLBACK").await {
            // Refused where SQLite has rolled back already, which is as good.
            Ok(()) | Err(sqlx::Error::Database(_)) => Some(connection),
            Err(_) => None,
        }
    }

    /// Busy, full and unreachable may pass; anything else will not by itself.
    fn fault(error: sqlx::Error) -> Fault {
        let text = error.to_string();
        match &error {
            // The code is an extended one, its lowest byte the plain one: SQLITE_BUSY, SQLITE_LOCKED, SQLITE_NOMEM,
            // SQLITE_READONLY (a disk that the kernel took for broken), SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN
            // may pass. https://www.sqlite.org/rescode.html
            sqlx::Error::Database(inner) => {
                match inner.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
                    Some(5 | 6 | 7 | 8 | 10 | 13 | 14) => Fault::transient(Self::SOURCE, text),
                    _ => Fault::permanent(Self::SOURCE, text),
                }
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Fault::transient(Self::SOURCE, text),
            _ => Fault::permanent(Self::SOURCE, text),
        }
    }
}
