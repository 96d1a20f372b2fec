//! From a URL to a connection: what may stand in the URL, and how a session is set up.

use super::errors::OpenError;
use super::within;
use crate::base::secret::Redacted;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Name, network, TLS and authentication together take no longer where anybody answers.
const CONNECTING: Duration = Duration::from_secs(5);
/// The server ends a statement of a transaction that writes after this. It touches a few rows by their keys; what takes
/// time is the disk, or waiting for another daemon's transaction.
pub(super) const WRITES: Duration = Duration::from_secs(5);
/// The server ends a statement that reads after this. The longest reads a rollout's whole journal.
pub(super) const READS: Duration = Duration::from_secs(15);
/// The server ends a transaction in which nothing is said for so long: its daemon is gone, and whoever takes over would
/// else wait for its lock until the network notices.
const SILENT: Duration = Duration::from_secs(5);

/// What sqlx knows in a URL's query. Others are refused: it would write them into the log, value and all, and go on
/// without what was meant.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Where a database is, for messages: nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    database: String,
    user: String,
    host: String,
    port: u16,
    socket: Option<PathBuf>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database `{}` as `{}` ", self.database, self.user)?;
        match &self.socket {
            Some(socket) => write!(f, "in {} (port {})", socket.display(), self.port),
            None => write!(f, "at {}:{}", self.host, self.port),
        }
    }
}

/// Options of a URL, and where they lead.
pub(super) fn options(url: &Redacted<String>) -> Result<(PgConnectOptions, Place), OpenError> {
    check(url.reveal())?;
    let parsed: Result<PgConnectOptions, sqlx::Error> = url.reveal().parse();
    let mut options = parsed.map_err(|error| {
        // A port that is no number, an unknown sslmode, a missing file: its text names that and not the URL.
        let text = match error {
            sqlx::Error::Configuration(inner) => inner.to_string(),
            other => other.to_string(),
        };
        OpenError::Url { problem: text }
    })?;
    if options.get_application_name().is_none() {
        options = options.application_name("tidegate");
    }
    let user = options.get_username().to_owned();
    let place = Place {
        // PostgreSQL's own default.
        database: options.get_database().unwrap_or(&user).to_owned(),
        user,
        host: options.get_host().to_owned(),
        port: options.get_port(),
        socket: options.get_socket().cloned(),
    };
    Ok((options, place))
}

/// A password with characters of URLs in it splits the URL elsewhere than its writer thinks, and parts of it become host,
/// port or database: words of messages. So whatever looks like that is refused without naming it.
fn check(url: &str) -> Result<(), OpenError> {
    let refused = |problem: &str| Err(OpenError::Url { problem: problem.to_owned() });
    let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
        return refused("it does not begin with postgres:// or postgresql://");
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.matches('@').count() > 1 || rest.contains(['@', '#']) {
        return refused(
            "in user, password and parameters write @ as %40, / as %2F, ? as %3F, # as %23, : as %3A, % as %25",
        );
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !PARAMETERS.contains(&name) && !name.starts_with("options[") {
            let shown = if value.is_empty() { "a parameter".to_owned() } else { format!("the parameter `{name}`") };
            return refused(&format!(
                "{shown} is not known; there are sslmode, sslrootcert, sslcert, sslkey, host, port, dbname, user, password, options"
            ));
        }
    }
    Ok(())
}

/// Opens a connection whose statements the server ends after a time.
pub(super) async fn session(options: &PgConnectOptions, statements: Duration) -> Result<PgConnection, sqlx::Error> {
    within(CONNECTING, async {
        let mut connection = options.connect().await?;
        set_up(&mut connection, statements).await?;
        Ok(connection)
    })
    .await
}

/// Connections for reading, opened when they are needed.
pub(super) fn pool(options: &PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECTING)
        .after_connect(|connection, _| Box::pin(set_up(connection, READS)))
        .connect_lazy_with(options.clone())
}

/// Said in SQL and not at the connection's start, which poolers between a daemon and a database do not pass on.
async fn set_up(connection: &mut PgConnection, statements: Duration) -> Result<(), sqlx::Error> {
    let sql = "SELECT set_config('statement_timeout', $1, false), \
               set_config('idle_in_transaction_session_timeout', $2, false), \
               set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
               ELSE current_setting('synchronous_commit') END, false)";
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let query = sqlx::query(sql).bind(milliseconds(statements)).bind(milliseconds(SILENT));
    query.execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<(PgConnectOptions, Place), OpenError> {
        options(&Redacted::new(url.to_owned()))
    }

    #[test]
    fn a_url_leads_to_a_place_that_names_no_password() {
        let (_, place) = read("postgres://app:hunter2@db.internal:5433/tidegate?sslmode=verify-full").expect("valid");
        assert_eq!(place.to_string(), "database `tidegate` as `app` at db.internal:5433");
        let (_, place) = read("postgresql://app@localhost/tidegate?host=/run/pg&port=5433").expect("valid");
        assert_eq!(place.to_string(), "database `tidegate` as `app` in /run/pg (port 5433)");
        let (options, _) = read("postgres://app:a%40b%2Fc%23d@db/tidegate?options[search_path]=own").expect("valid");
        assert_eq!((options.get_database(), options.get_options()), (Some("tidegate"), Some("-c search_path=own")));
    }

    #[test]
    fn a_url_that_is_read_wrongly_is_refused_and_not_shown() {
        for url in [
            "mysql://app:hunter2@db/tidegate",
            "hunter2",
            "postgres://app:hun#ter2@db/tidegate",
            "postgres://app:12#hunter2@db/tidegate",
            "postgres://app:12/hunter2@db/tidegate",
            "postgres://app:12?hunter2@db/tidegate",
            "postgres://app:hunter2@x@db/tidegate",
            "postgres://app:hunter2@db:port/tidegate",
            "postgres://app@db/tidegate?passwort=hunter2",
            "postgres://app@db/tidegate?hunter2",
            "postgres://app:hunter2@db/tidegate?sslmode=on",
            "postgres://app:hunter2@db/tidegate?statement-cache-capacity=many",
        ] {
            let error = read(url).map(drop).expect_err(url);
            let text = format!("{error} {error:?}");
            assert!(text.contains("postgres://USER:PASSWORD@HOST:PORT/DATABASE"), "{text}");
            assert!(!text.contains("hunter") && !text.contains("ter2"), "{url}: {text}");
        }
    }
}
