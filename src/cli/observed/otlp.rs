//! The way to a collector of OpenTelemetry, by OpenTelemetry's own variables ("OpenTelemetry Protocol Exporter" and "OpenTelemetry
//! Environment Variable Specification").

use super::{flag, text};
use crate::app::OtlpSettings;
use crate::base::loopback::is_this_machine;
use crate::base::secret::Redacted;
use crate::cli::Failure;
use crate::config::Environment;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use std::time::Duration;

/// The standard's default, in milliseconds.
const TIMEOUT_MS: u64 = 10_000;
/// A longer one would hold up what comes behind.
const MAX_TIMEOUT_MS: u64 = 60_000;
/// Attributes and headers that one may name; each goes with every call.
const MOST_PAIRS: usize = 64;
/// Variables that change nothing here.
const WITHOUT_EFFECT: [&str; 4] =
    ["OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_PROPAGATORS"];

/// Where spans go; `None` for nowhere.
pub(super) fn settings(environment: &dyn Environment) -> Result<Option<OtlpSettings>, Failure> {
    let Some(endpoint) = endpoint(environment)? else { return Ok(None) };
    for name in WITHOUT_EFFECT.iter().filter(|name| text(environment, name).is_some()) {
        tracing::warn!("{name} has no effect on the native proxy (docs/proxy-observability.md says what has)");
    }
    let (name, protocol) = either(environment, "PROTOCOL").unwrap_or(("", "http/protobuf".to_owned()));
    if protocol != "http/protobuf" {
        return Err(Failure::new(format!("{name} is {protocol:?}; the native proxy speaks http/protobuf"))
            .hint("set it to http/protobuf, and the endpoint to the collector's port for HTTP (4318)")
            .usage());
    }
    let headers = headers(environment, &endpoint)?;
    let (service, resource) = resource(environment)?;
    let timeout = Duration::from_millis(timeout_ms(environment)?);
    Ok(Some(OtlpSettings { endpoint, headers: Redacted::new(headers), timeout, service, resource }))
}

/// A variable for traces alone, or the one for everything, and its name.
fn either(environment: &dyn Environment, what: &str) -> Option<(&'static str, String)> {
    let names: [&'static str; 2] = match what {
        "PROTOCOL" => ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
        "HEADERS" => ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
        _ => ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
    };
    names.into_iter().find_map(|name| Some((name, text(environment, name)?)))
}

fn endpoint(environment: &dyn Environment) -> Result<Option<Url>, Failure> {
    if flag(environment, "OTEL_SDK_DISABLED")? {
        return Ok(None);
    }
    let exporter = text(environment, "OTEL_TRACES_EXPORTER");
    match exporter.as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => {
            return Err(Failure::new(format!("OTEL_TRACES_EXPORTER is {other:?}; it is otlp or none")).usage());
        }
    }
    let (for_traces, for_all) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
    let (name, text, is_base) = match (text(environment, for_traces), text(environment, for_all)) {
        (Some(whole), _) => (for_traces, whole, false),
        (None, Some(base)) => (for_all, base, true),
        (None, None) if exporter.is_some() => (for_all, "http://localhost:4318".to_owned(), true),
        (None, None) => return Ok(None),
    };
    // The standard takes what is for everything as a folder, and what is for traces as it is.
    let whole = if is_base { format!("{}/v1/traces", text.trim_end_matches('/')) } else { text };
    let url = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let wrong = |why: &str| Failure::new(format!("{name} {why}")).hint("for example http://127.0.0.1:4318").usage();
    let url = url.ok_or_else(|| wrong("is no URL with http:// or https://"))?;
    // Not repeated: it holds a secret.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or a password; what is secret goes into OTEL_EXPORTER_OTLP_HEADERS"));
    }
    Ok(Some(url))
}

/// `name=value` pairs with commas between them, values percent-encoded (W3C Baggage). Nothing of them is repeated in an error.
fn pairs(name: &str, list: &str) -> Result<Vec<(String, String)>, Failure> {
    let wrong = || {
        Failure::new(format!("{name} is no list of up to {MOST_PAIRS} name=value pairs"))
            .hint("for example name=value,other=value, with what is special percent-encoded")
            .usage()
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        Ok((name.trim().to_owned(), value.into_owned()))
    };
    let pairs = list.split(',').filter(|one| !one.trim().is_empty()).map(pair);
    let pairs: Vec<_> = pairs.collect::<Result<_, Failure>>()?;
    if pairs.len() > MOST_PAIRS || pairs.iter().any(|(name, _)| name.is_empty()) { Err(wrong()) } else { Ok(pairs) }
}

