//! Which module may import which: arrows only downward. `docs/ARCHITECTURE.md` shows the same table.

/// One row: these modules may import those, and each of them its own insides.
pub(crate) struct Row {
    /// Paths of modules. The longest that matches a file counts.
    pub(crate) modules: &'static [&'static str],
    /// Paths that they may import, with everything below.
    pub(crate) may_import: &'static [&'static str],
    /// What a reader should know about the row.
    pub(crate) note: &'static str,
}

/// Stands for every module.
pub(crate) const ANYTHING: &str = "all";

const fn row(modules: &'static [&'static str], may_import: &'static [&'static str], note: &'static str) -> Row {
    Row { modules, may_import, note }
}

/// Everything unlisted is forbidden.
pub(crate) const MATRIX: &[Row] = &[
    row(&["base"], &[], ""),
    row(&["config", "drain", "aws"], &["base"], ""),
    row(&["telemetry"], &["base", "config"], ""),
    row(&["clock"], &["base"], ""),
    row(&["tls"], &["base", "clock"], "files of certificates, read and read again"),
    row(&["probe"], &[], "questions after health, over an open connection"),
    row(&["intercept"], &[], "rules of iptables; `intercept::rules` is pure"),
    row(&["bootstrap"], &[], "pure; options and variables to a file of Envoy's"),
    row(&["schedule"], &["base"], "pure"),
    row(
        &["policy"],
        &["base", "schedule", "trigger::filter"],
        "it checks `start` by the rules that events and instants are compared with",
    ),
    row(
        &["mesh::model", "mesh::validate", "mesh::ops", "mesh::snapshot"],
        &["base", "mesh::model", "mesh::validate", "mesh::ops", "mesh::snapshot", "mesh::error"],
        "pure; what they refuse, they refuse in the words of mesh::error",
    ),
    row(&["judge"], &["base"], ""),
    row(&["rollout"], &["base", "judge", "policy::plan"], ""),
    row(&["simulate"], &["base", "judge", "policy", "rollout"], ""),
    row(&["xds::translate"], &["base", "mesh::snapshot"], "pure"),
    row(&["xds::outcome"], &["base", "xds::translate"], "pure; an entry of a log"),
    row(&["xds::session"], &["base", "xds::translate"], "pure; what is sent, and not of what it is made"),
    row(
        &[
            "proxy::route",
            "proxy::split",
            "proxy::retry",
            "proxy::outlier",
            "proxy::headers",
            "proxy::path",
            "proxy::application",
            "proxy::limit",
            "proxy::names",
        ],
        &["base", "mesh::snapshot", "proxy::headers", "proxy::names"],
        "pure",
    ),
    row(&["proxy::balance"], &["base", "clock", "mesh::snapshot", "proxy::split"], "pure; points of time come in"),
    row(&["proxy::gateway"], &["base", "mesh::snapshot", "proxy::route"], "pure; by the conditions of routes"),
    row(
        &["proxy::access_log::facts", "proxy::access_log::format", "proxy::access_log::stamp"],
        &["base", "mesh::snapshot", "proxy::access_log"],
        "pure; lines of logs",
    ),
    row(&["proxy::stats::show"], &["base"], "pure; counts as text"),
    row(
        &["proxy::fuse"],
        &["base", "judge::evidence", "judge::Counts", "judge::Tolerance"],
        "pure; the judge's own test of one proxy's requests",
    ),
    row(&["proxy::trace::ids"], &["base"], "pure; names of traces"),
    row(&["proxy::trace::segment"], &["base", "proxy::trace::ids", "proxy::access_log::facts"], "pure"),
    row(&["proxy::trace::span"], &["base", "proxy::trace::segment", "proxy::access_log::facts"], "pure"),
    row(&["proxy::metrics"], &["base", "mesh::snapshot", "proxy::stats"], "pure"),
    row(&["proxy::emf::lines", "proxy::cloudwatch::data"], &["base", "proxy::metrics"], "pure"),
    row(&["proxy::upstream::wire"], &["base"], "pure; HTTP on bytes"),
    row(
        &["ports"],
        &[
            "base",
            "policy::plan",
            "rollout::event",
            "rollout::effect",
            "rollout::state",
            "mesh::model",
            "mesh::snapshot",
        ],
        "",
    ),
    row(
        &["runner"],
        &["base", "clock", "policy", "schedule", "rollout", "judge::points", "ports", "telemetry", "drain"],
        "no adapter; a check is a point",
    ),
    row(
        &["workload", "notify"],
        &[
            "base",
            "aws",
            "clock",
            "policy::plan",
            "ports",
            "rollout::event",
            "rollout::effect",
            "mesh::snapshot",
            "telemetry",
        ],
        "never each other, never runner or api; events and effects are the words of their ports, and so is a node's discovery",
    ),
    row(
        &["traffic"],
        &[
            "base",
            "aws",
            "clock",
            "policy::plan",
            "ports",
            "rollout::event",
            "rollout::effect",
            "mesh::snapshot",
            "mesh::wire",
            "telemetry",
        ],
        "as above; and our own headers are said as they are read",
    ),
    row(
        &["signals"],
        &[
            "base",
            "aws",
            "clock",
            "policy::plan",
            "ports",
            "rollout::event",
            "judge::Counts",
            "judge::latency",
            "judge::bounds",
            "probe",
            "telemetry",
        ],
        "as above; readings are made of counts",
    ),
    row(
        &["discovery"],
        &["base", "aws", "clock", "ports", "telemetry", "mesh::snapshot"],
        "as above; its port speaks of a cluster's discovery",
    ),
    row(
        &["store"],
        &["base", "clock", "policy", "ports", "rollout", "telemetry"],
        "as above; it keeps a rollout's records and reads policies from a directory",
    ),
    row(
        &["trigger"],
        &[
            "base",
            "aws",
            "clock",
            "policy",
            "ports",
            "rollout::event",
            "rollout::view",
            "runner::handle",
            "runner::history",
            "telemetry",
        ],
        "the rest: an event becomes a start, and waits for the end of the rollout in its way",
    ),
    row(
        &["trigger::matching"],
        &["base", "policy::plan", "trigger::event", "trigger::filter", "trigger::image"],
        "pure; an event and all policies",
    ),
    row(
        &[
            "trigger::event",
            "trigger::image",
            "trigger::payload",
            "trigger::signature",
            "trigger::github",
            "trigger::gitlab",
            "trigger::ecr",
            "trigger::registry",
            "trigger::generic",
            "trigger::filter",
        ],
        &["base", "trigger::event", "trigger::image", "trigger::payload"],
        "pure; one file for each sender, and none knows another",
    ),
    row(&["mesh::error"], &["base", "mesh::model"], "pure"),
    row(&["mesh::wire"], &["base", "mesh::model", "mesh::error"], "pure"),
    row(&["mesh::sigv4"], &["base", "mesh::error"], "pure"),
    row(&["mesh::access"], &["base", "mesh::model", "mesh::error", "mesh::sigv4"], "pure"),
    row(
        &["mesh::document"],
        &["base", "mesh::model", "mesh::error", "mesh::validate", "mesh::ops"],
        "pure; plans the loading of files with the same rules as the API",
    ),
    row(&["mesh::compile"], &["base", "mesh::model", "mesh::snapshot"], ""),
    row(&["mesh", "xds"], &["mesh", "xds", "base", "clock", "ports", "telemetry", "tls", "drain"], "the rest of both"),
    row(
        &["proxy"],
        &[
            "base",
            "clock",
            "judge::evidence",
            "judge::Counts",
            "judge::Tolerance",
            "mesh::snapshot",
            "xds::client",
            "ports",
            "probe",
            "telemetry",
            "tls",
            "drain",
            "aws",
        ],
        "the rest; never rollout, runner or store",
    ),
    row(
        &["api", "dashboard"],
        &[
            "base",
            "clock",
            "policy",
            "schedule",
            "ports",
            "rollout::view",
            "rollout::event",
            "rollout::state::Refusal",
            "runner::freezes",
            "runner::handle",
            "runner::history",
            "runner::lease",
            "trigger",
            "notify::signature",
            "telemetry",
            "tls",
            "drain",
            "dashboard",
        ],
        "a request becomes a command of rollout::event; it never sees a state",
    ),
    row(
        &["cli"],
        &[
            "base",
            "bootstrap",
            "intercept::Address",
            "config",
            "policy",
            "simulate",
            "mesh::model",
            "mesh::validate",
            "mesh::document",
            "mesh::client",
            "mesh::ops::OpContext",
            "api::wire",
            "api::client",
            "rollout::view",
            "rollout::explain",
            "clock",
            "telemetry",
            "ports",
            "runner::verify",
            "runner::lease",
            "app",
            "demo",
        ],
        "a client of the APIs; a plan of mesh files needs its OpContext; only `journal` and `token` read the database, through app",
    ),
    row(
        &["demo"],
        &["base", "app", "clock", "api::wire", "api::client", "rollout::view"],
        "over app and the public API only",
    ),
    row(&["app"], &[ANYTHING], "only main, cli, demo and tests import it"),
    row(&["testing"], &[ANYTHING], "only tests import it"),
    row(&["main"], &["cli"], ""),
];

