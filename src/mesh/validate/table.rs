//! The shapes of App Mesh API 2019-01-25, as tables: each constant is the shape of that name in the model.

use super::shape::Shape::{self, Bool, Choice, Int, List, Struct, Text, Union};
use super::shape::{Member, opt, req};
use crate::mesh::model::Kind;

/// Where the API sets no upper end; the body limit of `http` does.
const ANY: usize = usize::MAX;

/// Members of the body of `CreateX`.
pub(super) fn create(kind: Kind) -> &'static [Member] {
    match kind {
        Kind::Mesh => const { &[req("meshName", &TEXT), opt("spec", &MESH), TOKEN, TAGS] },
        Kind::VirtualNode => const { &[req("virtualNodeName", &TEXT), req("spec", &NODE), TOKEN, TAGS] },
        Kind::VirtualRouter => const { &[req("virtualRouterName", &TEXT), req("spec", &ROUTER), TOKEN, TAGS] },
        Kind::Route => const { &[req("routeName", &TEXT), req("spec", &ROUTE), TOKEN, TAGS] },
        Kind::VirtualService => const { &[req("virtualServiceName", &TEXT), req("spec", &SERVICE), TOKEN, TAGS] },
        Kind::VirtualGateway => const { &[req("virtualGatewayName", &TEXT), req("spec", &GATEWAY), TOKEN, TAGS] },
        Kind::GatewayRoute => const { &[req("gatewayRouteName", &TEXT), req("spec", &GATEWAY_ROUTE), TOKEN, TAGS] },
    }
}

/// Members of the body of `UpdateX`.
pub(super) fn update(kind: Kind) -> &'static [Member] {
    match kind {
        Kind::Mesh => const { &[opt("spec", &MESH), TOKEN] },
        Kind::VirtualNode => const { &[req("spec", &NODE), TOKEN] },
        Kind::VirtualRouter => const { &[req("spec", &ROUTER), TOKEN] },
        Kind::Route => const { &[req("spec", &ROUTE), TOKEN] },
        Kind::VirtualService => const { &[req("spec", &SERVICE), TOKEN] },
        Kind::VirtualGateway => const { &[req("spec", &GATEWAY), TOKEN] },
        Kind::GatewayRoute => const { &[req("spec", &GATEWAY_ROUTE), TOKEN] },
    }
}

/// Shape of the spec of a kind.
pub(super) fn spec(kind: Kind) -> &'static Shape {
    match kind {
        Kind::Mesh => &MESH,
        Kind::VirtualNode => &NODE,
        Kind::VirtualRouter => &ROUTER,
        Kind::Route => &ROUTE,
        Kind::VirtualService => &SERVICE,
        Kind::VirtualGateway => &GATEWAY,
        Kind::GatewayRoute => &GATEWAY_ROUTE,
    }
}

/// Shape of a list of tags.
pub(super) fn tag_list() -> &'static Shape {
    &TAG_LIST
}

/// Body of `TagResource`.
pub(super) const TAG: &[Member] = &[req("tags", &TAG_LIST)];

/// Body of `UntagResource`.
pub(super) const UNTAG: &[Member] = &[req("tagKeys", &List { min: 0, max: 50, of: &Text { min: 1, max: 128 } })];

const TOKEN: Member = opt("clientToken", &TEXT);
const TAGS: Member = opt("tags", &TAG_LIST);
static TAG_LIST: Shape = List { min: 0, max: super::TAGS_MAX, of: &TAG_REF };
static TAG_REF: Shape = Struct(&[req("key", &Text { min: 1, max: 128 }), req("value", &Text { min: 0, max: 256 })]);

