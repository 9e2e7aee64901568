//! Heads: pseudo-header fields, names and values, what ends at this hop.

use super::By::Ours;
use super::Outcome::{Answer, Reset};
use super::{
    BASE, Case, END_STREAM, GET, MALFORMED, PASSES, POST, PROTOCOL_ERROR, RESET, Request, Seen, data, fields, frame,
    get, head, post,
};
use crate::support::frames::{END_HEADERS, HEADERS};
use crate::support::hpack::{block, literal};

const AUTHORITY: super::By = Ours("target::authority");
const HOST: super::By = Ours("target::host");
const FORM: super::By = Ours("target::Target::of, forms of the target");
const DOTS: super::By = Ours("target::Target::of, resolve_dots");
const LENIENT: super::By = Ours("handler::lookup, lenient");
const HOP: super::By = Ours("forwarded::strip_hop_by_hop");
const VOUCHED: super::By = Ours("forwarded::Vouched::apply");
const HOPS: super::By = Ours("hops::check");
const UNDERSCORES: super::By = Ours("fields::underscores");
const COOKIES: super::By = Ours("fields::join_cookies");
const FRAME: super::By = Ours("framing::frame_request");
const UPGRADE: super::By = Ours("upgrade::wish");
const EXPECT: super::By = Ours("framing::check_request, expectations");
const TRAILERS: super::By = Ours("trailers::Passing::of_request");

const ABC: Request = Request { body: "abc", ..POST };
const AMBIGUOUS: Case = Case { by: LENIENT, has: &[("portolan-reason", "AmbiguousPath")], ..MALFORMED };

/// A GET with one field whose bytes no string could hold.
fn with(name: &[u8], value: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[block(&fields(&[])), literal(name, value)].concat())
}

