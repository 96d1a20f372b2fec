//! A service of one's own gets a signed request for each change of a rollout that matters, as Standard Webhooks has it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use super::http::{self, Answer};
use super::signature::{is_webhook_secret, sign_webhook};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::base::mac::{hmac_sha256, to_hex};
use crate::base::secret::Redacted;
use crate::clock::{Clock, SystemClock};
use crate::policy::plan::{Notice, WebhookNotice};
use crate::ports::{Compared, News, NewsStanding, Notices};
use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::time::Duration;

/// The name that faults are reported under.
const SOURCE: &str = "webhook";
/// A service that takes longer should answer first and work then; 15 s is what Standard Webhooks advises at least.
const TIMEOUT: Duration = Duration::from_secs(15);
/// What it answers is not read but for its first words in an error.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Services that are told, all by one secret.
pub struct Webhook {
    client: reqwest::Client,
    secret: Redacted<String>,
}

impl Webhook {
    /// Signs with this secret; one that begins with `whsec_` is base64 of the key.
    ///
    /// # Errors
    /// A secret that is none; no HTTP client can be made on this system.
    pub fn new(secret: Redacted<String>) -> Result<Self, Fault> {
        if !is_webhook_secret(&secret) {
            let text = "webhook.secret is no secret: `whsec_` and base64 of 16 bytes or more, or a text of 16 or more";
            return Err(Fault::permanent(SOURCE, text));
        }
        Ok(Self { client: http::client(SOURCE, TIMEOUT)?, secret })
    }

    async fn send(&self, url: &str, news: &News) -> Result<(), Fault> {
        let (body, id) = (body(news).to_string(), id(news));
        let now_s = SystemClock.now().0.div_euclid(1000);
        let signature = sign_webhook(&self.secret, &id, now_s, body.as_bytes());
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now_s.to_string())
            .header("webhook-signature", signature)
            .body(body);
        let place = format!("POST {}", bounded(url));
        let Answer { status, body, .. } = http::send(SOURCE, request, BODY_MAX_BYTES, &place).await?;
        if status.is_success() {
            return Ok(());
        }
        let said = bounded(String::from_utf8_lossy(&body).trim());
        let text = format!("{place}: status {}: {said}", status.as_u16());
        // 410 is how a service says that it wants no more; the rest may be mended, or pass.
        let stays = matches!(status, StatusCode::GONE | StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE);
        Err(if stays { Fault::permanent(SOURCE, text) } else { Fault::transient(SOURCE, text) })
    }
}

#[async_trait]
impl Notices for Webhook {
    async fn tell(&self, place: &Notice, news: &News) -> Result<(), Fault> {
        match place {
            Notice::Webhook(WebhookNotice { url }) => self.send(url, news).await,
            Notice::Github(_) | Notice::Slack(_) => Ok(()),
        }
    }
}

/// The same for the same change, by which the receiver knows a repetition.
fn id(news: &News) -> String {
    let hash = hmac_sha256(news.rollout.0.as_bytes(), &[news.change.as_bytes()]);
    format!("{}-{}", news.rollout, &to_hex(&hash)[..16])
}

/// What is sent. Names and meanings are those of docs/chatops.md.
fn body(news: &News) -> Value {
    let kind = match (news.standing, &news.ask) {
        (NewsStanding::UnderWay, _) if news.urgent => "rollout.paused",
        (NewsStanding::UnderWay, Some(_)) => "rollout.awaiting_approval",
        (NewsStanding::UnderWay, None) => "rollout.step",
        (NewsStanding::Succeeded, _) => "rollout.succeeded",
        (NewsStanding::Failed, _) => "rollout.rolled_back",
        (NewsStanding::Stopped, _) => "rollout.stopped",
    };
    let version = |Compared { node, weight, requests, failed }: &Compared| json!({ "node": node, "weight": weight, "requests": requests, "failed": failed });
    let mut data = json!({
        "rollout": news.rollout.0,
        "policy": news.policy,
        "text": news.text,
        "verdict": news.verdict,
        "canary": version(&news.canary),
        "stable": version(&news.stable),
    });
    if let Some(revision) = &news.revision {
        data["revision"] = json!(revision);
    }
    if let Some(url) = &news.url {
        data["url"] = json!(url);
    }
    if let Some(ask) = &news.ask {
        data["approval"] = json!({ "step": ask.step, "from": ask.from, "need": ask.need, "given": ask.given });
    }
    json!({ "type": kind, "timestamp": news.at.rfc3339(), "data": data })
}
