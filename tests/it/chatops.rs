//! People who approve, pause and end releases in Slack: the program as processes, Slack by our double.

use crate::kit::postgres::Server;
use crate::program::controllers::{Controller, Outside};
use crate::program::fleet::Fleet;
use crate::program::fleet::image;
use crate::program::service::Behaviour;
use crate::program::slack::{Instead, Posted, SECRET, Signed, Slack, TOKEN};
use crate::program::until;
use crate::program::world::{HOOK_SECRET, QUICK};
use crate::shell::Page;
use serde_json::{Value, json};
use std::process::Stdio;

/// Who is who: Ada wrote the release, Bob and the three of on-call may approve, Kim is known and may not.
const PEOPLE: &str = "\
[people.ada]
slack_user = \"U1ADA\"
git_login = \"ada-git\"
[people.bob]
slack_user = \"U2BOB\"
[people.kim]
slack_user = \"U5KIM\"
[people.oncall]
slack_group = \"S1ONCALL\"
";
const ADA: &str = "U1ADA";
const BOB: &str = "U2BOB";
/// Only known as one of on-call.
const CLEO: &str = "U3CLEO";
const KIM: &str = "U5KIM";
const STRANGER: &str = "U9";

/// Steps with an approval after 10 %.
fn asking(approval: &str) -> String {
    let approval = format!("  - approval: {{ slack: \"#deploys\", from: [ada, bob, oncall], {approval} }}\n");
    let policy = QUICK.replace("  - { weight: 50", &format!("{approval}  - {{ weight: 50"));
    format!(
        "{policy}notify: [{{ slack: \"#deploys\" }}]\nstart: {{ on: {{ image: {{ repository: shop/checkout }} }} }}\n"
    )
}

