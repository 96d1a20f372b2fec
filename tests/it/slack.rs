//! What Slack is told of rollouts, once each, and what the operator reads when it does not take it.

use crate::kit::postgres::Server;
use crate::kit::world::HandClock;
use crate::kit::{BEGINNING, directory, news_of};
use crate::program::golden_json;
use crate::program::slack::{CHANNEL, Instead, Posted, Slack, TOKEN};
use std::sync::Arc;
use tempfile::TempDir;
use tidegate::base::fault::FaultKind;
use tidegate::base::people::{People, Person};
use tidegate::base::secret::Redacted;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::notify::slack::Slack as Adapter;
use tidegate::policy::plan::{Notice, SlackNotice};
use tidegate::ports::{Ask, Chat, News, NewsStanding, Notes, Notices};
use tidegate::store::sqlite::SqliteStore;

/// A workspace, and a database in which is noted what was posted.
struct Setting {
    slack: Slack,
    clock: Arc<HandClock>,
    store: SqliteStore,
    _directory: TempDir,
}

impl Setting {
    async fn new() -> Self {
        let directory = directory();
        let store = SqliteStore::open(directory.path()).await.unwrap();
        Self { slack: Slack::start().await, clock: HandClock::new(), store, _directory: directory }
    }

    /// A daemon's adapter; each knows only what the database knows.
    fn adapter(&self) -> Adapter {
        self.with_token(TOKEN)
    }

    fn with_token(&self, token: &str) -> Adapter {
        let ada = Person { slack_user: Some("U1".into()), ..Person::default() };
        let oncall = Person { slack_group: Some("S1".into()), ..Person::default() };
        let people = People([("ada".to_owned(), ada), ("oncall".to_owned(), oncall)].into());
        let notes = Arc::new(self.store.clone());
        Adapter::new(&self.slack.url, Redacted::new(token.to_owned()), notes, Arc::new(people), self.clock.clone())
            .unwrap()
    }

    fn one(&self) -> Posted {
        let messages = self.slack.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages[0].clone()
    }
}

fn place(asks: bool) -> Notice {
    Notice::Slack(SlackNotice { channel: format!("#{}", CHANNEL.0), asks })
}

fn step(weight: u8) -> News {
    news_of(NewsStanding::UnderWay, &format!("{weight} %: no worse so far"))
}

/// A rollout that waits for an approval.
fn asking(given: &[&str]) -> News {
    let ask = Ask {
        step: 2,
        channel: Some(format!("#{}", CHANNEL.0)),
        from: ["ada", "oncall", "bob"].map(str::to_owned).to_vec(),
        need: 2,
        given: given.iter().map(|name| (*name).to_owned()).collect(),
        until: Some(BEGINNING.plus(Millis::from_seconds(1800))),
        on_timeout: "rollback".to_owned(),
        held: None,
    };
    News { ask: Some(ask), ..news_of(NewsStanding::UnderWay, "10 %, waits for an approval") }
}

#[tokio::test]
async fn a_message_follows_a_rollout_and_its_thread_says_each_change_once() {
    let setting = Setting::new().await;
    let paused = News { urgent: true, ..news_of(NewsStanding::UnderWay, "10 %, paused: lunch") };
    let end = news_of(NewsStanding::Failed, "rolled back: canary 9/100 <failed> & worse");
    for news in [step(10), step(10), paused, step(50), end.clone(), end] {
        // Each by another daemon.
        setting.adapter().tell(&place(false), &news).await.unwrap();
    }
    let message = setting.one();
    golden_json("slack/status-rolled-back.json", &message.body);
    assert!(message.text().contains("canary 9/100 &lt;failed&gt; &amp; worse"), "{}", message.text());
    let thread = setting.slack.thread(&message);
    let said: Vec<(bool, bool)> = thread
        .iter()
        .map(|reply| (reply.broadcast, reply.text().contains("paused") || reply.text().contains("rolled")))
        .collect();
    assert_eq!(said, [(true, true), (false, false), (true, true)], "a pause and an end interrupt, a step does not");
    let mut step = thread[1].body.clone();
    assert_eq!(step["thread_ts"], message.ts);
    step["thread_ts"] = "TS".into();
    golden_json("slack/thread-step.json", &step);
}

