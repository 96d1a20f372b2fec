//! `tidegate rollout …` and `tidegate health`: calls of the API, printed.

use super::args::{RolloutCommand, Server, Which};
use super::screen::{Redrawn, block, line, plain};
use super::{Ended, FAILED, Failure, Output, server_address};
use crate::api::client::{Client, Credentials, segment};
use crate::api::wire::{RolloutList, StartBody, VerbBody};
use crate::base::token::Token;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::config::{CA_FILE_VARIABLE, Environment, INSECURE_VARIABLE, TOKEN_VARIABLE, user};
use crate::rollout::view::RolloutView;
use std::time::Duration;

/// Time between looks while watching: quick enough to feel live, and one small query each.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A daemon that restarts is back within this time; a watcher waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn client(server: &Server, environment: &dyn Environment) -> Result<Client, Failure> {
    let address = server_address(server.server.as_deref(), environment);
    Ok(Client::with(&address, &user(environment), credentials(environment)?)?)
}

/// What the environment says of tokens and roots.
fn credentials(environment: &dyn Environment) -> Result<Credentials, Failure> {
    let set = |name| environment.get(name).filter(|value: &String| !value.is_empty());
    let token = match set(TOKEN_VARIABLE) {
        None => None,
        Some(text) => Some(Token::parse(text.trim()).ok_or_else(|| {
            // Not shown: it may be another secret.
            let failure =
                Failure::new(format!("{TOKEN_VARIABLE} is set and is no token: cut off, or mistyped")).usage();
            failure.hint("a token has 88 characters and begins with tg_; `tidegate token create` makes one")
        })?),
    };
    let ca_file = set(CA_FILE_VARIABLE).map(Into::into);
    Ok(Credentials { token, ca_file, insecure: set(INSECURE_VARIABLE).is_some_and(|value| value == "1") })
}

pub(super) async fn run(command: RolloutCommand, output: Output, environment: &dyn Environment) -> Ended {
    match command {
        RolloutCommand::Start { policy, to, image, revision, outside_windows, at, wait, wait_timeout_s, server } => {
            let client = client(&server, environment)?;
            let body = StartBody { policy, to, image, revision, outside_windows, at };
            let view: RolloutView = client.post("/v1/rollouts", &body).await?;
            if wait {
                let what = if view.phase == "pending" { "asked for" } else { "started" };
                output.remark(&format!("{what} {}", view.id));
                return watch(&client, &view.id, output, Some(Duration::from_secs(wait_timeout_s))).await;
            }
            show(&view, output);
            if !output.is_json() {
                output.remark(&format!("follow it: tidegate rollout watch {}", view.id));
            }
            Ok(0)
        }
        RolloutCommand::List(server) => list(&client(&server, environment)?, output).await,
        RolloutCommand::Get(which) => {
            let view = get(&client(&which.server, environment)?, &which.id).await?;
            show(&view, output);
            // On a terminal they are in the block.
            if let Some(fuses) = view.fuses.as_deref().filter(|_| !output.is_json() && !output.is_terminal()) {
                output.line(&format!("fuses: {}", plain(fuses)));
            }
            Ok(0)
        }
        RolloutCommand::Watch(which) => watch(&client(&which.server, environment)?, &which.id, output, None).await,
        RolloutCommand::Report(arguments) => super::report::report(&arguments, output, environment).await,
        RolloutCommand::Retry { which, outside_windows } => {
            let body = VerbBody { outside_windows, ..VerbBody::default() };
            verb(&which, "retry", body, output, environment).await
        }
        RolloutCommand::Resume(which) => verb(&which, "resume", VerbBody::default(), output, environment).await,
        RolloutCommand::Pause { which, reason } => {
            verb(&which, "pause", VerbBody { reason, ..VerbBody::default() }, output, environment).await
        }
        RolloutCommand::Promote { which, full, reason } => {
            verb(&which, "promote", VerbBody { reason, full, ..VerbBody::default() }, output, environment).await
        }
        RolloutCommand::Approve { which, person, reason } => {
            verb(&which, "approve", VerbBody { reason, person, ..VerbBody::default() }, output, environment).await
        }
        RolloutCommand::Reject { which, person, reason } => {
            verb(&which, "reject", VerbBody { reason, person, ..VerbBody::default() }, output, environment).await
        }
        RolloutCommand::Abort { which, reason } => {
            verb(&which, "abort", VerbBody { reason, ..VerbBody::default() }, output, environment).await
        }
    }
}

