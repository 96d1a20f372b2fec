//! What PostgreSQL and the way to it say, reduced to whose fault it is and what to do. Nothing here contains the URL.

use super::connect::Place;
use super::{Dialect, Postgres};
use crate::base::fault::Fault;
use sqlx::migrate::MigrateError;
use std::io::ErrorKind;

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one that leads to a database.
    #[error(
        "the database URL is not valid: {problem}; it has the form postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answers there, or not in time.
    #[error(
        "cannot reach the {place}: {message}; is it running, and may this machine connect to it (address, port, security group)?"
    )]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
    /// The two could not agree on TLS.
    #[error("no TLS with the {place}: {message}; look at sslmode and sslrootcert of the database URL")]
    Tls {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
    /// It does not let this user in.
    #[error(
        "the {place} refuses the login: {message}; look at user and password of the database URL, and at pg_hba.conf"
    )]
    Login {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
    /// There is no such database.
    #[error("there is no {place}: {message}; create it (CREATE DATABASE … OWNER …), Tidegate creates what is in it")]
    NoDatabase {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
    /// The user lacks a right.
    #[error(
        "the {place} lacks a right: {message}; make the user the owner of the database, or GRANT CREATE, USAGE ON SCHEMA to it"
    )]
    Right {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
    /// It takes no writes.
    #[error("the {place} takes no writes: {message}; name the primary and not a standby")]
    Standby {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
    /// A newer release has written it.
    #[error(
        "the {place} was written by a newer tidegate (schema {found}, this one knows {known}); run that release, or give this one another database"
    )]
    Newer {
        /// Where.
        place: String,
        /// Its schema.
        found: i64,
        /// The last schema known here.
        known: i64,
    },
    /// Anything else, with what to look at.
    #[error("cannot open the {place}: {message}")]
    Failed {
        /// Where.
        place: String,
        /// Why.
        message: String,
    },
}

impl OpenError {
    pub(super) fn of(place: &Place, error: sqlx::Error) -> Self {
        let (place, message) = (place.to_string(), text(&error));
        match code(&error).as_deref() {
            Some("3D000") => Self::NoDatabase { place, message },
            Some("25006") => Self::Standby { place, message },
            Some("42501") => Self::Right { place, message },
            Some(code) if code.starts_with("28") => Self::Login { place, message },
            Some(code) if may_pass(code) => Self::Unreachable { place, message },
            Some(_) => Self::Failed { place, message },
            None => match error {
                sqlx::Error::Tls(_) => Self::Tls { place, message },
                // A certificate that is not accepted ends the handshake in the middle of reading.
                sqlx::Error::Io(inner) if inner.kind() == ErrorKind::InvalidData => Self::Tls { place, message },
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Self::Unreachable { place, message },
                _ => Self::Failed { place, message },
            },
        }
    }

    pub(super) fn of_migration(place: &Place, known: i64, error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(found) => Self::Newer { place: place.to_string(), found, known },
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Self::of(place, error),
            other => Self::Failed { place: place.to_string(), message: other.to_string() },
        }
    }
}

/// What went wrong, without the words that sqlx puts before it.
fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(inner) => inner.message().to_owned(),
        sqlx::Error::Io(inner) => inner.to_string(),
        sqlx::Error::Tls(inner) => inner.to_string(),
        sqlx::Error::PoolTimedOut => "no connection within 5 s: it does not answer, or takes no more".to_owned(),
        other => other.to_string(),
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|inner| inner.code()).map(|code| code.into_owned())
}

/// Classes of codes that say nothing about what was asked: connection (08), undone for another transaction's sake (40),
/// too little memory, disk or connections (53), a lock not had in time (55P03), an operator or a timeout (57), the
/// system (58). A transaction that was silent too long (25P03) is gone, and a server that only reads (25006) has become a
/// standby, and the name leads to another one soon.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn may_pass(code: &str) -> bool {
    ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || ["55P03", "25P03", "25006"].contains(&code)
}

/// Whose fault an error is.
pub(super) fn fault(error: &sqlx::Error) -> Fault {
    let text = text(error);
    let passes = match code(error) {
        Some(code) => may_pass(&code),
        None => matches!(
            error,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut
        ),
    };
    if passes { Fault::transient(Postgres::SOURCE, text) } else { Fault::permanent(Postgres::SOURCE, text) }
}
