//! A PostgreSQL server for one test: on a socket in a directory of its own, and gone with the process that started it,
//! however that ends.

use crate::program::{lacks, until};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tidegate::base::secret::Redacted;
use tidegate::ports::{Acquired, DriverLease};
use tidegate::store::postgres::PostgresStore;

/// The user that the server runs as where the tests are root, which it refuses to be. Debian's package makes it.
const USER: &str = "postgres";

/// A running server.
pub(crate) struct Server {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    directory: TempDir,
    /// Part of the socket's name, and where it listens besides when it is told to.
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts one; `None`, and said so, where PostgreSQL is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let mut server = Self::prepare()?;
        server.run(&[]).await;
        Some(server)
    }

    /// A directory with a fresh database, without a server.
    pub(crate) fn prepare() -> Option<Self> {
        let (Some(programs), Some(user)) = (programs(), user()) else {
            lacks("postgresql");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        if let Some((uid, gid)) = user {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let server = Self { programs, user, directory, port: 5432, child: None };
        let template = server.template();
        done(Command::new("cp").arg("-a").arg(&template).arg(server.data()));
        Some(server)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Has it listen on a port of 127.0.0.1 as well, free a moment ago: PostgreSQL does not take port 0.
    pub(crate) fn listen(&mut self) -> u16 {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        self.port = probe.local_addr().unwrap().port();
        self.port
    }

    /// Has it listen on that port of 127.0.0.1 as well.
    pub(crate) fn listen_at(&mut self, port: u16) {
        self.port = port;
    }

    /// A certificate that the server shows for `localhost`, and that is its own root; `false`, and said so, without openssl.
    pub(crate) fn certify(&self) -> bool {
        let (key, certificate) = (self.data().join("server.key"), self.data().join("server.crt"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null());
        if openssl.status().is_err() {
            return lacks("openssl");
        }
        if let Some((uid, gid)) = self.user {
            chown(&key, Some(uid), Some(gid)).unwrap();
        }
        key.exists() && certificate.exists()
    }

    /// A database directory to copy from: making one takes a second, and each test has a process of its own.
    fn template(&self) -> PathBuf {
        let version = self.programs.display().to_string().replace('/', "-");
        let name = format!("postgres{version}-{}", self.user.map_or("own".to_owned(), |(uid, _)| uid.to_string()));
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if kept.is_dir() {
            return kept;
        }
        let made = self.path().join("template");
        let mut initdb = self.as_user(None, "initdb");
        initdb.arg("-D").arg(&made).args(["-U", USER, "-A", "trust", "-N", "--no-instructions"]);
        done(initdb.args(["--encoding=UTF8", "--locale=C", "--wal-segsize=1"]));
        // Complete before it has its name; whoever comes second keeps the first one's.
        let copy = kept.with_extension(std::process::id().to_string());
        done(Command::new("cp").arg("-a").arg(&made).arg(&copy));
        if std::fs::rename(&copy, &kept).is_err() {
            std::fs::remove_dir_all(&copy).unwrap();
        }
        kept
    }

    /// One of the programs as the server's user; with a signal that it gets when the thread that starts it ends.
    fn as_user(&self, at_my_end: Option<&str>, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(signal) = at_my_end {
            command.args(["--pdeathsig", signal]);
        }
        if let Some((uid, gid)) = self.user {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        command.arg(self.programs.join(program)).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Starts the server, with further settings such as `-cssl=on`, and waits until it answers.
    pub(crate) async fn run(&mut self, settings: &[&str]) {
        // SIGQUIT ends it at once and takes its children and its shared memory along; SIGKILL would leave both.
        let mut command = self.as_user(Some("QUIT"), "postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.path());
        command.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB"]);
        // The last one of a name counts.
        command.arg("-clisten_addresses=").args(settings);
        command.arg(format!("-cport={}", self.port));
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until("PostgreSQL answers", async || {
            if let Ok(Some(status)) = self.child.as_mut().unwrap().try_wait() {
                let log = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
                panic!("it ended at once ({status}): {log}");
            }
            self.options().connect().await.ok()
        })
        .await;
    }

    /// Ends it as a crash of its machine does; nothing is said to its clients.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            // Gone already is as good.
            let _ = Command::new("kill").args(["-s", "QUIT", &pid]).status();
            let _ = child.wait();
        }
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass().socket(self.path()).port(self.port).username(USER).database(USER)
    }

    /// Where it is.
    pub(crate) fn url(&self) -> Redacted<String> {
        Redacted::new(format!("postgres://{USER}@localhost/{USER}?host={}", self.path().display()))
    }

    /// A store that does not drive.
    pub(crate) async fn open(&self, holder: &str) -> PostgresStore {
        PostgresStore::open(&self.url(), holder, &format!("http://{holder}.test")).await.expect("opens")
    }

    /// A store that drives.
    pub(crate) async fn drive(&self, holder: &str) -> PostgresStore {
        let store = self.open(holder).await;
        let acquired = store.try_acquire().await.expect("asked");
        assert!(matches!(acquired, Acquired::Ours { .. }), "{acquired:?}");
        store
    }

    /// Another hand in the database.
    pub(crate) async fn hand(&self) -> PgConnection {
        self.options().application_name("hand").connect().await.expect("connects")
    }

    /// One statement by another hand, which must change something.
    pub(crate) async fn sql(&self, statement: &str) {
        let mut hand = self.hand().await;
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut hand).await.expect(statement);
        assert!(done.rows_affected() > 0 || statement.starts_with("CREATE"), "{statement} changed nothing");
    }

    /// Waits until a store waits for a lock; answers the process that does.
    pub(crate) async fn waiting(&self, what: &str) -> i32 {
        let mut hand = self.hand().await;
        let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tidegate' AND wait_event_type = 'Lock' \
                   AND query LIKE $1";
        let pattern = format!("%{what}%");
        until(&format!("a lock is waited for in `{what}`"), async || {
            sqlx::query_scalar(sql).bind(&pattern).fetch_optional(&mut hand).await.expect("asked")
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The newest that is installed where Debian puts it, or else the one on the path.
fn programs() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = debian.filter(|path| path.join("bin/initdb").exists()).max_by_key(version);
    let found = newest.map(|path| path.join("bin"));
    found.or_else(|| {
        let output = Command::new("sh").args(["-c", "command -v initdb && command -v postgres"]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(Path::new(text.lines().next()?).parent()?.to_owned())
    })
}

/// The user to run it as; the inner `None` where that is whoever runs the tests.
fn user() -> Option<Option<(u32, u32)>> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    if id(&["-u"])? != 0 {
        return Some(None);
    }
    Some(Some((id(&["-u", USER])?, id(&["-g", USER])?)))
}

/// Runs a command to its end, which must be a good one.
fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{error}: {command:?}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
