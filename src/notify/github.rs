//! The commit that is released gets a status at GitHub, and a deployment with statuses of its own, by GitHub's REST API
//! (version 2022-11-28: "Commit statuses", "Deployments").
//!
//! Every call may be repeated. The newest status of a context counts, and a deployment is found again by its `task`, which
//! holds the rollout's id, so that a lost answer makes no second one.

use super::http::{self, Answer};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::base::secret::Redacted;
use crate::policy::plan::{GithubNotice, Notice};
use crate::ports::{News, NewsStanding, Notices};
use async_trait::async_trait;
use reqwest::header::{ACCEPT, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The name that faults are reported under.
const SOURCE: &str = "github";
/// GitHub ends requests of its own after 10 s; whoever waits here holds nothing up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A list of deployments with a handful of entries; 1 MiB is a thousand of them.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Longest description of a status that GitHub takes, in characters.
const DESCRIPTION_MAX: usize = 140;
/// So many rollouts are remembered with their commit and deployment; a forgotten one is looked up again.
const REMEMBERED_MAX: usize = 1000;
/// Lengths of a commit's full name in hexadecimal digits: SHA-1, SHA-256.
const FULL_NAMES: [usize; 2] = [40, 64];

/// GitHub, or an enterprise server of it.
pub struct Github {
    client: reqwest::Client,
    api_url: Url,
    token: Redacted<String>,
    known: Mutex<BTreeMap<(RolloutId, String), Known>>,
}

/// What was found out of a rollout in a repository.
#[derive(Debug, Clone, Default)]
struct Known {
    commit: Option<String>,
    deployment: Option<u64>,
}

impl Github {
    /// At this address (`https://api.github.com`, `https://HOST/api/v3`), with a token that may write commit statuses and
    /// deployments.
    ///
    /// # Errors
    /// An address that is none; no HTTP client can be made on this system.
    pub fn new(api_url: &str, token: Redacted<String>) -> Result<Self, Fault> {
        let wrong = |error: &dyn std::fmt::Display| {
            Fault::permanent(SOURCE, format!("`{}` (github.api_url) is no address: {error}", bounded(api_url)))
        };
        let api_url = Url::parse(api_url.trim_end_matches('/')).map_err(|error| wrong(&error))?;
        if api_url.cannot_be_a_base() {
            return Err(wrong(&"it has to be like `https://api.github.com`"));
        }
        let client = http::client(SOURCE, TIMEOUT)?;
        Ok(Self { client, api_url, token, known: Mutex::default() })
    }

    async fn tell_github(&self, place: &GithubNotice, news: &News) -> Result<(), Fault> {
        let key = (news.rollout.clone(), place.repository.clone());
        let mut known = self.known().get(&key).cloned().unwrap_or_default();
        let commit = match known.commit.clone() {
            Some(commit) => commit,
            None => self.commit(place, news).await?,
        };
        known.commit = Some(commit.clone());
        self.remember(&key, &known);
        self.set_commit_status(place, news, &commit).await?;
        let deployment = match known.deployment {
            Some(deployment) => deployment,
            None => self.deployment(place, news, &commit).await?,
        };
        known.deployment = Some(deployment);
        self.remember(&key, &known);
        self.set_deployment_status(place, news, deployment).await
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<(RolloutId, String), Known>> {
        // Valid after any panic: every change is one insert.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, key: &(RolloutId, String), what: &Known) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX && !known.contains_key(key) {
            known.clear();
        }
        known.insert(key.clone(), what.clone());
    }

    /// The full name of the commit that is released: GitHub takes no other for a status.
    async fn commit(&self, place: &GithubNotice, news: &News) -> Result<String, Fault> {
        let repository = &place.repository;
        let revision = news.revision.as_deref().filter(|revision| is_reference(revision)).ok_or_else(|| {
            let what = news.revision.as_deref().map_or("no revision".to_owned(), |name| format!("`{}`", bounded(name)));
            let todo = "start it with the commit or tag as its revision";
            Fault::permanent(SOURCE, format!("rollout {} has {what}, which names no commit: {todo}", news.rollout))
        })?;
        if is_full_name(revision) {
            return Ok(revision.to_ascii_lowercase());
        }
        let place = format!("commit `{revision}` of {repository}");
        let path = format!("repos/{repository}/commits/{revision}");
        let answer = self.call(Method::GET, &path, &[], None, &place).await?;
        let name = answer["sha"].as_str().filter(|name| is_full_name(name));
        name.map(str::to_owned).ok_or_else(|| unlike(&place, "it has no `sha`"))
    }

    async fn set_commit_status(&self, place: &GithubNotice, news: &News, commit: &str) -> Result<(), Fault> {
        let state = match news.standing {
            NewsStanding::UnderWay => "pending",
            NewsStanding::Succeeded => "success",
            NewsStanding::Failed => "failure",
            NewsStanding::Stopped => "error",
        };
        let mut body = json!({
            "state": state,
            "context": format!("tidegate/{}", news.policy),
            "description": description(&news.text),
        });
        link(&mut body, "target_url", news);
        let path = format!("repos/{}/statuses/{commit}", place.repository);
        let place = format!("the status of commit {commit} of {}", place.repository);
        self.call(Method::POST, &path, &[], Some(body), &place).await.map(|_| ())
    }

    /// The deployment of this rollout, which is made unless it is found.
    async fn deployment(&self, place: &GithubNotice, news: &News, commit: &str) -> Result<u64, Fault> {
        let GithubNotice { repository, environment } = place;
        let task = format!("tidegate:{}", news.rollout);
        let path = format!("repos/{repository}/deployments");
        let place = format!("the deployment of {commit} of {repository} to {environment}");
        let query = [("sha", commit), ("task", &task), ("environment", environment)];
        let found = self.call(Method::GET, &path, &query, None, &place).await?;
        if let Some(id) = found[0]["id"].as_u64() {
            return Ok(id);
        }
        let body = json!({
            "ref": commit,
            "task": task,
            "environment": environment,
            "description": description(&format!("rollout {} of {}", news.rollout, news.policy)),
            // The release is deployed whatever GitHub thinks of it: it is told, and not asked.
            "auto_merge": false,
            "required_contexts": [],
        });
        let made = self.call(Method::POST, &path, &[], Some(body), &place).await?;
        made["id"].as_u64().ok_or_else(|| unlike(&place, "it has no `id`"))
    }

    async fn set_deployment_status(&self, place: &GithubNotice, news: &News, deployment: u64) -> Result<(), Fault> {
        let state = match news.standing {
            NewsStanding::UnderWay => "in_progress",
            NewsStanding::Succeeded => "success",
            NewsStanding::Failed => "failure",
            // There is no word for "somebody ended it"; `inactive` is what a deployment without traffic is.
            NewsStanding::Stopped => "inactive",
        };
        let mut body = json!({ "state": state, "description": description(&news.text) });
        link(&mut body, "log_url", news);
        let path = format!("repos/{}/deployments/{deployment}/statuses", place.repository);
        let place = format!("the status of deployment {deployment} of {}", place.repository);
        self.call(Method::POST, &path, &[], Some(body), &place).await.map(|_| ())
    }

    /// Every call goes through here. `place` is what it is about, for people.
    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
        place: &str,
    ) -> Result<Value, Fault> {
        let mut url = self.api_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        let request = self.client.request(method, url).query(query).bearer_auth(self.token.reveal());
        let request =
            request.header(ACCEPT, "application/vnd.github+json").header("x-github-api-version", "2022-11-28");
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let Answer { status, headers, body: text } = http::send(SOURCE, request, BODY_MAX_BYTES, place).await?;
        if !status.is_success() {
            return Err(fault(status, &headers, &text, place));
        }
        serde_json::from_slice(&text).map_err(|error| unlike(place, &format!("no JSON ({error})")))
    }
}

