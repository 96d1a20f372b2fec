//! Heads and bodies as tables, and the same bytes cut in every way.

use super::*;
use http::Request;
use proptest::collection::vec;
use proptest::prelude::*;

const KEEP: bool = true;
const CLOSE: bool = false;

fn parse(text: &str, to_head: bool) -> Result<Option<(Head, HeaderMap, BytesMut)>, Malformed> {
    let (mut input, mut headers) = (BytesMut::from(text.as_bytes()), HeaderMap::new());
    Ok(parse_head(&mut input, to_head, &mut headers)?.map(|head| (head, headers, input)))
}

/// What an answer with these fields comes to: its body and its connection.
fn framed(first: &str, fields: &str, to_head: bool) -> Result<(String, bool), Malformed> {
    let (head, _, rest) = parse(&format!("{first}\r\n{fields}\r\nrest"), to_head)?.expect("a whole head");
    assert_eq!(&rest[..], b"rest");
    let body = match head.body.0 {
        Framed::Exact(length) => length.to_string(),
        Framed::Chunked(_) => "chunked".into(),
        Framed::UntilClose => "until close".into(),
    };
    Ok((body, head.keep_alive))
}

#[test]
fn a_bodys_length_is_what_rfc_9112_says() {
    let (ok, old) = ("HTTP/1.1 200 OK", "HTTP/1.0 200 OK");
    for (first, fields, body, keep_alive) in [
        (ok, "content-length: 5\r\n", "5", KEEP),
        (ok, "content-length: 0\r\n", "0", KEEP),
        (ok, "", "until close", CLOSE),
        (ok, "connection: keep-alive\r\n", "until close", CLOSE),
        (ok, "Content-Length: 5\r\nCONNECTION: Close\r\n", "5", CLOSE),
        (ok, "content-length: 5\r\nconnection: x, close\r\nconnection: keep-alive\r\n", "5", CLOSE),
        (ok, "transfer-encoding: chunked\r\n", "chunked", KEEP),
        (ok, "Transfer-Encoding: gzip, Chunked\r\n", "chunked", KEEP),
        (ok, "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", "chunked", KEEP),
        (ok, "transfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n", "until close", CLOSE),
        (ok, "transfer-encoding: chunked, gzip\r\n", "until close", CLOSE),
        (ok, "transfer-encoding: identity\r\ncontent-length: 5\r\n", "until close", CLOSE),
        (ok, "transfer-encoding: xchunked\r\n", "until close", CLOSE),
        (ok, "transfer-encoding: \x0bchunked\r\n", "malformed", CLOSE),
        (ok, "transfer-encoding: chunked\r\ncontent-length: 5\r\n", "chunked", CLOSE),
        (ok, "content-length: x\r\ntransfer-encoding: chunked\r\n", "chunked", CLOSE),
        (ok, "content-length: 5\r\ncontent-length: 5\r\n", "5", KEEP),
        (ok, "content-length: 5, 5\r\n", "5", KEEP),
        (ok, "content-length: 5\r\ncontent-length: 6\r\n", "malformed", CLOSE),
        (ok, "content-length: 5, 6\r\n", "malformed", CLOSE),
        (ok, "content-length: 5\r\ncontent-length: 5\r\ncontent-length: 4\r\n", "malformed", CLOSE),
        (ok, "content-length: +5\r\n", "malformed", CLOSE),
        (ok, "content-length: -5\r\n", "malformed", CLOSE),
        (ok, "content-length: 0x5\r\n", "malformed", CLOSE),
        (ok, "content-length: 5 5\r\n", "malformed", CLOSE),
        (ok, "content-length: \r\n", "malformed", CLOSE),
        (ok, "content-length: 5,\r\n", "malformed", CLOSE),
        (ok, "content-length: 18446744073709551615\r\n", "18446744073709551615", KEEP),
        (ok, "content-length: 18446744073709551616\r\n", "malformed", CLOSE),
        (ok, "content-length : 5\r\n", "malformed", CLOSE),
        (ok, "x: 1\r\n folded\r\n", "malformed", CLOSE),
        (ok, " x: 1\r\n", "malformed", CLOSE),
        (ok, "x y: 1\r\n", "malformed", CLOSE),
        (ok, "x: a\rb\r\n", "malformed", CLOSE),
        (ok, "x: a\0b\r\n", "malformed", CLOSE),
        ("HTTP/1.1 204 No Content", "content-length: 5\r\n", "0", KEEP),
        ("HTTP/1.1 304 Not Modified", "content-length: 5\r\n", "0", KEEP),
        ("HTTP/1.1 304 Not Modified", "transfer-encoding: chunked\r\n", "0", KEEP),
        ("HTTP/1.1 100 Continue", "content-length: 5\r\n", "0", KEEP),
        ("HTTP/1.1 199 Odd", "content-length: 5, 6\r\n", "0", KEEP),
        (old, "content-length: 5\r\n", "5", CLOSE),
        (old, "content-length: 5\r\nconnection: keep-alive\r\n", "5", KEEP),
        (old, "content-length: 5\r\nconnection: keep-alive, close\r\n", "5", CLOSE),
        (old, "", "until close", CLOSE),
        (old, "transfer-encoding: chunked\r\n", "malformed", CLOSE),
        ("HTTP/1.1 200", "content-length: 5\r\n", "5", KEEP),
        ("\r\nHTTP/1.1 200 OK", "content-length: 5\r\n", "5", KEEP),
        ("HTTP/1.1 099 Early", "", "malformed", CLOSE),
        ("HTTP/1.1 20 OK", "", "malformed", CLOSE),
        ("HTTP/1.1 2000 OK", "", "malformed", CLOSE),
        ("HTTP/2.0 200 OK", "", "malformed", CLOSE),
        ("http/1.1 200 OK", "", "malformed", CLOSE),
        ("SSH-2.0-OpenSSH_9.9", "", "malformed", CLOSE),
        ("GET / HTTP/1.1", "", "malformed", CLOSE),
    ] {
        let got = framed(first, fields, false);
        let got = got.unwrap_or_else(|_| ("malformed".into(), CLOSE));
        assert_eq!((got.0.as_str(), got.1), (body, keep_alive), "{first} {fields:?}");
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_it_says() {
    let ok = "HTTP/1.1 200 OK";
    for (fields, keep_alive) in [
        ("content-length: 5\r\n", KEEP),
        ("transfer-encoding: chunked\r\n", KEEP),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", CLOSE),
        ("connection: close\r\n", CLOSE),
        ("", KEEP),
    ] {
        assert_eq!(framed(ok, fields, true), Ok(("0".into(), keep_alive)), "{fields:?}");
    }
    assert_eq!(framed(ok, "content-length: 5, 6\r\n", true), Err(Malformed::Length));
}

#[test]
fn fields_and_reasons_are_kept() {
    let text = "HTTP/1.1 404 Gone fishing\r\nSet-Cookie: a\r\nX-Empty:\r\nset-cookie: b\r\nx-own: \t1 2 \r\n\r\n";
    let (head, headers, _) = parse(text, false).unwrap().unwrap();
    assert_eq!((head.status.as_u16(), head.reason.as_deref()), (404, Some(&b"Gone fishing"[..])));
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a", "b"]);
    assert_eq!((headers["x-empty"].as_bytes(), headers["x-own"].as_bytes()), (&b""[..], &b"1 2"[..]));
    assert_eq!(parse("HTTP/1.1 404 Not Found\r\n\r\n", false).unwrap().unwrap().0.reason, None);
    assert_eq!(parse("HTTP/1.1 404\r\n\r\n", false).unwrap().unwrap().0.reason.as_deref(), Some(&b""[..]));
}

#[test]
fn heads_have_limits() {
    let lines = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(parse(&lines(MAX_FIELDS), false).unwrap().unwrap().1.len(), MAX_FIELDS);
    assert_eq!(parse(&lines(MAX_FIELDS + 1), false).unwrap_err(), httparse::Error::TooManyHeaders.into());
    let long = |length: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(length - 24));
    assert_eq!(long(MAX_HEAD).len(), MAX_HEAD);
    assert!(parse(&long(MAX_HEAD), false).unwrap().is_some());
    assert_eq!(parse(&long(MAX_HEAD + 1), false).unwrap_err(), Malformed::HeadTooLong);
    assert!(parse(&long(MAX_HEAD + 1)[..MAX_HEAD - 1], false).unwrap().is_none());
    assert_eq!(parse(&long(MAX_HEAD + 1)[..MAX_HEAD], false).unwrap_err(), Malformed::HeadTooLong);
}

/// A head may come in any two pieces, and is tried again whenever it can have ended.
#[test]
fn a_head_is_complete_with_its_last_byte() {
    for text in ["HTTP/1.1 200 OK\r\nx: y\r\n\r\n", "HTTP/1.1 200 OK\nx: y\n\n", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"] {
        for cut in 1..text.len() {
            assert!(parse(&text[..cut], false).unwrap().is_none(), "{text:?} at {cut}");
            assert!(may_end(text.as_bytes(), cut), "{text:?} at {cut}");
        }
    }
    assert!(!may_end(b"HTTP/1.1 200 OK\r\nx: y\r\nz: ", 10));
    assert!(!may_end(b"", 10));
}

#[test]
fn requests_are_written_as_they_are() {
    for (uri, written) in [
        ("/", "/"),
        ("/a/b?c=d", "/a/b?c=d"),
        ("/?", "/?"),
        ("*", "*"),
        ("http://host", "/"),
        ("http://host?x", "/?x"),
        ("http://host/%20", "/%20"),
    ] {
        let request = Request::get(uri).header("Host", "a").header("x", "1").header("y", "2").header("x", "3");
        let request = request.body(()).unwrap();
        let mut out = Vec::new();
        write_request(&mut out, request.method(), request.uri(), request.headers());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("GET {written} HTTP/1.1\r\nhost: a\r\nx: 1\r\nx: 3\r\ny: 2\r\n\r\n"));
    }
}

