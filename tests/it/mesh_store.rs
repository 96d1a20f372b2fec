//! A mesh store in memory, for tests: keeps rows, and fails when told to.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tidegate::base::fault::Fault;
use tidegate::ports::{MeshRows, MeshStore, Saved};

/// Rows in memory.
#[derive(Default)]
pub(crate) struct FakeMeshStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<String, String>,
    failing: Option<Failing>,
    sequence: u64,
    /// Of the last change of each row.
    changed: BTreeMap<String, u64>,
    is_shared: bool,
}

/// How the next saves fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failing {
    /// Nothing is written.
    Before,
    /// Everything is written, but the answer is lost.
    After,
}

impl FakeMeshStore {
    /// Makes saves fail, or work again.
    pub(crate) fn fail(&self, failing: Option<Failing>) {
        self.inner.lock().unwrap().failing = failing;
    }

    /// Has several control planes write it.
    pub(crate) fn share(&self) {
        self.inner.lock().unwrap().is_shared = true;
    }

    /// All rows.
    pub(crate) fn rows(&self) -> BTreeMap<String, String> {
        self.inner.lock().unwrap().rows.clone()
    }
}

#[async_trait]
impl MeshStore for FakeMeshStore {
    fn is_shared(&self) -> bool {
        self.inner.lock().unwrap().is_shared
    }

    async fn load(&self) -> Result<MeshRows, Fault> {
        let inner = self.inner.lock().unwrap();
        let rows = inner.rows.iter().map(|(key, row)| (key.clone(), Some(row.clone()))).collect();
        Ok(MeshRows { sequence: inner.sequence, rows, is_all: true })
    }

    async fn since(&self, seen: u64) -> Result<MeshRows, Fault> {
        let inner = self.inner.lock().unwrap();
        let changed = inner.changed.iter().filter(|(_, number)| **number > seen);
        let rows = changed.map(|(key, _)| (key.clone(), inner.rows.get(key).cloned())).collect();
        Ok(MeshRows { sequence: inner.sequence, rows, is_all: false })
    }

    async fn save(&self, seen: u64, changes: Vec<(String, Option<String>)>) -> Result<Saved, Fault> {
        let mut inner = self.inner.lock().unwrap();
        if matches!(inner.failing, Some(Failing::Before)) {
            return Err(Fault::transient("fake", "told to fail"));
        }
        if inner.sequence != seen {
            return Ok(Saved::Behind);
        }
        inner.sequence += 1;
        let number = inner.sequence;
        for (key, row) in changes {
            inner.changed.insert(key.clone(), number);
            match row {
                Some(row) => drop(inner.rows.insert(key, row)),
                None => drop(inner.rows.remove(&key)),
            }
        }
        match inner.failing {
            None => Ok(Saved::Done(number)),
            Some(_) => Err(Fault::unknown("fake", "told to lose the answer")),
        }
    }
}
