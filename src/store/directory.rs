//! Policies in a directory: every `*.yaml` file is one, read anew whenever it is asked for, so that an edit counts from
//! the next start on.

use crate::base::fault::Fault;
use crate::policy::compile;
use crate::policy::plan::Plan;
use crate::ports::{Policies, PolicyFault};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// Files read at most: a directory with more is not a directory of policies.
const FILES_MAX: usize = 1000;

/// A directory of policy files.
#[derive(Debug, Clone)]
pub struct PolicyDirectory {
    path: PathBuf,
}

/// One file: where, and the plan or all that is wrong with it.
type Checked = (PathBuf, Result<Plan, String>);

impl PolicyDirectory {
    /// A directory; it need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> Result<Vec<Checked>, Fault> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) => {
                let text = format!("cannot read the policy directory {}: {error}", self.path.display());
                return Err(Fault::permanent("policies", text));
            }
        };
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_policy(path)).collect();
        files.sort();
        files.truncate(FILES_MAX);
        Ok(files
            .into_iter()
            .map(|path| {
                let checked = check(&path);
                (path, checked)
            })
            .collect())
    }
}

fn is_policy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn check(path: &Path) -> Result<Plan, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    match compile(&name, &text) {
        Ok(compiled) => Ok(compiled.plan),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// The name by which a file is listed: its plan's, or the file's own when there is no plan.
fn listed_name(path: &Path, checked: &Result<Plan, String>) -> String {
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    checked.as_ref().map_or_else(|_| stem(), |plan| plan.name.clone())
}

#[async_trait]
impl Policies for PolicyDirectory {
    async fn plan(&self, name: &str) -> Result<Plan, PolicyFault> {
        let files = self.read()?;
        let mut invalid = Vec::new();
        let mut names = Vec::new();
        let mut found: Option<Plan> = None;
        for (path, checked) in files {
            let listed = listed_name(&path, &checked);
            match checked {
                Ok(plan) if plan.name == name && found.is_some() => {
                    let problems =
                        format!("{}: another file of {} has the same name", path.display(), self.path.display());
                    return Err(PolicyFault::Invalid { name: name.to_owned(), problems });
                }
                Ok(plan) if plan.name == name => found = Some(plan),
                Ok(plan) => names.push(plan.name),
                // A broken file cannot say its policy's name: its file name must do.
                Err(problems) if listed == name => invalid.push(problems),
                Err(_) => {}
            }
        }
        if let Some(plan) = found {
            return Ok(plan);
        }
        if !invalid.is_empty() {
            return Err(PolicyFault::Invalid { name: name.to_owned(), problems: invalid.join("\n") });
        }
        let known = if names.is_empty() {
            format!(" (no valid policy in {})", self.path.display())
        } else {
            format!(" (there are: {})", names.join(", "))
        };
        Err(PolicyFault::NotFound { name: name.to_owned(), known })
    }

    async fn all(&self) -> Result<Vec<(String, Result<Plan, String>)>, Fault> {
        let files = self.read()?;
        Ok(files.into_iter().map(|(path, checked)| (listed_name(&path, &checked), checked)).collect())
    }
}
