//! What a slot's process is started with, and the file in which that outlives the daemon.

use crate::base::fault::Fault;
use crate::base::weight::Slot;
use crate::policy::plan::ProcessTarget;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The name that faults are reported under.
pub(super) const SOURCE: &str = "process";

/// What is kept of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What it should run; `None` for nothing.
    pub(super) wanted: Option<Wanted>,
    /// Processes that were started in it, until their end was seen: what should run among them.
    pub(super) started: Vec<Started>,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.started.is_empty()
    }
}

/// A process that was, or was about to be, started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    /// In its environment.
    pub(super) token: String,
    /// Its number and the time of its start in ticks since the machine's: together they never come again. `None` while it
    /// is about to be started, or where the system does not tell.
    pub(super) process: Option<(u32, u64)>,
}

/// What a slot should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// Rollout that wants it; the same one twice is one start.
    pub(super) rollout: String,
    /// What is released, for people.
    pub(super) revision: String,
    /// In the environment of the process, so that another daemon knows it again.
    pub(super) token: String,
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) port: u16,
}

impl Wanted {
    /// With every placeholder filled in.
    pub(super) fn of(
        target: &ProcessTarget,
        slot: Slot,
        rollout: &str,
        (image, revision): (&str, &str),
        token: String,
    ) -> Self {
        let (node, port) = (&target.nodes[slot.index()], target.ports[slot.index()]);
        let fill = |text: &String| {
            // One pass over the text: what is filled in is not looked at again.
            let known = [("{port}", port.to_string()), ("{node}", node.clone())];
            let known = known.into_iter().chain([("{revision}", revision.to_owned()), ("{image}", image.to_owned())]);
            filled(text, &known.collect::<Vec<_>>())
        };
        Self {
            rollout: rollout.to_owned(),
            revision: revision.to_owned(),
            token,
            command: target.command.iter().map(fill).collect(),
            env: target.env.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            port,
        }
    }

    /// What it is called in a state: a rollout's, so that the same revision twice is told apart.
    pub(super) fn name(&self) -> String {
        format!("{} of {}", self.revision, self.rollout)
    }
}

fn filled(text: &str, known: &[(&str, String)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out += before;
        match known.iter().find(|(word, _)| from.starts_with(word)) {
            Some((word, value)) => {
                out += value;
                rest = &from[word.len()..];
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out + rest
}

/// What is kept of every slot, by its node; what cannot be read is a fault, since two processes would be worse.
pub(super) fn load(directory: &Path) -> Result<BTreeMap<String, Kept>, Fault> {
    let failed = |error: &dyn std::fmt::Display| {
        Fault::permanent(SOURCE, format!("what processes ran cannot be read in {}: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let kept = serde_json::from_str(&text).map_err(|error| failed(&format!("{}: {error}", path.display())))?;
        let node = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.insert(node, kept);
    }
    Ok(found)
}

/// Writes what is kept of a slot: all of it or nothing, on disk when this returns.
pub(super) fn save(directory: &Path, node: &str, kept: &Kept) -> Result<(), Fault> {
    let path = directory.join(format!("{node}.json"));
    let write = || {
        if kept.is_empty() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            let new = directory.join(format!("{node}.new"));
            let mut file = std::fs::File::create(&new)?;
            file.write_all(serde_json::to_string_pretty(kept)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
        }
        std::fs::File::open(directory)?.sync_all()
    };
    write().map_err(|error| Fault::transient(SOURCE, format!("{} cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> ProcessTarget {
        ProcessTarget {
            nodes: ["a".into(), "b".into()],
            command: vec!["./server".into(), "--version={revision}".into(), "{image} on {node}:{port}".into()],
            env: [("PORT".to_owned(), "{port}".to_owned())].into(),
            ports: [9001, 9002],
            first: "v1".into(),
        }
    }

    #[test]
    fn placeholders_are_filled_in_once() {
        let wanted = Wanted::of(&target(), Slot::Second, "r-1", ("{port}", "v2"), "t".into());
        assert_eq!(wanted.command, ["./server", "--version=v2", "{port} on b:9002"]);
        assert_eq!((&wanted.env["PORT"], wanted.port), (&"9002".to_owned(), 9002));
        assert_eq!(filled("{ {x} {", &[]), "{ {x} {");
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().expect("a directory");
        let wanted = Wanted::of(&target(), Slot::First, "r-1", ("i", "v2"), "t".into());
        assert_eq!(load(directory.path()), Ok(BTreeMap::new()));
        let started = vec![Started { token: "t".into(), process: Some((7, 9)) }];
        let kept = Kept { wanted: Some(wanted), started: started.clone() };
        save(directory.path(), "a", &kept).expect("written");
        assert_eq!(load(directory.path()), Ok([("a".to_owned(), kept)].into()));
        let ending = Kept { wanted: None, started };
        save(directory.path(), "a", &ending).expect("written");
        assert_eq!(load(directory.path()), Ok([("a".to_owned(), ending)].into()));
        save(directory.path(), "a", &Kept::default()).expect("removed");
        save(directory.path(), "a", &Kept::default()).expect("nothing to remove");
        assert_eq!(load(directory.path()), Ok(BTreeMap::new()));
        std::fs::write(directory.path().join("b.json"), "{").expect("written");
        assert!(load(directory.path()).is_err_and(|fault| fault.message.contains("b.json")));
    }
}
