//! What people leave out of files because guides do, and what is taken for it; each time with a remark at the place.
//!
//! Only in files: the API is as strict as AWS's. Only two things, which are in a guide that many follow: a health check
//! without its times, and an egress filter by `allowAll` or `dropAll` instead of its type.

use super::{Document, Problem};
use serde_json::{Map, Value};

/// Members of a health check that the API requires, and the values that AWS's console and guides begin with.
const TIMES: [(&str, u32); 2] = [("intervalMillis", 30_000), ("timeoutMillis", 5_000)];

/// The document with what was meant in the place of what was left out.
pub(super) fn mended(mut document: Document) -> Document {
    let mut told = Vec::new();
    if let Some(Value::Object(spec)) = &mut document.spec {
        health_checks(spec, &mut told);
        egress_filter(spec, &mut told);
    }
    let remarks: Vec<Problem> = told.into_iter().map(|(path, message)| document.problem(&path, message)).collect();
    document.remarks.extend(remarks);
    document
}

fn health_checks(spec: &mut Map<String, Value>, told: &mut Vec<(String, String)>) {
    let listeners = spec.get_mut("listeners").and_then(Value::as_array_mut);
    for (at, listener) in listeners.into_iter().flatten().enumerate() {
        let Some(check) = listener.get_mut("healthCheck").and_then(Value::as_object_mut) else { continue };
        for (member, millis) in TIMES {
            if check.contains_key(member) {
                continue;
            }
            check.insert(member.into(), millis.into());
            let path = format!("spec.listeners[{at}].healthCheck.{member}");
            let message = format!("{path}: is not said, and the API requires it: {millis} is taken");
            told.push((path, message));
        }
    }
}

fn egress_filter(spec: &mut Map<String, Value>, told: &mut Vec<(String, String)>) {
    let Some(filter) = spec.get_mut("egressFilter").and_then(Value::as_object_mut) else { return };
    let kind = match (filter.len(), filter.get("allowAll"), filter.get("dropAll")) {
        (1, Some(Value::Bool(true)), None) | (1, None, Some(Value::Bool(false))) => "ALLOW_ALL",
        (1, Some(Value::Bool(false)), None) | (1, None, Some(Value::Bool(true))) => "DROP_ALL",
        _ => return,
    };
    let said = filter.keys().next().cloned().unwrap_or_default();
    filter.clear();
    filter.insert("type".into(), kind.into());
    let path = format!("spec.egressFilter.{said}");
    let message = format!("{path}: is no member of the API: {{\"type\": \"{kind}\"}} is taken");
    told.push((path, message));
}
