//! Handshakes: versions, groups, certificates, and what a name and a request may have to do with each other.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, NamedGroup, ProtocolVersion};
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::h2::H2;
use crate::support::http::curl;
use crate::support::pki::{Authority, Pair};
use crate::support::portolan::Portolan;
use crate::support::tls::Client;
use crate::support::wait::eventually;

/// Routes by these names to one endpoint; `over` is laid over the settings.
fn start(backend: &Backend, hosts: &[&str], over: Value) -> Portolan {
    let routes: serde_json::Map<String, Value> =
        hosts.iter().map(|host| (host.replace(['*', '.'], "-"), json!({ "host": host, "service": "s" }))).collect();
    let mut settings = json!({ "routes": routes, "services": { "s": { "endpoints": [backend.url()] } } });
    crate::support::portolan::lay_over(&mut settings, over);
    Portolan::serving(settings)
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn s_client(portolan: &Portolan, options: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &portolan.https.to_string(), "-CAfile"])
        .arg(portolan.root())
        .args(["-verify_return_error"])
        .args(options)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_a_route_may_ask_for_1_3() {
    let backend = Backend::named("s");
    let strict =
        json!({ "routes": { "strict": { "host": "strict.test", "service": "s", "tls": { "min_version": "1.3" } } } });
    let portolan = start(&backend, &["both.test"], strict);
    let root = portolan.root();
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut session = Client::speaking(&[version], &root).connect(portolan.https, "both.test").unwrap();
        assert_eq!(session.version(), expected);
        assert_eq!(session.ask(&get("both.test")).unwrap().status, 200);
    }
    let refused = Client::speaking(&[&TLS12], &root).connect(portolan.https, "strict.test").err().unwrap();
    assert_eq!(alert(&refused), Some(AlertDescription::ProtocolVersion), "{refused}");
    assert_eq!(portolan.curl("https://strict.test/", &["--tls-max", "1.2"]).unwrap_err().code, 35);
    assert_eq!(portolan.get("https://strict.test/").unwrap().status, 200);
    for (option, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(&portolan, &[option, "-servername", "both.test"]);
        assert!(said.contains(&format!("New, {shown}")), "{said}");
    }
    let said = s_client(&portolan, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0", "-servername", "both.test"]);
    assert!(said.contains("New, (NONE)"), "{said}");
}

#[test]
fn the_hybrid_group_is_agreed_on_where_the_client_offers_it() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["group.test"], json!({}));
    let session = Client::trusting(&portolan.root()).connect(portolan.https, "group.test").unwrap();
    assert_eq!(session.group(), NamedGroup::X25519MLKEM768);
    for (offered, agreed) in [("X25519", "X25519, 253 bits"), ("P-256", "ECDH, prime256v1, 256 bits")] {
        let said = s_client(&portolan, &["-groups", offered, "-servername", "group.test"]);
        assert!(said.contains(&format!("Server Temp Key: {agreed}")), "{said}");
    }
}

#[test]
fn a_host_has_a_leaf_of_its_own_by_the_root_that_ca_root_prints() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["leaf.test", "other.test"], json!({}));
    let client = Client::trusting(&portolan.root());
    let leaf = client.connect(portolan.https, "leaf.test").unwrap();
    assert_eq!(leaf.names(), ["DNS:leaf.test"]);
    let other = client.connect(portolan.https, "other.test").unwrap();
    assert_eq!(other.names(), ["DNS:other.test"]);
    // Asked again, the same one is shown.
    assert_eq!(client.connect(portolan.https, "leaf.test").unwrap().certificate(), leaf.certificate());

    let said = s_client(&portolan, &["-servername", "leaf.test", "-verify_hostname", "leaf.test"]);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let said = s_client(&portolan, &["-servername", "leaf.test", "-verify_hostname", "other.test"]);
    assert!(said.to_lowercase().contains("hostname mismatch"), "{said}");
}

#[test]
fn a_server_name_is_the_same_in_any_case() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["case.test"], json!({}));
    let said = s_client(&portolan, &["-servername", "CaSe.TEST", "-verify_hostname", "case.test"]);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
}

#[test]
fn a_wildcard_route_shows_one_wildcard_leaf() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["*.wild.test", "own.wild.test"], json!({}));
    let client = Client::trusting(&portolan.root());
    let [a, b] = ["a.wild.test", "b.wild.test"].map(|name| client.connect(portolan.https, name).unwrap());
    assert_eq!(a.names(), ["DNS:*.wild.test"]);
    assert_eq!(a.certificate(), b.certificate());
    let own = client.connect(portolan.https, "own.wild.test").unwrap();
    assert_eq!(own.names(), ["DNS:own.wild.test"]);
}

