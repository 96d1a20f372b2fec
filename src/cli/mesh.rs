//! `tidegate mesh validate|diff|apply|export`: mesh files against themselves and against an endpoint.
//!
//! What loading does is planned by `mesh::document`, with the same rules as the API; here it is read, shown and sent.

mod apply;
mod files;
mod show;

use super::args::{MeshCommand, MeshEndpoint, MeshFiles, MeshFormat, TemplateParameters};
use super::{Ended, FAILED, Failure, Output, WRONG_USAGE};
use crate::base::secret::Redacted;
use crate::clock::{Clock, SystemClock, new_uuid};
use crate::config::{APPMESH_ENDPOINT_VARIABLE, APPMESH_PORT, CA_FILE_VARIABLE, Environment, region};
use crate::mesh::client::{Client, ClientError, Signer};
use crate::mesh::document::{self, Loaded, Plan, Problem, Settings, Text, Wish};
use crate::mesh::model::{Key, MeshState, Quotas};
use crate::mesh::ops::OpContext;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Owner in messages when no endpoint says who it is: the account of local mode.
const LOCAL_ACCOUNT: &str = "000000000000";

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self { code: FAILED, message: error.message, hint: error.hint };
        if error.is_usage { failure.usage() } else { failure }
    }
}

pub(super) async fn run(command: MeshCommand, output: Output, environment: &dyn Environment) -> Ended {
    match command {
        MeshCommand::Validate { files, present, strict } => validate(&files, &present, strict, output, environment),
        MeshCommand::Diff { files, weights, prune, endpoint } => {
            let wish = Wish { overwrite_weights: weights, prune };
            let ended = diff(&files, wish, &endpoint, output, environment).await;
            // 1 says that something would change; what cannot be told must not look like that.
            ended.map_err(Failure::usage)
        }
        MeshCommand::Apply(arguments) => apply::apply(arguments, output, environment).await,
        MeshCommand::Export { mesh, format, endpoint } => {
            export(mesh.as_deref(), format, &endpoint, output, environment).await
        }
    }
}

fn client(endpoint: &MeshEndpoint, environment: &dyn Environment) -> Result<Client, Failure> {
    let set = environment.get(APPMESH_ENDPOINT_VARIABLE).filter(|url| !url.is_empty());
    let url = endpoint.endpoint_url.clone().or(set).unwrap_or_else(|| format!("http://127.0.0.1:{APPMESH_PORT}"));
    let ca_file = environment.get(CA_FILE_VARIABLE).filter(|file| !file.is_empty());
    Ok(Client::new(&url, signer(environment), ca_file.as_deref().map(Path::new))?)
}

/// The access key of the environment, under the names that the AWS CLI has for it.
fn signer(environment: &dyn Environment) -> Option<Signer> {
    let set = |name| environment.get(name).filter(|value: &String| !value.is_empty());
    Some(Signer {
        id: set("AWS_ACCESS_KEY_ID")?,
        secret: Redacted::new(set("AWS_SECRET_ACCESS_KEY")?),
        session: set("AWS_SESSION_TOKEN").map(Redacted::new),
        region: region(environment),
    })
}

fn context(account: &str, environment: &dyn Environment) -> OpContext {
    OpContext {
        now: SystemClock.now(),
        uid: String::new(),
        account: account.to_owned(),
        region: region(environment),
        // The endpoint knows its own quotas.
        quotas: Quotas::OFF,
        strict: false,
    }
}

/// All problems as one failure, each on a line with its place.
fn invalid(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::new(lines.join("\n")).usage()
}

/// What templates among the files are worked out with.
pub(super) fn settings(parameters: &TemplateParameters, environment: &dyn Environment) -> Settings {
    let parameters = parameters.parameters.iter().cloned().collect();
    Settings { parameters, region: region(environment), account: LOCAL_ACCOUNT.to_owned() }
}

fn validate(
    files: &MeshFiles,
    present: &[PathBuf],
    strict: bool,
    output: Output,
    environment: &dyn Environment,
) -> Ended {
    let context = context(LOCAL_ACCOUNT, environment);
    let mut state = MeshState::default();
    if !present.is_empty() {
        let settings = Settings { region: region(environment), ..Settings::default() };
        let loaded = document::parse_all(&files::read(present), &settings).map_err(|found| invalid(&found))?;
        let plan = document::plan(&state, &loaded.documents, true, &context, String::new);
        state.commit(plan.map_err(|found| invalid(&found))?.changes);
    }
    let texts = files::read(&files.files);
    let context = OpContext { strict, ..context };
    let checked = document::validate_all(&state, &texts, &settings(&files.parameters, environment), &context);
    for Text { file, .. } in &texts {
        let of_file =
            |all: &[Problem]| -> Vec<Problem> { all.iter().filter(|problem| problem.file == *file).cloned().collect() };
        let (found, remarks) = (of_file(&checked.problems), of_file(&checked.remarks));
        let resources = checked.resources.get(file).copied().unwrap_or_default();
        if output.is_json() {
            output.json(&json!({
                "file": file,
                "valid": found.is_empty(),
                "resources": resources,
                "problems": found.iter().map(problem_json).collect::<Vec<_>>(),
                "remarks": remarks.iter().map(problem_json).collect::<Vec<_>>(),
            }));
            continue;
        }
        for problem in &found {
            output.remark(&format!("error: {problem}"));
        }
        tell(&remarks, output);
        match found.len() {
            0 => output.line(&format!("{file}: valid, {}", count(resources, "resource"))),
            wrong => output.line(&format!("{file}: not valid, {}", count(wrong, "problem"))),
        }
    }
    // Such as a parameter that no template knows.
    let of_no_file = |problem: &&Problem| texts.iter().all(|text| text.file != problem.file);
    for problem in checked.problems.iter().filter(of_no_file) {
        output.failure(&problem.to_string(), None);
    }
    if present.is_empty() && checked.problems.iter().any(|problem| problem.message.contains("is not present")) {
        output.remark("remark: what the files refer to and is there already can be given with --present FILE");
    }
    Ok(if checked.problems.is_empty() { 0 } else { WRONG_USAGE })
}

