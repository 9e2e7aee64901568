//! `strip_prefix: [/api]` takes `/api` from the path that is forwarded, and says so in `X-Forwarded-Prefix`.
//!
//! Compared as routes compare paths, segment by segment in the spelling of [`match_key`], and cut from the path as it was
//! received: `/%61pi/x%2Fy` becomes `/x%2Fy`.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use crate::model::path::match_key;

use super::flow::{Flow, RequestHead};

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripPrefix(Vec<(Box<str>, HeaderValue)>);

impl StripPrefix {
    /// The longest prefix first. `None` where one cannot stand in a header; lowering lets none such through.
    pub fn compile(prefixes: &[String]) -> Option<StripPrefix> {
        let pair = |prefix: &String| Some((prefix.as_str().into(), HeaderValue::from_str(prefix).ok()?));
        prefixes.iter().map(pair).collect::<Option<_>>().map(StripPrefix)
    }

    /// A path below none of the prefixes is forwarded as it is.
    pub fn on_request(&self, head: &mut RequestHead<'_>) -> Flow {
        let found = self.0.iter().find_map(|(prefix, name)| Some((beyond(prefix, &head.path)?, name)));
        if let Some((rest, prefix)) = found {
            head.path = Cow::Owned(rooted(rest));
            // A second one, or one that a trusted proxy has brought, stands before it: the outermost first.
            head.headers.append(X_FORWARDED_PREFIX, prefix.clone());
        }
        Flow::Continue
    }
}

/// What follows the prefix: nothing, or a `/` and more.
fn beyond<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let mut rest = path;
    for expected in prefix.split('/').skip(1) {
        rest = rest.strip_prefix('/')?;
        let (segment, _) = rest.split_once('/').unwrap_or((rest, ""));
        if match_key(segment) != expected {
            return None;
        }
        rest = &rest[segment.len()..];
    }
    Some(rest)
}

/// With exactly one slash in front: what began as `/api//host/x` must not reach the endpoint as `//host/x`, which some
/// read, and send back in a `Location`, as another authority. Browsers take a backslash for a slash there; it is encoded
/// and not dropped, because a `..` behind it would become a segment.
fn rooted(rest: &str) -> String {
    let tail = rest.trim_start_matches('/');
    match tail.strip_prefix('\\') {
        Some(tail) => format!("/%5C{tail}"),
        None => format!("/{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::middleware::flow::Asked;
    use crate::model::PathMatch;
    use crate::model::middleware::UrlScheme;
    use crate::model::path::resolve_dots;

    fn strip(prefixes: &[&str], path: &str, headers: &mut HeaderMap) -> String {
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| prefix.to_string()).collect();
        let authority = Cow::Owned(HeaderValue::from_static("a.example"));
        let asked = Asked { scheme: UrlScheme::Https, authority, path };
        let mut head = RequestHead { path: Cow::Borrowed(path), query: None, headers, asked };
        assert_eq!(StripPrefix::compile(&prefixes).expect("valid").on_request(&mut head), Flow::Continue);
        head.path.into_owned()
    }

    #[test]
    fn whole_segments_are_taken_away() {
        for (path, left) in [
            ("/api", "/"),
            ("/api/", "/"),
            ("/api/x", "/x"),
            ("/api/api/x/", "/api/x/"),
            ("/%61p%69/x%2fy/%7e", "/x%2fy/%7e"),
            ("/api/x;y=1", "/x;y=1"),
        ] {
            let mut headers = HeaderMap::new();
            assert_eq!(strip(&["/api"], path, &mut headers), left, "{path}");
            assert_eq!(headers["x-forwarded-prefix"], "/api", "{path}");
        }
        for path in ["/apis", "/apis/x", "/x/api", "/", "/API", "//api", "/api%2Fx", "/api;v=1/x"] {
            let mut headers = HeaderMap::new();
            assert_eq!(strip(&["/api"], path, &mut headers), path);
            assert!(headers.is_empty(), "{path}");
        }
    }

    #[test]
    fn prefixes_are_compared_in_the_spelling_of_routes() {
        let mut headers = HeaderMap::new();
        assert_eq!(strip(&["/caf%C3%A9/~a"], "/caf%c3%a9/%7Ea/b", &mut headers), "/b");
        assert_eq!(strip(&["/caf%C3%A9"], "/caf\u{e9}/\u{e9}", &mut headers), "/\u{e9}");
    }

    #[test]
    fn what_is_left_names_no_other_authority() {
        for (path, left) in [
            ("/api//evil.example/x", "/evil.example/x"),
            ("/api/\\evil.example/x", "/%5Cevil.example/x"),
            ("/api///\\/evil.example/x", "/%5C/evil.example/x"),
            ("/api/\\../x", "/%5C../x"),
            ("/api/x//y", "/x//y"),
        ] {
            assert_eq!(strip(&["/api"], path, &mut HeaderMap::new()), left, "{path}");
        }
    }

    #[test]
    fn a_second_prefix_is_added_to_the_first() {
        let mut headers = HeaderMap::new();
        strip(&["/a"], "/a/b", &mut headers);
        strip(&["/b"], "/b/c", &mut headers);
        assert_eq!(headers.get_all("x-forwarded-prefix").iter().collect::<Vec<_>>(), ["/a", "/b"]);
    }

    proptest! {
        #[test]
        fn it_strips_what_a_route_with_that_path_matches_and_the_rest_is_no_climb(
            prefix in "/[ab%~]{1,3}(/[ab~]{1,2}){0,2}",
            path in "(/([ab~.]|%61|%62|%7e|%7E|%2F|%2e|\\\\|\u{e9}){0,3}){0,5}",
        ) {
            let (Ok(PathMatch::Prefix(claim)), Some(path)) = (PathMatch::prefix(&prefix), resolve_dots(&path)) else {
                return Ok(());
            };
            let mut headers = HeaderMap::new();
            let left = strip(&[&claim], &path, &mut headers);
            let matches = PathMatch::Prefix(claim.clone()).matches(&match_key(&path));
            prop_assert_eq!(headers.contains_key("x-forwarded-prefix"), matches, "{} on {}", claim, path);
            if matches {
                let tail = left.trim_start_matches('/').replacen("%5C", "\\", 1);
                prop_assert!(path.ends_with(&tail), "{} of {}", left, path);
                prop_assert!(left.starts_with('/') && !left[1..].starts_with(['/', '\\']), "{}", left);
                let resolved = resolve_dots(&left);
                prop_assert_eq!(resolved.as_deref(), Some(&*left), "nothing to resolve is left");
            } else {
                prop_assert_eq!(left, path);
            }
        }
    }
}
