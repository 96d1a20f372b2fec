//! App Mesh on the wire: paths, queries and bodies to requests, replies to JSON (App Mesh API 2019-01-25, REST-JSON).
//!
//! A path is split at its slashes before it is decoded, because a name may hold an encoded one (`a%2Fb`). Outputs with
//! the `payload` trait are the data object itself, without the wrapper that the CLI shows. Timestamps are numbers:
//! seconds since 1970 with milliseconds as the fraction.

pub mod ask;
mod extensions;
mod fuse;

pub use extensions::{
    Asked, FEATURES, FEATURES_HEADER, FUSE_HEADER, GENERATION_HEADER, LEASE_HEADER, announced, lapsed_at, lease,
};
pub use fuse::{renewing as fuse_renewal_text, written as fuse_text};

use crate::base::time::Timestamp;
use crate::mesh::error::{ApiError, ErrorCode, Violation};
use crate::mesh::model::{Key, Kind, Page, Reply, Request, Resource, Status};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Version prefix of every path.
const PREFIX: &str = "/v20190125/";

/// Largest body, in bytes. The largest legal route is some 50 kB and nodes with hundreds of certificates stay below.
pub const BODY_MAX: usize = 1024 * 1024;

/// Parts of an HTTP request that matter.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Path as sent, undecoded.
    pub path: &'a str,
    /// Query as sent, without the question mark.
    pub query: &'a str,
    /// Headers of Tidegate's extensions.
    pub extensions: Asked<'a>,
    /// Body.
    pub body: &'a [u8],
}

/// Reads a request. Unknown paths are an error that names what was asked for.
pub fn request(parts: Parts<'_>) -> Result<Request, ApiError> {
    let segments = segments(parts)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = query(parts.query)?;
    let arn = query.get("resourceArn").cloned();
    let page = Page { limit: query.get("limit").cloned(), next_token: query.get("nextToken").cloned() };
    let owner = query.get("meshOwner").cloned();
    match (parts.method, &segments[..]) {
        ("PUT", ["tag"]) => Ok(Request::Tag { arn, body: body(parts)? }),
        ("PUT", ["untag"]) => Ok(Request::Untag { arn, body: body(parts)? }),
        ("GET", ["tags"]) => Ok(Request::ListTags { arn, page }),
        (method, path) => {
            let place = place(path).ok_or_else(|| unknown(parts))?;
            // The account is not looked at for meshes themselves: the model has no `meshOwner` there except to
            // describe.
            let owner = owner.filter(|_| place.kind != Kind::Mesh || method == "GET");
            match (method, place.name) {
                ("PUT", None) => {
                    let (kind, mesh, parent) = (place.kind, place.mesh, place.parent);
                    Ok(Request::Create { kind, mesh, parent, owner, body: body(parts)? })
                }
                ("GET", None) => {
                    let (kind, mesh, parent) = (place.kind, place.mesh, place.parent);
                    Ok(Request::List { kind, mesh, parent, owner, page })
                }
                (method, Some(name)) => {
                    let (mesh, parent) = (place.mesh.unwrap_or_else(|| name.clone()), place.parent.unwrap_or_default());
                    let key = Key { mesh, kind: place.kind, parent, name };
                    match method {
                        "GET" => Ok(Request::Describe { key, owner }),
                        "DELETE" => Ok(Request::Delete { key, owner }),
                        "PUT" => {
                            let extensions = parts.extensions.read(&key)?;
                            Ok(Request::Update { key, owner, body: body(parts)?, extensions })
                        }
                        _ => Err(unknown(parts)),
                    }
                }
                _ => Err(unknown(parts)),
            }
        }
    }
}

/// Where a path points.
struct Place {
    kind: Kind,
    mesh: Option<String>,
    parent: Option<String>,
    name: Option<String>,
}

/// Note the singular of routers and gateways above their children: `virtualRouter/{r}/routes`.
fn place(path: &[&str]) -> Option<Place> {
    let (kind, mesh, parent, name) = match *path {
        ["meshes"] => (Kind::Mesh, None, None, None),
        ["meshes", name] => (Kind::Mesh, None, None, Some(name)),
        ["meshes", mesh, "virtualRouter", parent, "routes"] => (Kind::Route, Some(mesh), Some(parent), None),
        ["meshes", mesh, "virtualRouter", parent, "routes", name] => {
            (Kind::Route, Some(mesh), Some(parent), Some(name))
        }
        ["meshes", mesh, "virtualGateway", parent, "gatewayRoutes"] => {
            (Kind::GatewayRoute, Some(mesh), Some(parent), None)
        }
        ["meshes", mesh, "virtualGateway", parent, "gatewayRoutes", name] => {
            (Kind::GatewayRoute, Some(mesh), Some(parent), Some(name))
        }
        ["meshes", mesh, plural] => (direct_child(plural)?, Some(mesh), None, None),
        ["meshes", mesh, plural, name] => (direct_child(plural)?, Some(mesh), None, Some(name)),
        _ => return None,
    };
    let names = [mesh, parent, name];
    if names.iter().flatten().any(|name| name.is_empty()) {
        return None;
    }
    let [mesh, parent, name] = names.map(|name| name.map(str::to_owned));
    Some(Place { kind, mesh, parent, name })
}

