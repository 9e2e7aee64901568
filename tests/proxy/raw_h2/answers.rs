//! What an h1 endpoint answers, as an h2 client gets it.

use super::By::Ours;
use super::Outcome::{Answer, Cut};
use super::{Case, END_STREAM, GET, PASSES, Request, Seen, get, head};

const CHECKED: super::By = Ours("framing::check_response");
const HOP: super::By = Ours("forwarded::strip_hop_by_hop, of answers");
const TRAILERS: super::By = Ours("trailers::Passing::of_response");

const ANSWERED: Case = Case { sent: || get(1, &[]), ..PASSES };
const MALFORMED: Case = Case {
    clause: "RFC 9112 §6.3",
    by: CHECKED,
    streams: &[(1, Answer(502))],
    has: &[("portolan-reason", "EndpointMalformed")],
    ..ANSWERED
};

pub const CASES: &[Case] = &[
    Case {
        name: "an answer with a length and chunks",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer in a coding that nobody asked for",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer to HEAD with two lengths",
        sent: || head(1, END_STREAM, &super::fields(&[(":method", "HEAD")])),
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        seen: Seen::Requests(&[Request { line: "HEAD / HTTP/1.1", ..GET }]),
        ..MALFORMED
    },
    Case {
        name: "an answer with a list of lengths gets one",
        clause: "RFC 9110 §8.6",
        by: CHECKED,
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        has: &[("content-length", "3")],
        body: Some("abc"),
        ..ANSWERED
    },
    Case {
        name: "a 204 with a length loses it",
        clause: "RFC 9110 §8.6",
        by: CHECKED,
        reply: b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        streams: &[(1, Answer(204))],
        lacks: &["content-length"],
        ..ANSWERED
    },
    Case {
        name: "hop-by-hop headers of an answer end here",
        clause: "RFC 9113 §8.2.2",
        by: HOP,
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Internal\r\nX-Internal: 1\r\n\
                 Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\n\r\nok",
        has: &[("x-kept", "1")],
        lacks: &["connection", "x-internal", "keep-alive", "upgrade", "proxy-authenticate"],
        ..ANSWERED
    },
    Case {
        name: "an unasked 101",
        clause: "RFC 9113 §8.6",
        by: Ours("handler::agreed"),
        reply: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        streams: &[(1, Answer(502))],
        ..ANSWERED
    },
    Case {
        name: "trailers pass, announced or not",
        clause: "RFC 9113 §8.1",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGrpc-Status: 0\r\nX_y: 1\r\n\r\n",
        body: Some("ok"),
        trailers: &[("grpc-status", "0"), ("x_y", "1")],
        ..ANSWERED
    },
    Case {
        name: "trailers that h2 does not have, or that come too late, do not",
        clause: "RFC 9113 §8.2.2",
        by: TRAILERS,
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nConnection: close\r\n\
                 Content-Length: 2\r\nSet-Cookie: a=1\r\nX-Sum: 1\r\n\r\n",
        body: Some("ok"),
        trailers: &[("x-sum", "1")],
        ..ANSWERED
    },
    Case {
        name: "interim answers are dropped",
        clause: "RFC 9113 §8.1",
        reply: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        lacks: &["link"],
        body: Some("ok"),
        ..ANSWERED
    },
    Case {
        name: "an answer shorter than its length is not made to look whole",
        clause: "RFC 9113 §8.1.1",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        reply_closes: true,
        streams: &[(1, Cut(200))],
        body: Some("half"),
        ..ANSWERED
    },
    Case {
        name: "an answer without its last chunk is not made to look whole",
        clause: "RFC 9112 §8",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        reply_closes: true,
        streams: &[(1, Cut(200))],
        body: Some("half"),
        ..ANSWERED
    },
    Case {
        name: "an answer that ends with its connection ends with its stream",
        clause: "RFC 9112 §6.3",
        reply: b"HTTP/1.0 200 OK\r\n\r\nall of it",
        reply_closes: true,
        body: Some("all of it"),
        ..ANSWERED
    },
];