#[test]
fn an_unknown_server_name_gets_the_alert_that_says_so() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["known.test", "*.wild.test"], json!({}));
    let client = Client::trusting(&portolan.root());
    for name in ["unknown.test", "a.b.wild.test", "wild.test"] {
        let error = client.connect(portolan.https, name).err().unwrap();
        assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName), "{name}: {error}");
    }
    let said = s_client(&portolan, &["-servername", "unknown.test"]);
    assert!(said.contains("unrecognized name") && said.contains("alert number 112"), "{said}");
}

#[test]
fn without_a_server_name_the_leaf_is_for_the_address() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["known.test"], json!({}));
    let mut session = Client::trusting(&portolan.root()).connect(portolan.https, "127.0.0.1").unwrap();
    assert_eq!(session.names(), ["IP:127.0.0.1"]);
    // Who was named nowhere may still name a host that needs no client certificate.
    assert_eq!(session.ask(&get("known.test")).unwrap().status, 200);
    let answer = curl(&format!("https://{}/", portolan.https), portolan.https, Some(&portolan.root()), &[]).unwrap();
    assert_eq!((answer.status, answer.reason()), (404, Some("NoRoute")), "{answer:?}");
}

/// What comes back in the clear for these bytes.
fn raw(portolan: &Portolan, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(portolan.https).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(bytes).unwrap();
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).unwrap();
    heard
}

/// rustls has no alert for it, and the connection used to end without one.
#[test]
fn what_begins_otherwise_than_with_a_hello_is_told_so() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["known.test"], json!({}));
    let alert = |code: u8| vec![21, 3, 3, 0, 2, 2, code];
    for (what, bytes, expected) in [
        ("another message", &[22, 3, 1, 0, 4, 20, 0, 0, 0][..], alert(10)),
        ("content", &[23, 3, 3, 0, 1, 0], alert(10)),
        ("a hello of 16 MiB", &[22, 3, 1, 0, 5, 1, 255, 255, 255, 3], alert(50)),
        // Nobody answers an alert.
        ("an alert", &[21, 3, 1, 0, 2, 2, 40], vec![]),
    ] {
        assert_eq!(raw(&portolan, bytes), expected, "{what}");
    }
}

/// What a client had under way when it was refused made the socket end with a reset, and the alert was lost.
#[test]
fn an_alert_is_not_lost_in_a_reset() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["known.test"], json!({}));
    let mut socket = TcpStream::connect(portolan.https).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // More than is looked at: the first record announces too much.
    socket.write_all(&[&[22, 3, 1, 64, 0, 1, 255, 255, 255][..], &[0; 200_000]].concat()).unwrap();
    // Until the refusal is there, by when a reset would be as well.
    socket.peek(&mut [0]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    socket.write_all(&[0; 1000]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, [21, 3, 3, 0, 2, 2, 50]);
}

/// rustls does not know the value by which a client says that it fell back (RFC 7507).
#[test]
fn a_client_that_fell_back_to_tls_1_2_is_told_that_it_can_do_better() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["both.test"], json!({}));
    let said = s_client(&portolan, &["-tls1_2", "-fallback_scsv", "-servername", "both.test"]);
    assert!(said.contains("alert number 86") && said.contains("New, (NONE)"), "{said}");
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(&portolan, &[version, "-servername", "both.test"]);
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    let said = s_client(&portolan, &["-fallback_scsv", "-servername", "both.test"]);
    assert!(said.contains("New, TLSv1.3"), "{said}");
    // Workers hand it over in their own time.
    eventually("one is counted", || {
        match portolan.metric("portolan_tls_handshake_failures_total{reason=\"fallback\"}") {
            1.0 => Ok(()),
            other => Err(other),
        }
    });
}

/// The pair in files of its own, as an operator would put it somewhere.
fn place(pair: &Pair, directory: &Path) -> (PathBuf, PathBuf) {
    std::fs::create_dir_all(directory).unwrap();
    let at = |name: &str| directory.join(name);
    for (from, name) in [(&pair.cert_file, "tls.crt"), (&pair.key_file, "tls.key")] {
        std::fs::copy(from, at(".draft")).unwrap();
        std::fs::rename(at(".draft"), at(name)).unwrap();
    }
    (at("tls.crt"), at("tls.key"))
}

