//! Which daemon drives: one row, whose epoch only ever rises.
//!
//! It has a connection of its own, so that a busy API or a long transaction does not keep it from being extended, beyond
//! the wait for the row itself. Calls come one after the other.

use super::connect::{WRITES, session};
use super::{Dialect, Postgres, Turn, late};
use crate::base::fault::Fault;
use crate::ports::{Acquired, DriverLease, Holder, LEASE};
use crate::store::database::Database;
use crate::store::dialect::{Columns, Session, Value};
use crate::store::read;
use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// A call takes no longer: three of them fit into the time that a lease lasts, so a lost answer does not lose the lease.
const CALL: Duration = Duration::from_secs(3);

/// Free, run out, or this process's own, taken before and perhaps not known to have been.
const ACQUIRE: &str = "UPDATE driver_lease SET epoch = epoch + 1, holder = $1, address = $2, \
                       expires_at = clock_timestamp() + $3 * interval '1 millisecond' \
                       WHERE id = 1 AND (holder IN ('', $1) OR expires_at <= clock_timestamp()) RETURNING epoch";
/// What may still be written of them is written under this epoch.
const ADOPT: &str = "UPDATE rollouts SET lease_epoch = $1 WHERE finished = 0";
const RENEW: &str = "UPDATE driver_lease SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' \
                     WHERE id = 1 AND epoch = $1 AND holder <> ''";
/// The epoch stays, so that it goes on rising.
const RELEASE: &str = "UPDATE driver_lease SET holder = '', address = '', expires_at = clock_timestamp() \
                       WHERE id = 1 AND epoch = $1";
const HOLDER: &str = "SELECT holder, address, (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint \
                      AS left_ms FROM driver_lease WHERE id = 1";

/// This process's part in the lease.
#[derive(Debug)]
pub struct Lease {
    options: PgConnectOptions,
    holder: String,
    address: String,
    turn: Arc<Turn>,
    /// `None` before the first call, and after one that failed.
    link: Mutex<Option<PgConnection>>,
}

impl Lease {
    pub(super) fn new(options: PgConnectOptions, holder: &str, address: &str, turn: Arc<Turn>) -> Self {
        let (holder, address) = (holder.to_owned(), address.to_owned());
        Self { options, holder, address, turn, link: Mutex::default() }
    }

    /// A connection that answers. It goes back into the link when it has done what it was asked: one that did not is
    /// given up.
    async fn connection(&self, link: &mut Option<PgConnection>) -> Result<PgConnection, sqlx::Error> {
        if let Some(mut kept) = link.take()
            && kept.say("SELECT 1").await.is_ok()
        {
            return Ok(kept);
        }
        session(&self.options, WRITES).await
    }

    async fn acquire(&self) -> Result<Acquired, sqlx::Error> {
        let mut link = self.link.lock().await;
        let mut connection = self.connection(&mut link).await?;
        // Whatever this process is writing under the last epoch comes first, or begins anew under this one.
        let _turn = self.turn.take().await;
        connection.say(Postgres::BEGIN).await?;
        let lasts = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let values = [Value::Text(&self.holder), Value::Text(&self.address), Value::Whole(lasts)];
        let raised = connection.rows(ACQUIRE, &values).await?;
        let acquired = match raised.first() {
            Some(row) => {
                let epoch = row.whole("epoch")?;
                connection.execute(ADOPT, &[Value::Whole(epoch)]).await?;
                connection.say("COMMIT").await?;
                self.turn.won(epoch);
                Acquired::Ours { epoch: read::whole(epoch) }
            }
            None => {
                let holder = holder(&connection.rows(HOLDER, &[]).await?)?;
                connection.say("ROLLBACK").await?;
                self.turn.lost();
                Acquired::Theirs(holder)
            }
        };
        *link = Some(connection);
        Ok(acquired)
    }

    async fn renew(&self) -> Result<bool, sqlx::Error> {
        let mut link = self.link.lock().await;
        let Some(epoch) = self.turn.epoch() else {
            return Ok(false);
        };
        let mut connection = self.connection(&mut link).await?;
        let lasts = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let ours = connection.execute(RENEW, &[Value::Whole(epoch), Value::Whole(lasts)]).await? == 1;
        if !ours {
            self.turn.lost();
        }
        *link = Some(connection);
        Ok(ours)
    }

    async fn release(&self) -> Result<(), sqlx::Error> {
        let mut link = self.link.lock().await;
        let Some(epoch) = self.turn.epoch() else {
            return Ok(());
        };
        // First, so that nothing is begun any more under an epoch that was given away.
        self.turn.lost();
        let mut connection = self.connection(&mut link).await?;
        connection.execute(RELEASE, &[Value::Whole(epoch)]).await?;
        *link = Some(connection);
        Ok(())
    }
}

/// Who stands in the row, though it may have run out.
fn holder(rows: &[PgRow]) -> Result<Holder, sqlx::Error> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let left = Duration::from_millis(read::whole(row.whole("left_ms")?));
    Ok(Holder { id: row.text("holder")?, address: row.text("address")?, left })
}

/// Within the time of a call, or not at all: what was under way is given up with its connection.
async fn in_time<T>(call: impl Future<Output = Result<T, sqlx::Error>> + Send) -> Result<T, Fault> {
    let answer = tokio::time::timeout(CALL, call).await.unwrap_or_else(|_| Err(late(CALL)));
    answer.map_err(Postgres::fault)
}

impl Database<Postgres> {
    fn lease(&self) -> Result<&Lease, Fault> {
        let read_only = || Fault::permanent(Postgres::SOURCE, "the database is open for reading only");
        self.kept.as_deref().ok_or_else(read_only)
    }
}

#[async_trait]
impl DriverLease for Database<Postgres> {
    async fn try_acquire(&self) -> Result<Acquired, Fault> {
        in_time(self.lease()?.acquire()).await
    }

    async fn renew(&self) -> Result<bool, Fault> {
        in_time(self.lease()?.renew()).await
    }

    async fn release(&self) -> Result<(), Fault> {
        in_time(self.lease()?.release()).await
    }

    /// Asks the readers, so that however often that is, extending the lease does not wait for it.
    async fn holder(&self) -> Result<Option<Holder>, Fault> {
        let rows = tokio::time::timeout(CALL, read::ask(&self.readers, HOLDER, &[])).await;
        let rows = rows.unwrap_or_else(|_| Err(Postgres::fault(late(CALL))))?;
        let holder = holder(&rows).map_err(Postgres::fault)?;
        Ok(Some(holder).filter(|holder| !holder.id.is_empty() && !holder.left.is_zero()))
    }
}
