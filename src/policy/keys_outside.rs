//! Keys of a policy file whose work is done outside the mesh: starting versions and rollouts, asking people and the
//! versions themselves, notices. The other half of `keys`, apart only for length.

use super::keys::{ROLLBACK_OR_PAUSE, word};
use super::table::{Built, Field, Record, Shape, TextRule};

/// Anything on one line: what it means is for the system it is handed to.
pub(super) static LINE: TextRule = TextRule {
    says: "text of up to 1024 characters on one line",
    pattern: r"^[^\r\n]{1,1024}$",
    holds: |text| (1..=1024).contains(&text.chars().count()) && !text.contains(['\r', '\n']),
};

/// A path of an HTTP request.
static PATH: TextRule = TextRule {
    says: "a path that begins with `/`, such as `/health`",
    // Nothing that a client would drop, turn or fold on the way: it would ask for something else.
    pattern: r"^/[!-\x22$-\x5b\x5d-~]{0,1023}$",
    holds: |text| {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\';
        text.starts_with('/') && text.len() <= 1024 && text.bytes().all(plain)
    },
};

/// A name of a gRPC service, or nothing.
static GRPC_SERVICE: TextRule = TextRule {
    says: "a name of a gRPC service such as `shop.Checkout`, or `\"\"` for the whole server",
    pattern: r"^[!-~]{0,256}$",
    holds: |text| text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic()),
};

/// An address of an HTTP service.
pub(super) static ADDRESS: TextRule = TextRule {
    says: "an address that begins with `http://` or `https://`",
    pattern: r"^https?://[^\r\n ]{1,1024}$",
    holds: |text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        rest.is_some_and(|rest| (1..=1024).contains(&rest.chars().count()) && !rest.contains(['\r', '\n', ' ']))
    },
};

pub(super) static ONE_LINE: Shape = Shape::Text(&LINE);
static ONE_PORT: Shape = Shape::Whole { min: 1, max: 65_535 };

/// Most entries of the lists that are handed on.
pub(super) const MAX_ENTRIES: usize = 64;

// --- starting and asking ---

pub(super) static WORKLOAD: Record = Record {
    fields: &[
        Field::optional(
            "ecs",
            Shape::Record(&ECS),
            "{ cluster: prod, services: { checkout-v1: checkout-a, checkout-v2: checkout-b }, container: app }",
            "Services of Amazon ECS.",
        ),
        Field::optional(
            "process",
            Shape::Record(&PROCESS),
            "{ command: [./server, \"{revision}\"], env: { PORT: \"{port}\" }, ports: { checkout-v1: 9001, checkout-v2: 9002 } }",
            "Processes on this machine (`tidegate local`).",
        ),
    ],
    one_of: &["ecs", "process"],
    refused_once: false,
};

pub(super) static ECS: Record = Record::of(&[
    Field::required("cluster", Shape::Text(&LINE), "prod", "Name or ARN of the cluster."),
    Field::required(
        "services",
        Shape::Dictionary(&ONE_LINE),
        "{ checkout-v1: checkout-a, checkout-v2: checkout-b }",
        "Service of each version.",
    ),
    Field::required("container", Shape::Text(&LINE), "app", "Container whose image is released."),
    Field::defaulted(
        "scale",
        Shape::Short {
            scalar: &Shape::Word(&[word("same_as_stable"), word("keep")]),
            scalar_built: Built::Yes,
            record: &SCALE,
            record_built: Built::Yes,
        },
        "same_as_stable",
        "How many tasks the canary's service gets: as many as stable's is asked to have, as it is asked to have already \
         (`keep`), a number, or as many as its share of the traffic asks for.",
    ),
    Field::defaulted(
        "ready_within",
        Shape::Duration,
        "15m",
        "Longest wait for the release to be up and healthy; then it is rolled back.",
    ),
    Field::defaulted(
        "keep_for",
        Shape::Duration,
        "30m",
        "How long the version before stays up after a promotion; until then `abort` goes back to it at once.",
    ),
]);

static SCALE: Record = Record {
    fields: &[
        Field::optional("tasks", Shape::Whole { min: 1, max: 5000 }, "3", "So many tasks."),
        Field::optional(
            "follow_share",
            Shape::Share,
            "20%",
            "As many as stable's number times the share, with so much on top; made more before each step.",
        ),
    ],
    one_of: &["tasks", "follow_share"],
    refused_once: false,
};

