//! The demo's service, and the process that it runs in: this same binary, executed again.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Header in which the service says which version answers: so the load knows an answer of a service from the proxy's own.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("x-demo-version");
/// A process says its address within this time.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A process ends within this time of being asked, or is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What a service process is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What it calls itself.
    pub version: String,
    /// Share of requests that it fails.
    pub fail_share: f64,
}

#[derive(Clone)]
struct Service {
    version: Arc<str>,
    fail_share: f64,
    random: Arc<Mutex<StdRng>>,
}

/// Serves until standard input ends: a parent that dies, however it dies, takes its services with it.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(settings: Settings) -> std::io::Result<()> {
    let listener = TcpListener::bind(settings.listen).await?;
    println_address(listener.local_addr()?);
    let random = Arc::new(Mutex::new(StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(std::io::Error::other)?));
    let service = Service { version: settings.version.into(), fail_share: settings.fail_share, random };
    let router = Router::new().route("/health", get(|| async { "ok\n" })).fallback(answer).with_state(service);
    let serving = axum::serve(listener, router).into_future();
    tokio::select! {
        served = serving => served,
        () = input_ended() => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the line by which the parent learns the port")]
fn println_address(address: SocketAddr) {
    println!("{address}");
}

async fn input_ended() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    // An error ends it as well: then nobody is there.
    while matches!(input.read(&mut ignored).await, Ok(1..)) {}
}

async fn answer(State(service): State<Service>) -> impl IntoResponse {
    let fails = {
        let mut random = service.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.random_bool(service.fail_share.clamp(0.0, 1.0))
    };
    let version = [(VERSION_HEADER, service.version.to_string())];
    if fails {
        return (StatusCode::INTERNAL_SERVER_ERROR, version, format!("checkout {} failed\n", service.version));
    }
    (StatusCode::OK, version, format!("checkout {}\n", service.version))
}

/// Why a service process did not start.
#[derive(Debug, thiserror::Error)]
#[error("the demo's service {version} did not start: {why}")]
pub struct ProcessError {
    version: String,
    why: String,
}

/// A service in a process of its own. Dropping it kills the process.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it calls itself.
    pub version: String,
    child: Child,
}

impl Process {
    /// Starts a service and waits until it listens.
    ///
    /// # Errors
    /// [`ProcessError`] with what it said.
    pub async fn start(listen: SocketAddr, version: &str, fail_share: f64) -> Result<Self, ProcessError> {
        let failed = |why: String| ProcessError { version: version.to_owned(), why };
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["demo-service", "--listen", &listen.to_string(), "--version-name", version])
            .args(["--fail-share", &fail_share.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in the terminal is for the parent, which ends its services after its own requests.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let output = child.stdout.take().ok_or_else(|| failed("no standard output".to_owned()))?;
        let mut line = String::new();
        let mut reader = BufReader::new(output);
        let read = tokio::time::timeout(START_TIMEOUT, reader.read_line(&mut line)).await;
        match read.map(|read| read.map(|_| line.trim().parse())) {
            Ok(Ok(Ok(address))) => Ok(Self { address, version: version.to_owned(), child }),
            Ok(Ok(Err(_))) => Err(failed("it ended before it listened; its own message is above".to_owned())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it did not listen within {} s", START_TIMEOUT.as_secs()))),
        }
    }

    /// Ends it: first by its input, then by force.
    pub async fn end(&mut self) {
        drop(self.child.stdin.take());
        if tokio::time::timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