/// What a body comes to: its data, its trailers, and what is left over.
type Decoded = Result<(Vec<u8>, Option<HeaderMap>, Vec<u8>), Malformed>;

/// Reads a body in chunks that comes in these pieces; fails as incomplete when it has no end.
fn decode(pieces: &[&[u8]]) -> Decoded {
    let mut body = Body(Framed::Chunked(Chunks::default()));
    let (mut input, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match body.next(&mut input)? {
                None | Some(Piece::End) => break,
                Some(Piece::Data(more)) => data.extend_from_slice(&more),
                Some(Piece::Trailers(fields)) => trailers = Some(fields),
            }
        }
    }
    assert_eq!(body.is_over(), body.close());
    if body.is_over() { Ok((data, trailers, input.to_vec())) } else { Err(Malformed::Chunk) }
}

#[test]
fn chunks_are_read_strictly() {
    for (text, data) in [
        ("0\r\n\r\n", Some("")),
        ("3\r\nabc\r\n0\r\n\r\n", Some("abc")),
        ("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", Some("abc0123456789")),
        ("00003\r\nabc\r\n000\r\n\r\n", Some("abc")),
        ("3 \t\r\nabc\r\n0\r\n\r\n", Some("abc")),
        ("3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", Some("abc")),
        ("3 ;a\r\nabc\r\n0\r\n\r\n", Some("abc")),
        ("0\r\nx: y\r\n\r\n", Some("")),
        ("3\r\nabc\r\n0\r\n", None),
        ("3\r\nabc", None),
        ("3\nabc\r\n0\r\n\r\n", None),
        ("3\r\nabc\n0\r\n\r\n", None),
        ("3\r\nabcd\r\n0\r\n\r\n", None),
        ("3\r\nab\r\n0\r\n\r\n", None),
        ("3;a\nabc\r\n0\r\n\r\n", None),
        ("3;a\rb\r\nabc\r\n0\r\n\r\n", None),
        ("3 3\r\nabc\r\n0\r\n\r\n", None),
        (" 3\r\nabc\r\n0\r\n\r\n", None),
        ("\r\n0\r\n\r\n", None),
        (";a\r\n\r\n", None),
        ("+3\r\nabc\r\n0\r\n\r\n", None),
        ("0x3\r\nabc\r\n0\r\n\r\n", None),
        ("g\r\n\r\n", None),
        ("10000000000000000\r\nabc", None),
        ("00000000000000000\r\n\r\n", None),
        ("0\r\nx: y\n\n", None),
        ("0\r\n\n", None),
        ("0\r\n\rx", None),
        ("0\r\nx y: z\r\n\r\n", None),
        ("0\r\n x: z\r\n\r\n", None),
    ] {
        let decoded = decode(&[text.as_bytes()]).ok().map(|(data, _, _)| String::from_utf8(data).unwrap());
        assert_eq!(decoded.as_deref(), data, "{text:?}");
    }
    let (_, trailers, rest) = decode(&[b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\nHTTP/1.1"]).unwrap();
    assert_eq!(trailers.unwrap().get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(rest, b"HTTP/1.1");
}

#[test]
fn what_stands_beside_chunks_has_limits() {
    let all = |text: String| decode(&[text.as_bytes()]).map(|_| ());
    assert_eq!(all(format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(16 * 1024))), Ok(()));
    assert_eq!(all(format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(16 * 1024 + 1))), Err(Malformed::BesideChunks));
    assert_eq!(all(format!("{}0\r\n\r\n", "1;xxxxxxxx\r\na\r\n".repeat(3000))), Err(Malformed::BesideChunks));
    assert_eq!(all(format!("0{}\r\n\r\n", " ".repeat(17_000))), Err(Malformed::BesideChunks));
    assert_eq!(all(format!("0\r\nx: {}\r\n\r\n", "y".repeat(16 * 1024))), Err(Malformed::BesideChunks));
    assert_eq!(all(format!("0\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS))), Ok(()));
    assert!(all(format!("0\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS + 1))).is_err());
}

#[test]
fn bodies_end_where_they_should() {
    let mut input = BytesMut::from(&b"abcdef"[..]);
    let mut body = Body(Framed::Exact(4));
    assert!(matches!(body.next(&mut input), Ok(Some(Piece::Data(data))) if data == "abcd"));
    assert!(body.is_over() && matches!(body.next(&mut input), Ok(Some(Piece::End))));
    let mut body = Body(Framed::UntilClose);
    assert!(matches!(body.next(&mut input), Ok(Some(Piece::Data(data))) if data == "ef"));
    assert_eq!((body.is_over(), body.left()), (false, None));
    assert!(matches!(body.next(&mut input), Ok(None)));
    assert!(body.close() && body.is_over());
    assert!(!Body(Framed::Exact(1)).close());
}

#[test]
fn only_announced_and_harmless_trailers_are_written() {
    let mut headers = HeaderMap::new();
    headers.append("trailer", HeaderValue::from_static("X-Sum, content-length"));
    headers.append("trailer", HeaderValue::from_static("host,;"));
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-other", "content-length", "host"] {
        trailers.append(name, HeaderValue::from_static("1"));
    }
    let mut out = Vec::new();
    write_last_chunk(&mut out, &trailers, &announced(&headers));
    assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
    assert!(announced(&HeaderMap::new()).is_empty());
}

/// Cuts bytes into pieces of these lengths, over and over.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_is_read_back_however_it_is_cut(
        chunks in vec(vec(any::<u8>(), 1..50), 0..8),
        sum in proptest::option::of("[a-z]{1,9}"),
        lengths in vec(1_usize..20, 1..6),
        rest in vec(any::<u8>(), 0..9),
    ) {
        let (mut out, mut trailers) = (Vec::new(), HeaderMap::new());
        for chunk in &chunks {
            write_chunk_size(&mut out, chunk.len());
            out.extend_from_slice(chunk);
            out.extend_from_slice(CHUNK_END);
        }
        if let Some(sum) = &sum {
            trailers.insert("x-sum", HeaderValue::from_str(sum).unwrap());
        }
        write_last_chunk(&mut out, &trailers, &[HeaderName::from_static("x-sum")]);
        out.extend_from_slice(&rest);
        let (data, read, left) = decode(&cut(&out, &lengths)).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(read.unwrap_or_default(), trailers);
        prop_assert_eq!(left, rest);
    }

    /// Most of these are malformed somewhere; then they have to be so however they are cut.
    #[test]
    fn chunks_mean_the_same_however_they_are_cut(
        text in "([0-9a-f]{0,2}[ ;x]{0,2}\r?\n[a-f\r\n]{0,12}\r\n){0,4}(0\r\n(x: y\r\n)?\r\n)?[a-z]{0,3}",
        lengths in vec(1_usize..9, 1..6),
    ) {
        prop_assert_eq!(decode(&cut(text.as_bytes(), &lengths)), decode(&[text.as_bytes()]));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300), lengths in vec(1_usize..40, 1..6), to_head: bool) {
        let _ = decode(&cut(&bytes, &lengths));
        let mut head = BytesMut::from(&bytes[..]);
        let _ = parse_head(&mut head, to_head, &mut HeaderMap::new());
        let _ = may_end(&bytes, lengths[0]);
    }

    /// Bytes that look more like a head, with anything in between.
    #[test]
    fn nothing_like_a_head_makes_it_panic(parts in vec(proptest::sample::select(PARTS), 0..30), to_head: bool) {
        let mut input = BytesMut::from(&parts.concat()[..]);
        let _ = parse_head(&mut input, to_head, &mut HeaderMap::new());
    }
}

/// What heads are made of.
const PARTS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 ",
    b"\r\n",
    b"\n",
    b": ",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"chunked",
    b"close",
    b",",
    b"9999999999",
    b"\0",
    b"\xff",
    b" ",
    b"x",
];
