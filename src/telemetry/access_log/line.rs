//! One record as one line: a JSON object, or the common log format.
//!
//! Written by hand into the lane's buffer, because it runs once per request. Whatever a client sends stays inside its
//! field: control characters, the C1 ones (a terminal obeys them) and the line separators of Unicode included, are
//! escaped, and bytes that are not UTF-8 become U+FFFD in JSON and `\xHH` in the common format.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{ClientRecord, Record, TlsRecord};

/// Of a certificate's alternative names: enough to know whose it is, and a bound for a line.
const MOST_NAMES: usize = 16;

/// The text of the current second: a date costs as much as the rest of a line.
#[derive(Default)]
pub(super) struct Clock {
    second: Option<i64>,
    text: String,
}

impl Clock {
    fn at(&mut self, time: Timestamp, format: &str) -> &[u8] {
        if self.second != Some(time.as_second()) {
            self.second = Some(time.as_second());
            self.text = time.to_zoned(TimeZone::UTC).strftime(format).to_string();
        }
        self.text.as_bytes()
    }
}

pub(super) fn json(out: &mut Vec<u8>, clock: &mut Clock, record: &Record<'_>) {
    let Record {
        time,
        client,
        listener,
        protocol,
        method,
        host,
        path,
        status,
        request_bytes,
        response_bytes,
        duration,
        upstream_duration,
        route,
        service,
        endpoint,
        tls,
        client_certificate,
        reason,
        user_agent,
        referer,
    } = record;
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(clock.at(*time, "%Y-%m-%dT%H:%M:%S"));
    out.push(b'.');
    thousandths(out, u64::from(time.subsec_nanosecond().unsigned_abs()) / 1_000_000);
    out.extend_from_slice(b"Z\",\"client\":\"");
    address(out, *client);
    out.push(b'"');
    text(out, b",\"listener\":", listener.as_bytes());
    text(out, b",\"protocol\":", protocol.as_bytes());
    text(out, b",\"method\":", method.as_bytes());
    text(out, b",\"host\":", host.as_bytes());
    text(out, b",\"path\":", path.as_bytes());
    number(out, b",\"status\":", u64::from(*status));
    number(out, b",\"request_bytes\":", *request_bytes);
    number(out, b",\"response_bytes\":", *response_bytes);
    millis(out, b",\"duration_ms\":", *duration);
    if let Some(upstream) = upstream_duration {
        millis(out, b",\"upstream_ms\":", *upstream);
    }
    maybe(out, b",\"route\":", route.map(str::as_bytes));
    maybe(out, b",\"service\":", service.map(str::as_bytes));
    maybe(out, b",\"endpoint\":", endpoint.map(str::as_bytes));
    if let Some(TlsRecord { version, cipher, sni, resumed }) = tls {
        text(out, b",\"tls\":{\"version\":", version.as_bytes());
        text(out, b",\"cipher\":", cipher.as_bytes());
        maybe(out, b",\"sni\":", sni.map(str::as_bytes));
        match resumed {
            Some(true) => out.extend_from_slice(b",\"resumed\":true"),
            Some(false) => out.extend_from_slice(b",\"resumed\":false"),
            None => {}
        }
        out.push(b'}');
    }
    if let Some(ClientRecord { subject, issuer, serial, fingerprint, names }) = client_certificate {
        text(out, b",\"client_certificate\":{\"subject\":", subject.as_bytes());
        text(out, b",\"issuer\":", issuer.as_bytes());
        text(out, b",\"serial\":", serial.as_bytes());
        text(out, b",\"fingerprint\":", fingerprint.as_bytes());
        out.extend_from_slice(b",\"san\":[");
        for (index, name) in names.iter().take(MOST_NAMES).enumerate() {
            text(out, if index == 0 { b"" } else { b"," }, name.as_bytes());
        }
        out.extend_from_slice(b"]}");
    }
    maybe(out, b",\"reason\":", reason.map(str::as_bytes));
    maybe(out, b",\"user_agent\":", *user_agent);
    maybe(out, b",\"referer\":", *referer);
    out.extend_from_slice(b"}\n");
}