pub(super) static PROCESS: Record = Record::of(&[
    Field::required(
        "command",
        Shape::List { of: &ONE_LINE, min: 1, max: MAX_ENTRIES },
        "[./server, \"{revision}\"]",
        "Program and arguments; `{port}`, `{node}`, `{revision}` and `{image}` are filled in.",
    ),
    Field::optional(
        "env",
        Shape::Dictionary(&ONE_LINE),
        "{ PORT: \"{port}\" }",
        "Variables besides those of the daemon; filled in likewise.",
    ),
    Field::required(
        "ports",
        Shape::Dictionary(&ONE_PORT),
        "{ checkout-v1: 9001, checkout-v2: 9002 }",
        "Port on 127.0.0.1 on which the process of each version listens.",
    ),
    Field::defaulted(
        "first",
        Shape::Text(&LINE),
        "initial",
        "Revision that stable is started with where nothing was released yet.",
    ),
    Field::defaulted(
        "ready_within",
        Shape::Duration,
        "1m",
        "Longest wait for the release to listen on its port; then it is rolled back.",
    ),
    Field::defaulted(
        "keep_for",
        Shape::Duration,
        "30s",
        "How long the version before stays up after a promotion; until then `abort` goes back to it at once.",
    ),
]);

pub(super) static START: Record = Record::of(&[
    Field::optional(
        "on",
        Shape::Record(&START_ON),
        "{ image: { repository: shop/checkout, tag: \"v*\" } }",
        "Events that start a rollout.",
    ),
    Field::optional(
        "windows",
        Shape::List { of: &ONE_LINE, min: 1, max: MAX_ENTRIES },
        "[\"Mon-Thu 09:00-16:00 Europe/Berlin\"]",
        "When a rollout may begin: days, times and a zone. One that has begun goes on when its window ends.",
    ),
    Field::optional(
        "at",
        Shape::List { of: &ONE_LINE, min: 1, max: MAX_ENTRIES },
        "[\"0 9,14 * * Mon-Thu Europe/Berlin\"]",
        "When what events ask for departs, the newest alone: five fields of cron and a zone. A start by hand does not wait for it.",
    ),
    Field::defaulted(
        "while_live",
        Shape::Word(&[word("newest_wins"), word("queue"), word("refuse")]),
        "newest_wins",
        "What a start by an event does while a rollout of the policy is live: end it, wait for its end, or nothing.",
    ),
]);

static START_ON: Record = Record::of(&[
    Field::optional("image", Shape::Record(&START_IMAGE), "{ repository: shop/checkout }", "A pushed image."),
    Field::optional(
        "workflow",
        Shape::Record(&START_WORKFLOW),
        "{ repository: shop/checkout, branch: main, image: \"ghcr.io/shop/checkout:{sha}\" }",
        "A workflow or pipeline that succeeded, and the image that it has made.",
    ),
]);

static START_WORKFLOW: Record = Record::of(&[
    Field::required("repository", Shape::Text(&LINE), "shop/checkout", "Repository of the source code."),
    Field::required("branch", Shape::Text(&LINE), "main", "Branches and tags that count; `*` stands for any text."),
    Field::optional(
        "workflow",
        Shape::Text(&LINE),
        "release",
        "Name of the workflow, pipeline or job; any without it.",
    ),
    Field::required(
        "image",
        Shape::Text(&LINE),
        "\"ghcr.io/shop/checkout:{sha}\"",
        "The image that it has made; `{sha}`, `{short_sha}` and `{branch}` are filled in.",
    ),
]);

static START_IMAGE: Record = Record::of(&[
    Field::required("repository", Shape::Text(&LINE), "shop/checkout", "Repository of the image."),
    Field::optional("tag", Shape::Text(&LINE), "\"v*\"", "Tags that count; `*` stands for any text."),
]);

pub(super) static PREVIEW: Record = Record::of(&[
    Field::required(
        "header",
        Shape::Record(&PREVIEW_HEADER),
        "{ name: x-preview, value: \"1\" }",
        "The header that reaches the canary.",
    ),
    Field::required(
        "for",
        Shape::Duration,
        "2m",
        "How long at least, before the first step, counted from when it is seen in force.",
    ),
]);

static PREVIEW_HEADER: Record = Record::of(&[
    Field::required("name", Shape::Text(&HEADER_NAME), "x-preview", "Name of the header."),
    Field::required("value", Shape::Text(&HEADER_VALUE), "\"1\"", "Its value, exactly."),
]);

/// A token of HTTP (RFC 9110, 5.6.2), as long as App Mesh takes one (HeaderName of its model).
static HEADER_NAME: TextRule = TextRule {
    says: "the name of a header such as `x-preview`, of up to 50 characters",
    pattern: r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,50}$",
    holds: |text| {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        (1..=50).contains(&text.len()) && text.bytes().all(is_token)
    },
};

