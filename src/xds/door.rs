//! Who may have which configuration.
//!
//! A configuration says where everything is that its node may call, so off loopback a proxy proves who it is by an access key
//! of the mesh: by Signature Version 4, as the credentials plugin of App Mesh's image does, or, since stock Envoys cannot sign,
//! as `authorization: Bearer ID:SECRET`. The second is as safe as the connection that it comes over.
//!
//! Where certificates of proxies are verified (`mesh.clients`), one that names what it is for stands in for a key: with a URI
//! `spiffe://TRUST-DOMAIN/mesh/M/virtualNode/N`, `.../virtualGateway/G`, or `spiffe://TRUST-DOMAIN/mesh/M` for all of a mesh. The
//! trust domain may be any, since an authority that is believed could write any. A call that brings a key is judged by its key:
//! who sends a wrong one has a mistake to mend, and hears of it.

use crate::base::access_key::AccessKey;
use crate::base::time::Timestamp;
use crate::mesh::access::{Keys, may_follow};
use crate::mesh::error::ApiError;
use crate::mesh::model::{Key, Kind};
use crate::mesh::sigv4::Head;
use std::sync::Arc;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// The header that has a key, in either form.
const AUTHORIZATION: &str = "authorization";
/// How identities of SPIFFE begin.
const SPIFFE: &str = "spiffe://";
/// So many names of a certificate are told to who has it, and so many characters of each and of what it asked for.
const TOLD_NAMES: usize = 3;
const TOLD_CHARS: usize = 300;

/// The call that opens a stream.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// Its headers.
    pub metadata: &'c MetadataMap,
    /// `:authority`.
    pub authority: &'c str,
    /// `:path`.
    pub path: &'c str,
    /// Names (URI) of the certificate by which the caller was verified; `None` where none was asked for.
    pub names: Option<&'c [String]>,
    /// What it asks for: `mesh/M/virtualNode/N` or `mesh/M/virtualGateway/G`.
    pub resource: &'c str,
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

/// Whoever has an access key of the mesh, or a certificate with the name of what it asks for.
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
        let authorization = call.metadata.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
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
        if let Some(names) = call.names
            && !call.metadata.contains_key(AUTHORIZATION)
        {
            let is_named = names.iter().any(|name| is_for(name, mesh, call.resource));
            return if is_named { Ok(()) } else { Err(other_name(names, mesh, call.resource)) };
        }
        let key = self.caller(call, now).map_err(|error| error.message)?;
        may_follow(key, mesh).map_err(|error| error.message)
    }
}

/// Whether a name of a certificate is that of a resource, or of the mesh that it is in. Names are compared as they are: those
/// of SPIFFE have nothing that could be written in two ways.
fn is_for(name: &str, mesh: &str, resource: &str) -> bool {
    let path = name.strip_prefix(SPIFFE).and_then(|rest| rest.split_once('/'));
    let Some((domain, path)) = path else { return false };
    // Read like the name of a node, so that what one of them means the other cannot mean otherwise.
    let Some(key) = Key::from_path(path) else { return false };
    !domain.is_empty() && if key.kind == Kind::Mesh { key.mesh == mesh } else { path == resource }
}

