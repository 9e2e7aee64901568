//! The table of modes, what is allowed, and how a handshake that is refused says so.

use std::io::{Read, Write};
use std::time::Duration;

use rustls::AlertDescription;
use serde_json::json;

use super::{Pki, Stage, alert, get, path};
use crate::support::pki::Pair;
use crate::support::{output_of, run};

const MODES: [&str; 5] = ["off", "request", "require_any", "verify_if_given", "require"];

fn host(mode: &str) -> String {
    format!("{}.test", mode.replace('_', "-"))
}

/// One host a mode; `allow` where it may stand. With `ask`, no handshake refuses.
fn start(pki: &Pki, ask: bool) -> Stage {
    let mut policies = json!({});
    let hosts = MODES.map(host);
    for mode in MODES {
        policies[mode] = json!({ "mode": mode, "handshake": if ask { "ask" } else { "refuse" } });
        if matches!(mode, "verify_if_given" | "require") {
            policies[mode]["trust"] = json!(["a"]);
            policies[mode]["allow"] = json!([{ "dns": "web.example" }]);
        }
    }
    let routes: Vec<(&str, Option<&str>)> =
        hosts.iter().zip(MODES).map(|(host, mode)| (host.as_str(), Some(mode))).collect();
    Stage::start(pki, &routes, policies, json!({}))
}

/// No certificate, one that cannot be verified, one that is not allowed, one that is.
const TABLE: [(&str, [u16; 4]); 5] = [
    ("off", [200, 200, 200, 200]),
    ("request", [200, 200, 200, 200]),
    ("require_any", [403, 200, 200, 200]),
    ("verify_if_given", [200, 403, 403, 200]),
    ("require", [403, 403, 403, 200]),
];

fn reason(column: usize) -> &'static str {
    ["CertificateRequired", "CertificateUnverified", "CertificateNotAllowed", ""][column]
}

#[test]
fn every_mode_does_what_its_row_says_over_h1_and_h2() {
    let pki = Pki::new();
    let stage = start(&pki, true);
    let clients: [Option<&Pair>; 4] = [None, Some(&pki.unknown), Some(&pki.db), Some(&pki.web)];
    for (mode, row) in TABLE {
        for (column, (client, expected)) in clients.into_iter().zip(row).enumerate() {
            let host = host(mode);
            let what = format!("{mode}, column {column}");
            assert_eq!(stage.ask(client, &host, "/"), Ok(expected), "{what}, h1");
            let mut h2 = stage.h2(client, &host);
            let stream = h2.get(&host, "/");
            assert_eq!(h2.answer(stream).0, expected.to_string(), "{what}, h2");
            // And by somebody else's TLS.
            let option = if column % 2 == 0 { "--http1.1" } else { "--http2" };
            let answer = stage.curl(client, &format!("https://{host}/"), &[option]).unwrap();
            assert_eq!(answer.status, expected, "{what}, curl {option}");
            assert_eq!(answer.reason(), (expected == 403).then(|| reason(column)), "{what}");
        }
    }
}

/// In TLS 1.3 the client's request comes along with the certificate that is refused. The socket used to end with a reset.
#[test]
fn a_refused_client_that_has_sent_its_request_hears_why() {
    let pki = Pki::new();
    let stage = start(&pki, false);
    let strict = host("require");
    let request = super::get(&strict, "/");
    for (client, expected) in
        [(None, AlertDescription::CertificateRequired), (Some(&pki.unknown), AlertDescription::UnknownCA)]
    {
        let client = stage.client(client).saying_at_once(&request.repeat(500).into_bytes());
        let mut session = client.connect(stage.portolan.https, &strict).unwrap();
        // By when a reset would be there.
        std::thread::sleep(Duration::from_millis(200));
        session.write_all(request.as_bytes()).unwrap();
        let error = session.read(&mut [0]).unwrap_err();
        assert_eq!(super::alert(&error), Some(expected), "{error}");
    }
}

