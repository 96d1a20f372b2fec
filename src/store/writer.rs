//! The one writer. Whatever waits while a commit is under way goes into the next one together: a disk that syncs ten
//! times a second still writes hundreds of inputs a second, and none is answered before it is on disk.
//!
//! It has a connection to itself. Every transaction begins with the lease (see [`Turn`]): a process that was taken over,
//! or never had the lease, commits nothing.

use super::dialect::{Columns, Dialect, Options, Session};
use super::rows::{Answer, Write};
use crate::base::fault::{Fault, FaultKind};
use crate::ports::JournalError;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Writes that may wait: beyond it callers wait to be let in. A rollout has two at most, an input and a note.
const QUEUE: usize = 1024;

/// A handle on the writer.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "all are writes but the last one")]
enum Job {
    Write(Waiting),
    /// Close when all before it is written.
    Close(oneshot::Sender<()>),
}

/// A write, and who waits for it.
#[derive(Debug)]
struct Waiting {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// The epoch that this process drives under, and whose turn it is to use it: a transaction that writes and one that
/// raises the epoch would else cross, and the former be refused although the lease never left this process.
#[derive(Debug, Default)]
pub(super) struct Turn {
    epoch: AtomicI64,
    taken: Mutex<()>,
}

impl Turn {
    /// No epoch: the row begins with it, and whoever takes the lease raises it first.
    const NONE: i64 = 0;

    /// A process that has the lease from the beginning.
    pub(super) fn of(epoch: i64) -> Arc<Self> {
        Arc::new(Self { epoch: AtomicI64::new(epoch), taken: Mutex::default() })
    }

    /// The epoch, while this process has the lease as far as it knows.
    pub(super) fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != Self::NONE)
    }

    /// Keeps the writer out of a change of the epoch, or the other way round.
    pub(super) async fn take(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.taken.lock().await
    }

    /// The lease was taken.
    pub(super) fn won(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// The lease is another's, or nobody's.
    pub(super) fn lost(&self) {
        self.epoch.store(Self::NONE, Ordering::Release);
    }
}

/// Why nothing of a group is known to be in the database.
enum Lost {
    /// One of the writes failed: nothing is there.
    Write(sqlx::Error),
    /// The transaction could not begin: nothing is there.
    Begin(sqlx::Error),
    /// It could not be ended: a disk may fail after it has written, a connection before the answer.
    Commit(sqlx::Error),
}

impl Lost {
    fn fault<D: Dialect>(self) -> Fault {
        match self {
            Self::Write(error) | Self::Begin(error) => D::fault(error),
            Self::Commit(error) => Fault { kind: FaultKind::Unknown, ..D::fault(error) },
        }
    }
}

impl Writer {
    /// Starts the writer on a connection of its own, which it opens anew when it is lost; it ends with the last handle.
    pub(super) fn start<D: Dialect>(options: Options<D>, connection: D::Connection, turn: Arc<Turn>) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(Link::<D> { options, open: Some(connection) }, turn, jobs));
        Self { queue }
    }

    /// Refuses every write: the database is open for reading.
    pub(super) fn none() -> Self {
        Self { queue: mpsc::channel(1).0 }
    }

    /// Writes; answers when it is on disk. A caller that stops waiting
    /// before its turn has changed nothing.
    pub(super) async fn write<D: Dialect>(&self, write: Write) -> Answer {
        let (answer, answered) = oneshot::channel();
        let closed = || Fault::permanent(D::SOURCE, "the database is closed for writing");
        self.queue.send(Job::Write(Waiting { write, answer })).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Finishes what waits to be written, and closes the connection.
    pub(super) async fn close(&self) {
        let (closed, when) = oneshot::channel();
        // Closed already is as good.
        if self.queue.send(Job::Close(closed)).await.is_ok() {
            let _ = when.await;
        }
    }
}

/// The writer's connection.
struct Link<D: Dialect> {
    options: Options<D>,
    /// `None` when the last one was given up.
    open: Option<D::Connection>,
}

