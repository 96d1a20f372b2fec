//! Keys of gates on signals from outside the mesh. Apart from `keys` only for length.

use super::keys::word;
use super::keys_outside::{ADDRESS, LINE, ONE_LINE};
use super::statistic::STATISTIC;
use super::table::{Field, Record, Shape, TextRule, Word};

/// A JSON pointer (RFC 6901).
static POINTER: TextRule = TextRule {
    says: "a JSON pointer such as `/queue/depth`, in which `~1` stands for `/` and `~0` for `~`",
    pattern: r"^(/([^~/\r\n]|~[01])*){0,64}$",
    holds: |text| {
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        let tokens = text.matches('/').count();
        (text.is_empty() || text.starts_with('/')) && escapes && tokens <= 64 && !text.contains(['\r', '\n'])
    },
};

const INTERVAL_SAYS: &str = "How often to ask; from 1s to 5m.";
const DIMENSIONS_SAYS: &str = "Dimensions of the metric; placeholders such as `{node}` are filled in for each version.";
const STAT_SAYS: &str =
    "Statistic: Average, Sum, Minimum, Maximum, SampleCount, a percentile such as p99, or a trimmed one.";

static PRESETS: &[Word] = &[
    word("alb_target_5xx"),
    word("alb_target_response_time"),
    word("appmesh_target_5xx"),
    word("appmesh_target_response_time"),
    word("ecs_cpu"),
    word("ecs_memory"),
    word("service_connect_5xx"),
    word("service_connect_response_time"),
    word("sqs_age"),
    word("tidegate_target_5xx"),
    word("tidegate_target_response_time"),
];

static METRIC_SHAPE: Shape = Shape::Record(&METRIC);

static METRIC: Record = Record::of(&[
    Field::required("namespace", Shape::Text(&LINE), "Shop", "Namespace of the metric."),
    Field::required("metric", Shape::Text(&LINE), "Requests", "Name of the metric."),
    Field::required("stat", Shape::Text(&STATISTIC), "Sum", STAT_SAYS),
    Field::optional("dimensions", Shape::Dictionary(&ONE_LINE), "{ Service: checkout }", DIMENSIONS_SAYS),
]);

pub(super) static CLOUDWATCH: Record = Record {
    fields: &[
        Field::optional("metric", Shape::Text(&LINE), "QueueDepth", "Name of the metric."),
        Field::optional("namespace", Shape::Text(&LINE), "Shop", "Namespace of the metric."),
        Field::optional("stat", Shape::Text(&STATISTIC), "Average", STAT_SAYS),
        Field::optional("dimensions", Shape::Dictionary(&ONE_LINE), "{ Service: checkout }", DIMENSIONS_SAYS),
        Field::optional(
            "expression",
            Shape::Text(&LINE),
            "\"errors / requests\"",
            "Metric math over `metrics`; yields one time series.",
        ),
        Field::optional(
            "metrics",
            Shape::Dictionary(&METRIC_SHAPE),
            "{ errors: { namespace: Shop, metric: Errors, stat: Sum } }",
            "What the expression names, by the names that it has for them.",
        ),
        Field::optional(
            "alarm",
            Shape::Text(&LINE),
            "checkout-slo",
            "Name of an alarm: breaches while it is in the state ALARM.",
        ),
        Field::optional("preset", Shape::Word(PRESETS), "ecs_cpu", "A metric that many services have."),
        Field::optional("cluster", Shape::Text(&LINE), "prod", "Of `ecs_*`: name of the cluster."),
        Field::optional("service", Shape::Text(&LINE), "\"{node}\"", "Of `ecs_*`: name of the service."),
        Field::optional(
            "load_balancer",
            Shape::Text(&LINE),
            "app/shop/50dc6c495c0c9188",
            "Of `alb_*`: the load balancer, by the end of its ARN or the whole of it.",
        ),
        Field::optional(
            "target_group",
            Shape::Text(&LINE),
            "targetgroup/checkout/73e2d6bc24d8a067",
            "Of `alb_*`: one target group of it, likewise.",
        ),
        Field::optional("queue", Shape::Text(&LINE), "orders", "Of `sqs_age`: name of the queue."),
        Field::optional(
            "virtual_node",
            Shape::Text(&LINE),
            "front",
            "Of `appmesh_*` and `tidegate_*`: the virtual node whose proxy sends the requests.",
        ),
        Field::optional("virtual_gateway", Shape::Text(&LINE), "ingress", "The virtual gateway that does, instead."),
        Field::optional(
            "virtual_service",
            Shape::Text(&LINE),
            "checkout.local",
            "Of `appmesh_*` and `tidegate_*`: the virtual service that is called.",
        ),
        Field::optional(
            "discovery_name",
            Shape::Text(&LINE),
            "\"{service}\"",
            "Of `service_connect_*`: the name under which Service Connect has a version.",
        ),
        Field::defaulted("period", Shape::Duration, "1m", "Length of one point: 1s, 5s, 10s, 30s or whole minutes."),
        Field::optional("interval", Shape::Duration, "1m", "How often to ask; from 1s to 5m. The period without it."),
    ],
    one_of: &["metric", "expression", "alarm", "preset"],
    refused_once: false,
};

pub(super) static XRAY: Record = Record::of(&[
    Field::required(
        "filter",
        Shape::Text(&LINE),
        "'annotation.version = \"{version}\"'",
        "Filter expression; placeholders are filled in for each version.",
    ),
    Field::required(
        "measure",
        Shape::Word(&[
            word("fault_rate"),
            word("error_rate"),
            word("throttle_rate"),
            word("response_time"),
            word("response_time_p50"),
            word("response_time_p90"),
            word("response_time_p95"),
            word("response_time_p99"),
            word("new_exceptions"),
            word("new_edges"),
        ]),
        "fault_rate",
        "What to take of the traces; `response_time` is `response_time_p95`.",
    ),
    Field::defaulted(
        "min_traces",
        Shape::Whole { min: 1, max: 1000 },
        "1",
        "So many traces make a point at least; with fewer the span grows until there are.",
    ),
    Field::defaulted("interval", Shape::Duration, "30s", INTERVAL_SAYS),
]);

pub(super) static PROMETHEUS: Record = Record::of(&[
    Field::required(
        "query",
        Shape::Text(&LINE),
        "'up{node=\"{node}\"}'",
        "Query that yields one number; placeholders are filled in for each version.",
    ),
    Field::optional(
        "url",
        Shape::Text(&ADDRESS),
        "http://127.0.0.1:9090",
        "Which Prometheus, when not the configured one.",
    ),
    Field::optional(
        "step",
        Shape::Duration,
        "15s",
        "Asks for a range with a point each so often, from 1s to 5m, and not for the one of now.",
    ),
    Field::defaulted("interval", Shape::Duration, "10s", INTERVAL_SAYS),
]);

pub(super) static HTTP: Record = Record::of(&[
    Field::required(
        "url",
        Shape::Text(&ADDRESS),
        "http://127.0.0.1:9000/value",
        "Where to ask; placeholders are filled in for each version.",
    ),
    Field::optional(
        "value",
        Shape::Text(&POINTER),
        "/queue/depth",
        "JSON pointer to the number in the answer; the whole answer without it.",
    ),
    Field::defaulted("interval", Shape::Duration, "10s", INTERVAL_SAYS),
]);
