//! Who may do what with a mesh: signatures by access keys, and what a key allows.

use crate::base::access_key::{AccessKey, Right};
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::{Kind, Request};
use crate::mesh::sigv4::{Claim, Head, Payload, SERVICE};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

/// All keys, by their identifiers.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    by_id: BTreeMap<String, AccessKey>,
}

impl Keys {
    /// Whose token this is: `ID:SECRET`.
    ///
    /// # Errors
    /// It is of no key, or not its secret.
    pub fn bearer(&self, token: &str) -> Result<&AccessKey, ApiError> {
        let refused = |message: String| ApiError::new(ErrorCode::UnrecognizedClient, message);
        let (id, secret) = token
            .split_once(':')
            .ok_or_else(|| refused("a bearer token is ID:SECRET of a key of [mesh.keys]".to_owned()))?;
        let key = self.by_id.get(id).ok_or_else(|| refused(format!("the access key id {id} is not known here")))?;
        let same = |known: &Redacted<String>| bool::from(known.reveal().as_bytes().ct_eq(secret.as_bytes()));
        // All are compared, so that the time tells nothing.
        if key.secrets.iter().filter(|known| same(known)).count() > 0 {
            return Ok(key);
        }
        Err(refused(format!("what follows {id}: is not the secret of that key")))
    }

    /// These. Of two with the same identifier the last one counts; the configuration refuses that.
    #[must_use]
    pub fn new(keys: Vec<AccessKey>) -> Self {
        Self { by_id: keys.into_iter().map(|key| (key.id.clone(), key)).collect() }
    }

    /// The key that a request claims to be signed with.
    ///
    /// # Errors
    /// 403 `UnrecognizedClient`: there is none of that identifier.
    pub fn find(&self, claim: &Claim) -> Result<&AccessKey, ApiError> {
        self.by_id.get(claim.key_id()).ok_or_else(|| {
            let message = format!(
                "The security token included in the request is invalid: the access key id {} is not known here. Use one of \
                 [mesh.keys] of this daemon's configuration, or add it there and start the daemon again",
                claim.key_id()
            );
            ApiError::new(ErrorCode::UnrecognizedClient, message)
        })
    }

    /// Who makes a call whose head is signed and whose messages are not: an xDS stream. `head` is that of the call, with
    /// `:authority` as its `host`; the method is POST and the path `/SERVICE/METHOD`.
    ///
    /// # Errors
    /// 403, as for requests to the API.
    pub fn caller(&self, head: &Head<'_>, now: Timestamp) -> Result<&AccessKey, ApiError> {
        let claim = Claim::read(head, now)?;
        let key = self.find(&claim)?;
        let verified = claim.verify(head, Payload::Stream, &key.secrets);
        let Err(error) = verified else { return Ok(key) };
        // gRPC leaves the port of https out of what its plugins sign, but not out of `:authority`.
        let bare = |value: &[u8]| value.strip_suffix(b":443").map(<[u8]>::to_vec);
        let host = head.headers.iter().find(|(name, _)| *name == "host").and_then(|(_, value)| bare(value));
        let Some(host) = host else { return Err(error) };
        let without = |(name, value): &(_, _)| if *name == "host" { (*name, host.as_slice()) } else { (*name, *value) };
        let headers: Vec<(&str, &[u8])> = head.headers.iter().map(without).collect();
        claim.verify(&Head { headers: &headers, ..*head }, Payload::Stream, &key.secrets).map(|()| key)
    }
}

/// Whether a key allows a request.
///
/// # Errors
/// 403 `Forbidden`, with what is missing and where it is given.
pub fn allows(key: &AccessKey, request: &Request) -> Result<(), ApiError> {
    let action = || format!("{SERVICE}:{}", operation(request));
    if request.writes() && key.right < Right::Write {
        let name = &key.name;
        return Err(forbidden(
            key,
            &action(),
            &format!("it may only read; `allow = \"write\"` of [mesh.keys.{name}] lets it change"),
        ));
    }
    let Some(only) = &key.mesh else { return Ok(()) };
    match mesh(request) {
        Some(mesh) if mesh == *only => Ok(()),
        Some(mesh) => Err(forbidden(key, &format!("{} on mesh {mesh}", action()), &other_mesh(key, only))),
        None => Err(forbidden(key, &format!("{} over all meshes", action()), &other_mesh(key, only))),
    }
}

/// Whether a key allows following a mesh as a proxy does: its configuration and its endpoints.
///
/// # Errors
/// 403 `Forbidden`, as for [`allows`].
pub fn may_follow(key: &AccessKey, mesh: &str) -> Result<(), ApiError> {
    match &key.mesh {
        Some(only) if only != mesh => {
            Err(forbidden(key, &format!("{SERVICE}:StreamAggregatedResources on mesh {mesh}"), &other_mesh(key, only)))
        }
        _ => Ok(()),
    }
}

fn other_mesh(key: &AccessKey, only: &str) -> String {
    format!("it is for mesh {only} alone (`mesh` of [mesh.keys.{}])", key.name)
}

fn forbidden(key: &AccessKey, action: &str, why: &str) -> ApiError {
    let message = format!("The key {} ({}) is not authorized to perform {action}: {why}", key.name, key.id);
    ApiError::new(ErrorCode::Forbidden, message)
}

