//! A number in the JSON of an HTTP service.

use super::server::{Reply, Server};
use super::{at, expect_fault, seen};
use tidegate::base::fault::FaultKind;
use tidegate::base::time::Timestamp;
use tidegate::signals::http::{HttpNumber, HttpQuery};
use tidegate::signals::{Answer, Asked};

async fn ask(server: &Server, value: &str, now: Timestamp) -> Answer {
    let url = format!("{}/queue?key=hunter2", server.url);
    let query = HttpQuery { url: &url, value };
    HttpNumber::new().unwrap().points(&[Asked { query: &query, after: at(0), since: at(0), now }]).await.remove(0)
}

#[tokio::test]
async fn a_pointer_finds_the_number() {
    let body = r#"{ "queue": { "depth": 12.5, "a/b": [1, -2e3], "none": null } }"#;
    let server = Server::start(Reply::Body(200, body.to_owned())).await;
    for (pointer, points) in
        [("/queue/depth", vec![(30, 12.5)]), ("/queue/a~1b/1", vec![(30, -2000.0)]), ("/queue/none", vec![])]
    {
        assert_eq!(seen(&ask(&server, pointer, at(30)).await), points, "{pointer}");
    }
    assert!(server.asked()[0].starts_with("GET /queue?key=hunter2 HTTP/1.1\r\n"));
    server.reply(Reply::Body(201, "7".to_owned()));
    assert_eq!(seen(&ask(&server, "", at(30)).await), [(30, 7.0)]);
    let before = server.asked().len();
    assert_eq!(seen(&ask(&server, "", at(0)).await), []);
    assert_eq!(server.asked().len(), before, "nothing newer: nobody is asked");
}

#[tokio::test]
async fn a_bad_day_says_whose_fault_it_is() {
    let body = |text: &str| Reply::Body(200, text.to_owned());
    let rows = [
        (
            body(r#"{ "queue": { "size": 1, "age": 2 } }"#),
            FaultKind::Permanent,
            "there is no `/queue/depth` in the answer (`/queue` has: size, age); correct `http.value`",
        ),
        (body("[1, 2]"), FaultKind::Permanent, "there is no `/queue/depth` in the answer (`` has 2 elements)"),
        (
            body(r#"{ "queue": { "depth": "12" } }"#),
            FaultKind::Permanent,
            "`/queue/depth` is no number: \"12\"; correct `http.value`",
        ),
        (body(r#"{ "queue": { "depth": true } }"#), FaultKind::Permanent, "is no number: true"),
        (body(""), FaultKind::Transient, "the answer is no JSON"),
        (body("<html>"), FaultKind::Transient, "the answer is no JSON"),
        (body(r#"{ "queue": { "depth": 1e999 } }"#), FaultKind::Transient, "the answer is no JSON"),
        (Reply::Body(403, "no".into()), FaultKind::Permanent, "status 403 (it wants a token, or another one): no"),
        (
            Reply::Body(404, String::new()),
            FaultKind::Permanent,
            "status 404 (nothing is at this address: correct the URL)",
        ),
        (Reply::Body(301, String::new()), FaultKind::Permanent, "redirects are not followed"),
        (Reply::Body(500, "oops".into()), FaultKind::Transient, "status 500: oops"),
        (Reply::Long(1_048_577), FaultKind::Permanent, "the answer has more than 1048576 bytes"),
        (Reply::Raw("nonsense"), FaultKind::Transient, "the answer broke off"),
        (Reply::Nothing, FaultKind::Transient, "no answer within 5 s"),
    ];
    let server = Server::start(Reply::Nothing).await;
    for (reply, kind, text) in rows {
        let what = format!("{reply:?}").chars().take(80).collect::<String>();
        server.reply(reply);
        let fault = expect_fault(&what, ask(&server, "/queue/depth", at(30)).await, kind, text);
        assert!(fault.message.starts_with(&format!("{}/queue: ", server.url)), "{fault}");
        assert!(!fault.message.contains("hunter2"), "what follows `?` may be a key: {fault}");
    }
}
