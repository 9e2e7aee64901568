//! What endpoints are told of clients whose certificates are verified, in the words of each proxy that users come from.
//! The clients' certificates are the internal CA's: an intermediate stands between them and the root. openssl is asked
//! what is in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::get;
use crate::support::backend::{Backend, Told};
use crate::support::http::Answer;
use crate::support::output_of;
use crate::support::peer::Peer;
use crate::support::pki::Pair;
use crate::support::portolan::Portolan;
use crate::support::tls::Client;

const ALL: [&str; 6] = ["client_cert", "client_cert_chain", "xfcc", "traefik_pem", "traefik_info", "nginx"];
/// By which an endpoint could be told of a client.
const HEADERS: [&str; 9] = [
    "client-cert",
    "client-cert-chain",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "ssl-client-verify",
    "ssl-client-cert",
    "ssl-client-subject-dn",
    "ssl-client-issuer-dn",
];

struct Stage {
    portolan: Portolan,
    web: Pair,
}

fn stage(endpoint: &str, over: Value) -> Stage {
    let route = |host: &str, policy: Option<&str>| json!({ "host": host, "service": "s", "mtls": policy });
    let policy = |mode: &str, forward: &[&str]| json!({ "mode": mode, "trust": ["corp"], "forward": forward });
    let mut settings = json!({
        "services": { "s": { "endpoints": [endpoint] } },
        "trust_bundles": { "corp": { "issuer": "corp" } },
        "routes": {
            "all": route("all.test", Some("all")),
            "maybe": route("maybe.test", Some("maybe")),
            "silent": route("silent.test", Some("silent")),
            "open": route("open.test", None),
        },
        "mtls_policies": {
            "all": policy("require", &ALL),
            "maybe": policy("verify_if_given", &ALL),
            "silent": policy("require", &[]),
        },
    });
    crate::support::portolan::lay_over(&mut settings, over);
    let portolan = Portolan::serving(settings);
    let dir = portolan.dir().join("web");
    let names = ["--uri", "spiffe://td.example/web", "--dns", "web.example", "--cn", "Web, \"the\" client"];
    portolan.cli(&[&["ca", "issue", "--client", "--out", dir.to_str().unwrap()], &names[..]].concat());
    let web = Pair { cert_file: dir.join("cert.pem"), key_file: dir.join("key.pem") };
    Stage { portolan, web }
}

impl Stage {
    fn curl(&self, shown: bool, url: &str, options: &[&str]) -> Answer {
        let (cert, key) = (self.web.cert_file.to_str().unwrap(), self.web.key_file.to_str().unwrap());
        let shown: &[&str] = if shown { &["--cert", cert, "--key", key] } else { &[] };
        self.portolan.curl(url, &[options, shown].concat()).unwrap()
    }

    fn told(&self, shown: bool, url: &str, options: &[&str]) -> Told {
        let answer = self.curl(shown, url, options);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.told()
    }

    /// The certificates that the client shows, each in a file of its own, its own first.
    fn certificates(&self) -> Vec<PathBuf> {
        let text = std::fs::read_to_string(&self.web.cert_file).unwrap();
        let blocks = text.split_inclusive("-----END CERTIFICATE-----\n");
        let put = |(index, block): (usize, &str)| {
            let file = self.portolan.dir().join(format!("shown-{index}.pem"));
            std::fs::write(&file, block).unwrap();
            file
        };
        blocks.enumerate().map(put).collect()
    }
}

fn openssl(file: &Path, options: &[&str]) -> String {
    output_of(Command::new("openssl").args(["x509", "-noout", "-in"]).arg(file).args(options)).trim().to_string()
}

/// Of a PEM file: what stands between its lines.
fn base64(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn encoded(text: &str) -> String {
    let escape = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => c.to_string(),
        other => format!("%{:02X}", u32::from(other)),
    };
    text.chars().map(escape).collect()
}

#[track_caller]
fn one<'t>(told: &'t Told, header: &str) -> &'t str {
    let all = told.all(header);
    assert_eq!(all.len(), 1, "{header}: {told:?}");
    all[0]
}

#[track_caller]
fn nothing(told: &Told, but: &[&str]) {
    for header in HEADERS.iter().filter(|header| !but.contains(header)) {
        assert!(told.all(header).is_empty(), "{header}: {told:?}");
    }
}

/// Every header against what openssl and the files say.
#[track_caller]
fn introduced(told: &Told, stage: &Stage) {
    let shown = stage.certificates();
    assert_eq!(shown.len(), 2, "its own and the intermediate's");
    let pem = std::fs::read_to_string(&shown[0]).unwrap();
    let subject = openssl(&shown[0], &["-subject", "-nameopt", "RFC2253"]);
    let subject = subject.strip_prefix("subject=").unwrap();
    let issuer = openssl(&shown[0], &["-issuer", "-nameopt", "RFC2253"]);
    let issuer = issuer.strip_prefix("issuer=").unwrap();
    let print = openssl(&shown[0], &["-fingerprint", "-sha256"]).split_once('=').unwrap().1.replace(':', "");

    assert_eq!(one(told, "client-cert"), format!(":{}:", base64(&shown[0])));
    assert_eq!(one(told, "client-cert-chain"), format!(":{}:", base64(&shown[1])));
    let xfcc = format!(
        "Hash={};Cert=\"{}\";Subject=\"{subject}\";URI=spiffe://td.example/web;DNS=web.example",
        print.to_lowercase(),
        encoded(&pem)
    );
    assert_eq!(one(told, "x-forwarded-client-cert"), xfcc);
    assert_eq!(one(told, "x-forwarded-tls-client-cert"), format!("{},{}", base64(&shown[0]), base64(&shown[1])));
    assert_eq!(one(told, "ssl-client-verify"), "SUCCESS");
    assert_eq!(one(told, "ssl-client-cert"), encoded(&pem));
    assert_eq!(one(told, "ssl-client-subject-dn"), subject);
    assert_eq!(one(told, "ssl-client-issuer-dn"), issuer);
    let info = one(told, "x-forwarded-tls-client-cert-info");
    for part in [
        // A comma and quotes of the name's own are no separators.
        "Subject=\"CN=Web%2C %22the%22 client\";Issuer=\"",
        "\";SAN=\"web.example,spiffe://td.example/web\",Subject=\"",
    ] {
        assert!(info.contains(&encoded(part).replace("%20", "+")), "{part} in {info}");
    }
}