async fn verb(which: &Which, verb: &str, body: VerbBody, output: Output, environment: &dyn Environment) -> Ended {
    let client = client(&which.server, environment)?;
    let path = format!("/v1/rollouts/{}/{verb}", segment(&which.id));
    let view: RolloutView = client.post(&path, &body).await?;
    show(&view, output);
    Ok(0)
}

pub(super) async fn health(server: Server, output: Output, environment: &dyn Environment) -> Ended {
    let client = client(&server, environment)?;
    let text = client.text("/readyz").await?;
    if !text.starts_with("ready") {
        return Err(client.stranger("does not answer as a daemon that is ready").into());
    }
    if output.is_json() {
        output.json(&serde_json::json!({"ready": true}));
    } else {
        output.line(text.trim_end());
    }
    Ok(0)
}

async fn get(client: &Client, id: &str) -> Result<RolloutView, Failure> {
    Ok(client.get(&format!("/v1/rollouts/{}", segment(id))).await?)
}

fn show(view: &RolloutView, output: Output) {
    if output.is_json() {
        output.json(view);
    } else if output.is_terminal() {
        output.raw(&block(view, SystemClock.now().0));
    } else {
        output.line(&line(view));
    }
}

async fn list(client: &Client, output: Output) -> Ended {
    let list: RolloutList = client.get("/v1/rollouts").await?;
    if output.is_json() {
        output.json(&list);
        return Ok(0);
    }
    let width = list.rollouts.iter().map(|view| view.policy.chars().count()).max().unwrap_or(0).max(6);
    if list.rollouts.is_empty() {
        output.remark("no rollouts yet; `tidegate rollout start POLICY` starts one");
    } else {
        output.line(&format!("{:<19} {:<width$} {:<17} {:>6}  {}", "ID", "POLICY", "PHASE", "CANARY", "STARTED"));
    }
    for view in &list.rollouts {
        let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
        output.line(&format!(
            "{:<19} {:<width$} {:<17} {weight:>4} %  {}",
            view.id, view.policy, view.phase, view.started_at
        ));
    }
    Ok(0)
}

/// Follows a rollout to its end; the exit code says which.
async fn watch(client: &Client, id: &str, output: Output, most: Option<Duration>) -> Ended {
    let mut screen = Redrawn::default();
    let began = Monotonic::now();
    let mut shown: Option<RolloutView> = None;
    let mut last_answer = Monotonic::now();
    // The first look fixes which rollout it is: a policy's name may mean another one later.
    let id = get(client, id).await?.id;
    loop {
        match get(client, &id).await {
            Ok(view) => {
                last_answer = Monotonic::now();
                redraw(&view, shown.as_ref(), &mut screen, output);
                if view.finished || view.phase == "stuck" && most.is_some() {
                    return Ok(exit_code(&view.phase));
                }
                // Its end is settled; what follows is only that a slot without traffic is scaled in.
                if let ("cleaning", Some(outcome), true) = (view.phase.as_str(), &view.outcome, most.is_some()) {
                    return Ok(exit_code(outcome));
                }
                shown = Some(view);
            }
            Err(failure) if last_answer.elapsed() > PATIENCE => return Err(failure),
            Err(_) => {}
        }
        if most.is_some_and(|most| began.elapsed() >= most) {
            output.remark("timed out waiting; the rollout goes on");
            return Ok(5);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// In a terminal the block is redrawn (its countdown runs); elsewhere a line is printed when phase or weight changed.
fn redraw(view: &RolloutView, shown: Option<&RolloutView>, screen: &mut Redrawn, output: Output) {
    if output.is_terminal() {
        return output.raw(&screen.draw(&block(view, SystemClock.now().0)));
    }
    if shown.is_some_and(|shown| same_place(shown, view)) {
        return;
    }
    if output.is_json() { output.json(view) } else { output.line(&line(view)) }
}

pub(crate) fn same_place(a: &RolloutView, b: &RolloutView) -> bool {
    a.phase == b.phase && a.weights == b.weights && a.step == b.step && a.trouble == b.trouble
}

fn exit_code(phase: &str) -> u8 {
    match phase {
        "succeeded" => 0,
        "rolled_back" => 3,
        "aborted" => 4,
        _ => FAILED,
    }
}