static TEXT: Shape = Text { min: 0, max: ANY };
static NAME: Shape = Text { min: 1, max: 255 };
static PORT: Shape = Int { min: 1, max: 65_535 };
static AT_LEAST_1: Shape = Int { min: 1, max: i32::MAX as i64 };
static PROTOCOL: Shape = Choice(&["http", "tcp", "http2", "grpc"]);
static IP_PREFERENCE: Shape = Choice(&["IPv6_PREFERRED", "IPv4_PREFERRED", "IPv4_ONLY", "IPv6_ONLY"]);
// The model makes both members optional, but neither means anything alone.
static DURATION: Shape = Struct(&[req("value", &Int { min: 0, max: i64::MAX }), req("unit", &Choice(&["s", "ms"]))]);
static PORT_MAPPING: Shape = Struct(&[req("port", &PORT), req("protocol", &PROTOCOL)]);

static MESH: Shape = Struct(&[
    opt("egressFilter", &Struct(&[req("type", &Choice(&["ALLOW_ALL", "DROP_ALL"]))])),
    opt("serviceDiscovery", &Struct(&[opt("ipPreference", &IP_PREFERENCE)])),
]);

static ROUTER: Shape =
    Struct(&[opt("listeners", &List { min: 0, max: ANY, of: &Struct(&[req("portMapping", &PORT_MAPPING)]) })]);

static SERVICE: Shape = Struct(&[opt(
    "provider",
    &Union(&[
        opt("virtualNode", &Struct(&[req("virtualNodeName", &NAME)])),
        opt("virtualRouter", &Struct(&[req("virtualRouterName", &NAME)])),
    ]),
)]);

// --- virtual node ---

static NODE: Shape = Struct(&[
    opt("serviceDiscovery", &SERVICE_DISCOVERY),
    opt("listeners", &List { min: 0, max: ANY, of: &LISTENER }),
    opt("backends", &List { min: 0, max: ANY, of: &BACKEND }),
    opt("backendDefaults", &Struct(&[opt("clientPolicy", &CLIENT_POLICY)])),
    opt("logging", &Struct(&[opt("accessLog", &ACCESS_LOG)])),
]);

static SERVICE_DISCOVERY: Shape = Union(&[
    opt(
        "dns",
        &Struct(&[
            // The model allows an empty hostname; nothing can be resolved from it.
            req("hostname", &Text { min: 1, max: ANY }),
            opt("responseType", &Choice(&["LOADBALANCER", "ENDPOINTS"])),
            opt("ipPreference", &IP_PREFERENCE),
        ]),
    ),
    opt(
        "awsCloudMap",
        &Struct(&[
            req("namespaceName", &Text { min: 1, max: 1024 }),
            req("serviceName", &Text { min: 1, max: 1024 }),
            opt("attributes", &List { min: 0, max: ANY, of: &CLOUD_MAP_ATTRIBUTE }),
            opt("ipPreference", &IP_PREFERENCE),
        ]),
    ),
]);
static CLOUD_MAP_ATTRIBUTE: Shape =
    Struct(&[req("key", &Text { min: 1, max: 255 }), req("value", &Text { min: 1, max: 1024 })]);

static LISTENER: Shape = Struct(&[
    req("portMapping", &PORT_MAPPING),
    opt("healthCheck", &HEALTH_CHECK),
    opt("timeout", &LISTENER_TIMEOUT),
    opt("connectionPool", &CONNECTION_POOL),
    opt("outlierDetection", &OUTLIER_DETECTION),
    opt("tls", &LISTENER_TLS),
]);

static HEALTH_CHECK: Shape = Struct(&[
    req("healthyThreshold", &Int { min: 2, max: 10 }),
    req("unhealthyThreshold", &Int { min: 2, max: 10 }),
    req("intervalMillis", &Int { min: 5000, max: 300_000 }),
    req("timeoutMillis", &Int { min: 2000, max: 60_000 }),
    req("protocol", &PROTOCOL),
    opt("port", &PORT),
    opt("path", &TEXT),
]);

static HTTP_TIMEOUT: Shape = Struct(&[opt("perRequest", &DURATION), opt("idle", &DURATION)]);
static TCP_TIMEOUT: Shape = Struct(&[opt("idle", &DURATION)]);
static LISTENER_TIMEOUT: Shape = Union(&[
    opt("http", &HTTP_TIMEOUT),
    opt("http2", &HTTP_TIMEOUT),
    opt("grpc", &HTTP_TIMEOUT),
    opt("tcp", &TCP_TIMEOUT),
]);

