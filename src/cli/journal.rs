//! `tidegate journal verify|export`: reads the database, whether a daemon runs on it or not.

use super::args::{JournalCommand, JournalPlace};
use super::{Ended, FAILED, Failure, Output, counted};
use crate::app::{read_journal, read_shared_journal};
use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::base::secret::Redacted;
use crate::config::{DATABASE_VARIABLE, Environment};
use crate::ports::{Journal, JournalRow};
use crate::runner::verify::{Verified, verify};
use serde_json::json;
use std::sync::Arc;

/// Rollouts looked at: all that a daemon of one team makes in years.
const ROLLOUTS_MAX: u32 = 1_000_000;

pub(super) async fn run(command: JournalCommand, output: Output, environment: &dyn Environment) -> Ended {
    let (JournalCommand::Verify(place) | JournalCommand::Export(place)) = &command;
    let store = open(place, environment).await?;
    let ended = match command {
        JournalCommand::Verify(_) => verify_all(store.as_ref(), output).await,
        JournalCommand::Export(_) => export(store.as_ref(), output).await,
    };
    ended.map_err(|fault| Failure::new(fault.to_string()))
}

pub(super) async fn open(place: &JournalPlace, environment: &dyn Environment) -> Result<Arc<dyn Journal>, Failure> {
    if place.database {
        let url = environment.get(DATABASE_VARIABLE).filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| Failure::new(format!("{DATABASE_VARIABLE} is not set")).usage())?;
        let store = read_shared_journal(&Redacted::new(url)).await;
        return store.map_err(|error| Failure::new(error.to_string()));
    }
    let data_dir = &place.data_dir;
    if !data_dir.is_dir() {
        let message = format!("there is no data directory {}: no daemon has run with it here", data_dir.display());
        return Err(Failure::new(message).hint("say where it is with --data-dir"));
    }
    let store = read_journal(data_dir).await;
    store.map_err(|error| Failure::new(error.to_string()).hint("say where it is with --data-dir"))
}

/// Every input of a rollout, by its identifier.
pub(super) async fn inputs(store: &dyn Journal, id: &str) -> Result<Vec<JournalRow>, Failure> {
    let rows = store.inputs(&RolloutId(id.to_owned())).await.map_err(|fault| Failure::new(fault.to_string()))?;
    if rows.is_empty() {
        let hint = "`tidegate rollout list` shows identifiers, and `tidegate journal verify` those of this database";
        return Err(Failure::new(format!("there is no rollout `{id}` in the journal")).hint(hint));
    }
    Ok(rows)
}

async fn verify_all(store: &dyn Journal, output: Output) -> Result<u8, Fault> {
    let rollouts = store.list(ROLLOUTS_MAX).await?;
    let mut differ = 0;
    for stored in &rollouts {
        let id = &stored.state.id;
        let (matches, text) = match verify(store, id).await? {
            Verified::Matches { inputs } => (true, format!("{inputs} inputs lead to the stored state")),
            Verified::OtherEngine { version } => (true, format!("written by engine version {version}: not compared")),
            Verified::Differs { problem } => (false, problem),
        };
        differ += u32::from(!matches);
        if output.is_json() {
            output.json(&json!({"rollout": id.0, "policy": stored.plan.name, "verified": matches, "detail": text}));
        } else {
            output.line(&format!("{} {} {}: {text}", if matches { "ok  " } else { "BAD " }, id, stored.plan.name));
        }
    }
    if !output.is_json() {
        output.line(&format!("{}, {differ} differ", counted(rollouts.len(), "rollout")));
    }
    Ok(if differ == 0 { 0 } else { FAILED })
}

async fn export(store: &dyn Journal, output: Output) -> Result<u8, Fault> {
    for stored in store.list(ROLLOUTS_MAX).await? {
        for row in store.inputs(&stored.state.id).await? {
            output
                .json(&json!({"rollout": stored.state.id.0, "engine_version": row.engine_version, "input": row.input}));
        }
    }
    Ok(0)
}
