//! What clients send.

use super::By::Ours;
use super::Sent::{Bytes, Made};
use super::Then::{Closed, Open};
use super::{BASE, Case, GET, MALFORMED, PASSES, POST, REFUSED, Request, Seen};

const CODINGS: super::By = Ours("framing::check_request, codings");
const EXPECT: super::By = Ours("framing::check_request, expectations");
const FRAME: super::By = Ours("framing::frame_request");
const AUTHORITY: super::By = Ours("target::authority");
const HOST: super::By = Ours("target::host");
const FORM: super::By = Ours("target::Target::of, forms of the target");
const DOTS: super::By = Ours("target::Target::of, resolve_dots");
const LENIENT: super::By = Ours("handler::lookup, lenient");
const HOP: super::By = Ours("forwarded::strip_hop_by_hop");
const HOP_TRAILER: super::By = Ours("forwarded::HOP_BY_HOP leaves Trailer");
const VOUCHED: super::By = Ours("forwarded::Vouched::apply");
const HOPS: super::By = Ours("hops::check");
const UNDERSCORES: super::By = Ours("fields::underscores");
const COOKIES: super::By = Ours("fields::join_cookies");
const TRAILERS: super::By = Ours("trailers::Passing");

const ABC: Request = Request { body: "abc", ..POST };
const POSTED: Case = Case { seen: Seen::Requests(&[ABC]), ..PASSES };
const TO_CODING: Case = Case {
    by: CODINGS,
    answers: &[501],
    reason: "TransferCodingNotSupported",
    then: Closed,
    clause: "RFC 9112 §6.1",
    ..BASE
};