static CONNECTION_POOL: Shape = Union(&[
    opt("http", &Struct(&[req("maxConnections", &AT_LEAST_1), opt("maxPendingRequests", &AT_LEAST_1)])),
    opt("http2", &Struct(&[req("maxRequests", &AT_LEAST_1)])),
    opt("grpc", &Struct(&[req("maxRequests", &AT_LEAST_1)])),
    opt("tcp", &Struct(&[req("maxConnections", &AT_LEAST_1)])),
]);

static OUTLIER_DETECTION: Shape = Struct(&[
    req("maxServerErrors", &Int { min: 1, max: i64::MAX }),
    req("interval", &DURATION),
    req("baseEjectionDuration", &DURATION),
    req("maxEjectionPercent", &Int { min: 0, max: 100 }),
]);

static LISTENER_TLS: Shape = Struct(&[
    req("mode", &Choice(&["STRICT", "PERMISSIVE", "DISABLED"])),
    req(
        "certificate",
        &Union(&[opt("acm", &Struct(&[req("certificateArn", &TEXT)])), opt("file", &FILE_CERT), opt("sds", &SDS)]),
    ),
    opt(
        "validation",
        &Struct(&[
            req("trust", &Union(&[opt("file", &FILE_TRUST), opt("sds", &SDS)])),
            opt("subjectAlternativeNames", &SAN),
        ]),
    ),
]);

static PATH_ON_DISK: Shape = Text { min: 1, max: 255 };
static FILE_CERT: Shape = Struct(&[req("certificateChain", &PATH_ON_DISK), req("privateKey", &PATH_ON_DISK)]);
static FILE_TRUST: Shape = Struct(&[req("certificateChain", &PATH_ON_DISK)]);
static SDS: Shape = Struct(&[req("secretName", &TEXT)]);
static SAN: Shape =
    Struct(&[req("match", &Struct(&[req("exact", &List { min: 0, max: ANY, of: &Text { min: 1, max: 254 } })]))]);

static BACKEND: Shape =
    Union(&[opt("virtualService", &Struct(&[req("virtualServiceName", &TEXT), opt("clientPolicy", &CLIENT_POLICY)]))]);
static CLIENT_POLICY: Shape = Struct(&[opt(
    "tls",
    &Struct(&[
        opt("enforce", &Bool),
        opt("ports", &List { min: 0, max: ANY, of: &PORT }),
        opt("certificate", &Union(&[opt("file", &FILE_CERT), opt("sds", &SDS)])),
        req(
            "validation",
            &Struct(&[
                req(
                    "trust",
                    &Union(&[
                        opt("acm", &Struct(&[req("certificateAuthorityArns", &List { min: 1, max: 3, of: &TEXT })])),
                        opt("file", &FILE_TRUST),
                        opt("sds", &SDS),
                    ]),
                ),
                opt("subjectAlternativeNames", &SAN),
            ]),
        ),
    ]),
)]);

static LOG_WORD: Shape = Text { min: 1, max: 100 };
static ACCESS_LOG: Shape = Union(&[opt(
    "file",
    &Struct(&[
        req("path", &PATH_ON_DISK),
        opt(
            "format",
            &Union(&[
                opt("text", &Text { min: 1, max: 1000 }),
                opt("json", &List { min: 0, max: ANY, of: &Struct(&[req("key", &LOG_WORD), req("value", &LOG_WORD)]) }),
            ]),
        ),
    ]),
)]);

// --- route ---

// Not marked as a union in the model, although exclusive: `rules` counts the four routes.
static ROUTE: Shape = Struct(&[
    opt("priority", &Int { min: 0, max: 1000 }),
    opt("httpRoute", &HTTP_ROUTE),
    opt("http2Route", &HTTP_ROUTE),
    opt("grpcRoute", &GRPC_ROUTE),
    opt("tcpRoute", &TCP_ROUTE),
]);

