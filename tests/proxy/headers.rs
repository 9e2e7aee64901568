//! What an endpoint is told of the client, and which headers end at this hop.

use serde_json::json;

use crate::support::backend::{Backend, Then, Told};
use crate::support::http::{curl, send_plain};
use crate::support::portolan::Portolan;

const HOST: &str = "headers.test";

/// One route on both kinds of listener; `over` is laid over the settings.
fn start(backend: &Backend, over: serde_json::Value) -> Portolan {
    let mut settings = json!({
        "routes": { "s": { "host": HOST, "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [backend.url()] } },
    });
    crate::support::portolan::lay_over(&mut settings, over);
    Portolan::serving(settings)
}

/// The same request over h1 in the clear, h1 over TLS and h2: what the endpoint was told each time, and the port.
fn three_ways(portolan: &Portolan, options: &[&str]) -> [(&'static str, Told, u16); 3] {
    let ask = |url: &str, to, protocol: &str, expected: &str| {
        let answer = curl(url, to, Some(&portolan.root()), &[&[protocol], options].concat()).unwrap();
        assert_eq!((answer.protocol.as_str(), answer.status), (expected, 200), "{answer:?}");
        answer.told()
    };
    let (plain, https) = (portolan.plain, portolan.https);
    [
        ("http", ask("http://headers.test/", plain, "--http1.1", "HTTP/1.1"), plain.port()),
        ("https", ask("https://headers.test/", https, "--http1.1", "HTTP/1.1"), https.port()),
        ("https", ask("https://headers.test/", https, "--http2", "HTTP/2"), https.port()),
    ]
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string()
}

#[test]
fn an_endpoint_is_told_who_asked_for_what() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    for (proto, told, port) in three_ways(&portolan, &[]) {
        assert_eq!(told.all("host"), [HOST], "{told:?}");
        assert_eq!(told.all("x-forwarded-for"), ["127.0.0.1"], "{told:?}");
        assert_eq!(told.all("x-real-ip"), ["127.0.0.1"], "{told:?}");
        assert_eq!(told.all("x-forwarded-proto"), [proto], "{told:?}");
        assert_eq!(told.all("x-forwarded-host"), [HOST], "{told:?}");
        assert_eq!(told.all("x-forwarded-port"), [port.to_string()], "{told:?}");
        assert_eq!(told.all("x-forwarded-server"), [hostname()], "{told:?}");
        assert_eq!(told.all("forwarded"), [format!("for=127.0.0.1;host=\"{HOST}\";proto={proto}")], "{told:?}");
    }
}

#[test]
fn the_host_keeps_its_port_and_spelling() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let request = "GET / HTTP/1.1\r\nHost: Headers.Test:8080\r\nConnection: close\r\n\r\n";
    let told = send_plain(portolan.plain, request).unwrap().told();
    assert_eq!(told.all("host"), ["Headers.Test:8080"]);
    assert_eq!(told.all("x-forwarded-host"), ["Headers.Test:8080"]);
}

const FORGED: [&str; 20] = [
    "X-Forwarded-For: 6.6.6.6",
    "x_forwarded_for: 6.6.6.6",
    "X-FORWARDED_FOR: 6.6.6.6",
    "X-Forwarded-Proto: 6.6.6.6",
    "X_Forwarded_Proto: 6.6.6.6",
    "X-Forwarded-Host: 6.6.6.6",
    "X-Forwarded-Port: 6.6.6.6",
    "X-Forwarded-Server: 6.6.6.6",
    "X-Forwarded-Prefix: 6.6.6.6",
    "X-Real-Ip: 6.6.6.6",
    "x_real_ip: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
    "Client-Cert: 6.6.6.6",
    "client_cert_chain: 6.6.6.6",
    "X-Forwarded-Client-Cert: 6.6.6.6",
    "X-Forwarded-Tls-Client-Cert: 6.6.6.6",
    "X_Forwarded_Tls_Client_Cert_Info: 6.6.6.6",
    "ssl-client-verify: 6.6.6.6",
    "Ssl_Client_Subject_Dn: 6.6.6.6",
    "X-SSL-Client-Cert: 6.6.6.6",
];

#[test]
fn what_a_stranger_claims_is_replaced_in_every_spelling() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let forged: Vec<&str> = FORGED.iter().flat_map(|header| ["--header", *header]).collect();
    for (proto, told, port) in three_ways(&portolan, &[&forged[..], &["--header", "X-Kept: 6"]].concat()) {
        assert!(!format!("{told:?}").contains("6.6.6.6"), "{told:?}");
        assert_eq!(told.all("x-forwarded-for"), ["127.0.0.1"], "{told:?}");
        assert_eq!(told.all("x-forwarded-proto"), [proto], "{told:?}");
        assert_eq!(told.all("x-forwarded-port"), [port.to_string()], "{told:?}");
        assert_eq!(told.all("x-kept"), ["6"], "{told:?}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_added_to() {
    let backend = Backend::named("s");
    let trusted = json!({ "trusted_proxies": ["10.0.0.0/8", "127.0.0.0/8"] });
    let portolan = start(&backend, json!({ "listeners": { "plain": trusted, "https": trusted } }));
    let says = [
        "--header",
        "X-Forwarded-For: 6.6.6.6, 10.0.0.1",
        "--header",
        "X-Forwarded-Proto: gopher",
        "--header",
        "X-Forwarded-Host: front.test",
        "--header",
        "X-Forwarded-Port: 70",
        "--header",
        "X-Real-Ip: 6.6.6.6",
        "--header",
        "Forwarded: for=6.6.6.6;proto=gopher",
    ];
    for (proto, told, _) in three_ways(&portolan, &says) {
        assert_eq!(told.all("x-forwarded-for"), ["6.6.6.6, 10.0.0.1, 127.0.0.1"], "{told:?}");
        assert_eq!(told.all("x-forwarded-proto"), ["gopher"], "{told:?}");
        assert_eq!(told.all("x-forwarded-host"), ["front.test"], "{told:?}");
        assert_eq!(told.all("x-forwarded-port"), ["70"], "{told:?}");
        assert_eq!(told.all("x-real-ip"), ["6.6.6.6"], "{told:?}");
        let own = format!("for=127.0.0.1;host=\"{HOST}\";proto={proto}");
        assert_eq!(told.all("forwarded"), [format!("for=6.6.6.6;proto=gopher, {own}")], "{told:?}");
    }
}

#[test]
fn a_proxy_outside_the_trusted_blocks_is_a_stranger() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({ "listeners": { "plain": { "trusted_proxies": ["10.0.0.0/8"] } } }));
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n");
    let told = send_plain(portolan.plain, &request).unwrap().told();
    assert_eq!(told.all("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn hop_by_hop_headers_of_a_request_end_here() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close, X-Named, x-other\r\nX-Named: 1\r\nX-Other: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: websocket\r\n\
         X-Kept: 3\r\n\r\n"
    );
    let told = send_plain(portolan.plain, &request).unwrap().told();
    for gone in ["x-named", "x-other", "keep-alive", "proxy-connection", "te", "upgrade", "connection"] {
        assert_eq!(told.all(gone), [""; 0], "{told:?}");
    }
    assert_eq!(told.all("x-kept"), ["3"]);
}

#[test]
fn connection_cannot_take_away_what_portolan_says() {
    let backend = Backend::named("s");
    let portolan = start(&backend, json!({}));
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close, X-Forwarded-For, X-Real-Ip, X-Forwarded-Proto, Host, \
         Forwarded\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    );
    let told = send_plain(portolan.plain, &request).unwrap().told();
    assert_eq!((told.all("x-forwarded-for"), told.all("x-real-ip")), (vec!["127.0.0.1"], vec!["127.0.0.1"]));
    assert_eq!((told.all("x-forwarded-proto"), told.all("host")), (vec!["http"], vec![HOST]));
    assert_eq!(told.all("forwarded").len(), 1);
}

