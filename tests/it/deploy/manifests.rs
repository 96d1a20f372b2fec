//! The image's recipe, the unit of systemd and the manifest of Kubernetes: they start the program as it wants to be started,
//! and agree with one another.

use super::reads::{SECRET, understood, verb};
use crate::shell::root;
use saphyr::{LoadableYamlNode, Yaml};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use tidegate::cli::args::Verb;
use tidegate::config::API_PORT;
use tidegate::config::daemon::DatabaseConfig;

/// Where the image has the configuration, and where packages put it.
const CONFIG: &str = "/etc/tidegate/tidegate.toml";

fn file(path: &str) -> String {
    std::fs::read_to_string(root().join("deploy").join(path)).unwrap()
}

/// These words serve, by the configuration where it is.
fn serves<W: AsRef<str>>(words: &[W]) {
    let Verb::Serve(arguments) = verb(words) else { panic!("it does not serve") };
    assert_eq!(arguments.config, PathBuf::from(CONFIG));
}

/// The instructions of a recipe, with their lines joined.
fn instructions(recipe: &str) -> Vec<(String, String)> {
    let joined = recipe.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).unwrap();
    lines.map(pair).collect()
}

/// The last instruction of a name: the one of the image that results.
fn last<'a>(recipe: &'a [(String, String)], name: &str) -> &'a str {
    let found = recipe.iter().rev().find(|(of, _)| of == name);
    found.unwrap_or_else(|| panic!("no {name}")).1.as_str()
}

fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{list} needs a shell: {error}"))
}

/// The user of the image, by number.
fn user() -> i64 {
    let recipe = instructions(&file("Dockerfile"));
    last(&recipe, "USER").split(':').next().unwrap().parse().expect("a number, so that `runAsNonRoot` can be checked")
}

#[test]
fn the_recipe_of_the_image_starts_the_daemon_as_nobody_in_particular() {
    let recipe = instructions(&file("Dockerfile"));
    assert_eq!(last(&recipe, "FROM"), "scratch");
    assert_eq!(words(last(&recipe, "ENTRYPOINT")), ["tidegate"]);
    serves(&words(last(&recipe, "CMD")));
    let health = last(&recipe, "HEALTHCHECK").split_once("CMD ").unwrap().1;
    assert!(matches!(verb(&words(health)[1..]), Verb::Health(_)));
    assert_eq!(last(&recipe, "EXPOSE"), API_PORT.to_string());
    assert!(last(&recipe, "ENV").strip_prefix("PATH=").unwrap().split(':').any(|place| place == "/usr/local/bin"));
    assert_ne!(user(), 0);
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let rust = recipe[0].1.strip_prefix("rust:").and_then(|image| image.split('-').next()).unwrap();
    assert!(toolchain.contains(&format!("channel = \"{rust}")), "{rust} is not that of rust-toolchain.toml");
    for (_, arguments) in recipe.iter().filter(|(name, rest)| name == "COPY" && !rest.starts_with("--from")) {
        let (_, sources) =
            arguments.split(' ').collect::<Vec<_>>().split_last().map(|(to, from)| (*to, from.to_vec())).unwrap();
        sources.iter().for_each(|source| assert!(root().join(source).exists(), "{source} is not there"));
    }
    // What the command names is in the image, by the script that fills it.
    assert!(file("image-root").contains(&format!("touch \"$root{CONFIG}\"")));
}

#[test]
fn the_unit_of_systemd_starts_the_daemon_where_it_may_write() {
    let text = file("systemd/tidegate.service");
    let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let mut unit: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    settings.for_each(|(name, value)| unit.entry(name).or_default().push(value));
    let start: Vec<&str> = unit["ExecStart"][0].split(' ').collect();
    assert_eq!(start[0], "/usr/local/bin/tidegate");
    serves(&start[1..]);
    let pair =
        |setting: &&str| setting.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    let DatabaseConfig::Sqlite(directory) = understood(unit["Environment"].iter().map(pair).collect()).database else {
        panic!("no directory for the database")
    };
    let owned = PathBuf::from(format!("/var/lib/{}", unit["StateDirectory"][0]));
    assert_eq!((&directory, &PathBuf::from(unit["WorkingDirectory"][0])), (&owned, &owned));
    for (name, value) in
        [("DynamicUser", "yes"), ("ProtectSystem", "strict"), ("NoNewPrivileges", "yes"), ("Restart", "always")]
    {
        assert_eq!(unit[name], [value], "{name}");
    }
    // A daemon takes up to 10 s to finish requests when it is stopped.
    assert!(unit["TimeoutStopSec"][0].parse::<u32>().unwrap() > 10);
}

/// The document of a kind.
fn document<'a, 'b>(all: &'a [Yaml<'b>], kind: &str) -> &'a Yaml<'b> {
    all.iter().find(|document| document["kind"].as_str() == Some(kind)).unwrap_or_else(|| panic!("no {kind}"))
}

fn text<'a>(node: &'a Yaml<'_>) -> &'a str {
    node.as_str().unwrap_or_else(|| panic!("no text: {node:?}"))
}

fn list<'a, 'b>(node: &'a Yaml<'b>) -> &'a [Yaml<'b>] {
    let Yaml::Sequence(items) = node else { panic!("no list: {node:?}") };
    items
}

#[test]
fn the_manifest_of_kubernetes_starts_the_daemon_of_the_image() {
    let source = file("kubernetes/tidegate.yaml");
    let all = Yaml::load_from_str(&source).unwrap();
    let deployment = document(&all, "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    serves(&list(&container["args"]).iter().map(text).collect::<Vec<_>>());

    let mut variables = BTreeMap::new();
    for variable in list(&container["env"]) {
        let value = variable.as_mapping_get("value").map_or_else(
            || {
                let secret = &variable["valueFrom"]["secretKeyRef"];
                let made = format!("--from-literal={}=", text(&secret["key"]));
                let optional = secret.as_mapping_get("optional").and_then(Yaml::as_bool) == Some(true);
                assert!(optional || source.contains(&made), "the first lines do not make {made}");
                SECRET
            },
            text,
        );
        variables.insert(text(&variable["name"]).to_owned(), value.to_owned());
    }
    let config = understood(variables);
    assert!(matches!(config.database, DatabaseConfig::Postgres(_)) && config.api.needs_token);
    let port = i64::from(config.api.listen.port());
    assert!(config.api.listen.ip().is_unspecified());
    assert_eq!(container["ports"][0]["containerPort"].as_integer(), Some(port));
    assert_eq!(document(&all, "Service")["spec"]["ports"][0]["port"].as_integer(), Some(port));
    assert_eq!(config.api.advertise_url.unwrap(), format!("http://{{host}}:{port}"));
    let answered = std::fs::read_to_string(root().join("src/api/status.rs")).unwrap();
    for probe in ["readinessProbe", "livenessProbe"] {
        let ask = &container[probe]["httpGet"];
        assert!(answered.contains(&format!(".route(\"{}\"", text(&ask["path"]))), "{probe}");
        assert_eq!(text(&ask["port"]), text(&container["ports"][0]["name"]));
    }

    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(pod["securityContext"]["runAsUser"].as_integer(), Some(user()));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"].as_bool(), Some(false));
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&document(&all, "Service")["spec"]["selector"], labels);
    assert_eq!(&document(&all, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    let kinds: BTreeSet<&str> = all.iter().map(|document| text(&document["kind"])).collect();
    assert_eq!(kinds.len(), all.len(), "a kind stands twice, and only one of them was looked at");
}
