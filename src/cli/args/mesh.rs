//! Arguments of `tidegate mesh` as typed.

use super::Server;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `tidegate mesh …`.
#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Check mesh files without an endpoint: every problem with its line and column (exit code 2 when there is one)
    Validate {
        /// What to check.
        #[command(flatten)]
        files: MeshFiles,
        /// Mesh files of what is there already, such as `tidegate mesh export` writes: references may point into them
        #[arg(long, value_name = "FILE", num_args = 1..)]
        present: Vec<PathBuf>,
        /// Refuse what AWS refuses: virtual services whose provider does not exist, nodes that listen without service
        /// discovery
        #[arg(long)]
        strict: bool,
    },
    /// Show what `apply` would do: exit code 0 nothing, 1 something, 2 it cannot be told (invalid file, no endpoint)
    Diff {
        /// What to compare.
        #[command(flatten)]
        files: MeshFiles,
        /// Let the files overwrite the weights of routes that exist
        #[arg(long)]
        weights: bool,
        /// Show what would be deleted, too: what the files do not describe in the meshes that they name
        #[arg(long)]
        prune: bool,
        /// What to compare it with.
        #[command(flatten)]
        endpoint: MeshEndpoint,
    },
    /// Create what is missing and update what differs at an endpoint; deletes nothing, unless --prune
    ///
    /// The plan is printed first. Weights of routes that exist stay as they are, unless --weights. What was done
    /// already is not done again, so a command that failed halfway can simply be repeated.
    Apply(MeshApply),
    /// Print the mesh as files for `apply` and `tidegate local --mesh`, weights and tags included
    ///
    /// Documents are JSON, which is YAML, with `---` between them; with --output json one list on one line. As
    /// cloudformation it is one template.
    Export {
        /// In which form
        #[arg(long, value_enum, default_value_t = MeshFormat::Cli)]
        format: MeshFormat,
        /// Only this mesh [default: all]
        #[arg(long, value_name = "NAME")]
        mesh: Option<String>,
        /// What to export.
        #[command(flatten)]
        endpoint: MeshEndpoint,
    },
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MeshFormat {
    /// Inputs of `aws appmesh create-… --cli-input-json`
    Cli,
    /// A template with AWS::AppMesh::* resources
    #[value(name = "cloudformation")]
    CloudFormation,
}

/// `tidegate mesh apply`.
#[derive(Debug, Clone, Args)]
pub struct MeshApply {
    /// What to apply.
    #[command(flatten)]
    pub files: MeshFiles,
    /// Let the files overwrite the weights of routes that exist; refused while a rollout owns one of the routes
    #[arg(long)]
    pub weights: bool,
    /// Delete what the files do not describe in the meshes that they name, never a mesh; refused for a route that a rollout
    /// owns
    #[arg(long)]
    pub prune: bool,
    /// Do not ask. It is asked only in a terminal, never in a script
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Where to apply it.
    #[command(flatten)]
    pub endpoint: MeshEndpoint,
    /// Who is asked whether a rollout owns a route.
    #[command(flatten)]
    pub server: Server,
}

/// Mesh files.
#[derive(Debug, Clone, Args)]
pub struct MeshFiles {
    /// Mesh files, directories of them (*.yaml, *.yml, *.json), or - for standard input (repeatable)
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// What CloudFormation templates among them need.
    #[command(flatten)]
    pub parameters: TemplateParameters,
}

/// What CloudFormation templates need beside their text.
#[derive(Debug, Clone, Args)]
pub struct TemplateParameters {
    /// Value of a CloudFormation template's parameter, pseudo parameter (AWS::StackName=…), foreign attribute
    /// (LogicalId.Attribute=…) or imported export (repeatable)
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, String)>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not NAME=VALUE".to_owned()),
    }
}

/// Where the mesh is.
#[derive(Debug, Clone, Args)]
pub struct MeshEndpoint {
    /// The App Mesh API [default: $AWS_ENDPOINT_URL_APP_MESH, else http://127.0.0.1:7071]
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
}