fn variables(slack: &Slack) -> Vec<(String, String)> {
    let pairs = [
        ("TIDEGATE_SLACK_TOKEN", TOKEN),
        ("TIDEGATE_SLACK_SIGNING_SECRET", SECRET),
        ("TIDEGATE_SLACK_API_URL", slack.url.as_str()),
        ("TIDEGATE_HOOK_SECRET_GENERIC", HOOK_SECRET),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// One daemon over a mesh in another process, whose people are at Slack.
struct Team {
    slack: Slack,
    outside: Outside,
    daemon: Controller,
}

impl Team {
    async fn start(policy: &str, canary: Behaviour) -> Self {
        let slack = Slack::start().await;
        slack.group("S1ONCALL", &[BOB, CLEO]);
        let outside = Outside::start(policy, canary).await;
        let data = outside.files.at("own");
        let config = format!("{}[database]\ndata_dir = \"{data}\"\n{PEOPLE}", outside.config());
        let variables = variables(&slack);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        let daemon = outside.controller(&config, &variables).await;
        Self { slack, outside, daemon }
    }

    fn api(&self) -> String {
        self.daemon.api.url("api")
    }

    /// A rollout that Ada's pipeline started.
    async fn release(&self, tag: &str) -> String {
        release(&self.daemon, tag).await
    }

    /// Waits until people are asked about a rollout, and answers the question.
    async fn question(&self, id: &str) -> Posted {
        question(&self.slack, id).await
    }

    /// Presses a button, and answers what whoever pressed it reads when it came to nothing.
    async fn refused(&self, verb: &str, of: &Posted, user: &str) -> String {
        let before = self.slack.whispers().len();
        let value = of.button(verb).unwrap();
        assert_eq!(Signed::press(verb, &value, user).send(&self.api(), "interactions").await, (200, String::new()));
        let told = until("a word to whoever pressed", async || self.slack.whispers().get(before).cloned()).await;
        assert_eq!(told.0, user);
        told.1
    }

    /// Presses a button that does something.
    async fn press(&self, verb: &str, of: &Posted, user: &str) {
        let value = of.button(verb).unwrap();
        assert_eq!(Signed::press(verb, &value, user).send(&self.api(), "interactions").await, (200, String::new()));
    }

    /// What a command is answered with.
    async fn say(&self, text: &str, user: &str) -> String {
        let (status, body) = Signed::command(text, user).send(&self.api(), "commands").await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["response_type"], "ephemeral");
        body["text"].as_str().unwrap().to_owned()
    }
}

async fn release(daemon: &Controller, tag: &str) -> String {
    let body = json!({ "policy": "checkout", "revision": tag, "actor": "ada-git" }).to_string();
    let (status, answer) = daemon.api.hook(&body).await.unwrap();
    assert!([201, 202].contains(&status), "{answer}");
    answer["rollouts"][0]["id"].as_str().unwrap().to_owned()
}

async fn question(slack: &Slack, id: &str) -> Posted {
    let asked = |message: &Posted| message.button("approve").is_some_and(|value| value.contains(id));
    until("the question", async || slack.messages().into_iter().find(&asked)).await
}

/// Questions that were ever asked of a rollout.
fn questions(slack: &Slack, id: &str) -> Vec<Posted> {
    let key = format!("{id}/#deploys/ask/");
    let asked = slack.messages().into_iter();
    asked
        .filter(|message| message.body["metadata"]["event_payload"]["key"].as_str().unwrap().starts_with(&key))
        .collect()
}

/// Every way in which a button does nothing, with what is read; then two people say yes.
#[tokio::test]
async fn only_those_who_may_approve_and_each_once() {
    let team = Team::start(&asking("need: 2, timeout: 1h"), Behaviour::Good).await;
    let load = team.daemon.api.load();
    let id = team.release("v2").await;
    let question = team.question(&id).await;
    for (user, says) in [
        (ADA, "whoever started a release does not approve it; ask somebody else"),
        (KIM, "`kim` is not among those who may: ada, bob, oncall."),
        (STRANGER, "`U9` is not among those who may: ada, bob, oncall."),
    ] {
        let told = team.refused("approve", &question, user).await;
        assert!(told.contains(says), "{user}: {told}");
    }
    team.press("approve", &question, BOB).await;
    let given = team.daemon.api.until(&id, "a yes", |view| view["approval"]["given"] == json!(["bob"])).await;
    assert_eq!(given["phase"], "awaiting_approval");
    let told = team.refused("approve", &question, BOB).await;
    assert!(told.contains("`bob` has approved already"), "{told}");
    until("the question follows", async || {
        team.question(&id).await.text().contains("1 of 2 approvals. Yes so far: *bob*").then_some(())
    })
    .await;
    // Bob is one of on-call too, and stays one person; Cleo is another.
    team.press("approve", &question, CLEO).await;
    assert_eq!(team.daemon.api.end(&id).await["phase"], "succeeded");
    until("the question is over", async || {
        let asked = questions(&team.slack, &id);
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].text().contains("no longer asked. Approved by *bob*, *oncall*").then_some(())
    })
    .await;
    let told = team.refused("approve", &question, CLEO).await;
    assert!(told.contains(&format!("Nobody is asked about checkout ({id}) any more")), "{told}");
    let told = team.refused("abort", &question, BOB).await;
    assert!(told.contains("it has ended (succeeded)"), "{told}");
    // Start, steps, question and end in the thread of one message, each once.
    let status = team.slack.messages().into_iter().find(|message| message.button("approve").is_none()).unwrap();
    until("the end is said", async || status_says(&team.slack, &status, "every step passed")).await;
    let thread: Vec<String> = team.slack.thread(&status).iter().map(Posted::text).collect();
    let mut once = thread.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), thread.len(), "{thread:?}");
    load.stop().await;
    crate::program::world::verify(&team.outside.files.path("own")).await.expect(0);
}

fn status_says(slack: &Slack, status: &Posted, text: &str) -> Option<()> {
    slack.thread(status).iter().any(|reply| reply.text().contains(text) && reply.broadcast).then_some(())
}