#[tokio::test]
async fn people_are_asked_in_one_message_that_follows_their_answers() {
    let setting = Setting::new().await;
    setting.adapter().tell(&place(true), &step(10)).await.unwrap();
    assert!(setting.slack.messages().is_empty(), "nobody is asked");
    setting.adapter().tell(&place(true), &asking(&[])).await.unwrap();
    let first = setting.one();
    golden_json("slack/question.json", &first.body);
    setting.adapter().tell(&place(true), &asking(&["ada"])).await.unwrap();
    let mut held = asking(&["ada"]);
    if let Some(ask) = &mut held.ask {
        (ask.held, ask.until) = (Some("paused: lunch".to_owned()), None);
    }
    setting.adapter().tell(&place(true), &held).await.unwrap();
    let second = setting.one();
    golden_json("slack/question-held.json", &second.body);
    assert_eq!((second.changes, &second.ts), (2, &first.ts), "changed in place");
    assert!(second.button("resume").is_some() && second.button("pause").is_none());

    let approved = News { approved: vec!["ada".into(), "oncall".into()], ..step(50) };
    setting.adapter().tell(&place(true), &approved).await.unwrap();
    let third = setting.one();
    golden_json("slack/answered.json", &third.body);
    assert!(third.button("approve").is_none(), "nobody can press what counts no more");
    // Whatever comes later leaves it alone.
    setting.adapter().tell(&place(true), &news_of(NewsStanding::Succeeded, "100 %: every step passed")).await.unwrap();
    assert_eq!(setting.one().changes, third.changes);
}

