//! Every key of the configuration file, once: reading, environment, printing and documentation go by this table.

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    Text,
    /// `IP:PORT` to listen on.
    Listen,
    /// An address of HTTP, with scheme and host and without query.
    Url,
    /// A file or directory; a relative one begins at the working directory.
    Path,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Several addresses of HTTP; in the environment with commas between them.
    Urls,
    /// Text that is never shown.
    Secret,
    /// `true` or `false`, without quotes.
    Flag,
    /// A span of time, or `off`.
    Span,
    /// One or two secrets, so that they can be changed without a gap; in the environment with a comma between them.
    Secrets,
}

impl Shape {
    /// Whether its value is never shown.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }

    /// What a value must be, for messages.
    #[must_use]
    pub fn says(self) -> String {
        match self {
            Self::Text | Self::Secret => "text in quotes".to_owned(),
            Self::Listen => "an address and a port such as \"0.0.0.0:7070\"".to_owned(),
            Self::Url => "an address such as \"https://tidegate.internal:7070\"".to_owned(),
            Self::Path => "a path in quotes".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Span => "a span such as \"2m\", or \"off\"".to_owned(),
            Self::Flag => "true or false, without quotes".to_owned(),
            Self::Urls => "a list of addresses such as [\"http://10.0.0.5:9901\"]".to_owned(),
            Self::Secrets => "text in quotes, or a list of two such texts".to_owned(),
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `section.name`.
    pub path: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Value without one; `None` where it is then absent.
    pub default: Option<&'static str>,
    /// A value as it may look.
    pub example: &'static str,
    /// What it is for.
    pub says: &'static str,
}

impl Key {
    const fn new(path: &'static str, shape: Shape, example: &'static str, says: &'static str) -> Self {
        Self { path, shape, default: None, example, says }
    }

    const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Its example as it stands in a file.
    #[must_use]
    pub fn quoted(&self) -> String {
        let is_bare = self.shape == Shape::Flag || self.example.starts_with('[');
        if is_bare { self.example.to_owned() } else { format!("\"{}\"", self.example) }
    }

    /// The variable that overrides it.
    #[must_use]
    pub fn variable(&self) -> String {
        match self.path.strip_prefix("hooks.") {
            Some(source) => format!("TIDEGATE_HOOK_SECRET_{}", source.to_ascii_uppercase()),
            None => format!("TIDEGATE_{}", self.path.replace('.', "_").to_ascii_uppercase()),
        }
    }
}

/// Words of `api.auth`, `mesh.signing`, `mesh.auth`, `mesh.quotas`, `mesh.lease` and `mesh.strict`.
pub(super) const NONE: &str = "none";
pub(super) const TOKENS: &str = "tokens";
pub(super) const AWS: &str = "aws";
pub(super) const SIGNED: &str = "keys";
pub(super) const OFF: &str = "off";
pub(super) const TRUE: &str = "true";

/// All of them, by section.
pub const KEYS: &[Key] = &[
    Key::new("api.listen", Shape::Listen, "0.0.0.0:7070", "Where the HTTP API listens.").or("127.0.0.1:7070"),
    Key::new(
        "api.public_url",
        Shape::Url,
        "https://tidegate.example.com",
        "Address at which people and senders of webhooks reach the API; links begin with it.",
    ),
    Key::new(
        "api.advertise_url",
        Shape::Url,
        "http://10.0.0.5:7070",
        "Address at which the other daemons on the same database reach this one. A daemon that does not drive hands every request on to the one that does; without this key nobody can hand one on to this daemon. `{host}` stands for this machine's address on the way to the database.",
    ),
    Key::new(
        "api.certificate",
        Shape::Path,
        "/etc/tidegate/tls.crt",
        "Certificate chain (PEM) for TLS on the API; read again when it changes. Together with `api.key`.",
    ),
    Key::new("api.key", Shape::Path, "/etc/tidegate/tls.key", "Private key (PEM) of that certificate."),
    Key::new(
        "api.ca",
        Shape::Path,
        "/etc/tidegate/ca.crt",
        "Roots (PEM) by which other daemons are believed when a request is handed on to an `https://` address, instead of the system's.",
    ),
    Key::new(
        "api.auth",
        Shape::Word(&[TOKENS, NONE]),
        "tokens",
        "Who may call: whoever has a token, or (only where `api.listen` is a loopback address) everyone on this machine.",
    )
    .or(TOKENS),
    Key::new(
        "database.url",
        Shape::Secret,
        "postgres://tidegate:PASSWORD@db.internal:5432/tidegate?sslmode=verify-full",
        "PostgreSQL, which several daemons may share: one drives, the others stand by.",
    ),
    Key::new(
        "database.data_dir",
        Shape::Path,
        "/var/lib/tidegate",
        "Directory of the SQLite database where there is no `database.url`; it belongs to one daemon.",
    )
    .or(".tidegate"),
    Key::new(
        "policies.directory",
        Shape::Path,
        "/etc/tidegate/policies",
        "Directory of policy files, read anew at every start of a rollout.",
    )
    .or("policies"),
    Key::new(
        "mesh.endpoint_url",
        Shape::Url,
        "http://127.0.0.1:7071",
        "The App Mesh API of a mesh elsewhere. Without it, and without `mesh.listen`, the AWS SDK's own choice: AWS_ENDPOINT_URL_APP_MESH, else AWS, which ended the service on 2026-09-30.",
    ),
    Key::new(
        "mesh.signing",
        Shape::Word(&[AWS, NONE]),
        "none",
        "How calls of the App Mesh API are signed: with the credentials of AWS, or with fixed dummy keys, for an endpoint that asks for none.",
    )
    .or(AWS),
    Key::new(
        "mesh.lease",
        Shape::Span,
        "5m",
        "For how long a mesh that knows leases, which Tidegate's own does, keeps a split of the traffic when no daemon renews it; then it puts everything back on stable by itself. From 5s to 1h, and longer than a daemon may be away; `off` asks for none.",
    )
    .or("2m"),
    Key::new(
        "mesh.listen",
        Shape::Listen,
        "0.0.0.0:7071",
        "Where the App Mesh API of a mesh of one's own listens, kept in the database; with it this daemon is the control plane, and drives that mesh.",
    ),
    Key::new(
        "mesh.xds_listen",
        Shape::Listen,
        "0.0.0.0:7072",
        "Where proxies get the configuration of that mesh. Without it 127.0.0.1:7072.",
    ),
    Key::new(
        "mesh.certificate",
        Shape::Path,
        "/etc/tidegate/mesh.crt",
        "Certificate chain (PEM) for TLS on both of these; read again when it changes. Together with `mesh.key`.",
    ),
    Key::new("mesh.key", Shape::Path, "/etc/tidegate/mesh.key", "Private key (PEM) of that certificate."),
    Key::new(
        "mesh.clients",
        Shape::Path,
        "/etc/tidegate/proxies-ca.crt",
        "Authorities (PEM): proxies then need a certificate by one of them, and no access key where it names them, by the URI `spiffe://TRUST-DOMAIN/mesh/M/virtualNode/N`, `spiffe://TRUST-DOMAIN/mesh/M/virtualGateway/G` or `spiffe://TRUST-DOMAIN/mesh/M`. Read again when it changes.",
    ),
    Key::new(
        "mesh.auth",
        Shape::Word(&[SIGNED, NONE]),
        "keys",
        "Who may use that mesh: whoever signs with one of `[mesh.keys]`, or (only where it listens on loopback addresses) everyone on this machine.",
    )
    .or(SIGNED),
    Key::new("mesh.region", Shape::Text, "eu-central-1", "Region of its ARNs. Without it `aws.region`, else us-east-1."),
    Key::new("mesh.account", Shape::Text, "123456789012", "Account of its ARNs, 12 digits.").or("000000000000"),
    Key::new(
        "mesh.quotas",
        Shape::Word(&[AWS, OFF]),
        "aws",
        "How many resources it takes: as many as AWS does by default, or 10,000 of a kind.",
    )
    .or(OFF),
    Key::new(
        "mesh.strict",
        Shape::Flag,
        "true",
        "Whether it refuses what its data plane cannot do, instead of listing it as a problem.",
    )
    .or("false"),
    Key::new("aws.region", Shape::Text, "eu-central-1", "Region of AWS. Without it the AWS SDK's own choice, such as AWS_REGION."),
    Key::new(
        "telemetry.proxies",
        Shape::Urls,
        "[\"http://proxies.shop.internal:9901\"]",
        "Admin addresses of Tidegate's proxies, whose counts releases are judged by. A name with several addresses stands for a proxy at each.",
    ),
    Key::new(
        "discovery.file",
        Shape::Path,
        "/etc/tidegate/discovery.yaml",
        "File that stands in for Cloud Map and DNS when health checks look for a version's endpoints.",
    ),
    Key::new("prometheus.url", Shape::Url, "http://prometheus.internal:9090", "Prometheus, for gates that do not name another."),
    Key::new("prometheus.token", Shape::Secret, "TOKEN", "Bearer token for it."),
    Key::new("prometheus.user", Shape::Text, "tidegate", "User's name for it instead, with `prometheus.password`."),
    Key::new("prometheus.password", Shape::Secret, "PASSWORD", "That user's password."),
    Key::new(
        "github.token",
        Shape::Secret,
        "github_pat_TOKEN",
        "Token for GitHub, where policies have `notify.github`: it may write commit statuses and deployments of their repositories.",
    ),
    Key::new(
        "github.api_url",
        Shape::Url,
        "https://github.example.com/api/v3",
        "GitHub's API, where it is not the public one.",
    )
    .or("https://api.github.com"),
    Key::new(
        "slack.token",
        Shape::Secret,
        "xoxb-TOKEN",
        "Token of a bot at Slack, where policies have `notify.slack` or `approval.slack` (docs/chatops.md).",
    ),
    Key::new(
        "slack.signing_secret",
        Shape::Secret,
        "SIGNING-SECRET",
        "By which buttons and commands from Slack are believed; without it `/v1/slack` takes nothing.",
    ),
    Key::new("slack.api_url", Shape::Url, "https://slack.com/api", "Slack's Web API.").or("https://slack.com/api"),
    Key::new(
        "webhook.secret",
        Shape::Secret,
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "By which requests to services of `notify.webhook` are signed, as Standard Webhooks has it; without it none is sent.",
    ),
    Key::new("hooks.generic", Shape::Secrets, "SECRET-OF-16-OR-MORE", "Secret of `/v1/hooks/generic`; without it the address takes nothing. 16 to 512 characters; two while one is being changed."),
    Key::new("hooks.github", Shape::Secrets, "SECRET-OF-16-OR-MORE", "The same for GitHub's webhooks."),
    Key::new("hooks.gitlab", Shape::Secrets, "SECRET-OF-16-OR-MORE", "The same for GitLab's."),
    Key::new("hooks.ecr", Shape::Secrets, "SECRET-OF-16-OR-MORE", "The same for events of Amazon ECR by way of EventBridge."),
    Key::new("hooks.registry", Shape::Secrets, "SECRET-OF-16-OR-MORE", "The same for notifications of a Docker registry."),
    Key::new(
        "queue.url",
        Shape::Url,
        "https://sqs.eu-central-1.amazonaws.com/123456789012/tidegate",
        "Queue of SQS into which EventBridge puts events of Amazon ECR, for a daemon without a public address.",
    ),
];

/// What a person may be known by: keys of `[people.NAME]`, all of them text.
pub const PERSON_KEYS: &[(&str, &str)] = &[
    ("token", "Name of the API token with which they speak."),
    ("os_user", "Login on the daemon's machine, where no token is asked for."),
    ("slack_user", "Their id at Slack."),
    ("slack_group", "Id of their group at Slack."),
    ("git_login", "Their login at the Git host whose pushes start rollouts."),
];

/// What an access key has: keys of `[mesh.keys.NAME]`, each with an example.
pub const ACCESS_KEYS: &[(&str, Shape, &str, &str)] = &[
    ("id", Shape::Text, "AKIDEXAMPLE", "Its access key id, which clients have as AWS_ACCESS_KEY_ID."),
    (
        "secret",
        Shape::Secrets,
        "SECRET-OF-16-OR-MORE",
        "What they sign with, AWS_SECRET_ACCESS_KEY: 16 to 512 characters; two while it is being changed.",
    ),
    ("allow", Shape::Word(&["read", "write"]), "read", "What it is good for: `read` or `write`."),
    ("mesh", Shape::Text, "shop", "The only mesh that it is for; without it all of them."),
];

/// What stands in for a certificate of ACM: keys of `[mesh.certificates."ARN"]`, each with an example. The last one is needed.
pub const CERTIFICATE_KEYS: &[(&str, &str, &str)] = &[
    (
        "chain",
        "/etc/tidegate/checkout.crt",
        "Its certificate chain (PEM), the own one first; not for an authority of acm-pca. Read again when it changes.",
    ),
    ("key", "/etc/tidegate/checkout.key", "Its private key (PEM): RSA, or ECDSA on P-256 or P-384."),
    ("authorities", "/etc/tidegate/mesh-ca.crt", "Authorities (PEM) by which it is believed."),
];

/// An ARN as it may look, for examples.
pub(super) const ARN: &str = "arn:aws:acm:eu-central-1:123456789012:certificate/6f1c0c1a-8f5e-4f0e-9d0b-2f6d3c9a1b7e";

/// The variable that overrides the secret of an access key.
#[must_use]
pub fn access_key_variable(name: &str) -> String {
    format!("{ACCESS_KEY_PREFIX}{}", name.replace(['-', '.'], "_").to_ascii_uppercase())
}

/// The variable that declares access keys where no file does.
pub const ACCESS_KEYS_VARIABLE: &str = "TIDEGATE_MESH_KEYS";

/// What the variables of access keys begin with.
pub const ACCESS_KEY_PREFIX: &str = "TIDEGATE_MESH_KEY_SECRET_";

/// The example file: every key with what it is for, its variable and its default. Keys are commented out by a `#` without
/// a space, so that removing it is all there is to do.
#[must_use]
pub fn example() -> String {
    let mut text = String::from(
        "# Configuration of `tidegate serve`: every key, with an example. Remove the `#` before a key to set it.\n\
         # Each can also be set by the variable that is named, which then counts; an empty variable is none.\n\
         # `tidegate serve --print-config` shows what takes effect.\n",
    );
    let mut section = "";
    for key in KEYS {
        let Some((of, name)) = key.path.split_once('.') else { continue };
        if of != section {
            text += &format!("\n[{of}]\n");
            section = of;
        }
        for line in wrapped(key.says) {
            text += &format!("# {line}\n");
        }
        let mark = if key.shape == Shape::Flag { "" } else { "\"" };
        let default = key.default.map_or(String::new(), |default| format!("; default {mark}{default}{mark}"));
        text += &format!("# {}{default}\n", key.variable());
        text += &format!("#{name} = {}\n", key.quoted());
    }
    text += "\n# Access keys of a mesh of one's own, by a name of one's own: up to 32 letters, digits, - and _.\n\
        # Without a file: NAME:ID:ALLOW or NAME:ID:ALLOW:MESH, with commas between several.\n";
    text += &format!("# {ACCESS_KEYS_VARIABLE}\n#[mesh.keys.ci]\n");

    for (name, _, example, says) in ACCESS_KEYS {
        text += &format!("# {says}\n");
        if *name == "secret" {
            text += &format!("# {}\n", access_key_variable("ci"));
        }
        text += &format!("#{name} = \"{example}\"\n");
    }
    text += "\n# Files that stand in for a certificate of AWS Certificate Manager, or for an authority of its private ones, by its ARN.\n";
    text += &format!("#[mesh.certificates.\"{ARN}\"]\n");
    for (name, example, says) in CERTIFICATE_KEYS {
        text += &format!("# {says}\n#{name} = \"{example}\"\n");
    }
    text += "\n# People, by the name that policies have for them (`from` of an approval).\n#[people.ada]\n";
    for (name, says) in PERSON_KEYS {
        text += &format!("# {says}\n#{name} = \"ada\"\n");
    }
    text
}

/// A sentence in lines of up to 100 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
