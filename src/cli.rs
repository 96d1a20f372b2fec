//! The command line: arguments as typed, commands, what they print.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are those of the interface: 0 done as asked, 1 failed,
//! 2 wrong usage or an invalid file, and with `--wait` 3 rolled back, 4 aborted by a person, 5 timed out.

pub mod args;
mod doctor;
mod envoy;
mod freeze;
mod journal;
mod local;
mod mesh;
mod observed;
mod output;
mod policy;
mod proxy;
mod replay;
mod report;
mod rollout;
pub mod screen;
mod serve;
mod simulate;
mod stops;
mod token;

pub use output::Output;

use crate::config::{Environment, ProcessEnvironment};
use args::{Arguments, Verb};
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

/// Failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or an invalid file.
pub(crate) const WRONG_USAGE: u8 = 2;

/// Tasks that are left get so long to end: everything that matters was waited for before.
const RUNTIME_END: Duration = Duration::from_millis(500);

/// What a command came to: its exit code.
pub(crate) type Ended = Result<u8, Failure>;

/// A command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: u8,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl From<crate::api::client::ClientError> for Failure {
    fn from(error: crate::api::client::ClientError) -> Self {
        let code = if error.is_usage { WRONG_USAGE } else { FAILED };
        Self { code, message: error.message, hint: error.hint }
    }
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn usage(mut self) -> Self {
        self.code = WRONG_USAGE;
        self
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Parses the command line, runs the command, answers its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Prints help and version to stdout, errors to stderr.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_USAGE));
        }
    };
    let output = Output::new(arguments.output);
    match run(arguments, output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure.message, failure.hint.as_deref());
            ExitCode::from(failure.code)
        }
    }
}

fn run(arguments: Arguments, output: Output) -> Ended {
    let environment = ProcessEnvironment;
    let default_log = match arguments.verb {
        Verb::Local(_) | Verb::Serve(_) | Verb::Proxy(_) => "warn,tidegate=info",
        _ => "error",
    };
    crate::telemetry::init(&environment, output.is_json(), default_log).map_err(|text| Failure::new(text).usage())?;
    match arguments.verb {
        Verb::DemoService(service) => in_small_runtime(local::service(service)),
        Verb::Demo(demo) => in_runtime(local::demo(demo, output, &environment)),
        Verb::Local(options) => in_runtime(local::local(options, output, &environment)),
        Verb::Serve(options) => in_runtime(serve::serve(options, output, &environment)),
        Verb::Proxy(options) => in_runtime(proxy::proxy(options, output, &environment)),
        Verb::Rollout(command) => in_small_runtime(rollout::run(command, output, &environment)),
        Verb::Policy(command) => in_small_runtime(policy::run(&command, output, &environment)),
        Verb::Mesh(command) => in_small_runtime(mesh::run(command, output, &environment)),
        Verb::Envoy(command) => envoy::run(command, output),
        Verb::Token(command) => in_small_runtime(token::run(command, output, &environment)),
        Verb::Freeze(options) => in_small_runtime(freeze::run(options, output, &environment)),
        Verb::Journal(command) => in_small_runtime(journal::run(command, output, &environment)),
        Verb::Doctor(options) => in_small_runtime(doctor::doctor(options, output, &environment)),
        Verb::Health(server) => in_small_runtime(rollout::health(server, output, &environment)),
    }
}

/// Control tasks: two threads, so that one slow request does not hold up the rollouts. The data plane has its own.
fn in_runtime(work: impl Future<Output = Ended>) -> Ended {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    block_on(builder.worker_threads(2), work)
}

fn in_small_runtime(work: impl Future<Output = Ended>) -> Ended {
    block_on(&mut tokio::runtime::Builder::new_current_thread(), work)
}

fn block_on(builder: &mut tokio::runtime::Builder, work: impl Future<Output = Ended>) -> Ended {
    let runtime = builder.enable_all().build().map_err(|error| Failure::new(format!("no runtime: {error}")))?;
    let ended = runtime.block_on(work);
    // Blocking calls (a name that is being looked up, a read of standard input) cannot be ended, only left behind.
    runtime.shutdown_timeout(RUNTIME_END);
    ended
}

/// Reads `--server`, else the environment, else the default.
pub(crate) fn server_address(given: Option<&str>, environment: &dyn Environment) -> String {
    let set = given.map(str::to_owned).or_else(|| environment.get(crate::config::SERVER_VARIABLE));
    set.unwrap_or_else(|| format!("http://127.0.0.1:{}", crate::config::API_PORT))
}
