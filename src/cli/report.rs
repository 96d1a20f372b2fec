//! `tidegate rollout report`: reads the journal, whether a daemon runs on it or not.

use super::args::ReportArguments;
use super::journal::open;
use super::{Ended, Failure, Output};
use crate::app::report::report as made;
use crate::config::Environment;
use serde_json::json;

pub(super) async fn report(arguments: &ReportArguments, output: Output, environment: &dyn Environment) -> Ended {
    let store = open(&arguments.place, environment).await?;
    let id = &arguments.id;
    let page = made(store.as_ref(), id).await.map_err(|fault| Failure::new(fault.to_string()))?;
    let page = page.ok_or_else(|| {
        let hint = "`tidegate journal verify` shows the rollouts of this database";
        Failure::new(format!("there is no rollout `{id}` in the journal, and none of a policy of that name")).hint(hint)
    })?;
    let Some(path) = &arguments.file else {
        output.raw(&page);
        return Ok(0);
    };
    std::fs::write(path, &page)
        .map_err(|error| Failure::new(format!("{}: cannot be written: {error}", path.display())))?;
    if output.is_json() {
        output.json(&json!({"rollout": id, "file": path, "bytes": page.len()}));
    } else {
        output.line(&format!("{}: the report of {id}", path.display()));
    }
    Ok(0)
}
