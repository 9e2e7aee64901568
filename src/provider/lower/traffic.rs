//! How a service's requests are spread and what happens to those that fail: `balance`, `hash`, `retry`, `timeouts`,
//! `sticky`.

use std::sync::Arc;

use http::HeaderName;

use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::schema::{BalanceSpec, HashSpec, RetrySpec, ServiceSpec, StickySpec, TimeoutsSpec};
use crate::model::service::{Balance, HashKey, Retry, Sticky, Timeouts, Traffic};
use crate::model::units::Span;

use super::reading::Reading;

pub(super) fn traffic(reading: &mut Reading<'_, ServiceSpec>, spec: &ServiceSpec) -> Traffic {
    Traffic {
        balance: balance(reading, spec),
        sticky: spec.sticky.as_ref().and_then(|sticky| self::sticky(reading, sticky)),
        retry: spec.retry.as_ref().map(|retry| self::retry(reading, retry)).unwrap_or_default(),
        timeouts: spec.timeouts.as_ref().map(|timeouts| self::timeouts(reading, timeouts)).unwrap_or_default(),
        health: spec.health.as_ref().and_then(|health| super::health::health(reading, health)),
        ejection: spec.ejection.as_ref().map(|spec| super::health::ejection(reading, spec)).unwrap_or_default(),
    }
}

fn balance(reading: &mut Reading<'_, ServiceSpec>, spec: &ServiceSpec) -> Balance {
    let balance = spec.balance.unwrap_or(BalanceSpec::RoundRobin);
    let hashes = balance == BalanceSpec::ConsistentHash;
    if spec.hash.is_some() && !hashes {
        ignored(reading, "hash", "\"hash\" says nothing unless balance is consistent_hash");
    }
    let weighs = hashes || balance == BalanceSpec::Weighted;
    let mut weights = spec.weight.iter().chain(spec.weights.iter().flat_map(|weights| weights.values()));
    if !weighs && weights.any(|weight| *weight > 1) {
        let field = if spec.weight.is_some() { "weight" } else { "weights" };
        let detail = "weights share requests out where balance is weighted or consistent_hash; otherwise only a 0 counts, \
                      which is no request";
        ignored(reading, field, detail);
    }
    match balance {
        BalanceSpec::RoundRobin => Balance::RoundRobin,
        BalanceSpec::Random => Balance::Random,
        BalanceSpec::Weighted => Balance::Weighted,
        BalanceSpec::LeastRequest => Balance::LeastRequest,
        BalanceSpec::ConsistentHash => Balance::ConsistentHash(hash_key(reading, spec.hash.as_ref())),
    }
}

fn ignored(reading: &mut Reading<'_, ServiceSpec>, field: &str, detail: &str) {
    let origin = reading.origin(field);
    reading.faults.push(Diagnostic::warning(reading.id.clone(), Reason::Ignored, origin, detail).on(field));
}

fn hash_key(reading: &mut Reading<'_, ServiceSpec>, hash: Option<&HashSpec>) -> HashKey {
    let Some(HashSpec { header, cookie }) = hash else { return HashKey::ClientIp };
    match (header, cookie) {
        (Some(header), None) => match header.parse::<HeaderName>() {
            Ok(name) => return HashKey::Header(name.as_str().into()),
            Err(_) => reading.invalid("hash", format!("\"{header}\" is not a header name")),
        },
        (None, Some(cookie)) if is_token(cookie) => return HashKey::Cookie(cookie.as_str().into()),
        (None, Some(cookie)) => reading.invalid("hash", format!("\"{cookie}\" is not the name of a cookie")),
        _ => reading.invalid("hash", "give one of header and cookie; for the client's address leave hash out"),
    }
    HashKey::ClientIp
}

fn sticky(reading: &mut Reading<'_, ServiceSpec>, sticky: &StickySpec) -> Option<Sticky> {
    let StickySpec { cookie, signed } = sticky;
    let cookie: Arc<str> = match cookie {
        Some(cookie) if is_token(cookie) => cookie.as_str().into(),
        Some(cookie) => {
            reading.invalid("sticky", format!("\"{cookie}\" is not the name of a cookie"));
            return None;
        }
        // Two services of one host must not read each other's cookie: each would set its own anew with every answer.
        None => format!("portolan-{:08x}", fnv(reading.id.to_string().as_bytes())).into(),
    };
    Some(Sticky { cookie, signed: signed.unwrap_or(false) })
}

fn retry(reading: &mut Reading<'_, ServiceSpec>, retry: &RetrySpec) -> Retry {
    let RetrySpec { attempts, budget } = retry;
    let default = Retry::default();
    if *attempts == Some(0) {
        reading.invalid("retry", "attempts count the first time too: 1 is never again");
    }
    let percent = budget.as_ref().map(|written| {
        let number = written.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
        number.filter(|percent| *percent <= 100).unwrap_or_else(|| {
            reading.invalid("retry", format!("\"{written}\" is not a budget; write it like 20%, up to 100%"));
            default.budget_percent
        })
    });
    Retry { attempts: attempts.unwrap_or(default.attempts), budget_percent: percent.unwrap_or(default.budget_percent) }
}

