//! The grammar of access-log formats (Envoy 1.40, page "Access logging", "Command Operators"): `%NAME%`, `%NAME(arguments)%`
//! or `%NAME(arguments):length%`, and `%%` for a percent sign. What a command comes to is for the data plane.

use super::LogFormat;

/// Commands that belong to no family.
const COMMANDS: &str = "REQ RESP TRAILER START_TIME START_TIME_LOCAL EMIT_TIME EMIT_TIME_LOCAL BYTES_RECEIVED BYTES_SENT \
    BYTES_RETRANSMITTED PACKETS_RETRANSMITTED PROTOCOL CONNECTION_TERMINATION_DETAILS DURATION COMMON_DURATION \
    ROUNDTRIP_DURATION CONNECTION_ID STREAM_ID DYNAMIC_METADATA CLUSTER_METADATA METADATA FILTER_STATE FILTER_CHAIN_NAME \
    VIRTUAL_CLUSTER_NAME ROUTE_NAME REQUESTED_SERVER_NAME GRPC_STATUS GRPC_STATUS_NUMBER HOSTNAME ACCESS_LOG_TYPE \
    ENVIRONMENT UNIQUE_ID TRACE_ID SPAN_ID QUERY_PARAM QUERY_PARAMS PATH CUSTOM_FLAGS TLS_JA3_FINGERPRINT \
    TLS_JA4_FINGERPRINT LOCAL_REPLY_BODY COALESCE";

/// Families of commands, by how their names begin; which there are depends on the version of Envoy.
const FAMILIES: [&str; 4] = ["DOWNSTREAM_", "UPSTREAM_", "RESPONSE_", "REQUEST_"];

/// A part of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatPiece<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// A command of Envoy's.
    Command {
        /// Its name, such as `REQ`.
        name: &'a str,
        /// What stands in parentheses.
        arguments: Option<&'a str>,
        /// Most bytes of its value that are written.
        length: Option<usize>,
    },
}

/// The parts of a format, in their order.
///
/// # Errors
/// What is wrong with it, for people: a command that Envoy does not know or one without its end.
pub fn format_pieces(text: &str) -> Result<Vec<FormatPiece<'_>>, String> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        pieces.push(FormatPiece::Text(before));
        if let Some(next) = after.strip_prefix('%') {
            pieces.push(FormatPiece::Text("%"));
            rest = next;
            continue;
        }
        let (piece, after) = command(after)?;
        pieces.push(piece);
        rest = after;
    }
    pieces.push(FormatPiece::Text(rest));
    pieces.retain(|piece| *piece != FormatPiece::Text(""));
    Ok(pieces)
}

/// Reads a command behind its first `%`; answers what comes behind its last one.
fn command(text: &str) -> Result<(FormatPiece<'_>, &str), String> {
    let of_name = |character: char| character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_';
    let (name, mut tail) = text.split_at(text.find(|character| !of_name(character)).unwrap_or(text.len()));
    let plain = COMMANDS.split(' ').any(|known| known == name);
    if !plain && !FAMILIES.iter().any(|family| name.starts_with(family)) {
        return Err(format!("%{name}% is no command of Envoy's"));
    }
    let (mut arguments, mut length) = (None, None);
    if let Some(inside) = tail.strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or_else(|| format!("%{name}(… has no )"))?;
        (arguments, tail) = (Some(inside), after);
    }
    if let Some(after) = tail.strip_prefix(':') {
        let digits = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        (length, tail) = (number.parse().ok(), after);
    }
    let after = tail.strip_prefix('%').ok_or_else(|| format!("%{name} has no % at its end"))?;
    Ok((FormatPiece::Command { name, arguments, length }, after))
}

impl LogFormat {
    /// What is wrong with it, for people; `None` for a good one.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::Text(text) => format_pieces(text).err(),
            Self::Json(members) => members.iter().find_map(|(_, text)| format_pieces(text).err()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_envoy_refuses_is_known_before() {
        let good = [
            "",
            "plain 100%%\n",
            "[%START_TIME(%Y/%m/%dT%H:%M:%S%z)%] \"%REQ(:METHOD)%\" %RESPONSE_CODE%",
            "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):20% %BYTES_SENT%%DURATION%",
            "%DOWNSTREAM_REMOTE_ADDRESS%",
        ];
        for text in good {
            assert_eq!(LogFormat::Text(text.into()).fault(), None, "{text}");
        }
        let bad = [
            ("100%", "%% is no command"),
            ("%PATHS%", "%PATHS% is no command"),
            ("%REQ(:METHOD%", "%REQ(… has no )"),
            ("%DURATION is long", "%DURATION has no %"),
            ("%duration%", "%% is no command"),
        ];
        for (text, reason) in bad {
            let error = LogFormat::Text(text.into()).fault().unwrap_or_else(|| panic!("{text} is wrong"));
            assert!(error.starts_with(reason), "{text}: {error}");
            let member = |value: &str| ("k".to_owned(), value.to_owned());
            assert_eq!(LogFormat::Json(vec![member("%PROTOCOL%"), member(text)]).fault(), Some(error));
        }
    }

    #[test]
    fn pieces_say_what_stands_where() {
        let pieces = format_pieces("a%%b %REQ(X?Y):3%%DURATION%").expect("good");
        let command = |name, arguments, length| FormatPiece::Command { name, arguments, length };
        let wanted = [
            FormatPiece::Text("a"),
            FormatPiece::Text("%"),
            FormatPiece::Text("b "),
            command("REQ", Some("X?Y"), Some(3)),
            command("DURATION", None, None),
        ];
        assert_eq!(pieces, wanted);
    }
}
