//! Who is told of a rollout.

use serde::{Deserialize, Serialize};

/// A place outside that is told how a rollout goes. No decision waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The repository at GitHub whose commit is released.
    Github(GithubNotice),
}

/// A status of the commit that is released, and a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GithubNotice {
    /// `OWNER/NAME`.
    pub repository: String,
    /// What GitHub calls the deployment's environment.
    pub environment: String,
}
