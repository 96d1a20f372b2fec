//! PostgreSQL: one database that several daemons share, of which one drives.
//!
//! Opening it takes nothing over: [`try_acquire`](crate::ports::DriverLease::try_acquire) does, and until then every write is refused. Who has the lease is a row,
//! and every transaction that writes locks this row first and compares its epoch. So the writers of all daemons come
//! one after the other, a transaction that is under way is waited for when the lease changes hands, and once the change is
//! committed nothing of the former holder can be committed any more, however late it comes. That row also keeps a
//! transaction whose connection was lost from being committed between later ones: positions are the order of commits.
//! The mesh's rows are not under the lease: see `mesh`.
//!
//! What happens between a daemon and a database over a network is bounded from both ends: by settings of the session, so
//! that the server undoes what a vanished daemon began, and by waiting no longer than `ANSWER` here, since a network that
//! swallows packets tells nobody.

mod connect;
mod errors;
mod lease;

pub use self::errors::OpenError;
pub use self::lease::Lease;

use self::connect::{Place, READS, WRITES};
use super::database::{Database, READERS};
use super::dialect::{Dialect, Options, session};
use super::mesh::Link;
use super::writer::{Turn, Writer};
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use sqlx::Postgres;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnection, PgRow};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");
/// A database that has not answered after this does not: the server itself ends a statement that writes after 5 s, one
/// that reads after 15 s, and the rest is for the way.
const ANSWER: Duration = Duration::from_secs(18);
/// Bringing the schema up to date takes no longer. Daemons that start together do it one after the other.
const MIGRATING: Duration = Duration::from_secs(60);

/// An open PostgreSQL database.
pub type PostgresStore = Database<Postgres>;

impl PostgresStore {
    /// Connects and brings the schema up to date. It does not take over: until [`try_acquire`](crate::ports::DriverLease::try_acquire) has
    /// succeeded every write is refused, and reads work.
    ///
    /// `url` is `postgres://USER:PASSWORD@HOST:PORT/DATABASE` with the parameters of `docs/operations.md`; `holder` names
    /// this process and no other one, ever; `address` is the URL at which other daemons reach its API, and may be empty.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do. It never contains the password.
    pub async fn open(url: &Redacted<String>, holder: &str, address: &str) -> Result<Self, OpenError> {
        let (options, place) = connect::options(url)?;
        migrate(&options, &place).await?;
        let connection = Postgres::connect(&options).await.map_err(|error| OpenError::of(&place, error))?;
        let turn = Arc::<Turn>::default();
        let lease = Lease::new(options.clone(), holder, address, Arc::clone(&turn));
        let readers = connect::pool(&options, READERS);
        let mesh = Some(Arc::new(Link::new(options.clone())));
        let writer = Writer::start::<Postgres>(options, connection, turn);
        Ok(Self { writer, readers, kept: Some(Arc::new(lease)), mesh })
    }

    /// Connects for the tokens, beside daemons that may be running: brings the schema up to date, and takes nothing over.
    ///
    /// # Errors
    /// [`OpenError`], as for [`PostgresStore::open`].
    pub async fn open_beside(url: &Redacted<String>) -> Result<Self, OpenError> {
        let (options, place) = connect::options(url)?;
        migrate(&options, &place).await?;
        Ok(Self { writer: Writer::none(), readers: connect::pool(&options, READERS), kept: None, mesh: None })
    }

    /// Connects for reading only, beside daemons that may be running. Creates nothing.
    ///
    /// # Errors
    /// [`OpenError`], as for [`PostgresStore::open`].
    pub async fn open_read_only(url: &Redacted<String>) -> Result<Self, OpenError> {
        let (options, place) = connect::options(url)?;
        let readers = connect::pool(&options, READERS);
        let reached = connect::session(&options, READS).await;
        reached.map_err(|error| OpenError::of(&place, error))?;
        Ok(Self { writer: Writer::none(), readers, kept: None, mesh: None })
    }
}

/// Brings the schema up to date, on a connection whose statements may take long: a daemon that started at the same time
/// may be doing the same, and is waited for.
async fn migrate(options: &Options<Postgres>, place: &Place) -> Result<(), OpenError> {
    let migrating = async {
        let mut connection = connect::session(options, MIGRATING).await.map_err(|error| OpenError::of(place, error))?;
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        MIGRATIONS.run(&mut connection).await.map_err(|error| OpenError::of_migration(place, known, error))?;
        // The schema is there: a connection that is not closed well changes nothing about it.
        let _ = sqlx::Connection::close(connection).await;
        Ok(())
    };
    match tokio::time::timeout(MIGRATING, migrating).await {
        Ok(migrated) => migrated,
        Err(_) => Err(OpenError::of(place, late(MIGRATING))),
    }
}

/// The error of waiting in vain.
fn late(waited: Duration) -> sqlx::Error {
    let text = format!("no answer within {} s", waited.as_secs());
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

async fn within<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(time, answer).await.unwrap_or_else(|_| Err(late(time)))
}

session!(Postgres, PgConnection, PgRow);

impl Dialect for Postgres {
    /// `None` where nothing is written.
    type Kept = Option<Arc<Lease>>;

    const SOURCE: &'static str = "postgresql";
    /// The fence rests on seeing what was committed while waiting for the lock, whatever the database's default is.
    const BEGIN: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    /// The lock of an update, which no two transactions have at once.
    const FENCE: &'static str = "SELECT epoch FROM driver_lease WHERE id = 1 FOR NO KEY UPDATE";
    const NOTE: &'static str = "INSERT INTO journal (position, rollout_id, seq, at_ms, engine_version, input) \
                                SELECT coalesce(max(position), 0) + 1, $1, $2, $3, $4, $5 FROM journal \
                                RETURNING position";
    const POSITION: &'static str = "SELECT max(position) AS position FROM journal";
    const SINCE: &'static str =
        "SELECT position, rollout_id, seq FROM journal WHERE position > $1 ORDER BY position LIMIT $2";
    /// Each is some four statements, and each of these a way to the database and back: less than a tenth of a second where
    /// that takes half a millisecond, and still less than a call about the lease may take, which waits for it, at 20.
    const GROUP: usize = 32;

    async fn connect(options: &Options<Self>) -> Result<PgConnection, sqlx::Error> {
        connect::session(options, WRITES).await
    }

    async fn bounded<T: Send>(answer: impl Future<Output = Result<T, sqlx::Error>> + Send) -> Result<T, sqlx::Error> {
        within(ANSWER, answer).await
    }

    /// Given up without a word: one that is broken could not be spoken to, and the server undoes what is not committed
    /// as soon as it sees the end of it.
    async fn recover(connection: PgConnection) -> Option<PgConnection> {
        drop(connection);
        None
    }

    fn fault(error: sqlx::Error) -> Fault {
        errors::fault(&error)
    }
}