static HTTP_ROUTE: Shape = Struct(&[
    req("match", &HTTP_MATCH),
    req("action", &ACTION),
    opt("retryPolicy", &HTTP_RETRY),
    opt("timeout", &HTTP_TIMEOUT),
]);

static ACTION: Shape = Struct(&[req("weightedTargets", &List { min: 1, max: 10, of: &WEIGHTED_TARGET })]);
static WEIGHTED_TARGET: Shape =
    Struct(&[req("virtualNode", &NAME), req("weight", &Int { min: 0, max: 100 }), opt("port", &PORT)]);

static HTTP_MATCH: Shape = Struct(&[
    opt("prefix", &TEXT),
    opt("path", &HTTP_PATH),
    opt("method", &METHOD),
    opt("scheme", &Choice(&["http", "https"])),
    opt("headers", &List { min: 1, max: 10, of: &NAMED_MATCH }),
    opt("queryParameters", &QUERY),
    opt("port", &PORT),
]);
static HTTP_PATH: Shape = Struct(&[opt("exact", &NAME), opt("regex", &NAME)]);
static METHOD: Shape = Choice(&["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]);
static QUERY: Shape =
    List { min: 1, max: 10, of: &Struct(&[req("name", &TEXT), opt("match", &Struct(&[opt("exact", &TEXT)]))]) };

static NAMED_MATCH: Shape =
    Struct(&[req("name", &Text { min: 1, max: 50 }), opt("invert", &Bool), opt("match", &MATCH_METHOD)]);
static MATCH_METHOD: Shape = Union(&[
    opt("exact", &NAME),
    opt("prefix", &NAME),
    opt("suffix", &NAME),
    opt("regex", &NAME),
    opt("range", &Struct(&[req("start", &LONG), req("end", &LONG)])),
]);
static LONG: Shape = Int { min: i64::MIN, max: i64::MAX };

static HTTP_EVENTS: Shape = List {
    min: 1,
    max: 25,
    // A free string in the model; these four are what its text allows.
    of: &Choice(&["server-error", "gateway-error", "client-error", "stream-error"]),
};
static TCP_EVENTS: Shape = List { min: 1, max: 1, of: &Choice(&["connection-error"]) };
static GRPC_EVENTS: Shape = List {
    min: 1,
    max: 5,
    of: &Choice(&["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"]),
};
static RETRIES: Shape = Int { min: 0, max: i64::MAX };
static HTTP_RETRY: Shape = Struct(&[
    req("maxRetries", &RETRIES),
    req("perRetryTimeout", &DURATION),
    opt("httpRetryEvents", &HTTP_EVENTS),
    opt("tcpRetryEvents", &TCP_EVENTS),
]);

static GRPC_ROUTE: Shape = Struct(&[
    req("match", &GRPC_MATCH),
    req("action", &ACTION),
    opt(
        "retryPolicy",
        &Struct(&[
            req("maxRetries", &RETRIES),
            req("perRetryTimeout", &DURATION),
            opt("grpcRetryEvents", &GRPC_EVENTS),
            opt("httpRetryEvents", &HTTP_EVENTS),
            opt("tcpRetryEvents", &TCP_EVENTS),
        ]),
    ),
    opt("timeout", &HTTP_TIMEOUT),
]);
static GRPC_MATCH: Shape = Struct(&[
    opt("serviceName", &TEXT),
    opt("methodName", &Text { min: 1, max: 50 }),
    opt("metadata", &List { min: 1, max: 10, of: &NAMED_MATCH }),
    opt("port", &PORT),
]);

static TCP_ROUTE: Shape =
    Struct(&[opt("match", &Struct(&[opt("port", &PORT)])), req("action", &ACTION), opt("timeout", &TCP_TIMEOUT)]);

// --- virtual gateway and gateway route ---

static GATEWAY: Shape = Struct(&[
    req("listeners", &List { min: 0, max: ANY, of: &GATEWAY_LISTENER }),
    opt("backendDefaults", &Struct(&[opt("clientPolicy", &CLIENT_POLICY)])),
    opt("logging", &Struct(&[opt("accessLog", &ACCESS_LOG)])),
]);
static GATEWAY_PROTOCOL: Shape = Choice(&["http", "http2", "grpc"]);
static GATEWAY_LISTENER: Shape = Struct(&[
    req("portMapping", &Struct(&[req("port", &PORT), req("protocol", &GATEWAY_PROTOCOL)])),
    opt(
        "healthCheck",
        &Struct(&[
            req("healthyThreshold", &Int { min: 2, max: 10 }),
            req("unhealthyThreshold", &Int { min: 2, max: 10 }),
            req("intervalMillis", &Int { min: 5000, max: 300_000 }),
            req("timeoutMillis", &Int { min: 2000, max: 60_000 }),
            req("protocol", &GATEWAY_PROTOCOL),
            opt("port", &PORT),
            opt("path", &TEXT),
        ]),
    ),
    opt(
        "connectionPool",
        &Union(&[
            opt("http", &Struct(&[req("maxConnections", &AT_LEAST_1), opt("maxPendingRequests", &AT_LEAST_1)])),
            opt("http2", &Struct(&[req("maxRequests", &AT_LEAST_1)])),
            opt("grpc", &Struct(&[req("maxRequests", &AT_LEAST_1)])),
        ]),
    ),
    opt("tls", &LISTENER_TLS),
]);

// Not marked as a union in the model, although exclusive: `rules` counts the three routes.
static GATEWAY_ROUTE: Shape = Struct(&[
    opt("priority", &Int { min: 0, max: 1000 }),
    opt("httpRoute", &HTTP_GATEWAY_ROUTE),
    opt("http2Route", &HTTP_GATEWAY_ROUTE),
    opt(
        "grpcRoute",
        &Struct(&[
            req(
                "match",
                &Struct(&[
                    opt("serviceName", &TEXT),
                    opt("hostname", &HOSTNAME_MATCH),
                    opt("metadata", &List { min: 1, max: 10, of: &NAMED_MATCH }),
                    opt("port", &PORT),
                ]),
            ),
            req(
                "action",
                &Struct(&[
                    req("target", &GATEWAY_TARGET),
                    opt("rewrite", &Struct(&[opt("hostname", &HOSTNAME_REWRITE)])),
                ]),
            ),
        ]),
    ),
]);
static HTTP_GATEWAY_ROUTE: Shape = Struct(&[
    req(
        "match",
        &Struct(&[
            opt("prefix", &TEXT),
            opt("path", &HTTP_PATH),
            opt("hostname", &HOSTNAME_MATCH),
            opt("method", &METHOD),
            opt("headers", &List { min: 1, max: 10, of: &NAMED_MATCH }),
            opt("queryParameters", &QUERY),
            opt("port", &PORT),
        ]),
    ),
    req(
        "action",
        &Struct(&[
            req("target", &GATEWAY_TARGET),
            opt(
                "rewrite",
                &Struct(&[
                    opt("hostname", &HOSTNAME_REWRITE),
                    opt("prefix", &Struct(&[opt("defaultPrefix", &SWITCH), opt("value", &NAME)])),
                    opt("path", &Struct(&[opt("exact", &NAME)])),
                ]),
            ),
        ]),
    ),
]);
static HOST: Shape = Text { min: 1, max: 253 };
static HOSTNAME_MATCH: Shape = Struct(&[opt("exact", &HOST), opt("suffix", &HOST)]);
static SWITCH: Shape = Choice(&["ENABLED", "DISABLED"]);
static HOSTNAME_REWRITE: Shape = Struct(&[opt("defaultTargetHostname", &SWITCH)]);
static GATEWAY_TARGET: Shape =
    Struct(&[req("virtualService", &Struct(&[req("virtualServiceName", &NAME)])), opt("port", &PORT)]);