fn headers(environment: &dyn Environment, endpoint: &Url) -> Result<HeaderMap, Failure> {
    let Some((variable, list)) = either(environment, "HEADERS") else { return Ok(HeaderMap::new()) };
    let is_private = endpoint.scheme() == "https" || endpoint.host_str().is_some_and(is_this_machine);
    if !is_private && text(environment, "TIDEGATE_INSECURE").as_deref() != Some("1") {
        let host = endpoint.host_str().unwrap_or_default();
        return Err(Failure::new(format!("{variable} would go to {host} in clear text"))
            .hint("use https://, or set TIDEGATE_INSECURE=1 where the network may know it")
            .usage());
    }
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(variable, &list)? {
        let header = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(value).ok());
        let (header, mut value) = header.ok_or_else(|| {
            Failure::new(format!("{variable} holds {name:?}, which is no header or has a value that none may have"))
                .usage()
        })?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

/// `service.name`, and the other attributes of the process.
type Attributes = (Option<String>, Vec<(String, String)>);

fn resource(environment: &dyn Environment) -> Result<Attributes, Failure> {
    let variable = "OTEL_RESOURCE_ATTRIBUTES";
    let all = text(environment, variable).map_or(Ok(Vec::new()), |list| pairs(variable, &list))?;
    let (named, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name == "service.name");
    let named = named.into_iter().next_back().map(|(_, name)| name);
    Ok((text(environment, "OTEL_SERVICE_NAME").or(named), others))
}

fn timeout_ms(environment: &dyn Environment) -> Result<u64, Failure> {
    let Some((name, text)) = either(environment, "TIMEOUT") else { return Ok(TIMEOUT_MS) };
    let timeout = text.parse().ok().filter(|timeout| (1..=MAX_TIMEOUT_MS).contains(timeout));
    timeout.ok_or_else(|| {
        Failure::new(format!("{name} is {text:?}; it is a time in milliseconds, from 1 to {MAX_TIMEOUT_MS}")).usage()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::observed::tests::Fixed;

    fn of(variables: &[(&'static str, &'static str)]) -> Result<Option<OtlpSettings>, Failure> {
        settings(&Fixed(variables.iter().copied().collect()))
    }

    const HERE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");

    #[test]
    fn the_endpoint_is_a_folder_or_for_traces_alone() {
        let endpoint = |variables: &[_]| of(variables).ok().flatten().map(|settings| settings.endpoint.to_string());
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&[HERE]).as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector/in");
        assert_eq!(endpoint(&[HERE, traces]).as_deref(), Some("https://collector/in"));
        let otlp = ("OTEL_TRACES_EXPORTER", "otlp");
        assert_eq!(endpoint(&[otlp]).as_deref(), Some("http://localhost:4318/v1/traces"));
        for off in [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")] {
            assert_eq!(endpoint(&[HERE, off]), None, "{off:?}");
        }
    }

    #[test]
    fn headers_and_attributes_are_lists() {
        let settings = of(&[
            HERE,
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret-word, x-tenant = a"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,deployment.environment.name=prod"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ]);
        let settings = settings.ok().flatten().expect("good");
        let headers = settings.headers.reveal();
        assert_eq!(
            (&headers["authorization"], &headers["x-tenant"]),
            (&"Bearer secret-word".parse().expect("text"), &"a".parse().expect("text"))
        );
        assert!(!format!("{settings:?} {headers:?}").contains("secret-word"));
        assert_eq!((settings.service.as_deref(), settings.timeout), (Some("shop"), Duration::from_millis(500)));
        assert_eq!(settings.resource, [("deployment.environment.name".to_owned(), "prod".to_owned())]);
        let named = of(&[HERE, ("OTEL_SERVICE_NAME", "web"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop")]);
        assert_eq!(named.ok().flatten().and_then(|settings| settings.service).as_deref(), Some("web"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let there = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://10.0.0.1:4318");
        let secret = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret-word");
        for (variables, said) in [
            (&[there, secret][..], "in clear text"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_HEADERS", "secret-word")], "no list"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret-word%0a")], "no header"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "speaks http/protobuf"),
            (&[HERE, ("OTEL_EXPORTER_OTLP_TIMEOUT", "0")], "milliseconds"),
            (&[HERE, ("OTEL_TRACES_EXPORTER", "zipkin")], "otlp or none"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")], "no URL"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:secret-word@h")], "a user or a password"),
        ] {
            let failure = of(variables).expect_err(said);
            assert!(failure.message.contains(said), "{}", failure.message);
            assert!(!format!("{failure:?}").contains("secret-word"), "{failure:?}");
        }
        assert!(of(&[there, secret, ("TIDEGATE_INSECURE", "1")]).is_ok());
    }
}
