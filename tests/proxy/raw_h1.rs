//! HTTP/1.1 byte by byte (RFC 9112): what clients and endpoints send that others get wrong.
//!
//! ```text
//! Case.sent ─▶ proxy ─▶ Recorder (one request, in one framing, or none) ─▶ Case.reply ─▶ proxy ─▶ Case.answers
//! ```
//! The cases are data, in `requests` and `answers`. After each the connection is used once more, or is closed: bytes
//! that one side took for the rest of a message and the other for the next one would show there.

mod answers;
mod requests;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use super::raw::{By, GET, POST, Request, Seen, conclude, report};
use crate::support::portolan::Portolan;
use crate::support::recorder::{OK, Recorder, Reply, SENTINEL};
use crate::support::wait::eventually;
use crate::support::wire::{Chunks, Wire, lossy, lowered};

/// One exchange.
struct Case {
    name: &'static str,
    clause: &'static str,
    by: By,
    sent: Sent,
    /// Status codes, in their order; interim ones are not counted.
    answers: &'static [u16],
    /// `portolan-reason` of the last answer; empty: not looked at.
    reason: &'static str,
    then: Then,
    seen: Seen,
    reply: &'static [u8],
    reply_early: bool,
    reply_closes: bool,
    /// `name: value` lines that the last answer has, and names that it has not.
    has: &'static [&'static str],
    lacks: &'static [&'static str],
    /// The last answer's body, where it matters.
    body: Option<&'static str>,
    /// The last answer's trailers.
    trailers: &'static [&'static str],
    underscores: &'static str,
}

enum Sent {
    Bytes(&'static [u8]),
    Made(fn() -> Vec<u8>),
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next request on it is answered.
    Open,
    Closed,
    /// It ends within the last answer.
    Cut,
    /// The client ends it, in the middle of its request.
    Left,
}

const BASE: Case = Case {
    name: "",
    clause: "",
    by: By::Library,
    sent: Sent::Bytes(b""),
    answers: &[],
    reason: "",
    then: Then::Open,
    seen: Seen::Nothing,
    reply: OK,
    reply_early: false,
    reply_closes: false,
    has: &[],
    lacks: &[],
    body: None,
    trailers: &[],
    underscores: "drop",
};
/// Goes through: one request in, one out, one answer, and the connection goes on.
const PASSES: Case = Case { answers: &[200], seen: Seen::Requests(&[GET]), ..BASE };
/// The library refuses it; the endpoint hears nothing.
const REFUSED: Case = Case { answers: &[400], then: Then::Closed, ..BASE };
/// Portolan refuses it; the endpoint hears nothing.
const MALFORMED: Case = Case { reason: "Malformed", ..REFUSED };
/// The endpoint's answer is not passed on.
const BAD_ANSWER: Case = Case { answers: &[502], seen: Seen::Requests(&[GET]), sent: PLAIN_GET, ..BASE };
const PLAIN_GET: Sent = Sent::Bytes(b"GET / HTTP/1.1\r\nHost: raw.test\r\n\r\n");

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    trailers: Vec<String>,
    whole: bool,
}

#[test]
fn requests_are_one_or_none() {
    run(requests::CASES);
}

#[test]
fn answers_are_one_or_an_error() {
    run(answers::CASES);
}

#[test]
fn there_are_enough_cases_and_each_is_documented() {
    let all: Vec<&Case> = requests::CASES.iter().chain(answers::CASES).collect();
    let ours = all.iter().filter(|case| matches!(case.by, By::Ours(_))).count();
    assert!(all.len() >= 60 && ours >= 30, "{} cases, {ours} ours", all.len());
    let mut names: Vec<&str> = all.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "a name is used twice");
    for case in &all {
        assert!(case.clause.starts_with("RFC "), "{}: {}", case.name, case.clause);
    }
}

fn start(recorder: &Recorder, underscores: &str) -> Portolan {
    Portolan::serving(json!({
        "workers": 1,
        "listeners": { "plain": { "underscore_headers": underscores } },
        "routes": {
            "s": { "host": "raw.test", "listeners": ["plain"] },
            "admin": { "host": "raw.test", "path": "/admin", "listeners": ["plain"], "service": "none" },
        },
        "services": {
            // One out for one in: what is sent again on purpose has its own tests.
            "s": { "endpoints": [recorder.url()], "retry": { "attempts": 1 } },
            "none": { "endpoints": [crate::support::backend::nobody()] },
        },
    }))
}

fn run(cases: &[Case]) {
    let mut failures = Vec::new();
    let mut policies: Vec<&str> = cases.iter().map(|case| case.underscores).collect();
    policies.sort_unstable();
    policies.dedup();
    for policy in policies {
        let recorder = Recorder::start();
        let portolan = start(&recorder, policy);
        for case in cases.iter().filter(|case| case.underscores == policy) {
            if let Err(why) = check(case, &recorder, portolan.plain) {
                failures.push(format!("{} ({}, {:?}): {why}", case.name, case.clause, case.by));
            }
        }
    }
    report(cases.len(), &failures);
}

