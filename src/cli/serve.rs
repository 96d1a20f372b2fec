//! `tidegate serve`: reads the configuration, runs the daemon until it is asked to stop.

use super::args::ServeArguments;
use super::stops::Stops;
use super::{Ended, Failure, Output};
use crate::app::{Serving, start_serve};
use crate::config::daemon::{DatabaseConfig, Loaded, load};
use crate::config::{ConfigError, Environment};
use crate::runner::lease::Turn;
use serde_json::json;
use std::path::Path;
use tokio::sync::watch;

/// Reads and checks a configuration file.
pub(super) fn read_config(path: &Path, environment: &dyn Environment) -> Result<Loaded, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = "--config names the file; docs/operations.md has one with every key";
        Failure::new(format!("the configuration {name} cannot be read: {error}")).hint(hint).usage()
    })?;
    load(&name, &text, environment).map_err(|errors| {
        let all = errors.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("\n");
        Failure::new(format!("the configuration is not valid\n{all}")).usage()
    })
}

pub(super) async fn serve(arguments: ServeArguments, output: Output, environment: &dyn Environment) -> Ended {
    let Loaded { config, effective } = read_config(&arguments.config, environment)?;
    if arguments.print_config {
        output.line(effective.trim_end());
        return Ok(0);
    }
    for line in effective.lines().filter(|line| !line.is_empty()) {
        tracing::info!(target: "tidegate::config", "{line}");
    }
    if config.mesh.lease.is_none() {
        tracing::warn!(
            "mesh.lease is off: while no daemon drives, a split of the traffic stays as it is, that of a bad release too; set a span \
             such as \"2m\" where the mesh knows leases (docs/operations.md, When no daemon drives)"
        );
    }
    let shared = matches!(config.database, DatabaseConfig::Postgres(_));
    let policies = config.policies.clone();
    let stops = Stops::listen()?;
    let serving = tokio::select! {
        serving = start_serve(config) => serving?,
        // Nobody was told an address yet, so there is nothing to finish.
        () = stops.more_than(0) => return Ok(0),
    };
    welcome(&serving, &policies, output);
    let told = shared.then(|| tokio::spawn(tell_turns(serving.turn.clone(), output)));
    stops.more_than(0).await;
    if let Some(told) = told {
        told.abort();
    }
    output.remark("stopping: requests under way finish, rollouts wait in the database; once more stops at once");
    stops.unless_once_more(serving.drain(), "requests under way were cut, rollouts wait in the database", output).await
}

fn welcome(serving: &Serving, policies: &Path, output: Output) {
    let address = serving.api;
    if output.is_json() {
        for (name, address) in [("api", Some(address)), ("appmesh", serving.appmesh), ("xds", serving.xds)] {
            if let Some(address) = address {
                output.json(&json!({"event": "listening", "name": name, "address": address.to_string()}));
            }
        }
    } else {
        output.line(&format!("tidegate is ready: the API is at {}://{address}", serving.scheme));
        if let Some(address) = serving.appmesh {
            output.line(&format!("the App Mesh API is at {}://{address}", serving.mesh_scheme));
        }
        if let Some(address) = serving.xds {
            output.line(&format!("Envoys are configured at {}://{address}", serving.mesh_scheme));
        }
    }
    if !policies.is_dir() {
        output.remark(&format!("policies: there is no directory {} yet (policies.directory)", policies.display()));
    }
    for problems in &serving.invalid_policies {
        output.remark(&format!("policies: {problems}"));
    }
}

/// Says whenever another daemon takes over, or this one does.
async fn tell_turns(mut turn: watch::Receiver<Turn>, output: Output) {
    loop {
        let now = turn.borrow_and_update().clone();
        match &now {
            _ if output.is_json() => {
                let holder = match &now {
                    Turn::StandingBy { holder: Some(holder), .. } => Some(holder.id.clone()),
                    _ => None,
                };
                output.json(&json!({"event": "turn", "drives": matches!(now, Turn::Driving { .. }), "holder": holder}));
            }
            Turn::Driving { .. } => output.line("this daemon drives"),
            Turn::StandingBy { holder: Some(holder), .. } => output.line(&format!("standing by: {} drives", holder.id)),
            Turn::StandingBy { fault: Some(fault), .. } => output.remark(&format!("who drives is not known: {fault}")),
            Turn::StandingBy { .. } => {}
        }
        if turn.changed().await.is_err() {
            return;
        }
    }
}
