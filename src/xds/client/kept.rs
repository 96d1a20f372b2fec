//! The last configuration in a file, with the certificates and keys that were told with it: only its owner may read it.

use crate::base::certificate::{SecretFiles, SecretPem};
use crate::base::secret::Redacted;
use crate::mesh::snapshot::NodeConfig;
use crate::xds::translate::native;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    path: PathBuf,
    node: String,
}

#[derive(Serialize)]
struct Writing<'a> {
    /// As on the wire.
    format: u32,
    node: &'a str,
    config: &'a NodeConfig,
    secrets: BTreeMap<&'a str, [&'a str; 3]>,
}

#[derive(Deserialize)]
struct Reading {
    format: u32,
    node: String,
    config: NodeConfig,
    /// Chain, key and authorities of each ARN.
    #[serde(default)]
    secrets: BTreeMap<String, [String; 3]>,
}

impl Kept {
    pub(super) const fn new(path: PathBuf, node: String) -> Self {
        Self { path, node }
    }

    /// Writes it beside the old one and puts it in its place, so that there is always a whole one.
    ///
    /// # Errors
    /// What the system said.
    pub(super) async fn write(&self, config: &NodeConfig, secrets: &SecretFiles) -> Result<(), String> {
        let secrets = secrets.by_name.iter().map(|(name, SecretPem { chain, key, authorities })| {
            (name.as_str(), [chain.as_str(), key.reveal().as_str(), authorities.as_str()])
        });
        let secrets = secrets.collect();
        let text = serde_json::to_vec(&Writing { format: native::form(config), node: &self.node, config, secrets });
        let (text, path) = (text.map_err(|error| error.to_string())?, self.path.clone());
        let written = tokio::task::spawn_blocking(move || replace(&path, &text)).await;
        let error = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(format!("{}: {error}", self.path.display()))
    }

    /// Reads it; `None` where there is none.
    ///
    /// # Errors
    /// It is damaged, of another node, or of a form that this version does not know.
    pub(super) async fn read(&self) -> Result<Option<(NodeConfig, SecretFiles)>, String> {
        let name = self.path.display();
        let text = match tokio::fs::read(&self.path).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let Reading { format, node, config, secrets } =
            serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))?;
        if !native::is_known(format) {
            return Err(format!("{name} has form {format}, which this version does not know"));
        }
        if node != self.node {
            return Err(format!("{name} is the configuration of {node}"));
        }
        let secrets = secrets
            .into_iter()
            .map(|(name, [chain, key, authorities])| (name, SecretPem { chain, key: Redacted::new(key), authorities }));
        Ok(Some((config, SecretFiles { by_name: secrets.collect() })))
    }
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Readable by its owner alone, as temporary files are.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    // What a crash of the machine leaves has to be the old one or the new one.
    file.as_file().sync_data()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::snapshot::{Cluster, ClusterKey, Discovery, NodeExtensions};
    use std::sync::Arc;

    /// A version that does not know them must not leave them out in silence.
    #[tokio::test]
    async fn what_nodes_and_routes_have_by_tags_is_kept_in_a_form_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let kept = Kept::new(path.clone(), "n".into());
        let key = ClusterKey { mesh: "m".into(), node: "a".into() };
        let (extensions, flaws) = NodeExtensions::read([
            ("tidegate:balance", "by=least-request slow-start=30s"),
            ("tidegate:retry-budget", "percent=20"),
        ]);
        assert_eq!(flaws, []);
        let cluster = Cluster { key: key.clone(), discovery: Discovery::None, ports: Vec::new(), extensions };
        let tagged =
            NodeConfig { clusters: BTreeMap::from([(key, Arc::new(cluster))]), version: 1, ..NodeConfig::default() };
        for (config, format) in [(NodeConfig::default(), 1), (tagged, 2)] {
            kept.write(&config, &SecretFiles::default()).await.unwrap();
            let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(text["format"], format);
            assert_eq!(kept.read().await, Ok(Some((config, SecretFiles::default()))));
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_back_by_the_same_node_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/config.json");
        let kept = Kept::new(path.clone(), "mesh/m/virtualNode/n".into());
        assert_eq!(kept.read().await, Ok(None));
        let config = NodeConfig { version: 7, ..NodeConfig::default() };
        let pem = SecretPem { chain: "C".into(), key: Redacted::new("K".into()), authorities: "A".into() };
        let secrets = SecretFiles { by_name: BTreeMap::from([("arn:x".to_owned(), pem)]) };
        kept.write(&config, &SecretFiles::default()).await.unwrap();
        kept.write(&NodeConfig { version: 8, ..config.clone() }, &secrets).await.unwrap();
        assert_eq!(kept.read().await, Ok(Some((NodeConfig { version: 8, ..config }, secrets))));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "it holds keys");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        let other = Kept::new(path.clone(), "mesh/m/virtualNode/other".into());
        assert!(other.read().await.unwrap_err().contains("is the configuration of mesh/m/virtualNode/n"));
        std::fs::write(&path, "{").unwrap();
        assert!(kept.read().await.unwrap_err().contains("EOF"));
        std::fs::write(
            &path,
            r#"{"format":3,"node":"n","config":{"version":1,"services":{},"clusters":[],"own":null}}"#,
        )
        .unwrap();
        assert!(kept.read().await.unwrap_err().contains("has form 3"));
    }
}
