//! `tidegate mesh apply`: the plan, then its changes one by one.

use super::{Planned, count, planned, show};
use crate::api::wire::RolloutList;
use crate::cli::args::{MeshApply, Server};
use crate::cli::{Ended, FAILED, Failure, Output, rollout, server_address};
use crate::config::Environment;
use crate::mesh::client::ClientError;
use crate::mesh::document::{Deed, Wish, one_by_one};
use crate::mesh::model::{Change, Key, Kind, Resource};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::IsTerminal;

impl Planned {
    /// The changes in an order that the endpoint takes.
    pub(super) fn in_order(&self) -> Result<Vec<Change>, Failure> {
        one_by_one(&self.state, &self.plan.changes, &self.context).map_err(|stuck| {
            let why: Vec<String> =
                stuck.left.iter().map(|(key, error)| format!("  {}: {error}", key.describe())).collect();
            let message = format!("the changes fit together, but the API takes one at a time:\n{}", why.join("\n"));
            Failure::new(message).hint("apply a state in between first, for example routes with ports before listeners")
        })
    }
}

pub(super) async fn apply(arguments: MeshApply, output: Output, environment: &dyn Environment) -> Ended {
    let MeshApply { files, weights, prune, yes, endpoint, server } = arguments;
    let wish = Wish { overwrite_weights: weights, prune };
    let planned = planned(&files, wish, &endpoint, environment).await?;
    show::plan(&planned, output);
    if planned.plan.changes.is_empty() {
        return Ok(0);
    }
    let order = planned.in_order()?;
    if weights || prune {
        refuse_under_rollout(&planned, wish, &server, output, environment).await?;
    }
    let asks = !yes && output.is_terminal() && std::io::stdin().is_terminal();
    if asks && !confirmed(&planned, output) {
        return Err(Failure::new("not confirmed: nothing was applied"));
    }
    carry_out(&planned, &order, output).await
}

/// Weights that a rollout is moving are its own. Whether one is, only its daemon knows; that none can be asked is no
/// reason to refuse, because a mesh need not have one.
async fn refuse_under_rollout(
    planned: &Planned,
    wish: Wish,
    server: &Server,
    output: Output,
    environment: &dyn Environment,
) -> Result<(), Failure> {
    let is_old_route = |key: &Key| key.kind == Kind::Route && planned.state.get(key).is_some();
    // Pruning by itself touches no weights, but a route that goes takes them along.
    let entries = planned.plan.entries.iter();
    let entries = entries.filter(|entry| wish.overwrite_weights || entry.deed == Deed::Deleted).map(|entry| &entry.key);
    let routes: BTreeSet<String> = entries
        .filter(|key| is_old_route(key))
        .map(|Key { mesh, parent, name, .. }| format!("{mesh}/{parent}/{name}"))
        .collect();
    if routes.is_empty() {
        return Ok(());
    }
    let address = server_address(server.server.as_deref(), environment);
    let listed: Result<RolloutList, _> = rollout::client(server, environment)?.get("/v1/rollouts").await;
    let list = match listed {
        Ok(list) => list,
        Err(error) => {
            output.remark(&format!("remark: nobody could say whether a rollout owns a route ({error})"));
            return Ok(());
        }
    };
    let flag = if wish.overwrite_weights { "--weights" } else { "--prune" };
    let owner = list.rollouts.iter().find(|rollout| !rollout.finished && routes.contains(&rollout.route));
    owner.map_or(Ok(()), |rollout| {
        let message = format!(
            "{flag} is refused: rollout {} of {} owns route {} ({}); nothing was applied",
            rollout.id, rollout.policy, rollout.route, rollout.phase
        );
        Err(Failure::new(message).hint(format!(
            "apply without {flag}, or end it first: tidegate rollout abort {} (asked was the daemon at {address})",
            rollout.id
        )))
    })
}

fn confirmed(planned: &Planned, output: Output) -> bool {
    let changes = count(planned.plan.changes.len(), "change");
    output.remark(&format!("Apply {changes} to {}? [y/N]", planned.client.url()));
    let mut line = String::new();
    let answered = std::io::stdin().read_line(&mut line).is_ok();
    answered && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

async fn carry_out(planned: &Planned, order: &[Change], output: Output) -> Ended {
    let several = planned.plan.entries.iter().map(|entry| &entry.key.mesh).collect::<BTreeSet<_>>().len() > 1;
    for (at, (key, resource)) in order.iter().enumerate() {
        let old = planned.state.get(key).map(AsRef::as_ref);
        let (deed, done) = match (resource.as_deref(), old) {
            (None, _) => (Deed::Deleted, planned.client.delete(key).await),
            (Some(resource), None) => (Deed::Created, planned.client.create(resource).await),
            (Some(resource), Some(old)) => (Deed::Updated, update(planned, old, resource).await),
        };
        if let Err(error) = done {
            return stopped(planned, order, at, deed, error, output);
        }
        if output.is_json() {
            output.json(&json!({ "event": "applied", "resource": key.path(), "action": show::word(deed) }));
        } else {
            output.line(&format!("{}d {}", show::word(deed), show::name(key, several)));
        }
    }
    if output.is_json() {
        output.json(&json!({ "event": "summary", "applied": order.len(), "not_applied": [], "unsure": [] }));
    } else {
        output.line(&format!("done: {} at {}", count(order.len(), "change"), planned.client.url()));
    }
    Ok(0)
}

async fn update(planned: &Planned, old: &Resource, new: &Resource) -> Result<(), ClientError> {
    if old.spec != new.spec {
        planned.client.update(new).await?;
    }
    let tags = new.tags.iter().filter(|(name, value)| old.tags.get(*name) != Some(value));
    let tags = tags.map(|(name, value)| (name.clone(), value.clone())).collect();
    if old.tags == new.tags { Ok(()) } else { planned.client.tag(new, &tags).await }
}

/// Says what was done, what was not, and what is not known.
fn stopped(planned: &Planned, order: &[Change], at: usize, deed: Deed, error: ClientError, output: Output) -> Ended {
    let left: Vec<&Key> = order.iter().skip(at).map(|(key, _)| key).collect();
    if output.is_json() {
        let paths: Vec<String> = left.iter().map(|key| key.path()).collect();
        // The rest was not tried.
        let unsure: Vec<&String> = paths.iter().take(usize::from(error.is_unsure)).collect();
        output.json(&json!({ "event": "summary", "applied": at, "not_applied": paths, "unsure": unsure }));
    }
    let what = order.get(at).map(|(key, _)| key.describe()).unwrap_or_default();
    let verb = show::word(deed);
    let mut message = format!("could not {verb} {what} at {}: {}", planned.client.url(), error.message);
    if error.is_unsure {
        message += "\nwhether that was done is not known";
    }
    let names: Vec<String> = left.iter().map(|key| key.describe()).collect();
    message += &format!("\n{at} of {} done; not done: {}", count(order.len(), "change"), names.join(", "));
    let again = "what is done stays; the same apply can be run again and does only what is left";
    let hint = match error.hint {
        _ if error.is_conflict() => format!("it was changed after it was read, perhaps by a rollout: {again}"),
        Some(hint) => format!("{hint}; {again}"),
        None => again.to_owned(),
    };
    Err(Failure { code: FAILED, message, hint: Some(hint) })
}