pub const CASES: &[Case] = &[
    // Where a request ends.
    Case {
        name: "Content-Length before Transfer-Encoding: chunks alone count, and the connection ends",
        clause: "RFC 9112 §6.3",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: raw.test\r\n\r\n",
        ),
        then: Closed,
        seen: Seen::Requests(&[Request { has: &["transfer-encoding: chunked"], lacks: &["content-length"], ..ABC }]),
        ..POSTED
    },
    Case {
        name: "Transfer-Encoding before Content-Length: chunks alone count, and the connection ends",
        clause: "RFC 9112 §6.3",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: raw.test\r\n\r\n",
        ),
        then: Closed,
        seen: Seen::Requests(&[Request { has: &["transfer-encoding: chunked"], lacks: &["content-length"], ..ABC }]),
        ..POSTED
    },
    Case {
        name: "two lengths that differ",
        clause: "RFC 9112 §6.3",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ..REFUSED
    },
    Case {
        name: "two lengths that are equal become one",
        clause: "RFC 9110 §8.6",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        ..POSTED
    },
    Case {
        name: "a list as length",
        clause: "RFC 9112 §6.3",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3, 3\r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "a length with a sign",
        clause: "RFC 9110 §8.6",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: +3\r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "a length with a space in it",
        clause: "RFC 9110 §8.6",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 1 3\r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "a length in hexadecimal",
        clause: "RFC 9110 §8.6",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 0x3\r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "a length that overflows",
        clause: "RFC 9112 §6.2",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 18446744073709551619\r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "an empty length",
        clause: "RFC 9110 §8.6",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: \r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "chunked twice in one line",
        clause: "RFC 9112 §6.1",
        by: CODINGS,
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ..MALFORMED
    },
    Case {
        name: "chunked twice in two lines",
        clause: "RFC 9112 §6.1",
        by: CODINGS,
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\n",
        ),
        ..MALFORMED
    },
    Case {
        name: "a coding below chunked",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ..TO_CODING
    },
    Case {
        name: "identity below chunked",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\n",
        ),
        ..TO_CODING
    },
    Case {
        name: "an unknown coding below chunked",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: xchunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ..TO_CODING
    },
    Case {
        name: "chunked that is not last",
        clause: "RFC 9112 §6.3",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        ..REFUSED
    },
    Case {
        name: "a coding that is not chunked",
        clause: "RFC 9112 §6.3",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: identity\r\n\r\nabc"),
        ..REFUSED
    },
    Case {
        name: "chunked with a vertical tab before it",
        clause: "RFC 9110 §5.5",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a space before the colon of Transfer-Encoding",
        clause: "RFC 9112 §5.1",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        ..REFUSED
    },
    Case {
        name: "Transfer-Encoding in HTTP/1.0",
        clause: "RFC 9112 §6.1",
        sent: Bytes(b"POST / HTTP/1.0\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "Transfer-Encoding in capitals",
        clause: "RFC 9112 §7",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ..POSTED
    },
    Case {
        name: "a chunk size that is no number",
        clause: "RFC 9112 §7.1",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n"),
        by: Ours("forward::forward, broken"),
        seen: Seen::NothingWhole,
        ..MALFORMED
    },
    Case {
        name: "a chunk size with a sign",
        clause: "RFC 9112 §7.1",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
        by: Ours("forward::forward, broken"),
        seen: Seen::NothingWhole,
        ..MALFORMED
    },
    Case {
        name: "a chunk size that overflows",
        clause: "RFC 9112 §7.1",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n\
              10000000000000003\r\nabc\r\n0\r\n\r\n",
        ),
        by: Ours("forward::forward, broken"),
        seen: Seen::NothingWhole,
        ..MALFORMED
    },
    Case {
        name: "a chunk longer than its size",
        clause: "RFC 9112 §7.1",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
        by: Ours("forward::forward, broken"),
        seen: Seen::NothingWhole,
        ..MALFORMED
    },
    Case {
        name: "a chunk extension ends here",
        clause: "RFC 9112 §7.1.1",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n\
              3;name=\"value\"\r\nabc\r\n0;last\r\n\r\n",
        ),
        ..POSTED
    },
    Case {
        name: "a body in chunks with GET arrives",
        clause: "RFC 9110 §9.3.1",
        by: FRAME,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        seen: Seen::Requests(&[Request { body: "abc", has: &["transfer-encoding: chunked"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "a body with a length and GET arrives",
        clause: "RFC 9110 §9.3.1",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3\r\n\r\nabc"),
        seen: Seen::Requests(&[Request { body: "abc", has: &["content-length: 3"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "the body of a request without a route is no request",
        clause: "RFC 9112 §9.3",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 41\r\n\r\n\
              GET /smuggled HTTP/1.1\r\nHost: raw.test\r\n\r\n",
        ),
        answers: &[404],
        reason: "NoRoute",
        ..BASE
    },
    Case {
        name: "requests one after the other are answered in order",
        clause: "RFC 9112 §9.3.2",
        sent: Bytes(
            b"POST /1 HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3\r\n\r\nabc\
              POST /2 HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n\
              GET /3 HTTP/1.1\r\nHost: raw.test\r\n\r\n",
        ),
        answers: &[200, 200, 200],
        seen: Seen::Requests(&[
            Request { line: "POST /1 HTTP/1.1", ..ABC },
            Request { line: "POST /2 HTTP/1.1", body: "def", ..POST },
            Request { line: "GET /3 HTTP/1.1", ..GET },
        ]),
        ..BASE
    },
    Case {
        name: "a body in HTTP/1.0 by its length",
        clause: "RFC 9112 §6.3",
        sent: Bytes(b"POST / HTTP/1.0\r\nHost: raw.test\r\nContent-Length: 3\r\n\r\nabc"),
        then: Closed,
        ..POSTED
    },
    // Trailers.
    Case {
        name: "a trailer that was announced passes",
        clause: "RFC 9110 §6.5",
        by: HOP_TRAILER,
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        seen: Seen::Requests(&[Request { has: &["trailer: X-Sum"], trailers: &["x-sum: 1"], ..ABC }]),
        ..POSTED
    },
    Case {
        name: "a trailer that was not announced does not",
        clause: "RFC 9110 §6.5.1",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        ..POSTED
    },
    Case {
        name: "a trailer that names the client does not pass",
        clause: "RFC 9110 §6.5.1",
        by: TRAILERS,
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTrailer: X-Forwarded-For, X_Real_Ip, Cookie\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_Ip: 6.6.6.6\r\n\
              Cookie: a=1\r\n\r\n",
        ),
        ..POSTED
    },
    Case {
        name: "a trailer that frames does not pass",
        clause: "RFC 9110 §6.5.1",
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nTrailer: Content-Length, Host\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 7\r\nHost: other.test\r\n\r\n",
        ),
        ..POSTED
    },
    // The head's grammar.
    Case {
        name: "a folded line",
        clause: "RFC 9112 §5.2",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX-Folded: a\r\n b\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "white space before the first header",
        clause: "RFC 9112 §2.2",
        sent: Bytes(b"GET / HTTP/1.1\r\n Host: raw.test\r\nHost: raw.test\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a CR in a value",
        clause: "RFC 9110 §5.5",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX: a\rb\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "CR alone as line end",
        clause: "RFC 9112 §2.2",
        sent: Bytes(b"GET / HTTP/1.1\rHost: raw.test\r\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "LF alone as line end",
        clause: "RFC 9112 §2.2",
        sent: Bytes(b"POST / HTTP/1.1\nHost: raw.test\nContent-Length: 3\n\nabc"),
        ..POSTED
    },
    Case {
        name: "NUL in a value",
        clause: "RFC 9110 §5.5",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX: a\0b\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a space in a name",
        clause: "RFC 9110 §5.1",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX Y: a\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "an empty name",
        clause: "RFC 9110 §5.1",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\n: a\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a name in UTF-8",
        clause: "RFC 9110 §5.1",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX-\xc3\xa4: a\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a line without a colon",
        clause: "RFC 9112 §5",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a value in UTF-8 passes as it is",
        clause: "RFC 9110 §5.5",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX: \xc3\xa4\r\n\r\n"),
        seen: Seen::Requests(&[Request { has: &["x: \u{c3}\u{a4}"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "more than 100 headers",
        clause: "RFC 6585 §5",
        sent: Made(|| {
            let lines: String = (0..300).map(|n| format!("X-{n}: 1\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: raw.test\r\n{lines}\r\n").into_bytes()
        }),
        answers: &[431],
        ..REFUSED
    },
    Case {
        name: "a head of more than header_size",
        clause: "RFC 6585 §5",
        by: Ours("limits::within: header_size"),
        sent: Made(|| format!("GET / HTTP/1.1\r\nHost: raw.test\r\nX: {}\r\n\r\n", "x".repeat(70_000)).into_bytes()),
        answers: &[431],
        reason: "HeadersTooLarge",
        ..REFUSED
    },
    Case {
        name: "a target of more than uri_size",
        clause: "RFC 9110 §15.5.15",
        by: Ours("limits::within: uri_size"),
        sent: Made(|| format!("GET /{} HTTP/1.1\r\nHost: raw.test\r\n\r\n", "x".repeat(17_000)).into_bytes()),
        answers: &[414],
        reason: "UriTooLong",
        ..REFUSED
    },
    Case {
        name: "a header of a megabyte",
        clause: "RFC 6585 §5",
        sent: Made(|| format!("GET / HTTP/1.1\r\nHost: raw.test\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes()),
        answers: &[431],
        ..REFUSED
    },
    Case {
        name: "a target of 70,000 bytes",
        clause: "RFC 9110 §15.5.15",
        sent: Made(|| format!("GET /{} HTTP/1.1\r\nHost: raw.test\r\n\r\n", "x".repeat(70_000)).into_bytes()),
        answers: &[414],
        ..REFUSED
    },
    // The request line.
    Case { name: "HTTP/0.9", clause: "RFC 9112 §3", sent: Bytes(b"GET /\r\n\r\n"), ..REFUSED },
    Case {
        name: "HTTP/1.2",
        clause: "RFC 9110 §2.5",
        sent: Bytes(b"GET / HTTP/1.2\r\nHost: raw.test\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "HTTP/2.0 in the form of h1",
        clause: "RFC 9110 §15.6.6",
        sent: Bytes(b"GET / HTTP/2.0\r\nHost: raw.test\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "two spaces in the request line",
        clause: "RFC 9112 §3",
        sent: Bytes(b"GET  / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a method with a separator in it",
        clause: "RFC 9110 §9.1",
        sent: Bytes(b"GE(T / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "a method in lower case is another method, and passes",
        clause: "RFC 9110 §9.1",
        sent: Bytes(b"get / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "get / HTTP/1.1", ..GET }]),
        ..PASSES
    },
    Case {
        name: "empty lines before the request line",
        clause: "RFC 9112 §2.2",
        sent: Bytes(b"\r\n\r\nGET / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..PASSES
    },
    Case {
        name: "a fragment in the target does not go on",
        clause: "RFC 9112 §3.2.1",
        sent: Bytes(b"GET /#/admin HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..PASSES
    },
    Case {
        name: "a target in UTF-8 passes as it is",
        clause: "RFC 3986 §2.1",
        sent: Bytes(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "GET /\u{c3}\u{a4} HTTP/1.1", ..GET }]),
        ..PASSES
    },
    Case {
        name: "a target that is not UTF-8",
        clause: "RFC 3986 §2.1",
        sent: Bytes(b"GET /\xff HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..REFUSED
    },
    Case {
        name: "CONNECT",
        clause: "RFC 9110 §9.3.6",
        by: Ours("target::Target::of, CONNECT"),
        sent: Bytes(b"CONNECT raw.test:443 HTTP/1.1\r\nHost: raw.test:443\r\n\r\n"),
        answers: &[501],
        reason: "ConnectNotSupported",
        ..BASE
    },
    Case {
        name: "an authority as target with GET",
        clause: "RFC 9112 §3.2.3",
        by: FORM,
        sent: Bytes(b"GET raw.test:80 HTTP/1.1\r\nHost: raw.test:80\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "an asterisk with GET",
        clause: "RFC 9112 §3.2.4",
        by: FORM,
        sent: Bytes(b"GET * HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "an asterisk with OPTIONS is for the proxy",
        clause: "RFC 9110 §9.3.7",
        by: Ours("handler::serve, OPTIONS *"),
        sent: Bytes(b"OPTIONS * HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        answers: &[200],
        reason: "FinalRecipient",
        has: &["content-length: 0"],
        ..BASE
    },
    Case {
        name: "an absolute target is forwarded as a path",
        clause: "RFC 9112 §3.2.2",
        by: Ours("handler::origin_form"),
        sent: Bytes(b"GET http://raw.test/x?y HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "GET /x?y HTTP/1.1", has: &["host: raw.test"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "an absolute target and another Host",
        clause: "RFC 9112 §3.2.2",
        by: AUTHORITY,
        sent: Bytes(b"GET http://raw.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "an absolute target of another scheme",
        clause: "RFC 9110 §7.4",
        by: FORM,
        sent: Bytes(b"GET ftp://raw.test/ HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "an absolute target with user information",
        clause: "RFC 9110 §4.2.4",
        by: AUTHORITY,
        sent: Bytes(b"GET http://user@raw.test/ HTTP/1.1\r\nHost: user@raw.test\r\n\r\n"),
        ..MALFORMED
    },
    // Host.
    Case {
        name: "no Host",
        clause: "RFC 9112 §3.2",
        by: AUTHORITY,
        sent: Bytes(b"GET / HTTP/1.1\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "no Host in HTTP/1.0",
        clause: "RFC 9112 §3.2",
        by: AUTHORITY,
        sent: Bytes(b"GET / HTTP/1.0\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "two Hosts",
        clause: "RFC 9112 §3.2",
        by: AUTHORITY,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nHost: other.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "two Hosts that are equal",
        clause: "RFC 9112 §3.2",
        by: AUTHORITY,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nHost: raw.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "an empty Host",
        clause: "RFC 9110 §7.2",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a list as Host",
        clause: "RFC 9110 §7.2",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test, other.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a Host with a path",
        clause: "RFC 9110 §7.2",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test/admin\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a Host with user information",
        clause: "RFC 9110 §7.2",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: other@raw.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a Host with a port out of range",
        clause: "RFC 3986 §3.2.3",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test:65536\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a Host with a word as port",
        clause: "RFC 3986 §3.2.3",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test:http\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a Host in UTF-8",
        clause: "RFC 9110 §7.2",
        by: AUTHORITY,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw\xc3\xa4.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "a Host in capitals with a dot and a port is the same host",
        clause: "RFC 9110 §4.2.3",
        by: HOST,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: RAW.Test.:80\r\n\r\n"),
        seen: Seen::Requests(&[Request { has: &["host: RAW.Test.:80"], ..GET }]),
        ..PASSES
    },
    // Paths.
    Case {
        name: "dot segments are resolved before they are forwarded",
        clause: "RFC 3986 §5.2.4",
        by: DOTS,
        sent: Bytes(b"GET /a/./b/../c?d=../e HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "GET /a/c?d=../e HTTP/1.1", ..GET }]),
        ..PASSES
    },
    Case {
        name: "encoded dot segments are resolved too",
        clause: "RFC 3986 §6.2.2.3",
        by: DOTS,
        sent: Bytes(b"GET /a/%2e%2E/b HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "GET /b HTTP/1.1", ..GET }]),
        ..PASSES
    },
    Case {
        name: "a path that climbs above the root",
        clause: "RFC 3986 §5.2.4",
        by: DOTS,
        sent: Bytes(b"GET /../admin HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "an encoded slash is no separator and passes as it is",
        clause: "RFC 3986 §2.2",
        sent: Bytes(b"GET /a%2Fb%2f HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "GET /a%2Fb%2f HTTP/1.1", ..GET }]),
        ..PASSES
    },
    Case {
        name: "slashes that a lenient reader merges into another route",
        clause: "RFC 3986 §6.2.2",
        by: LENIENT,
        sent: Bytes(b"GET //admin HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        reason: "AmbiguousPath",
        then: Open,
        ..REFUSED
    },
    Case {
        name: "a backslash that a lenient reader takes for a slash",
        clause: "RFC 3986 §3.3",
        by: LENIENT,
        sent: Bytes(b"GET /x\\..\\admin HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        reason: "AmbiguousPath",
        then: Open,
        ..REFUSED
    },
    Case {
        name: "an encoded slash that leads to another route once decoded",
        clause: "RFC 3986 §2.2",
        by: LENIENT,
        sent: Bytes(b"GET /x%2f..%2fadmin HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        reason: "AmbiguousPath",
        then: Open,
        ..REFUSED
    },
    Case {
        name: "parameters that a lenient reader drops",
        clause: "RFC 3986 §3.3",
        by: LENIENT,
        sent: Bytes(b"GET /admin;x HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        reason: "AmbiguousPath",
        then: Open,
        ..REFUSED
    },
    Case {
        name: "slashes that lead nowhere else pass as they are",
        clause: "RFC 3986 §6.2.2",
        sent: Bytes(b"GET //a//b HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "GET //a//b HTTP/1.1", ..GET }]),
        ..PASSES
    },
    // What ends at this hop.
    Case {
        name: "headers that Connection names end here, end-to-end ones too, but for Host and the length",
        clause: "RFC 9110 §7.6.1",
        by: HOP,
        sent: Bytes(
            b"POST / HTTP/1.1\r\nHost: raw.test\r\nConnection: host, authorization, content-length, via, x-one\r\n\
              Connection: X-Two\r\nContent-Length: 3\r\nAuthorization: Basic Og==\r\nX-One: 1\r\nX-Two: 2\r\n\
              Via: 1.0 other\r\n\r\nabc",
        ),
        seen: Seen::Requests(&[Request {
            has: &["host: raw.test", "content-length: 3", "via: 1.0 other", "via: 1.1 portolan"],
            lacks: &["authorization", "x-one", "x-two"],
            ..ABC
        }]),
        ..POSTED
    },
    Case {
        name: "hop-by-hop headers end here unnamed",
        clause: "RFC 9110 §7.6.1",
        by: HOP,
        sent: Bytes(
            b"GET / HTTP/1.1\r\nHost: raw.test\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
              TE: trailers\r\nProxy-Authorization: Basic Og==\r\n\r\n",
        ),
        seen: Seen::Requests(&[Request { lacks: &["proxy-authorization"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "an upgrade to h2c does not go on",
        clause: "RFC 9113 §3.1",
        by: HOP,
        sent: Bytes(
            b"GET / HTTP/1.1\r\nHost: raw.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
              HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        ),
        ..PASSES
    },
    Case {
        name: "Connection cannot take away what the proxy says",
        clause: "RFC 9110 §7.6.1",
        by: VOUCHED,
        sent: Bytes(
            b"GET / HTTP/1.1\r\nHost: raw.test\r\nConnection: X-Forwarded-For, X-Real-Ip\r\n\
              X-Forwarded-For: 6.6.6.6\r\n\r\n",
        ),
        seen: Seen::Requests(&[Request { has: &["x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "forged forwarding headers are replaced",
        clause: "RFC 7239 §8.1",
        by: VOUCHED,
        sent: Bytes(
            b"GET / HTTP/1.1\r\nHost: raw.test\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\
              Forwarded: for=6.6.6.6\r\nX-Forwarded-User: root\r\nClient-Cert: :AA==:\r\n\r\n",
        ),
        seen: Seen::Requests(&[Request {
            has: &["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"],
            lacks: &["x-forwarded-user", "client-cert"],
            ..GET
        }]),
        ..PASSES
    },
    Case {
        name: "Connection: close is honoured",
        clause: "RFC 9112 §9.6",
        sent: Bytes(
            b"GET / HTTP/1.1\r\nHost: raw.test\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: raw.test\r\n\r\n",
        ),
        then: Closed,
        ..PASSES
    },
    Case {
        name: "underscores in names are dropped",
        clause: "RFC 3875 §4.1.18",
        by: UNDERSCORES,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX_User: root\r\nX-User: me\r\n\r\n"),
        seen: Seen::Requests(&[Request { has: &["x-user: me"], lacks: &["x_user"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "an underscore in Content_Length frames nothing",
        clause: "RFC 9112 §6.3",
        by: UNDERSCORES,
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent_Length: 30\r\nContent-Length: 3\r\n\r\nabc"),
        seen: Seen::Requests(&[Request { lacks: &["content_length"], ..ABC }]),
        ..POSTED
    },
    Case {
        name: "underscores in names are refused where that is set",
        clause: "RFC 3875 §4.1.18",
        by: UNDERSCORES,
        underscores: "refuse",
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nX_User: root\r\n\r\n"),
        ..MALFORMED
    },
    Case {
        name: "several Cookie lines become one",
        clause: "RFC 6265 §5.4",
        by: COOKIES,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nCookie: a=1\r\nX: y\r\nCookie: b=2\r\n\r\n"),
        seen: Seen::Requests(&[Request { has: &["cookie: a=1; b=2"], ..GET }]),
        ..PASSES
    },
    // How far a request travels.
    Case {
        name: "a request is marked on its way",
        clause: "RFC 9110 §7.6.3",
        by: Ours("hops::mark"),
        sent: Bytes(b"GET / HTTP/1.0\r\nHost: raw.test\r\nVia: 1.1 other\r\n\r\n"),
        then: Closed,
        seen: Seen::Requests(&[Request { has: &["via: 1.1 other", "via: 1.0 portolan"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "a loop is cut",
        clause: "RFC 9110 §7.6.3",
        by: HOPS,
        sent: Made(|| {
            let via = ["1.1 portolan"; 10].join(", ");
            format!("GET / HTTP/1.1\r\nHost: raw.test\r\nVia: {via}\r\n\r\n").into_bytes()
        }),
        answers: &[508],
        reason: "LoopDetected",
        ..BASE
    },
    Case {
        name: "Connection cannot hide a loop",
        clause: "RFC 9110 §7.6.3",
        by: HOPS,
        sent: Made(|| {
            let via = "Via: 1.1 portolan\r\n".repeat(10);
            format!("GET / HTTP/1.1\r\nHost: raw.test\r\nConnection: via\r\n{via}\r\n").into_bytes()
        }),
        answers: &[508],
        reason: "LoopDetected",
        ..BASE
    },
    Case {
        name: "Max-Forwards counts down",
        clause: "RFC 9110 §7.6.2",
        by: HOPS,
        sent: Bytes(b"OPTIONS / HTTP/1.1\r\nHost: raw.test\r\nMax-Forwards: 5\r\n\r\n"),
        seen: Seen::Requests(&[Request { line: "OPTIONS / HTTP/1.1", has: &["max-forwards: 4"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "Max-Forwards 0 ends here",
        clause: "RFC 9110 §7.6.2",
        by: HOPS,
        sent: Bytes(b"OPTIONS / HTTP/1.1\r\nHost: raw.test\r\nMax-Forwards: 0\r\n\r\n"),
        answers: &[200],
        reason: "FinalRecipient",
        ..BASE
    },
    Case {
        name: "TRACE that ends here is not echoed",
        clause: "RFC 9110 §9.3.8",
        by: HOPS,
        sent: Bytes(b"TRACE / HTTP/1.1\r\nHost: raw.test\r\nMax-Forwards: 0\r\nCookie: secret=1\r\n\r\n"),
        answers: &[501],
        reason: "TraceNotSupported",
        body: Some("501 Not Implemented\n"),
        ..BASE
    },
    Case {
        name: "Max-Forwards that is no number",
        clause: "RFC 9110 §7.6.2",
        by: HOPS,
        sent: Bytes(b"OPTIONS / HTTP/1.1\r\nHost: raw.test\r\nMax-Forwards: -1\r\n\r\n"),
        ..MALFORMED
    },
    // Expectations.
    Case {
        name: "100-continue: the client is told to go on",
        clause: "RFC 9110 §10.1.1",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"),
        seen: Seen::Requests(&[Request { has: &["expect: 100-continue"], ..ABC }]),
        ..POSTED
    },
    Case {
        name: "an unknown expectation",
        clause: "RFC 9110 §10.1.1",
        by: EXPECT,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nExpect: 200-ok\r\n\r\n"),
        answers: &[417],
        reason: "ExpectationFailed",
        ..BASE
    },
    Case {
        name: "100-continue and another expectation",
        clause: "RFC 9110 §10.1.1",
        by: EXPECT,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nExpect: 100-continue, x=y\r\n\r\n"),
        answers: &[417],
        reason: "ExpectationFailed",
        ..BASE
    },
    Case {
        name: "100-continue in HTTP/1.0 is not there",
        clause: "RFC 9110 §10.1.1",
        by: FRAME,
        sent: Bytes(b"POST / HTTP/1.0\r\nHost: raw.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"),
        then: Closed,
        seen: Seen::Requests(&[Request { lacks: &["expect"], ..ABC }]),
        ..POSTED
    },
    Case {
        name: "100-continue without content expects nothing",
        clause: "RFC 9110 §10.1.1",
        by: FRAME,
        sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nExpect: 100-continue\r\n\r\n"),
        seen: Seen::Requests(&[Request { lacks: &["expect"], ..GET }]),
        ..PASSES
    },
];
