//! `tidegate local` and `tidegate demo`: processes that stay.

use super::args::{DemoArguments, ListenArguments, LocalArguments, Scenario, ServiceArguments};
use super::rollout::same_place;
use super::screen::{Redrawn, block, line};
use super::stops::Stops;
use super::{Ended, FAILED, Failure, Output, counted};
use crate::api::client::Client;
use crate::app::{Addresses, Bound, LocalOptions, StartupError, start_local};
use crate::base::certificate::StandIn;
use crate::config::{API_PORT, Environment, certificates, hook_secrets, region, user};
use crate::demo::{self, DemoError, Happening, Played, Release, Stage, Summary};
use crate::rollout::view::RolloutView;
use serde_json::json;
use std::path::Path;

impl From<StartupError> for Failure {
    fn from(error: StartupError) -> Self {
        let failure = Self { code: FAILED, message: error.to_string(), hint: error.hint() };
        if error.is_usage() { failure.usage() } else { failure }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::Startup(error) => error.into(),
            DemoError::Client(error) => error.into(),
            DemoError::Service(_) | DemoError::Files(_) | DemoError::Silent { .. } => Self::new(error.to_string()),
        }
    }
}

impl From<ListenArguments> for Addresses {
    fn from(listen: ListenArguments) -> Self {
        let ListenArguments { api, appmesh, xds, egress, admin } = listen;
        Self { api, appmesh, xds, egress, admin }
    }
}

fn announce(addresses: &Addresses, output: Output) {
    for (name, address) in addresses.named() {
        if output.is_json() {
            output.json(&json!({"event": "listening", "name": name, "address": address.to_string()}));
        } else {
            tracing::info!(%address, "{name} listens");
        }
    }
}

/// Loopback only, since local mode asks for no token, and each its own.
fn check_loopback(listen: ListenArguments) -> Result<Addresses, Failure> {
    let addresses = Addresses::from(listen);
    if let Some((name, address)) = addresses.named().into_iter().find(|(_, address)| !address.ip().is_loopback()) {
        let message = format!("--{name} {address} is not a loopback address: local mode asks nobody for a token");
        return Err(Failure::new(message).hint("use an address of 127.0.0.0/8").usage());
    }
    match shared(&addresses) {
        None => Ok(addresses),
        Some([first, second, address]) => {
            let message = format!("--{first} and --{second} are both {address}");
            let hint = "give one of them another port (0 picks a free one); `--help` has the defaults";
            Err(Failure::new(message).hint(hint).usage())
        }
    }
}

/// Two flags that name one address, and the address.
fn shared(addresses: &Addresses) -> Option<[String; 3]> {
    let named = addresses.named();
    let twice = |at: usize| named[..at].iter().find(|(_, earlier)| *earlier == named[at].1 && earlier.port() != 0);
    (1..named.len()).find_map(|at| {
        twice(at).map(|(first, address)| [(*first).to_owned(), named[at].0.to_owned(), address.to_string()])
    })
}

fn as_node(text: Option<&str>) -> Result<Option<(String, String)>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match text.split_once('/') {
        Some((mesh, node)) if !mesh.is_empty() && !node.is_empty() && !node.contains('/') => {
            Ok(Some((mesh.to_owned(), node.to_owned())))
        }
        _ => Err(Failure::new(format!("--as {text}: not MESH/NODE")).hint("for example --as shop/checkout-v1").usage()),
    }
}

/// What stands in for certificates of ACM.
fn certificates(path: &Path) -> Result<Vec<StandIn>, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("--certificates {name} cannot be read: {error}")).hint("name an existing file").usage()
    })?;
    certificates::read(&name, &text).map_err(|errors| {
        let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Failure::new(format!("the certificates are not valid\n{all}")).usage()
    })
}

