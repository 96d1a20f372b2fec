//! Finds everything that is wrong with a request, before anything is looked up or changed.
//!
//! Two passes. The first holds the JSON against the API's shapes (`shape`): members, types, ranges, unions. Clients
//! check little of that themselves (appmesh "Transport": the SDKs check no maximum, pattern or enumeration), so the
//! server must. The second reads the typed spec and checks what one shape cannot say (`rules`): that weights sum to
//! at most 100, that a path starts with a slash. Rules about other resources are `ops`' business.
//!
//! Unknown members and nulls are dropped, as AWS does; a file is held to be exact ([`Unknown::Refuse`]), because there
//! an unknown member is a typing error.

mod extensions;
mod names;
mod rules;
mod shape;
mod table;

pub use names::{Names, Wants};
pub use shape::Unknown;

use crate::mesh::error::Violation;
use crate::mesh::model::{Kind, Spec};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest resource name (App Mesh API 2019-01-25, `ResourceName`), in characters.
const NAME_MAX: usize = 255;

/// Most tags of a resource (App Mesh API 2019-01-25, `TagList`).
pub const TAGS_MAX: usize = 50;

/// Body of a create request, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateBody {
    /// Name of the new resource.
    pub name: String,
    /// Its spec, normalised.
    pub spec: SpecPair,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Client token.
    pub token: Option<String>,
}

/// A spec twice: as it will be echoed, and typed.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecPair {
    /// To be echoed.
    pub raw: Value,
    /// To be read.
    pub typed: Spec,
}

/// Checks the body of `CreateX`.
pub fn create_body(kind: Kind, body: &Value, unknown: Unknown) -> Result<CreateBody, Vec<Violation>> {
    let mut out = Vec::new();
    let members = shape::members(body, table::create(kind), unknown, &mut out);
    let name = text(&members, kind.name_member()).unwrap_or_default();
    if members.contains_key(kind.name_member()) {
        check_name(kind, &name, kind.name_member(), &mut out);
    }
    let token = client_token(&members, &mut out);
    let tags = tags_of(members.get("tags"), &mut out);
    let spec = finish_spec(kind, members.get("spec"), out)?;
    let flaws = extensions::check(&tags, members.get("tags"), &spec.typed);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(CreateBody { name, spec, tags, token })
}

/// Checks the body of `UpdateX`: spec and client token.
pub fn update_body(kind: Kind, body: &Value) -> Result<(SpecPair, Option<String>), Vec<Violation>> {
    let mut out = Vec::new();
    let members = shape::members(body, table::update(kind), Unknown::Drop, &mut out);
    let token = client_token(&members, &mut out);
    Ok((finish_spec(kind, members.get("spec"), out)?, token))
}

/// Checks a spec alone.
pub fn spec(kind: Kind, raw: &Value, unknown: Unknown) -> Result<SpecPair, Vec<Violation>> {
    let mut out = Vec::new();
    let pruned = shape::check(raw, table::spec(kind), "spec", unknown, &mut out);
    finish_spec(kind, pruned.as_ref(), out)
}

/// Checks the body of `TagResource`, for this resource where there is one.
pub fn tag_body(body: &Value, resource: Option<&Spec>) -> Result<BTreeMap<String, String>, Vec<Violation>> {
    let mut out = Vec::new();
    let members = shape::members(body, table::TAG, Unknown::Drop, &mut out);
    let tags = tags_of(members.get("tags"), &mut out);
    if let Some(resource) = resource {
        out.extend(extensions::check(&tags, members.get("tags"), resource));
    }
    if out.is_empty() { Ok(tags) } else { Err(out) }
}