/// Two who press in the same moment are two, one who presses twice is one.
#[tokio::test]
async fn two_who_press_at_once_count_once_each() {
    let team = Team::start(&asking("need: 2, timeout: 1h"), Behaviour::Good).await;
    let load = team.daemon.api.load();
    let id = team.release("v2").await;
    let question = team.question(&id).await;
    let (api, value) = (team.api(), question.button("approve").unwrap());
    let presses = [BOB, BOB, CLEO].map(|user| Signed::press("approve", &value, user));
    let [first, second, third] = &presses;
    let answers = tokio::join!(
        first.send(&api, "interactions"),
        second.send(&api, "interactions"),
        third.send(&api, "interactions"),
    );
    assert_eq!((answers.0.0, answers.1.0, answers.2.0), (200, 200, 200));
    assert_eq!(team.daemon.api.end(&id).await["phase"], "succeeded");
    let whispers = team.slack.whispers();
    let told = until("one is told", async || team.slack.whispers().first().cloned()).await;
    assert_eq!(told.0, BOB, "{whispers:?}");
    load.stop().await;
}

#[tokio::test]
async fn a_no_a_missing_answer_and_a_newer_release_end_it() {
    let team = Team::start(&asking("need: 1, timeout: 4s"), Behaviour::Good).await;
    let load = team.daemon.api.load();
    let id = team.release("v2").await;
    let first = team.question(&id).await;
    team.press("reject", &first, BOB).await;
    let end = team.daemon.api.end(&id).await;
    assert_eq!((&end["phase"], &end["reason"]), (&json!("rolled_back"), &json!("rejected by bob: asked in Slack")));

    let id = team.release("v3").await;
    let late = team.question(&id).await;
    let end = team.daemon.api.end(&id).await;
    assert_eq!((&end["phase"], &end["reason"]), (&json!("rolled_back"), &json!("0 of 1 approvals within 4s")));
    let told = team.refused("approve", &late, BOB).await;
    assert!(told.contains("any more") && told.contains("0 of 1 approvals within 4s"), "{told}");

    let id = team.release("v4").await;
    let old = team.question(&id).await;
    let newer = team.release("v5").await;
    assert_eq!(team.daemon.api.end(&id).await["phase"], "superseded");
    let told = team.refused("approve", &old, BOB).await;
    assert!(told.contains("any more") && told.contains("superseded"), "{told}");
    let question = team.question(&newer).await;
    team.press("approve", &question, BOB).await;
    assert_eq!(team.daemon.api.end(&newer).await["phase"], "succeeded");
    load.stop().await;
}

/// What is not Slack's, is old, or comes twice, is not done; nothing of it gets into the audit trail.
#[tokio::test]
async fn what_is_not_slacks_or_comes_again_does_nothing() {
    let team = Team::start(&asking("need: 2, timeout: 1h"), Behaviour::Good).await;
    let load = team.daemon.api.load();
    let id = team.release("v2").await;
    let value = team.question(&id).await.button("approve").unwrap();
    let api = team.api();
    let good = Signed::press("approve", &value, BOB);
    let form = |seconds| {
        let payload = json!({
            "type": "block_actions", "user": { "id": BOB },
            "actions": [{ "action_id": "tidegate-approve", "value": value }],
        });
        Signed::new(&[("payload", &payload.to_string())], seconds)
    };
    let unsigned = Signed { signature: String::new(), ..good.clone() };
    let forged = Signed { signature: format!("v0={}", "0".repeat(64)), ..good.clone() };
    let changed = Signed { body: good.body.replace(BOB, CLEO), ..good.clone() };
    let typed = Signed { timestamp: "yesterday".to_owned(), ..good.clone() };
    for (what, request, says) in [
        ("unsigned", &unsigned, "the header `x-slack-signature` is not what Slack sends"),
        ("forged", &forged, "another app's signing secret, or a body that was changed on the way"),
        ("changed", &changed, "a body that was changed on the way"),
        ("without a time", &typed, "the header `x-slack-request-timestamp` is not what Slack sends"),
        ("stale", &form(-400), "sent again, or a clock is wrong"),
        ("of tomorrow", &form(400), "sent again, or a clock is wrong"),
    ] {
        let (status, body) = request.send(&api, "interactions").await;
        assert!(
            status == 401 && body.contains(says) && body.contains("slack.signing_secret"),
            "{what}: {status} {body}"
        );
    }
    assert_eq!(team.daemon.api.view(&id).await["approval"]["given"], json!([]));
    assert_eq!(good.send(&api, "interactions").await.0, 200);
    let (status, body) = good.send(&api, "interactions").await;
    assert!(status == 409 && body.contains("was taken already, and counts once"), "{status} {body}");
    team.daemon.api.until(&id, "one yes", |view| view["approval"]["given"] == json!(["bob"])).await;
    let (status, body) = Signed::press("approve", "{}", BOB).send(&api, "interactions").await;
    assert!(status == 400 && body.contains("this is not what Slack sends"), "{status} {body}");
    let (status, body) = Signed::command("status", BOB).send(&api, "elsewhere").await;
    assert!(status == 404 && body.contains("interactions, commands"), "{status} {body}");
    load.stop().await;
}

