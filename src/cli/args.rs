//! Arguments as typed.

mod envoy;
mod mesh;
mod proxy;
mod replay;
mod simulate;

pub use envoy::*;
pub use mesh::*;
pub use proxy::*;
pub use replay::*;
pub use simulate::*;

use crate::base::token::Role;
use crate::config::{ADMIN_PORT, API_PORT, APPMESH_PORT, EGRESS_PORT, XDS_PORT, loopback};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Raises a new version's traffic step by step, judges every step, and rolls back by itself.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about,
    propagate_version = true,
    after_help = "New here? `tidegate demo` shows everything on this machine, without an account anywhere."
)]
pub struct Arguments {
    /// How to print: human, or json on stdout for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, hide_possible_values = true)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show a good release and a bad one on this machine: real services, load, mesh, proxy
    Demo(DemoArguments),
    /// Run the controller, the mesh and the proxy on this machine, for services of your own
    Local(LocalArguments),
    /// Run the controller as a daemon, for a mesh and services that run elsewhere
    Serve(ServeArguments),
    /// Run the proxy beside an application, configured by the control plane of a daemon
    Proxy(ProxyArguments),
    /// Start, watch and end rollouts
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Check policy files, and give them to a daemon
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check, compare, apply and export mesh files
    #[command(subcommand)]
    Mesh(MeshCommand),
    /// Make what an Envoy of this mesh starts with
    #[command(subcommand)]
    Envoy(EnvoyCommand),
    /// Make, list and revoke tokens of the API
    #[command(subcommand)]
    Token(TokenCommand),
    /// Stop every start and every step, of a policy or of all, until it is lifted; rolling back always works
    Freeze(FreezeArguments),
    /// Check the record of what was decided
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Check what `serve` needs: database, clock, credentials, rights, endpoints, each with what to do about it
    Doctor(DoctorArguments),
    /// Ask a running daemon whether it is ready (exit code 0)
    Health(Server),
    /// One of the demo's services
    #[command(hide = true)]
    DemoService(ServiceArguments),
}

/// Addresses to listen on; port 0 picks a free one.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListenArguments {
    /// The daemon's HTTP API
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(API_PORT))]
    pub api: SocketAddr,
    /// The App Mesh API, for `aws appmesh --endpoint-url`
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(APPMESH_PORT))]
    pub appmesh: SocketAddr,
    /// The control plane of real Envoys (xDS), for `tidegate envoy bootstrap --control-plane`
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(XDS_PORT))]
    pub xds: SocketAddr,
    /// The proxy: requests go here, the Host header names the virtual service
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(EGRESS_PORT))]
    pub egress: SocketAddr,
    /// The proxy's admin pages (/stats/prometheus, /clusters, …)
    #[arg(long, value_name = "ADDRESS", default_value_t = loopback(ADMIN_PORT))]
    pub admin: SocketAddr,
}

/// `tidegate demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// Exit when the scenarios have ended; exit code 0 only if each ended as it must
    #[arg(long)]
    pub once: bool,
    /// Which release to show: good (it walks to 100 %), bad (it is rolled back) or all (one after the other)
    #[arg(long, value_enum, default_value_t = Scenario::All, hide_possible_values = true)]
    pub scenario: Scenario,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArguments,
}

/// Which release the demo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A healthy one, which walks to 100 %.
    Good,
    /// One that fails 5 % of its requests, which is rolled back.
    Bad,
    /// First the good one, then the bad one.
    All,
}

