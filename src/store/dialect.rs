//! What the store needs of a database, so that its statements and its logic are written once.
//!
//! The tables hold whole numbers and text and nothing else, and both databases take `$1` for a value. So a connection
//! comes down to [`Session`]: a statement with values, and rows with columns by name. What remains different is
//! [`Dialect`].

use crate::base::fault::Fault;
use std::future::Future;

/// A value that is put into a statement.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Whole(i64),
    /// A whole number, or none.
    Maybe(Option<i64>),
}

/// One connection to a database.
pub trait Session: Send {
    /// A row that it answers.
    type Row: Columns;

    /// Says something that takes no values and answers nothing, such as `COMMIT`. It is not prepared.
    fn say(&mut self, sql: &'static str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    /// Changes rows; answers how many.
    fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
    /// Asks for rows.
    fn rows(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;
}

/// Columns of a row, by name. Asking for one that is not there, or is of another type, is an error and no panic.
pub trait Columns: Send + Sync {
    /// Text.
    ///
    /// # Errors
    /// No such column, or one that is not text.
    fn text(&self, name: &str) -> Result<String, sqlx::Error>;
    /// A whole number.
    ///
    /// # Errors
    /// No such column, or one that is no whole number.
    fn whole(&self, name: &str) -> Result<i64, sqlx::Error>;
    /// A whole number, or none.
    ///
    /// # Errors
    /// No such column, or one that is no whole number.
    fn maybe(&self, name: &str) -> Result<Option<i64>, sqlx::Error>;
}

/// How to reach a database, in sqlx's words.
pub type Options<D> = <<D as sqlx::Database>::Connection as sqlx::Connection>::Options;

/// What differs between databases.
pub trait Dialect: sqlx::Database<Connection: Session> {
    /// What an open store keeps besides its connections: who may drive.
    type Kept: Clone + Send + Sync + 'static;

    /// The name that faults are reported under.
    const SOURCE: &'static str;
    /// Begins a transaction that writes.
    const BEGIN: &'static str;
    /// Reads `epoch` of the lease, and keeps it from changing until the transaction ends.
    const FENCE: &'static str;
    /// Inserts a journal row from rollout, number, time, engine's version and input; answers its `position`.
    const NOTE: &'static str;
    /// Reads the last `position`, which is null before the first.
    const POSITION: &'static str;
    /// Reads `position`, `rollout_id` and `seq` of inputs after a position, up to a number of them.
    const SINCE: &'static str;
    /// Writes that share a commit, at most: an answer is not held up by much more than its own commit.
    const GROUP: usize;

    /// Opens a connection, as it is wanted here.
    fn connect(options: &Options<Self>) -> impl Future<Output = Result<Self::Connection, sqlx::Error>> + Send;
    /// Waits for an answer no longer than a database that lives takes to give it.
    fn bounded<T: Send>(
        answer: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> impl Future<Output = Result<T, sqlx::Error>> + Send;
    /// Takes a connection out of a transaction that failed; `None` when it is better given up.
    fn recover(connection: Self::Connection) -> impl Future<Output = Option<Self::Connection>> + Send;
    /// Whose fault an error is, and whether it may pass.
    fn fault(error: sqlx::Error) -> Fault;
}

/// Both databases' connections are sessions in the same words; only the types differ.
macro_rules! session {
    ($database:ty, $connection:ty, $row:ty) => {
        impl $crate::store::dialect::Session for $connection {
            type Row = $row;

            async fn say(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
                sqlx::raw_sql(sql).execute(&mut *self).await.map(drop)
            }

            async fn execute(
                &mut self,
                sql: &'static str,
                values: &[$crate::store::dialect::Value<'_>],
            ) -> Result<u64, sqlx::Error> {
                let query = $crate::store::dialect::session!(@bound $database, sql, values);
                Ok(query.execute(&mut *self).await?.rows_affected())
            }

            async fn rows(
                &mut self,
                sql: &'static str,
                values: &[$crate::store::dialect::Value<'_>],
            ) -> Result<Vec<Self::Row>, sqlx::Error> {
                let query = $crate::store::dialect::session!(@bound $database, sql, values);
                query.fetch_all(&mut *self).await
            }
        }

        impl $crate::store::dialect::Columns for $row {
            fn text(&self, name: &str) -> Result<String, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn whole(&self, name: &str) -> Result<i64, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }

            fn maybe(&self, name: &str) -> Result<Option<i64>, sqlx::Error> {
                sqlx::Row::try_get(self, name)
            }
        }
    };
    (@bound $database:ty, $sql:expr, $values:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for value in $values {
            query = match value {
                $crate::store::dialect::Value::Text(text) => query.bind(*text),
                $crate::store::dialect::Value::Whole(number) => query.bind(*number),
                $crate::store::dialect::Value::Maybe(number) => query.bind(*number),
            };
        }
        query
    }};
}
pub(super) use session;
