//! The wire from the other side: where to ask for things, what to send, and resources out of answers.

use super::PREFIX;
use crate::base::time::Timestamp;
use crate::mesh::model::{Key, Kind, Resource, Spec};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One page of a list, and the token of the next.
pub type Page<T> = (Vec<T>, Option<String>);

/// What the AWS SDKs leave as it is in a name within a path or a query (RFC 3986, "unreserved").
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one segment of a path, or as a value in a query.
#[must_use]
pub fn encoded(name: &str) -> String {
    utf8_percent_encode(name, UNRESERVED).to_string()
}

/// Path at which a resource is described and updated.
#[must_use]
pub fn resource_path(key: &Key) -> String {
    format!("{}/{}", collection_path(key), encoded(&key.name))
}

/// Path at which a resource is created and its siblings are listed; the name in `key` does not matter.
#[must_use]
pub fn collection_path(key: &Key) -> String {
    let (mesh, plural) = (encoded(&key.mesh), key.kind.plural());
    match (key.kind, key.kind.parent()) {
        (Kind::Mesh, _) => format!("{PREFIX}{plural}"),
        (_, Some(parent)) => format!("{PREFIX}meshes/{mesh}/{parent}/{}/{plural}", encoded(&key.parent)),
        (_, None) => format!("{PREFIX}meshes/{mesh}/{plural}"),
    }
}

/// Path and query of an operation on tags: `tag` or `tags`.
#[must_use]
pub fn tags_path(word: &str, arn: &str) -> String {
    format!("{PREFIX}{word}?resourceArn={}", encoded(arn))
}

/// Body of `CreateX`.
#[must_use]
pub fn create_body(resource: &Resource) -> Value {
    let mut body = Map::new();
    body.insert(resource.key.kind.name_member().into(), resource.key.name.clone().into());
    body.insert("spec".into(), resource.raw.clone());
    if !resource.tags.is_empty() {
        body.extend([("tags".to_owned(), tag_list(&resource.tags))]);
    }
    Value::Object(body)
}

/// `tags` of `CreateX` and `TagResource`.
#[must_use]
pub fn tag_list(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// The resource of a describe output, with its spec as read from there. Metadata that a lesser imitation of App Mesh
/// leaves out is empty.
#[must_use]
pub fn resource(key: &Key, body: &Value, raw: Value, spec: Spec) -> Resource {
    let metadata = &body["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    Resource {
        key: key.clone(),
        arn: text("arn"),
        uid: text("uid"),
        version: metadata["version"].as_i64().unwrap_or(0),
        created_at: timestamp(&metadata["createdAt"]),
        last_updated_at: timestamp(&metadata["lastUpdatedAt"]),
        raw,
        spec,
        tags: BTreeMap::new(),
        generation: None,
        lease: None,
        lapsed: None,
        fuse: None,
        tokens: Vec::new(),
    }
}

/// Names in a list output.
///
/// # Errors
/// Says which member is missing.
pub fn names(kind: Kind, body: &Value) -> Result<Page<String>, String> {
    let items = body[kind.plural()].as_array().ok_or_else(|| format!("no {}", kind.plural()))?;
    let names: Option<Vec<String>> =
        items.iter().map(|item| item[kind.name_member()].as_str().map(str::to_owned)).collect();
    let names = names.ok_or_else(|| format!("{} without {}", kind.plural(), kind.name_member()))?;
    Ok((names, next_token(body)))
}

/// Keys and values in the output of `ListTagsForResource`.
///
/// # Errors
/// Says which member is missing.
pub fn tags(body: &Value) -> Result<Page<(String, String)>, String> {
    let items = body["tags"].as_array().ok_or("no tags")?;
    let tags: Option<Vec<(String, String)>> = items
        .iter()
        .map(|tag| Some((tag["key"].as_str()?.to_owned(), tag["value"].as_str().unwrap_or_default().to_owned())))
        .collect();
    Ok((tags.ok_or("tags without key")?, next_token(body)))
}

fn next_token(body: &Value) -> Option<String> {
    body["nextToken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Seconds with milliseconds as the fraction, as `super` writes them.
fn timestamp(seconds: &Value) -> Timestamp {
    // A cast of a number that does not fit saturates.
    Timestamp((seconds.as_f64().unwrap_or_default() * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::model::{Reply, Request, Status};
    use crate::mesh::wire::{self, Asked, Parts};
    use std::sync::Arc;

    fn keys() -> Vec<Key> {
        let awkward = "shop/checkout local?é#%2F";
        vec![
            Key::mesh("shop"),
            Key::child("shop", Kind::VirtualNode, "v-1_a"),
            Key::child("shop", Kind::VirtualRouter, "r"),
            Key::grandchild("shop", Kind::Route, "r", "x"),
            Key::child("shop", Kind::VirtualService, awkward),
            Key::child("shop", Kind::VirtualGateway, "g"),
            Key::grandchild("shop", Kind::GatewayRoute, "g", "x"),
        ]
    }

    #[test]
    fn the_server_reads_our_paths() {
        for key in keys() {
            let ask = |path: &str| {
                let parts = Parts { method: "GET", path, query: "", extensions: Asked::default(), body: b"" };
                wire::request(parts).expect("is an operation")
            };
            assert_eq!(ask(&resource_path(&key)), Request::Describe { key: key.clone(), owner: None });
            let Request::List { kind, parent, .. } = ask(&collection_path(&key)) else { panic!("{key}") };
            assert_eq!((kind, parent.unwrap_or_default()), (key.kind, key.parent));
        }
    }

    #[test]
    fn what_the_server_describes_is_read_back() {
        let key = Key::mesh("shop");
        let raw = json!({ "egressFilter": { "type": "ALLOW_ALL" } });
        let spec = Spec::read(Kind::Mesh, &raw).expect("is a spec");
        let sent = Resource {
            arn: "arn:aws:appmesh:us-east-1:000000000000:mesh/shop".into(),
            uid: "u".into(),
            version: 3,
            created_at: Timestamp(1_563_809_909_282),
            last_updated_at: Timestamp(1_763_809_909_283),
            ..resource(&key, &json!({}), raw, spec)
        };
        let reply = Reply::Resource { resource: Arc::new(sent.clone()), status: Status::Active, account: "0".into() };
        let body = wire::reply(&reply);
        assert_eq!(resource(&key, &body, body["spec"].clone(), sent.spec.clone()), sent);
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        let page = json!({ "routes": [{ "routeName": "x" }], "nextToken": "t" });
        assert_eq!(names(Kind::Route, &page), Ok((vec!["x".into()], Some("t".into()))));
        assert_eq!(names(Kind::Mesh, &json!({ "rollouts": [] })), Err("no meshes".into()));
        assert_eq!(names(Kind::Mesh, &json!({ "meshes": [{}] })), Err("meshes without meshName".into()));
        assert_eq!(tags(&json!({ "tags": [{ "key": "a" }] })), Ok((vec![("a".into(), String::new())], None)));
        assert!(tags(&json!({})).is_err());
    }
}