fn direct_child(plural: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| *kind != Kind::Mesh && kind.parent().is_none() && kind.plural() == plural)
}

fn unknown(parts: Parts<'_>) -> ApiError {
    // A path may be long and a message should not be.
    let path: String = parts.path.chars().take(200).collect();
    let message = format!("{} {path} is not an operation of App Mesh 2019-01-25", parts.method);
    ApiError::new(ErrorCode::UnknownOperation, message)
}

/// The decoded segments after the version prefix.
fn segments(parts: Parts<'_>) -> Result<Vec<String>, ApiError> {
    let rest = parts.path.strip_prefix(PREFIX).ok_or_else(|| unknown(parts))?;
    rest.split('/').map(|segment| decode(segment, "path")).collect()
}

/// Query members; of equal names the last wins.
fn query(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, "query")?, decode(value, "query")?))
        })
        .collect()
}

fn decode(text: &str, place: &str) -> Result<String, ApiError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(ApiError::new(ErrorCode::BadRequest, format!("{place}: is not UTF-8 once it is decoded"))),
    }
}

/// An empty body is an empty object: `spec` of CreateMesh is optional, and what is required is then said to be missing.
fn body(parts: Parts<'_>) -> Result<Value, ApiError> {
    if parts.body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(parts.body).map_err(|error| {
        let message = format!("is not JSON: {error}");
        ApiError::invalid(vec![Violation { path: "body".into(), message }])
    })
}

/// Body of a reply.
#[must_use]
pub fn reply(reply: &Reply) -> Value {
    match reply {
        Reply::Resource { resource, status, account } => data(resource, *status, account),
        Reply::List { kind, items, account, next_token } => {
            let items: Vec<Value> = items.iter().map(|item| reference(item, account)).collect();
            with_token(kind.plural(), Value::Array(items), next_token.as_deref())
        }
        Reply::Tags { tags, next_token } => {
            let tags = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
            with_token("tags", tags, next_token.as_deref())
        }
        Reply::Empty => json!({}),
    }
}

/// Body of an error: `message` in lower case (App Mesh API 2019-01-25, the exception shapes).
#[must_use]
pub fn error(error: &ApiError) -> Value {
    json!({ "message": error.message })
}

fn with_token(member: &str, list: Value, next_token: Option<&str>) -> Value {
    let mut body = Map::new();
    body.insert(member.into(), list);
    if let Some(token) = next_token {
        body.insert("nextToken".into(), token.into());
    }
    Value::Object(body)
}

/// Names of the resource and of what it is in.
fn names(key: &Key) -> Map<String, Value> {
    let mut names = Map::new();
    names.insert("meshName".into(), key.mesh.clone().into());
    if let Some(parent) = key.kind.parent() {
        names.insert(parent.name_member().into(), key.parent.clone().into());
    }
    names.insert(key.kind.name_member().into(), key.name.clone().into());
    names
}

/// `RouteData` and its twins.
fn data(resource: &Resource, status: Status, account: &str) -> Value {
    let mut data = names(&resource.key);
    let status = match status {
        Status::Active => "ACTIVE",
        Status::Deleted => "DELETED",
    };
    data.insert("spec".into(), resource.raw.clone());
    data.insert("status".into(), json!({ "status": status }));
    data.insert(
        "metadata".into(),
        json!({
            "arn": resource.arn,
            "version": resource.version,
            "uid": resource.uid,
            "createdAt": seconds(resource.created_at),
            "lastUpdatedAt": seconds(resource.last_updated_at),
            "meshOwner": account,
            "resourceOwner": account,
        }),
    );
    Value::Object(data)
}

/// `RouteRef` and its twins: flat, without uid, status and spec.
fn reference(resource: &Resource, account: &str) -> Value {
    let mut item = names(&resource.key);
    item.insert("arn".into(), resource.arn.clone().into());
    item.insert("createdAt".into(), seconds(resource.created_at));
    item.insert("lastUpdatedAt".into(), seconds(resource.last_updated_at));
    item.insert("meshOwner".into(), account.into());
    item.insert("resourceOwner".into(), account.into());
    item.insert("version".into(), resource.version.into());
    Value::Object(item)
}

/// Seconds with milliseconds as the fraction: `1563809909.282`. Exact for millennia: a double has 53 bits.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date are far below 2^53")]
fn seconds(at: Timestamp) -> Value {
    json!(at.0 as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
