//! Where requests and connections are logged.

use super::pieces::any;
use crate::mesh::snapshot::{LogFormat, Own};
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

/// The file log of a node or gateway, for each of its filters.
pub(super) fn of(own: &Own) -> Vec<accesslog::AccessLog> {
    use core::substitution_format_string::Format;
    use file::file_access_log::AccessLogFormat;
    let Some(log) = &own.access_log else { return Vec::new() };
    let substitution = |format: Format| {
        AccessLogFormat::LogFormat(core::SubstitutionFormatString { format: Some(format), ..Default::default() })
    };
    let format = match &log.format {
        LogFormat::Default => None,
        LogFormat::Text(text) => {
            let text = core::data_source::Specifier::InlineString(text.clone());
            Some(substitution(Format::TextFormatSource(core::DataSource { specifier: Some(text), ..Default::default() })))
        }
        LogFormat::Json(members) => {
            let value = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
            let fields = members.iter().map(|(key, text)| (key.clone(), value(text))).collect();
            Some(substitution(Format::JsonFormat(Struct { fields })))
        }
    };
    let log = file::FileAccessLog { path: log.path.clone(), access_log_format: format };
    vec![accesslog::AccessLog {
        name: "envoy.access_loggers.file".into(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(any(&log))),
        ..Default::default()
    }]
}