/// Remarks for people.
fn tell(remarks: &[Problem], output: Output) {
    for remark in remarks {
        output.remark(&format!("remark: {remark}"));
    }
}

fn problem_json(problem: &Problem) -> Value {
    let mut object = json!({ "message": problem.message });
    if let Some(at) = problem.position {
        object["line"] = at.line.into();
        object["column"] = at.column.into();
    }
    object
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What files would do to the meshes of an endpoint.
struct Planned {
    client: Client,
    context: OpContext,
    /// The meshes that the files name, as they are.
    state: MeshState,
    plan: Plan,
}

/// Reads the files, then the meshes that they name, and plans.
async fn planned(
    files: &MeshFiles,
    wish: Wish,
    endpoint: &MeshEndpoint,
    environment: &dyn Environment,
) -> Result<Planned, Failure> {
    let settings = settings(&files.parameters, environment);
    let loaded = document::parse_all(&files::read(&files.files), &settings).map_err(|found| invalid(&found))?;
    let Loaded { documents, mut remarks } = loaded;
    // Before anything is asked for by a name in them.
    document::check(&documents).map_err(|found| invalid(&found))?;
    let client = client(endpoint, environment)?;
    let tagged: BTreeSet<&Key> = documents.iter().filter(|doc| doc.tags.is_some()).map(|doc| &doc.key).collect();
    let meshes: BTreeSet<&str> = documents.iter().map(|doc| doc.key.mesh.as_str()).collect();
    let mut resources = Vec::new();
    for mesh in meshes {
        resources.extend(client.read(mesh, |key| tagged.contains(key)).await?);
    }
    let account = resources.iter().find_map(|resource| resource.arn.split(':').nth(4)).unwrap_or(LOCAL_ACCOUNT);
    let context = context(account, environment);
    let state = MeshState::new(resources);
    let mut plan = document::plan_for(&state, &documents, wish, &context, new_uuid).map_err(|found| invalid(&found))?;
    remarks.append(&mut plan.remarks);
    plan.remarks = remarks;
    Ok(Planned { client, context, state, plan })
}

async fn diff(
    files: &MeshFiles,
    wish: Wish,
    endpoint: &MeshEndpoint,
    output: Output,
    environment: &dyn Environment,
) -> Ended {
    let planned = planned(files, wish, endpoint, environment).await?;
    show::plan(&planned, output);
    if let Err(stuck) = planned.in_order() {
        output.remark(&format!("remark: `apply` would refuse this: {}", stuck.message));
    }
    Ok(if planned.plan.changes.is_empty() { 0 } else { FAILED })
}

async fn export(
    mesh: Option<&str>,
    format: MeshFormat,
    endpoint: &MeshEndpoint,
    output: Output,
    environment: &dyn Environment,
) -> Ended {
    let client = client(endpoint, environment)?;
    let all = client.meshes().await?;
    let wanted: Vec<&String> = all.iter().filter(|name| mesh.is_none_or(|mesh| mesh == *name)).collect();
    if let (Some(mesh), []) = (mesh, &wanted[..]) {
        let there = if all.is_empty() { "no mesh at all".to_owned() } else { all.join(", ") };
        return Err(Failure::new(format!("no mesh {mesh} at {}", client.url())).hint(format!("there is {there}")));
    }
    let mut resources = Vec::new();
    for name in wanted {
        resources.extend(client.read(name, |_| true).await?);
    }
    // By key: each mesh for itself, parents before children.
    let state = MeshState::new(resources);
    let documents: Vec<Value> = match format {
        MeshFormat::Cli => state.iter().map(|resource| document::document(resource)).collect(),
        MeshFormat::CloudFormation => vec![document::template(&state)],
    };
    if output.is_json() && format == MeshFormat::Cli {
        output.json(&documents);
    } else if output.is_json() {
        documents.iter().for_each(|template| output.json(template));
    } else if state.iter().next().is_none() {
        output.remark(&format!("no meshes at {}", client.url()));
    } else {
        output.raw(&document::render(&documents));
    }
    Ok(0)
}
