//! What a proxy tells of its requests, by the App Mesh image's variables.

/// The way to a collector of OpenTelemetry.
mod otlp;

use super::Failure;
use crate::app::{EmfSettings, EmfTarget, Rules, TraceSettings, XraySettings};
use crate::config::Environment;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Port of the X-Ray daemon.
const XRAY_PORT: u16 = 2000;
/// Share of the requests that are traced beyond the first of each second, where nothing is said.
const RATE: f64 = 0.05;
/// Time between two reports to CloudWatch, which keeps minutes.
const METRICS_EVERY: Duration = Duration::from_secs(60);
/// Tracers that this proxy does not have.
const OTHERS: [&str; 3] = ["ENABLE_ENVOY_DATADOG_TRACING", "ENABLE_ENVOY_JAEGER_TRACING", "ENVOY_TRACING_CFG_FILE"];

/// Whether counts say mesh and node (`ENABLE_ENVOY_STATS_TAGS`).
pub(super) fn stats_tags(environment: &dyn Environment) -> Result<bool, Failure> {
    flag(environment, "ENABLE_ENVOY_STATS_TAGS")
}

/// How requests are traced (`ENABLE_ENVOY_XRAY_TRACING` and what goes with it); `None` for not at all.
pub(super) fn traces(environment: &dyn Environment) -> Result<Option<TraceSettings>, Failure> {
    if let Some(name) = OTHERS.iter().find(|name| text(environment, name).is_some_and(|value| !is_off(&value))) {
        tracing::warn!(
            "{name} has no effect: the native proxy traces for X-Ray (ENABLE_ENVOY_XRAY_TRACING) and for collectors of \
             OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT)"
        );
    }
    let xray = match flag(environment, "ENABLE_ENVOY_XRAY_TRACING")? {
        true => Some(XraySettings { daemon: daemon(environment)?, name: text(environment, "XRAY_SEGMENT_NAME") }),
        false => None,
    };
    let otlp = otlp::settings(environment)?;
    if xray.is_none() && otlp.is_none() {
        return Ok(None);
    }
    Ok(Some(TraceSettings { xray, otlp, rules: rules(environment)? }))
}

/// Whether metrics go to CloudWatch by its API (`TIDEGATE_CLOUDWATCH`): into which namespace, and how often.
pub(super) fn cloudwatch(environment: &dyn Environment) -> Result<Option<(String, Duration)>, Failure> {
    if !flag(environment, "TIDEGATE_CLOUDWATCH")? {
        return Ok(None);
    }
    let namespace = text(environment, "TIDEGATE_CLOUDWATCH_NAMESPACE").unwrap_or_else(|| "AppMesh".to_owned());
    // "PutMetricData", Namespace.
    let is_good = namespace.len() <= 255
        && !namespace.starts_with("AWS/")
        && namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/#:".contains(&byte));
    if !is_good {
        return Err(Failure::new(format!(
            "TIDEGATE_CLOUDWATCH_NAMESPACE is {namespace:?}, which CloudWatch does not take"
        ))
        .hint("up to 255 of A-Z a-z 0-9 . - _ / # :, and not beginning with AWS/; for example AppMesh")
        .usage());
    }
    Ok(Some((namespace, METRICS_EVERY)))
}

/// How metrics go to CloudWatch (`TIDEGATE_EMF`: `stdout`, `udp://HOST:PORT` or `tcp://HOST:PORT`); `None` for not at all.
pub(super) fn emf(environment: &dyn Environment) -> Result<Option<EmfSettings>, Failure> {
    let Some(wanted) = text(environment, "TIDEGATE_EMF") else { return Ok(None) };
    let agent = |address: &str| address.parse::<SocketAddr>().ok();
    let to = match wanted.split_once("://") {
        None if wanted == "stdout" => Some(EmfTarget::Stdout),
        Some(("udp", address)) => agent(address).map(EmfTarget::Udp),
        Some(("tcp", address)) => agent(address).map(EmfTarget::Tcp),
        _ => None,
    };
    let to = to.ok_or_else(|| {
        Failure::new(format!("TIDEGATE_EMF is {wanted:?}; it is stdout, or the address of a CloudWatch agent"))
            .hint("for example udp://127.0.0.1:25888")
            .usage()
    })?;
    let or = |name: &str, otherwise: &str| text(environment, name).unwrap_or_else(|| otherwise.to_owned());
    let namespace = or("TIDEGATE_EMF_NAMESPACE", "AppMesh");
    let log_group = or("TIDEGATE_EMF_LOG_GROUP", "/tidegate/proxy");
    Ok(Some(EmfSettings { to, namespace, log_group, every: METRICS_EVERY }))
}

