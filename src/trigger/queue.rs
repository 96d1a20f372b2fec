//! Events of Amazon ECR from a queue of SQS, for a daemon that has no public address.
//!
//! A message is what EventBridge would send to the hook `ecr`, is read by the same code, and has the same identifier, so
//! that what comes both ways begins once. A message is deleted after its event was kept, or when it makes no sense. A
//! process that ends in between, or a store that does not answer, has it come again, which is told by the identifier.

use super::ecr;
use super::event::Source;
use super::inbox::{Inbox, TakeError};
use crate::aws::{self, Failed};
use crate::base::fault::{Fault, FaultKind};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use std::time::Duration;

/// Name under which faults are reported, and prefix of the actions in IAM.
const SOURCE: &str = "sqs";
/// The longest that SQS waits for a message, in seconds: the fewest calls.
const WAIT_SECONDS: i32 = 20;
/// The most messages that SQS gives at once.
const MOST_MESSAGES: i32 = 10;
/// Others do not see a message for so long, in seconds: ten messages take ten seconds at most to be kept, and the
/// deletion of each up to five.
const HIDDEN_SECONDS: i32 = 60;
/// A long poll and the way there and back.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is made within this, as everywhere (`aws`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause after a fault.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one, and the one after a refusal: somebody has to change something first.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// SQS takes no longer messages than a mebibyte; what says otherwise is no SQS.
const LONGEST_BODY: usize = 1024 * 1024;

/// One queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// With the region, credentials and endpoint of a shared set, and timeouts that let a long poll end.
    #[must_use]
    pub fn from_config(config: &SdkConfig, url: &str) -> Self {
        let timeouts =
            TimeoutConfig::builder().operation_timeout(POLL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build();
        let builder = aws::builder!(aws_sdk_sqs, config).timeout_config(timeouts);
        Self { client: Client::from_conf(builder.build()), url: url.to_owned() }
    }

    /// How many messages wait in the queue, about.
    ///
    /// # Errors
    /// What SQS says, with what to do about it.
    pub async fn waiting(&self) -> Result<String, Fault> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let asked = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone());
        let answer = asked.send().await.map_err(|error| self.failed("GetQueueAttributes").fault(&error))?;
        let number = answer.attributes().and_then(|attributes| attributes.get(&name));
        Ok(number.cloned().unwrap_or_else(|| "an unknown number of".to_owned()))
    }

    /// Takes what comes, until it is dropped.
    pub async fn follow(self, inbox: Inbox) {
        let mut troubles = Troubles::default();
        loop {
            let pause = troubles.after(self.round(&inbox).await);
            tokio::time::sleep(pause).await;
        }
    }

    /// One long poll and what it brought. Messages before the one at fault were taken.
    async fn round(&self, inbox: &Inbox) -> Result<(), Fault> {
        let asked = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .wait_time_seconds(WAIT_SECONDS)
            .max_number_of_messages(MOST_MESSAGES)
            .visibility_timeout(HIDDEN_SECONDS);
        let answer = asked.send().await.map_err(|error| self.failed("ReceiveMessage").fault(&error))?;
        for message in answer.messages() {
            take(message, inbox).await?;
            self.delete(message).await?;
        }
        Ok(())
    }

    async fn delete(&self, message: &Message) -> Result<(), Fault> {
        let asked = self.client.delete_message().queue_url(&self.url);
        let asked = asked.receipt_handle(message.receipt_handle().unwrap_or_default());
        let in_time = aws_sdk_sqs::config::Builder::new().timeout_config(aws::timeouts());
        let asked = asked.customize().config_override(in_time);
        asked.send().await.map(|_| ()).map_err(|error| self.failed("DeleteMessage").fault(&error))
    }

    /// None of the calls writes something whose effect matters: a message whose deletion is not known comes again, and is
    /// known then.
    fn failed<'a>(&'a self, operation: &'a str) -> Failed<'a> {
        Failed { service: SOURCE, operation, writes: false, place: &self.url, remedy }
    }
}

/// Keeps what a message says; in order also for one that makes no sense, which is logged.
///
/// # Errors
/// The store's fault: the message has to come again.
async fn take(message: &Message, inbox: &Inbox) -> Result<(), Fault> {
    let id = message.message_id().unwrap_or("unknown");
    let body = message.body().unwrap_or_default();
    if body.len() > LONGEST_BODY {
        tracing::warn!(message_id = id, bytes = body.len(), "a message of the queue is too long, and is deleted");
        return Ok(());
    }
    let delivery = match ecr::delivery(body.as_bytes()) {
        Ok(delivery) => delivery,
        Err(error) => {
            tracing::warn!(message_id = id, %error, "a message of the queue was not understood, and is deleted");
            return Ok(());
        }
    };
    match inbox.take_by("queue", Source::Ecr, vec![delivery]).await {
        Ok(taken) => {
            for why in taken.nothing {
                tracing::info!(message_id = id, why, "a message of the queue starts nothing");
            }
            Ok(())
        }
        Err(TakeError::Unmatched(error)) => {
            tracing::warn!(message_id = id, %error, "a message of the queue fits no policy, and is deleted");
            Ok(())
        }
        Err(TakeError::Fault(fault)) => Err(fault),
    }
}

/// What stands in the way at present, so that it is logged once.
#[derive(Debug, Default)]
struct Troubles {
    last: Option<(FaultKind, String)>,
    pause: Duration,
}

impl Troubles {
    /// How long to wait before the next round.
    fn after(&mut self, round: Result<(), Fault>) -> Duration {
        let Err(fault) = round else {
            if self.last.take().is_some() {
                tracing::info!("the queue is read again");
            }
            self.pause = Duration::ZERO;
            return self.pause;
        };
        let doubled = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.pause = if fault.kind == FaultKind::Permanent { LONGEST_PAUSE } else { doubled };
        let now = (fault.kind, fault.message.clone());
        if self.last.as_ref() != Some(&now) {
            tracing::error!(%fault, "the queue is not read; it is asked again within a minute");
            self.last = Some(now);
        }
        self.pause
    }
}

fn remedy(code: &str, _message: &str) -> &'static str {
    match code {
        "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue" | "InvalidAddress" => {
            "there is no such queue: correct queue.url, or create it in that region: "
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_a_refusal_waits_that_long_at_once() {
        let mut troubles = Troubles::default();
        let mut after = |round| troubles.after(round).as_secs();
        let pauses: Vec<u64> = (0..8).map(|_| after(Err(Fault::transient(SOURCE, "busy")))).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after(Ok(())), 0);
        assert_eq!(after(Err(Fault::permanent(SOURCE, "gone"))), 60);
        assert_eq!(after(Ok(())), 0);
        assert_eq!(after(Err(Fault::transient(SOURCE, "busy"))), 1);
    }
}
