//! Yes, no, and everything that is neither.

use super::server::{Reply, Server};
use super::{at, expect_fault};
use serde_json::{Value, json};
use tidegate::base::fault::FaultKind;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::policy::plan::{WebhookFacts, WebhookQuery};
use tidegate::signals::webhook::Webhook;
use tidegate::signals::{Answer, Asked};

fn query(server: &Server) -> WebhookQuery {
    let facts = Box::new(WebhookFacts {
        rollout: "r-1".to_owned(),
        policy: "checkout".to_owned(),
        gate: "judge".to_owned(),
        node: "v2".to_owned(),
        canary: "v2".to_owned(),
        stable: "v1".to_owned(),
        revision: Some("abc".to_owned()),
        image: None,
    });
    WebhookQuery { url: format!("{}/judge?key=hunter2", server.url), timeout: Millis::from_seconds(1), facts }
}

async fn ask(server: &Server, now: Timestamp) -> Answer {
    let query = query(server);
    Webhook::new().unwrap().points(&[Asked { query: &query, after: at(0), since: at(0), now }]).await.remove(0)
}

#[tokio::test]
async fn it_is_told_who_asks_and_says_yes_or_no_and_why() {
    let server = Server::start(Reply::Body(204, String::new())).await;
    for (status, body, value, said) in [
        (204, "", 0.0, None),
        (200, "{}", 0.0, None),
        (202, "smoke tests pass\nand more", 0.0, Some("smoke tests pass")),
        (200, r#"{"reason":"all 12 pass"}"#, 0.0, Some("all 12 pass")),
        (412, r#"{"reason":"3 of 12 fail"}"#, 1.0, Some("3 of 12 fail")),
        (400, "no", 1.0, Some("no")),
        (409, "", 1.0, None),
        (422, "[]", 1.0, None),
    ] {
        server.reply(Reply::Body(status, body.to_owned()));
        let point = ask(&server, at(30)).await.unwrap_or_else(|fault| panic!("{status}: {fault}")).remove(0);
        assert_eq!((point.at, point.value, point.note.as_deref()), (at(30), value, said), "{status} {body}");
    }
    let asked = server.asked().remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /judge?key=hunter2 HTTP/1.1\r\n") && head.contains("content-type: application/json"),
        "{head}"
    );
    let told = json!({ "rollout": "r-1", "policy": "checkout", "gate": "judge", "node": "v2", "canary": "v2",
                       "stable": "v1", "revision": "abc" });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), told);
    let before = server.asked().len();
    assert_eq!(ask(&server, at(0)).await.unwrap(), []);
    assert_eq!(server.asked().len(), before, "nothing newer: nobody is asked");
}

#[tokio::test]
async fn no_answer_is_neither() {
    let server = Server::start(Reply::Nothing).await;
    for (reply, kind, text) in [
        (Reply::Body(500, "boom".into()), FaultKind::Transient, "status 500: boom"),
        (Reply::Body(503, String::new()), FaultKind::Transient, "status 503: an empty body"),
        (Reply::Body(429, "slow down".into()), FaultKind::Transient, "status 429: slow down"),
        (Reply::Body(408, String::new()), FaultKind::Transient, "status 408"),
        (Reply::Body(401, String::new()), FaultKind::Permanent, "status 401 (it wants a token, or another one)"),
        (
            Reply::Body(404, "nothing".into()),
            FaultKind::Permanent,
            "status 404 (nothing is at this address: correct the URL)",
        ),
        (Reply::Body(405, String::new()), FaultKind::Permanent, "status 405"),
        (Reply::Body(307, String::new()), FaultKind::Permanent, "redirects are not followed"),
        (Reply::Long(2_000_000), FaultKind::Permanent, "the answer has more than 1048576 bytes"),
        (Reply::Raw("nonsense"), FaultKind::Transient, "the answer broke off"),
        (Reply::Nothing, FaultKind::Transient, "no answer within 1 s"),
    ] {
        let what = format!("{reply:?}").chars().take(60).collect::<String>();
        server.reply(reply);
        let fault = expect_fault(&what, ask(&server, at(30)).await, kind, text);
        assert!(
            fault.message.starts_with(&format!("{}/judge: ", server.url)) && !fault.message.contains("hunter2"),
            "{fault}"
        );
    }
    for (url, text) in [("nonsense", "is no URL"), ("http://127.0.0.1:1/", "no connection: ")] {
        let query = WebhookQuery { url: url.to_owned(), ..query(&server) };
        let asked = Asked { query: &query, after: at(0), since: at(0), now: at(30) };
        let answer = Webhook::new().unwrap().points(&[asked]).await.remove(0);
        assert!(answer.unwrap_err().message.contains(text), "{url}");
    }
}