/// Verb by person, in the order of a rollout: what is read.
#[tokio::test]
async fn commands_do_what_their_sender_may() {
    let team = Team::start(&asking("need: 1, timeout: 1h"), Behaviour::Good).await;
    let load = team.daemon.api.load();
    let unknown = "this daemon does not know you. ask for `slack_user = \"U9\"` under `[people.NAME]`";
    assert!(team.say("", KIM).await.contains("No rollout yet."));
    assert!(team.say("status checkout", KIM).await.contains("There is no rollout `checkout`."));
    assert!(team.say("help", STRANGER).await.contains("`/tidegate promote POLICY [--full] REASON`"));
    let id = team.release("v2").await;
    team.question(&id).await;
    for (text, user, says) in [
        ("status", STRANGER, unknown),
        ("pause checkout", STRANGER, unknown),
        ("abort checkout", STRANGER, unknown),
        ("resume checkout", STRANGER, "You may not resume this rollout. Who may: ada, bob, oncall."),
        ("approve checkout", STRANGER, "`U9` is not among those who may: ada, bob, oncall."),
        ("status", KIM, "awaiting approval at 10 % (0 of 1 approvals; asked: ada, bob, oncall)"),
        ("pause nothing", KIM, "There is no rollout `nothing`"),
        ("pause checkout lunch", KIM, "pause: done."),
        ("status checkout", CLEO, "paused at 10 %"),
        ("resume checkout", KIM, "You may not resume this rollout. Who may: ada, bob, oncall."),
        ("promote checkout now", KIM, "You may not promote this rollout."),
        ("resume checkout", CLEO, "resume: done."),
        ("promote checkout now", CLEO, "it awaits approval: `approve` or `reject` it"),
        ("approve checkout", ADA, "whoever started a release does not approve it"),
        ("abort checkout no lunch", KIM, "abort: done."),
    ] {
        let answer = team.say(text, user).await;
        assert!(answer.contains(says), "{text} by {user}: {answer}");
    }
    let end = team.daemon.api.end(&id).await;
    assert_eq!((&end["phase"], &end["reason"]), (&json!("aborted"), &json!("aborted by kim: no lunch")));
    assert!(team.say("status", KIM).await.contains("No rollout is live. The last one: checkout v2"));
    load.stop().await;
}

