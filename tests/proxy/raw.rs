//! What the raw cases of h1 and h2 share: who decides, and what the endpoint must have received.

use crate::support::recorder::{Received, Recorder};

/// Who decides it: Portolan, at the place named, or the library below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Ours(&'static str),
    Library,
}

pub enum Seen {
    Nothing,
    Requests(&'static [Request]),
    /// One request whose end never comes.
    Cut,
    /// Nothing, or the beginning of a request: whichever came first, its head or its end.
    NothingWhole,
    /// These alone are whole.
    Whole(&'static [Request]),
    /// Plain requests with these request lines, in whatever order.
    Any(&'static [&'static str]),
}

/// A request as the endpoint must have received it.
pub struct Request {
    pub line: &'static str,
    pub has: &'static [&'static str],
    pub lacks: &'static [&'static str],
    pub body: &'static str,
    pub trailers: &'static [&'static str],
}

pub const GET: Request = Request { line: "GET / HTTP/1.1", has: &[], lacks: &[], body: "", trailers: &[] };
pub const POST: Request = Request { line: "POST / HTTP/1.1", ..GET };

/// The end of a case: what was answered, that the proxy answered afterwards, and what the endpoint received.
pub fn conclude(
    seen: &Seen,
    recorder: &Recorder,
    answered: Result<(), String>,
    after: Result<(), String>,
) -> Result<(), String> {
    let received = recorder.take();
    answered.map_err(|why| format!("{why}; the endpoint received {received:#?}"))?;
    after.map_err(|why| format!("afterwards: {why}"))?;
    compare(seen, &received)
}

/// All that failed at once.
pub fn report(cases: usize, failures: &[String]) {
    assert!(failures.is_empty(), "{} of {cases} cases:\n{}", failures.len(), failures.join("\n"));
}

/// What the endpoint received is what the case says, and nothing besides.
fn compare(seen: &Seen, received: &[Received]) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}; the endpoint received {received:#?}"));
    if received.iter().any(|request| request.fault.is_some()) {
        return wrong("a request that could be read in two ways");
    }
    let whole: Vec<Received>;
    let mut received = received;
    let expected = match seen {
        Seen::Nothing => &[][..],
        Seen::Requests(expected) => expected,
        Seen::Whole(expected) => {
            whole = received.iter().filter(|request| !request.cut).cloned().collect();
            received = &whole;
            expected
        }
        Seen::Any(lines) => {
            let mut lines = lines.to_vec();
            let mut got: Vec<&str> = received.iter().filter(|r| !r.cut).map(|request| request.line.as_str()).collect();
            lines.sort_unstable();
            got.sort_unstable();
            return if lines == got { Ok(()) } else { wrong(&format!("{lines:?} expected")) };
        }
        Seen::NothingWhole => {
            let none = received.iter().all(|request| request.cut);
            return if none { Ok(()) } else { wrong("no whole request was expected") };
        }
        Seen::Cut => {
            let cut = received.len() == 1 && received[0].cut;
            return if cut { Ok(()) } else { wrong("one request whose end never comes was expected") };
        }
    };
    if received.len() != expected.len() || received.iter().any(|request| request.cut) {
        return wrong(&format!("{} requests expected", expected.len()));
    }
    for (want, got) in expected.iter().zip(received) {
        if got.line != want.line || got.body != want.body.as_bytes() || got.trailers != want.trailers {
            return wrong(&format!(
                "{:?} with body {:?} and trailers {:?} expected",
                want.line, want.body, want.trailers
            ));
        }
        for line in want.has {
            if !got.headers.iter().any(|header| header == line) {
                return wrong(&format!("{line:?} expected"));
            }
        }
        for name in want.lacks {
            if !got.all(name).is_empty() {
                return wrong(&format!("{name} should have ended at the proxy"));
            }
        }
    }
    Ok(())
}
