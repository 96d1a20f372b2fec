//! Every key of a policy file: name, shape, default, example, meaning, and whether this version acts on it.
//!
//! This is data; `table` says what the words mean, and `keys_outside` has the part that reaches outside the mesh. The
//! tree under `FILE` is the whole schema from the start, so that a policy for a later version is told "not in this
//! version" and not "unknown key".

use super::keys_outside::{APPROVAL, HEALTH, MAX_ENTRIES, NOTICE_SHAPE, PREVIEW, START, WEBHOOK, WORKLOAD};
use super::keys_signals::{CLOUDWATCH, HTTP, PROMETHEUS, XRAY};
use super::table::{Built, Field, Record, Shape, TextRule, Word};

pub(super) const fn word(word: &'static str) -> Word {
    Word { word, built: Built::Yes }
}

/// Names of policies and gates: they stand in URLs and on command lines.
pub(super) static NAME: TextRule = TextRule {
    says: "a name of up to 63 lower-case letters, digits and `-` that begins with a letter or digit",
    pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
    holds: |text| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        text.len() <= 63
            && text.bytes().next().is_some_and(alphanumeric)
            && text.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
    },
};

/// Names of App Mesh resources.
static RESOURCE: TextRule = TextRule {
    says: "an App Mesh name of up to 255 letters, digits, `-` and `_`",
    pattern: "^[A-Za-z0-9_-]{1,255}$",
    holds: |text| {
        (1..=255).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    },
};

static ONE_RESOURCE: Shape = Shape::Text(&RESOURCE);
static WEIGHT: Shape = Shape::Whole { min: 1, max: 100 };

/// Most steps: each whole percent once, and as many approvals.
const MAX_STEPS: usize = 200;
/// Most gates: each costs a share of the evidence, so dozens could never decide.
const MAX_GATES: usize = 32;
/// Bound on counts of requests and points.
const MAX_COUNT: u64 = 1_000_000_000;

pub(super) static ROLLBACK_OR_PAUSE: &[Word] = &[word("rollback"), word("pause")];

/// The whole file.
pub(super) static FILE: Record = Record::of(&[
    Field::required("version", Shape::Whole { min: 1, max: 1 }, "1", "Version of this file format."),
    Field::required(
        "name",
        Shape::Text(&NAME),
        "checkout",
        "Name of the policy: unique among policies, and an alias for its live rollout.",
    ),
    Field::required(
        "route",
        Shape::Record(&ROUTE),
        "{ mesh: shop, router: checkout-router, route: checkout }",
        "The App Mesh route whose weights are stepped.",
    ),
    Field::required(
        "versions",
        Shape::List { of: &ONE_RESOURCE, min: 2, max: 2 },
        "[checkout-v1, checkout-v2]",
        "The two slots: virtual nodes that successive releases use in turn. Whichever holds all the weight is stable.",
    ),
    Field::optional(
        "workload",
        Shape::Record(&WORKLOAD),
        "{ ecs: { cluster: prod, services: { checkout-v1: checkout-a, checkout-v2: checkout-b }, container: app } }",
        "What runs the versions, so that the release is deployed into the canary's slot; without it both run already.",
    ),
    Field::optional(
        "start",
        Shape::Record(&START),
        "{ on: { image: { repository: shop/checkout } } }",
        "What starts a rollout by itself, and when it may.",
    ),
    Field::optional(
        "preview",
        Shape::Record(&PREVIEW),
        "{ header: { name: x-preview, value: \"1\" }, for: 2m }",
        "Reach the canary by a header before it has any weight.",
    ),
    Field::required(
        "steps",
        Shape::List { of: &STEP_SHAPE, min: 1, max: MAX_STEPS },
        "[1, 10, 50, 100]",
        "The canary's shares, rising to 100. A number is shorthand for `{ weight: n }`.",
    ),
    Field::optional(
        "step_defaults",
        Shape::Record(&STEP_DEFAULTS),
        "{ min: 1m }",
        "What steps have that do not say otherwise.",
    ),
    Field::defaulted(
        "max_total",
        Shape::Duration,
        "24h",
        "Longest a rollout may take; it has failed when it has not ended by then.",
    ),
    Field::defaulted("on_total", Shape::Word(ROLLBACK_OR_PAUSE), "rollback", "What happens at `max_total`.")
        .not_yet("leave `on_total` out: at `max_total` a rollout is rolled back"),
    Field::optional(
        "gates",
        Shape::List { of: &GATE_SHAPE, min: 0, max: MAX_GATES },
        "[{ name: errors, metric: error_rate, compare: stable }]",
        "What the release is judged by. Without it: one gate `errors` that compares error rates with stable.",
    ),
    Field::defaulted(
        "max_false_rollback",
        Shape::Share,
        "1%",
        "Bound on the chance of rolling back a release that is no worse, over the whole rollout. Above 0 %, up to 50 %.",
    ),
    Field::defaulted(
        "confidence_to_advance",
        Shape::Share,
        "95%",
        "How sure a step must be that the release is no worse than `prove_no_worse_than`. From 50 % to below 100 %.",
    ),
    Field::optional(
        "blast_radius",
        Shape::Record(&BLAST_RADIUS),
        "{ failed_requests: 50 }",
        "Bounds on the harm that is done before anything is decided.",
    ),
    Field::defaulted(
        "noise",
        Shape::Short { scalar: &NOISE_WORD, scalar_built: Built::Yes, record: &NOISE, record_built: Built::Yes },
        "auto",
        "Noise that one version has and the other does not: as stable's endpoints have it (`auto`), none, or so much.",
    ),
    Field::optional(
        "no_data",
        Shape::Record(&NO_DATA),
        "{ hold_after: 10s, withdraw_after: 30s }",
        "What silence of the live telemetry does while the canary has weight.",
    ),
    Field::optional(
        "verify",
        Shape::Record(&VERIFY),
        "{ timeout: 60s, on_timeout: rollback }",
        "Bound on the wait until a step's weights are seen in force; only then its clock starts.",
    ),
    Field::defaulted(
        "on_failure",
        Shape::Word(ROLLBACK_OR_PAUSE),
        "rollback",
        "When a gate fails: weight to 0, or keep the weight and page a person.",
    ),
    Field::optional(
        "notify",
        Shape::List { of: &NOTICE_SHAPE, min: 0, max: MAX_ENTRIES },
        "[{ github: { repository: shop/checkout } }]",
        "Who is told how a rollout goes. No decision waits for it.",
    ),
]);