#[test]
fn where_every_route_requires_a_certificate_the_handshake_refuses_already() {
    let pki = Pki::new();
    let stage = start(&pki, false);
    let strict = host("require");
    for (client, expected) in [
        (None, Err(Some(AlertDescription::CertificateRequired))),
        (Some(&pki.unknown), Err(Some(AlertDescription::UnknownCA))),
        (Some(&pki.other), Err(Some(AlertDescription::UnknownCA))),
        (Some(&pki.db), Ok(403)),
        (Some(&pki.web), Ok(200)),
    ] {
        assert_eq!(stage.ask(client, &strict, "/"), expected);
    }
    // The others ask and refuse nobody.
    assert_eq!(stage.ask(None, &host("require_any"), "/"), Ok(403));
    assert_eq!(stage.ask(Some(&pki.unknown), &host("verify_if_given"), "/"), Ok(403));

    let failure = stage.curl(None, &format!("https://{strict}/"), &[]).unwrap_err();
    assert!(matches!(failure.code, 35 | 55 | 56 | 98), "{failure:?}");
    let failure = stage.curl(None, &format!("https://{strict}/"), &["--tls-max", "1.2"]).unwrap_err();
    assert!(failure.message.contains("alert certificate required"), "{failure:?}");
    let said = |options: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-connect", &stage.portolan.https.to_string(), "-servername", &strict]);
        command.args(["-CAfile", &path(&stage.root), "-quiet", "-no_ign_eof"]).args(options);
        command.stdin(std::process::Stdio::null());
        let output = run(&mut command);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let without = said(&["-tls1_2"]);
    assert!(without.contains("alert certificate required"), "{without}");
    let unknown = said(&["-cert", &path(&pki.unknown.cert_file), "-key", &path(&pki.unknown.key_file), "-tls1_2"]);
    assert!(unknown.contains("unknown ca"), "{unknown}");
    assert_eq!(stage.backend.received().len(), 1, "nobody else came through");

    let metrics = stage.portolan.metrics();
    for reason in ["client_certificate_required", "client_certificate_unknown_ca"] {
        let counted = metrics.lines().any(|line| line.contains("handshake") && line.contains(reason));
        assert!(counted, "{reason}: {metrics}");
    }
}

