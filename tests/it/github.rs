//! What GitHub is told of rollouts, and what the operator reads when it does not take it.

use crate::kit::news_of;
use crate::program::github::{Github, Instead, REPOSITORY, TOKEN};
use tidegate::base::fault::FaultKind;
use tidegate::base::secret::Redacted;
use tidegate::notify::github::Github as Adapter;
use tidegate::policy::plan::{GithubNotice, Notice};
use tidegate::ports::{News, NewsStanding, Notices};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONTEXT: &str = "tidegate/checkout";

fn adapter(github: &Github) -> Adapter {
    Adapter::new(&github.url, Redacted::new(TOKEN.to_owned())).unwrap()
}

fn place() -> Notice {
    Notice::Github(GithubNotice { repository: REPOSITORY.to_owned(), environment: "production".to_owned() })
}

fn news(revision: Option<&str>, standing: NewsStanding, text: &str) -> News {
    News { revision: revision.map(str::to_owned), ..news_of(standing, text) }
}

#[tokio::test]
async fn a_commit_and_a_deployment_get_each_state() {
    let github = Github::start().await;
    github.knows("v1.4.0", COMMIT);
    let adapter = adapter(&github);
    for (standing, text) in [
        (NewsStanding::UnderWay, "10 %: no worse so far"),
        (NewsStanding::Succeeded, "100 %: every step passed"),
        (NewsStanding::Failed, "rolled back: worse"),
        (NewsStanding::Stopped, "aborted by ada: lunch"),
    ] {
        adapter.tell(&place(), &news(Some("v1.4.0"), standing, text)).await.unwrap();
    }
    let statuses = github.statuses(COMMIT, CONTEXT);
    let states: Vec<&str> = statuses.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["pending", "success", "failure", "error"]);
    assert_eq!(statuses[2].1, "rolled back: worse");
    let deployments = github.deployments();
    assert_eq!(deployments.len(), 1, "{deployments:?}");
    let (deployment, states) = &deployments[0];
    assert_eq!((&deployment["environment"], &deployment["task"]), (&"production".into(), &"tidegate:r-1".into()));
    assert_eq!(states, &["in_progress", "success", "failure", "inactive"]);
    assert!(github.links().iter().all(|link| link == "https://tidegate.example.com/rollouts/r-1"));
    // The commit and the deployment are looked for once: 3 + 4 x 2.
    assert_eq!(github.calls(), 11);
}

/// Whoever takes over, or whose answer was lost, finds the deployment that was made.
#[tokio::test]
async fn a_lost_answer_and_another_daemon_make_no_second_deployment() {
    let github = Github::start().await;
    github.knows("", COMMIT);
    github.instead("POST /repos/shop/checkout/deployments", Instead::Loses);
    let first = adapter(&github);
    let told = news(Some(COMMIT), NewsStanding::UnderWay, "10 %");
    let fault = first.tell(&place(), &told).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    first.tell(&place(), &told).await.unwrap();
    adapter(&github).tell(&place(), &told).await.unwrap();
    let deployments = github.deployments();
    assert_eq!(deployments.len(), 1, "{deployments:?}");
    assert_eq!(deployments[0].1, ["in_progress", "in_progress"]);
}

#[tokio::test]
async fn what_is_not_taken_says_why_and_what_to_do() {
    use FaultKind::{Permanent, Transient};
    let limit = vec![("x-ratelimit-remaining", "0")];
    let rows = [
        (401, vec![], Permanent, "github.token is wrong or has expired"),
        (403, vec![], Permanent, "github.token needs `Commit statuses: write` and `Deployments: write` there"),
        (403, limit, Transient, "its limit of requests is spent"),
        (403, vec![("retry-after", "60")], Transient, "its limit of requests is spent"),
        (404, vec![], Permanent, "there is no such repository or commit, or github.token may not see it"),
        (422, vec![], Permanent, "GitHub does not know the commit, or has a thousand statuses of it"),
        (429, vec![], Transient, "its limit of requests is spent"),
        (301, vec![("location", "/elsewhere")], Permanent, "correct `notify.github.repository`"),
        (500, vec![], Transient, "status 500"),
        (502, vec![], Transient, "status 502"),
    ];
    let github = Github::start().await;
    github.knows("", COMMIT);
    for (status, headers, kind, says) in rows {
        github.instead("POST /repos/shop/checkout/statuses", Instead::Refuses(status, headers));
        let fault =
            adapter(&github).tell(&place(), &news(Some(COMMIT), NewsStanding::UnderWay, "x")).await.unwrap_err();
        assert_eq!((fault.kind, fault.source.as_str()), (kind, "github"), "{fault}");
        assert!(fault.message.contains(says) && fault.message.contains(COMMIT), "{fault}");
        assert!(!fault.to_string().contains(TOKEN), "{fault}");
    }
    for (revision, says) in [
        (None, "rollout r-1 has no revision, which names no commit"),
        (Some("build 7"), "`build 7`, which names no commit: start it with the commit or tag as its revision"),
        (Some("v9"), "commit `v9` of shop/checkout: status 422"),
    ] {
        let fault = adapter(&github).tell(&place(), &news(revision, NewsStanding::Failed, "x")).await.unwrap_err();
        assert_eq!(fault.kind, Permanent);
        assert!(fault.message.contains(says), "{fault}");
    }
    let wrong = Adapter::new(&github.url, Redacted::new("another".to_owned())).unwrap();
    let fault = wrong.tell(&place(), &news(Some(COMMIT), NewsStanding::Failed, "x")).await.unwrap_err();
    assert!(fault.message.contains("status 401: Bad credentials"), "{fault}");
    assert!(Adapter::new("mailto:x", Redacted::new(String::new())).is_err());
    let nobody = Adapter::new("http://127.0.0.1:1", Redacted::new(String::new())).unwrap();
    let fault = nobody.tell(&place(), &news(Some(COMMIT), NewsStanding::Failed, "x")).await.unwrap_err();
    assert_eq!(fault.kind, Transient);
    assert!(fault.message.contains("no connection"), "{fault}");
}
