use super::*;

/// The matches as they are shown, one a line.
fn shown(rule: &str) -> String {
    let matches = matches(rule).unwrap_or_else(|why| panic!("{rule}: {why}"));
    matches.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_shown(cases: &[(&str, &str)]) {
    for (rule, expected) in cases {
        assert_eq!(shown(rule), *expected, "{rule}");
    }
}

#[track_caller]
fn assert_refused(cases: &[(&str, usize, &str)]) {
    for (rule, character, why) in cases {
        let said = matches(rule).map(|matches| format!("{matches:?}")).expect_err(rule);
        assert!(said.starts_with(&format!("at character {character} of the rule: ")), "{rule}: {said}");
        assert!(said.contains(why), "{rule}: {said}");
    }
}

#[test]
fn every_matcher_has_its_test() {
    assert_shown(&[
        ("Host(`Shop.Example.com.`)", "shop.example.com/"),
        ("Host(`*.example.com`)", "*.example.com/"),
        ("Host(`*`)", "*/"),
        (r"HostRegexp(`^.+\.example\.com$`)", r"*/ [host~^.+\.example\.com$]"),
        ("Path(`/a b/`)", "*=/a%20b/"),
        ("PathPrefix(`/é{x}`)", "*/%C3%A9%7Bx%7D*"),
        ("PathPrefix(`/`)", "*/"),
        (r"PathRegexp(`\.(jpe?g|png)$`)", r"*/ [path~\.(jpe?g|png)$]"),
        ("Method(`post`)", "*/ [method=POST]"),
        ("ClientIP(`10.1.2.3/8`)", "*/ [client=10.0.0.0/8]"),
        ("ClientIP(`::1`)", "*/ [client=::1/128]"),
        ("Header(`X-Env`, `Beta`)", "*/ [header x-env=Beta]"),
        ("HeaderRegexp(`X-Env`, `^b`)", "*/ [header x-env~^b]"),
        ("Query(`Debug`)", "*/ [query Debug=]"),
        ("Query(`Debug`, `Yes`)", "*/ [query Debug=Yes]"),
        ("QueryRegexp(`v`)", "*/ [query v=]"),
        ("QueryRegexp(`v`, `^1`)", "*/ [query v~^1]"),
        ("Host(\"a\",)", "a/"),
        ("\n Host ( \"a\" )\t&&\r\n Path(`/`) ", "a=/"),
    ]);
}

#[test]
fn names_are_spelt_in_four_ways_and_no_other() {
    for name in ["HostRegexp", "hostregexp", "HOSTREGEXP", "Hostregexp"] {
        assert_eq!(shown(&format!("{name}(`a`)")), "*/ [host~a]");
    }
    assert_eq!(shown("Clientip(`10.0.0.1`) && CLIENTIP(`10.0.0.1`)"), "*/ [client=10.0.0.1/32]");
    assert_refused(&[
        ("hostRegexp(`a`)", 1, "did you mean HostRegexp?"),
        ("Host(`a`) && PathPrefx(`/`)", 14, "did you mean PathPrefix?"),
        ("hOST(`a`)", 1, "did you mean Host?"),
        ("Frobnicate(`a`)", 1, "known are Host, HostRegexp"),
    ]);
}

#[test]
fn not_binds_before_and_before_or() {
    assert_shown(&[
        ("Host(`a`) || Host(`b`) && Path(`/x`)", "a/\nb=/x"),
        ("(Host(`a`) || Host(`b`)) && Path(`/x`)", "a=/x\nb=/x"),
        ("!Host(`a`) && Path(`/x`)", "*=/x [!host=a]"),
        ("!(Host(`a`) || Path(`/x`))", "*/ [!host=a] [!path==/x]"),
        ("!(Host(`a`) && Path(`/x`))", "*/ [!host=a]\n*/ [!path==/x]"),
        ("!!!Method(`GET`)", "*/ [!method=GET]"),
        ("!(!(Host(`a`)))", "a/"),
    ]);
}

#[test]
fn the_most_specific_host_and_path_are_what_the_index_is_keyed_by() {
    assert_shown(&[
        ("Host(`*.x.y`) && Host(`a.x.y`) && Host(`*`)", "a.x.y/"),
        ("PathPrefix(`/a`) && PathPrefix(`/ab`) && Path(`/abc`)", "*=/abc"),
        ("Host(`a`) && !Host(`b`) && !Path(`/z`) && PathPrefix(`/x`)", "a/x*"),
        ("Host(`*.x.y`) && !Host(`a.x.y`)", "*.x.y/ [!host=a.x.y]"),
        ("PathPrefix(`/a`) && !PathPrefix(`/ab`)", "*/a* [!path=/ab*]"),
        ("PathPrefix(`/a`) && HostRegexp(`^a`)", "*/a* [host~^a]"),
    ]);
}

#[test]
fn alternatives_of_one_kind_are_one_match() {
    assert_shown(&[
        ("Host(`a`) && (Method(`GET`) || Method(`HEAD`))", "a/ [method=GET,HEAD]"),
        ("ClientIP(`10.0.0.0/8`) || ClientIP(`10.1.0.0/16`) || ClientIP(`::1`)", "*/ [client=10.0.0.0/8,::1/128]"),
        ("ClientIP(`10.0.0.0/8`) && ClientIP(`10.1.0.0/16`)", "*/ [client=10.1.0.0/16]"),
        (
            "ClientIP(`10.0.0.0/8`) && !ClientIP(`10.1.0.0/16`) && !ClientIP(`::1`)",
            "*/ [client=10.0.0.0/8] [!client=10.1.0.0/16]",
        ),
        ("!(Method(`GET`) || Method(`HEAD`))", "*/ [!method=GET,HEAD]"),
        ("(Method(`GET`) || Method(`PUT`)) && !Method(`PUT`)", "*/ [method=GET]"),
        ("Host(`a`) || Host(`a`)", "a/"),
        ("Host(`a`) || Host(`a`) && !Path(`/x`)", "a/"),
    ]);
}

/// Dropped, the second would lose its place before other routes on `/x`.
#[test]
fn a_covered_alternative_that_ranks_higher_is_kept() {
    assert_shown(&[
        ("Host(`a`) || Host(`a`) && Path(`/x`)", "a=/x\na/"),
        ("Host(`a`) || Host(`a`) && Method(`GET`)", "a/\na/ [method=GET]"),
    ]);
}

#[test]
fn what_cannot_hold_is_dropped_and_a_rule_of_nothing_else_is_invalid() {
    assert_eq!(shown("Host(`a`) && Host(`b`) || Host(`c`)"), "c/");
    for rule in [
        "Host(`a`) && Host(`b`)",
        "Host(`*.x`) && Host(`*.y`)",
        "Host(`*.x`) && Host(`a.b.x`)",
        "!Host(`*`)",
        "Host(`a.x`) && !Host(`*.x`)",
        "!PathPrefix(`/`)",
        "Path(`/a`) && PathPrefix(`/b`)",
        "Path(`/a`) && Path(`/b`)",
        "PathPrefix(`/a`) && PathPrefix(`/b`)",
        "PathPrefix(`/ab`) && !PathPrefix(`/a`)",
        "Method(`GET`) && Method(`PUT`)",
        "Method(`GET`) && !Method(`GET`)",
        "ClientIP(`10.0.0.0/8`) && ClientIP(`::1`)",
        "ClientIP(`10.0.0.1`) && !ClientIP(`10.0.0.0/8`)",
        "Header(`a`, `b`) && !Header(`A`, `b`)",
        "PathRegexp(`x`) && !PathRegexp(`x`)",
    ] {
        let said = matches(rule).expect_err(rule);
        assert!(said.starts_with("no request can match"), "{rule}: {said}");
    }
    assert_eq!(shown("Header(`a`, `b`) && Header(`a`, `c`)"), "*/ [header a=b] [header a=c]", "a header may have both");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    assert_refused(&[
        ("", 1, "the rule is empty"),
        ("Host(`a`) &&", 13, "ends where a matcher belongs"),
        ("Host(`a`) & Path(`/`)", 11, "written twice"),
        ("Host(`a`) Path(`/`)", 11, "&& or || is missing"),
        ("Host(`a`))", 10, "closes nothing"),
        ("(Host(`a`)", 1, "lacks its closing )"),
        ("(Host(`a`) Host(`b`))", 12, "&&, || or )"),
        ("Host(`é`) && Host('a')", 1, "xn--"),
        ("Path(`/é`) && Host('a')", 20, "quotes nothing"),
        ("Host(a)", 6, "stands in quotes"),
        ("Host(`a` `b`)", 10, "a comma"),
        ("Host(`a`", 9, "closing )"),
        ("Host", 5, "( is missing"),
        ("Host(`a", 6, "closing `"),
        ("`a`", 1, "within a matcher"),
        ("Host(`a`) and Host(`b`)", 11, "&& or || is missing"),
        ("and(`a`)", 1, "written &&"),
        ("Host()", 1, "takes one value; here are 0"),
        ("Host(``)", 1, "is empty"),
        ("Header(`x`, ``)", 1, "is empty"),
        ("Host(`a`, `b`)", 1, "write (Host(`a`) || Host(`b`))"),
        ("Header(`x`)", 1, "two values"),
        ("Query(`a`, `b`, `c`)", 1, "here are 3"),
        ("Host(`a:80`)", 1, "without a port"),
        ("Host(`*.`)", 1, "Host(`*`)"),
        ("HostRegexp(`é`)", 1, "xn--"),
        ("HostRegexp(`{sub:[a-z]+}.a`)", 1, "v2"),
        ("PathRegexp(`(`)", 1, "not a regular expression"),
        ("Path(`a`)", 1, "must start with /"),
        ("PathPrefix(`a`)", 1, "must start with /"),
        ("Path(`/a?b`)", 1, "cannot stand in one"),
        ("Method(`GET POST`)", 1, "no method"),
        ("ClientIP(`shop`)", 1, "neither an address"),
        ("Header(`a b`, `c`)", 1, "no header name"),
        ("Header(`Host`, `c`)", 1, "h2 has none"),
        ("HostSNI(`*`)", 1, "tcp_routes"),
        ("Host(`a`) && ALPN(`h2`)", 14, "tcp_routes"),
        ("Headers(`a`, `b`)", 1, "v3 says Header("),
        ("Host(`a`) == Host(`b`)", 11, "no meaning"),
    ]);
}

#[test]
fn at_most_64_alternatives() {
    let hosts = |count: usize| (0..count).map(|i| format!("Host(`h{i}`)")).collect::<Vec<_>>().join(" || ");
    assert_eq!(matches(&hosts(64)).map(|matches| matches.len()), Ok(64));
    let said = matches(&hosts(65)).expect_err("too many");
    assert!(said.contains("65") && said.contains("64 are allowed"), "{said}");
    let squared = format!("({}) && (Path(`/a`) || Path(`/b`) || Path(`/c`))", hosts(30));
    assert!(matches(&squared).expect_err("too many").contains("90"));
    let exponential: Vec<String> = (0..40).map(|i| format!("(Header(`a`, `{i}`) || Query(`{i}`))")).collect();
    assert!(matches(&exponential.join(" && ")).expect_err("too many").contains("more alternatives where 64"));
    // What they exclude is not counted.
    let few = format!("({}) && ({}) && Host(`h7`)", hosts(60), hosts(60));
    assert_eq!(shown(&few), "h7/");
}

#[test]
fn a_hostile_rule_is_refused_and_nothing_overflows() {
    let million = 1 << 20;
    for rule in ["(", "!", "\"\\\"", "`", "Host(", "Host(`a`)||", "é"] {
        let long = rule.repeat(million / rule.len());
        assert!(matches(&long).expect_err(rule).contains("bytes where 16384 are allowed"));
        assert_eq!(literal_hosts(&long), []);
        let longest = rule.repeat(LENGTH / rule.len());
        assert!(matches(&longest).is_err(), "{rule}");
        literal_hosts(&longest);
    }
    let deep = |depth: usize| format!("{}Host(`a`){}", "!(".repeat(depth), ")".repeat(depth));
    assert_eq!(shown(&deep(64)), "a/");
    assert!(matches(&deep(66)).expect_err("deep").contains("more than 64 deep"));
    assert_eq!(shown(&format!("{}Host(`a`)", "!".repeat(10_000))), "a/");
    assert_eq!(shown(&vec!["Host(`a`)"; 1_000].join("&&")), "a/");
    // Many alternatives of many terms each, of which only the last rule one another out.
    let many: Vec<String> = (0..600).map(|i| format!("!Query(`a{i}`)")).collect();
    let pairs: Vec<String> = (0..9).map(|i| format!("(Query(`x{i}`)||Query(`y`)&&Query(`z{i}`))")).collect();
    assert!(matches(&format!("{}&&{}", many.join("&&"), pairs.join("&&"))).is_err());
    let expressions = vec!["PathRegexp(`a`)"; 65].join(" || ");
    assert!(matches(&expressions).expect_err("too many").contains("64 regular expressions"));
}
