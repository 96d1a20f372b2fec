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
struct Checked {
    path: PathBuf,
    /// The name by which it is listed: its plan's; of a file without a plan what it seems to say, else the file's own.
    name: String,
    plan: Result<Plan, String>,
}

impl PolicyDirectory {
    /// A directory; it need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<Vec<Checked>, Fault> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            // It need not exist yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let text = format!("cannot read the policy directory {}: {error}", self.path.display());
                return Err(Fault::permanent("policies", text));
            }
        };
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_policy(path)).collect();
        files.sort();
        files.truncate(FILES_MAX);
        Ok(files.into_iter().map(check).collect())
    }

    fn not_found(&self, name: &str, files: &[Checked]) -> PolicyFault {
        let names = |valid: bool| {
            let files = files.iter().filter(move |file| file.plan.is_ok() == valid);
            files.map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (valid, broken) = (names(true), names(false));
        let directory = self.path.display();
        let known = match (valid.is_empty(), broken.is_empty()) {
            (true, true) if !self.path.is_dir() => format!(" (there is no directory {directory})"),
            (true, true) => format!(" (no policy in {directory})"),
            (true, false) => format!(" (no valid policy in {directory}; not valid: {broken})"),
            (false, true) => format!(" (there are: {valid})"),
            (false, false) => format!(" (there are: {valid}; not valid: {broken})"),
        };
        PolicyFault::NotFound { name: name.to_owned(), known }
    }
}

fn is_policy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn check(path: PathBuf) -> Checked {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            return Checked { name: stem(&path), plan: Err(format!("{shown}: cannot be read: {error}")), path };
        }
    };
    match compile(&shown, &text) {
        Ok(compiled) => Checked { path, name: compiled.plan.name.clone(), plan: Ok(compiled.plan) },
        Err(problems) => {
            let name = said_name(&text).map_or_else(|| stem(&path), str::to_owned);
            let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Checked { path, name, plan: Err(problems) }
        }
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The policy's name in a file that is not valid, as people write it: on a line of its own. So a slip elsewhere in the
/// file is answered with that slip, not with "no such policy".
fn said_name(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    let value = value.split(" #").next()?.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

#[async_trait]
impl Policies for PolicyDirectory {
    async fn plan(&self, name: &str) -> Result<Plan, PolicyFault> {
        let files = self.read()?;
        let invalid = |problems: String| PolicyFault::Invalid { name: name.to_owned(), problems };
        let mut found: Option<&Checked> = None;
        for file in files.iter().filter(|file| file.plan.is_ok() && file.name == name) {
            if let Some(first) = found.replace(file) {
                let (first, second) = (first.path.display(), file.path.display());
                return Err(invalid(format!("{second}: {first} has the same name; rename one of them")));
            }
        }
        if let Some(Ok(plan)) = found.map(|file| &file.plan) {
            return Ok(plan.clone());
        }
        let is_meant = |file: &&Checked| file.name == name || stem(&file.path) == name;
        let problems: Vec<String> =
            files.iter().filter(is_meant).filter_map(|file| file.plan.as_ref().err().cloned()).collect();
        if problems.is_empty() { Err(self.not_found(name, &files)) } else { Err(invalid(problems.join("\n"))) }
    }

    async fn all(&self) -> Result<Vec<(String, Result<Plan, String>)>, Fault> {
        let files = self.read()?;
        Ok(files.into_iter().map(|file| (file.name, file.plan)).collect())
    }
}