pub(super) async fn local(arguments: LocalArguments, output: Output, environment: &dyn Environment) -> Ended {
    let listen = check_loopback(arguments.listen)?;
    let stops = Stops::listen()?;
    let starting = start_local(LocalOptions {
        mesh: arguments.mesh,
        parameters: arguments.parameters.parameters.into_iter().collect(),
        overwrite_weights: arguments.weights,
        policies: arguments.policies.clone(),
        data_dir: arguments.data_dir,
        discovery: arguments.discovery,
        certificates: arguments.certificates.as_deref().map(certificates).transpose()?.unwrap_or_default(),
        as_node: as_node(arguments.as_node.as_deref())?,
        workers: arguments.workers.map_or(0, usize::from),
        region: region(environment),
        hooks: hook_secrets(environment),
        listen,
    });
    let bound = tokio::select! {
        // What has started is ended in good order.
        biased;
        bound = starting => bound?,
        // Nobody was told an address yet, so there is nothing to finish.
        () = stops.more_than(0) => return Ok(0),
    };
    announce(&bound.addresses, output);
    for address in bound.gateways.iter().filter(|_| output.is_json()) {
        output.json(&json!({"event": "listening", "name": "gateway", "address": address.to_string()}));
    }
    welcome(&bound, &arguments.policies, output);
    tokio::select! {
        () = stops.more_than(0) => {}
        () = bound.quit_requested() => {}
    }
    output.remark("stopping: requests under way finish, rollouts wait on disk; Ctrl-C once more stops at once");
    stops.unless_once_more(bound.drain(), "requests under way were cut, rollouts wait on disk", output).await
}

/// ` --server URL`, when the API is not where clients look for it.
fn server_flag(addresses: &Addresses) -> String {
    if addresses.api.port() == API_PORT { String::new() } else { format!(" --server http://{}", addresses.api) }
}

fn welcome(bound: &Bound, policies: &Path, output: Output) {
    for line in &bound.loaded.lines {
        output.remark(&format!("mesh: {line}"));
    }
    for problem in &bound.mesh_problems {
        output.remark(&format!("mesh: {problem}"));
    }
    if let Some(node) = &bound.unknown_node {
        output.remark(&format!("--as {node}: there is no such virtual node yet, so no service is visible to it"));
    }
    if bound.resumed > 0 {
        output.remark(&format!("{} taken up again", counted(bound.resumed, "live rollout")));
    }
    if !policies.is_dir() {
        output.remark(&format!("policies: there is no directory {} yet; --policies names another", policies.display()));
    }
    // Now, and not when somebody wants to release something.
    for problems in &bound.invalid_policies {
        output.remark(&format!("policies: {problems}"));
    }
    if output.is_json() {
        return;
    }
    let Addresses { api, appmesh, egress, .. } = bound.addresses;
    let gateways: String = bound.gateways.iter().map(|address| format!("  gateway:   http://{address}/\n")).collect();
    output.line(&format!(
        "tidegate is ready.\n  page:      http://{api}/\n  requests:  curl -H 'Host: SERVICE' http://{egress}/\n\
         {gateways}  rollouts:  tidegate rollout start POLICY{}\n  \
         policies:  {policies}\n  \
         mesh:      aws appmesh list-meshes --endpoint-url http://{appmesh}\n             \
         (any AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION)\nCtrl-C stops it.",
        server_flag(&bound.addresses),
        policies = policies.display(),
    ));
}

pub(super) async fn service(arguments: ServiceArguments) -> Ended {
    let ServiceArguments { listen, version_name, fail_share } = arguments;
    let settings = demo::service::Settings { listen, version: version_name, fail_share };
    demo::service::run(settings).await.map_err(|error| Failure::new(format!("cannot listen on {listen}: {error}")))?;
    Ok(0)
}

pub(super) async fn demo(arguments: DemoArguments, output: Output, environment: &dyn Environment) -> Ended {
    let listen = check_loopback(arguments.listen)?;
    let releases: &[Release] = match arguments.scenario {
        Scenario::Good => &[Release::Good],
        Scenario::Bad => &[Release::Bad],
        Scenario::All => &[Release::Good, Release::Bad],
    };
    let stays = !arguments.once && output.is_terminal();
    let stops = Stops::listen()?;
    let ended = tokio::select! {
        ended = on_stage(listen, releases, stays, &stops, output, environment) => ended?,
        // Dropping the work on the way ends the processes too: they die with their handles.
        () = stops.more_than(1) => None,
    };
    if ended.is_none() {
        output.remark("stopped");
    }
    Ok(ended.unwrap_or(if arguments.once { FAILED } else { 0 }))
}