static ROUTE: Record = Record::of(&[
    Field::required("mesh", Shape::Text(&RESOURCE), "shop", "Name of the mesh."),
    Field::required(
        "router",
        Shape::Text(&RESOURCE),
        "checkout-router",
        "Name of the virtual router that owns the route.",
    ),
    Field::required("route", Shape::Text(&RESOURCE), "checkout", "Name of the route."),
]);

// --- steps ---

static STEP_SHAPE: Shape =
    Shape::Short { scalar: &WEIGHT, scalar_built: Built::Yes, record: &STEP, record_built: Built::Yes };

const MIN_SAYS: &str = "Shortest stay (the bake), counted from when the weights are in force.";
const MAX_SAYS: &str = "Longest stay; then `on_inconclusive`.";
const PROVE_SAYS: &str =
    "The step is passed when it is shown that the release's error rate is not worse than stable's by as much as this.";
const INCONCLUSIVE_SAYS: &str =
    "At `max` without that proof: stay and go on judging, take the next step all the same, or give up.";
static ON_INCONCLUSIVE: &[Word] = &[word("hold"), word("advance"), word("rollback")];

static STEP: Record = Record {
    fields: &[
        Field::optional("weight", Shape::Whole { min: 1, max: 100 }, "10", "The canary's share in whole percents."),
        Field::optional("min", Shape::Duration, "10s", MIN_SAYS),
        Field::optional("max", Shape::Duration, "5m", MAX_SAYS),
        Field::optional("prove_no_worse_than", Shape::Difference, "1pp", PROVE_SAYS),
        Field::optional("on_inconclusive", Shape::Word(ON_INCONCLUSIVE), "hold", INCONCLUSIVE_SAYS),
        Field::optional(
            "approval",
            Shape::Record(&APPROVAL),
            "{ from: [payments-oncall] }",
            "Wait for people instead of giving weight.",
        ),
    ],
    one_of: &["weight", "approval"],
    refused_once: true,
};

pub(super) static STEP_DEFAULTS: Record = Record::of(&[
    Field::defaulted("min", Shape::Duration, "10s", MIN_SAYS),
    Field::defaulted("max", Shape::Duration, "5m", MAX_SAYS),
    Field::defaulted("prove_no_worse_than", Shape::Difference, "2pp", PROVE_SAYS),
    Field::defaulted("on_inconclusive", Shape::Word(ON_INCONCLUSIVE), "hold", INCONCLUSIVE_SAYS),
]);

// --- gates ---

static GATE_SHAPE: Shape = Shape::Record(&GATE);

static METRICS: &[Word] = &[
    word("error_rate"),
    word("latency"),
    word("latency_p50"),
    word("latency_p75"),
    word("latency_p90"),
    word("latency_p95"),
    word("latency_p99"),
    word("latency_p999"),
];

/// Parts of a rollout in which a gate may act.
pub(super) static SCOPES: &[Word] = &[word("preview"), word("steps"), word("bake")];

