//! Mesh files: the inputs of `aws appmesh create-*`, the outputs of `describe-*` and CloudFormation templates, in YAML or
//! JSON, loaded into a mesh.
//!
//! Pure. [`parse_all`] reads files into documents; [`plan`] says what would change and is all or nothing: one wrong
//! document and nothing changes. Everything that is wrong is said at once, each with file, line and column.
//!
//! Documents may come in any order and describe an end: references are checked in the state that all of them together
//! make, not step by step.

mod emit;
mod emit_template;
mod informal;
mod kept_weights;
mod order;
mod prune;
mod read;
mod recognise;
mod template;
mod yaml;

pub use emit::{document, render};
pub use emit_template::template;
pub use kept_weights::KeptWeights;
pub use order::{NoOrder, one_by_one};
pub use read::{Loaded, Text, Validated, parse, parse_all, validate_all};
pub use template::Settings;
pub use yaml::FILE_MAX;

use crate::mesh::error::{ApiError, Violation};
use crate::mesh::model::{Change, Key, Kind, MeshState, Resource};
use crate::mesh::ops::{self, OpContext};
use crate::mesh::validate::{self, CreateBody, Unknown};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// One document of a file: one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file, as the user named it.
    pub file: Arc<str>,
    /// Where it starts.
    pub start: Position,
    /// What it describes.
    pub key: Key,
    /// Its `spec`.
    pub spec: Option<Value>,
    /// Its `tags`.
    pub tags: Option<Value>,
    /// Where each member is, by its path in the resource.
    places: BTreeMap<String, Position>,
    /// What was read into it beyond what it says.
    remarks: Vec<Problem>,
}

/// Something wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: String,
    /// Where; `None` when it is not about a place in a file.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(at) => write!(f, "{}:{}:{}: {}", self.file, at.line, at.column, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// What loading changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// To be stored and committed.
    pub changes: Vec<Change>,
    /// What becomes of each document, in the order of loading.
    pub entries: Vec<Entry>,
    /// What people should know and nothing has to be done about: what was read into documents, and what they leave open.
    pub remarks: Vec<Problem>,
}

/// What becomes of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it describes.
    pub key: Key,
    /// What loading does to that.
    pub deed: Deed,
    /// The weights that stay against what the document says.
    pub kept: Option<KeptWeights>,
}

/// What loading does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It was not there.
    Created,
    /// It was different.
    Updated,
    /// It is as described.
    Unchanged,
    /// It is not described any more.
    Deleted,
}

impl Plan {
    /// For people: `created virtualNode checkout-v1`, `unchanged …`, `updated …`, `kept the weights of …`; then the remarks.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let remarks = self.remarks.iter().map(|remark| format!("remark: {remark}"));
        self.entries.iter().flat_map(Entry::lines).chain(remarks).collect()
    }
}

impl Entry {
    fn lines(&self) -> impl Iterator<Item = String> {
        let what = self.key.describe();
        let kept = self.kept.as_ref().map(|kept| format!("kept the weights of {what}: {kept}"));
        let deed = match self.deed {
            Deed::Created => Some(format!("created {what}")),
            Deed::Updated => Some(format!("updated {what}")),
            Deed::Deleted => Some(format!("deleted {what}")),
            Deed::Unchanged => kept.is_none().then(|| format!("unchanged {what}")),
        };
        deed.into_iter().chain(kept)
    }
}

/// Plans the loading of documents: creates what is missing, updates what differs. The weights of a route that exists
/// stay, unless `overwrite_weights`. `uid` mints a UUID for each new resource.
pub fn plan(
    state: &MeshState,
    documents: &[Document],
    overwrite_weights: bool,
    context: &OpContext,
    uid: impl FnMut() -> String,
) -> Result<Plan, Vec<Problem>> {
    plan_for(state, documents, Wish { overwrite_weights, prune: false }, context, uid)
}

/// What loading may do beside creating and updating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Take the files' weights for routes that exist.
    pub overwrite_weights: bool,
    /// Delete what the files do not describe, in the meshes that they name; never a mesh.
    pub prune: bool,
}

/// The same as [`plan`] with everything that may be asked for.
///
/// # Errors
/// Everything that is wrong.
pub fn plan_for(
    state: &MeshState,
    documents: &[Document],
    wish: Wish,
    context: &OpContext,
    mut uid: impl FnMut() -> String,
) -> Result<Plan, Vec<Problem>> {
    let mut checked = check_alone(documents)?;
    // Parents first; documents of one kind in the order of the files.
    checked.sort_by_key(|(document, _)| document.key.kind);
    let mut planner = Planner { state: state.clone(), plan: Plan::default(), problems: Vec::new() };
    for (document, body) in &checked {
        let context = OpContext { uid: uid(), ..context.clone() };
        planner.load(document, body.clone(), wish.overwrite_weights, &context);
    }
    if wish.prune {
        planner.prune(documents);
    }
    // What could not be created has been told of.
    for (document, _) in checked.iter().filter(|(document, _)| planner.state.get(&document.key).is_some()) {
        if let Err(error) = ops::check(&planner.state, context, &document.key) {
            planner.problems.extend(document.problems(&error));
        }
    }
    for (document, _) in &checked {
        planner.plan.remarks.extend(document.remarks.iter().cloned());
        let resource = planner.state.get(&document.key);
        let open = resource.map(|resource| ops::unresolved_of(&planner.state, resource)).unwrap_or_default();
        for open in open {
            planner
                .plan
                .remarks
                .push(document.problem(&open.path, format!("unresolved: {}: {}", open.path, open.message)));
        }
    }
    if planner.problems.is_empty() { Ok(planner.plan) } else { Err(planner.problems) }
}

