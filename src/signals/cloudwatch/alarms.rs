//! States of alarms, asked for together for all rollouts. Pure.
//!
//! An alarm says how things are now, and keeps no series: its point is of the time of asking.

use super::fault::SOURCE;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::CloudwatchQuery;
use crate::ports::SignalPoint;
use crate::signals::{Answer, Asked};
use aws_sdk_cloudwatch::types::StateValue;
use std::collections::BTreeMap;

/// A state that was read so long ago is still that of now: CloudWatch evaluates an alarm every 10 s at most.
const FRESH: Millis = Millis::from_seconds(5);
/// Nobody asks about an alarm any more when nobody did for so long: gates ask every five minutes at least.
const KEPT: Millis = Millis::from_seconds(600);
/// Alarms that are kept; an account has 5,000 unless it asks for more.
const MOST_KNOWN: usize = 20_000;

/// Alarms that somebody asks about.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    asked: Timestamp,
    /// When it was looked at, and what was found: no state where there is no such alarm.
    found: Option<(Timestamp, Result<Option<StateValue>, Fault>)>,
}

impl Known {
    fn found_by(&self, now: Timestamp) -> Option<&Result<Option<StateValue>, Fault>> {
        let (at, found) = self.found.as_ref()?;
        (at.0 <= now.0 && now.since(*at) < FRESH).then_some(found)
    }
}

/// The alarm that a question is about; `None` of one whose answer could not be new.
fn alarm<'a>(asked: &Asked<'a, CloudwatchQuery>) -> Option<&'a str> {
    match asked.query {
        CloudwatchQuery::Alarm { name } if asked.now > asked.after => Some(name),
        CloudwatchQuery::Alarm { .. } | CloudwatchQuery::Metric { .. } | CloudwatchQuery::Expression { .. } => None,
    }
}

impl Alarms {
    /// Notes what is asked, so that the next look brings it.
    pub(super) fn note(&mut self, asked: &[Asked<'_, CloudwatchQuery>]) {
        for (name, now) in asked.iter().filter_map(|asked| Some((alarm(asked)?, asked.now))) {
            if self.known.len() < MOST_KNOWN || self.known.contains_key(name) {
                let known = self.known.entry(name.to_owned()).or_insert(Known { asked: now, found: None });
                known.asked = known.asked.max(now);
            }
        }
    }

    /// The answer to a question about an alarm, where one is known.
    pub(super) fn answer(&self, asked: &Asked<'_, CloudwatchQuery>) -> Option<Answer> {
        let Some(name) = alarm(asked) else { return Some(Ok(Vec::new())) };
        let found = self.known.get(name).map(|known| known.found_by(asked.now));
        match found {
            None if self.known.len() >= MOST_KNOWN => {
                Some(Err(Fault::transient(SOURCE, format!("more than {MOST_KNOWN} alarms are asked about"))))
            }
            None | Some(None) => None,
            Some(Some(Ok(state))) => Some(point(name, state.as_ref(), asked.now)),
            Some(Some(Err(fault))) => Some(Err(fault.clone())),
        }
    }

    /// Names of all alarms that somebody asks about and of which nothing fresh is known.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<String> {
        self.known.retain(|_, known| now.since(known.asked) <= KEPT);
        let due = self.known.iter().filter(|(_, known)| known.found_by(now).is_none());
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Takes in what was found of some alarms at `now`.
    pub(super) fn take(&mut self, names: &[String], found: Result<Vec<(String, StateValue)>, Fault>, now: Timestamp) {
        let found = found.map(|states| states.into_iter().collect::<BTreeMap<_, _>>());
        for name in names {
            let state = found.as_ref().map(|states| states.get(name).cloned()).map_err(Clone::clone);
            if let Some(known) = self.known.get_mut(name) {
                known.found = Some((now, state));
            }
        }
    }
}

fn point(name: &str, state: Option<&StateValue>, now: Timestamp) -> Answer {
    let point = |value| Ok(vec![SignalPoint::of(now, value)]);
    match state {
        Some(StateValue::Alarm) => point(1.0),
        Some(StateValue::Ok) => point(0.0),
        Some(StateValue::InsufficientData) => Ok(Vec::new()),
        Some(other) => {
            Err(Fault::permanent(SOURCE, format!("alarm {name} is in the state {other}, which is none that is known")))
        }
        None => {
            let todo = "create it, or correct `cloudwatch.alarm`";
            Err(Fault::permanent(SOURCE, format!("there is no alarm {name} in this account and region: {todo}")))
        }
    }
}
