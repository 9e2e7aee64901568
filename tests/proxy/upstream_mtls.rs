//! Who Portolan is to endpoints that ask for a certificate, and whom it takes for them. What is not agreed on is a 502
//! that says why; nothing goes in the clear instead, and nothing over a connection that was made as somebody else.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::announce;
use crate::support::backend::Told;
use crate::support::http::{Answer, send_plain_within};
use crate::support::peer::{Peer, Speaks};
use crate::support::pki::{Authority, Pair};
use crate::support::portolan::{Portolan, lay_over};
use crate::support::wait::eventually;

struct Pki {
    dir: tempfile::TempDir,
    /// Of the endpoints' certificates, and of clients that it also signs.
    ca: Authority,
    web: Pair,
}

impl Pki {
    fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "endpoints");
        let web = ca.issue("web", "DNS:web.test,URI:spiffe://td.test/web");
        Pki { dir, ca, web }
    }

    fn strange(&self, name: &str) -> Authority {
        Authority::create(&self.dir.path().join(name), name)
    }
}

/// Trusts the endpoints' CA, and has the certificates `a` and `b` for clients.
fn portolan(pki: &Pki, services: Value) -> Portolan {
    portolan_with(pki, services, json!({}))
}

fn portolan_with(pki: &Pki, services: Value, over: Value) -> Portolan {
    let pair = |name: &str| {
        let Pair { cert_file, key_file } = pki.ca.issue(name, &format!("DNS:{name}.test"));
        json!({ "cert_file": cert_file, "key_file": key_file })
    };
    let mut settings = json!({
        "workers": 1,
        "trust_bundles": { "endpoints": { "file": pki.ca.ca_file } },
        "certificates": { "a": pair("a"), "b": pair("b") },
    });
    lay_over(&mut settings, routed(services));
    lay_over(&mut settings, over);
    Portolan::serving(settings)
}

/// Each at the host of its name.
fn routed(services: Value) -> Value {
    let hosts = services.as_object().unwrap().keys();
    let route = |name: &String| json!({ "host": format!("{name}.test"), "listeners": ["plain"], "service": name });
    let routes: serde_json::Map<String, Value> = hosts.map(|name| (name.clone(), route(name))).collect();
    json!({ "services": services, "routes": routes })
}

fn service(endpoint: &str, tls: Value) -> Value {
    let mut all = json!({ "trust": ["endpoints"], "server_name": "web.test" });
    lay_over(&mut all, tls);
    json!({ "endpoints": [endpoint], "tls": all })
}

