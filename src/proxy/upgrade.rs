//! How a client and an endpoint agree to leave HTTP (RFC 9110 §7.8, RFC 8441).
//!
//! ```text
//! request head ─▶ Wish ─▶ offer ─▶ endpoint: 101 ─▶ Offer::agreed ─▶ 101 (h1), 200 (h2) ─▶ Tunnel
//!                                            other ─▶ an ordinary answer
//! ```
//! `Upgrade` ends at this hop like every hop-by-hop header; what goes on is a wish of our own. A protocol that would carry
//! requests past the routes and their policies is never offered.

use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::ext::Protocol;

use super::error::{ErrorKind, ProxyError};
use super::websocket::{self, ACCEPT, KEY, VERSION, WEBSOCKET};

/// HTTP itself in other clothes: behind an upgrade to one of these, requests could be for anything.
const NEVER: [&str; 6] = ["h2c", "h2", "h3", "http", "tls", "ssl"];

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Over h1: these protocols.
    Protocols(HeaderValue),
    /// Over h2, by an extended CONNECT.
    WebSocket,
}

/// What an endpoint was offered.
#[derive(Debug)]
pub struct Offer {
    protocols: HeaderValue,
    /// The proof that it has to give, where the client could not ask for one.
    accept: Option<HeaderValue>,
}

/// Takes the wish from a head. An extended CONNECT becomes the GET that it stands for (RFC 8441 §5), so that routes match
/// and endpoints see what they would over h1. `whole`: nothing follows the head.
pub fn wish(head: &mut Parts, whole: bool) -> Result<Option<Wish>, ProxyError> {
    if let Some(protocol) = head.extensions.remove::<Protocol>() {
        if protocol.as_str() != WEBSOCKET {
            let detail = format!("an extended CONNECT for {}", protocol.as_str());
            return Err(ProxyError::new(ErrorKind::ConnectRefused, detail));
        }
        if head.headers.get(VERSION).is_none_or(|version| version != "13") {
            return Err(ProxyError::new(ErrorKind::Malformed, "a WebSocket of a version other than 13"));
        }
        head.method = Method::GET;
        return Ok(Some(Wish::WebSocket));
    }
    // A request with content would have to be read to its end before its connection can be another.
    if head.version != Version::HTTP_11 || !whole || !head.headers.contains_key(UPGRADE) || !asks(&head.headers) {
        return Ok(None);
    }
    let names = list(&head.headers, &UPGRADE);
    let passing: Vec<&str> = names.filter(|name| may_pass(name)).collect();
    if passing.is_empty() {
        return Ok(None);
    }
    Ok(HeaderValue::try_from(passing.join(", ")).ok().map(Wish::Protocols))
}

impl Wish {
    /// Puts the wish into a head that goes to an h1 endpoint.
    pub fn offer(&self, headers: &mut HeaderMap) -> Result<Offer, ProxyError> {
        let (protocols, accept) = match self {
            Wish::Protocols(protocols) => (protocols.clone(), None),
            Wish::WebSocket => {
                let (key, accept) = websocket::challenge()?;
                headers.insert(KEY, key);
                (HeaderValue::from_static(WEBSOCKET), Some(accept))
            }
        };
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols.clone());
        Ok(Offer { protocols, accept })
    }

    /// What an endpoint says instead of agreeing is an ordinary answer, but for one that an h2 client would take for a
    /// yes.
    pub fn declined(&self, status: StatusCode) -> Result<(), ProxyError> {
        match self {
            Wish::WebSocket if status.is_success() => {
                let detail = format!("the endpoint answered {status} where a WebSocket was asked for");
                Err(ProxyError::new(ErrorKind::UpgradeRefused, detail))
            }
            _ => Ok(()),
        }
    }
}

impl Offer {
    /// Looks at an endpoint's 101, and returns what it switches to.
    pub fn agreed(&self, headers: &HeaderMap) -> Result<HeaderValue, ProxyError> {
        let offered: Vec<&str> = elements(&self.protocols).collect();
        let mut chosen = list(headers, &UPGRADE).peekable();
        let refused = |detail: &str| Err(ProxyError::new(ErrorKind::UpgradeRefused, detail));
        if chosen.peek().is_none() {
            return refused("the endpoint switched protocols and does not say to which");
        }
        if !chosen.all(|name| offered.iter().any(|offer| offer.eq_ignore_ascii_case(name))) {
            return refused("the endpoint switched to a protocol that nobody asked for");
        }
        if let Some(accept) = &self.accept
            && headers.get(ACCEPT) != Some(accept)
        {
            return refused("the endpoint's Sec-WebSocket-Accept is not the one for its key");
        }
        Ok(headers.get(UPGRADE).cloned().unwrap_or_else(|| self.protocols.clone()))
    }
}