/// `host ident authuser [date] "request" status bytes`, as servers have written it since the first one.
pub(super) fn common(out: &mut Vec<u8>, clock: &mut Clock, record: &Record<'_>) {
    ip(out, record.client.ip());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(clock.at(record.time, "%d/%b/%Y:%H:%M:%S +0000"));
    out.extend_from_slice(b"] \"");
    common_escaped(out, record.method);
    out.push(b' ');
    common_escaped(out, record.path);
    out.push(b' ');
    common_escaped(out, record.protocol);
    number(out, b"\" ", u64::from(record.status));
    match record.response_bytes {
        0 => out.extend_from_slice(b" -\n"),
        bytes => {
            number(out, b" ", bytes);
            out.push(b'\n');
        }
    }
}

fn maybe(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

/// `key` as it stands in the line, its comma and colon included.
fn text(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    out.push(b'"');
    if value.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(value);
    } else {
        json_escaped(out, value);
    }
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn json_escaped(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    // Cannot fail: a vector takes every byte.
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn common_escaped(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        if is_plain(byte) {
            out.push(byte);
        } else {
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    let v6 = address.ip().to_canonical().is_ipv6();
    if v6 {
        out.push(b'[');
    }
    ip(out, address.ip());
    if v6 {
        out.push(b']');
    }
    number(out, b":", u64::from(address.port()));
}

fn ip(out: &mut Vec<u8>, address: IpAddr) {
    // A dual-stack socket shows IPv4 clients as `::ffff:192.0.2.1`.
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            number(out, b"", u64::from(a));
            number(out, b".", u64::from(b));
            number(out, b".", u64::from(c));
            number(out, b".", u64::from(d));
        }
        IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

fn millis(out: &mut Vec<u8>, key: &[u8], duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, key, micros / 1000);
    out.push(b'.');
    thousandths(out, micros % 1000);
}

fn thousandths(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&[digit(n / 100), digit(n / 10), digit(n)]);
}

fn number(out: &mut Vec<u8>, key: &[u8], mut n: u64) {
    out.extend_from_slice(key);
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = digit(n);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn digit(n: u64) -> u8 {
    b'0' + (n % 10) as u8
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    pub fn record() -> Record<'static> {
        Record {
            time: "2026-03-01T12:34:56.0789Z".parse().unwrap(),
            client: "[::ffff:192.0.2.7]:40000".parse().unwrap(),
            listener: "https",
            protocol: "HTTP/1.1",
            method: "GET",
            host: "shop.example.com",
            path: "/api?x=1",
            status: 200,
            request_bytes: 0,
            response_bytes: 1234,
            duration: Duration::from_micros(12_045),
            upstream_duration: Some(Duration::from_micros(999)),
            route: Some("docker/route/shop/web"),
            service: Some("docker/service/shop/web"),
            endpoint: Some("172.18.0.2:8080"),
            tls: Some(TlsRecord {
                version: "TLSv1.3",
                cipher: "TLS13_AES_256_GCM_SHA384",
                sni: Some("shop.example.com"),
                resumed: Some(false),
            }),
            client_certificate: None,
            reason: None,
            user_agent: Some(b"curl/8"),
            referer: None,
        }
    }

    fn as_json(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        json(&mut out, &mut Clock::default(), record);
        String::from_utf8(out).unwrap()
    }

    fn as_common(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        common(&mut out, &mut Clock::default(), record);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_in_full() {
        assert_eq!(
            as_json(&record()),
            concat!(
                r#"{"time":"2026-03-01T12:34:56.078Z","client":"192.0.2.7:40000","listener":"https","#,
                r#""protocol":"HTTP/1.1","method":"GET","host":"shop.example.com","path":"/api?x=1","status":200,"#,
                r#""request_bytes":0,"response_bytes":1234,"duration_ms":12.045,"upstream_ms":0.999,"#,
                r#""route":"docker/route/shop/web","service":"docker/service/shop/web","endpoint":"172.18.0.2:8080","#,
                r#""tls":{"version":"TLSv1.3","cipher":"TLS13_AES_256_GCM_SHA384","sni":"shop.example.com","#,
                r#""resumed":false},"user_agent":"curl/8"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_verified_client_is_named() {
        let names = ["DNS:web.example".to_string(), "URI:spiffe://td/\"x".to_string()];
        let client =
            ClientRecord { subject: "CN=web", issuer: "CN=ca", serial: "0a", fingerprint: "ff", names: &names };
        let line: Value =
            serde_json::from_str(&as_json(&Record { client_certificate: Some(client), ..record() })).unwrap();
        assert_eq!(
            line["client_certificate"],
            serde_json::json!({
                "subject": "CN=web", "issuer": "CN=ca", "serial": "0a", "fingerprint": "ff",
                "san": ["DNS:web.example", "URI:spiffe://td/\"x"]
            })
        );
    }

    #[test]
    fn what_did_not_happen_is_absent() {
        let record = Record {
            client: "[2001:db8::1]:443".parse().unwrap(),
            upstream_duration: None,
            route: None,
            service: None,
            endpoint: None,
            tls: None,
            user_agent: None,
            reason: Some("NoRoute"),
            ..record()
        };
        let line: Value = serde_json::from_str(&as_json(&record)).unwrap();
        assert_eq!(line["client"], "[2001:db8::1]:443");
        assert_eq!(line["reason"], "NoRoute");
        for absent in ["upstream_ms", "route", "service", "endpoint", "tls", "user_agent", "referer"] {
            assert!(line.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn a_client_cannot_forge_a_line_or_command_a_terminal() {
        let record = Record {
            path: "/\r\n{\"status\":200}\u{2028}\u{9b}31m\"\\",
            user_agent: Some(b"a\xff\x1b[2Jb\xc3\xa9\x7f"),
            ..record()
        };
        let line = as_json(&record);
        assert_eq!(line.matches(|c: char| c.is_control() || c == '\u{2028}').collect::<String>(), "\n", "{line:?}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["path"], record.path);
        assert_eq!(line["user_agent"], "a\u{fffd}\u{1b}[2Jb\u{e9}\u{7f}");
    }

    #[test]
    fn the_common_format() {
        assert_eq!(
            as_common(&record()),
            "192.0.2.7 - - [01/Mar/2026:12:34:56 +0000] \"GET /api?x=1 HTTP/1.1\" 200 1234\n"
        );
        let forged = Record { path: "/\" 200 1\n\u{e9}", response_bytes: 0, status: 404, ..record() };
        assert!(as_common(&forged).ends_with("\"GET /\\x22 200 1\\x0A\\xC3\\xA9 HTTP/1.1\" 404 -\n"));
    }

    #[test]
    fn the_clock_follows_the_seconds() {
        let mut clock = Clock::default();
        for (time, text) in [("2026-03-01T00:00:00.9Z", "00"), ("2026-03-01T00:00:01Z", "01")] {
            assert_eq!(clock.at(time.parse().unwrap(), "%S"), text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_of_json(agent in proptest::collection::vec(any::<u8>(), 0..64), path in ".{0,40}") {
            let record = Record { user_agent: Some(&agent), path: &path, ..record() };
            let line = as_json(&record);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let line: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(line["path"].as_str(), Some(path.as_str()));
            prop_assert_eq!(line["user_agent"].as_str(), Some(&*String::from_utf8_lossy(&agent)));
        }

        #[test]
        fn numbers_are_written_as_they_are(n in any::<u64>()) {
            let mut out = Vec::new();
            number(&mut out, b"", n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }
}