fn text(environment: &dyn Environment, name: &str) -> Option<String> {
    environment.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_off(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

fn flag(environment: &dyn Environment, name: &str) -> Result<bool, Failure> {
    match text(environment, name) {
        None => Ok(false),
        Some(value) if is_off(&value) => Ok(false),
        Some(value) if matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(value) => Err(Failure::new(format!("{name} is {value:?}; it is 1 or 0")).usage()),
    }
}

fn daemon(environment: &dyn Environment) -> Result<SocketAddr, Failure> {
    let port = match text(environment, "XRAY_DAEMON_PORT") {
        None => XRAY_PORT,
        Some(text) => {
            text.parse().map_err(|_| Failure::new(format!("XRAY_DAEMON_PORT is {text:?}, which is no port")).usage())?
        }
    };
    let Some(text) = text(environment, "AWS_XRAY_DAEMON_ADDRESS") else { return Ok(([127, 0, 0, 1], port).into()) };
    let both = text.parse::<SocketAddr>();
    both.or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port))).map_err(|_| {
        Failure::new(format!("AWS_XRAY_DAEMON_ADDRESS is {text:?}; it is an address and no name"))
            .hint("for example 127.0.0.1 or 127.0.0.1:2000")
            .usage()
    })
}

fn rules(environment: &dyn Environment) -> Result<Rules, Failure> {
    if let Some(path) = text(environment, "XRAY_SAMPLING_RULE_MANIFEST") {
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let rules = read.and_then(|json| Rules::read(&json));
        return rules.map_err(|reason| {
            Failure::new(format!("XRAY_SAMPLING_RULE_MANIFEST, {path}: {reason}"))
                .hint("it is a file of X-Ray's local sampling rules, version 2")
                .usage()
        });
    }
    let rate = match text(environment, "XRAY_SAMPLING_RATE") {
        None => Ok(RATE),
        Some(text) => text.parse::<f64>().map_err(|_| format!("{text:?} is no number")),
    };
    rate.and_then(Rules::share).map_err(|reason| {
        Failure::new(format!("XRAY_SAMPLING_RATE: {reason}")).hint("it is a share from 0 to 1, such as 0.05").usage()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub(super) struct Fixed(pub(super) BTreeMap<&'static str, &'static str>);

    impl Environment for Fixed {
        fn get(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|value| (*value).to_owned())
        }
    }

    fn with(variables: &[(&'static str, &'static str)]) -> Result<Option<TraceSettings>, Failure> {
        traces(&Fixed(variables.iter().copied().collect()))
    }

    #[test]
    fn tracing_is_off_until_it_is_asked_for() {
        assert!(with(&[]).is_ok_and(|settings| settings.is_none()));
        assert!(with(&[("ENABLE_ENVOY_XRAY_TRACING", "0")]).is_ok_and(|settings| settings.is_none()));
    }

    #[test]
    fn the_daemon_is_where_the_variables_say() {
        let of = |variables: &[(&'static str, &'static str)]| {
            let on = [("ENABLE_ENVOY_XRAY_TRACING", "true")];
            let all: Vec<_> = on.iter().chain(variables).copied().collect();
            with(&all).ok().flatten()?.xray.map(|settings| settings.daemon.to_string())
        };
        assert_eq!(of(&[]).as_deref(), Some("127.0.0.1:2000"));
        assert_eq!(of(&[("XRAY_DAEMON_PORT", "2001")]).as_deref(), Some("127.0.0.1:2001"));
        let address = ("AWS_XRAY_DAEMON_ADDRESS", "10.0.0.1");
        assert_eq!(of(&[address, ("XRAY_DAEMON_PORT", "2001")]).as_deref(), Some("10.0.0.1:2001"));
        assert_eq!(of(&[("AWS_XRAY_DAEMON_ADDRESS", "[::1]:9")]).as_deref(), Some("[::1]:9"));
        for wrong in [("AWS_XRAY_DAEMON_ADDRESS", "xray.local"), ("XRAY_DAEMON_PORT", "x"), ("XRAY_SAMPLING_RATE", "2")]
        {
            assert_eq!(of(&[wrong]), None, "{wrong:?}");
        }
    }

    #[test]
    fn metrics_go_where_the_variable_says() {
        let of = |value| emf(&Fixed([("TIDEGATE_EMF", value)].into())).ok().flatten().map(|settings| settings.to);
        assert_eq!(of("stdout"), Some(EmfTarget::Stdout));
        assert_eq!(of("udp://127.0.0.1:25888"), Some(EmfTarget::Udp(([127, 0, 0, 1], 25888).into())));
        assert_eq!(of("tcp://[::1]:1"), Some(EmfTarget::Tcp("[::1]:1".parse().expect("an address"))));
        for wrong in ["http://127.0.0.1:1", "udp://agent:1", "1"] {
            assert!(emf(&Fixed([("TIDEGATE_EMF", wrong)].into())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metrics_go_into_a_namespace_that_cloudwatch_takes() {
        let of = |namespace| {
            let variables = [("TIDEGATE_CLOUDWATCH", "1"), ("TIDEGATE_CLOUDWATCH_NAMESPACE", namespace)];
            cloudwatch(&Fixed(variables.into())).map(|wanted| wanted.map(|(namespace, _)| namespace))
        };
        assert_eq!(of("").ok().flatten().as_deref(), Some("AppMesh"));
        assert_eq!(of("Shop/Mesh").ok().flatten().as_deref(), Some("Shop/Mesh"));
        for wrong in ["AWS/ECS", "a b"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(cloudwatch(&Fixed(BTreeMap::new())).is_ok_and(|wanted| wanted.is_none()));
    }

    #[test]
    fn a_switch_that_is_neither_on_nor_off_is_refused() {
        assert!(with(&[("ENABLE_ENVOY_XRAY_TRACING", "yes")]).is_err());
    }
}
