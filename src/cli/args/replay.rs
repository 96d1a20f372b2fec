//! Arguments of `tidegate policy replay` and `tidegate rollout report`.

use super::JournalPlace;
use clap::Args;
use std::path::PathBuf;

/// `tidegate policy replay`.
#[derive(Debug, Clone, Args)]
#[command(
    group(clap::ArgGroup::new("recording").required(true).args(["csv", "journal"])),
    after_help = "A table has the columns at, weight, canary_requests, canary_errors, stable_requests and stable_errors: a row for \
                  each stretch of time with the counts of that stretch, at being its end in seconds or RFC 3339 and weight the \
                  canary's percent."
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