impl<D: Dialect> Link<D> {
    /// A connection with a transaction begun. One that was lost while nothing was written shows it here, and since
    /// nothing has been asked of it yet, another takes its place.
    async fn begin(&mut self) -> Result<D::Connection, sqlx::Error> {
        if let Some(mut connection) = self.open.take() {
            match D::bounded(connection.say(D::BEGIN)).await {
                Ok(()) => return Ok(connection),
                Err(error) => {
                    self.open = D::recover(connection).await;
                    if self.open.is_some() {
                        return Err(error);
                    }
                }
            }
        }
        let mut connection = D::connect(&self.options).await?;
        D::bounded(connection.say(D::BEGIN)).await?;
        Ok(connection)
    }

    /// Writes a group in one transaction.
    ///
    /// Its ends are said in SQL, not by sqlx's guard: SQLite rolls back by itself where the disk fails, and the guard
    /// would go on believing in a transaction that is gone.
    async fn together(&mut self, turn: &Turn, group: &[Waiting]) -> Result<Vec<Answer>, Lost> {
        if group.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = turn.take().await;
        let Some(epoch) = turn.epoch() else {
            return Ok(group.iter().map(|waiting| waiting.write.fenced::<D>()).map(Err).collect());
        };
        let mut connection = self.begin().await.map_err(Lost::Begin)?;
        let written = match D::bounded(fill::<D>(&mut connection, epoch, group)).await {
            Ok(answers) => match D::bounded(connection.say("COMMIT")).await {
                Ok(()) => Ok(answers),
                Err(error) => Err(Lost::Commit(error)),
            },
            Err(error) => Err(Lost::Write(error)),
        };
        self.open = if written.is_ok() { Some(connection) } else { D::recover(connection).await };
        written
    }
}

/// The writes of a group, when the lease is still this process's; it cannot be taken before the transaction ends.
async fn fill<D: Dialect>(
    connection: &mut D::Connection,
    epoch: i64,
    group: &[Waiting],
) -> Result<Vec<Answer>, sqlx::Error> {
    let lease = connection.rows(D::FENCE, &[]).await?;
    let ours = lease.first().ok_or(sqlx::Error::RowNotFound)?.whole("epoch")? == epoch;
    let mut answers = Vec::with_capacity(group.len());
    for Waiting { write, .. } in group {
        answers.push(if ours { write.apply::<D>(connection, epoch).await? } else { Err(write.fenced::<D>()) });
    }
    Ok(answers)
}

async fn run<D: Dialect>(mut link: Link<D>, turn: Arc<Turn>, mut jobs: mpsc::Receiver<Job>) {
    let mut arrived = Vec::with_capacity(D::GROUP);
    while jobs.recv_many(&mut arrived, D::GROUP).await > 0 {
        let (mut group, mut closing) = (Vec::with_capacity(arrived.len()), Vec::new());
        for job in arrived.drain(..) {
            match job {
                // Nobody waits for these any more: whoever wanted them was told that they are not done.
                Job::Write(waiting) if waiting.answer.is_closed() => {}
                Job::Write(waiting) => group.push(waiting),
                Job::Close(closed) => closing.push(closed),
            }
        }
        match link.together(&turn, &group).await {
            // Each by itself, so that what the database cannot take does not take the others with it.
            Err(Lost::Write(_)) if group.len() > 1 => {
                for waiting in group {
                    let alone = link.together(&turn, std::slice::from_ref(&waiting)).await;
                    tell::<D>(vec![waiting], alone);
                }
            }
            written => tell::<D>(group, written),
        }
        if !closing.is_empty() {
            if let Some(connection) = link.open.take() {
                // What was to be kept is committed, however this ends.
                let _ = D::bounded(sqlx::Connection::close(connection)).await;
            }
            for closed in closing {
                let _ = closed.send(());
            }
            return;
        }
    }
}

/// Answers the writes of one group. Nobody may be waiting any more, which is fine.
fn tell<D: Dialect>(group: Vec<Waiting>, written: Result<Vec<Answer>, Lost>) {
    match written {
        Ok(answers) => {
            for (waiting, answer) in group.into_iter().zip(answers) {
                let _ = waiting.answer.send(answer);
            }
        }
        Err(lost) => {
            let fault = lost.fault::<D>();
            for waiting in group {
                let _ = waiting.answer.send(Err(JournalError::Fault(fault.clone())));
            }
        }
    }
}