/// Checks the body of `UntagResource`.
pub fn untag_body(body: &Value) -> Result<Vec<String>, Vec<Violation>> {
    let mut out = Vec::new();
    let members = shape::members(body, table::UNTAG, Unknown::Drop, &mut out);
    if !out.is_empty() {
        return Err(out);
    }
    let keys = members.get("tagKeys").and_then(Value::as_array).into_iter().flatten();
    Ok(keys.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Checks a name that came in a path.
pub fn path_name(kind: Kind, name: &str, out: &mut Vec<Violation>) {
    check_name(kind, name, kind.name_member(), out);
}

/// Reads `limit` of a list operation: 1 to `max`, and `max` when absent.
pub fn limit(text: Option<&str>, max: usize) -> Result<usize, Violation> {
    let Some(text) = text else { return Ok(max) };
    text.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(|| Violation {
        path: "limit".into(),
        message: format!("must be a number from 1 to {max}, not {text:?}"),
    })
}

/// Turns a checked spec into its pair, or answers with all that is wrong.
fn finish_spec(kind: Kind, pruned: Option<&Value>, mut out: Vec<Violation>) -> Result<SpecPair, Vec<Violation>> {
    // `spec` may be absent for a mesh only, and then it is shown as `{}` (App Mesh API 2019-01-25, CreateMesh).
    let mut raw = pruned.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    fill_health_check_ports(kind, &mut raw);
    let fits = out.is_empty();
    match Spec::read(kind, &raw) {
        // Also when something does not fit, as long as the rest can be read: so all that is wrong is said at once.
        Ok(typed) => {
            rules::check(&typed, &mut out);
            if out.is_empty() { Ok(SpecPair { raw, typed }) } else { Err(out) }
        }
        Err(message) if fits => Err(vec![Violation { path: "spec".into(), message }]),
        Err(_) => Err(out),
    }
}

/// The one thing that App Mesh adds to a spec: `healthCheck.port` becomes the listener's (appmesh "Spec echo").
fn fill_health_check_ports(kind: Kind, raw: &mut Value) {
    if !matches!(kind, Kind::VirtualNode | Kind::VirtualGateway) {
        return;
    }
    for listener in raw.get_mut("listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = listener.pointer("/portMapping/port").cloned() else { continue };
        if let Some(check) = listener.get_mut("healthCheck").and_then(Value::as_object_mut) {
            check.entry("port").or_insert(port);
        }
    }
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// "Up to 36 letters, numbers, hyphens, and underscores" (App Mesh API 2019-01-25, `clientToken`).
fn client_token(members: &Map<String, Value>, out: &mut Vec<Violation>) -> Option<String> {
    let token = text(members, "clientToken")?;
    let fits = (1..=36).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !fits {
        out.push(Violation {
            path: "clientToken".into(),
            message: "must be 1 to 36 letters, numbers, hyphens and underscores".into(),
        });
    }
    fits.then_some(token)
}

/// Names are letters, numbers, hyphens and underscores (user guide, "virtual routers"), except those of virtual
/// services, which are whatever a client may call, but without control characters.
fn check_name(kind: Kind, name: &str, path: &str, out: &mut Vec<Violation>) {
    let count = name.chars().count();
    let message = if !(1..=NAME_MAX).contains(&count) {
        format!("must have 1 to {NAME_MAX} characters, not {count}")
    } else if kind == Kind::VirtualService {
        if !name.chars().any(char::is_control) {
            return;
        }
        "must not hold control characters".into()
    } else {
        let fits = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        match name.chars().find(|c| !fits(*c)) {
            None => return,
            Some(bad) => format!("may hold only letters, numbers, hyphens and underscores, not {bad:?}"),
        }
    };
    out.push(Violation { path: path.into(), message });
}

/// Reads a checked tag list; the same key twice is an error, since which one would win is not said anywhere.
fn tags_of(list: Option<&Value>, out: &mut Vec<Violation>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for (at, tag) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let (Some(key), Some(value)) =
            (tag.get("key").and_then(Value::as_str), tag.get("value").and_then(Value::as_str))
        else {
            continue;
        };
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            out.push(Violation { path: format!("tags[{at}].key"), message: format!("{key:?} is given twice") });
        }
    }
    tags
}

#[cfg(test)]
mod tests;