fn shows(portolan: &Portolan, host: &str, authority: &Authority) -> Result<(), String> {
    let client = Client::trusting(&authority.ca_file);
    client.connect(portolan.https, host).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_configured_certificate_comes_before_the_issuer_for_the_names_it_covers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path(), "configured-ca");
    let pair = authority.issue("shop", "DNS:shop.test,DNS:*.many.test");
    let backend = Backend::named("s");
    let over = json!({ "certificates": { "shop": { "cert_file": pair.cert_file, "key_file": pair.key_file } } });
    let portolan = start(&backend, &["shop.test", "a.many.test", "*.many.test", "elsewhere.test"], over);
    for host in ["shop.test", "a.many.test", "b.many.test"] {
        let session = Client::trusting(&authority.ca_file).connect(portolan.https, host);
        assert_eq!(session.unwrap().names(), ["DNS:shop.test", "DNS:*.many.test"], "{host}");
    }
    let session = Client::trusting(&portolan.root()).connect(portolan.https, "elsewhere.test");
    assert_eq!(session.unwrap().names(), ["DNS:elsewhere.test"]);
}

#[test]
fn a_certificate_that_a_route_names_is_the_one_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let authorities = ["one", "two"].map(|name| Authority::create(dir.path(), &format!("{name}-ca")));
    // Both would do for both.
    let pairs = [0, 1].map(|n| authorities[n].issue(&format!("leaf-{n}"), "DNS:one.test,DNS:two.test"));
    let files = |pair: &Pair| json!({ "cert_file": pair.cert_file, "key_file": pair.key_file });
    let backend = Backend::named("s");
    let over = json!({
        "routes": { "one-test": { "tls": { "certificate": "one" } }, "two-test": { "tls": { "certificate": "two" } } },
        "certificates": { "one": files(&pairs[0]), "two": files(&pairs[1]) },
    });
    let portolan = start(&backend, &["one.test", "two.test"], over);
    shows(&portolan, "one.test", &authorities[0]).unwrap();
    shows(&portolan, "two.test", &authorities[1]).unwrap();
}

#[test]
fn replaced_files_are_read_again_and_a_pair_that_does_not_match_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::create(dir.path(), "old-ca"), Authority::create(dir.path(), "new-ca"));
    let live = dir.path().join("live");
    let (cert_file, key_file) = place(&old.issue("old", "DNS:shop.test"), &live);
    let backend = Backend::named("s");
    let over = json!({ "certificates": { "shop": { "cert_file": cert_file, "key_file": key_file } } });
    let portolan = start(&backend, &["shop.test"], over);
    shows(&portolan, "shop.test", &old).unwrap();
    assert_eq!(portolan.problems(), [] as [Value; 0]);

    let pair = new.issue("new", "DNS:shop.test");
    std::fs::copy(&pair.cert_file, live.join(".draft")).unwrap();
    std::fs::rename(live.join(".draft"), &cert_file).unwrap();
    let problem = portolan.problem("CertificateInvalid", &["tls.crt", "does not belong", "stays in force"]);
    assert_eq!(problem["subject"], "settings/certificate/shop", "{problem}");
    shows(&portolan, "shop.test", &old).unwrap();

    place(&pair, &live);
    eventually("the new certificate", || shows(&portolan, "shop.test", &new));
    eventually("no problem is left", || if portolan.problems().is_empty() { Ok(()) } else { Err(portolan.problems()) });
}

#[test]
fn a_symbolic_link_that_leads_elsewhere_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::create(dir.path(), "old-ca"), Authority::create(dir.path(), "new-ca"));
    place(&old.issue("old", "DNS:shop.test"), &dir.path().join("v1"));
    place(&new.issue("new", "DNS:shop.test"), &dir.path().join("v2"));
    let live = dir.path().join("live");
    symlink("v1", &live).unwrap();
    let backend = Backend::named("s");
    let over =
        json!({ "certificates": { "shop": { "cert_file": live.join("tls.crt"), "key_file": live.join("tls.key") } } });
    let portolan = start(&backend, &["shop.test"], over);
    shows(&portolan, "shop.test", &old).unwrap();

    symlink("v2", dir.path().join(".draft")).unwrap();
    std::fs::rename(dir.path().join(".draft"), &live).unwrap();
    eventually("the certificate that the link leads to", || shows(&portolan, "shop.test", &new));
}

