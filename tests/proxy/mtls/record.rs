//! What other proxies let through, as a table: each row is somebody's real fault. curl asks, over h1 and over h2.

use serde_json::{Value, json};

use super::{Pki, Stage};
use crate::support::http::{Answer, Failure};
use crate::support::pki::Pair;

/// Hosts, or hosts and paths, with the policy of each.
pub const ROUTES: [(&str, Option<&str>); 12] = [
    ("open.test", None),
    ("a.test", Some("a")),
    ("b.test", Some("b")),
    ("*.wild.test", Some("a")),
    ("missing.test", Some("missing")),
    ("empty.test", Some("empty")),
    ("garbage.test", Some("garbage")),
    ("any.test", Some("any")),
    ("admin.test", Some("admin")),
    ("undefined.test", Some("undefined")),
    ("path.test", None),
    ("path.test/secure", Some("a")),
];

pub const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n";

/// Those that the routes name, but for one that nobody has defined. Their bundles are called `a`, `b`, `missing` (there is
/// none), `empty` and `garbage`.
pub fn policies() -> Value {
    json!({
        "a": { "mode": "require", "trust": ["a"] },
        "b": { "mode": "require", "trust": ["b"] },
        "missing": { "mode": "require", "trust": ["missing"] },
        "empty": { "mode": "require", "trust": ["empty"] },
        "garbage": { "mode": "require", "trust": ["garbage"] },
        "any": { "mode": "require_any", "trust": ["a"], "allow": [{ "dns": "web.example" }] },
        "admin": { "mode": "require", "trust": ["a"], "allow": [{ "dns": "admin.example" }] },
    })
}

/// Whose certificate is shown.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Nothing,
    Web,
    OtherCa,
    UnknownCa,
    /// `admin.example.evil.example`, with the common name `admin.example`.
    Longer,
    /// `xadmin.example`.
    Prefixed,
}

use Shown::{Longer, Nothing, OtherCa, Prefixed, UnknownCa, Web};

/// What is asked, by whom, under which name in the request where that is another than in the handshake.
struct Row {
    fault: &'static str,
    url: &'static str,
    host: Option<&'static str>,
    shown: &'static [Shown],
}

const ROWS: &[Row] = &[
    row("no certificate, or one of nobody's CA", "https://a.test/", &[Nothing, UnknownCa]),
    row("names in another case, with a trailing dot (GHSA-9cr8)", "https://A.TeSt./", &[Nothing, OtherCa]),
    row("a policy on a wildcard alone", "https://x.wild.test/", &[Nothing, UnknownCa]),
    row("two CAs, two hosts", "https://a.test/", &[OtherCa]),
    row("two CAs, two hosts, the other way round", "https://b.test/", &[Web]),
    as_host("the name of an open host in the handshake (GHSA-5r4w)", "https://open.test/", "a.test", &[Nothing, Web]),
    as_host("the same in another spelling", "https://open.test/", "A.test.", &[Nothing, Web]),
    as_host("no name in the handshake", "https://127.0.0.1/", "a.test", &[Nothing, Web]),
    as_host("a name that nobody has", "https://open.test/", "a.test:443", &[Nothing]),
    as_host("the CA of another host on the same connection", "https://b.test/", "a.test", &[OtherCa]),
    row("no CA file (GEP-91)", "https://missing.test/", &[Nothing, Web]),
    row("an empty CA file", "https://empty.test/", &[Nothing, Web]),
    row("a CA file of garbage", "https://garbage.test/", &[Nothing, Web]),
    row(
        "a certificate that nobody verified decides who may (E PR#9936)",
        "https://any.test/",
        &[Nothing, Web, UnknownCa],
    ),
    row("names that are not anchored (N#8582)", "https://admin.test/", &[Nothing, Web, Longer, Prefixed]),
    row("a policy that nobody has defined", "https://undefined.test/", &[Nothing, Web]),
    row("a path with a policy, spelt in another way", "https://path.test/%73ecure", &[Nothing]),
    row("the same behind a dot segment", "https://path.test/open/../secure", &[Nothing]),
    row("the same with an empty segment", "https://path.test//secure", &[Nothing]),
    row("the same with a parameter", "https://path.test/secure;x/", &[Nothing]),
    row("the same with a slash that is encoded", "https://path.test/secure%2f..%2fsecure/x", &[Nothing]),
];