/// Plays, and clears the stage whatever happened; `None` when it was asked to stop before the end.
async fn on_stage(
    listen: Addresses,
    releases: &[Release],
    stays: bool,
    stops: &Stops,
    output: Output,
    environment: &dyn Environment,
) -> Result<Option<u8>, Failure> {
    if !output.is_json() {
        output.line("Starting two services, a mesh, a proxy and a controller on this machine …");
    }
    // Not given up halfway: a stage that stands is cleared in good order, and it stands within a second.
    let mut stage = Stage::set_up(listen, region(environment)).await?;
    let quit = stage.quit_requested();
    let ended = tokio::select! {
        ended = play(&mut stage, releases, stays, output, environment) => ended.map(Some),
        () = stops.more_than(0) => Ok(None),
        () = quit => Ok(None),
    };
    stage.clear().await;
    ended
}

async fn play(
    stage: &mut Stage,
    releases: &[Release],
    stays: bool,
    output: Output,
    environment: &dyn Environment,
) -> Ended {
    let addresses = stage.addresses();
    announce(&addresses, output);
    if !output.is_json() {
        output.line(&format!("The page: http://{}/", addresses.api));
    }
    let client = Client::new(&format!("http://{}", addresses.api), &user(environment))?;
    let mut teller = Teller { output, screen: Redrawn::default(), shown: None };
    let summary = stage.play(releases, &client, |happening| teller.tell(happening)).await?;
    report(&summary, output);
    if stays {
        lines_to_paste(&addresses, output);
        // Ctrl-C ends this wait from outside.
        std::future::pending::<()>().await;
    }
    Ok(if summary.is_as_it_must() { 0 } else { FAILED })
}

/// Tells what happens: redrawn in a terminal, as lines elsewhere, as JSON lines for programs.
struct Teller {
    output: Output,
    screen: Redrawn,
    shown: Option<RolloutView>,
}

impl Teller {
    fn tell(&mut self, happening: &Happening<'_>) {
        match happening {
            Happening::Scene { name, text } if self.output.is_json() => {
                self.output.json(&json!({"event": "scenario", "name": name, "text": text}));
            }
            Happening::Scene { name, text } => {
                self.screen = Redrawn::default();
                self.shown = None;
                self.output.line(&format!("\n=== {name} release: {text} ===\n"));
            }
            Happening::Rollout(view) => self.rollout(view),
            Happening::Ended(played) if self.output.is_json() => {
                self.output.json(&json!({"event": "ended", "scenario": played}));
            }
            Happening::Ended(played) => self.output.line(&ended_line(played)),
        }
    }

    fn rollout(&mut self, view: &RolloutView) {
        if self.output.is_terminal() {
            return self.output.raw(&self.screen.draw(&block(view, demo::now_ms())));
        }
        if self.shown.as_ref().is_some_and(|shown| same_place(shown, view)) {
            return;
        }
        self.shown = Some(view.clone());
        if self.output.is_json() {
            self.output.json(&json!({"event": "rollout", "rollout": view}));
        } else {
            self.output.line(&line(view));
        }
    }
}

fn ended_line(played: &Played) -> String {
    let Played { name, outcome, canary_requests, failed_requests, .. } = played;
    let verdict = if played.as_it_must { "as it should" } else { "NOT as it should" };
    let mut text = format!(
        "\n{name}: {outcome}, {verdict}.\n{canary_requests} requests on the new version, {failed_requests} of them failed."
    );
    if let (Some(detect_ms), Some(rollback_ms)) = (played.detect_ms, played.rollback_ms) {
        text += &format!(
            "\nFirst failure to decision: {:.1} s.\nDecision to the last request on the new version: {rollback_ms} ms.",
            detect_ms as f64 / 1000.0
        );
    }
    text
}

fn report(summary: &Summary, output: Output) {
    if output.is_json() {
        output.json(summary);
    } else {
        output.line(&format!(
            "\n{} requests sent, {} lost by the proxy's own doing.",
            summary.requests, summary.lost_requests
        ));
    }
}

fn lines_to_paste(addresses: &Addresses, output: Output) {
    let Addresses { api, appmesh, egress, admin, .. } = addresses;
    let server = server_flag(addresses);
    output.line(&format!(
        "\nEverything is still running. In a browser: http://{api}/\nIn another terminal:\n  \
         curl -H 'Host: {}' http://{egress}/\n  \
         curl http://{admin}/stats/prometheus\n  \
         AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-east-1 \\\n    \
         aws appmesh describe-route --mesh-name demo --route-name checkout \\\n    \
         --virtual-router-name checkout-router --endpoint-url http://{appmesh}\n  \
         tidegate rollout list{server}\n  \
         tidegate rollout start checkout --revision again{server}\n\
         Ctrl-C ends it.",
        demo::SERVICE
    ));
}
