//! Small messages that resources are made of.

use crate::base::time::Millis;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};
use prost::{Message, Name};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A message with its type.
pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// A span of time; `None` is 0, which switches a limit off.
pub(super) fn span_or_off(span: Option<Millis>) -> Option<Duration> {
    Some(span.map_or(Duration::default(), span_of))
}

/// Longest span that Envoy takes, in seconds, less a little: it counts nanoseconds in 63 bits, and 292 years are no limit.
const SECONDS_MAX: u64 = 9_000_000_000;

/// A span of time.
pub(super) fn span_of(span: Millis) -> Duration {
    let seconds = i64::try_from((span.0 / 1000).min(SECONDS_MAX)).unwrap_or(i64::MAX);
    let nanos = i32::try_from((span.0 % 1000) * 1_000_000).unwrap_or_default();
    Duration { seconds, nanos }
}

pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn truth(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A host, by address or by name, with its port.
pub(super) fn host(host: &str, port: u16) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

/// A socket address.
pub(super) fn socket(address: SocketAddr) -> Option<core::Address> {
    host(&address.ip().to_string(), address.port())
}

/// An address to listen on; with `both` the wildcard of both families takes the place of IPv4's.
pub(super) fn listening(address: SocketAddr, both: bool) -> Option<core::Address> {
    if !both || address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return socket(address);
    }
    let mut found = socket(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port()))?;
    if let Some(core::address::Address::SocketAddress(socket)) = &mut found.address {
        socket.ipv4_compat = true;
    }
    Some(found)
}

/// Over the stream that it came by.
pub(super) fn by_ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    })
}

/// Something that access logs may show (`%METADATA(ROUTE:tidegate:…)%`). One member, and everywhere in this module no map has
/// more: maps of these messages have no order, and the bytes must be the same each time.
pub(super) fn tagged(key: &str, value: &str) -> Option<core::Metadata> {
    use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
    let value = Value { kind: Some(Kind::StringValue(value.to_owned())) };
    let member = Struct { fields: [(key.to_owned(), value)].into_iter().collect() };
    let filter_metadata = [("tidegate".to_owned(), member)].into_iter().collect();
    Some(core::Metadata { filter_metadata, ..Default::default() })
}
