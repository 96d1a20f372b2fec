//! A request as the X-Ray daemon takes it (AWS X-Ray Developer Guide, "Segment documents"), with the fields that Envoy's tracer
//! fills under App Mesh. Pure.

use super::ids::xray_id;
use crate::proxy::access_log::facts::Facts;
use serde_json::{Value, json};

/// What stands before each document to the daemon.
const HEADER: &str = "{\"format\": \"json\", \"version\": 1}\n";
/// More of a URL or a name of a program is cut off: a document has to fit into a datagram.
const MOST: usize = 2048;

/// What is known of a traced request at its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The trace.
    pub trace: u128,
    /// Number of this span.
    pub span: u64,
    /// The span that it comes from.
    pub parent: Option<u64>,
    /// What came as `tracestate` with it.
    pub state: Option<String>,
    /// Its method.
    pub method: String,
    /// What the client speaks to the first proxy, such as `https`.
    pub scheme: String,
    /// Whom it was for.
    pub host: String,
    /// What was asked for, with its query.
    pub path: String,
    /// The client's program.
    pub agent: Option<String>,
    /// The client that the first proxy saw.
    pub forwarded_for: Option<String>,
    /// Whether it was for the application beside the proxy.
    pub is_inbound: bool,
}

/// Who sends it.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Name of the segment.
    pub name: &'a str,
    /// The mesh.
    pub mesh: &'a str,
    /// The own node or gateway.
    pub node: &'a str,
}

/// What fits of a text.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MOST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A datagram for the daemon.
#[must_use]
pub fn datagram(begun: &Begun, facts: &Facts, sender: Sender<'_>) -> String {
    let start = facts.started.0 as f64 / 1000.0;
    let url = format!("{}://{}{}", begun.scheme, begun.host, begun.path);
    let mut request = json!({ "method": begun.method, "url": cut(&url) });
    if let Some(agent) = &begun.agent {
        request["user_agent"] = cut(agent).into();
    }
    let client = facts.client.map(|client| client.ip().to_canonical().to_string());
    match (begun.forwarded_for.as_deref(), client) {
        (Some(client), _) => {
            request["client_ip"] = cut(client).into();
            request["x_forwarded_for"] = true.into();
        }
        (None, Some(client)) => request["client_ip"] = client.into(),
        (None, None) => {}
    }
    let mut document = json!({
        "name": sender.name,
        "id": format!("{:016x}", begun.span),
        "trace_id": xray_id(begun.trace),
        "start_time": start,
        "end_time": start + facts.duration.as_secs_f64(),
        "origin": "AWS::AppMesh::Proxy",
        // Gateways too: X-Ray knows no other name.
        "aws": { "app_mesh": { "mesh_name": sender.mesh, "virtual_node_name": sender.node } },
        "http": { "request": request, "response": { "status": facts.status, "content_length": facts.bytes_sent } },
        "annotations": { "direction": if begun.is_inbound { "ingress" } else { "egress" } },
    });
    if let Some(parent) = begun.parent {
        document["parent_id"] = format!("{parent:016x}").into();
    }
    if let Some(cluster) = &facts.cluster {
        document["annotations"]["upstream_cluster_name"] = Value::from(cluster.as_str());
    }
    for (name, is_so) in [
        ("error", (400..500).contains(&facts.status)),
        ("throttle", facts.status == 429),
        ("fault", facts.status >= 500 || facts.status == 0),
    ] {
        if is_so {
            document[name] = true.into();
        }
    }
    format!("{HEADER}{document}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use std::time::Duration;

    fn of(status: u16) -> Value {
        let begun = Begun {
            trace: 0x5759_e988_bd86_2e3f_e1be_46a9_9427_2793,
            span: 10,
            parent: Some(9),
            state: None,
            method: "GET".into(),
            scheme: "http".into(),
            host: "shop.local".into(),
            path: format!("/{}", "ä".repeat(3000)),
            agent: Some("curl".into()),
            forwarded_for: None,
            is_inbound: true,
        };
        let facts = Facts {
            started: Timestamp(1_500),
            duration: Duration::from_millis(250),
            status,
            bytes_sent: 7,
            client: Some("10.0.0.9:4000".parse().expect("an address")),
            cluster: Some("c".into()),
            ..Facts::default()
        };
        let text = datagram(&begun, &facts, Sender { name: "m/n", mesh: "m", node: "n" });
        let document = text.strip_prefix(HEADER).expect("the header").to_owned();
        serde_json::from_str(&document).expect("JSON")
    }

    #[test]
    fn a_segment_says_who_when_and_what() {
        let segment = of(200);
        assert_eq!(segment["trace_id"], "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!((&segment["id"], &segment["parent_id"]), (&json!("000000000000000a"), &json!("0000000000000009")));
        assert_eq!((&segment["start_time"], &segment["end_time"]), (&json!(1.5), &json!(1.75)));
        assert_eq!(segment["aws"]["app_mesh"], json!({ "mesh_name": "m", "virtual_node_name": "n" }));
        assert_eq!(segment["http"]["response"], json!({ "status": 200, "content_length": 7 }));
        assert_eq!(segment["http"]["request"]["client_ip"], "10.0.0.9");
        assert!(segment["http"]["request"]["url"].as_str().expect("text").len() <= MOST);
        assert_eq!(segment["annotations"], json!({ "direction": "ingress", "upstream_cluster_name": "c" }));
    }

    #[test]
    fn failures_are_marked_as_xray_marks_them() {
        let marks = |status| {
            let segment = of(status);
            ["error", "throttle", "fault"].map(|name| segment[name] == json!(true))
        };
        assert_eq!(marks(200), [false, false, false]);
        assert_eq!(marks(404), [true, false, false]);
        assert_eq!(marks(429), [true, true, false]);
        assert_eq!(marks(503), [false, false, true]);
        assert_eq!(marks(0), [false, false, true]);
    }
}
