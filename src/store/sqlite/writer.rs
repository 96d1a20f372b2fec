//! The one writer. Whatever waits while a commit is under way goes into the next one together: a disk that syncs ten
//! times a second still writes hundreds of inputs a second, and none is answered before it is on disk.

use super::fault;
use super::rows::{Answer, Write};
use crate::base::fault::{Fault, FaultKind};
use crate::ports::JournalError;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

/// Writes that may wait: beyond it callers wait to be let in. A rollout has two at most, an input and a note.
const QUEUE: usize = 1024;
/// Writes that share a commit. Some tens of milliseconds of work, so that an answer is not held up by much more than
/// its own sync.
const GROUP: usize = 256;

/// A handle on the writer.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    /// `None` where nothing is written.
    pool: Option<SqlitePool>,
}

#[derive(Debug)]
struct Job {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// Why nothing of a group is known to be in the database.
enum Lost {
    /// One of the writes failed: nothing is there.
    Write(sqlx::Error),
    /// The transaction could not begin: nothing is there.
    Begin(sqlx::Error),
    /// It could not be ended: a disk may fail after it has written.
    Commit(sqlx::Error),
}

impl Lost {
    fn fault(self) -> Fault {
        match self {
            Self::Write(error) | Self::Begin(error) => fault(error),
            Self::Commit(error) => Fault { kind: FaultKind::Unknown, ..fault(error) },
        }
    }
}

impl Writer {
    /// Starts the writer on a pool of one connection; it ends with the last handle.
    pub(super) fn start(pool: SqlitePool, epoch: i64) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(pool.clone(), epoch, jobs));
        Self { queue, pool: Some(pool) }
    }

    /// Refuses every write: the database is open for reading.
    pub(super) fn none() -> Self {
        Self { queue: mpsc::channel(1).0, pool: None }
    }

    /// Writes; answers when it is on disk. A caller that stops waiting
    /// before its turn has changed nothing.
    pub(super) async fn write(&self, write: Write) -> Answer {
        let (answer, answered) = oneshot::channel();
        let closed = || Fault::permanent("sqlite", "the database is closed for writing");
        self.queue.send(Job { write, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Finishes what waits to be written, and closes the connection.
    pub(super) async fn close(&self) {
        // Whether that succeeds is known to those who wait for it.
        let _ = self.write(Write::Nothing).await;
        if let Some(pool) = &self.pool {
            pool.close().await;
        }
    }
}

async fn run(pool: SqlitePool, epoch: i64, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        // Nobody waits for these any more: whoever wanted them was told that they are not done.
        group.retain(|job| !job.answer.is_closed());
        match together(&pool, epoch, &group).await {
            // Each by itself, so that what the database cannot take does not take the others with it.
            Err(Lost::Write(_)) if group.len() > 1 => {
                for job in group.drain(..) {
                    let alone = together(&pool, epoch, std::slice::from_ref(&job)).await;
                    tell(vec![job], alone);
                }
            }
            written => tell(group.drain(..), written),
        }
    }
}

/// Writes a group in one transaction.
///
/// Its ends are said in SQL, not by sqlx's guard: SQLite rolls back by itself where the disk fails, and the guard would
/// go on believing in a transaction that is gone.
async fn together(pool: &SqlitePool, epoch: i64, group: &[Job]) -> Result<Vec<Answer>, Lost> {
    if group.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = pool.acquire().await.map_err(Lost::Begin)?;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(Lost::Begin)?;
    let written = fill(&mut connection, epoch, group).await;
    if written.is_err() {
        // Refused where SQLite has rolled back already, which is as good.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    }
    written
}

async fn fill(connection: &mut SqliteConnection, epoch: i64, group: &[Job]) -> Result<Vec<Answer>, Lost> {
    let mut answers = Vec::with_capacity(group.len());
    for job in group {
        answers.push(job.write.apply(connection, epoch).await.map_err(Lost::Write)?);
    }
    sqlx::raw_sql("COMMIT").execute(connection).await.map_err(Lost::Commit)?;
    Ok(answers)
}

/// Answers the writes of one group. Nobody may be waiting any more, which is fine.
fn tell(group: impl IntoIterator<Item = Job>, written: Result<Vec<Answer>, Lost>) {
    match written {
        Ok(answers) => {
            for (job, answer) in group.into_iter().zip(answers) {
                let _ = job.answer.send(answer);
            }
        }
        Err(lost) => {
            let fault = lost.fault();
            for job in group {
                let _ = job.answer.send(Err(JournalError::Fault(fault.clone())));
            }
        }
    }
}