#[async_trait]
impl Notices for Github {
    async fn tell(&self, place: &Notice, news: &News) -> Result<(), Fault> {
        match place {
            Notice::Github(github) => self.tell_github(github, news).await,
            Notice::Slack(_) | Notice::Webhook(_) => Ok(()),
        }
    }
}

/// Whether GitHub may know a commit, branch or tag by this. What it refuses in names is refused here too.
fn is_reference(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/+".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(plain) && !text.contains("..") && !text.starts_with(['/', '-'])
}

fn is_full_name(text: &str) -> bool {
    FULL_NAMES.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// As much of a text as GitHub takes.
fn description(text: &str) -> String {
    let text = text.replace(['\r', '\n'], " ");
    match text.char_indices().nth(DESCRIPTION_MAX) {
        None => text,
        Some(_) => text.chars().take(DESCRIPTION_MAX - 1).chain("…".chars()).collect(),
    }
}

fn link(body: &mut Value, member: &str, news: &News) {
    if let Some(url) = &news.url {
        body[member] = json!(url);
    }
}

fn unlike(place: &str, what: &str) -> Fault {
    Fault::permanent(SOURCE, format!("{place}: the answer is not one of GitHub's: {what}; is github.api_url right?"))
}

/// A refusal of GitHub: <https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api>.
fn fault(status: StatusCode, headers: &HeaderMap, body: &[u8], place: &str) -> Fault {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = bounded(said["message"].as_str().unwrap_or("no message"));
    // GitHub answers 403 as well as 429 to whoever asks too much.
    let is_exhausted = headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0");
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::FORBIDDEN && (is_exhausted || headers.contains_key(RETRY_AFTER));
    let todo = match status {
        _ if limited => "; its limit of requests is spent",
        StatusCode::UNAUTHORIZED => "; github.token is wrong or has expired",
        StatusCode::FORBIDDEN => "; github.token needs `Commit statuses: write` and `Deployments: write` there",
        StatusCode::NOT_FOUND => "; there is no such repository or commit, or github.token may not see it",
        StatusCode::UNPROCESSABLE_ENTITY => "; GitHub does not know the commit, or has a thousand statuses of it",
        status if status.is_redirection() => "; the repository was renamed: correct `notify.github.repository`",
        _ => "",
    };
    let text = format!("{place}: status {}: {said}{todo}", status.as_u16());
    if status.is_server_error() || limited || status == StatusCode::REQUEST_TIMEOUT {
        Fault::transient(SOURCE, text)
    } else {
        Fault::permanent(SOURCE, text)
    }
}

#[cfg(test)]
mod tests;