/// `tidegate local`.
#[derive(Debug, Clone, Args)]
pub struct LocalArguments {
    /// Mesh resources to load: YAML or JSON in the form of `aws appmesh create-* --cli-input-json` (repeatable)
    #[arg(long, value_name = "FILE")]
    pub mesh: Vec<PathBuf>,
    /// What CloudFormation templates among them need.
    #[command(flatten)]
    pub parameters: TemplateParameters,
    /// Let --mesh overwrite the weights of routes that exist
    #[arg(long)]
    pub weights: bool,
    /// Directory of policy files; read anew at every start of a rollout
    #[arg(long, value_name = "DIRECTORY", default_value = "policies")]
    pub policies: PathBuf,
    /// Where the database lives; one directory serves one process
    #[arg(long, value_name = "DIRECTORY", default_value = ".tidegate")]
    pub data_dir: PathBuf,
    /// File that stands in for Cloud Map and DNS
    #[arg(long, value_name = "FILE")]
    pub discovery: Option<PathBuf>,
    /// Files that stand in for certificates of ACM: a file with [mesh.certificates."ARN"], such as tidegate.toml
    #[arg(long, value_name = "FILE")]
    pub certificates: Option<PathBuf>,
    /// See the mesh as this virtual node does (only its backends): MESH/NODE
    #[arg(long = "as", value_name = "MESH/NODE")]
    pub as_node: Option<String>,
    /// Threads of the proxy, which share its port [default: one to each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArguments,
}

/// `tidegate serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// The configuration; each key can be overridden by a variable, TIDEGATE_SECTION_KEY
    #[arg(long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
    /// Print the configuration as it takes effect, secrets masked, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// `tidegate doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {
    /// The configuration of the daemon; none has to run
    #[arg(long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
}

/// Where the daemon is.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// The daemon's address [default: $TIDEGATE_SERVER, else http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// A rollout by its identifier, or by the policy whose live rollout it is.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Rollout id, or the name of a policy for its live rollout
    pub id: String,
    /// Where the daemon is.
    #[command(flatten)]
    pub server: Server,
}