/// Modules whose decisions are functions of values alone.
pub(crate) const PURE: &[&str] = &[
    "base",
    "bootstrap",
    "intercept::rules",
    "schedule",
    "policy",
    "judge",
    "rollout",
    "simulate",
    "mesh::model",
    "mesh::validate",
    "mesh::ops",
    "mesh::compile",
    "mesh::snapshot",
    "mesh::document",
    "mesh::sigv4",
    "mesh::access",
    "xds::translate",
    "xds::outcome",
    "xds::session",
    "traffic::edit",
    "trigger::event",
    "trigger::image",
    "trigger::payload",
    "trigger::signature",
    "trigger::github",
    "trigger::gitlab",
    "trigger::ecr",
    "trigger::registry",
    "trigger::generic",
    "trigger::filter",
    "discovery::choose",
    "signals::cloudwatch::plan",
    "signals::cloudwatch::results",
    "trigger::matching",
    "workload::ecs::revision",
    "workload::ecs::standing",
    "proxy::route",
    "proxy::split",
    "proxy::retry",
    "proxy::outlier",
    "proxy::headers",
    "proxy::path",
    "proxy::application",
    "proxy::limit",
    "proxy::balance",
    "proxy::gateway",
    "proxy::names",
    "proxy::fuse",
    "proxy::access_log::facts",
    "proxy::access_log::format",
    "proxy::access_log::stamp",
    "proxy::stats::show",
    "proxy::trace::ids",
    "proxy::trace::segment",
    "proxy::trace::span",
    "proxy::metrics",
    "proxy::emf::lines",
    "proxy::cloudwatch::data",
    "proxy::upstream::wire",
];