#[test]
fn a_handshake_names_the_cas_whose_certificates_are_wanted() {
    let pki = Pki::new();
    let stage = start(&pki, false);
    let asked = |host: &str| {
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-connect", &stage.portolan.https.to_string(), "-servername", host, "-tls1_2"]);
        let output = run(command.args(["-CAfile", &path(&stage.root)]).stdin(std::process::Stdio::null()));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(
        asked(&host("verify_if_given")).contains("Acceptable client certificate CA names\nCN = a"),
        "{}",
        asked(&host("verify_if_given"))
    );
    let any = asked(&host("require_any"));
    assert!(any.contains("Client Certificate Types") && any.contains("No client certificate CA names sent"), "{any}");
    assert!(asked(&host("off")).contains("No client certificate CA names sent"));
}

#[test]
fn who_was_let_in_stands_in_the_log_and_cannot_be_made_up_in_a_header() {
    let pki = Pki::new();
    let stage = start(&pki, true);
    let forged = [
        "Client-Cert",
        "Client_Cert_Chain",
        "X-Forwarded-Client-Cert",
        "X_Forwarded_Tls_Client_Cert",
        "X-Forwarded-Tls-Client-Cert-Info",
        "Ssl-Client-Verify",
        "X-SSL-Client-CN",
        "X-Client-Cert",
        "SSL_CLIENT_S_DN",
        "X-Client-Verify",
        "X-SSL-CERT",
        "X-ARR-ClientCert",
        "X-Amzn-Mtls-Clientcert-Leaf",
    ];
    let lines: Vec<String> = forged.iter().map(|name| format!("{name}: forged")).collect();
    let mut options: Vec<&str> = lines.iter().flat_map(|line| ["--header", line]).collect();
    for (client, mode) in [(Some(&pki.web), "require"), (None, "verify_if_given"), (None, "off")] {
        stage.curl(client, &format!("https://{}/", host(mode)), &options).unwrap();
    }
    options.push("--http2");
    stage.curl(Some(&pki.web), &format!("https://{}/", host("require")), &options).unwrap();
    let received = stage.backend.received();
    assert_eq!(received.len(), 4);
    for request in &received {
        assert!(request.headers.iter().all(|(_, value)| value != "forged"), "{request:?}");
    }

    let line = stage.portolan.logged(json!({ "host": host("require"), "status": 200 }));
    let client = &line["client_certificate"];
    assert_eq!((&client["subject"], &client["issuer"]), (&json!("CN=web"), &json!("CN=a")), "{line}");
    assert_eq!(client["san"], json!(["DNS:web.example", "URI:spiffe://td.example/ns/shop/sa/web"]), "{line}");
    let printed = output_of(
        std::process::Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-serial", "-in"])
            .arg(&pki.web.cert_file),
    );
    let hex = |text: &str| text.split('=').nth(1).unwrap().replace(':', "").to_lowercase();
    let (serial, fingerprint): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.starts_with("serial"));
    assert_eq!(client["fingerprint"], json!(hex(fingerprint[0])), "{line}");
    assert_eq!(
        client["serial"].as_str().unwrap().trim_start_matches('0'),
        hex(serial[0]).trim_start_matches('0'),
        "{line}"
    );
    let listed: serde_json::Value = serde_json::from_str(&stage.portolan.cli(&["certificates", "-o", "json"])).unwrap();
    let of = |kind: &str| -> Vec<&serde_json::Value> {
        listed.as_array().unwrap().iter().filter(|row| row["kind"] == kind).collect()
    };
    let trusted = of("trusted");
    assert!(
        trusted.iter().any(|row| row["name"] == "CN=a" && row["origin"].as_str().unwrap().contains("require")),
        "{listed}"
    );
    let clients = of("client");
    assert!(clients.iter().any(|row| row["name"] == "CN=web" && row["hosts"][0] == "DNS:web.example"), "{listed}");

    let line = stage.portolan.logged(json!({ "host": host("off"), "status": 200 }));
    assert!(line.get("client_certificate").is_none(), "nobody was verified: {line}");
}

/// CVE-2026-32305: a hello longer than one record, where a client certificate is demanded and where none is.
#[test]
fn a_long_hello_in_many_pieces_is_asked_for_a_certificate_all_the_same() {
    let pki = Pki::new();
    let policies = json!({ "p": { "mode": "require", "trust": ["a"] } });
    let stage = Stage::start(&pki, &[("p.test", Some("p")), ("open.test", None)], policies, json!({}));
    let filler: Vec<Vec<u8>> = (0..100u8).map(|n| [&[n + 1][..], &[b'x'; 199]].concat()).collect();
    let protocols: Vec<&[u8]> = filler.iter().map(Vec::as_slice).chain([&b"http/1.1"[..]]).collect();
    for (record, write) in [(16_384, 1400), (1000, 300), (16_384, 40_000)] {
        let ask = |pair: Option<&Pair>| {
            let client = stage.client(pair).alpn(&protocols).in_pieces(record, write);
            let asked = client.connect(stage.portolan.https, "p.test").and_then(|mut s| s.ask(&get("p.test", "/")));
            asked.map(|answer| answer.status).map_err(|error| alert(&error))
        };
        assert_eq!(ask(Some(&pki.web)), Ok(200), "records of {record}");
        assert_eq!(ask(None), Err(Some(AlertDescription::CertificateRequired)), "records of {record}");
        assert_eq!(ask(Some(&pki.other)), Err(Some(AlertDescription::UnknownCA)), "records of {record}");
    }
}