/// `tidegate rollout …`.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Start a rollout of a policy
    Start {
        /// Name of the policy
        policy: String,
        /// Version that takes the release [default: the one without weight]
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// Image to deploy into that version's slot, where the policy has a workload
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        /// What is released, for people: a commit, a tag
        #[arg(long, value_name = "TEXT")]
        revision: Option<String>,
        /// Begin although no window of the policy is open, and why
        #[arg(long, value_name = "REASON")]
        outside_windows: Option<String>,
        /// Begin then, such as 2026-11-30T09:00:00+01:00; until then it waits, and `abort` gives it up
        #[arg(long, value_name = "TIME", conflicts_with = "to")]
        at: Option<String>,
        /// Wait for the end: exit code 0 succeeded, 3 rolled back, 4 aborted, 5 timed out
        #[arg(long)]
        wait: bool,
        /// Longest wait in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400, requires = "wait")]
        wait_timeout_s: u64,
        /// Where the daemon is.
        #[command(flatten)]
        server: Server,
    },
    /// Show live rollouts and the newest finished ones
    List(Server),
    /// Show one rollout
    Get(Which),
    /// Follow one rollout to its end (exit code 0 succeeded, 3 rolled back, 4 aborted)
    Watch(Which),
    /// Write a page with charts of one rollout, from the journal; a file that needs nothing beside it
    Report(ReportArguments),
    /// Stay at this weight until `resume`; the gates go on judging
    Pause {
        /// Which rollout.
        #[command(flatten)]
        which: Which,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on after a pause
    Resume(Which),
    /// Take the next step now, without waiting for the proof
    Promote {
        /// Which rollout.
        #[command(flatten)]
        which: Which,
        /// Straight to 100 %
        #[arg(long)]
        full: bool,
        /// Why, for the audit trail
        #[arg(long)]
        reason: String,
    },
    /// Say yes at an approval step
    Approve {
        /// Which rollout.
        #[command(flatten)]
        which: Which,
        /// Name among the policy's `from` in which you speak [default: your login]
        #[arg(long, value_name = "NAME")]
        person: Option<String>,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Say no at an approval step: the new version gets no traffic any more
    Reject {
        /// Which rollout.
        #[command(flatten)]
        which: Which,
        /// Name among the policy's `from` in which you speak [default: your login]
        #[arg(long, value_name = "NAME")]
        person: Option<String>,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Start again where a rolled-back or aborted rollout failed
    Retry {
        /// Which rollout.
        #[command(flatten)]
        which: Which,
        /// Begin although no window of the policy is open, and why
        #[arg(long, value_name = "REASON")]
        outside_windows: Option<String>,
    },
    /// Give the new version no traffic at once and end
    Abort {
        /// Which rollout.
        #[command(flatten)]
        which: Which,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// `tidegate policy …`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check files: every problem with its line and column (exit code 2 when there is one)
    Lint {
        /// Policy files, or directories of them
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of policy files, for editors
    Schema {
        /// Print the reference of all keys for people instead, as Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Say in prose what a policy will do: steps, times, exposure, what its bounds cover
    Explain {
        /// Policy file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The route's traffic in requests per second, for times and exposure in numbers
        #[arg(long, value_name = "REQUESTS_PER_S")]
        rate: Option<f64>,
    },
    /// Simulate rollouts of a policy: time to promote, mistakes, time and failed requests until a bad release is caught, beside
    /// other systems' rules
    Simulate(Box<SimulateArguments>),
    /// Say what a policy would have done with requests that were recorded: when it would have stepped, paused, rolled back
    Replay(ReplayArguments),
    /// Give files to a running daemon, which keeps them as the next version of their policies
    Push {
        /// Policy files, or directories of them
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Where the daemon is.
        #[command(flatten)]
        server: Server,
    },
}

/// `tidegate journal …`.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Replay every rollout's journal and compare with what is stored (exit code 1 when they differ)
    Verify(JournalPlace),
    /// Print every journaled input as one JSON line
    Export(JournalPlace),
}

/// Where the journal is; a daemon may be running on it.
#[derive(Debug, Clone, Args)]
pub struct JournalPlace {
    /// Directory of the SQLite database
    #[arg(long, value_name = "DIRECTORY", default_value = ".tidegate")]
    pub data_dir: PathBuf,
    /// The PostgreSQL database at $TIDEGATE_DATABASE_URL instead
    #[arg(long, conflicts_with = "data_dir")]
    pub database: bool,
}

/// `tidegate freeze …`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Without anything it lists what is frozen. Gates go on judging meanwhile, and a bad release is rolled back."
)]
pub struct FreezeArguments {
    /// The policy
    #[arg(value_name = "POLICY")]
    pub policy: Option<String>,
    /// Everything, policies that come later included
    #[arg(long, conflicts_with = "policy")]
    pub all: bool,
    /// Why: whoever is held up reads it
    #[arg(long, value_name = "TEXT", conflicts_with = "lift")]
    pub reason: Option<String>,
    /// Lift the freeze
    #[arg(long)]
    pub lift: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub server: Server,
}

/// `tidegate token …`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and show it, this once
    Create {
        /// What it allows: viewer looks, operator gives orders, admin changes policies and tokens
        #[arg(long, value_name = "viewer|operator|admin")]
        role: Role,
        /// Who will speak with it, for the audit trail and for approvals
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Where tokens are kept.
        #[command(flatten)]
        place: TokenPlace,
    },
    /// Show what tokens there are, not the tokens themselves
    List(TokenPlace),
    /// Let a token allow nothing any more
    Revoke {
        /// Identifier, as `token list` shows it
        id: String,
        /// Where tokens are kept.
        #[command(flatten)]
        place: TokenPlace,
    },
}

/// Where tokens are kept: a daemon's API, or its database, where there is no token yet to ask the API with.
#[derive(Debug, Clone, Args)]
pub struct TokenPlace {
    /// Where the daemon is.
    #[command(flatten)]
    pub server: Server,
    /// Straight in the SQLite database of this directory, whether a daemon runs on it or not
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "server")]
    pub data_dir: Option<PathBuf>,
    /// Straight in the PostgreSQL database at $TIDEGATE_DATABASE_URL
    #[arg(long, conflicts_with_all = ["data_dir", "server"])]
    pub database: bool,
}

/// One of the demo's services. It ends when its standard input does, so that no parent can leave it behind.
#[derive(Debug, Clone, Args)]
pub struct ServiceArguments {
    /// Where to listen
    #[arg(long)]
    pub listen: SocketAddr,
    /// What it calls itself
    #[arg(long)]
    pub version_name: String,
    /// Share of requests that it fails, 0.0 to 1.0
    #[arg(long, default_value_t = 0.0)]
    pub fail_share: f64,
}