/// Slack is down for the whole of a good release and a bad one, in every way: they end as they would. What it is told
/// when it is back is how they ended.
#[tokio::test]
async fn slack_that_is_down_changes_no_decision() {
    let policy = format!("{QUICK}notify: [{{ slack: \"#deploys\" }}]\n");
    for (canary, end, instead) in [
        (Behaviour::Good, "succeeded", Instead::Status(503, vec![])),
        (Behaviour::FailsEvery(3), "rolled_back", Instead::Error("token_revoked")),
        (Behaviour::FailsEvery(3), "rolled_back", Instead::Status(429, vec![("retry-after", "1")])),
    ] {
        let team = Team::start(&policy, canary).await;
        let load = team.daemon.api.load();
        team.slack.always(Some(instead.clone()));
        let id = team.daemon.api.start_rollout().await;
        let view = team.daemon.api.end(&id).await;
        assert_eq!(view["phase"], end, "{instead:?}: {view}");
        assert!(team.slack.messages().is_empty());
        team.slack.always(None);
        until("how it ended", async || {
            let messages = team.slack.messages();
            assert!(messages.len() <= 1, "{messages:?}");
            let said = if end == "succeeded" { "every step passed" } else { "rolled back: canary" };
            messages.first().is_some_and(|message| message.text().contains(said)).then_some(())
        })
        .await;
        load.stop().await;
    }
}

/// Two daemons on PostgreSQL, a fleet on ECS, and people at Slack.
struct Pair {
    slack: Slack,
    outside: Outside,
    fleet: Fleet,
    server: Server,
    driver: Controller,
    standby: Controller,
}

/// The policy of the pair: the release is deployed, and 10 % wait for an approval.
fn deploying(approval: &str) -> String {
    asking(approval).replace(
        "steps:",
        "workload:\n  ecs:\n    cluster: prod\n    services: { checkout-v1: checkout-a, checkout-v2: checkout-b }\n    \
         container: app\n    keep_for: 1s\nsteps:",
    )
}

impl Pair {
    /// `None` without the peers.
    async fn start(policy: &str) -> Option<Self> {
        let server = Server::start().await?;
        let outside = Outside::start(policy, Behaviour::Gone).await;
        let fleet = Fleet::start(&outside).await?;
        let slack = Slack::start().await;
        slack.group("S1ONCALL", &[BOB, CLEO]);
        let driver = Self::daemon(&outside, &fleet, &slack, &server).await;
        until("it drives", async || driver.drives().then_some(())).await;
        let standby = Self::daemon(&outside, &fleet, &slack, &server).await;
        Some(Self { slack, outside, fleet, server, driver, standby })
    }

