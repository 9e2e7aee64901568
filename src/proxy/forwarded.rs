//! Headers that say who the client is, and those that end at this hop.
//!
//! Inbound copies of both, and of identity headers, are stripped in every spelling unless the peer is a trusted proxy:
//! what an endpoint reads there is Portolan's word. RFC 7239 (Forwarded), RFC 9110 §7.6.1 (hop-by-hop).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::model::middleware::UrlScheme;
use crate::model::vouching::{CERTIFICATE_HEADERS, folds, starts};
use crate::table::introduction::{Introduction, XFCC};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Besides what `Connection` lists. `Trailer` is not among them: it goes with the trailers (RFC 9110 §6.6.2).
const HOP_BY_HOP: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// How many headers [`Vouched::apply`] adds, and the `Host` that goes with them.
const ADDED: usize = 8;

/// By what an inbound name starts, in whatever spelling, it says who somebody is, besides what tells of certificates.
const VOUCHING: [&str; 3] = ["forwarded", "x-real-ip", "x-forwarded"];

/// What is the same for every request of a connection, made once.
#[derive(Debug)]
pub struct Vouched {
    peer: SocketAddr,
    peer_text: HeaderValue,
    scheme: UrlScheme,
    proto: HeaderValue,
    port: HeaderValue,
    server: HeaderValue,
    trusted: bool,
    /// The `Forwarded` element for the authority asked for last: clients ask for the same one again and again.
    last: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Vouched {
    /// `server` is this machine's name.
    pub fn new(peer: SocketAddr, tls: bool, port: u16, server: &HeaderValue, trusted_proxies: &[IpNet]) -> Vouched {
        // A v4 client on a dual-stack socket is a v4 client.
        let ip = peer.ip().to_canonical();
        let text = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let scheme = if tls { UrlScheme::Https } else { UrlScheme::Http };
        Vouched {
            peer: SocketAddr::new(ip, peer.port()),
            peer_text: text(ip.to_string()),
            scheme,
            proto: HeaderValue::from_static(scheme.as_str()),
            port: text(port.to_string()),
            server: server.clone(),
            trusted: trusted_proxies.iter().any(|net| net.contains(&ip)),
            last: RefCell::default(),
        }
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whom the client is told to be by those who are believed, else the peer. Before [`Vouched::apply`].
    pub fn client(&self, headers: &HeaderMap) -> IpAddr {
        if !self.trusted {
            return self.peer.ip();
        }
        // The nearest hop stands last: what is to its left was written by whoever it names.
        let last = headers.get_all(X_FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
        let named = last.and_then(|text| text.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
        named.map_or(self.peer.ip(), |ip| ip.to_canonical())
    }

    /// Replaces what the client claims by what is known; behind a trusted proxy, adds to it. Who is known by a certificate
    /// is introduced to the endpoint where a policy says so.
    pub fn apply(&self, headers: &mut HeaderMap, authority: &HeaderValue, introduction: Option<&Introduction>) {
        match self.trusted {
            false => strip(headers, vouches),
            // It has looked after its own words, not after all that somebody could take for them.
            true => strip(headers, |name| folds(name) && vouches(name)),
        }
        headers.reserve(ADDED);
        if let Some(introduction) = introduction {
            self.introduce(headers, introduction);
        }
        let chained = chain(headers, &X_FORWARDED_FOR, &self.peer_text);
        headers.insert(X_FORWARDED_FOR, chained);
        let chained = chain(headers, &FORWARDED, &self.element(authority));
        headers.insert(FORWARDED, chained);
        for (name, value) in [
            (X_FORWARDED_PROTO, &self.proto),
            (X_FORWARDED_HOST, authority),
            (X_FORWARDED_PORT, &self.port),
            (X_REAL_IP, &self.peer_text),
        ] {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        headers.insert(X_FORWARDED_SERVER, self.server.clone());
    }

    /// Whom Portolan has verified takes the place of whom a trusted proxy names, in every header: an endpoint that reads
    /// two never reads two clients. But a list of all on the way, which XFCC is, grows by one.
    fn introduce(&self, headers: &mut HeaderMap, introduction: &Introduction) {
        if self.trusted && !introduction.verified {
            return;
        }
        let before: Vec<HeaderValue> = headers.get_all(XFCC).iter().cloned().collect();
        if self.trusted {
            strip(headers, tells_of_certificates);
        }
        for (name, value) in &introduction.headers {
            if *name == XFCC {
                for element in &before {
                    headers.append(XFCC, element.clone());
                }
                let chained = chain(headers, &XFCC, value);
                headers.insert(XFCC, chained);
            } else {
                headers.insert(name.clone(), value.clone());
            }
        }
    }

    /// Scheme and authority of the URL that the client asked for: those of the request, or of the one that a trusted proxy
    /// received. Where proxies stand in a row, the first one's word.
    pub fn asked<'a>(&self, headers: &HeaderMap, authority: &'a HeaderValue) -> (UrlScheme, Cow<'a, HeaderValue>) {
        if !self.trusted {
            return (self.scheme, Cow::Borrowed(authority));
        }
        let first = |name: &HeaderName| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| text.split(',').next()).map(str::trim)
        };
        let scheme = match first(&X_FORWARDED_PROTO) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => UrlScheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case("http") => UrlScheme::Http,
            _ => self.scheme,
        };
        let host = first(&X_FORWARDED_HOST).and_then(|host| HeaderValue::from_str(host).ok());
        (scheme, host.map_or(Cow::Borrowed(authority), Cow::Owned))
    }

    /// RFC 7239 §4: an IPv6 address stands in brackets and quotes.
    fn element(&self, authority: &HeaderValue) -> HeaderValue {
        let mut last = self.last.borrow_mut();
        if let Some((of, element)) = &*last
            && of == authority
        {
            return element.clone();
        }
        let mut element = String::with_capacity(64);
        let _ = match self.peer.ip() {
            IpAddr::V4(ip) => write!(element, "for={ip}"),
            IpAddr::V6(ip) => write!(element, "for=\"[{ip}]\""),
        };
        if let Ok(host) = authority.to_str() {
            let _ = write!(element, ";host=\"{host}\"");
        }
        let _ = write!(element, ";proto={}", self.proto.to_str().unwrap_or("http"));
        let element = HeaderValue::try_from(element).unwrap_or_else(|_| HeaderValue::from_static("for=unknown"));
        *last = Some((authority.clone(), element.clone()));
        element
    }
}

fn chain(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    if !headers.contains_key(name) {
        return last.clone();
    }
    let mut text = String::new();
    for value in headers.get_all(name) {
        if let Ok(value) = value.to_str() {
            text.push_str(value);
            text.push_str(", ");
        }
    }
    text.push_str(last.to_str().unwrap_or("unknown"));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn strip(headers: &mut HeaderMap, wanted: impl Fn(&str) -> bool) {
    let forged: Vec<HeaderName> = headers.keys().filter(|name| wanted(name.as_str())).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// Whether it says who somebody is, in any spelling.
pub fn vouches(name: &str) -> bool {
    // Nearly every header is told apart by its first letter.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'f' | b'c' | b's' | b'l')) {
        return false;
    }
    VOUCHING.iter().any(|prefix| starts(name, prefix)) || tells_of_certificates(name)
}

fn tells_of_certificates(name: &str) -> bool {
    CERTIFICATE_HEADERS.iter().any(|prefix| starts(name, prefix))
}

/// Removes what ends at this hop: the named headers and whatever `Connection` lists.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: SmallVec<[HeaderName; 2]> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            // What most of them say names no header that would stay.
            .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
            .filter_map(|name| name.parse().ok())
            // What frames the message, names its target or tells a loop is nobody's to remove.
            .filter(|name| ![HOST, CONTENT_LENGTH, VIA].contains(name))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    // One look at each name that is there, and hardly any is of such a length.
    let ending =
        |name: &&HeaderName| matches!(name.as_str().len(), 2 | 7 | 10 | 14 | 16..=19) && HOP_BY_HOP.contains(name);
    let ending: SmallVec<[HeaderName; 2]> = headers.keys().filter(ending).cloned().collect();
    for name in ending {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vouched(peer: &str, trusted: &[&str]) -> Vouched {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().expect("net")).collect();
        Vouched::new(peer.parse().expect("peer"), true, 443, &HeaderValue::from_static("edge"), &trusted)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().expect("name"), value.parse().expect("value"));
        }
        headers
    }

    const HOST_TEXT: HeaderValue = HeaderValue::from_static("a.example:8443");

    #[test]
    fn a_strangers_claims_are_replaced_in_every_spelling() {
        let mut h = headers(&[
            ("X-Forwarded-For", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("X-Forwarded-Proto", "http"),
            ("Forwarded", "for=6.6.6.6"),
            ("X-Real-Ip", "6.6.6.6"),
            ("Client-Cert", ":x:"),
            ("X-Forwarded-Tls-Client-Cert", "x"),
            ("X_Forwarded_Client_Cert", "x"),
            ("ssl-client-verify", "SUCCESS"),
            ("X-Custom", "kept"),
        ]);
        vouched("[::ffff:10.1.2.3]:999", &["192.168.0.0/16"]).apply(&mut h, &HOST_TEXT, None);
        assert!(h.values().all(|value| value != "6.6.6.6" && value != "x" && value != ":x:" && value != "SUCCESS"));
        assert_eq!(h["x-forwarded-for"], "10.1.2.3");
        assert_eq!(h["forwarded"], "for=10.1.2.3;host=\"a.example:8443\";proto=https");
        assert_eq!(
            (&h["x-forwarded-proto"], &h["x-forwarded-port"]),
            (&"https".parse().unwrap(), &"443".parse().unwrap())
        );
        assert_eq!(
            (&h["x-real-ip"], &h["x-forwarded-server"]),
            (&"10.1.2.3".parse().unwrap(), &"edge".parse().unwrap())
        );
        assert_eq!(h["x-forwarded-host"], "a.example:8443");
        assert_eq!(h["x-custom"], "kept");
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_added_to() {
        let mut h = headers(&[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "http"), ("X-Real-Ip", "6.6.6.6")]);
        vouched("10.1.2.3:999", &["10.0.0.0/8"]).apply(&mut h, &HOST_TEXT, None);
        assert_eq!(h["x-forwarded-for"], "6.6.6.6, 10.1.2.3");
        assert_eq!(h["x-forwarded-proto"], "http");
        assert_eq!(h["x-real-ip"], "6.6.6.6");
    }

    #[test]
    fn the_url_that_was_asked_for_is_the_first_trusted_proxys() {
        let asked = |trusted: &[&str], pairs: &[(&str, &str)]| {
            let own = HOST_TEXT;
            let (scheme, authority) = vouched("10.1.2.3:999", trusted).asked(&headers(pairs), &own);
            format!("{} {}", scheme.as_str(), authority.to_str().unwrap())
        };
        let says = [("X-Forwarded-Proto", "HTTP, https"), ("X-Forwarded-Host", "front.example, b.example")];
        assert_eq!(asked(&["10.0.0.0/8"], &says), "http front.example");
        assert_eq!(asked(&["192.168.0.0/16"], &says), "https a.example:8443", "a stranger is not believed");
        assert_eq!(asked(&["10.0.0.0/8"], &[("X-Forwarded-Proto", "gopher")]), "https a.example:8443");
    }

    #[test]
    fn an_ipv6_client_is_quoted_in_forwarded() {
        let mut h = HeaderMap::new();
        vouched("[2001:db8::1]:5", &[]).apply(&mut h, &HOST_TEXT, None);
        assert_eq!(h["forwarded"], "for=\"[2001:db8::1]\";host=\"a.example:8443\";proto=https");
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let mut h = headers(&[
            ("Connection", "close, X-Secret, Host, Via"),
            ("X-Secret", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("Upgrade", "websocket"),
            ("HTTP2-Settings", "AAMAAABk"),
            ("Proxy-Authorization", "Basic Og=="),
            ("Via", "1.1 portolan"),
            ("Trailer", "x-sum"),
            ("Host", "a"),
            ("X-Kept", "1"),
        ]);
        strip_hop_by_hop(&mut h);
        let mut left: Vec<&str> = h.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "trailer", "via", "x-kept"]);
    }

    #[test]
    fn whatever_ends_at_a_hop_is_told_by_its_length_first() {
        for name in HOP_BY_HOP {
            let mut h = headers(&[(name.as_str(), "x"), ("accept", "kept"), ("user-agent", "kept")]);
            strip_hop_by_hop(&mut h);
            assert_eq!(h.len(), 2, "{name}");
        }
    }
}