#[test]
fn hop_by_hop_headers_of_an_answer_end_here() {
    let backend = Backend::answering(|exchange| {
        let headers = [
            "Connection: keep-alive, X-Internal",
            "X-Internal: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Upgrade: h2c",
            "X-Kept: 2",
        ];
        exchange.respond("200 OK", &headers, b"")?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend, json!({}));
    for protocol in ["--http1.1", "--http2"] {
        let answer = portolan.curl("https://headers.test/", &[protocol]).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        for gone in ["connection", "x-internal", "keep-alive", "proxy-connection", "upgrade"] {
            assert_eq!(answer.header(gone), None, "{answer:?}");
        }
        assert_eq!(answer.header("x-kept"), Some("2"), "{answer:?}");
    }
}

#[test]
fn middlewares_change_path_and_headers_in_their_order() {
    let backend = Backend::answering(|exchange| {
        if exchange.request.target != "/v1/outer/x?q=%2F" {
            return exchange.respond("500 Wrong", &[], exchange.request.target.clone().as_bytes()).map(|()| Then::Keep);
        }
        let headers = exchange.request.headers.clone();
        let echoed: Vec<String> =
            headers.iter().filter(|(k, _)| k.starts_with("x-q")).map(|(k, v)| format!("{k}={v}")).collect();
        exchange.respond("200 OK", &["X-A-Gone: 1", "X-A-Set: old", "X-A-Add: one"], echoed.join(" ").as_bytes())?;
        Ok(Then::Keep)
    });
    let portolan = start(
        &backend,
        json!({
            "routes": { "s": { "use": ["outer", "version", "change"] } },
            "middlewares": {
                "outer": { "add_prefix": "/outer" },
                "version": { "add_prefix": "/v1" },
                "change": { "headers": {
                    "request": { "remove": ["X-Q-Gone"], "set": { "X-Q-Set": "new" }, "add": { "X-Q-Add": "two" } },
                    "response": { "remove": ["X-A-Gone"], "set": { "X-A-Set": "new" }, "add": { "X-A-Add": "two" } },
                } },
            },
        }),
    );
    let options = ["--header", "X-Q-Gone: 1", "--header", "X-Q-Set: old", "--header", "X-Q-Add: one"];
    let answer = portolan.curl("https://headers.test/x?q=%2F", &options).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "x-q-set=new x-q-add=one x-q-add=two"), "{answer:?}");
    let values = |name: &str| -> Vec<&str> {
        answer.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((values("x-a-gone"), values("x-a-set"), values("x-a-add")), (vec![], vec!["new"], vec!["one", "two"]));
}
