//! `limits` and `timeouts` of a listener as the proxy holds clients to them.
//!
//! 0 takes a limit away where going without is sane. Elsewhere it is refused: a proxy without a limit on heads or time
//! is open to whoever sends slowly.

use super::check::Review;
use super::settings::{LimitSettings, ListenerTimeoutSettings};
use crate::model::listener::{ListenerLimits, ListenerTimeouts};
use crate::model::units::{Size, Span};

/// Above this, heads would be no heads any more; they stay in memory whole.
const MAX_HEADER_SIZE: Size = Size(1 << 20);
/// What the HTTP library can hold.
const MAX_URI_SIZE: Size = Size(u16::MAX as u64 - 1);
const MAX_HEADERS: u32 = 10_000;

pub(super) fn limits(review: &mut Review<'_>, name: &str, given: &LimitSettings) -> ListenerLimits {
    let LimitSettings {
        header_size,
        headers,
        uri_size,
        body,
        body_rate,
        connections,
        client_connections,
        streams,
        resets,
    } = given;
    let standard = ListenerLimits::default();
    let mut within = |field: &str, given: Option<u64>, standard: u64, most: u64, shown: &dyn Fn(u64) -> String| {
        let value = given.unwrap_or(standard);
        if value == 0 || value > most {
            let why =
                format!("{} is not between {} and {}; there is no going without", shown(value), shown(1), shown(most));
            review.refuse(&["listeners", name, "limits", field], why);
        }
        value
    };
    let size = |value: u64| Size(value).to_string();
    let count = |value: u64| value.to_string();
    let bytes = |given: &Option<Size>| given.map(|size| size.0);
    let number = |given: &Option<u32>| given.map(u64::from);
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let (most_streams, most_headers) = (u64::from(u32::MAX >> 1), u64::from(MAX_HEADERS));
    ListenerLimits {
        header_size: Size(within("header_size", bytes(header_size), standard.header_size.0, MAX_HEADER_SIZE.0, &size)),
        headers: small(within("headers", number(headers), standard.headers.into(), most_headers, &count)),
        uri_size: Size(within("uri_size", bytes(uri_size), standard.uri_size.0, MAX_URI_SIZE.0, &size)),
        body: or_none(*body, standard.body, Size(0)),
        body_rate: or_none(*body_rate, standard.body_rate, Size(0)),
        connections: or_none(*connections, standard.connections, 0),
        client_connections: or_none(*client_connections, standard.client_connections, 0),
        streams: small(within("streams", number(streams), standard.streams.into(), most_streams, &count)),
        resets: small(within("resets", number(resets), standard.resets.into(), most_streams, &count)),
    }
}

pub(super) fn timeouts(review: &mut Review<'_>, name: &str, given: &ListenerTimeoutSettings) -> ListenerTimeouts {
    let ListenerTimeoutSettings { header, idle, body, send, handshake, tunnel_idle } = given;
    let standard = ListenerTimeouts::default();
    let mut some = |field: &str, given: &Option<Span>, standard: Span| {
        let span = given.unwrap_or(standard);
        if span.0.is_zero() {
            let why = format!("a client would have no time at all; write a duration such as {standard}");
            review.refuse(&["listeners", name, "timeouts", field], why);
        }
        span
    };
    ListenerTimeouts {
        header: some("header", header, standard.header),
        idle: some("idle", idle, standard.idle),
        body: some("body", body, standard.body),
        send: some("send", send, standard.send),
        handshake: some("handshake", handshake, standard.handshake),
        tunnel_idle: some("tunnel_idle", tunnel_idle, standard.tunnel_idle),
    }
}

/// `nothing` takes away what there is by default.
fn or_none<T: PartialEq + Copy>(given: Option<T>, standard: Option<T>, nothing: T) -> Option<T> {
    match given {
        Some(given) => (given != nothing).then_some(given),
        None => standard,
    }
}
