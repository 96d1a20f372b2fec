//! `tidegate proxy`: a native proxy as a process of its own.

use super::args::ProxyArguments;
use super::stops::Stops;
use super::{Ended, Failure, Output, observed};
use crate::app::{
    ClientSettings, Origin, ProxyError, ProxyOptions, Redirecting, Sidecar, StartupError, TlsFiles, start_proxy,
};
use crate::base::loopback::is_this_machine;
use crate::base::secret::Redacted;
use crate::config::Environment;
use serde_json::json;
use std::path::PathBuf;
use std::str::FromStr;

/// Variables of the App Mesh image that say whose proxy it is, in the order in which they are looked at.
const NODE_VARIABLES: [&str; 3] = ["APPMESH_RESOURCE_ARN", "APPMESH_RESOURCE_NAME", "APPMESH_VIRTUAL_NODE_NAME"];

pub(super) async fn proxy(arguments: ProxyArguments, output: Output, environment: &dyn Environment) -> Ended {
    let options = options(&arguments, environment)?;
    let stops = Stops::listen()?;
    let (node, control_plane) = (options.client.node.clone(), options.client.control_plane.clone());
    tracing::info!(node, control_plane, "waiting for the first configuration");
    let mut running = tokio::select! {
        running = start_proxy(options) => match running {
            Err(StartupError::Proxy(ProxyError::AskedToQuit)) => return Ok(0),
            running => running?,
        },
        // Nobody was told an address yet, so there is nothing to finish.
        () = stops.more_than(0) => return Ok(0),
    };
    welcome(&running, &node, output);
    let quit = running.quit_requested();
    tokio::select! {
        () = stops.more_than(0) => {}
        () = quit => {}
        pid = running.superseded() => {
            output.remark(&format!("process {pid} serves now: requests under way finish here; a signal stops at once"));
            return stops.unless_once_more(running.leave(), "requests under way were cut", output).await;
        }
    }
    output.remark("stopping: requests under way finish; once more stops at once");
    stops.unless_once_more(running.drain(), "requests under way were cut", output).await
}

fn welcome(running: &Sidecar, node: &str, output: Output) {
    if output.is_json() {
        let outside = running.ingress.iter().map(|address| ("ingress", *address));
        for (name, address) in [("egress", running.egress), ("admin", running.admin)].into_iter().chain(outside) {
            output.json(&json!({"event": "listening", "name": name, "address": address.to_string()}));
        }
    } else {
        output.line(&format!("the proxy of {node} takes requests of this machine at http://{}", running.egress));
        for address in &running.ingress {
            let what = if is_gateway(node) { "comes from outside" } else { "is meant for its application" };
            output.line(&format!("what {what} goes to {address}"));
        }
        output.line(&format!("its admin pages are at http://{}", running.admin));
    }
    if let Some(pid) = running.predecessor {
        output.remark(&format!("took over from process {pid}"));
    }
    if running.origin == Origin::Kept {
        output.remark("the control plane cannot be reached: going by the configuration that was kept");
    }
}