/// Checks documents without looking at any mesh: each for itself, and that no two describe the same resource.
///
/// # Errors
/// Everything that is wrong.
pub fn check(documents: &[Document]) -> Result<(), Vec<Problem>> {
    check_alone(documents).map(drop)
}

/// Checks each document for itself, and that no two describe the same resource.
fn check_alone(documents: &[Document]) -> Result<Vec<(&Document, CreateBody)>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut checked = Vec::new();
    let mut seen: BTreeMap<&Key, &Document> = BTreeMap::new();
    for document in documents {
        if let Some(first) = seen.insert(&document.key, document) {
            let what = document.key.describe();
            let (file, at) = (&first.file, first.start);
            let message = format!("{what} is described twice: first at {file}:{}:{}", at.line, at.column);
            problems.push(document.problem("", message));
        }
        match document.check() {
            Ok(body) => checked.push((document, body)),
            Err(violations) => {
                problems.extend(violations.iter().map(|v| document.problem(&v.path, v.to_string())));
            }
        }
    }
    if problems.is_empty() { Ok(checked) } else { Err(problems) }
}

// === impl Document ===

impl Document {
    fn check(&self) -> Result<CreateBody, Vec<Violation>> {
        let kind = self.key.kind;
        let mut out = Vec::new();
        if kind != Kind::Mesh {
            validate::path_name(Kind::Mesh, &self.key.mesh, &mut out);
        }
        if let Some(parent) = kind.parent() {
            validate::path_name(parent, &self.key.parent, &mut out);
        }
        let mut body = Map::new();
        body.insert(kind.name_member().into(), self.key.name.clone().into());
        body.extend(self.spec.clone().map(|spec| ("spec".to_owned(), spec)));
        body.extend(self.tags.clone().map(|tags| ("tags".to_owned(), tags)));
        match validate::create_body(kind, &Value::Object(body), Unknown::Refuse) {
            Ok(body) if out.is_empty() => Ok(body),
            Ok(_) => Err(out),
            Err(violations) => {
                out.extend(violations);
                Err(out)
            }
        }
    }

    /// The place of a path, or of the nearest thing around it that is there.
    fn place(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(position) = self.places.get(path) {
                return *position;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.start,
            }
        }
    }

    fn problem(&self, path: &str, message: String) -> Problem {
        Problem { file: self.file.to_string(), position: Some(self.place(path)), message }
    }

    fn problems(&self, error: &ApiError) -> Vec<Problem> {
        if error.violations.is_empty() {
            return vec![self.problem("", error.message.clone())];
        }
        error.violations.iter().map(|violation| self.problem(&violation.path, violation.message.clone())).collect()
    }
}

// === impl Planner ===

struct Planner {
    /// The state with everything loaded so far.
    state: MeshState,
    plan: Plan,
    problems: Vec<Problem>,
}

impl Planner {
    fn load(&mut self, document: &Document, body: CreateBody, overwrite_weights: bool, context: &OpContext) {
        let key = &document.key;
        let Some(old) = self.state.get(key).cloned() else {
            match ops::create(&self.state, context, key, body) {
                Ok(outcome) => self.take(key, Deed::Created, outcome.changes, None),
                Err(error) => self.problems.extend(document.problems(&error)),
            }
            return;
        };
        let mut spec = body.spec;
        let mut kept = None;
        if !overwrite_weights && key.kind == Kind::Route {
            match kept_weights::keep(&old, &spec) {
                Ok(None) => {}
                Ok(Some((with_kept, weights))) => {
                    kept = Some(weights);
                    spec = with_kept;
                }
                Err(violation) => {
                    self.problems.push(document.problem(&violation.path, violation.message));
                    return;
                }
            }
        }
        let same_tags = body.tags.iter().all(|(name, value)| old.tags.get(name) == Some(value));
        if spec.typed == old.spec && same_tags {
            return self.take(key, Deed::Unchanged, Vec::new(), kept);
        }
        let changed = if spec.typed == old.spec {
            Ok(Resource::clone(&old))
        } else {
            ops::update(&self.state, context, key, spec)
        };
        match changed {
            Ok(mut resource) => {
                resource.tags.extend(body.tags);
                self.take(key, Deed::Updated, vec![(key.clone(), Some(Arc::new(resource)))], kept);
            }
            Err(error) => self.problems.extend(document.problems(&error)),
        }
    }

    fn prune(&mut self, documents: &[Document]) {
        let before = self.state.clone();
        for key in prune::left_over(&self.state, documents) {
            self.take(&key, Deed::Deleted, vec![(key.clone(), None)], None);
        }
        self.problems.extend(prune::taken_away(&before, &self.state, documents));
    }

    fn take(&mut self, key: &Key, deed: Deed, changes: Vec<Change>, kept: Option<KeptWeights>) {
        self.state.commit(changes.iter().cloned());
        self.plan.changes.extend(changes);
        self.plan.entries.push(Entry { key: key.clone(), deed, kept });
    }
}

#[cfg(test)]
mod tests;
