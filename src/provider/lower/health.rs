//! How it is found out whether an endpoint answers: `health`, `ejection`.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};

use crate::model::health::{Ask, Ejection, HealthCheck};
use crate::model::schema::{EjectionSpec, HealthSpec, ServiceSpec};
use crate::model::units::Span;

use super::reading::Reading;

/// Whoever writes a label must not make the proxy a load generator.
const SHORTEST: Duration = Duration::from_millis(100);

/// `None` where something is wrong with it: nobody is asked by a check that cannot be read.
pub(super) fn health(reading: &mut Reading<'_, ServiceSpec>, spec: &HealthSpec) -> Option<Arc<HealthCheck>> {
    let HealthSpec { path, port, host, interval, timeout, status, healthy, unhealthy } = spec;
    let before = reading.faults.len();
    if *port == Some(0) {
        reading.invalid("health.port", "0 is no port");
    }
    for (field, span) in [("health.interval", interval), ("health.timeout", timeout)] {
        if span.is_some_and(|Span(span)| span < SHORTEST) {
            reading.invalid(field, format!("\"{field}\" is at least {}", Span(SHORTEST)));
        }
    }
    for (field, count) in [("health.healthy", healthy), ("health.unhealthy", unhealthy)] {
        if *count == Some(0) {
            reading.invalid(field, format!("\"{field}\" is at least 1"));
        }
    }
    let ask = match path {
        Some(path) => {
            if !path.starts_with('/') || path.parse::<PathAndQuery>().is_err() || path.contains('#') {
                let detail = format!("\"{path}\" is no path; write it like /healthz, percent-encoded");
                reading.invalid("health.path", detail);
            }
            if let Some(host) = host
                && (host.is_empty() || host.contains(['/', ' ', '@']) || HeaderValue::from_str(host).is_err())
            {
                reading.invalid("health.host", format!("\"{host}\" is no host"));
            }
            let status = codes(reading, "health.status", status.as_deref());
            Ask::Get { path: path.as_str().into(), host: host.as_deref().map(Into::into), status }
        }
        None => {
            if host.is_some() || status.is_some() {
                reading.invalid("health", "host and status are for a check over HTTP; give it a path");
            }
            Ask::Connect
        }
    };
    let check = HealthCheck {
        ask,
        port: *port,
        interval: interval.unwrap_or(HealthCheck::INTERVAL),
        timeout: timeout.unwrap_or(HealthCheck::TIMEOUT),
        healthy: healthy.unwrap_or(HealthCheck::HEALTHY),
        unhealthy: unhealthy.unwrap_or(HealthCheck::UNHEALTHY),
    };
    (reading.faults.len() == before && !reading.is_broken("health")).then(|| Arc::new(check))
}

pub(super) fn ejection(reading: &mut Reading<'_, ServiceSpec>, spec: &EjectionSpec) -> Ejection {
    let EjectionSpec { failures, status, time, share } = spec;
    let default = Ejection::default();
    if time.is_some_and(|Span(time)| time < SHORTEST || time > Ejection::LONGEST.0) {
        let longest = Ejection::LONGEST;
        reading.invalid("ejection.time", format!("\"ejection.time\" is from {} to {longest}", Span(SHORTEST)));
    }
    let most_percent = share.as_ref().map(|written| {
        let number = written.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
        number.filter(|percent| *percent <= 100).unwrap_or_else(|| {
            reading.invalid("ejection.share", format!("\"{written}\" is not a share; write it like 50%, up to 100%"));
            default.most_percent
        })
    });
    Ejection {
        failures: failures.unwrap_or(default.failures),
        status: codes(reading, "ejection.status", status.as_deref()),
        time: time.unwrap_or(default.time),
        most_percent: most_percent.unwrap_or(default.most_percent),
    }
}