/// What was asked for, by options and by the App Mesh image's variables.
fn options(arguments: &ProxyArguments, environment: &dyn Environment) -> Result<ProxyOptions, Failure> {
    let variable = |name: &str| environment.get(name).filter(|text| !text.is_empty());
    let by_image = NODE_VARIABLES.iter().find_map(|name| variable(name));
    let is_image = by_image.is_some() || variable("ENVOY_ADMIN_ACCESS_PORT").is_some();
    let node = arguments.node.clone().or(by_image).ok_or_else(|| {
        Failure::new("whose proxy is it? there is neither --node nor $APPMESH_RESOURCE_ARN")
            .hint("for example --node mesh/shop/virtualNode/checkout-v1")
            .usage()
    })?;
    let by_variable = variable("APPMESH_XDS_ENDPOINT")
        .map(|endpoint| if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") });
    let control_plane = arguments.control_plane.clone().or(by_variable).ok_or_else(|| {
        Failure::new("where is the control plane? there is neither --control-plane nor $APPMESH_XDS_ENDPOINT")
            .hint("for example --control-plane http://127.0.0.1:7072, where `tidegate local` is")
            .usage()
    })?;
    let token = variable("TIDEGATE_TOKEN").map(Redacted::new);
    if token.is_some() && !is_private(&control_plane) && variable("TIDEGATE_INSECURE").as_deref() != Some("1") {
        return Err(Failure::new(format!("$TIDEGATE_TOKEN would go to {control_plane} in clear text"))
            .hint("use https://, or set TIDEGATE_INSECURE=1 where the network may know it")
            .usage());
    }
    let port = match variable("ENVOY_ADMIN_ACCESS_PORT") {
        Some(text) => Some(
            text.parse()
                .map_err(|_| Failure::new(format!("ENVOY_ADMIN_ACCESS_PORT is {text:?}, which is no port")).usage())?,
        ),
        None => None,
    };
    let identity = arguments.certificate.clone().zip(arguments.key.clone());
    let tls = TlsFiles { authorities: arguments.ca.clone(), identity };
    if !control_plane.starts_with("https://") && (tls.authorities.is_some() || tls.identity.is_some()) {
        return Err(Failure::new("--ca and --certificate are for TLS")
            .hint("use a --control-plane with https://")
            .usage());
    }
    let is_gateway = is_gateway(&node);
    if is_gateway && arguments.transparent {
        return Err(Failure::new(format!("nothing is redirected to {node}: a gateway is called by its own address"))
            .hint("leave --transparent out")
            .usage());
    }
    if arguments.transparent && arguments.ingress.ip().is_loopback() {
        let message = format!("nothing that is redirected comes to --ingress {}", arguments.ingress);
        return Err(Failure::new(message)
            .hint("what comes from outside is redirected to the address that it came in by: write 0.0.0.0, or [::]")
            .usage());
    }
    let client = ClientSettings { control_plane, node, token, tls, kept: arguments.state.clone() };
    Ok(ProxyOptions {
        client,
        egress: arguments.egress(),
        redirecting: redirecting(arguments, environment)?,
        ingress: arguments.ingress,
        is_gateway,
        admin: arguments.admin(port, is_image),
        workers: arguments.workers.map_or(0, usize::from),
        discovery: arguments.discovery.clone(),
        sds: arguments.sds.clone().or_else(|| variable("APPMESH_SDS_SOCKET_PATH").map(PathBuf::from)),
        hot_restart: arguments.hot_restart.clone(),
        stats_tags: observed::stats_tags(environment)?,
        traces: observed::traces(environment)?,
        emf: observed::emf(environment)?,
        cloudwatch: observed::cloudwatch(environment)?,
    })
}

/// Addresses of the metadata of tasks and instances, which ECS leaves out as well (appmesh "Interception").
const METADATA: &str = "169.254.169.254,169.254.170.2";

/// What is redirected, by options and by the variables of App Mesh's init container.
fn redirecting(arguments: &ProxyArguments, environment: &dyn Environment) -> Result<Option<Redirecting>, Failure> {
    if !arguments.transparent {
        return Ok(None);
    }
    let listed = |name: &str, otherwise: &str| environment.get(name).unwrap_or_else(|| otherwise.to_owned());
    let addresses = listed("APPMESH_EGRESS_IGNORED_IP", METADATA);
    let ports = listed("APPMESH_EGRESS_IGNORED_PORTS", "");
    Ok(Some(Redirecting {
        ignored_addresses: given_or(&arguments.ignored_ip, "APPMESH_EGRESS_IGNORED_IP", &addresses)?,
        ignored_ports: given_or(&arguments.ignored_port, "APPMESH_EGRESS_IGNORED_PORTS", &ports)?,
    }))
}

/// What was given, else what a variable lists.
fn given_or<T: FromStr + Clone>(given: &[T], variable: &str, list: &str) -> Result<Vec<T>, Failure> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read = |word: &str| {
        let wrong = || Failure::new(format!("{variable} has {word:?}, which cannot be read")).usage();
        word.parse().map_err(|_| wrong())
    };
    words.map(read).collect()
}

/// Whether this names a virtual gateway, by its path or its ARN.
fn is_gateway(node: &str) -> bool {
    node.split('/').nth_back(1) == Some("virtualGateway")
}

/// Whether what is sent there stays secret: by TLS, or since it does not leave the machine.
fn is_private(url: &str) -> bool {
    url.strip_prefix("http://").is_none_or(is_this_machine)
}
