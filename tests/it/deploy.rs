//! What `deploy/` has for people to install, against what it has to agree with: Terraform's files with the schema of the
//! AWS provider, rights with the calls in the source, task definitions, image, unit and manifests with the program.
//!
//! Nothing is applied: there is no account, no cluster and no container engine. The image is a directory here.

mod evaluate;
mod iam;
mod image;
mod manifests;
mod reads;
mod recorded;
mod references;
mod schema;
mod task;
mod terraform;