fn ask(portolan: &Portolan, host: &str) -> Answer {
    let request = format!("GET /p HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    send_plain_within(portolan.plain, &request, Duration::from_secs(10)).unwrap()
}

#[track_caller]
fn told(portolan: &Portolan, host: &str) -> Told {
    let answer = ask(portolan, host);
    assert_eq!(answer.status, 200, "{answer:?}\n{}", portolan.log());
    answer.told()
}

/// The root of the proxy's own CA, beside which endpoints may trust others'.
fn corp(portolan: &Portolan, besides: &[&Path]) -> std::path::PathBuf {
    let all = portolan.dir().join("clients.pem");
    let roots = besides.iter().map(|path| path.to_path_buf()).chain([portolan.root()]);
    std::fs::write(&all, roots.map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>()).unwrap();
    all
}

#[test]
fn an_endpoint_that_asks_is_shown_whom_the_service_says() {
    let pki = Pki::new();
    let portolan = portolan(&pki, json!({}));
    let clients = corp(&portolan, &[&pki.ca.ca_file]);
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    for (alpn, scheme, version) in
        ["h2", "http/1.1"].into_iter().flat_map(|alpn| versions.map(|version| (alpn, "https", version)))
    {
        let peer = Peer::start(Speaks::mutual(&pki.web, &[alpn], &clients, version));
        let url = peer.url(scheme);
        portolan.edit(routed(json!({
            "own": service(&url, json!({ "client": { "issuer": "corp" } })),
            "named": service(&url, json!({ "client": { "issuer": "corp", "uri": "spiffe://td.test/proxy", "dns": "proxy.test" } })),
            "a": service(&url, json!({ "client": { "certificate": "a" } })),
            "b": service(&url, json!({ "client": { "certificate": "b" } })),
        })));
        let all = [
            ("own.test", "URI:spiffe://corp/settings/own"),
            ("named.test", "URI:spiffe://td.test/proxy DNS:proxy.test"),
            ("a.test", "DNS:a.test"),
            ("b.test", "DNS:b.test"),
        ];
        eventually("the services are there", || match ask(&portolan, "b.test").status {
            200 => Ok(()),
            other => Err(other),
        });
        // In turns, so that each finds the connections of the others.
        for (host, client) in all.iter().cycle().take(12) {
            assert_eq!(told(&portolan, host).client(), *client, "{host} {alpn} {version:?}");
        }
        assert_eq!(peer.connections(), 4, "one for each identity");
    }
    // On record, so that it can be taken back.
    let log = std::fs::read_to_string(portolan.dir().join("state/issuers/corp/log")).unwrap();
    assert!(log.contains("spiffe://corp/settings/own") && log.contains("proxy.test"), "{log}");
}

/// Reason and words; `None` for what is taken.
type Row<'r> = (&'r str, Speaks, Value, Option<(&'r str, &'r [&'r str])>);

#[test]
fn what_is_not_agreed_on_is_a_502_that_says_why() {
    let pki = Pki::new();
    let portolan = portolan(&pki, json!({}));
    let strange = pki.strange("strange");
    let clients = corp(&portolan, &[]);
    let itself = Pair { cert_file: strange.ca_file.clone(), key_file: strange.ca_file.with_extension("key") };
    let by_strange = strange.issue("web", "DNS:web.test,URI:spiffe://td.test/web");
    let ended = pki.ca.issue_until_yesterday("ended", "web.test");
    let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
    let shown = json!({ "client": { "issuer": "corp" } });
    let with = |over: Value| {
        let mut tls = shown.clone();
        lay_over(&mut tls, over);
        tls
    };
    let certificate = "EndpointCertificate";
    let mut rows = Vec::new();
    for (alpn, version) in ["h2", "http/1.1"].into_iter().flat_map(|alpn| versions.map(|version| (alpn, version))) {
        let speaks = |pair: &Pair| Speaks::mutual(pair, &[alpn], &clients, version);
        let others = || Speaks::mutual(&pki.web, &[alpn], &strange.ca_file, version);
        // In TLS 1.2 an endpoint has no other word for it than that the handshake failed.
        let asks: &[&str] = match version.version {
            rustls::ProtocolVersion::TLSv1_3 => &["asks for a client certificate", "set tls.client"],
            _ => &[],
        };
        let uri = |uri: &str| with(json!({ "sans": [uri] }));
        let ca: &[&str] = &["no CA that the service trusts"];
        let table: [Row<'_>; 11] = [
            ("right", speaks(&pki.web), shown.clone(), None),
            ("one of its names", speaks(&pki.web), with(json!({ "sans": ["x.test", "spiffe://td.test/web"] })), None),
            (
                "wrong name",
                speaks(&pki.web),
                with(json!({ "server_name": "x.test" })),
                Some((certificate, &["not for x.test"])),
            ),
            ("wrong SAN", speaks(&pki.web), uri("x.test"), Some((certificate, &["for none of x.test"]))),
            (
                "wrong URI",
                speaks(&pki.web),
                uri("spiffe://td.test/we"),
                Some((certificate, &["for none of spiffe://td.test/we"])),
            ),
            ("wrong CA", speaks(&by_strange), shown.clone(), Some((certificate, ca))),
            ("wrong CA, right URI", speaks(&by_strange), uri("spiffe://td.test/web"), Some((certificate, ca))),
            (
                "self-signed",
                speaks(&itself),
                with(json!({ "server_name": "strange" })),
                Some((certificate, &["certificate"])),
            ),
            ("expired", speaks(&ended), shown.clone(), Some((certificate, &["has expired"]))),
            (
                "of no CA that it trusts",
                others(),
                shown.clone(),
                Some(("EndpointTls", &["it does not take the certificate that it is shown"])),
            ),
            ("nothing to show", speaks(&pki.web), json!({}), Some(("EndpointTls", asks))),
        ];
        rows.extend(table.map(|(what, speaks, tls, expected)| {
            (format!("{what} {alpn} {:?}", version.version), Peer::start(speaks), tls, expected)
        }));
    }
    let services = rows.iter().enumerate().map(|(number, (_, peer, tls, _))| {
        let mut one = service(&peer.url("https"), tls.clone());
        one["retry"] = json!({ "attempts": 1 });
        (format!("s{number}"), one)
    });
    portolan.edit(routed(Value::Object(services.collect())));
    eventually("the services are there", || match ask(&portolan, "s0.test") {
        answer if answer.status == 404 => Err("not yet"),
        _ => Ok(()),
    });
    let mut failures = Vec::new();
    for (number, (what, peer, _, expected)) in rows.iter().enumerate() {
        let before = peer.requests().len();
        let answer = ask(&portolan, &format!("s{number}.test"));
        let (status, reason) = expected.map_or((200, None), |(reason, _)| (502, Some(reason)));
        let asked = peer.requests().len() - before;
        if (answer.status, answer.reason(), asked) != (status, reason, usize::from(status == 200)) {
            failures.push(format!("{what}: {asked} requests, {answer:?}"));
            continue;
        }
        let address = peer.address.to_string();
        if let Some((_, words)) = expected {
            portolan.says(&[&[address.as_str()], *words].concat());
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

#[derive(Default)]
struct Over(AtomicBool);

struct Ends<'o>(&'o Over);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn files_that_hold_another_certificate_are_another_client_while_traffic_flows() {
    let pki = Pki::new();
    let [first, second] = ["first", "second"].map(|name| pki.ca.issue(name, &format!("DNS:{name}.test")));
    let (cert, key) = (pki.dir.path().join("shown.pem"), pki.dir.path().join("shown.key"));
    let put = |pair: &Pair| {
        for (from, to) in [(&pair.key_file, &key), (&pair.cert_file, &cert)] {
            std::fs::copy(from, to.with_extension("new")).unwrap();
            std::fs::rename(to.with_extension("new"), to).unwrap();
        }
    };
    put(&first);
    for alpn in ["h2", "http/1.1"] {
        let peer = Peer::start(Speaks::mutual(&pki.web, &[alpn], &pki.ca.ca_file, &rustls::version::TLS13));
        let portolan = portolan(
            &pki,
            json!({ "s": service(&peer.url("https"), json!({ "client": { "certificate": "shown" } })) }),
        );
        portolan.edit(json!({ "certificates": { "shown": { "cert_file": cert, "key_file": key } } }));
        eventually("the certificate is there", || match ask(&portolan, "s.test").status {
            200 => Ok(()),
            other => Err(other),
        });
        let (over, asked) = (Over::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let over = &over;
            // Also where something is wrong: the others would ask for ever.
            let _ends = Ends(over);
            let ask_on = || {
                let mut clients = Vec::new();
                while !over.0.load(Ordering::SeqCst) {
                    clients.push(told(&portolan, "s.test").client().to_string());
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                clients
            };
            let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask_on)).collect();
            for pair in [&second, &first, &second, &first] {
                put(pair);
                let name = if std::ptr::eq(pair, &second) { "DNS:second.test" } else { "DNS:first.test" };
                eventually(name, || match told(&portolan, "s.test").client() == name {
                    true => Ok(()),
                    false => Err("the one before"),
                });
                let before = asked.load(Ordering::SeqCst);
                eventually(
                    "more is asked",
                    || if asked.load(Ordering::SeqCst) > before + 20 { Ok(()) } else { Err(()) },
                );
            }
            over.0.store(true, Ordering::SeqCst);
            for clients in asking {
                let mut clients = clients.join().unwrap();
                assert!(clients.len() > 20);
                clients.dedup();
                // Never back to one before: what was made as somebody else is not used again.
                assert!(clients.len() <= 5, "{clients:?}");
            }
        });
    }
}

#[test]
fn what_an_issuer_makes_is_renewed_while_traffic_flows_and_is_the_same_client() {
    let pki = Pki::new();
    let short = json!({ "issuers": { "corp": { "internal": { "ttl": "3s" } } } });
    let portolan = portolan_with(&pki, json!({}), short);
    let clients = corp(&portolan, &[]);
    let mutual = |alpn| Speaks::mutual(&pki.web, &[alpn], &clients, &rustls::version::TLS13);
    let kept = Peer::start(mutual("h2"));
    let single = Peer::start(Speaks { single: true, ..mutual("http/1.1") });
    let shown = json!({ "client": { "issuer": "corp", "uri": "spiffe://td.test/proxy" } });
    portolan.edit(routed(json!({
        "kept": service(&kept.url("https"), shown.clone()), "single": service(&single.url("https"), shown),
    })));
    eventually("the services are there", || match ask(&portolan, "kept.test").status {
        200 => Ok(()),
        other => Err(other),
    });
    let mut serials = BTreeSet::new();
    let mut asked = 0;
    // As long as it takes: three renewals, seen over connections of one request each.
    eventually("renewed three times", || {
        for _ in 0..5 {
            for host in ["kept.test", "single.test"] {
                let told = told(&portolan, host);
                assert_eq!(told.client(), "URI:spiffe://td.test/proxy");
                asked += 1;
                if host == "single.test" {
                    serials.insert(told.client_serial().to_string());
                }
            }
        }
        if serials.len() > 3 { Ok(()) } else { Err(serials.clone()) }
    });
    announce(&format!("{asked} requests, {} certificates", serials.len()));
    assert_eq!(kept.connections(), 1, "a connection that is open stays in use");
}

#[test]
fn who_is_not_there_to_be_shown_closes_the_service() {
    let pki = Pki::new();
    let peer = Peer::start(Speaks::mutual(&pki.web, &["h2"], &pki.ca.ca_file, &rustls::version::TLS13));
    let url = peer.url("https");
    let portolan = portolan(
        &pki,
        json!({
            "nobody": service(&url, json!({ "client": { "certificate": "nobody" } })),
            "issuer": service(&url, json!({ "client": { "issuer": "nobody" } })),
            "gone": service(&url, json!({ "client": { "certificate": "gone" } })),
        }),
    );
    portolan.edit(json!({ "certificates": { "gone": { "cert_file": "/nowhere.pem", "key_file": "/nowhere.key" } } }));
    portolan.problem("Unresolved", &["nobody", "tls.client.certificate"]);
    for (host, reason) in [("nobody", "Unresolved"), ("issuer", "TrustInvalid"), ("gone", "TrustInvalid")] {
        eventually(host, || {
            let answer = ask(&portolan, &format!("{host}.test"));
            if (answer.status, answer.reason()) == (503, Some(reason)) { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }
    assert_eq!(peer.connections(), 0);
}
