//! Cookies that bring a client back to the endpoint that answered it before.
//!
//! ```text
//! endpoint ─▶ tag (SHA-256 of name and address, 64 bits) [. MAC (HMAC-SHA-256 of cookie and tag, 128 bits)] ─▶ Set-Cookie
//! Cookie ─▶ tag, MAC equal? ─▶ endpoint, draining or not
//! ```
//! The values are made when the table is: a request is compared with them. A cookie that is forged, or names an endpoint
//! that is gone, is as none.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use foldhash::fast::RandomState;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::model::service::Sticky;

use super::upstream::Member;

/// What signed cookies are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct StickyKey(pub [u8; 32]);

impl fmt::Debug for StickyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StickyKey([redacted])")
    }
}

/// The cookies of one upstream, as they are in force.
#[derive(Debug)]
pub(super) struct Cookies {
    name: Box<str>,
    by_tag: HashMap<u64, Cookie, RandomState>,
}

#[derive(Debug)]
struct Cookie {
    member: usize,
    value: Box<str>,
    /// As `Set-Cookie` has it, in the clear and over TLS.
    plain: HeaderValue,
    secure: HeaderValue,
}

impl Cookies {
    pub fn new(sticky: &Sticky, key: &StickyKey, members: &[Member]) -> Cookies {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
        let cookie = |(member, Member { endpoint, .. }): (usize, &Member)| {
            let text = format!("{} {}", endpoint.address, endpoint.name);
            let tag = digest::digest(&digest::SHA256, text.as_bytes());
            let tag = hex(&tag.as_ref()[..8]);
            let value = match sticky.signed {
                false => tag.clone(),
                true => {
                    let mac = hmac::sign(&key, format!("{} {tag}", sticky.cookie).as_bytes());
                    format!("{tag}.{}", hex(&mac.as_ref()[..16]))
                }
            };
            let set = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax", sticky.cookie);
            let header = |text: String| HeaderValue::try_from(text).ok();
            let (plain, secure) = (header(set.clone())?, header(set + "; Secure")?);
            Some((parse(&tag)?, Cookie { member, value: value.into(), plain, secure }))
        };
        let by_tag = members.iter().enumerate().filter_map(cookie).collect();
        Cookies { name: sticky.cookie.as_ref().into(), by_tag }
    }

    /// The tag of a cookie that is ours and whose endpoint is there.
    pub fn read(&self, headers: &HeaderMap) -> Option<u64> {
        values(headers, &self.name).find_map(|value| {
            let tag = parse(value.split('.').next()?)?;
            let ours = self.by_tag.get(&tag)?;
            constant_time::verify_slices_are_equal(ours.value.as_bytes(), value.as_bytes()).ok()?;
            Some(tag)
        })
    }

    pub fn member(&self, tag: u64) -> Option<usize> {
        self.by_tag.get(&tag).map(|cookie| cookie.member)
    }

    /// What a client is told that `member` answered, unless it knows.
    pub fn set(&self, member: usize, knows: Option<u64>, tls: bool) -> Option<HeaderValue> {
        if knows.and_then(|tag| self.member(tag)) == Some(member) {
            return None;
        }
        let cookie = self.by_tag.values().find(|cookie| cookie.member == member)?;
        Some(if tls { cookie.secure.clone() } else { cookie.plain.clone() })
    }
}

/// The values of a request's cookie.
pub(super) fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs.filter_map(move |pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(tag: &str) -> Option<u64> {
    (tag.len() == 16).then(|| u64::from_str_radix(tag, 16).ok()).flatten()
}