/// The mesh that a request is about; `None` for all of them, and for one that names none it could be allowed by.
fn mesh(request: &Request) -> Option<String> {
    match request {
        Request::Create { kind: Kind::Mesh, body, .. } => {
            body.get(Kind::Mesh.name_member()).and_then(|name| name.as_str()).map(str::to_owned)
        }
        Request::Create { mesh, .. } | Request::List { mesh, .. } => mesh.clone(),
        Request::Update { key, .. } | Request::Describe { key, .. } | Request::Delete { key, .. } => {
            Some(key.mesh.clone())
        }
        Request::Tag { arn, .. } | Request::Untag { arn, .. } | Request::ListTags { arn, .. } => {
            // arn:aws:appmesh:REGION:ACCOUNT:mesh/NAME/...
            let path = arn.as_deref()?.splitn(6, ':').nth(5)?;
            path.strip_prefix("mesh/")?.split('/').next().map(str::to_owned)
        }
    }
}

/// Name of the operation (App Mesh API 2019-01-25): `UpdateRoute`.
fn operation(request: &Request) -> String {
    match request {
        Request::Create { kind, .. } => format!("Create{}", kind.title()),
        Request::Update { key, .. } => format!("Update{}", key.kind.title()),
        Request::Describe { key, .. } => format!("Describe{}", key.kind.title()),
        Request::Delete { key, .. } => format!("Delete{}", key.kind.title()),
        Request::List { kind: Kind::Mesh, .. } => "ListMeshes".to_owned(),
        Request::List { kind, .. } => format!("List{}s", kind.title()),
        Request::Tag { .. } => "TagResource".to_owned(),
        Request::Untag { .. } => "UntagResource".to_owned(),
        Request::ListTags { .. } => "ListTagsForResource".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::model::{Extensions, Key, Page};
    use serde_json::json;

    fn key(right: Right, mesh: Option<&str>) -> AccessKey {
        AccessKey {
            name: "ci".into(),
            id: "AKIDEXAMPLE".into(),
            secrets: Vec::new(),
            right,
            mesh: mesh.map(str::to_owned),
        }
    }

    fn about(mesh: &str) -> Vec<(bool, Request)> {
        let arn = Some(format!("arn:aws:appmesh:eu-central-1:000000000000:mesh/{mesh}/virtualNode/v1"));
        let node = Key::child(mesh, Kind::VirtualNode, "v1");
        let (owner, parent, body) = (None, None, json!({ "meshName": mesh }));
        let of = Some(mesh.to_owned());
        let page = Page::default();
        vec![
            (true, Request::Create { kind: Kind::Mesh, mesh: None, parent: None, owner: None, body: body.clone() }),
            (
                true,
                Request::Create {
                    kind: Kind::VirtualNode,
                    mesh: of.clone(),
                    parent,
                    owner,
                    body: json!({ "meshName": "x" }),
                },
            ),
            (
                true,
                Request::Update {
                    key: node.clone(),
                    owner: None,
                    body: body.clone(),
                    extensions: Extensions::default(),
                },
            ),
            (true, Request::Delete { key: Key::mesh(mesh), owner: None }),
            (true, Request::Tag { arn: arn.clone(), body: body.clone() }),
            (true, Request::Untag { arn: arn.clone(), body }),
            (false, Request::Describe { key: node, owner: None }),
            (false, Request::List { kind: Kind::VirtualNode, mesh: of, parent: None, owner: None, page: page.clone() }),
            (false, Request::ListTags { arn, page }),
        ]
    }

    #[test]
    fn a_key_allows_what_it_is_for() {
        for (writes, request) in about("shop") {
            assert_eq!(writes, request.writes(), "{request:?}");
            for mesh in [None, Some("shop")] {
                assert_eq!(allows(&key(Right::Write, mesh), &request), Ok(()), "{request:?}");
                assert_eq!(allows(&key(Right::Read, mesh), &request).is_ok(), !writes, "{request:?}");
            }
            let refused = allows(&key(Right::Write, Some("other")), &request).expect_err("another mesh");
            assert_eq!(refused.code, ErrorCode::Forbidden);
            assert!(refused.message.contains("on mesh shop: it is for mesh other alone"), "{refused}");
        }
        let update = &about("shop")[2].1;
        assert_eq!(
            allows(&key(Right::Read, None), update).expect_err("reads").message,
            "The key ci (AKIDEXAMPLE) is not authorized to perform appmesh:UpdateVirtualNode: it may only read; `allow = \
             \"write\"` of [mesh.keys.ci] lets it change"
        );
    }

    #[test]
    fn a_key_of_one_mesh_sees_no_others() {
        let all = Request::List { kind: Kind::Mesh, mesh: None, parent: None, owner: None, page: Page::default() };
        assert_eq!(allows(&key(Right::Read, None), &all), Ok(()));
        let refused = allows(&key(Right::Write, Some("shop")), &all).expect_err("all of them");
        assert!(refused.message.contains("appmesh:ListMeshes over all meshes"), "{refused}");
        for arn in [None, Some("shop"), Some("arn:aws:appmesh:r:0:mesh"), Some("arn:aws:appmesh:r:0:mesh/shopping")] {
            let request = Request::ListTags { arn: arn.map(str::to_owned), page: Page::default() };
            assert!(allows(&key(Right::Write, Some("shop")), &request).is_err(), "{arn:?}");
        }
        assert_eq!(may_follow(&key(Right::Read, Some("shop")), "shop"), Ok(()));
        assert_eq!(may_follow(&key(Right::Read, None), "shop"), Ok(()));
        assert!(may_follow(&key(Right::Write, Some("other")), "shop").is_err());
    }
}
