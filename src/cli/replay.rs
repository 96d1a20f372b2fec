//! `tidegate policy replay`: reads a recording, and prints what the policy would have done.

use super::args::{JournalPlace, ReplayArguments};
use super::journal::{inputs, open};
use super::simulate::compiled;
use super::{Ended, Failure, Output};
use crate::config::Environment;
use crate::simulate::engine::prepared;
use crate::simulate::recording::Recording;
use crate::simulate::replay::replay as replayed;
use crate::simulate::text;
use serde_json::json;
use std::path::Path;

mod cloudwatch;

/// A table is read whole: a million rows of full counts are smaller.
const TABLE_MAX_BYTES: u64 = 256 * 1024 * 1024;

pub(super) async fn replay(arguments: &ReplayArguments, output: Output, environment: &dyn Environment) -> Ended {
    let plan = compiled(&arguments.file, output)?;
    if arguments.cloudwatch {
        return cloudwatch::replay(&plan, arguments, output).await;
    }
    let (prepared, left_out) = prepared(&plan);
    let recording = match (&arguments.csv, &arguments.journal) {
        (Some(path), _) => table(path)?,
        (None, Some(id)) => {
            let place = JournalPlace { data_dir: arguments.data_dir.clone(), database: arguments.database };
            let store = open(&place, environment).await?;
            let rows = inputs(store.as_ref(), id).await?;
            let inputs: Vec<_> = rows.into_iter().map(|row| row.input).collect();
            Recording::of_journal(&inputs).map_err(|problem| Failure::new(format!("rollout {id}: {problem}")))?
        }
        (None, None) => return Err(Failure::new("nothing to replay: give --csv, --journal or --cloudwatch").usage()),
    };
    let moments = replayed(&prepared, &recording).map_err(Failure::new)?;
    if output.is_json() {
        output.json(&json!({"policy": plan.name, "readings": recording.samples.len(), "left_out": left_out, "moments": moments}));
        return Ok(0);
    }
    output.line(text::moments(&plan.name, &recording, &left_out, &moments).trim_end());
    Ok(0)
}

fn table(path: &Path) -> Result<Recording, Failure> {
    let name = path.display();
    let unreadable = |error: std::io::Error| Failure::new(format!("{name}: cannot be read: {error}")).usage();
    if std::fs::metadata(path).map_err(unreadable)?.len() > TABLE_MAX_BYTES {
        return Err(Failure::new(format!("{name}: more than {} MiB", TABLE_MAX_BYTES >> 20)).usage());
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Recording::of_csv(&text).map_err(|problem| Failure::new(format!("{name}: {problem}")).usage())
}
