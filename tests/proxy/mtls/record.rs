//! What other proxies let through, as a table: each row is somebody's real fault. curl asks, over h1 and over h2.

use serde_json::json;

use super::{Pki, Stage};
use crate::support::pki::Pair;

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
    row("a policy and a listener without TLS", "http://a.test/", &[Nothing]),
];

const fn row(fault: &'static str, url: &'static str, shown: &'static [Shown]) -> Row {
    Row { fault, url, host: None, shown }
}

const fn as_host(fault: &'static str, url: &'static str, host: &'static str, shown: &'static [Shown]) -> Row {
    Row { fault, url, host: Some(host), shown }
}

#[test]
fn nothing_that_others_let_through_reaches_an_endpoint() {
    let pki = Pki::new();
    let dir = pki.dir.path();
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    std::fs::write(dir.join("garbage.pem"), "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
        .unwrap();
    let admin = pki.a.issue("admin", "DNS:admin.example");
    let longer = pki.a.issue("admin.example", "DNS:admin.example.evil.example");
    let prefixed = pki.a.issue("prefixed", "DNS:xadmin.example");
    let routes = [
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
    let policies = json!({
        "a": { "mode": "require", "trust": ["a"] },
        "b": { "mode": "require", "trust": ["b"] },
        "missing": { "mode": "require", "trust": ["missing"] },
        "empty": { "mode": "require", "trust": ["empty"] },
        "garbage": { "mode": "require", "trust": ["garbage"] },
        "any": { "mode": "require_any", "trust": ["a"], "allow": [{ "dns": "web.example" }] },
        "admin": { "mode": "require", "trust": ["a"], "allow": [{ "dns": "admin.example" }] },
    });
    let file = |name: &str| json!({ "file": dir.join(name) });
    let bundles = json!({ "missing": file("missing.pem"), "empty": file("empty.pem"), "garbage": file("garbage.pem") });
    let stage = Stage::start(&pki, &routes, policies, json!({ "trust_bundles": bundles }));
    let pair = |shown: Shown| -> Option<&Pair> {
        match shown {
            Nothing => None,
            Web => Some(&pki.web),
            OtherCa => Some(&pki.other),
            UnknownCa => Some(&pki.unknown),
            Longer => Some(&longer),
            Prefixed => Some(&prefixed),
        }
    };

    // Whoever may comes in, so that a row below can fail.
    for (url, client) in [
        ("https://a.test/", &pki.web),
        ("https://b.test/", &pki.other),
        ("https://x.wild.test/", &pki.web),
        ("https://admin.test/", &admin),
        ("https://path.test/secure", &pki.web),
    ] {
        for version in ["--http1.1", "--http2"] {
            let answer = stage.curl(Some(client), url, &[version]).unwrap();
            assert_eq!(answer.status, 200, "{url} {version}: {answer:?}");
        }
    }
    let before = stage.backend.received().len();
    for Row { fault, url, host, shown } in ROWS {
        for (shown, version) in shown.iter().flat_map(|shown| [(*shown, "--http1.1"), (*shown, "--http2")]) {
            let plain = url.starts_with("http://");
            let header = host.map(|host| format!("Host: {host}"));
            let mut options = vec![version, "--path-as-is"];
            options.extend(header.iter().flat_map(|header| ["--header", header]));
            let answer = match plain {
                // Over h2 in the clear it takes the client's word for it.
                true if version == "--http2" => continue,
                true => crate::support::http::curl(url, stage.portolan.plain, None, &options),
                false => stage.curl(pair(shown), url, &options),
            };
            // No answer is the handshake's refusal.
            let refused = answer.as_ref().map_or(true, |answer| matches!(answer.status, 400 | 403 | 404 | 421 | 503));
            assert!(refused, "{fault}: {shown:?} {version} {answer:?}");
        }
    }
    let reached = stage.backend.received().split_off(before);
    assert!(reached.is_empty(), "{reached:?}");
}