fn check(case: &Case, recorder: &Recorder, to: SocketAddr) -> Result<(), String> {
    recorder.reply_with(Reply { bytes: case.reply, early: case.reply_early, then_close: case.reply_closes });
    let made;
    let sent = match case.sent {
        Sent::Bytes(bytes) => bytes,
        Sent::Made(make) => {
            made = make();
            &made
        }
    };
    let answered = ask(case, sent, to);
    // Over a connection of its own, so that whatever the case's brought about has happened by now.
    let after = sentinel(&mut Wire::new(connect(to).map_err(|e| e.to_string())?));
    if matches!(case.seen, Seen::Cut) {
        eventually(case.name, || Some(recorder.received()).filter(|all| !all.is_empty()).ok_or("nothing yet"));
    }
    conclude(&case.seen, recorder, answered, after)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn ask(case: &Case, sent: &[u8], to: SocketAddr) -> Result<(), String> {
    let mut wire = Wire::new(connect(to).map_err(|e| e.to_string())?);
    // A refusal may come before all is sent.
    let written = wire.stream.write_all(sent);
    let mut last = Answer::default();
    for (at, status) in case.answers.iter().enumerate() {
        last = read_answer(&mut wire, sent.starts_with(b"HEAD ")).map_err(|e| {
            format!("answer {at} of {:?}: {e} ({written:?}) after {:?}", case.answers, lossy(&wire.buffer))
        })?;
        if last.status != *status {
            return Err(format!("{status} expected: {last:?}"));
        }
    }
    for line in case.has {
        if !last.headers.iter().any(|header| header == line) {
            return Err(format!("no {line:?} in {last:?}"));
        }
    }
    for name in case.lacks {
        if last.header(name).is_some() {
            return Err(format!("{name} in {last:?}"));
        }
    }
    if !case.reason.is_empty() && last.header("portolan-reason") != Some(case.reason) {
        return Err(format!("the reason {:?} expected: {last:?}", case.reason));
    }
    if case.body.is_some_and(|body| body.as_bytes() != last.body) || last.trailers != case.trailers {
        return Err(format!("body {:?} and trailers {:?} expected: {last:?}", case.body, case.trailers));
    }
    if !case.answers.is_empty() && last.whole == (case.then == Then::Cut) {
        return Err(format!("{:?}, but {last:?}", case.then));
    }
    if case.then == Then::Left {
        return Ok(());
    }
    if case.then == Then::Open {
        return sentinel(&mut wire).map_err(|why| format!("on the same connection: {why}"));
    }
    wire.rest().map_err(|e| format!("the connection does not end: {e}"))?;
    if wire.buffer.is_empty() { Ok(()) } else { Err(format!("after the last answer came {:?}", lossy(&wire.buffer))) }
}

/// The connection is where both sides think it is.
fn sentinel(wire: &mut Wire<TcpStream>) -> Result<(), String> {
    if !wire.buffer.is_empty() {
        return Err(format!("nobody asked for {:?}", lossy(&wire.buffer)));
    }
    let request = format!("GET {SENTINEL} HTTP/1.1\r\nHost: raw.test\r\nConnection: close\r\n\r\n");
    wire.stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let answer = read_answer(wire, false).map_err(|e| format!("{e} after {:?}", lossy(&wire.buffer)))?;
    let right = answer.status == 200 && answer.body == b"sentinel" && wire.buffer.is_empty();
    if right { Ok(()) } else { Err(format!("{answer:?} and {:?}", lossy(&wire.buffer))) }
}

/// One final answer; an error where there is no head, and one that is not whole where it ends too early.
fn read_answer(wire: &mut Wire<TcpStream>, to_head: bool) -> io::Result<Answer> {
    let mut answer = Answer::default();
    while answer.status < 200 {
        let head = wire.until(b"\r\n\r\n")?;
        let head = lossy(&head[..head.len() - 4]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default().split(' ').nth(1).and_then(|status| status.parse().ok());
        answer.status = status.ok_or_else(|| io::Error::other(format!("no status line: {head:?}")))?;
        answer.headers = lines.map(lowered).collect();
        if answer.status < 200 && answer.status != 100 {
            return Err(io::Error::other(format!("an interim answer that is not passed on: {head:?}")));
        }
    }
    let length = answer.header("content-length").map(|length| length.parse().map_err(io::Error::other)).transpose()?;
    let chunked = answer.header("transfer-encoding").is_some();
    let read = match (chunked, length) {
        _ if to_head || matches!(answer.status, 204 | 304) => Ok(()),
        (true, Some(_)) => return Err(io::Error::other("an answer in two framings")),
        (true, None) => {
            let mut chunks = Chunks::default();
            let read = wire.chunks(&mut chunks);
            (answer.body, answer.trailers) = (chunks.body, chunks.trailers);
            read
        }
        (false, Some(length)) => wire.exactly(length, &mut answer.body),
        (false, None) => {
            let read = wire.rest();
            answer.body = std::mem::take(&mut wire.buffer);
            read
        }
    };
    answer.whole = read.is_ok();
    Ok(answer)
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