/// Says both ways in.
fn other_name(names: &[String], mesh: &str, resource: &str) -> String {
    let short = |text: &str| text.chars().take(TOLD_CHARS).collect::<String>();
    let shown: Vec<String> = names.iter().take(TOLD_NAMES).map(|name| short(name)).collect();
    let more = if names.len() > TOLD_NAMES { " and others" } else { "" };
    let has = if shown.is_empty() { "no name (URI)".to_owned() } else { format!("{}{more}", shown.join(", ")) };
    let (mesh, resource) = (short(mesh), short(resource));
    // Envoy logs it with its blanks as %20, so it is short.
    format!(
        "the certificate has {has} and is not for {resource}: give the proxy one with the URI {SPIFFE}TRUST-DOMAIN/{resource}, or \
         {SPIFFE}TRUST-DOMAIN/mesh/{mesh} for all of that mesh; or a key of [mesh.keys] beside it (TIDEGATE_TOKEN of tidegate envoy \
         bootstrap, or Signature Version 4)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::access_key::Right;
    use crate::base::secret::Redacted;

    fn call<'c>(metadata: &'c MetadataMap, names: Option<&'c [String]>, resource: &'c str) -> Call<'c> {
        Call { metadata, authority: "x:1", path: "/p", names, resource }
    }

    fn door() -> KeysDoor {
        let key = AccessKey {
            name: "envoy".into(),
            id: "AKID".into(),
            secrets: ["old-secret", "new:secret"].map(|secret| Redacted::new(secret.to_owned())).into(),
            right: Right::Read,
            mesh: Some("shop".into()),
        };
        KeysDoor::new(Arc::new(Keys::new(vec![key])))
    }

    #[test]
    fn a_certificate_stands_in_for_a_key_where_it_names_what_is_asked_for() {
        const NODE: &str = "mesh/shop/virtualNode/a";
        const GATEWAY: &str = "mesh/shop/virtualGateway/a";
        let admit = |names: &[&str], resource: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mesh = Key::from_path(resource).expect("a path").mesh;
            door().admit(call(&MetadataMap::new(), Some(&names), resource), &mesh, Timestamp(0))
        };
        for (names, resource) in [
            (&["spiffe://a.test/mesh/shop/virtualNode/a"][..], NODE),
            (&["spiffe://b/mesh/shop/virtualGateway/a"], GATEWAY),
            (&["spiffe://a.test/mesh/shop"], NODE),
            (&["spiffe://a.test/mesh/shop"], GATEWAY),
            (&["https://a.test", "spiffe://a.test/mesh/shop/virtualNode/a"], NODE),
            (&["spiffe://a/mesh/shop/virtualNode/a/b"], "mesh/shop/virtualNode/a/b"),
        ] {
            assert_eq!(admit(names, resource), Ok(()), "{names:?}");
        }
        for name in [
            "spiffe://a.test/mesh/shop/virtualNode/b",
            "spiffe://a.test/mesh/shop/virtualNode/a/b",
            "spiffe://a.test/mesh/shop/virtualNode/",
            "spiffe://a.test/mesh/shop/virtualNode",
            "spiffe://a.test/mesh/shop/virtualGateway/a",
            "spiffe://a.test/mesh/other/virtualNode/a",
            "spiffe://a.test/mesh/other",
            "spiffe://a.test/mesh/shop/",
            "spiffe://a.test/mesh/sho",
            "spiffe://a.test/mesh/shop%2FvirtualNode%2Fa",
            "spiffe://a.test/x/mesh/shop",
            "spiffe://a.test//mesh/shop",
            "spiffe:///mesh/shop",
            "spiffe://mesh/shop",
            "https://a.test/mesh/shop",
            "mesh/shop/virtualNode/a",
            "",
        ] {
            assert!(admit(&[name], NODE).is_err(), "{name}");
        }
        let refused = admit(&["spiffe://t/mesh/shop/virtualNode/b"], NODE).expect_err("another node's");
        for said in [
            "has spiffe://t/mesh/shop/virtualNode/b and is not for mesh/shop/virtualNode/a",
            "URI spiffe://TRUST-DOMAIN/mesh/shop/virtualNode/a, or spiffe://TRUST-DOMAIN/mesh/shop for all",
            "a key of [mesh.keys]",
            "TIDEGATE_TOKEN",
        ] {
            assert!(refused.contains(said), "no `{said}`: {refused}");
        }
        assert!(admit(&[], NODE).expect_err("nameless").contains("has no name (URI)"));
        let long = format!("spiffe://t/{}", "x".repeat(10_000));
        assert!(admit(&[long.as_str(); 9], NODE).expect_err("long").len() < 2_000);
    }

    #[test]
    fn whoever_brings_a_key_is_judged_by_it() {
        let names = ["spiffe://a.test/mesh/shop/virtualNode/a".to_owned()];
        let strange = ["spiffe://a.test/mesh/other".to_owned()];
        let admit = |authorization: &str, names: &[String]| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", authorization.parse().expect("is ASCII"));
            door().admit(call(&metadata, Some(names), "mesh/shop/virtualNode/a"), "shop", Timestamp(0))
        };
        assert_eq!(admit("Bearer AKID:old-secret", &strange), Ok(()));
        for wrong in ["Bearer AKID:wrong", ""] {
            assert!(admit(wrong, &names).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bearer_needs_the_secret_of_a_key_for_that_mesh() {
        let door = door();
        let admit = |authorization: Option<&str>, mesh: &str| {
            let mut metadata = MetadataMap::new();
            if let Some(text) = authorization {
                metadata.insert("authorization", text.parse().expect("is ASCII"));
            }
            door.admit(call(&metadata, None, "mesh/shop/virtualNode/a"), mesh, Timestamp(0))
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
