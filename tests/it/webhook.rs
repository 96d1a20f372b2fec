//! What a service of one's own gets of rollouts: signed by Standard Webhooks, under an id that is the same for the same.

use crate::kit::news_of;
use crate::program::golden_json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tidegate::base::fault::FaultKind;
use tidegate::base::mac::hmac_sha256;
use tidegate::base::secret::Redacted;
use tidegate::notify::webhook::Webhook;
use tidegate::policy::plan::{Notice, WebhookNotice};
use tidegate::ports::{Ask, News, NewsStanding, Notices};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What came, and what is answered.
#[derive(Default)]
struct Service {
    came: Mutex<Vec<(HeaderMap, Bytes)>>,
    status: Mutex<Option<u16>>,
}

async fn serve(service: Arc<Service>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let take = async |State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes| {
        service.came.lock().unwrap().push((headers, body));
        let status = service.status.lock().unwrap().unwrap_or(204);
        (StatusCode::from_u16(status).unwrap(), "as the test wants it")
    };
    let router = Router::new().fallback(take).with_state(service);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn each_change_is_sent_signed() {
    let service = Arc::<Service>::default();
    let place = Notice::Webhook(WebhookNotice { url: serve(Arc::clone(&service)).await });
    let webhook = Webhook::new(Redacted::new(SECRET.to_owned())).unwrap();
    let ask = Ask {
        step: 2,
        channel: None,
        from: vec!["ada".into()],
        need: 1,
        given: vec![],
        until: None,
        on_timeout: "pause".into(),
        held: None,
    };
    let asked = News { ask: Some(ask), ..news_of(NewsStanding::UnderWay, "10 %, waits for an approval") };
    let paused = News { urgent: true, ..news_of(NewsStanding::UnderWay, "10 %, paused: lunch") };
    let all = [
        news_of(NewsStanding::UnderWay, "10 %: no worse so far"),
        asked.clone(),
        asked,
        paused,
        news_of(NewsStanding::Failed, "rolled back: worse"),
        news_of(NewsStanding::Stopped, "aborted by ada"),
        news_of(NewsStanding::Succeeded, "100 %: every step passed"),
    ];
    for news in &all {
        webhook.tell(&place, news).await.unwrap();
    }
    let came = service.came.lock().unwrap().clone();
    let (mut kinds, mut ids) = (Vec::new(), Vec::new());
    for (headers, body) in &came {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
        let key = BASE64.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let mac = hmac_sha256(&key, &[format!("{id}.{time}.").as_bytes(), body]);
        assert_eq!(header("webhook-signature"), format!("v1,{}", BASE64.encode(mac)));
        assert_eq!(header("content-type"), "application/json");
        kinds.push(serde_json::from_slice::<Value>(body).unwrap()["type"].as_str().unwrap().to_owned());
        ids.push(id);
    }
    let expected = ["step", "awaiting_approval", "awaiting_approval", "paused", "rolled_back", "stopped", "succeeded"];
    assert_eq!(kinds, expected.map(|kind| format!("rollout.{kind}")));
    assert_eq!(ids[1], ids[2], "the same is known by its id");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all.len() - 1);
    golden_json("webhook/awaiting-approval.json", &serde_json::from_slice(&came[1].1).unwrap());
}

#[tokio::test]
async fn what_is_not_taken_says_why() {
    use FaultKind::{Permanent, Transient};
    let service = Arc::<Service>::default();
    let place = Notice::Webhook(WebhookNotice { url: serve(Arc::clone(&service)).await });
    let webhook = Webhook::new(Redacted::new(SECRET.to_owned())).unwrap();
    for (status, kind) in [
        (500, Transient),
        (503, Transient),
        (429, Transient),
        (401, Transient),
        (302, Transient),
        (410, Permanent),
        (400, Permanent),
    ] {
        *service.status.lock().unwrap() = Some(status);
        let fault = webhook.tell(&place, &news_of(NewsStanding::UnderWay, "x")).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.message.contains(&format!("status {status}: as the test wants it")), "{fault}");
        assert!(!fault.to_string().contains("MfKQ9r8G"), "{fault}");
    }
    let nobody = Notice::Webhook(WebhookNotice { url: "http://127.0.0.1:1/".into() });
    let fault = webhook.tell(&nobody, &news_of(NewsStanding::UnderWay, "x")).await.unwrap_err();
    assert!(fault.kind == Transient && fault.message.contains("no connection"), "{fault}");
}
