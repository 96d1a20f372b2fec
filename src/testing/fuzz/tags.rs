//! Tags of routes and nodes, as anybody may write them.

use crate::mesh::snapshot::extension::{Extensions, Flaw, NodeExtensions};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Tags of one input that are read: more than there are of both kinds.
const TAGS_MAX: usize = 16;

/// Names of targets in the first line, then a tag in each: its key, a blank, its value. Each tag is read or said to be wrong, at
/// a place that it has, and what is read is the same after it went to a proxy.
pub fn tags(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let targets: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let tags = lines.take(TAGS_MAX).map(|line| line.split_once(' ').unwrap_or((line, "")));
    for (key, value) in tags {
        let ours = key.starts_with("tidegate:");
        let (route, flaws) = Extensions::read([(key, value)], &targets);
        assert_eq!(route.is_some(), ours && flaws.is_empty(), "{key} {value}: {flaws:?}");
        told(&flaws, value);
        let (node, flaws) = NodeExtensions::read([(key, value)]);
        assert_eq!(!node.is_empty(), ours && flaws.is_empty(), "{key} {value}: {flaws:?}");
        told(&flaws, value);
        goes_there(&route);
        goes_there(&node);
    }
}

fn told(flaws: &[Flaw], value: &str) {
    for flaw in flaws {
        assert!(!flaw.message.is_empty() && flaw.to_string().starts_with(&flaw.tag));
        assert!(flaw.at.is_none_or(|at| (1..=value.chars().count() + 1).contains(&at)), "{flaw} of {value:?}");
    }
}

fn goes_there<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(read: &T) {
    let json = serde_json::to_vec(read).unwrap_or_default();
    let back: Result<T, String> = serde_json::from_slice(&json).map_err(|error| error.to_string());
    assert_eq!(back.as_ref(), Ok(read), "it is another one over there");
}