/// The answer is lost after the message is there, in the channel and in a thread, with other messages in between.
#[tokio::test]
async fn a_lost_answer_makes_no_second_message() {
    let setting = Setting::new().await;
    for text in ["other", "messages", "and more"] {
        let news = News { rollout: tidegate::base::ids::RolloutId(text.to_owned()), ..step(10) };
        setting.adapter().tell(&place(false), &news).await.unwrap();
    }
    setting.slack.instead("chat.postMessage", Instead::Loses);
    let fault = setting.adapter().tell(&place(false), &step(10)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    // It may still be on its way, so nobody looks yet, and nobody posts another.
    let fault = setting.adapter().tell(&place(false), &step(10)).await.unwrap_err();
    assert!(fault.kind == FaultKind::Transient && fault.message.contains("is being posted"), "{fault}");
    setting.clock.pass(5000);
    setting.adapter().tell(&place(false), &step(10)).await.unwrap();
    assert_eq!(setting.slack.messages().len(), 4);
    assert!(setting.slack.calls().contains(&"conversations.join".to_owned()), "only members read a channel");
    setting.slack.instead("chat.postMessage", Instead::Loses);
    setting.adapter().tell(&place(false), &step(50)).await.unwrap_err();
    setting.clock.pass(5000);
    setting.adapter().tell(&place(false), &step(50)).await.unwrap();
    let messages = setting.slack.messages();
    let message = messages.last().unwrap();
    assert_eq!((messages.len(), setting.slack.thread(message).len()), (4, 1));
    // One that never was there is posted.
    setting.slack.instead("chat.postMessage", Instead::Status(500, vec![]));
    setting.adapter().tell(&place(false), &step(95)).await.unwrap_err();
    setting.clock.pass(5000);
    setting.adapter().tell(&place(false), &step(95)).await.unwrap();
    assert_eq!(setting.slack.thread(message).len(), 2);
}

#[tokio::test]
async fn what_is_not_taken_says_why_and_what_to_do() {
    use FaultKind::{Permanent, Transient};
    let rows = [
        (Instead::Error("token_revoked"), Transient, "slack.token is wrong or was revoked: install the app again"),
        (Instead::Error("channel_not_found"), Transient, "correct the channel in the policy, or invite the app there"),
        (Instead::Error("missing_scope"), Transient, "give the app this scope and install it again"),
        (Instead::Error("is_archived"), Permanent, "the channel is archived"),
        (Instead::Error("invalid_blocks"), Permanent, "this is a defect of tidegate"),
        (Instead::Error("fatal_error"), Transient, "a message to #deploys: fatal_error"),
        (Instead::Status(500, vec![]), Transient, "status 500"),
        (Instead::Status(404, vec![]), Permanent, "status 404"),
        (Instead::Status(200, vec![]), Permanent, "is slack.api_url right?"),
    ];
    for (instead, kind, says) in rows {
        let setting = Setting::new().await;
        setting.slack.instead("chat.postMessage", instead.clone());
        let fault = setting.adapter().tell(&place(false), &step(10)).await.unwrap_err();
        assert_eq!((fault.kind, fault.source.as_str()), (kind, "slack"), "{instead:?} {fault}");
        assert!(fault.message.contains(says) && !fault.to_string().contains(TOKEN), "{fault}");
        // Once it is mended, it is said, once.
        setting.clock.pass(5000);
        setting.adapter().tell(&place(false), &step(10)).await.unwrap();
        setting.one();
    }
    let setting = Setting::new().await;
    let fault = setting.with_token("xoxb-another").tell(&place(true), &asking(&[])).await.unwrap_err();
    assert!(fault.message.contains("invalid_auth; slack.token is wrong"), "{fault}");
    // A message that somebody deleted is not made again.
    let elsewhere = Notice::Slack(SlackNotice { channel: "#elsewhere".into(), asks: false });
    let fault = setting.adapter().tell(&elsewhere, &step(10)).await.unwrap_err();
    assert!(fault.message.contains("a message to #elsewhere: channel_not_found"), "{fault}");
}

/// A question whose answer was lost, and which is over before anybody looked for it, keeps no buttons.
#[tokio::test]
async fn a_lost_question_is_ended_too() {
    let setting = Setting::new().await;
    setting.slack.instead("chat.postMessage", Instead::Loses);
    setting.adapter().tell(&place(true), &asking(&[])).await.unwrap_err();
    setting.clock.pass(5000);
    setting.adapter().tell(&place(true), &step(50)).await.unwrap();
    assert!(setting.one().button("approve").is_none(), "{}", setting.one().text());
    // Asked again, since the weight was taken away: that has to be heard.
    setting.adapter().tell(&place(true), &asking(&[])).await.unwrap();
    let messages = setting.slack.messages();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[1].button("approve").is_some());
}

/// As many who may approve as a policy takes, with names as long as it takes, and a reason of a thousand characters.
#[tokio::test]
async fn long_names_and_reasons_stay_within_the_limits() {
    let setting = Setting::new().await;
    let long = |number: usize| format!("{number}{}", "&".repeat(1000));
    let mut news = asking(&[]);
    news.policy = "p".repeat(63);
    news.revision = Some("<".repeat(1000));
    news.verdict = "&".repeat(3000);
    if let Some(ask) = &mut news.ask {
        ask.from = (0..64).map(long).collect();
        ask.given = (0..40).map(long).collect();
        ask.need = 64;
        ask.held = Some(format!("paused: {}", ">".repeat(1000)));
    }
    setting.adapter().tell(&place(true), &news).await.unwrap();
    let text = setting.one().text();
    assert!(text.contains("and 54 more") && text.contains("and 30 more"), "{text}");
    let over = News { approved: (0..40).map(long).collect(), text: "&".repeat(2000), ..step(50) };
    setting.adapter().tell(&place(true), &over).await.unwrap();
    setting.adapter().tell(&place(false), &over).await.unwrap();
    setting.adapter().tell(&place(false), &News { change: "y".repeat(3000), ..over }).await.unwrap();
    assert_eq!(setting.slack.messages().len(), 2);
}