#[test]
fn the_default_certificate_answers_for_names_that_nobody_claims() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path(), "default-ca");
    let pair = authority.issue("default", "DNS:unknown.test,DNS:any.example,IP:127.0.0.1");
    let backend = Backend::named("s");
    let over = json!({
        "default_certificate": "fallback",
        "certificates": { "fallback": { "cert_file": pair.cert_file, "key_file": pair.key_file } },
    });
    let portolan = start(&backend, &["known.test"], over);
    let mut session = Client::trusting(&authority.ca_file).connect(portolan.https, "unknown.test").unwrap();
    let answer = session.ask(&get("unknown.test")).unwrap();
    assert_eq!((answer.status, answer.reason()), (404, Some("NoRoute")));
    shows(&portolan, "any.example", &authority).unwrap();
    // A host that is claimed has its own.
    let known = Client::trusting(&portolan.root()).connect(portolan.https, "known.test").unwrap();
    assert_eq!(known.names(), ["DNS:known.test"]);
}

#[test]
fn a_client_hello_may_come_in_many_segments_and_records() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["cut.test"], json!({}));
    let root = portolan.root();
    for (record, write) in [(64, 4096), (1000, 50), (37, 23), (3, 700)] {
        let mut session = Client::trusting(&root).in_pieces(record, write).connect(portolan.https, "cut.test").unwrap();
        assert_eq!(session.names(), ["DNS:cut.test"]);
        let answer = session.ask(&get("cut.test")).unwrap();
        assert_eq!(answer.status, 200, "records of {record}, writes of {write}: {answer:?}");
    }
    let said = s_client(&portolan, &["-servername", "cut.test", "-max_send_frag", "512", "-split_send_frag", "512"]);
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
}

#[test]
fn a_client_hello_may_be_longer_than_one_record() {
    let backend = Backend::named("s");
    let portolan = start(&backend, &["long.test"], json!({}));
    let filler: Vec<Vec<u8>> = (0..100u8).map(|n| [&[n + 1][..], &[b'x'; 199]].concat()).collect();
    let protocols: Vec<&[u8]> = filler.iter().map(Vec::as_slice).chain([&b"http/1.1"[..]]).collect();
    let client = Client::trusting(&portolan.root()).alpn(&protocols).in_pieces(16_384, 1400);
    let mut session = client.connect(portolan.https, "long.test").unwrap();
    assert_eq!(session.names(), ["DNS:long.test"]);
    assert_eq!(session.ask(&get("long.test")).unwrap().status, 200);
}

/// Two hosts that anybody may ask, one under a client-certificate policy, one that asks for TLS 1.3.
fn guarded(backend: &Backend) -> Portolan {
    let over = json!({
        "routes": {
            "guarded": { "host": "guarded.test", "mtls": "partners", "service": "s" },
            "strict": { "host": "strict.test", "tls": { "min_version": "1.3" }, "service": "s" },
        },
        "mtls_policies": { "partners": { "mode": "require_any" } },
    });
    start(backend, &["one.test", "two.test"], over)
}

#[test]
fn a_request_for_a_host_under_another_policy_is_misdirected_and_ends_an_h1_connection() {
    let backend = Backend::named("s");
    let portolan = guarded(&backend);
    let client = Client::trusting(&portolan.root());
    for (sni, host) in [
        ("one.test", "guarded.test"),
        ("guarded.test", "one.test"),
        ("one.test", "Strict.Test:443"),
        ("127.0.0.1", "guarded.test"),
    ] {
        let mut session = client.connect(portolan.https, sni).unwrap();
        let answer = session.ask(&get(host)).unwrap();
        assert_eq!((answer.status, answer.reason()), (421, Some("Misdirected")), "{host} on {sni}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        assert!(session.is_closed_by_server(), "{host} on {sni}");
    }
    assert!(backend.received().is_empty());
}

#[test]
fn hosts_with_equal_keys_share_a_connection() {
    let backend = Backend::named("s");
    let portolan = guarded(&backend);
    let mut session = Client::trusting(&portolan.root()).connect(portolan.https, "one.test").unwrap();
    for host in ["one.test", "two.test", "TWO.test."] {
        assert_eq!(session.ask(&get(host)).unwrap().status, 200, "{host}");
    }
    let answer = session.ask(&get("nobody.test")).unwrap();
    assert_eq!((answer.status, answer.reason()), (404, Some("NoRoute")));
    assert_eq!(session.ask(&get("one.test")).unwrap().status, 200);
}

#[test]
fn on_h2_only_the_misdirected_stream_ends() {
    let backend = Backend::named("s");
    let portolan = guarded(&backend);
    let client = Client::trusting(&portolan.root()).alpn(&[b"h2"]);
    let mut h2 = H2::over(client.connect(portolan.https, "one.test").unwrap());
    for (authority, status) in
        [("one.test", "200"), ("guarded.test", "421"), ("two.test", "200"), ("strict.test", "421"), ("one.test", "200")]
    {
        let stream = h2.get(authority, "/");
        assert_eq!(h2.answer(stream).0, status, "{authority}");
    }
}