/// What has no place in them. Maps and sets that hash are out because their order differs from run to run.
pub(crate) const BANNED_IN_PURE: &[&str] = &[
    "async fn",
    "async move",
    "async {",
    ".await",
    "tokio::",
    "sqlx::",
    "hyper::",
    "tracing::",
    "rand::",
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
];

/// Whether `path` is `module` or lies inside it.
pub(crate) fn lies_in(path: &[String], module: &str) -> bool {
    let mut path = path.iter();
    module.split("::").all(|segment| path.next().is_some_and(|other| other == segment))
}

/// The row for a module and the entry of it that matched: the longest.
pub(crate) fn row_of(module: &[String]) -> Option<(&'static Row, &'static str)> {
    let entries = MATRIX.iter().flat_map(|row| row.modules.iter().map(move |entry| (row, *entry)));
    entries.filter(|(_, entry)| lies_in(module, entry)).max_by_key(|(_, entry)| entry.len())
}

/// The table as Markdown, for the document.
pub(crate) fn markdown() -> String {
    let list = |names: &[&str]| match names {
        [] => "–".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    let mut table = "| module | may import from the crate | note |\n|---|---|---|\n".to_owned();
    for row in MATRIX {
        table += &format!("| {} | {} | {} |\n", list(row.modules), list(row.may_import), row.note);
    }
    table
}