/// Makes of an endpoint's 101 the answer that the client waits for. Hop-by-hop headers are gone from it by now.
pub fn seal(status: &mut StatusCode, headers: &mut HeaderMap, wish: &Wish, protocol: &HeaderValue) {
    headers.remove(CONTENT_LENGTH);
    match wish {
        Wish::Protocols(_) => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        Wish::WebSocket => {
            *status = StatusCode::OK;
            headers.remove(ACCEPT);
        }
    }
}

/// `Connection` names `Upgrade`: what it says was meant for this hop.
fn asks(headers: &HeaderMap) -> bool {
    list(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

fn may_pass(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or(protocol);
    !NEVER.iter().any(|never| never.eq_ignore_ascii_case(name))
}

fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers.get_all(name).iter().flat_map(elements)
}

fn elements(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(version: Version, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::get("/").version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("valid").into_parts().0
    }

    fn offered(fields: &[(&'static str, &'static str)]) -> Option<String> {
        let wish = wish(&mut head(Version::HTTP_11, fields), true).expect("no error")?;
        let mut headers = HeaderMap::new();
        wish.offer(&mut headers).expect("an offer");
        assert_eq!(headers["connection"], "upgrade");
        Some(headers["upgrade"].to_str().expect("text").to_string())
    }

    #[test]
    fn what_would_carry_requests_past_the_routes_is_not_offered() {
        let with = |upgrade: &'static str| offered(&[("connection", "keep-alive, Upgrade"), ("upgrade", upgrade)]);
        assert_eq!(with("websocket").as_deref(), Some("websocket"));
        assert_eq!(with("h2c, WebSocket, TLS/1.2,, SPDY/3.1").as_deref(), Some("WebSocket, SPDY/3.1"));
        for never in ["h2c", "H2C", "HTTP/2.0", "tls/1.0", " , "] {
            assert_eq!(with(never), None, "{never}");
        }
        assert_eq!(offered(&[("upgrade", "websocket")]), None, "not for this hop");
    }

    #[test]
    fn http_1_0_and_requests_with_content_do_not_upgrade() {
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(wish(&mut head(Version::HTTP_10, &fields), true), Ok(None));
        assert_eq!(wish(&mut head(Version::HTTP_11, &fields), false), Ok(None));
        assert!(wish(&mut head(Version::HTTP_11, &fields), true).is_ok_and(|wish| wish.is_some()));
    }

    #[test]
    fn an_endpoint_may_switch_to_what_it_was_offered_alone() {
        let protocols = Wish::Protocols(HeaderValue::from_static("websocket, tcp"));
        let offer = protocols.offer(&mut HeaderMap::new()).expect("an offer");
        let agreed = |fields: &[(&'static str, &'static str)]| {
            offer.agreed(&head(Version::HTTP_11, fields).headers).map_err(|error| error.kind)
        };
        assert_eq!(agreed(&[("upgrade", "TCP")]), Ok(HeaderValue::from_static("TCP")));
        assert_eq!(agreed(&[("upgrade", "h2c")]), Err(ErrorKind::UpgradeRefused));
        assert_eq!(agreed(&[]), Err(ErrorKind::UpgradeRefused));
    }

    #[test]
    fn a_websocket_of_an_h2_client_is_a_get_with_a_key_of_our_own() {
        let mut connect = head(Version::HTTP_2, &[("sec-websocket-version", "13")]);
        connect.method = Method::CONNECT;
        connect.extensions.insert(Protocol::from_static("websocket"));
        let wish = super::wish(&mut connect, true).expect("no error").expect("a wish");
        assert_eq!((&wish, &connect.method), (&Wish::WebSocket, &Method::GET));
        let mut headers = HeaderMap::new();
        let offer = wish.offer(&mut headers).expect("an offer");
        let accept = websocket::accept(headers["sec-websocket-key"].as_bytes());
        let answer = |accept: HeaderValue| {
            let mut answer = head(Version::HTTP_11, &[("upgrade", "websocket")]).headers;
            answer.insert(ACCEPT, accept);
            offer.agreed(&answer).map_err(|error| error.kind)
        };
        assert!(answer(accept).is_ok());
        assert_eq!(answer(HeaderValue::from_static("other")), Err(ErrorKind::UpgradeRefused));
        assert_eq!(wish.declined(StatusCode::OK).map_err(|e| e.kind), Err(ErrorKind::UpgradeRefused));
        assert_eq!(wish.declined(StatusCode::FORBIDDEN), Ok(()));

        let mut other = head(Version::HTTP_2, &[]);
        other.method = Method::CONNECT;
        other.extensions.insert(Protocol::from_static("connect-udp"));
        assert_eq!(super::wish(&mut other, true).map_err(|error| error.kind), Err(ErrorKind::ConnectRefused));
    }
}
