//! What of a path is matched, what is forwarded, and what is refused because readers could differ about it.

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::http::{Answer, send_plain};
use crate::support::portolan::Portolan;

const HOST: &str = "paths.test";

struct Site {
    portolan: Portolan,
    site: Backend,
    admin: Backend,
}

/// Everything goes to `site`, `/admin` to `admin`, `/deep/exactly` to `admin` as well.
fn start() -> Site {
    let (site, admin) = (Backend::named("site"), Backend::named("admin"));
    let portolan = Portolan::serving(json!({
        "routes": {
            "site": { "host": HOST, "listeners": ["plain", "https"] },
            "admin": { "host": HOST, "path": "/admin", "listeners": ["plain", "https"] },
            "exactly": { "host": HOST, "path_exact": "/deep/exactly", "listeners": ["plain", "https"], "service": "admin" },
        },
        "services": { "site": { "endpoints": [site.url()] }, "admin": { "endpoints": [admin.url()] } },
    }));
    Site { portolan, site, admin }
}

impl Site {
    /// The target as it stands in the request line.
    fn ask(&self, target: &str) -> Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        send_plain(self.portolan.plain, &request).unwrap()
    }

    #[track_caller]
    fn assert_forwarded(&self, target: &str, forwarded: &str, name: &str) {
        let answer = self.ask(target);
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!((answer.told().target(), answer.told().name()), (forwarded, name), "{target}");
    }

    #[track_caller]
    fn assert_refused(&self, target: &str, reason: &str) {
        let answer = self.ask(target);
        assert_eq!((answer.status, answer.reason()), (400, Some(reason)), "{target}: {answer:?}");
    }
}

#[test]
fn every_byte_is_forwarded_as_received() {
    let site = start();
    for target in [
        "/",
        "/a/b",
        "/a%2Fb%2fc",
        "/a//b",
        "/a/",
        "/%61%7E%c3%A9",
        "/x;v=1/y;v=2",
        "/a'b(c)!$&*+,=:@",
        "/100%",
        "/%zz",
        "/.../a",
        "/a.b/..c",
        "/?",
        "/a?",
        "/a?x=/../y&z=%2e%2e/admin",
        "/a?b?c",
        "/a%5Cb",
        "/a%00b",
        "/%25",
    ] {
        site.assert_forwarded(target, target, "site");
    }
    assert!(site.admin.received().is_empty());
}

#[test]
fn dot_segments_are_resolved_before_matching_and_forwarded_resolved() {
    let site = start();
    for (target, forwarded, name) in [
        ("/a/./b", "/a/b", "site"),
        ("/a/../b?q=1", "/b?q=1", "site"),
        ("/a/%2e%2E/b", "/b", "site"),
        ("/a/b/..", "/a/", "site"),
        ("/x/../admin", "/admin", "admin"),
        ("/x/%2e%2e/admin/y", "/admin/y", "admin"),
        ("/x/.%2E/admin", "/admin", "admin"),
        ("/./admin", "/admin", "admin"),
        ("/admin/..", "/", "site"),
        ("/admin/../site", "/site", "site"),
        ("/admin/%2e%2e/", "/", "site"),
    ] {
        site.assert_forwarded(target, forwarded, name);
    }
}

#[test]
fn a_path_that_climbs_above_the_root_is_refused() {
    let site = start();
    for target in
        ["/..", "/../admin", "/a/../../admin", "/%2e%2e/admin", "http://paths.test/..", "http://paths.test/a/../.."]
    {
        site.assert_refused(target, "Malformed");
    }
}

#[test]
fn equivalent_spellings_of_a_route_lead_to_it() {
    let site = start();
    for target in ["/%61dmin", "/adm%69n/x", "/%61%64%6d%69%6E"] {
        site.assert_forwarded(target, target, "admin");
    }
}