    async fn daemon(outside: &Outside, fleet: &Fleet, slack: &Slack, server: &Server) -> Controller {
        let mut set = [fleet.variables(), variables(slack)].concat();
        set.push(("TIDEGATE_DATABASE_URL".to_owned(), server.url().reveal().clone()));
        let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (&**name, &**value)).collect();
        let config = outside.config().replace("[policies]", "advertise_url = \"http://127.0.0.1:0\"\n[policies]");
        outside.controller(&format!("{config}{PEOPLE}"), &set).await
    }

    /// Kills whoever drives, without waiting for the other one.
    async fn kill_driver(&mut self) {
        let next = Self::daemon(&self.outside, &self.fleet, &self.slack, &self.server).await;
        let heir = std::mem::replace(&mut self.standby, next);
        std::mem::replace(&mut self.driver, heir).process.kill().await;
    }

    async fn until_driven(&self) {
        until("one of them drives", async || (self.driver.drives() || self.standby.drives()).then_some(())).await;
        until("it answers", async || self.standby.api.try_api("/v1/rollouts").await.filter(|answer| answer.0 == 200))
            .await;
    }

    /// A release by a signed request to whoever stands by.
    async fn release(&self, tag: &str) -> String {
        let body = json!({ "image": image(tag), "revision": tag, "actor": "ada-git" }).to_string();
        let (_, answer) = self.standby.api.hook(&body).await.unwrap();
        answer["rollouts"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Presses a button at the one who stands by, as often as it takes: while the driver changes, people press again.
    async fn press(&self, verb: &str, of: &Posted, user: &str) {
        let value = of.button(verb).unwrap();
        until("a press that is taken", async || {
            let press = Signed::press(verb, &value, user);
            (press.send(&self.standby.api.url("api"), "interactions").await.0 == 200).then_some(())
        })
        .await;
    }

    async fn end(&self, id: &str) -> Value {
        self.standby.api.end(id).await
    }
}

/// With Slack down people approve by the command line, and what Slack shows when it is back is how that ended.
#[tokio::test]
async fn with_slack_down_people_approve_elsewhere() {
    let team = Team::start(&asking("need: 2, timeout: 1h"), Behaviour::Good).await;
    let load = team.daemon.api.load();
    team.slack.always(Some(Instead::Status(503, vec![])));
    let id = team.release("v2").await;
    team.daemon.api.until(&id, "the approval", |view| view["phase"] == "awaiting_approval").await;
    for person in ["bob", "oncall"] {
        team.daemon.api.run(&["rollout", "approve", &id, "--person", person]).await.expect(0);
    }
    assert_eq!(team.daemon.api.end(&id).await["phase"], "succeeded");
    team.slack.always(None);
    until("how it ended", async || {
        let messages = team.slack.messages();
        assert!(
            messages.iter().all(|message| message.button("approve").is_none()),
            "nobody is asked any more: {messages:?}"
        );
        messages.iter().any(|message| message.text().contains("every step passed")).then_some(())
    })
    .await;
    load.stop().await;
}

/// A release on ECS by a signed webhook, two daemons on PostgreSQL, an approval by two in Slack; whoever drives is killed
/// while people are asked, and again when one has answered. Nobody is asked or told twice.
#[tokio::test]
async fn approvals_outlive_the_daemon_that_asked() {
    let Some(mut pair) = Pair::start(&deploying("need: 2, timeout: 1h")).await else { return };
    let load = pair.outside.mesh.load();
    let id = pair.release("v2").await;
    let asked = question(&pair.slack, &id).await;
    for (user, given) in [(BOB, json!(["bob"])), (CLEO, Value::Null)] {
        pair.kill_driver().await;
        pair.press("approve", &asked, user).await;
        pair.until_driven().await;
        let done = |view: &Value| view["approval"]["given"] == given || given.is_null() && view["approval"].is_null();
        pair.standby.api.until(&id, "the yes", done).await;
    }
    let view = pair.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    until("the question is over", async || {
        let asked = questions(&pair.slack, &id);
        assert_eq!(asked.len(), 1, "nobody is asked twice: {asked:?}");
        asked[0].text().contains("Approved by *bob*, *oncall*").then_some(())
    })
    .await;
    let status = pair
        .slack
        .messages()
        .into_iter()
        .find(|message| message.button("approve").is_none() && message.thread.is_none());
    let status = status.unwrap();
    until("the end is said", async || status_says(&pair.slack, &status, "every step passed")).await;
    assert_eq!(pair.slack.messages().len(), 2, "a message that follows it, and the question");
    let mut said: Vec<String> = pair.slack.thread(&status).iter().map(Posted::text).collect();
    let all = said.len();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), all, "nothing is said twice: {said:?}");
    let (sent, lost) = load.totals();
    assert_eq!(lost, 0, "a request of {sent} was lost: {}", load.last_loss());
    load.stop().await;
}

