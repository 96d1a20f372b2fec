//! Rows as text: the JSON form of plans, states, inputs and effects, with a format number.
//!
//! The day a stored shape must change, the old one moves here with an up-converter; readers of this file then see which
//! versions of the database a release can open.

use crate::base::fault::Fault;
use crate::policy::plan::Plan;
use crate::rollout::effect::Effect;
use crate::rollout::event::Input;
use crate::rollout::state::State;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Format of plan and state rows written by this release.
pub const FORMAT: i64 = 1;

/// JSON text of a value that is stored.
///
/// # Errors
/// A permanent fault; only a value that JSON cannot hold can cause it, and no stored type has one.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value)
        .map_err(|error| Fault::permanent("store", format!("cannot be written as JSON: {error}")))
}

fn from_text<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        Fault::permanent(
            "store",
            format!("the {what} cannot be read: {error}; was the database edited, or written by another version?"),
        )
    })
}

/// A stored plan.
///
/// # Errors
/// A permanent fault when the format is not known or the text is damaged.
pub fn plan(format: i64, text: &str) -> Result<Plan, Fault> {
    known(format)?;
    from_text("plan", text)
}

/// A stored state.
///
/// # Errors
/// A permanent fault when the format is not known or the text is damaged.
pub fn state(format: i64, text: &str) -> Result<State, Fault> {
    known(format)?;
    from_text("rollout's state", text)
}

/// A journaled input.
///
/// # Errors
/// A permanent fault when the text is damaged.
pub fn input(text: &str) -> Result<Input, Fault> {
    from_text("journal row", text)
}

/// A stored effect.
///
/// # Errors
/// A permanent fault when the text is damaged.
pub fn effect(text: &str) -> Result<Effect, Fault> {
    from_text("effect", text)
}

/// Something stored of what came from outside.
///
/// # Errors
/// A permanent fault when the text is damaged.
pub fn of_trigger<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Fault> {
    from_text(what, text)
}

fn known(format: i64) -> Result<(), Fault> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Fault::permanent(
        "store",
        format!(
            "a row has format {format}, this release knows {FORMAT}; run the release that wrote it, or a newer one"
        ),
    ))
}
