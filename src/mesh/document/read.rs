//! Reads files into documents.

use super::template::Settings;
use super::yaml::{self, Placed};
use super::{Document, Problem, check, informal, plan, recognise, template};
use crate::mesh::model::MeshState;
use crate::mesh::ops::OpContext;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As the user named it.
    pub file: String,
    /// What is in it, or why that cannot be read.
    pub text: Result<String, String>,
}

/// What files hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// The resources that they describe.
    pub documents: Vec<Document>,
    /// What in them has no part in a mesh, and so was left out.
    pub remarks: Vec<Problem>,
}

/// What a check of files found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validated {
    /// What is wrong, by file and place.
    pub problems: Vec<Problem>,
    /// What people should know although nothing is wrong with it, by file and place.
    pub remarks: Vec<Problem>,
    /// How many resources each file describes, as far as it can be read.
    pub resources: BTreeMap<String, usize>,
}

/// Reads one file, for which nothing else is given. `file` is only for messages.
///
/// # Errors
/// Everything that is wrong in it.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let text = Text { file: file.to_owned(), text: Ok(text.to_owned()) };
    parse_all(&[text], &Settings::default()).map(|loaded| loaded.documents)
}

/// Reads the documents of all files.
///
/// # Errors
/// Everything that is wrong in any of them, and parameters that none of them knows.
pub fn parse_all(files: &[Text], settings: &Settings) -> Result<Loaded, Vec<Problem>> {
    let (loaded, problems) = recognised_all(files, settings);
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Checks files that shall be loaded together into a mesh. While something is wrong with a document by itself, references
/// are not looked at: what it describes would seem to be missing.
#[must_use]
pub fn validate_all(state: &MeshState, files: &[Text], settings: &Settings, context: &OpContext) -> Validated {
    let (Loaded { documents, mut remarks }, mut problems) = recognised_all(files, settings);
    if problems.is_empty() {
        match plan(state, &documents, true, context, String::new) {
            Ok(plan) => remarks.extend(plan.remarks),
            Err(found) => problems.extend(found),
        }
    } else {
        problems.extend(check(&documents).err().unwrap_or_default());
    }
    problems.sort();
    remarks.sort();
    let mut resources = BTreeMap::new();
    for document in &documents {
        *resources.entry(document.file.to_string()).or_default() += 1;
    }
    Validated { problems, remarks, resources }
}

fn recognised_all(files: &[Text], settings: &Settings) -> (Loaded, Vec<Problem>) {
    let mut loaded = Loaded::default();
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for Text { file, text } in files {
        match text {
            Ok(text) => recognised(file, text, settings, &mut loaded, &mut known, &mut problems),
            Err(why) => problems.push(Problem { file: file.clone(), position: None, message: why.clone() }),
        }
    }
    // Only when all could be read: a file that could not be may be the one that knows it.
    if problems.is_empty() {
        for name in settings.parameters.keys().filter(|name| !known.contains(*name)) {
            let message = format!("{name}: no template among the files has or needs a parameter of that name");
            problems.push(Problem { file: "--parameter".into(), position: None, message });
        }
    }
    (loaded, problems)
}

/// The documents of a file that can be read, and what is wrong with the others.
fn recognised(
    file: &str,
    text: &str,
    settings: &Settings,
    loaded: &mut Loaded,
    known: &mut BTreeSet<String>,
    problems: &mut Vec<Problem>,
) {
    let file: Arc<str> = file.into();
    let roots = match yaml::read(text) {
        Ok(roots) => roots,
        Err(mistakes) => {
            problems.extend(mistakes.into_iter().map(|mistake| mistake.in_file(&file)));
            return;
        }
    };
    for root in roots {
        let (documents, mistakes) = if template::is_one(&root.value) {
            let expanded = template::expand(&file, root, settings);
            loaded.remarks.extend(expanded.remarks);
            known.extend(expanded.known);
            (expanded.documents, expanded.mistakes)
        } else {
            one(&file, root)
        };
        loaded.documents.extend(documents.into_iter().map(informal::mended));
        problems.extend(mistakes.into_iter().map(|mistake| mistake.in_file(&file)));
    }
}

fn one(file: &Arc<str>, root: Placed) -> (Vec<Document>, Vec<yaml::Mistake>) {
    match recognise::document(file, root) {
        Ok(document) => (vec![document], Vec::new()),
        Err(mistakes) => (Vec::new(), mistakes),
    }
}