/// What a header can have and a proxy keeps: no space at either end. As long as App Mesh takes one (HeaderMatch).
static HEADER_VALUE: TextRule = TextRule {
    says: "up to 255 printable characters without a space at either end",
    pattern: r"^[!-~]([ -~]{0,253}[!-~])?$",
    holds: |text| {
        (1..=255).contains(&text.len())
            && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
            && text.trim() == text
    },
};

pub(super) static NOTICE_SHAPE: Shape = Shape::Record(&NOTICE);

/// A channel of Slack (<https://docs.slack.dev/reference/objects/conversation-object/>): names have up to 80 characters.
static CHANNEL: TextRule = TextRule {
    says: "a channel such as `#deploys`, or its identifier such as `C024BE91L`",
    pattern: r"^(#[^ \t\r\n#@<>&,.:;!?]{1,80}|[CGD][A-Z0-9]{6,30})$",
    holds: |text| match text.strip_prefix('#') {
        Some(name) => {
            let plain = |letter: char| !letter.is_whitespace() && !"#@<>&,.:;!?".contains(letter);
            (1..=80).contains(&name.chars().count()) && name.chars().all(plain)
        }
        None => {
            let rest = text.strip_prefix(['C', 'G', 'D']).unwrap_or_default();
            let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
            (6..=30).contains(&rest.len()) && rest.bytes().all(plain)
        }
    },
};

/// A repository at GitHub.
static REPOSITORY: TextRule = TextRule {
    says: "a repository such as `shop/checkout`",
    pattern: r"^[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}$",
    holds: |text| {
        let plain = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            (1..=100).contains(&part.len()) && part.bytes().all(known)
        };
        text.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
    },
};

static GITHUB: Record = Record::of(&[
    Field::required("repository", Shape::Text(&REPOSITORY), "shop/checkout", "Repository whose commit is released."),
    Field::optional(
        "environment",
        Shape::Text(&LINE),
        "production",
        "Environment of the deployment; without it the policy's name.",
    ),
]);

static NOTICE: Record = Record {
    fields: &[
        Field::optional(
            "github",
            Shape::Record(&GITHUB),
            "{ repository: shop/checkout, environment: production }",
            "The commit that is released gets a status at GitHub, and a deployment.",
        ),
        Field::optional(
            "slack",
            Shape::Text(&CHANNEL),
            "\"#deploys\"",
            "Channel of Slack: a message follows the rollout there.",
        ),
        Field::optional(
            "webhook",
            Shape::Text(&ADDRESS),
            "https://127.0.0.1:9000/events",
            "Service that gets a signed request for each step, pause, approval and end.",
        ),
    ],
    one_of: &["github", "slack", "webhook"],
    refused_once: false,
};

pub(super) static APPROVAL: Record = Record::of(&[
    Field::optional("slack", Shape::Text(&CHANNEL), "\"#deploys\"", "Channel of Slack in which they are asked."),
    Field::required(
        "from",
        Shape::List { of: &ONE_LINE, min: 1, max: MAX_ENTRIES },
        "[payments-oncall]",
        "Who may approve: names of `[people.NAME]` in the configuration.",
    ),
    Field::defaulted("need", Shape::Whole { min: 1, max: 64 }, "1", "How many of them must."),
    Field::defaulted("timeout", Shape::Duration, "1h", "Longest wait."),
    Field::defaulted("on_timeout", Shape::Word(ROLLBACK_OR_PAUSE), "rollback", "What happens then."),
]);

// --- signals ---

pub(super) static WEBHOOK: Record = Record::of(&[
    Field::required("url", Shape::Text(&ADDRESS), "http://127.0.0.1:9000/judge", "Whom to ask."),
    Field::defaulted("timeout", Shape::Duration, "5s", "Longest wait for the answer; from 1s to 20s."),
    Field::defaulted("interval", Shape::Duration, "10s", "How often to ask; from 1s to 5m."),
]);

pub(super) static HEALTH: Record = Record {
    fields: &[
        Field::optional("http", Shape::Text(&PATH), "/health", "Path that must answer with a success status."),
        Field::optional(
            "grpc",
            Shape::Text(&GRPC_SERVICE),
            "shop.Checkout",
            "Service that `grpc.health.v1.Health` must call SERVING, over HTTP/2 without TLS; \"\" asks about the server.",
        ),
        Field::optional("tcp", Shape::Boolean, "true", "A connection must be accepted."),
        Field::optional("ecs", Shape::Boolean, "true", "ECS must call every task of the version's service healthy."),
        Field::defaulted("interval", Shape::Duration, "5s", "How often to ask; from 1s to 5m."),
    ],
    one_of: &["http", "grpc", "tcp", "ecs"],
    refused_once: false,
};
