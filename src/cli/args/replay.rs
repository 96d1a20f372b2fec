//! Arguments of `tidegate policy replay` and `tidegate rollout report`.

use super::JournalPlace;
use crate::base::time::Timestamp;
use crate::simulate::history::DAYS_MAX;
use crate::simulate::recording::instant;
use clap::Args;
use std::path::PathBuf;

/// `tidegate policy replay`.
#[derive(Debug, Clone, Args)]
#[command(
    group(clap::ArgGroup::new("recording").required(true).args(["csv", "journal", "cloudwatch"])),
    after_help = "A table has the columns at, weight, canary_requests, canary_errors, stable_requests and stable_errors: a row for \
                  each stretch of time with the counts of that stretch, at being its end in seconds or RFC 3339 and weight the \
                  canary's percent.\n\nFrom CloudWatch come the metrics of the policy's gates, and the requests of both versions \
                  as the first gate on a preset such as tidegate_target_5xx counts them, or target groups. Credentials and region \
                  are those of the environment; cloudwatch:GetMetricData is all that is called."
)]
pub struct ReplayArguments {
    /// Policy file
    #[arg(value_name = "POLICY")]
    pub file: PathBuf,
    /// A table of what was recorded
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// A rollout whose journal is replayed
    #[arg(long, value_name = "ROLLOUT")]
    pub journal: Option<String>,
    /// What CloudWatch has of the last days
    #[arg(long)]
    pub cloudwatch: bool,
    /// How many days, up to 15
    #[arg(long, value_name = "NUMBER", default_value_t = 7, requires = "cloudwatch", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    pub days: u64,
    /// When a rollout is to begin, such as 2026-11-28T14:00:00Z [default: when a version last began to have requests beside the other]
    #[arg(long, value_name = "TIME", requires = "cloudwatch", value_parser = instant)]
    pub from: Option<Timestamp>,
    /// Until when it is replayed [default: to the end of what CloudWatch has]
    #[arg(long, value_name = "TIME", requires = "cloudwatch", value_parser = instant)]
    pub until: Option<Timestamp>,
    /// The version that takes the release [default: the one that had no requests before]
    #[arg(long, value_name = "NODE", requires = "cloudwatch")]
    pub canary: Option<String>,
    /// Load balancer whose target groups count the requests of the versions, by its name or ARN
    #[arg(long, value_name = "NAME", requires_all = ["cloudwatch", "target_group"])]
    pub load_balancer: Option<String>,
    /// A version and its target group, by name or ARN; once for each of both
    #[arg(long, value_name = "NODE=NAME", requires = "load_balancer")]
    pub target_group: Vec<String>,
    /// Directory of the SQLite database that the journal is in
    #[arg(long, value_name = "DIRECTORY", default_value = ".tidegate", requires = "journal")]
    pub data_dir: PathBuf,
    /// The journal is in the PostgreSQL database at $TIDEGATE_DATABASE_URL instead
    #[arg(long, conflicts_with = "data_dir", requires = "journal")]
    pub database: bool,
}

/// `tidegate rollout report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArguments {
    /// Rollout, or a policy whose newest is meant
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE.html")]
    pub file: Option<PathBuf>,
    /// Where the journal is.
    #[command(flatten)]
    pub place: JournalPlace,
}