#[test]
fn what_a_lenient_endpoint_would_read_as_another_route_is_refused() {
    let site = start();
    for target in [
        "/x/..;/admin",
        "/x/..;a=b/admin/y",
        "/x%2f..%2fadmin",
        "/x%2F%2e%2e%2Fadmin",
        "/x/..%2fadmin",
        "/x/..%5cadmin",
        "/x\\..\\admin",
        "/\\admin",
        "//admin",
        "///admin/x",
        "/%2fadmin",
        "/%2Fadmin/x",
        "/;x/admin",
        "/admin;x=1",
        "/%2e%2fadmin",
        "/deep//exactly",
        "/deep%2Fexactly",
        // The other way round: to leave a policy's path is no better than to enter it unseen.
        "/admin/..;/x",
        "/admin%2fx",
        "/admin/..%2fx",
        // An endpoint that decodes and leaves dots alone is below /admin here, though all others end at /x.
        "/admin%2f..%2fx",
    ] {
        site.assert_refused(target, "AmbiguousPath");
    }
    assert!(site.site.received().is_empty() && site.admin.received().is_empty());
}

#[test]
fn the_same_spellings_pass_where_they_lead_nowhere_else() {
    let site = start();
    for (target, name) in [
        ("/x/..;/y", "site"),
        ("/x%2f..%2fy", "site"),
        ("//x", "site"),
        ("/x;y=1/admin", "site"),
        ("/admin//x", "admin"),
        ("/admin/x%2fy", "admin"),
        ("/admin/x;y=1", "admin"),
        ("/admin/x%2f..%2fy", "admin"),
    ] {
        site.assert_forwarded(target, target, name);
    }
}

#[test]
fn h2_is_bound_by_the_same_rules() {
    let site = start();
    let ask = |path: &str| site.portolan.curl(&format!("https://{HOST}{path}"), &["--path-as-is", "--http2"]).unwrap();
    for (path, forwarded) in [("/a%2Fb//c", "/a%2Fb//c"), ("/x/../admin?q", "/admin?q")] {
        let answer = ask(path);
        assert_eq!((answer.protocol.as_str(), answer.status), ("HTTP/2", 200), "{path}: {answer:?}");
        assert_eq!(answer.told().target(), forwarded, "{path}");
    }
    for (path, reason) in [("/x/..;/admin", "AmbiguousPath"), ("//admin", "AmbiguousPath"), ("/..", "Malformed")] {
        let answer = ask(path);
        assert_eq!((answer.status, answer.reason()), (400, Some(reason)), "{path}: {answer:?}");
    }
}

#[test]
fn the_absolute_form_is_forwarded_as_origin_form() {
    let site = start();
    site.assert_forwarded("http://paths.test/a?b", "/a?b", "site");
    site.assert_forwarded("http://paths.test", "/", "site");
    site.assert_forwarded("http://paths.test?q", "/?q", "site");
}

#[test]
fn a_request_names_one_host_or_is_malformed() {
    let site = start();
    for (target, hosts) in [
        ("/", ""),
        ("/", "Host: paths.test\r\nHost: paths.test\r\n"),
        ("/", "Host: paths.test\r\nHost: other.test\r\n"),
        ("/", "Host: user@paths.test\r\n"),
        ("/", "Host: user:word@paths.test\r\n"),
        ("/", "Host: paths.test:80x\r\n"),
        ("/", "Host: paths.test/x\r\n"),
        ("/", "Host: \r\n"),
        ("/", "Host: paths.test, other.test\r\n"),
        ("http://paths.test/", "Host: other.test\r\n"),
        ("http://user@paths.test/", "Host: paths.test\r\n"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = send_plain(site.portolan.plain, &request).unwrap();
        assert_eq!((answer.status, answer.reason()), (400, Some("Malformed")), "{request}: {answer:?}");
    }
    assert!(site.site.received().is_empty(), "{:?}", site.site.received());
}

#[test]
fn connect_is_not_for_a_reverse_proxy() {
    let site = start();
    let request = "CONNECT paths.test:443 HTTP/1.1\r\nHost: paths.test:443\r\nConnection: close\r\n\r\n";
    let answer = send_plain(site.portolan.plain, request).unwrap();
    assert_eq!((answer.status, answer.reason()), (501, Some("ConnectNotSupported")), "{answer:?}");
}