pub const CASES: &[Case] = &[
    // Pseudo-header fields.
    Case { name: "a plain GET passes", clause: "RFC 9113 §8.3.1", sent: || get(1, &[]), ..PASSES },
    Case {
        name: "no :method",
        clause: "RFC 9113 §8.3.1",
        sent: || head(1, END_STREAM, &[(":scheme", "https"), (":authority", "raw.test"), (":path", "/")]),
        ..RESET
    },
    Case {
        name: "no :scheme",
        clause: "RFC 9113 §8.3.1",
        sent: || head(1, END_STREAM, &[(":method", "GET"), (":authority", "raw.test"), (":path", "/")]),
        ..RESET
    },
    Case {
        name: "no :path",
        clause: "RFC 9113 §8.3.1",
        sent: || head(1, END_STREAM, &[(":method", "GET"), (":scheme", "https"), (":authority", "raw.test")]),
        ..RESET
    },
    Case { name: "an empty :path", clause: "RFC 9113 §8.3.1", sent: || get(1, &[(":path", "")]), ..RESET },
    Case {
        name: "two :path",
        clause: "RFC 9113 §8.3",
        sent: || head(1, END_STREAM, &[&fields(&[])[..], &[(":path", "/admin")]].concat()),
        ..RESET
    },
    Case {
        name: "a pseudo-header field after a regular one",
        clause: "RFC 9113 §8.3",
        sent: || {
            let fields =
                [(":method", "GET"), (":scheme", "https"), ("x", "y"), (":authority", "raw.test"), (":path", "/")];
            head(1, END_STREAM, &fields)
        },
        ..RESET
    },
    Case {
        name: "an unknown pseudo-header field",
        clause: "RFC 9113 §8.3",
        sent: || head(1, END_STREAM, &[&[(":x", "y")], &fields(&[])[..]].concat()),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: ":status in a request",
        clause: "RFC 9113 §8.3",
        sent: || head(1, END_STREAM, &[&[(":status", "200")], &fields(&[])[..]].concat()),
        ..RESET
    },
    Case {
        name: "an extended CONNECT for another protocol than WebSocket",
        clause: "RFC 8441 §4",
        by: UPGRADE,
        sent: || head(1, 0, &[&[(":protocol", "connect-udp")], &fields(&[(":method", "CONNECT")])[..]].concat()),
        streams: &[(1, Answer(501))],
        has: &[("portolan-reason", "ConnectNotSupported")],
        ..BASE
    },
    Case {
        name: "a WebSocket of no version",
        clause: "RFC 8441 §5",
        by: UPGRADE,
        sent: || head(1, 0, &[&[(":protocol", "websocket")], &fields(&[(":method", "CONNECT")])[..]].concat()),
        streams: &[(1, Answer(400))],
        has: &[("portolan-reason", "Malformed")],
        ..BASE
    },
    Case {
        name: ":protocol without CONNECT",
        clause: "RFC 8441 §4",
        sent: || head(1, END_STREAM, &[&[(":protocol", "websocket")], &fields(&[])[..]].concat()),
        ..RESET
    },
    Case {
        name: "plain CONNECT",
        clause: "RFC 9113 §8.5",
        by: Ours("target::Target::of, CONNECT"),
        sent: || head(1, 0, &[(":method", "CONNECT"), (":authority", "raw.test:443")]),
        streams: &[(1, Answer(501))],
        has: &[("portolan-reason", "ConnectNotSupported")],
        ..BASE
    },
    Case {
        name: "CONNECT with a path",
        clause: "RFC 9113 §8.5",
        sent: || head(1, END_STREAM, &fields(&[(":method", "CONNECT")])),
        ..RESET
    },
    Case {
        name: "neither :authority nor Host",
        clause: "RFC 9113 §8.3.1",
        by: AUTHORITY,
        sent: || head(1, END_STREAM, &[(":method", "GET"), (":scheme", "https"), (":path", "/")]),
        ..MALFORMED
    },
    Case {
        name: "Host in place of :authority passes",
        clause: "RFC 9113 §8.3.1",
        by: AUTHORITY,
        sent: || head(1, END_STREAM, &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "raw.test")]),
        seen: Seen::Requests(&[Request { has: &["host: raw.test"], ..GET }]),
        ..PASSES
    },
    Case {
        name: ":authority and Host that agree make one Host",
        clause: "RFC 9113 §8.3.1",
        by: Ours("handler::upstream_request, HOST"),
        sent: || get(1, &[("host", "RAW.test")]),
        seen: Seen::Requests(&[Request { has: &["host: raw.test"], ..GET }]),
        ..PASSES
    },
    Case {
        name: ":authority and another Host",
        clause: "RFC 9113 §8.3.1",
        by: AUTHORITY,
        sent: || get(1, &[("host", "other.test")]),
        ..MALFORMED
    },
    Case {
        name: "several Hosts",
        clause: "RFC 9110 §7.2",
        by: AUTHORITY,
        sent: || get(1, &[("host", "raw.test"), ("host", "raw.test")]),
        ..MALFORMED
    },
    Case {
        name: "user information in :authority",
        clause: "RFC 9113 §8.3.1",
        by: AUTHORITY,
        sent: || get(1, &[(":authority", "user@raw.test")]),
        ..MALFORMED
    },
    Case {
        name: "a port out of range in :authority",
        clause: "RFC 3986 §3.2.3",
        by: HOST,
        sent: || get(1, &[(":authority", "raw.test:65536")]),
        ..MALFORMED
    },
    Case {
        name: "a path in :authority",
        clause: "RFC 9113 §8.3.1",
        sent: || get(1, &[(":authority", "raw.test/admin")]),
        ..RESET
    },
    Case {
        name: "a space in :authority",
        clause: "RFC 9113 §8.3.1",
        sent: || get(1, &[(":authority", "raw.test other")]),
        ..RESET
    },
    Case {
        name: "another scheme",
        clause: "RFC 9113 §8.3.1",
        by: FORM,
        sent: || get(1, &[(":scheme", "ftp")]),
        ..MALFORMED
    },
    Case {
        name: "a method with a space",
        clause: "RFC 9113 §8.3.1",
        sent: || get(1, &[(":method", "GET /x HTTP/1.1")]),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    // :path.
    Case {
        name: "a :path that does not start with a slash",
        clause: "RFC 9113 §8.3.1",
        sent: || get(1, &[(":path", "admin")]),
        ..RESET
    },
    Case {
        name: "an absolute :path",
        clause: "RFC 9113 §8.3.1",
        sent: || get(1, &[(":path", "https://other.test/")]),
        ..RESET
    },
    Case {
        name: "an asterisk with GET",
        clause: "RFC 9113 §8.3.1",
        by: FORM,
        sent: || get(1, &[(":path", "*")]),
        ..MALFORMED
    },
    Case {
        name: "an asterisk with OPTIONS is for the proxy",
        clause: "RFC 9113 §8.3.1",
        by: Ours("handler::serve, OPTIONS *"),
        sent: || get(1, &[(":method", "OPTIONS"), (":path", "*")]),
        streams: &[(1, Answer(200))],
        has: &[("portolan-reason", "FinalRecipient")],
        ..BASE
    },
    Case {
        name: "a fragment in :path does not go on",
        clause: "RFC 9113 §8.3.1",
        sent: || get(1, &[(":path", "/#/admin")]),
        ..PASSES
    },
    Case { name: "a space in :path", clause: "RFC 9113 §8.3.1", sent: || get(1, &[(":path", "/ HTTP/1.1")]), ..RESET },
    Case {
        name: "CRLF in :path",
        clause: "RFC 9113 §8.2.1",
        sent: || get(1, &[(":path", "/ HTTP/1.1\r\nHost: raw.test\r\n\r\nGET /smuggled")]),
        ..RESET
    },
    Case {
        name: "a :path that climbs above the root",
        clause: "RFC 3986 §5.2.4",
        by: DOTS,
        sent: || get(1, &[(":path", "/../admin")]),
        ..MALFORMED
    },
    Case {
        name: "dot segments are resolved before they are forwarded",
        clause: "RFC 3986 §5.2.4",
        by: DOTS,
        sent: || get(1, &[(":path", "/a/%2E%2e/b?c=../d")]),
        seen: Seen::Requests(&[Request { line: "GET /b?c=../d HTTP/1.1", ..GET }]),
        ..PASSES
    },
    Case {
        name: "slashes that a lenient reader merges into another route",
        clause: "RFC 3986 §6.2.2",
        sent: || get(1, &[(":path", "//admin")]),
        ..AMBIGUOUS
    },
    Case {
        name: "an encoded slash that leads to another route once decoded",
        clause: "RFC 3986 §2.2",
        sent: || get(1, &[(":path", "/x%2F..%2Fadmin")]),
        ..AMBIGUOUS
    },
    Case {
        name: "a backslash that a lenient reader takes for a slash",
        clause: "RFC 3986 §3.3",
        sent: || get(1, &[(":path", "/x\\..\\admin")]),
        ..AMBIGUOUS
    },
    // Names and values.
    Case {
        name: "a name in upper case",
        clause: "RFC 9113 §8.2.1",
        sent: || get(1, &[("X-Upper", "y")]),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "an empty name",
        clause: "RFC 9113 §8.2.1",
        sent: || get(1, &[("", "y")]),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "a colon within a name",
        clause: "RFC 9113 §8.2.1",
        sent: || get(1, &[("x:y", "z")]),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "a space in a name",
        clause: "RFC 9113 §8.2.1",
        sent: || get(1, &[("x y", "z")]),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "CRLF in a value",
        clause: "RFC 9113 §8.2.1",
        sent: || with(b"x", b"y\r\nTransfer-Encoding: chunked"),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "LF in a value",
        clause: "RFC 9113 §8.2.1",
        sent: || with(b"x", b"y\nz: 1"),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "NUL in a value",
        clause: "RFC 9113 §8.2.1",
        sent: || with(b"x", b"y\0z"),
        streams: &[],
        then: super::Then::Gone(PROTOCOL_ERROR),
        ..RESET
    },
    Case {
        name: "a value in UTF-8 passes as it is",
        clause: "RFC 9113 §8.2.1",
        sent: || with(b"x", b"\xc3\xa4"),
        seen: Seen::Requests(&[Request { has: &["x: \u{c3}\u{a4}"], ..GET }]),
        ..PASSES
    },
    // What h1 has and h2 has not.
    Case { name: "Connection", clause: "RFC 9113 §8.2.2", sent: || get(1, &[("connection", "close")]), ..RESET },
    Case { name: "Keep-Alive", clause: "RFC 9113 §8.2.2", sent: || get(1, &[("keep-alive", "timeout=5")]), ..RESET },
    Case {
        name: "Proxy-Connection",
        clause: "RFC 9113 §8.2.2",
        sent: || get(1, &[("proxy-connection", "keep-alive")]),
        ..RESET
    },
    Case {
        name: "Transfer-Encoding",
        clause: "RFC 9113 §8.2.2",
        sent: || [post(1, &[("transfer-encoding", "chunked")]), data(1, END_STREAM, b"0\r\n\r\n")].concat(),
        ..RESET
    },
    Case { name: "Upgrade", clause: "RFC 9113 §8.2.2", sent: || get(1, &[("upgrade", "h2c")]), ..RESET },
    Case { name: "TE other than trailers", clause: "RFC 9113 §8.2.2", sent: || get(1, &[("te", "gzip")]), ..RESET },
    Case {
        name: "TE: trailers ends here",
        clause: "RFC 9110 §10.1.4",
        by: HOP,
        sent: || get(1, &[("te", "trailers")]),
        ..PASSES
    },
    Case {
        name: "Proxy-Authorization ends here",
        clause: "RFC 9110 §11.7.2",
        by: HOP,
        sent: || get(1, &[("proxy-authorization", "Basic Og==")]),
        seen: Seen::Requests(&[Request { lacks: &["proxy-authorization"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "HTTP2-Settings ends here",
        clause: "RFC 9113 §3.1",
        by: HOP,
        sent: || get(1, &[("http2-settings", "AAMAAABk")]),
        ..PASSES
    },
    Case {
        name: "cookie crumbs become one Cookie",
        clause: "RFC 9113 §8.2.3",
        by: COOKIES,
        sent: || get(1, &[("cookie", "a=1"), ("cookie", "b=2"), ("x", "y"), ("cookie", "c=3")]),
        seen: Seen::Requests(&[Request { has: &["cookie: a=1; b=2; c=3"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "underscores in names are dropped",
        clause: "RFC 3875 §4.1.18",
        by: UNDERSCORES,
        sent: || get(1, &[("x_user", "root"), ("x-user", "me")]),
        seen: Seen::Requests(&[Request { has: &["x-user: me"], lacks: &["x_user"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "an underscore in transfer_encoding frames nothing",
        clause: "RFC 9112 §6.1",
        by: UNDERSCORES,
        sent: || {
            [post(1, &[("transfer_encoding", "chunked"), ("content-length", "3")]), data(1, END_STREAM, b"abc")]
                .concat()
        },
        seen: Seen::Requests(&[Request { lacks: &["transfer_encoding"], has: &["content-length: 3"], ..ABC }]),
        ..PASSES
    },
    Case {
        name: "forged forwarding headers are replaced",
        clause: "RFC 7239 §8.1",
        by: VOUCHED,
        sent: || {
            let forged = [
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-proto", "http"),
                ("forwarded", "for=6.6.6.6"),
                ("x-forwarded-tls-client-cert", "x"),
                ("client-cert", ":AA==:"),
            ];
            get(1, &forged)
        },
        seen: Seen::Requests(&[Request {
            has: &["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: https"],
            lacks: &["x-forwarded-tls-client-cert", "client-cert"],
            ..GET
        }]),
        ..PASSES
    },
    // How far a request travels.
    Case {
        name: "a request is marked on its way",
        clause: "RFC 9110 §7.6.3",
        by: Ours("hops::mark"),
        sent: || get(1, &[("via", "1.1 other")]),
        seen: Seen::Requests(&[Request { has: &["via: 1.1 other", "via: 2.0 portolan"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "a loop is cut",
        clause: "RFC 9110 §7.6.3",
        by: HOPS,
        sent: || get(1, &[("via", "2.0 portolan"); 10]),
        streams: &[(1, Answer(508))],
        has: &[("portolan-reason", "LoopDetected")],
        ..BASE
    },
    Case {
        name: "Max-Forwards counts down",
        clause: "RFC 9110 §7.6.2",
        by: HOPS,
        sent: || get(1, &[(":method", "OPTIONS"), ("max-forwards", "1")]),
        seen: Seen::Requests(&[Request { line: "OPTIONS / HTTP/1.1", has: &["max-forwards: 0"], ..GET }]),
        ..PASSES
    },
    Case {
        name: "Max-Forwards 0 ends here",
        clause: "RFC 9110 §7.6.2",
        by: HOPS,
        sent: || get(1, &[(":method", "OPTIONS"), ("max-forwards", "0")]),
        streams: &[(1, Answer(200))],
        has: &[("portolan-reason", "FinalRecipient")],
        ..BASE
    },
    Case {
        name: "an unknown expectation",
        clause: "RFC 9110 §10.1.1",
        by: EXPECT,
        sent: || get(1, &[("expect", "200-ok")]),
        streams: &[(1, Answer(417))],
        has: &[("portolan-reason", "ExpectationFailed")],
        ..BASE
    },
    Case {
        name: "100-continue is not expected of an endpoint that nobody could tell of it",
        clause: "RFC 9110 §10.1.1",
        by: FRAME,
        sent: || {
            [post(1, &[("expect", "100-continue"), ("content-length", "3")]), data(1, END_STREAM, b"abc")].concat()
        },
        seen: Seen::Requests(&[Request { lacks: &["expect"], ..ABC }]),
        ..PASSES
    },
    // Bodies.
    Case {
        name: "a body with its length",
        clause: "RFC 9113 §8.1.1",
        sent: || [post(1, &[("content-length", "3")]), data(1, END_STREAM, b"abc")].concat(),
        seen: Seen::Requests(&[Request { has: &["content-length: 3"], lacks: &["transfer-encoding"], ..ABC }]),
        ..PASSES
    },
    Case {
        name: "a body without a length goes in chunks",
        clause: "RFC 9113 §8.1.1",
        sent: || [post(1, &[]), data(1, END_STREAM, b"abc")].concat(),
        seen: Seen::Requests(&[Request { has: &["transfer-encoding: chunked"], lacks: &["content-length"], ..ABC }]),
        ..PASSES
    },
    Case {
        name: "a body without a length and GET arrives",
        clause: "RFC 9110 §9.3.1",
        by: FRAME,
        sent: || [head(1, 0, &fields(&[])), data(1, END_STREAM, b"abc")].concat(),
        seen: Seen::Requests(&[Request { has: &["transfer-encoding: chunked"], body: "abc", ..GET }]),
        ..PASSES
    },
    Case {
        name: "equal lengths become one",
        clause: "RFC 9110 §8.6",
        by: FRAME,
        sent: || [post(1, &[("content-length", "3"), ("content-length", "3")]), data(1, END_STREAM, b"abc")].concat(),
        seen: Seen::Requests(&[ABC]),
        ..PASSES
    },
    Case {
        name: "lengths that differ",
        clause: "RFC 9113 §8.1.1",
        sent: || [post(1, &[("content-length", "3"), ("content-length", "4")]), data(1, END_STREAM, b"abc")].concat(),
        ..RESET
    },
    Case {
        name: "a length with a sign",
        clause: "RFC 9110 §8.6",
        sent: || [post(1, &[("content-length", "+3")]), data(1, END_STREAM, b"abc")].concat(),
        ..RESET
    },
    Case {
        name: "a length that overflows",
        clause: "RFC 9110 §8.6",
        sent: || [post(1, &[("content-length", "18446744073709551619")]), data(1, END_STREAM, b"abc")].concat(),
        ..RESET
    },
    Case {
        name: "a length and no body",
        clause: "RFC 9113 §8.1.1",
        sent: || get(1, &[("content-length", "3")]),
        ..RESET
    },
    Case {
        name: "a body longer than its length",
        clause: "RFC 9113 §8.1.1",
        sent: || [post(1, &[("content-length", "3")]), data(1, END_STREAM, b"abcd")].concat(),
        seen: Seen::NothingWhole,
        ..RESET
    },
    Case {
        name: "a body shorter than its length",
        clause: "RFC 9113 §8.1.1",
        sent: || [post(1, &[("content-length", "3")]), data(1, END_STREAM, b"ab")].concat(),
        seen: Seen::NothingWhole,
        ..RESET
    },
    Case {
        name: "trailers that nobody announced do not go to an h1 endpoint",
        clause: "RFC 9110 §6.5.1",
        sent: || [post(1, &[]), data(1, 0, b"abc"), head(1, END_STREAM, &[("x-sum", "1")])].concat(),
        seen: Seen::Requests(&[ABC]),
        ..PASSES
    },
    Case {
        name: "trailers that were announced do",
        clause: "RFC 9110 §6.5",
        by: Ours("forwarded::HOP_BY_HOP leaves Trailer"),
        sent: || {
            [post(1, &[("trailer", "x-sum")]), data(1, 0, b"abc"), head(1, END_STREAM, &[("x-sum", "1")])].concat()
        },
        seen: Seen::Requests(&[Request { trailers: &["x-sum: 1"], ..ABC }]),
        ..PASSES
    },
    Case {
        name: "trailers that name the client do not, announced or not",
        clause: "RFC 9110 §6.5.1",
        by: TRAILERS,
        sent: || {
            let trailers = [("x-forwarded-for", "6.6.6.6"), ("x_real_ip", "6.6.6.6"), ("cookie", "a=1")];
            let announced = ("trailer", "x-forwarded-for, x_real_ip, cookie");
            [post(1, &[announced]), data(1, 0, b"abc"), head(1, END_STREAM, &trailers)].concat()
        },
        seen: Seen::Requests(&[ABC]),
        ..PASSES
    },
    Case {
        name: "a pseudo-header field among trailers is dropped",
        clause: "RFC 9113 §8.1",
        sent: || [post(1, &[]), data(1, 0, b"abc"), head(1, END_STREAM, &[(":path", "/admin")])].concat(),
        seen: Seen::Requests(&[ABC]),
        ..PASSES
    },
    Case {
        name: "trailers that do not end the stream",
        clause: "RFC 9113 §8.1",
        sent: || [post(1, &[]), data(1, 0, b"abc"), head(1, 0, &[("x-sum", "1")])].concat(),
        streams: &[(1, Reset(PROTOCOL_ERROR))],
        seen: Seen::NothingWhole,
        ..BASE
    },
];