const fn row(fault: &'static str, url: &'static str, shown: &'static [Shown]) -> Row {
    Row { fault, url, host: None, shown }
}

const fn as_host(fault: &'static str, url: &'static str, host: &'static str, shown: &'static [Shown]) -> Row {
    Row { fault, url, host: Some(host), shown }
}

/// Those that may, each at the host that it may come in at.
pub struct Clients {
    pub pki: Pki,
    admin: Pair,
    longer: Pair,
    prefixed: Pair,
}

impl Clients {
    pub fn new() -> Clients {
        let pki = Pki::new();
        Clients {
            admin: pki.a.issue("admin", "DNS:admin.example"),
            longer: pki.a.issue("admin.example", "DNS:admin.example.evil.example"),
            prefixed: pki.a.issue("prefixed", "DNS:xadmin.example"),
            pki,
        }
    }

    fn pair(&self, shown: Shown) -> Option<&Pair> {
        match shown {
            Nothing => None,
            Web => Some(&self.pki.web),
            OtherCa => Some(&self.pki.other),
            UnknownCa => Some(&self.pki.unknown),
            Longer => Some(&self.longer),
            Prefixed => Some(&self.prefixed),
        }
    }

    /// Whoever may comes in, so that a row of [`Clients::are_refused`] can fail. `ask` is told who shows what.
    pub fn come_in(&self, ask: impl Fn(Option<&Pair>, &str, &[&str]) -> Result<Answer, Failure>) {
        for (url, client) in [
            ("https://a.test/", &self.pki.web),
            ("https://b.test/", &self.pki.other),
            ("https://x.wild.test/", &self.pki.web),
            ("https://admin.test/", &self.admin),
            ("https://path.test/secure", &self.pki.web),
            ("https://path.test/", &self.pki.other),
        ] {
            for version in ["--http1.1", "--http2"] {
                let answer = ask(Some(client), url, &[version]).unwrap();
                assert_eq!(answer.status, 200, "{url} {version}: {answer:?}");
            }
        }
    }

    /// Every row over TLS; how many requests that were.
    pub fn are_refused(&self, ask: impl Fn(Option<&Pair>, &str, &[&str]) -> Result<Answer, Failure>) -> usize {
        let mut asked = 0;
        for Row { fault, url, host, shown } in ROWS {
            for (shown, version) in shown.iter().flat_map(|shown| [(*shown, "--http1.1"), (*shown, "--http2")]) {
                let header = host.map(|host| format!("Host: {host}"));
                let mut options = vec![version, "--path-as-is"];
                options.extend(header.iter().flat_map(|header| ["--header", header]));
                refused(&format!("{fault}: {shown:?} {version}"), ask(self.pair(shown), url, &options));
                asked += 1;
            }
        }
        asked
    }
}

/// No answer is the handshake's refusal.
fn refused(what: &str, answer: Result<Answer, Failure>) {
    let refused = answer.as_ref().map_or(true, |answer| matches!(answer.status, 400 | 403 | 404 | 421 | 503));
    assert!(refused, "{what} {answer:?}");
}

#[test]
fn nothing_that_others_let_through_reaches_an_endpoint() {
    let clients = Clients::new();
    let dir = clients.pki.dir.path();
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    std::fs::write(dir.join("garbage.pem"), GARBAGE).unwrap();
    let file = |name: &str| json!({ "file": dir.join(name) });
    let bundles = json!({ "missing": file("missing.pem"), "empty": file("empty.pem"), "garbage": file("garbage.pem") });
    let stage = Stage::start(&clients.pki, &ROUTES, policies(), json!({ "trust_bundles": bundles }));
    let ask = |pair: Option<&Pair>, url: &str, options: &[&str]| stage.curl(pair, url, options);

    clients.come_in(ask);
    let before = stage.backend.received().len();
    assert!(clients.are_refused(ask) > 50);
    let plain = crate::support::http::curl("http://a.test/", stage.portolan.plain, None, &["--http1.1"]);
    refused("a policy and a listener without TLS", plain);
    let reached = stage.backend.received().split_off(before);
    assert!(reached.is_empty(), "{reached:?}");
}