fn timeouts(reading: &mut Reading<'_, ServiceSpec>, timeouts: &TimeoutsSpec) -> Timeouts {
    let TimeoutsSpec { connect, response_header, request } = timeouts;
    let default = Timeouts::default();
    for (field, span) in [("connect", connect), ("response_header", response_header), ("request", request)] {
        if span.is_some_and(|Span(span)| span.is_zero()) {
            reading.invalid("timeouts", format!("{field}: no time at all; leave it out for the default"));
        }
    }
    Timeouts {
        connect: connect.unwrap_or(default.connect),
        response_header: response_header.unwrap_or(default.response_header),
        request: request.or(default.request),
    }
}

/// RFC 6265 §4.1.1: a cookie's name is a token (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(legal)
}

fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use crate::config::yaml;
    use crate::model::diagnostic::Reason;
    use crate::model::id::{Provider, Source};
    use crate::model::service::{Balance, HashKey, Service};
    use crate::model::snapshot::Snapshot;
    use crate::provider::lower::{Author, document};

    fn lowered(fields: &str) -> Snapshot {
        let text =
            format!("services: {{ s: {{ endpoints: ['http://10.0.0.1:80', 'http://10.0.0.2:80'], {fields} }} }}");
        let tree = yaml::parse(&"f.yaml".into(), &text).expect("valid YAML");
        let source = Source::new(Provider::File, None);
        document(&tree, &Author { source, created: jiff::Timestamp::UNIX_EPOCH, replica: None })
    }

    fn service(fields: &str) -> Service {
        let snapshot = lowered(fields);
        assert_eq!(snapshot.findings, [], "{fields}");
        snapshot.services[0].clone()
    }

    #[test]
    fn every_field_of_traffic_arrives() {
        let fields = "balance: consistent_hash, hash: { header: X-User }, retry: { attempts: 5, budget: 50% }, \
                      timeouts: { connect: 1s, response_header: 2s, request: 3s }, sticky: { cookie: me, signed: true }, \
                      weights: { 'http://10.0.0.2:80': 3 }";
        let Service { traffic, endpoints, .. } = service(fields);
        assert_eq!(traffic.balance, Balance::ConsistentHash(HashKey::Header("x-user".into())));
        assert_eq!((traffic.retry.attempts, traffic.retry.budget_percent), (5, 50));
        let timeouts = traffic.timeouts;
        let seconds = |span: crate::model::units::Span| span.0.as_secs();
        assert_eq!((seconds(timeouts.connect), seconds(timeouts.response_header)), (1, 2));
        assert_eq!(timeouts.request.map(seconds), Some(3));
        assert_eq!(traffic.sticky.map(|sticky| (sticky.cookie.to_string(), sticky.signed)), Some(("me".into(), true)));
        assert_eq!(endpoints.iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_sticky_cookie_without_a_name_has_one_of_the_services_own() {
        let name = service("sticky: {}").traffic.sticky.expect("sticky").cookie;
        assert!(name.starts_with("portolan-") && name.len() == "portolan-".len() + 8, "{name}");
    }

    #[test]
    fn what_is_wrong_with_traffic_closes_the_service() {
        for fields in [
            "balance: roundabout",
            "balance: consistent_hash, hash: {}",
            "balance: consistent_hash, hash: { header: a, cookie: b }",
            "balance: consistent_hash, hash: { cookie: 'a b' }",
            "sticky: { cookie: 'a;b' }",
            "retry: { attempts: 0 }",
            "retry: { budget: 20 }",
            "retry: { budget: 101% }",
            "timeouts: { connect: 0s }",
            "timeouts: { connect: soon }",
            "weights: { 'http://10.0.0.9:80': 3 }",
            "weight: 3",
        ] {
            let snapshot = lowered(fields);
            assert_eq!(snapshot.services[0].denied.as_ref().map(|d| d.reason), Some(Reason::Invalid), "{fields}");
        }
    }

    #[test]
    fn what_says_nothing_is_not_passed_over_in_silence() {
        for fields in ["hash: { header: a }", "weights: { 'http://10.0.0.1:80': 3 }"] {
            let snapshot = lowered(fields);
            assert_eq!(snapshot.findings.iter().map(|f| f.reason).collect::<Vec<_>>(), [Reason::Ignored], "{fields}");
            assert_eq!(snapshot.services[0].denied, None);
        }
        service("weights: { 'http://10.0.0.1:80': 0 }");
    }
}
