//! `tidegate freeze`: stops every start and every step until it is lifted, or lists what is frozen.

use super::args::FreezeArguments;
use super::rollout::client;
use super::screen::plain;
use super::{Ended, Failure, Output};
use crate::api::client::{Client, segment};
use crate::api::wire::{FreezeBody, FreezeDone, FreezeEntry, FreezeList};
use crate::config::Environment;

pub(super) async fn run(options: FreezeArguments, output: Output, environment: &dyn Environment) -> Ended {
    let FreezeArguments { policy, all, reason, lift, server } = options;
    let client = client(&server, environment)?;
    if policy.is_none() && !all {
        if reason.is_some() || lift {
            let failure = Failure::new("what is meant: one policy, or everything?");
            return Err(failure.hint("name the policy, or say --all").usage());
        }
        return list(&client, output).await;
    }
    if lift {
        let address = policy.map_or_else(|| "/v1/freezes".to_owned(), |name| format!("/v1/freezes/{}", segment(&name)));
        let done: FreezeDone = client.delete(&address).await?;
        return told(&done, "lifted", output);
    }
    let Some(reason) = reason.filter(|reason| !reason.trim().is_empty()) else {
        let failure = Failure::new("a freeze needs a reason: whoever is held up reads it");
        return Err(failure.hint("add --reason TEXT; or --lift to lift one").usage());
    };
    let done: FreezeDone = client.post("/v1/freezes", &FreezeBody { policy, reason }).await?;
    told(&done, "frozen", output)
}

fn name(entry: &FreezeEntry) -> &str {
    entry.policy.as_deref().unwrap_or("everything")
}

fn told(done: &FreezeDone, what: &str, output: Output) -> Ended {
    if output.is_json() {
        output.json(done);
    } else {
        let FreezeDone { freeze, rollouts, .. } = done;
        let rollouts = match rollouts.as_slice() {
            [] => "no live rollout".to_owned(),
            some => some.join(", "),
        };
        output.line(&format!("{}: {what} ({}); {rollouts}", name(freeze), plain(&freeze.reason)));
    }
    for untold in &done.untold {
        output.remark(&format!("not told yet, which is tried again every few seconds: {untold}"));
    }
    // Whoever goes on after it must know that not everything stands still yet.
    Ok(u8::from(!done.untold.is_empty()))
}

async fn list(client: &Client, output: Output) -> Ended {
    let list: FreezeList = client.get("/v1/freezes").await?;
    if output.is_json() {
        output.json(&list);
        return Ok(0);
    }
    if list.freezes.is_empty() {
        output.remark("nothing is frozen; `tidegate freeze POLICY --reason TEXT` or `--all` freezes");
    }
    for entry in &list.freezes {
        let FreezeEntry { since, by, reason, .. } = entry;
        output.line(&format!("{}: frozen since {since} by {}: {}", name(entry), plain(&by.name), plain(reason)));
    }
    Ok(0)
}