/// The same release, rejected by one who is asked, and then answered by nobody: both are rolled back, with the release's
/// tasks gone and no request lost.
#[tokio::test]
async fn a_no_and_a_missing_answer_roll_a_deployed_release_back() {
    let Some(pair) = Pair::start(&deploying("need: 2, timeout: 1h")).await else { return };
    let load = pair.outside.mesh.load();
    let id = pair.release("v2").await;
    let asked = question(&pair.slack, &id).await;
    pair.press("reject", &asked, CLEO).await;
    let view = pair.end(&id).await;
    assert_eq!(
        (&view["phase"], &view["reason"]),
        (&json!("rolled_back"), &json!("rejected by oncall: asked in Slack"))
    );

    pair.outside.files.write("policies/checkout.yaml", &deploying("need: 2, timeout: 3s"));
    let id = pair.release("v3").await;
    let asked = question(&pair.slack, &id).await;
    pair.press("approve", &asked, BOB).await;
    let view = pair.end(&id).await;
    assert_eq!((&view["phase"], &view["reason"]), (&json!("rolled_back"), &json!("1 of 2 approvals within 3s")));
    until("the question is over", async || {
        let asked = questions(&pair.slack, &id);
        asked[0].text().contains("no longer asked. rolled back: 1 of 2 approvals within 3s").then_some(())
    })
    .await;
    assert_eq!(pair.fleet.service("checkout-b").await["desiredCount"], 0);
    assert_eq!(pair.standby.api.weights().await.unwrap()["checkout-v1"], 100);
    assert_eq!(load.totals().1, 0, "{}", load.last_loss());
    load.stop().await;
}

/// Which scope each method needs, by Slack's documentation.
const SCOPES: [(&str, &[&str]); 7] = [
    ("conversations.join", &["channels:join"]),
    ("chat.postMessage", &["chat:write"]),
    ("chat.update", &["chat:write"]),
    ("conversations.list", &["channels:read", "groups:read"]),
    ("conversations.history", &["channels:history", "groups:history"]),
    ("conversations.replies", &["channels:history", "groups:history"]),
    ("usergroups.users.list", &["usergroups:read"]),
];

/// The page as it stands, from the app's manifest to an approval: a person follows it.
#[tokio::test]
async fn the_page_about_slack_leads_to_the_first_approval() {
    let page = Page::of("docs/chatops.md", "the_page_about_slack_leads_to_the_first_approval");
    let manifest: Value = serde_json::from_str(page.raw("manifest.json")).unwrap();
    let scopes: Vec<&str> =
        manifest["oauth_config"]["scopes"]["bot"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for (method, needs) in SCOPES {
        assert!(needs.iter().all(|scope| scopes.contains(scope)), "{method}: {scopes:?}");
    }
    let addresses =
        [&manifest["features"]["slash_commands"][0]["url"], &manifest["settings"]["interactivity"]["request_url"]];
    let paths = addresses.map(|url| url.as_str().unwrap().strip_prefix("https://tidegate.example.com").unwrap());
    assert_eq!(paths, ["/v1/slack/commands", "/v1/slack/interactions"]);

    let slack = Slack::start().await;
    slack.group("S0614TZR7", &[CLEO]);
    let outside = Outside::start(page.raw("checkout.yaml"), Behaviour::Good).await;
    let data = outside.files.at("own");
    let config = format!("{}[database]\ndata_dir = \"{data}\"\n{}\n", outside.config(), page.raw("people.toml"));
    let set = variables(&slack);
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (&**name, &**value)).collect();
    outside.files.write("tidegate.toml", &config);
    let path = outside.files.path("tidegate.toml");
    let shell = |text: String, server: String| {
        let directory = path.parent().unwrap().to_owned();
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().unwrap().to_owned();
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &text]).current_dir(directory).envs(set.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.env("PATH", format!("{}:/usr/bin:/bin", program.display())).env("TIDEGATE_SERVER", server);
        crate::program::finish(command)
    };
    let looked = shell(page.raw("doctor").to_owned(), String::new()).await;
    for said in [
        "the token is tidegate's in workspace Shop",
        "everybody who is asked in Slack is known there",
        "#deploys can be told",
    ] {
        assert!(looked.stdout.contains(said), "{looked:?}");
    }
    let daemon = outside.controller(&config, &set).await;
    let load = daemon.api.load();
    let id = daemon.api.start_rollout().await;
    question(&slack, &id).await;
    shell(page.raw("approve").to_owned(), daemon.api.url("api")).await.expect(0);
    assert_eq!(daemon.api.end(&id).await["phase"], "succeeded");
    load.stop().await;
    page.done();
}