pub(super) static GATE: Record = Record {
    fields: &[
        Field::required("name", Shape::Text(&NAME), "errors", "Name of the gate, unique within the policy."),
        Field::optional(
            "metric",
            Shape::Word(METRICS),
            "error_rate",
            "What the proxies measure of the judged requests.",
        ),
        Field::optional(
            "cloudwatch",
            Shape::Record(&CLOUDWATCH),
            "{ namespace: Shop, metric: QueueDepth, stat: Average }",
            "A metric, an expression or an alarm of CloudWatch.",
        ),
        Field::optional(
            "xray",
            Shape::Record(&XRAY),
            "{ filter: 'service(\"checkout\")', measure: fault_rate }",
            "Traces of X-Ray.",
        ),
        Field::optional(
            "prometheus",
            Shape::Record(&PROMETHEUS),
            "{ query: 'up{node=\"{node}\"}' }",
            "A query of Prometheus.",
        ),
        Field::optional(
            "http",
            Shape::Record(&HTTP),
            "{ url: http://127.0.0.1:9000/value }",
            "A number read from an HTTP service.",
        ),
        Field::optional(
            "webhook",
            Shape::Record(&WEBHOOK),
            "{ url: http://127.0.0.1:9000/judge }",
            "A service that answers whether the release may go on.",
        ),
        Field::optional(
            "health",
            Shape::Record(&HEALTH),
            "{ http: /health, interval: 5s }",
            "Health checks of the endpoints themselves, made by the daemon.",
        ),
        Field::optional(
            "compare",
            Shape::Word(&[word("stable")]),
            "stable",
            "Compare with stable over the same time: fails when the canary is worse than `tolerate` allows.",
        ),
        Field::optional(
            "tolerate",
            Shape::Short {
                scalar: &Shape::Share,
                scalar_built: Built::Yes,
                record: &TOLERATE,
                record_built: Built::Yes,
            },
            "{ ratio: 1.0, add: 0.1pp }",
            "How much worse than stable is still accepted: a share such as `10%` for `latency`, else a mapping.",
        ),
        Field::optional(
            "max",
            Shape::Amount,
            "1%",
            "Absolute limit: fails when the canary is above it and worse than stable; at 100 % by the limit alone.",
        ),
        Field::optional("min", Shape::Amount, "1%", "Absolute limit: the same for below it."),
        Field::defaulted(
            "breaches",
            Shape::Whole { min: 1, max: 1000 },
            "3",
            "Consecutive points beyond the limit that fail a point-valued signal.",
        ),
        Field::defaulted("dry_run", Shape::Boolean, "false", "Report the verdict and never decide by it."),
        Field::optional(
            "during",
            Shape::Scopes(SCOPES),
            "[10, 50]",
            "Where it acts: before any weight, while the traffic is split, at 100 %, or at the steps of these weights.",
        ),
        Field::optional(
            "weight",
            Shape::Ratio,
            "2",
            "What it weighs among the gates that share `max_false_rollback`. Above 0, up to 1000.",
        ),
        Field::optional(
            "on_failure",
            Shape::Word(ROLLBACK_OR_PAUSE),
            "pause",
            "What its failure does, where that is not what `on_failure` of the policy says.",
        ),
    ],
    one_of: &["metric", "cloudwatch", "xray", "prometheus", "http", "webhook", "health"],
    refused_once: true,
};

pub(super) static TOLERATE: Record = Record::of(&[
    Field::defaulted("ratio", Shape::Ratio, "1.0", "Accepted up to this multiple of stable's; at least 1."),
    Field::defaulted(
        "add",
        Shape::Excess,
        "0.1pp",
        "And this much on top: below 100pp for shares; a duration or a number where a signal is one.",
    ),
]);

// --- bounds ---

pub(super) static BLAST_RADIUS: Record = Record::of(&[
    Field::defaulted(
        "failed_requests",
        Shape::Whole { min: 1, max: MAX_COUNT },
        "50",
        "Failures that may be charged to the release, beyond stable's rate, before its weight goes to 0 (paused).",
    ),
    Field::defaulted(
        "per_proxy_between_acks",
        Shape::Whole { min: 1, max: MAX_COUNT },
        "5",
        "Failures of the canary that one proxy may pass on between two acknowledgements of the daemon.",
    ),
]);

static NOISE_WORD: Shape = Shape::Word(&[word("auto"), word("none")]);

pub(super) static NOISE: Record = Record::of(&[
    Field::required(
        "v",
        Shape::Ratio,
        "0.25",
        "Squared coefficient of variation of one version's own factor between minutes. From 0 to 4.",
    ),
    Field::defaulted("phi", Shape::Ratio, "1", "Errors of one cause. From 1."),
]);

pub(super) static NO_DATA: Record = Record::of(&[
    Field::defaulted("hold_after", Shape::Duration, "10s", "Nothing advances after so long without a report."),
    Field::defaulted(
        "withdraw_after",
        Shape::Duration,
        "30s",
        "Weight 0 and paused after so long; resumes by itself. Longer than `hold_after`.",
    ),
]);

pub(super) static VERIFY: Record = Record::of(&[
    Field::defaulted("timeout", Shape::Duration, "60s", "Longest wait."),
    Field::defaulted(
        "on_timeout",
        Shape::Word(ROLLBACK_OR_PAUSE),
        "rollback",
        "What happens then: weight to 0, or keep the weight and page a person.",
    ),
]);
