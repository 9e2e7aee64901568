//! Frames out of place, out of bounds, or too many.

use super::Outcome::{Answer, Reset};
use super::Then::{Closed, Gone, Left};
use super::{
    BASE, Case, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GET, GONE, PASSES, RESET, Request, Seen, data,
    fields, frame, get, head, post,
};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITISED, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::support::hpack::block;

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn update(id: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, id, &by.to_be_bytes())
}

pub const CASES: &[Case] = &[
    // The preface.
    Case {
        name: "a preface that is none",
        clause: "RFC 9113 §3.4",
        bare: true,
        sent: || b"GET / HTTP/1.1\r\nHost: raw.test\r\n\r\n".to_vec(),
        then: Closed,
        ..BASE
    },
    Case {
        name: "a preface without settings is taken",
        clause: "RFC 9113 §3.4",
        bare: true,
        sent: || [PREFACE, &get(1, &[])].concat(),
        then: Left,
        ..PASSES
    },
    // Streams.
    Case { name: "DATA on an idle stream", clause: "RFC 9113 §5.1", sent: || data(1, 0, b"abc"), ..GONE },
    Case {
        name: "RST_STREAM on an idle stream",
        clause: "RFC 9113 §5.1",
        sent: || frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ..GONE
    },
    Case { name: "WINDOW_UPDATE on an idle stream", clause: "RFC 9113 §5.1", sent: || update(1, 1), ..GONE },
    Case { name: "an even stream", clause: "RFC 9113 §5.1.1", sent: || get(2, &[]), ..GONE },
    Case { name: "HEADERS on stream 0", clause: "RFC 9113 §6.2", sent: || get(0, &[]), ..GONE },
    Case { name: "DATA on stream 0", clause: "RFC 9113 §6.1", sent: || data(0, 0, b"abc"), ..GONE },
    Case {
        name: "a stream below the last one",
        clause: "RFC 9113 §5.1.1",
        sent: || [get(5, &[(":path", "/5")]), get(3, &[(":path", "/3")])].concat(),
        then: Closed,
        seen: Seen::NothingWhole,
        ..BASE
    },
    Case {
        name: "HEADERS after the end of the stream",
        clause: "RFC 9113 §5.1",
        sent: || [get(1, &[(":path", "/admin")]), get(1, &[(":path", "/x")])].concat(),
        then: Closed,
        ..BASE
    },
    Case {
        name: "DATA after the end of the stream",
        clause: "RFC 9113 §5.1",
        sent: || [get(1, &[(":path", "/admin")]), data(1, END_STREAM, b"abc")].concat(),
        then: Closed,
        ..BASE
    },
    Case {
        name: "two streams at once are two requests",
        clause: "RFC 9113 §5",
        sent: || [post(1, &[(":path", "/1")]), get(3, &[(":path", "/3")]), data(1, END_STREAM, b"abc")].concat(),
        streams: &[(1, Answer(200)), (3, Answer(200))],
        seen: Seen::Any(&["POST /1 HTTP/1.1", "GET /3 HTTP/1.1"]),
        ..BASE
    },
    // Windows.
    Case { name: "an increment of 0 on the connection", clause: "RFC 9113 §6.9", sent: || update(0, 0), ..GONE },
    Case {
        name: "the connection's window overflows",
        clause: "RFC 9113 §6.9.1",
        sent: || update(0, 0x7fff_ffff),
        then: Gone(FLOW_CONTROL_ERROR),
        ..BASE
    },
    Case {
        name: "a stream's window overflows",
        clause: "RFC 9113 §6.9.1",
        sent: || [post(1, &[]), update(1, 0x7fff_ffff)].concat(),
        streams: &[(1, Reset(FLOW_CONTROL_ERROR))],
        seen: Seen::NothingWhole,
        ..BASE
    },
    Case {
        name: "WINDOW_UPDATE of 3 bytes",
        clause: "RFC 9113 §6.9",
        sent: || frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
        then: Closed,
        ..BASE
    },
    Case {
        name: "an initial window beyond 2^31-1",
        clause: "RFC 9113 §6.5.2",
        sent: || setting(4, 0x8000_0000),
        then: Closed,
        ..BASE
    },
    // Sizes.
    Case {
        name: "a frame larger than allowed",
        clause: "RFC 9113 §4.2",
        sent: || [post(1, &[]), data(1, END_STREAM, &vec![b'x'; (1 << 14) + 1])].concat(),
        then: Gone(FRAME_SIZE_ERROR),
        seen: Seen::NothingWhole,
        ..BASE
    },
    Case {
        name: "SETTINGS of 5 bytes",
        clause: "RFC 9113 §6.5",
        sent: || frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0]),
        then: Closed,
        ..BASE
    },
    Case {
        name: "an acknowledgement of SETTINGS with content",
        clause: "RFC 9113 §6.5",
        sent: || frame(SETTINGS, 1, 0, &[0, 1, 0, 0, 0, 0]),
        then: Closed,
        ..BASE
    },
    Case {
        name: "SETTINGS on a stream",
        clause: "RFC 9113 §6.5",
        sent: || frame(SETTINGS, 0, 1, &[0, 1, 0, 0, 0, 0]),
        ..GONE
    },
    Case { name: "a maximum frame size below 2^14", clause: "RFC 9113 §6.5.2", sent: || setting(5, 100), ..GONE },
    Case { name: "ENABLE_PUSH of 2", clause: "RFC 9113 §6.5.2", sent: || setting(2, 2), ..GONE },
    Case {
        name: "an unknown setting is passed over",
        clause: "RFC 9113 §6.5.2",
        sent: || [setting(0x9999, 7), get(1, &[])].concat(),
        ..PASSES
    },
    Case {
        name: "PING of 7 bytes",
        clause: "RFC 9113 §6.7",
        sent: || frame(PING, 0, 0, &[0; 7]),
        then: Closed,
        ..BASE
    },
    Case { name: "PING on a stream", clause: "RFC 9113 §6.7", sent: || frame(PING, 0, 1, &[0; 8]), ..GONE },
    Case {
        name: "RST_STREAM of 3 bytes",
        clause: "RFC 9113 §6.4",
        sent: || [post(1, &[]), frame(RST_STREAM, 0, 1, &[0, 0, 8])].concat(),
        then: Closed,
        seen: Seen::NothingWhole,
        ..BASE
    },
    // Padding and priorities.
    Case {
        name: "padding longer than its DATA frame",
        clause: "RFC 9113 §6.1",
        sent: || [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, &[9, b'a', b'b'])].concat(),
        seen: Seen::NothingWhole,
        ..GONE
    },
    Case {
        name: "padding longer than its HEADERS frame",
        clause: "RFC 9113 §6.2",
        sent: || frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[&[255][..], &block(&fields(&[]))].concat()),
        ..GONE
    },
    Case {
        name: "padding is no content",
        clause: "RFC 9113 §6.1",
        sent: || [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, b"\x02abcxx")].concat(),
        seen: Seen::Requests(&[Request { body: "abc", ..super::POST }]),
        ..PASSES
    },
    Case {
        name: "a stream that depends on itself disturbs no other",
        clause: "RFC 9113 §5.3.2",
        sent: || [frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16]), get(3, &[])].concat(),
        streams: &[(3, Answer(200))],
        ..PASSES
    },
    Case {
        name: "HEADERS that depend on themselves",
        clause: "RFC 9113 §5.3.2",
        sent: || {
            let payload = [&[0, 0, 0, 1, 16][..], &block(&fields(&[]))].concat();
            frame(HEADERS, END_HEADERS | END_STREAM | PRIORITISED, 1, &payload)
        },
        ..RESET
    },
    Case {
        name: "PRIORITY of 4 bytes",
        clause: "RFC 9113 §6.3",
        sent: || frame(PRIORITY, 0, 1, &[0, 0, 0, 3]),
        then: Closed,
        ..BASE
    },
    // What a client does not send, and what nobody knows.
    Case {
        name: "PUSH_PROMISE from a client",
        clause: "RFC 9113 §8.4",
        sent: || {
            [post(1, &[]), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&fields(&[]))].concat())]
                .concat()
        },
        seen: Seen::NothingWhole,
        ..GONE
    },
    Case {
        name: "a frame of an unknown type is passed over",
        clause: "RFC 9113 §4.1",
        sent: || [frame(0x2a, 0xff, 0, b"anything"), get(1, &[]), frame(0x2b, 0, 1, b"")].concat(),
        ..PASSES
    },
    Case {
        name: "a client that says GOAWAY is answered what it asked",
        clause: "RFC 9113 §6.8",
        sent: || [get(1, &[]), frame(GOAWAY, 0, 0, &[0; 8])].concat(),
        then: Closed,
        ..PASSES
    },
    Case {
        name: "a header block that is none",
        clause: "RFC 7541 §6.1",
        sent: || frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80]),
        then: Closed,
        ..BASE
    },
    Case {
        name: "a reference to a field that is not there",
        clause: "RFC 7541 §2.3.3",
        sent: || frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xfe]),
        then: Closed,
        ..BASE
    },
    // CONTINUATION.
    Case {
        name: "a head in pieces",
        clause: "RFC 9113 §6.10",
        sent: || {
            let all = block(&fields(&[]));
            let (first, rest) = all.split_at(7);
            [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
        },
        ..PASSES
    },
    Case {
        name: "another frame within a head",
        clause: "RFC 9113 §6.10",
        sent: || [frame(HEADERS, END_STREAM, 1, &block(&fields(&[]))), frame(PING, 0, 0, &[0; 8])].concat(),
        ..GONE
    },
    Case {
        name: "CONTINUATION of another stream",
        clause: "RFC 9113 §6.10",
        sent: || {
            [frame(HEADERS, END_STREAM, 1, &block(&fields(&[]))), frame(CONTINUATION, END_HEADERS, 3, &[])].concat()
        },
        ..GONE
    },
    Case {
        name: "CONTINUATION without HEADERS",
        clause: "RFC 9113 §6.10",
        sent: || frame(CONTINUATION, END_HEADERS, 1, &block(&fields(&[]))),
        ..GONE
    },
    Case {
        name: "a flood of CONTINUATION",
        clause: "RFC 9113 §10.5.1",
        sent: || {
            let mut all = frame(HEADERS, END_STREAM, 1, &block(&fields(&[])));
            all.extend(frame(CONTINUATION, 0, 1, &[]).repeat(20_000));
            all
        },
        then: Closed,
        ..BASE
    },
    // Floods.
    Case {
        name: "rapid reset",
        clause: "RFC 9113 §10.5",
        sent: || {
            (0..200u32)
                .flat_map(|n| {
                    let id = 2 * n + 1;
                    [head(id, END_STREAM, &fields(&[(":path", "/admin")])), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])]
                        .concat()
                })
                .collect()
        },
        then: Gone(ENHANCE_YOUR_CALM),
        ..BASE
    },
    Case {
        name: "pings in a row are answered",
        clause: "RFC 9113 §6.7",
        sent: || [frame(PING, 0, 0, &[7; 8]).repeat(100), get(1, &[])].concat(),
        ..PASSES
    },
    Case {
        name: "settings in a row are acknowledged",
        clause: "RFC 9113 §6.5.3",
        sent: || [setting(3, 100).repeat(100), get(1, &[])].concat(),
        ..PASSES
    },
    Case {
        name: "a request that its client resets is not answered, and others are",
        clause: "RFC 9113 §5.4.2",
        sent: || [post(1, &[]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), get(3, &[])].concat(),
        streams: &[(3, Answer(200))],
        seen: Seen::Whole(&[GET]),
        ..BASE
    },
    Case {
        name: "a head of more than header_size",
        clause: "RFC 6585 §5",
        by: super::By::Ours("limits::within: header_size"),
        sent: || head_with(70_000),
        streams: &[(1, Answer(431))],
        has: &[("portolan-reason", "HeadersTooLarge")],
        ..BASE
    },
    Case {
        name: "an oversized head",
        clause: "RFC 9113 §10.5.1",
        sent: || head_with(170_000),
        streams: &[(1, Answer(431))],
        lacks: &["portolan-reason"],
        ..BASE
    },
];

/// A head with a field of so many bytes, over as many frames as it takes.
fn head_with(bytes: usize) -> Vec<u8> {
    let all = block(&fields(&[("x", &"y".repeat(bytes))]));
    let mut pieces = all.chunks(1 << 14);
    let mut sent = frame(HEADERS, END_STREAM, 1, pieces.next().unwrap());
    let rest: Vec<&[u8]> = pieces.collect();
    for (at, piece) in rest.iter().enumerate() {
        let last = if at + 1 == rest.len() { END_HEADERS } else { 0 };
        sent.extend(frame(CONTINUATION, last, 1, piece));
    }
    sent
}
