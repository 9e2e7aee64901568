//! Which route a request is for, whoever reads its path.
//!
//! ```text
//! Target ─▶ its own key ─▶ lookup ─▶ RouteIndex
//!    └─▶ every lenient reading ─▶ lookup ─▶ another one? AmbiguousPath (400)
//! ```
//! An endpoint that reads the forwarded path otherwise than Portolan would answer for a path that another route, with
//! another policy, stands on.

use crate::table::{RequestView, RouteIndex, TableListener};

use super::error::{ErrorKind, ProxyError};
use super::target::Target;

/// `request` is the target with everything else that routes may ask of it.
pub fn select(
    listener: &TableListener,
    target: &Target<'_>,
    request: &RequestView<'_>,
) -> Result<Option<RouteIndex>, ProxyError> {
    let found = listener.lookup(request);
    let ambiguous = |detail: String| Err(ProxyError::new(ErrorKind::AmbiguousPath, detail));
    let Some(readings) = target.readings() else {
        return ambiguous(format!("{} can be read in too many ways", target.path));
    };
    for reading in readings {
        if listener.lookup(&request.at(&reading)) != found {
            return ambiguous(format!("{} and {reading} lead to different routes", target.path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    //! Random tables and random paths: whatever an endpoint makes of the path that it is sent, the route that was chosen
    //! is the one that it would have been chosen for.
    //!
    //! The endpoints are written here once more, over lists of segments, and so is what a claim means.

    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;
    use std::sync::Arc;

    use http::{Method, Request};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use proptest::sample::select as one_of;

    use super::*;
    use crate::model::diagnostic::{Denial, Origin, Reason};
    use crate::model::id::{Kind, Name, ObjectId, Provider, Source};
    use crate::model::listener::Listener;
    use crate::model::path::PathMatch;
    use crate::model::route::RouteMatch;
    use crate::reconcile::{Action, Claim, Desired, DesiredRoute};
    use crate::table::{Materials, Table, compile};

    type Segments = Vec<Vec<u8>>;

    /// A claim in the test's own words: the first of them that holds wins.
    #[derive(Debug, Clone)]
    struct Written {
        kind: usize,
        segments: Vec<&'static str>,
    }

    const WORDS: [&str; 7] = ["a", "b", "ab", "", "a;b", "..a", "a b"];

    fn written() -> impl Strategy<Value = Written> {
        (0..3usize, proptest::collection::vec(one_of(&WORDS[..]), 0..4))
            .prop_map(|(kind, segments)| Written { kind, segments })
    }

    impl Written {
        fn text(&self) -> String {
            format!("/{}", self.segments.join("/"))
        }

        fn claim(&self) -> PathMatch {
            let text = self.text();
            match self.kind {
                0 => PathMatch::exact(&text),
                1 => PathMatch::prefix(&text),
                _ => PathMatch::string_prefix(&text),
            }
            .expect("valid")
        }

        fn wants(&self, asked: &Segments) -> bool {
            let own: Segments = self.text().split('/').skip(1).map(|segment| segment.as_bytes().to_vec()).collect();
            // A slash within a segment separates nothing.
            let joined = |segments: &Segments| {
                let inner =
                    |segment: &Vec<u8>| segment.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect::<Vec<u8>>();
                segments.iter().map(inner).collect::<Vec<_>>().join(&b'/')
            };
            match self.kind {
                0 => *asked == own,
                1 => {
                    let kept = own.iter().rposition(|segment| !segment.is_empty()).map_or(0, |last| last + 1);
                    asked.starts_with(&own[..kept])
                }
                _ => joined(asked).starts_with(&joined(&own)),
            }
        }
    }

    fn decoded(text: &[u8]) -> Vec<u8> {
        let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            match (text[at], digit(at + 1), digit(at + 2)) {
                (b'%', Some(high), Some(low)) => {
                    out.push((high * 16 + low) as u8);
                    at += 3;
                }
                (byte, ..) => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        out
    }

    fn split(text: &[u8]) -> Segments {
        text.split(|byte| *byte == b'/').skip(1).map(<[u8]>::to_vec).collect()
    }

    fn joined(segments: &Segments) -> Vec<u8> {
        segments.iter().flat_map(|segment| [&b"/"[..], segment].concat()).collect()
    }

    /// What an endpoint does with a path before it looks what is there.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Step {
        Decode,
        Backslashes,
        Parameters,
        Merge,
        Dots,
    }

    fn take(step: Step, text: &[u8]) -> Vec<u8> {
        match step {
            Step::Decode => decoded(text),
            Step::Backslashes => text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect(),
            Step::Parameters => {
                let bare = |segment: &Vec<u8>| segment.iter().copied().take_while(|byte| *byte != b';').collect();
                joined(&split(text).iter().map(bare).collect())
            }
            Step::Merge => {
                let mut out = text.to_vec();
                out.dedup_by(|a, b| *a == b'/' && *b == b'/');
                out
            }
            Step::Dots => {
                let mut kept = Segments::new();
                let segments = split(text);
                for (at, segment) in segments.iter().enumerate() {
                    let dots = matches!(&segment[..], b"." | b"..");
                    if segment == b".." {
                        kept.pop();
                    }
                    if !dots {
                        kept.push(segment.clone());
                    } else if at + 1 == segments.len() {
                        kept.push(Vec::new());
                    }
                }
                joined(&kept)
            }
        }
    }

    /// Servers as they are about: the order in which they do what they do.
    const ORDERS: [[Step; 5]; 4] = [
        [Step::Decode, Step::Backslashes, Step::Parameters, Step::Merge, Step::Dots],
        [Step::Parameters, Step::Decode, Step::Backslashes, Step::Merge, Step::Dots],
        [Step::Decode, Step::Backslashes, Step::Dots, Step::Merge, Step::Parameters],
        [Step::Merge, Step::Dots, Step::Decode, Step::Backslashes, Step::Parameters],
    ];

    /// Every path that somebody might see in what is forwarded, and how they come to it.
    fn readings(forwarded: &str) -> Vec<(Vec<Step>, Segments)> {
        let mut all = Vec::new();
        for order in ORDERS {
            for chosen in 0..32u32 {
                let steps: Vec<Step> =
                    order.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, step)| *step).collect();
                let read = steps.iter().fold(forwarded.as_bytes().to_vec(), |text, step| take(*step, &text));
                let mut segments = split(&read);
                // Whoever does not decode first decodes each segment in the end.
                if !steps.contains(&Step::Decode) {
                    segments = segments.iter().map(|segment| decoded(segment)).collect();
                }
                all.push((steps, segments));
            }
        }
        all
    }

    fn table(claims: &[Written]) -> Arc<Table> {
        let name = Name::normalised("http");
        let source = Source::new(Provider::File, None);
        let listener = Listener::for_tests("http", false);
        let mut desired = Desired { listeners: BTreeMap::from([(name.clone(), listener)]), ..Desired::default() };
        for (at, written) in claims.iter().enumerate() {
            let id = ObjectId::new(&source, Kind::Route, format!("r{at}"));
            let matched = RouteMatch::new("a".parse().expect("a host"), written.claim());
            let route = DesiredRoute {
                id: id.clone(),
                origin: Origin::Default,
                source: source.clone(),
                created: Timestamp::UNIX_EPOCH,
                priority: -(at as i64),
                middlewares: Vec::new(),
                policies: BTreeSet::new(),
                action: Action::Deny(Denial::new(Reason::Invalid, "for the test")),
                claims: vec![Claim { listener: name.clone(), matched, shares: Vec::new() }],
                part_of: BTreeSet::new(),
            };
            desired.routes.insert(id, route);
        }
        compile(&desired, Materials::none(), &Table::empty()).expect("compiles").table
    }

    /// The chosen route's number and the path that is forwarded. `None`: refused, or no path at all.
    fn chosen(table: &Table, raw: &[u8]) -> Option<(Option<usize>, String)> {
        let head = Request::builder().uri(raw).header("host", "a").body(()).ok()?.into_parts().0;
        let target = Target::of(&head).ok()?;
        let (key, client) = (target.key(), IpAddr::from([192, 0, 2, 1]));
        let view = RequestView::new(&target.host, &key, &Method::GET, "a", &head.headers, None, client);
        let found = select(&table.listeners[&Name::normalised("http")], &target, &view).ok()?;
        let number = |index| table.route(index).id.name.trim_start_matches('r').parse().expect("a number");
        Some((found.map(number), target.path.to_string()))
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => one_of(&["/", "/a", "/b", "a", "b", "ab", "/."][..]).prop_map(|text| text.as_bytes().to_vec()),
            6 => one_of(&["..", ".", "\\", ";", "//", "/..", "%"][..]).prop_map(|text| text.as_bytes().to_vec()),
            6 => one_of(&["%2e", "%2E", "%2f", "%5C", "%3b", "%61", "%62", "%25", "%20"][..])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => any::<u8>().prop_filter("a path ends there", |byte| !b"?#".contains(byte)).prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| [&b"/"[..], &pieces.concat()].concat())
    }

    fn check(claims: &[Written], raws: &[Vec<u8>]) {
        let table = table(claims);
        for raw in raws {
            let Some((chosen, forwarded)) = chosen(&table, raw) else { continue };
            for (steps, reading) in readings(&forwarded) {
                let meant = claims.iter().position(|claim| claim.wants(&reading));
                let shown: Vec<_> = reading.iter().map(|segment| String::from_utf8_lossy(segment)).collect();
                assert_eq!(
                    chosen,
                    meant,
                    "{} went on as {forwarded}, which an endpoint that does {steps:?} reads as {shown:?}; {claims:?}",
                    String::from_utf8_lossy(raw)
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn no_endpoint_sees_a_path_of_another_route(
            claims in proptest::collection::vec(written(), 0..6),
            raws in proptest::collection::vec(path(), 1..24),
        ) {
            check(&claims, &raws);
        }
    }

    /// The one reading that takes every liberty ends at `/admin`, as the path itself does; one that keeps empty segments
    /// ends at `/public/admin`.
    #[test]
    fn a_reader_that_takes_some_liberties_and_not_others_is_thought_of() {
        let claims = [Written { kind: 1, segments: vec!["a", "b"] }, Written { kind: 1, segments: vec![] }];
        let table = table(&claims);
        assert_eq!(chosen(&table, b"/a/%3b%2f..%2fb"), None);
        check(&claims, &[b"/a/%3b%2f..%2fb".to_vec(), b"/a/;/..%2fb".to_vec()]);
        assert_eq!(chosen(&table, b"/x%20y;z"), Some((Some(1), "/x%20y;z".into())), "what leads nowhere else passes");
    }
}
