//! HTTP/2 frame by frame (RFC 9113): what clients send that others get wrong, and what h1 endpoints answer to it.
//!
//! ```text
//! Case.sent ─▶ proxy ─▶ Recorder (one request, in one framing, or none) ─▶ Case.reply ─▶ proxy ─▶ Case.streams
//! ```
//! The cases are data, in `heads`, `protocol` and `answers`. After each the connection is used once more, or has ended
//! with the error that the case names.

mod answers;
mod heads;
mod protocol;

use serde_json::json;

use super::raw::{By, GET, POST, Request, Seen, conclude, report};
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Stream, frame};
use crate::support::hpack::block;
use crate::support::portolan::Portolan;
use crate::support::recorder::{OK, Recorder, Reply, SENTINEL};
use crate::support::tls::Client;
use crate::support::wait::eventually;

/// One exchange.
struct Case {
    name: &'static str,
    clause: &'static str,
    by: By,
    /// What follows the preface and the settings.
    sent: fn() -> Vec<u8>,
    /// Without preface and settings: what is sent stands alone.
    bare: bool,
    streams: &'static [(u32, Outcome)],
    then: Then,
    seen: Seen,
    reply: &'static [u8],
    reply_closes: bool,
    /// Fields that the answer on the last stream has, and names that it has not.
    has: &'static [(&'static str, &'static str)],
    lacks: &'static [&'static str],
    body: Option<&'static str>,
    trailers: &'static [(&'static str, &'static str)],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answer(u16),
    /// The stream ends with this error.
    Reset(u32),
    /// An answer's head comes, and then the stream ends with an error.
    Cut(u16),
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next request on it is answered.
    Open,
    /// GOAWAY with this error, and its end.
    Gone(u32),
    /// Its end, with whichever error: the library says PROTOCOL_ERROR where the clause has another one.
    Closed,
    /// Not looked at.
    Left,
}

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

const BASE: Case = Case {
    name: "",
    clause: "",
    by: By::Library,
    sent: Vec::new,
    bare: false,
    streams: &[],
    then: Then::Open,
    seen: Seen::Nothing,
    reply: OK,
    reply_closes: false,
    has: &[],
    lacks: &[],
    body: None,
    trailers: &[],
};
/// Goes through: one request in, one out, one answer, and the connection goes on.
const PASSES: Case = Case { streams: &[(1, Outcome::Answer(200))], seen: Seen::Requests(&[GET]), ..BASE };
/// Portolan refuses it; the endpoint hears nothing.
const MALFORMED: Case =
    Case { streams: &[(1, Outcome::Answer(400))], has: &[("portolan-reason", "Malformed")], ..BASE };
/// The library refuses the request; the endpoint hears nothing, other streams go on.
const RESET: Case = Case { streams: &[(1, Outcome::Reset(PROTOCOL_ERROR))], ..BASE };
/// The library refuses the connection.
const GONE: Case = Case { then: Then::Gone(PROTOCOL_ERROR), ..BASE };

const HOST: &str = "raw.test";
const LAST: u32 = 4001;

/// A head's fields: those of a plain GET, with these in place of the ones of their names, or after them.
fn fields<'f>(over: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let plain = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/")];
    let mut all: Vec<(&str, &str)> = plain
        .into_iter()
        .map(|(name, value)| *over.iter().find(|(of, _)| *of == name).unwrap_or(&(name, value)))
        .collect();
    all.extend(over.iter().filter(|(name, _)| plain.iter().all(|(of, _)| of != name)));
    all
}

fn head(id: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, id, &block(fields))
}

/// A request without a body.
fn get(id: u32, over: &[(&str, &str)]) -> Vec<u8> {
    head(id, END_STREAM, &fields(over))
}

/// A request with a body to come.
fn post(id: u32, over: &[(&str, &str)]) -> Vec<u8> {
    head(id, 0, &fields(&[&[(":method", "POST")], over].concat()))
}

fn data(id: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, id, bytes)
}

#[test]
fn heads_make_one_request_or_none() {
    run(heads::CASES);
}

#[test]
fn frames_out_of_place_make_none() {
    run(protocol::CASES);
}

#[test]
fn answers_are_one_or_an_error() {
    run(answers::CASES);
}

