//! All operations and errors by boto3 (`tests/peers/appmesh_operations.py`). `--no-capture` shows the table.

use super::Running;
use crate::mesh_store::Failing;
use crate::program::aws_double::python;
use std::path::Path;
use std::sync::Arc;
use tidegate::mesh::model::Quotas;
use tokio::process::Command;

/// Runs the script; what it printed.
async fn drive(python: &Path, url: &str, part: Option<&str>) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/appmesh_operations.py");
    let mut command = Command::new(python);
    command.arg(script).arg(url).args(part);
    command.env("NO_PROXY", "127.0.0.1").env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true).output().await.unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{table}");
    table
}

#[tokio::test]
async fn boto3_drives_all_operations_into_every_answer_that_they_have() {
    let Some(python) = python() else { return };
    let running = Running::with(Arc::default(), Quotas::AWS).await;
    let table = drive(&python, &running.url(), None).await;
    assert!(table.contains("38 operations, ") && table.contains(" 0 failures"), "{table}");
}

#[tokio::test]
async fn boto3_is_told_when_the_store_fails() {
    let Some(python) = python() else { return };
    let running = Running::with(Arc::default(), Quotas::AWS).await;
    drive(&python, &running.url(), Some("fill")).await;
    running.store.fail(Some(Failing::Before));
    drive(&python, &running.url(), Some("unavailable")).await;
}
