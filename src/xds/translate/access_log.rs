//! Where requests and connections are logged.

use super::pieces::any;
use crate::mesh::snapshot::{LogFormat, Own, Role};
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use std::collections::BTreeMap;

/// The file log of a node or gateway, for each of its filters.
pub(super) fn of(own: &Own) -> Vec<accesslog::AccessLog> {
    let Some(log) = &own.access_log else { return Vec::new() };
    let config = match &log.format {
        _ if log.format.fault().is_some() => file_log(&log.path, None),
        LogFormat::Default => file_log(&log.path, None),
        LogFormat::Text(text) => file_log(&log.path, Some(text)),
        LogFormat::Json(members) => json_log(&log.path, members),
    };
    vec![accesslog::AccessLog {
        name: "envoy.access_loggers.file".into(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(config)),
        ..Default::default()
    }]
}

/// Why a node's format is not used; Envoy's own is then, since a listener with a wrong one would be refused as a whole.
pub(super) fn problem(own: &Own) -> Option<String> {
    let reason = own.access_log.as_ref()?.format.fault()?;
    let kind = if matches!(own.role, Role::Node) { "virtualNode" } else { "virtualGateway" };
    let path = format!("mesh/{}/{kind}/{}", own.mesh, own.name);
    Some(format!("{path}: spec.logging.accessLog.file.format: {reason}; Envoy's default format is used"))
}

fn file_log(path: &str, text: Option<&String>) -> Any {
    use core::substitution_format_string::Format;
    use file::file_access_log::AccessLogFormat;
    let format = text.map(|text| {
        let text = core::data_source::Specifier::InlineString(text.clone());
        let text = core::DataSource { specifier: Some(text), ..Default::default() };
        let format = Some(Format::TextFormatSource(text));
        AccessLogFormat::LogFormat(core::SubstitutionFormatString { format, ..Default::default() })
    });
    any(&file::FileAccessLog { path: path.to_owned(), access_log_format: format })
}

/// The same message with its members in an order: in Envoy's own type they are a map without one, and the bytes of a
/// configuration must be the same each time, or listeners would be replaced for nothing.
fn json_log(path: &str, members: &[(String, String)]) -> Any {
    let value = |text: &String| OrderedValue { text: Some(text.clone()) };
    let fields = members.iter().map(|(key, text)| (key.clone(), value(text))).collect();
    let log =
        OrderedLog { path: path.to_owned(), format: Some(OrderedFormat { json: Some(OrderedObject { fields }) }) };
    Any { type_url: file::FileAccessLog::type_url(), value: log.encode_to_vec() }
}

/// `envoy.extensions.access_loggers.file.v3.FileAccessLog`.
#[derive(Clone, PartialEq, Message)]
struct OrderedLog {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "5")]
    format: Option<OrderedFormat>,
}

/// `envoy.config.core.v3.SubstitutionFormatString`.
#[derive(Clone, PartialEq, Message)]
struct OrderedFormat {
    #[prost(message, optional, tag = "2")]
    json: Option<OrderedObject>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct OrderedObject {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, OrderedValue>,
}

/// `google.protobuf.Value`, of a text.
#[derive(Clone, PartialEq, Message)]
struct OrderedValue {
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_envoys_own_message_and_has_the_same_bytes_each_time() {
        let members: Vec<(String, String)> = (0..20).map(|n| (format!("k{n}"), format!("%V{n}%"))).collect();
        let log = json_log("/dev/stdout", &members);
        assert_eq!(log, json_log("/dev/stdout", &members));
        let read = file::FileAccessLog::decode(&*log.value).expect("is one");
        assert_eq!(read.path, "/dev/stdout");
        let Some(file::file_access_log::AccessLogFormat::LogFormat(format)) = read.access_log_format else {
            panic!("it has a format");
        };
        let Some(core::substitution_format_string::Format::JsonFormat(object)) = format.format else {
            panic!("it is an object");
        };
        assert_eq!(object.fields.len(), 20);
    }
}