#[test]
fn an_endpoint_is_told_who_called_in_every_way_that_is_asked_for() {
    let (h1, h2c) = (Backend::named("s"), Peer::h2c());
    for endpoint in [h1.url(), h2c.url("h2c")] {
        let stage = stage(&endpoint, json!({}));
        for version in ["--http1.1", "--http2"] {
            for host in ["all", "maybe"] {
                introduced(&stage.told(true, &format!("https://{host}.test/"), &[version]), &stage);
            }
            nothing(&stage.told(true, "https://silent.test/", &[version]), &[]);
            nothing(&stage.told(true, "https://open.test/", &[version]), &[]);
            let nobody = stage.told(false, "https://maybe.test/", &[version]);
            nothing(&nobody, &["ssl-client-verify"]);
            assert_eq!(one(&nobody, "ssl-client-verify"), "NONE");
        }
    }
}

#[test]
fn the_head_of_an_upgrade_and_every_request_of_a_connection_have_it() {
    let backend = Backend::named("s");
    let stage = stage(&backend.url(), json!({}));
    let client = Client::trusting(&stage.portolan.root()).showing(&stage.web.cert_file, &stage.web.key_file);
    let mut session = client.connect(stage.portolan.https, "all.test").unwrap();
    let upgrade = "GET / HTTP/1.1\r\nHost: all.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";
    // What `Connection` names ends at the proxy, and what the proxy says does not.
    let listed = "GET / HTTP/1.1\r\nHost: all.test\r\nConnection: client-cert, ssl-client-verify\r\n\r\n";
    for (request, upgrades) in [(&*get("all.test", "/"), false), (upgrade, true), (listed, false)] {
        let told = session.ask(request).unwrap().told();
        assert_eq!(told.all("upgrade").len(), usize::from(upgrades), "{told:?}");
        introduced(&told, &stage);
    }
}

#[test]
fn a_policy_that_changes_is_told_by_its_new_words_on_the_same_connection() {
    let backend = Backend::named("s");
    let stage = stage(&backend.url(), json!({}));
    let client = Client::trusting(&stage.portolan.root()).showing(&stage.web.cert_file, &stage.web.key_file);
    let mut session = client.connect(stage.portolan.https, "all.test").unwrap();
    introduced(&session.ask(&get("all.test", "/")).unwrap().told(), &stage);
    stage.portolan.edit(json!({ "mtls_policies": { "all": { "forward": ["nginx"] } } }));
    crate::support::wait::eventually("the new words", || {
        let told = session.ask(&get("all.test", "/")).unwrap().told();
        let nginx = told.all("ssl-client-verify") == ["SUCCESS"];
        if nginx && told.all("client-cert").is_empty() { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

#[test]
fn behind_a_trusted_proxy_whom_portolan_knows_comes_first() {
    let backend = Backend::named("s");
    let stage = stage(&backend.url(), json!({ "listeners": { "https": { "trusted_proxies": ["127.0.0.0/8"] } } }));
    let says = [
        "--header",
        "Client-Cert: :dGhlaXJz:",
        "--header",
        "X-Forwarded-Client-Cert: Hash=theirs",
        "--header",
        "X-SSL-Client-Verify: theirs",
    ];
    // Nobody is known: the trusted proxy's word stands.
    for url in ["https://open.test/", "https://maybe.test/"] {
        let told = stage.told(false, url, &says);
        assert_eq!((one(&told, "client-cert"), one(&told, "x-ssl-client-verify")), (":dGhlaXJz:", "theirs"));
        assert!(told.all("ssl-client-verify").is_empty(), "{told:?}");
    }
    let told = stage.told(true, "https://all.test/", &says);
    assert!(told.all("x-ssl-client-verify").is_empty(), "{told:?}");
    assert_eq!(one(&told, "ssl-client-verify"), "SUCCESS");
    assert_ne!(one(&told, "client-cert"), ":dGhlaXJz:");
    let xfcc = one(&told, "x-forwarded-client-cert");
    assert!(xfcc.starts_with("Hash=theirs, Hash=") && xfcc.contains("spiffe://td.example/web"), "{xfcc}");
}

#[test]
fn only_the_verified_are_told_of() {
    let backend = Backend::named("s");
    let stage = stage(
        &backend.url(),
        json!({
            "mtls_policies": { "any": { "mode": "require_any", "forward": ["xfcc"] } },
            "routes": { "any": { "host": "any.test", "service": "s", "mtls": "any" } },
        }),
    );
    stage.portolan.problem("Invalid", &["any", "forward needs mode verify_if_given or require"]);
    let answer = stage.curl(true, "https://any.test/", &[]);
    assert_eq!((answer.status, answer.reason()), (503, Some("Invalid")), "{answer:?}");
}
