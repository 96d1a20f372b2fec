//! Who may have which configuration.
//!
//! A configuration says where everything is that its node may call, so off loopback a proxy proves who it is by an access key
//! of the mesh: by Signature Version 4, as the credentials plugin of App Mesh's image does, or, since stock Envoys cannot sign,
//! as `authorization: Bearer ID:SECRET`. The second is as safe as the connection that it comes over.

use crate::base::access_key::AccessKey;
use crate::base::time::Timestamp;
use crate::mesh::access::{Keys, may_follow};
use crate::mesh::error::ApiError;
use crate::mesh::sigv4::Head;
use std::sync::Arc;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// The call that opens a stream.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// Its headers.
    pub metadata: &'c MetadataMap,
    /// `:authority`.
    pub authority: &'c str,
    /// `:path`.
    pub path: &'c str,
}

/// Decides who may have a configuration.
pub trait Door: Send + Sync + 'static {
    /// Whether the caller may follow this mesh; the error is told to it.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    fn admit(&self, call: Call<'_>, mesh: &str, now: Timestamp) -> Result<(), String>;
}

/// Everybody, for a listener on loopback.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenDoor;

impl Door for OpenDoor {
    fn admit(&self, _: Call<'_>, _: &str, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

/// Whoever has an access key of the mesh.
#[derive(Debug, Clone)]
pub struct KeysDoor {
    keys: Arc<Keys>,
}

impl KeysDoor {
    /// For these keys.
    #[must_use]
    pub const fn new(keys: Arc<Keys>) -> Self {
        Self { keys }
    }

    fn caller(&self, call: Call<'_>, now: Timestamp) -> Result<&AccessKey, ApiError> {
        let authorization = call.metadata.get("authorization").and_then(|value| value.to_str().ok());
        if let Some(token) = authorization.and_then(|text| text.strip_prefix("Bearer ")) {
            return self.keys.bearer(token.trim());
        }
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        for pair in call.metadata.iter() {
            if let KeyAndValueRef::Ascii(name, value) = pair {
                headers.push((name.as_str(), value.as_bytes()));
            }
        }
        if !headers.iter().any(|(name, _)| *name == "host") {
            headers.push(("host", call.authority.as_bytes()));
        }
        self.keys.caller(&Head { method: "POST", path: call.path, query: "", headers: &headers }, now)
    }
}

impl Door for KeysDoor {
    fn admit(&self, call: Call<'_>, mesh: &str, now: Timestamp) -> Result<(), String> {
        let key = self.caller(call, now).map_err(|error| error.message)?;
        may_follow(key, mesh).map_err(|error| error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::access_key::Right;
    use crate::base::secret::Redacted;

    #[test]
    fn a_bearer_needs_the_secret_of_a_key_for_that_mesh() {
        let key = AccessKey {
            name: "envoy".into(),
            id: "AKID".into(),
            secrets: ["old-secret", "new:secret"].map(|secret| Redacted::new(secret.to_owned())).into(),
            right: Right::Read,
            mesh: Some("shop".into()),
        };
        let door = KeysDoor::new(Arc::new(Keys::new(vec![key])));
        let admit = |authorization: Option<&str>, mesh: &str| {
            let mut metadata = MetadataMap::new();
            if let Some(text) = authorization {
                metadata.insert("authorization", text.parse().expect("is ASCII"));
            }
            door.admit(Call { metadata: &metadata, authority: "x:1", path: "/p" }, mesh, Timestamp(0))
        };
        assert_eq!(admit(Some("Bearer AKID:old-secret"), "shop"), Ok(()));
        assert_eq!(admit(Some("Bearer AKID:new:secret"), "shop"), Ok(()));
        for (authorization, mesh, said) in [
            (Some("Bearer AKID:old-secret"), "other", "it is for mesh shop alone"),
            (Some("Bearer AKID:wrong"), "shop", "is not the secret of"),
            (Some("Bearer NOBODY:old-secret"), "shop", "is not known here"),
            (Some("Bearer AKID"), "shop", "ID:SECRET"),
            (Some("Basic x"), "shop", ""),
            (None, "shop", "Missing"),
        ] {
            let refused = admit(authorization, mesh).expect_err("is refused");
            assert!(refused.contains(said), "{authorization:?}: {refused}");
            assert!(!refused.contains("old-secret"), "{refused}");
        }
    }
}