#[test]
fn there_are_enough_cases_and_each_is_documented() {
    let all: Vec<&Case> = heads::CASES.iter().chain(protocol::CASES).chain(answers::CASES).collect();
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

fn run(cases: &[Case]) {
    let recorder = Recorder::start();
    let portolan = Portolan::serving(json!({
        "workers": 1,
        "routes": {
            "s": { "host": HOST },
            "admin": { "host": HOST, "path": "/admin", "service": "none" },
        },
        "services": {
            // One out for one in: what is sent again on purpose has its own tests.
            "s": { "endpoints": [recorder.url()], "retry": { "attempts": 1 } },
            "none": { "endpoints": [crate::support::backend::nobody()] },
        },
    }));
    let client = Client::trusting(&portolan.root()).alpn(&[b"h2"]);
    let connect = || client.connect(portolan.https, HOST).unwrap();
    let mut failures = Vec::new();
    for case in cases {
        let frames = if case.bare { Frames::unopened(connect()) } else { Frames::over(connect()) };
        if let Err(why) = check(case, &recorder, frames, || Frames::over(connect())) {
            failures.push(format!("{} ({}, {:?}): {why}", case.name, case.clause, case.by));
        }
    }
    report(cases.len(), &failures);
}

fn check(case: &Case, recorder: &Recorder, mut frames: Frames, again: impl Fn() -> Frames) -> Result<(), String> {
    recorder.reply_with(Reply { bytes: case.reply, early: false, then_close: case.reply_closes });
    frames.send(&(case.sent)());
    let answered = outcomes(case, &mut frames);
    if matches!(case.seen, Seen::Cut) {
        eventually(case.name, || Some(recorder.received()).filter(|all| !all.is_empty()).ok_or("nothing yet"));
    }
    // Over a connection of its own, so that whatever the case's brought about has happened by now.
    let after = sentinel(&mut again());
    conclude(&case.seen, recorder, answered, after)
}

fn outcomes(case: &Case, frames: &mut Frames) -> Result<(), String> {
    let mut last = Stream::default();
    for (id, outcome) in case.streams {
        last = frames.finish(*id).map_err(|e| format!("stream {id}: {e} after {:?}", frames.stream(*id)))?;
        let seen = match (last.status(), last.reset) {
            (Some(status), None) if last.ended => Some(Outcome::Answer(status)),
            (Some(status), Some(_)) => Some(Outcome::Cut(status)),
            (None, Some(code)) => Some(Outcome::Reset(code)),
            _ => None,
        };
        if seen != Some(*outcome) {
            return Err(format!("{outcome:?} expected of stream {id}: {last:?}, GOAWAY {:?}", frames.gone));
        }
    }
    let lines = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    for (name, value) in case.has {
        if last.field(name) != Some(value) {
            return Err(format!("{name}: {value} expected: {last:?}"));
        }
    }
    for name in case.lacks {
        if last.field(name).is_some() {
            return Err(format!("{name} in {last:?}"));
        }
    }
    if case.body.is_some_and(|body| body.as_bytes() != last.body) || last.trailers != lines(case.trailers) {
        return Err(format!("body {:?} and trailers {:?} expected: {last:?}", case.body, case.trailers));
    }
    match case.then {
        Then::Open => sentinel(frames).map_err(|why| format!("on the same connection: {why}")),
        Then::Gone(code) => {
            frames.end().map_err(|e| format!("the connection does not end: {e}"))?;
            let right = frames.gone == Some(code);
            if right { Ok(()) } else { Err(format!("GOAWAY {code} expected, not {:?}", frames.gone)) }
        }
        Then::Left => Ok(()),
        Then::Closed => frames.end().map_err(|e| format!("the connection does not end: {e}")),
    }
}

/// The connection is as alive as the proxy believes.
fn sentinel(frames: &mut Frames) -> Result<(), String> {
    frames.send(&get(LAST, &[(":path", SENTINEL)]));
    let answer = frames.finish(LAST).map_err(|e| e.to_string())?;
    let right = answer.status() == Some(200) && answer.body == b"sentinel" && answer.ended;
    if right { Ok(()) } else { Err(format!("{answer:?}, GOAWAY {:?}, closed: {}", frames.gone, frames.closed)) }
}