fn codes(reading: &mut Reading<'_, ServiceSpec>, field: &str, raw: Option<&[u16]>) -> Vec<u16> {
    let mut codes = raw.unwrap_or_default().to_vec();
    if raw.is_some_and(<[u16]>::is_empty) {
        reading.invalid(field, "the list is empty; leave it out for the default");
    }
    if let Some(wrong) = codes.iter().find(|code| **code < 200 || **code > 599 || StatusCode::from_u16(**code).is_err())
    {
        reading.invalid(field, format!("{wrong} is no final status"));
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[cfg(test)]
mod tests {
    use crate::config::yaml;
    use crate::model::diagnostic::Reason;
    use crate::model::health::{Ask, Ejection, HealthCheck};
    use crate::model::id::{Provider, Source};
    use crate::model::service::Service;
    use crate::model::units::Span;
    use crate::provider::lower::{Author, document};

    fn service(fields: &str) -> Service {
        let text = format!("services: {{ s: {{ endpoints: ['http://10.0.0.1:80'], {fields} }} }}");
        let tree = yaml::parse(&"f.yaml".into(), &text).expect("valid YAML");
        let source = Source::new(Provider::File, None);
        let mut snapshot = document(&tree, &Author { source, created: jiff::Timestamp::UNIX_EPOCH, replica: None });
        snapshot.services.remove(0)
    }

    #[test]
    fn a_check_is_what_is_written_and_defaults() {
        assert_eq!(service("balance: random").traffic.health, None);
        let connect = HealthCheck {
            ask: Ask::Connect,
            port: None,
            interval: Span::seconds(10),
            timeout: Span::seconds(5),
            healthy: 2,
            unhealthy: 3,
        };
        assert_eq!(service("health: {}").traffic.health.as_deref(), Some(&connect));
        let all = "health: { path: '/up?deep=1', port: 81, host: a.example, interval: 1s, timeout: 250ms, \
                   status: [204, 200], healthy: 1, unhealthy: 4 }";
        let get = Ask::Get { path: "/up?deep=1".into(), host: Some("a.example".into()), status: vec![200, 204] };
        let written = HealthCheck {
            ask: get,
            port: Some(81),
            interval: Span::seconds(1),
            timeout: "250ms".parse().expect("a span"),
            healthy: 1,
            unhealthy: 4,
        };
        assert_eq!(service(all).traffic.health.as_deref(), Some(&written));
    }

    #[test]
    fn ejection_is_on_unless_it_is_off() {
        assert_eq!(service("balance: random").traffic.ejection, Ejection::default());
        assert_eq!(service("ejection: { failures: 0 }").traffic.ejection.failures, 0);
        let all = "ejection: { failures: 2, status: [504, 502], time: 1s, share: 30% }";
        let written = Ejection { failures: 2, status: vec![502, 504], time: Span::seconds(1), most_percent: 30 };
        assert_eq!(service(all).traffic.ejection, written);
    }

    #[test]
    fn what_cannot_be_checked_closes_the_service() {
        for fields in [
            "health: { path: healthz }",
            "health: { pth: /healthz }",
            "health: { path: /, interval: soon }",
            "health: { path: '/a b' }",
            "health: { path: '/a#b' }",
            "health: { path: /, host: 'a b' }",
            "health: { path: /, port: 0 }",
            "health: { path: /, interval: 10ms }",
            "health: { path: /, timeout: 0s }",
            "health: { path: /, status: [] }",
            "health: { path: /, status: [100] }",
            "health: { path: /, status: [1000] }",
            "health: { status: [200] }",
            "health: { host: a.example }",
            "health: { path: /, healthy: 0 }",
            "health: { path: /, unhealthy: 0 }",
            "ejection: { share: 50 }",
            "ejection: { share: 101% }",
            "ejection: { time: 0s }",
            "ejection: { time: 10m }",
            "ejection: { status: [42] }",
        ] {
            let Service { denied, traffic, .. } = service(fields);
            assert_eq!(denied.map(|denial| denial.reason), Some(Reason::Invalid), "{fields}");
            assert_eq!(traffic.health, None, "{fields}: a check that is wrong asks nobody");
        }
    }

    #[test]
    fn good_is_what_is_listed_or_no_error() {
        let get = |status| Ask::Get { path: "/".into(), host: None, status };
        let good = |ask: &Ask| [199, 200, 204, 301, 399, 400, 503].map(|code| ask.accepts(code));
        assert_eq!(good(&get(vec![])), [false, true, true, true, true, false, false]);
        assert_eq!(good(&get(vec![204, 503])), [false, false, true, false, false, false, true]);
    }
}
