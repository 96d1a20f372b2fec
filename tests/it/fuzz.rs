//! What the fuzzer looks at (`make fuzz`), for as long as a test may take: recorded and example inputs, whole and spoilt.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tidegate::testing::fuzz;

/// Files below a folder, by their ends.
fn files(folder: &str, ends: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(folder).to_owned()];
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
                found.push(fs::read(path).unwrap());
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has none");
    found
}

static OPERATIONS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let requests = files("tests/golden/mesh", &[".json"]).into_iter().map(|text| {
        let exchange: Value = serde_json::from_slice(&text).unwrap();
        let request = &exchange["request"];
        let body = if request["body"].is_null() { String::new() } else { request["body"].to_string() };
        format!("{} {}\n{body}", request["method"].as_str().unwrap(), request["path"].as_str().unwrap())
    });
    let mut all: Vec<String> = requests.collect();
    // Those that are in something come after it, so that most of them are taken.
    all.sort_by_key(|request| request.lines().next().map(|line| line.matches('/').count()));
    let together = all.join("\n--\n");
    all.into_iter().chain([together]).map(String::into_bytes).collect()
});

static DOCUMENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folders = ["tests/conformance", "examples", "src/testing/fuzz"];
    folders.iter().flat_map(|folder| files(folder, &[".yaml", ".yml"])).collect()
});

static DISCOVERY: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let kinds = [
        ("envoy.config.cluster.v3.Cluster", vec![]),
        ("envoy.config.endpoint.v3.ClusterLoadAssignment", vec!["cds_egress_m_v1_http_80".to_owned()]),
        ("envoy.config.listener.v3.Listener", vec![]),
        ("envoy.config.route.v3.RouteConfiguration", vec!["rds_egress".to_owned()]),
    ];
    let (mut whole, mut delta) = (vec![0], vec![1]);
    for (at, (kind, names)) in kinds.into_iter().enumerate() {
        let type_url = format!("type.googleapis.com/{kind}");
        for nonce in [String::new(), (at + 1).to_string()] {
            let (response_nonce, type_url) = (nonce, type_url.clone());
            let error_detail = (at == 2).then(Default::default);
            let message = DiscoveryRequest {
                resource_names: names.clone(),
                type_url: type_url.clone(),
                response_nonce: response_nonce.clone(),
                error_detail: error_detail.clone(),
                ..Default::default()
            };
            framed(&mut whole, &message.encode_to_vec());
            let message = DeltaDiscoveryRequest {
                resource_names_subscribe: names.clone(),
                type_url,
                response_nonce,
                error_detail,
                ..Default::default()
            };
            framed(&mut delta, &message.encode_to_vec());
        }
    }
    vec![whole, delta]
});

static REQUESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let all: [&[u8]; 8] = [
        b"/a/%2e%2e/b//c/./%2F\\d;x/..;y/%00\nShop.local:80",
        b"/public/../admin?x\n[::1]:8080\nhost: a\nconnection: close, x-own\nx-own: 1\ncookie: a\ncookie: b",
        b"*\nshop.local:x\ntransfer-encoding: chunked\ncontent-length: 5\nte: gzip, trailers",
        b"/%41%zz%4\n\nconnection: upgrade\nupgrade: websocket\nhttp2-settings: x\nkeep-alive: timeout=5",
        b"//..//%5c..%5C\nHOST\nconnection: host, content-length, transfer-encoding\nhost: a\ncontent-length: 3",
        b"/\xff\xfe\nb\xfcro:99999\nproxy-connection: close\nproxy-authorization: x\nTrailer: x-late",
        b"/a b\"<>^`{|}\n:80\nconnection: ,,;,\nupgrade: h2c, websocket",
        b"/.../..a/.\n[a:80\nte: trailers\nconnection: te",
    ];
    all.map(<[u8]>::to_vec).to_vec()
});

static ANSWERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let all: [&[u8]; 11] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: a\r\nx: b\r\n\r\nhello and more",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;ext=\"1\"\r\nhello\r\n0\r\nx-late: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\ncontent-length: 3\r\n\r\nA\r\n0123456789\r\n000\r\n\r\n",
        b"HTTP/1.0 200 Fine\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
        b"HTTP/1.1 200 OK\n\nuntil the end",
        b"HTTP/1.1 200 OK\r\nfolded: a\r\n b\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        b"HTTP/1.1 200 \xff\r\nx: \xff\r\ncontent-length: 18446744073709551615\r\n\r\n",
    ];
    // In pieces of every size up to 12 bytes, to GET and to HEAD.
    let ways = (0..24_u8).flat_map(|how| all.map(|answer| [&[how], answer].concat()));
    ways.collect()
});

static TAGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let all: [&[u8]; 3] = [
        b"v1,v2\ntidegate:fault abort=503 delay=20ms abort-percent=12.5 target=v2 header=x-try:1\n\
          tidegate:override header=x-version cookie=version\ntidegate:mirror target=v1 percent=0.0001",
        b"v1\ntidegate:affinity cookie=s ttl=1h path=/\ntidegate:affinity header=x-user\n\
          tidegate:limit requests=10 per=1s burst=20\ntidegate: \nteam tidegate:",
        b"\ntidegate:balance by=least-request slow-start=30s\ntidegate:balance by=round-robin\n\
          tidegate:retry-budget percent=20 least=3\ntidegate:retry-budget percent=100.0000 least=0",
    ];
    all.map(<[u8]>::to_vec).to_vec()
});

fn framed(out: &mut Vec<u8>, message: &[u8]) {
    out.extend(u16::try_from(message.len()).unwrap().to_le_bytes());
    out.extend(message);
}

/// What may be done to an input.
#[derive(Debug, Clone)]
enum Harm {
    /// A byte becomes another one.
    Byte(Index, u8),
    /// Some bytes go.
    Cut(Index, usize),
    /// A piece comes a second time, elsewhere.
    Copy(Index, usize, Index),
    /// Something that means something comes in.
    Word(Index, &'static str),
}

fn harms() -> impl Strategy<Value = Vec<Harm>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\n",
        "\n--\n",
        "---\n",
        "null",
        "true",
        "-1",
        "1e999",
        "18446744073709551616",
        "\u{0}",
        "\u{feff}",
        "%2F",
        "..",
        "*",
        "!Ref ",
        "!Sub ",
        "${",
        "{\"Ref\": \"Mesh\"}",
        "Fn::GetAtt",
        "arn:aws:appmesh:",
        "\"meshName\": \"m\"",
        "&a ",
        "*a",
        "<<: ",
        "\r\n",
        "\r\n\r\n",
        "0\r\n\r\n",
        "content-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "connection: ",
        "tidegate:",
        "percent=",
        "1h",
        "/../",
        "%2e%2e",
        "\\",
    ]);
    let harm = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, count)| Harm::Cut(at, count)),
        (any::<Index>(), 1..80_usize, any::<Index>()).prop_map(|(from, count, to)| Harm::Copy(from, count, to)),
        (any::<Index>(), words).prop_map(|(at, word)| Harm::Word(at, word)),
    ];
    prop::collection::vec(harm, 0..6)
}

fn spoilt(seeds: &[Vec<u8>], seed: Index, harms: &[Harm]) -> Vec<u8> {
    let mut bytes = seed.get(seeds).clone();
    for harm in harms {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match harm {
            Harm::Byte(at, byte) => {
                let at = place(at, &bytes);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Harm::Cut(at, count) => {
                let at = place(at, &bytes);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Harm::Copy(from, count, to) => {
                let from = place(from, &bytes);
                let piece = bytes[from..(from + count).min(bytes.len())].to_vec();
                let to = place(to, &bytes);
                bytes.splice(to..to, piece);
            }
            Harm::Word(at, word) => {
                let at = place(at, &bytes);
                bytes.splice(at..at, word.bytes());
            }
        }
    }
    bytes
}

#[test]
fn what_the_fuzzer_begins_with_holds() {
    OPERATIONS.iter().for_each(|input| fuzz::operations(input));
    DOCUMENTS.iter().for_each(|input| fuzz::documents(input));
    DISCOVERY.iter().for_each(|input| fuzz::discovery(input));
    REQUESTS.iter().for_each(|input| fuzz::requests(input));
    ANSWERS.iter().for_each(|input| fuzz::answers(input));
    TAGS.iter().for_each(|input| fuzz::tags(input));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_operations_hold(seed: Index, harms in harms()) {
        fuzz::operations(&spoilt(&OPERATIONS, seed, &harms));
    }

    #[test]
    fn spoilt_documents_hold(seed: Index, harms in harms()) {
        fuzz::documents(&spoilt(&DOCUMENTS, seed, &harms));
    }

    #[test]
    fn spoilt_messages_hold(seed: Index, harms in harms()) {
        fuzz::discovery(&spoilt(&DISCOVERY, seed, &harms));
    }

    #[test]
    fn spoilt_requests_hold(seed: Index, harms in harms()) {
        fuzz::requests(&spoilt(&REQUESTS, seed, &harms));
    }

    #[test]
    fn spoilt_answers_hold(seed: Index, harms in harms()) {
        fuzz::answers(&spoilt(&ANSWERS, seed, &harms));
    }

    #[test]
    fn spoilt_tags_hold(seed: Index, harms in harms()) {
        fuzz::tags(&spoilt(&TAGS, seed, &harms));
    }
}
