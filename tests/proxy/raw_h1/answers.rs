//! What endpoints answer.

use super::By::Ours;
use super::Sent::Bytes;
use super::Then::{Closed, Cut, Left, Open};
use super::{BAD_ANSWER, BASE, Case, GET, PASSES, PLAIN_GET, Request, Seen};

const CHECKED: super::By = Ours("framing::check_response");
const HOP: super::By = Ours("forwarded::strip_hop_by_hop, of answers");
const TRAILERS: super::By = Ours("trailers::Passing");

const ANSWERED: Case = Case { sent: PLAIN_GET, ..PASSES };
/// The library cannot read it.
const RESET: Case = Case { reason: "EndpointReset", ..BAD_ANSWER };
const TO_TRAILERS: Case =
    Case { sent: Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n"), ..PASSES };
const MALFORMED: Case = Case { by: CHECKED, reason: "EndpointMalformed", clause: "RFC 9112 §6.3", ..BAD_ANSWER };

pub const CASES: &[Case] = &[
    Case {
        name: "an answer with two lengths that differ",
        clause: "RFC 9112 §6.3",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        ..RESET
    },
    Case {
        name: "an answer with a list of lengths gets one",
        clause: "RFC 9110 §8.6",
        by: CHECKED,
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        has: &["content-length: 3"],
        body: Some("abc"),
        ..ANSWERED
    },
    Case {
        name: "an answer to HEAD with two lengths that differ",
        sent: Bytes(b"HEAD / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        seen: Seen::Requests(&[Request { line: "HEAD / HTTP/1.1", ..GET }]),
        ..MALFORMED
    },
    Case {
        name: "a 304 with a length that is no number",
        reply: b"HTTP/1.1 304 Not Modified\r\nContent-Length: +3\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer with a length and chunks",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer with chunks and a length",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer in a coding that nobody asked for",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer that is chunked twice",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..MALFORMED
    },
    Case {
        name: "an answer in a coding that is not chunked",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
        reply_closes: true,
        ..MALFORMED
    },
    Case {
        name: "an answer whose length is no number",
        clause: "RFC 9110 §8.6",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\nabc",
        ..RESET
    },
    Case {
        name: "chunks in HTTP/1.0",
        clause: "RFC 9112 §6.1",
        reply: b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ..RESET
    },
    Case {
        name: "a status line that is none",
        clause: "RFC 9112 §4",
        reply: b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
        ..RESET
    },
    Case {
        name: "a status of four digits",
        clause: "RFC 9112 §4",
        reply: b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        ..RESET
    },
    Case {
        name: "an answer without a status line",
        clause: "RFC 9112 §4",
        reply: b"<html></html>\r\n\r\n",
        reply_closes: true,
        ..RESET
    },
    Case {
        name: "an answer of another protocol version",
        clause: "RFC 9110 §2.5",
        reply: b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ..RESET
    },
    Case {
        name: "a header line without a colon",
        clause: "RFC 9112 §5",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ngarbage\r\n\r\nok",
        ..RESET
    },
    Case {
        name: "a folded header line",
        clause: "RFC 9112 §5.2",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n b\r\n\r\nok",
        ..RESET
    },
    Case {
        name: "NUL in a header",
        clause: "RFC 9110 §5.5",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\0b\r\n\r\nok",
        ..RESET
    },
    Case {
        name: "a CR in a header",
        clause: "RFC 9110 §5.5",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\rSet-Cookie: b\r\n\r\nok",
        ..RESET
    },
    Case { name: "no answer at all", clause: "RFC 9112 §9.3", reply: b"", reply_closes: true, ..RESET },
    Case {
        name: "interim answers before the final one are dropped",
        clause: "RFC 9110 §15.2",
        reply: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                 HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        lacks: &["link"],
        body: Some("ok"),
        ..ANSWERED
    },
    Case {
        name: "an unasked 101",
        clause: "RFC 9110 §7.8",
        by: Ours("handler::agreed"),
        reply: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        reason: "EndpointReset",
        ..BAD_ANSWER
    },
    Case {
        name: "a 204 with a length loses it",
        clause: "RFC 9110 §8.6",
        reply: b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        answers: &[204],
        lacks: &["content-length", "transfer-encoding"],
        ..ANSWERED
    },
    Case {
        name: "a 204 with content: the content is no answer to anybody",
        clause: "RFC 9112 §6.3",
        reply: b"HTTP/1.1 204 No Content\r\nContent-Length: 45\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        answers: &[204],
        lacks: &["content-length", "transfer-encoding"],
        ..ANSWERED
    },
    Case {
        name: "a 204 in chunks has no body and no framing",
        clause: "RFC 9112 §6.1",
        reply: b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        answers: &[204],
        lacks: &["content-length", "transfer-encoding"],
        ..ANSWERED
    },
    Case {
        name: "a 304 has no body; what follows it is no answer",
        clause: "RFC 9112 §6.3",
        reply: b"HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nContent-Length: 45\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        answers: &[304],
        has: &["etag: \"e\""],
        ..ANSWERED
    },
    Case {
        name: "content after an answer to HEAD is no answer",
        clause: "RFC 9110 §9.3.2",
        sent: Bytes(b"HEAD / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        seen: Seen::Requests(&[Request { line: "HEAD / HTTP/1.1", ..GET }]),
        has: &["content-length: 45"],
        ..ANSWERED
    },
    Case {
        name: "a second answer that nobody asked for",
        clause: "RFC 9112 §9.2",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        body: Some("ok"),
        ..ANSWERED
    },
    Case {
        name: "an answer that ends with its connection is chunked",
        clause: "RFC 9112 §6.3",
        reply: b"HTTP/1.1 200 OK\r\n\r\nall of it",
        reply_closes: true,
        has: &["transfer-encoding: chunked"],
        body: Some("all of it"),
        ..ANSWERED
    },
    Case {
        name: "an answer that ends with its connection, to a client of HTTP/1.0",
        clause: "RFC 9112 §6.3",
        sent: Bytes(b"GET / HTTP/1.0\r\nHost: raw.test\r\nConnection: keep-alive\r\n\r\n"),
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n",
        then: Closed,
        lacks: &["transfer-encoding", "content-length"],
        body: Some("all of it"),
        ..ANSWERED
    },
    Case {
        name: "an answer shorter than its length is not made to look whole",
        clause: "RFC 9112 §8",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        reply_closes: true,
        then: Cut,
        body: Some("half"),
        ..ANSWERED
    },
    Case {
        name: "an answer without its last chunk is not made to look whole",
        clause: "RFC 9112 §8",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        reply_closes: true,
        then: Cut,
        body: Some("half"),
        ..ANSWERED
    },
    Case {
        name: "an answer with a chunk that is none is not made to look whole",
        clause: "RFC 9112 §7.1",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        then: Cut,
        body: Some("half"),
        ..ANSWERED
    },
    Case {
        name: "an answer before the request's body has come",
        clause: "RFC 9112 §9.6",
        sent: Bytes(b"POST / HTTP/1.1\r\nHost: raw.test\r\nContent-Length: 10\r\n\r\nhalf"),
        reply: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
        reply_early: true,
        answers: &[403],
        then: Left,
        body: Some("no"),
        seen: Seen::Cut,
        ..BASE
    },
    Case {
        name: "hop-by-hop headers of an answer end here",
        clause: "RFC 9110 §7.6.1",
        by: HOP,
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Internal\r\nX-Internal: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\r\nok",
        has: &["x-kept: 1"],
        lacks: &["connection", "x-internal", "keep-alive", "proxy-authenticate", "upgrade"],
        then: Open,
        ..ANSWERED
    },
    Case {
        name: "Connection in an answer cannot take its length away",
        clause: "RFC 9110 §7.6.1",
        reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: content-length\r\n\r\nok",
        has: &["content-length: 2"],
        ..ANSWERED
    },
    Case {
        name: "a trailer that the answer announced passes",
        clause: "RFC 9110 §6.5",
        by: Ours("forwarded::HOP_BY_HOP leaves Trailer"),
        reply:
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        has: &["trailer: X-Sum"],
        body: Some("ok"),
        trailers: &["x-sum: 1"],
        ..TO_TRAILERS
    },
    Case {
        name: "a trailer that the answer did not announce does not pass",
        clause: "RFC 9110 §6.5.1",
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        body: Some("ok"),
        ..TO_TRAILERS
    },
    Case {
        name: "a trailer that authenticates does not pass, announced or not",
        clause: "RFC 9110 §6.5.1",
        by: TRAILERS,
        reply: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: WWW-Authenticate, Location\r\n\r\n\
                 2\r\nok\r\n0\r\nWWW-Authenticate: Basic\r\nLocation: /\r\n\r\n",
        body: Some("ok"),
        ..TO_TRAILERS
    },
    Case {
        name: "a client that takes no trailers gets none",
        clause: "RFC 9110 §6.5.1",
        reply:
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        body: Some("ok"),
        ..ANSWERED
    },
];
