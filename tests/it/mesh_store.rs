//! A mesh store in memory, for tests: keeps rows, and fails when told to.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tidegate::base::fault::Fault;
use tidegate::ports::MeshStore;

/// Rows in memory.
#[derive(Default)]
pub(crate) struct FakeMeshStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<String, String>,
    failing: Option<Failing>,
    saves: Vec<Vec<String>>,
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

    /// All rows.
    pub(crate) fn rows(&self) -> BTreeMap<String, String> {
        self.inner.lock().unwrap().rows.clone()
    }

    /// Row keys of every save that was tried.
    pub(crate) fn saves(&self) -> Vec<Vec<String>> {
        self.inner.lock().unwrap().saves.clone()
    }
}

#[async_trait]
impl MeshStore for FakeMeshStore {
    async fn load(&self) -> Result<Vec<(String, String)>, Fault> {
        Ok(self.rows().into_iter().collect())
    }

    async fn save(&self, changes: Vec<(String, Option<String>)>) -> Result<(), Fault> {
        let mut inner = self.inner.lock().unwrap();
        inner.saves.push(changes.iter().map(|(key, _)| key.clone()).collect());
        if matches!(inner.failing, Some(Failing::Before)) {
            return Err(Fault::transient("fake", "told to fail"));
        }
        for (key, row) in changes {
            match row {
                Some(row) => drop(inner.rows.insert(key, row)),
                None => drop(inner.rows.remove(&key)),
            }
        }
        match inner.failing {
            None => Ok(()),
            Some(_) => Err(Fault::unknown("fake", "told to lose the answer")),
        }
    }
}
