//! Middlewares that labels define.

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::http::curl;
use crate::support::portolan::Portolan;

#[test]
fn labels_strip_a_prefix_and_redirect() {
    let Some(engine) = Engine::shared() else { return };
    let _web = Container::compose(engine, "mw", "web", 1)
        .label("portolan.routes.api.host", "web.mw.test")
        .label("portolan.routes.api.path", "/api")
        .label("portolan.routes.api.use", "strip,tagged")
        .label("portolan.routes.old.host", "old.mw.test")
        .label("portolan.routes.old.use", "away")
        .label("portolan.middlewares.strip.strip_prefix", "/api")
        .label("portolan.middlewares.tagged.headers.response.set", r#"{"x-served-by": "portolan"}"#)
        .label("portolan.middlewares.away.redirect.host", "web.mw.test")
        .label("portolan.middlewares.away.redirect.status", "302")
        .start();
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_from("https://web.mw.test/api/x%2Fy?q=1", "mw-web-1");
    assert!(answer.body.contains("\nGET /x%2Fy?q=1 HTTP/1.1"), "{}", answer.body);
    assert_eq!(answer.whoami("X-Forwarded-Prefix"), Some("/api"), "{}", answer.body);
    assert_eq!(answer.header("x-served-by"), Some("portolan"), "{answer:?}");

    let answer = curl("https://old.mw.test/x?q=1", portolan.https, Some(&portolan.root()), &[]).unwrap();
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://web.mw.test/x?q=1")), "{answer:?}");
    assert_eq!(answer.reason(), Some("Redirect"));
}