#[tokio::test]
async fn a_deleted_message_is_left_at_that() {
    let setting = Setting::new().await;
    let adapter = setting.adapter();
    adapter.tell(&place(true), &asking(&[])).await.unwrap();
    setting.slack.instead("chat.update", Instead::Error("message_not_found"));
    adapter.tell(&place(true), &asking(&["ada"])).await.unwrap();
    setting.one();
}

#[tokio::test]
async fn slack_is_left_alone_for_as_long_as_it_wants() {
    let setting = Setting::new().await;
    let adapter = setting.adapter();
    setting.slack.instead("chat.postMessage", Instead::Status(429, vec![("retry-after", "120")]));
    let fault = adapter.tell(&place(false), &step(10)).await.unwrap_err();
    assert!(fault.message.contains("its limit of requests is spent for 120 s"), "{fault}");
    let calls = setting.slack.calls().len();
    let fault = adapter.tell(&place(false), &step(10)).await.unwrap_err();
    assert!(fault.kind == FaultKind::Transient && fault.message.contains("wants not to be asked for"), "{fault}");
    assert_eq!(setting.slack.calls().len(), calls, "it was not asked");
}

#[tokio::test]
async fn who_is_in_a_group_is_asked_once_a_minute() {
    let setting = Setting::new().await;
    setting.slack.group("S1", &["U1", "U2"]);
    let adapter = setting.adapter();
    assert!(adapter.is_member("S1", "U2").await.unwrap());
    assert!(!adapter.is_member("S1", "U9").await.unwrap());
    assert_eq!(setting.slack.calls(), ["usergroups.users.list"]);
    let fault = adapter.is_member("S9", "U1").await.unwrap_err();
    assert!(fault.message.contains("members of group S9: no_such_subteam"), "{fault}");
    adapter.whisper(CHANNEL.1, "U2", "not <you>").await.unwrap();
    assert_eq!(setting.slack.whispers(), [("U2".to_owned(), "not &lt;you&gt;".to_owned())]);
}

/// What both databases keep of messages: by whole keys and by how they begin, where `%` and `_` are letters like others.
async fn keeps_notes(store: &dyn Notes) {
    let at = |ms: i64| Timestamp(1_700_000_000_000 + ms);
    assert_eq!(store.note("slack/a_b/1").await.unwrap(), None);
    for (key, value, ms) in
        [("slack/a_b/1", "one", 0), ("slack/axb/2", "two", 1), ("slack/a%/3", "three", 2), ("slack/ä/4", "four", 3)]
    {
        store.set_note(key, value, at(ms)).await.unwrap();
    }
    store.set_note("slack/a_b/1", "one again", at(4)).await.unwrap();
    assert_eq!(store.note("slack/a_b/1").await.unwrap().as_deref(), Some("one again"));
    let under = async |prefix: &str| {
        let found = store.notes_under(prefix).await.unwrap();
        found.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(under("slack/a_").await, ["one again"]);
    assert_eq!(under("slack/a%").await, ["three"]);
    assert_eq!(under("slack/ä").await, ["four"]);
    assert_eq!(under("slack/").await.len(), 4);
    assert_eq!(under("other/").await.len(), 0);

    // Of several at once one is the first.
    let tries = (0..8).map(|_| store.first_note("seen/x", "", at(5)));
    let firsts = futures_util::future::join_all(tries).await;
    assert_eq!(firsts.into_iter().filter(|first| *first.as_ref().unwrap()).count(), 1);
    store.forget_notes("slack/", at(3)).await.unwrap();
    assert_eq!(under("slack/").await, ["one again", "four"]);
    assert!(store.note("seen/x").await.unwrap().is_some(), "of another prefix");
    store.forget_notes("seen/", at(6)).await.unwrap();
    assert!(store.first_note("seen/x", "", at(7)).await.unwrap());
}

#[tokio::test]
async fn sqlite_keeps_what_was_posted() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    keeps_notes(&store).await;
    store.close().await;
}

#[tokio::test]
async fn postgresql_keeps_what_was_posted() {
    let Some(server) = Server::start().await else { return };
    let store = server.drive("a").await;
    keeps_notes(&store).await;
    store.close().await;
}
