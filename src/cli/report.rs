//! What the admin API says, as tables for people.
//!
//! `JSON array ─▶ columns per kind ─▶ cells ─▶ aligned lines`. A field that is missing is shown as `-`, so that a newer
//! or older proxy can be asked as well. Names come from labels that strangers wrote: control characters are replaced, or
//! a container could command the terminal.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, IsTerminal};

use jiff::Timestamp;
use serde_json::Value;

use super::table::{Cell, Paint, Printed, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Routes,
    Services,
    Certificates,
    Providers,
    Problems,
}

/// What the reader can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub colour: bool,
    /// In columns; lists are shortened and cells cut to fit.
    pub width: Option<usize>,
    /// For "time left".
    pub now: Timestamp,
}

impl Kind {
    /// The last segment of its API path, and the name of its command.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Routes => "routes",
            Kind::Services => "services",
            Kind::Certificates => "certificates",
            Kind::Providers => "providers",
            Kind::Problems => "problems",
        }
    }
}

impl Look {
    /// Colour on a terminal alone, unless `NO_COLOR` says otherwise; the width where the shell exports `COLUMNS`.
    pub fn of_stdout() -> Look {
        let terminal = io::stdout().is_terminal();
        let width = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|_| terminal);
        Look { colour: terminal && env::var_os("NO_COLOR").is_none(), width, now: Timestamp::now() }
    }
}

/// `-o json`.
pub fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `-o json --watch`: one a line.
pub fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

pub fn table(kind: Kind, value: &Value, look: Look) -> String {
    printed(kind, value, look).whole()
}

/// As many whole rows as fit into so many lines, and how many more there are.
pub fn top(kind: Kind, value: &Value, look: Look, lines: usize) -> String {
    let Printed { mut head, rows } = printed(kind, value, look);
    let height = |text: &str| text.matches('\n').count();
    let mut room = lines.saturating_sub(height(&head));
    let whole: usize = rows.iter().map(|row| height(row)).sum();
    if whole > room {
        // For the line that says so.
        room = room.saturating_sub(1);
    }
    let mut shown = 0;
    for row in &rows {
        if height(row) > room {
            break;
        }
        room -= height(row);
        head.push_str(row);
        shown += 1;
    }
    if shown < rows.len() {
        head.push_str(&format!("… {} more\n", rows.len() - shown));
    }
    head
}

fn printed(kind: Kind, value: &Value, look: Look) -> Printed {
    let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return Printed { head: format!("no {}\n", kind.as_str()), rows: Vec::new() };
    }
    let mut table = match kind {
        Kind::Routes => Table::new(&["STATE", "ROUTE", "HOSTS", "PATHS", "POLICY", "SERVICES", "ENDPOINTS", "REASON"]),
        Kind::Services => Table::new(&["SERVICE", "READY", "ENDPOINTS", "ROUTES", "REASON"]),
        Kind::Certificates => Table::new(&["NAME", "KIND", "ISSUER", "LEFT", "NOT AFTER", "SERIAL"]),
        Kind::Providers => Table::new(&["STATE", "PROVIDER", "ROUTES", "SINCE", "WHY"]),
        Kind::Problems => Table::new(&["SEVERITY", "REASON", "SUBJECT", "WHERE"]),
    };
    for row in rows {
        let (cells, note) = match kind {
            Kind::Routes => (route(row), None),
            Kind::Services => (service(row), None),
            Kind::Certificates => (certificate(row, look.now), None),
            Kind::Providers => (provider(row), None),
            Kind::Problems => (problem(row), row["detail"].as_str()),
        };
        table.push(cells, note);
    }
    table.print(look.width, look.colour)
}

fn route(row: &Value) -> Vec<Cell> {
    vec![
        state(row),
        text(&row["id"]),
        list(&row["hosts"]),
        paths(row),
        text(&row["policy"]),
        list(&row["services"]),
        text(&row["endpoints"]),
        text(&row["reason"]),
    ]
}

/// With the further terms of each match. An older proxy tells of paths alone.
fn paths(row: &Value) -> Cell {
    let Some(matches) = row["matches"].as_array() else { return list(&row["paths"]) };
    // Neither sign that a path begins with can stand in a host.
    let without_host = |text: String| text.find(['/', '=']).map_or(text.clone(), |at| text[at..].to_string());
    let paths: BTreeSet<String> = matches.iter().map(words).map(without_host).collect();
    Cell::list(paths.into_iter().collect())
}

fn service(row: &Value) -> Vec<Cell> {
    let all = row["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = all.iter().filter(|endpoint| endpoint["state"] == "ready").count();
    let paint = match ready {
        0 => Paint::Red,
        _ if ready < all.len() => Paint::Yellow,
        _ => Paint::None,
    };
    vec![
        text(&row["id"]),
        Cell::painted(format!("{ready}/{}", all.len()), paint),
        Cell::list(all.iter().map(endpoint).collect()),
        list(&row["routes"]),
        text(&row["absent"]["reason"]),
    ]
}

/// What is usual is not said: a state of ready, a weight of 1.
fn endpoint(endpoint: &Value) -> String {
    let (address, name) = (words(&endpoint["address"]), words(&endpoint["name"]));
    let mut text = if name.contains(&address) { name } else { format!("{address} ({name})") };
    if let Some(weight) = endpoint["weight"].as_u64().filter(|weight| *weight != 1) {
        text.push_str(&format!(" ×{weight}"));
    }
    if let Some(state) = endpoint["state"].as_str().filter(|state| *state != "ready") {
        text.push_str(&format!(" {state}"));
    }
    if endpoint["why"].is_string() {
        text.push_str(&format!(" since {}: {}", words(&endpoint["since"]), words(&endpoint["why"])));
    }
    text
}

fn certificate(row: &Value, now: Timestamp) -> Vec<Cell> {
    let end: Option<Timestamp> = row["not_after"].as_str().and_then(|end| end.parse().ok());
    let left = end.map_or(Cell::plain("-"), |end| match (end.as_second() - now.as_second()) / 60 {
        ..=0 => Cell::painted("expired", Paint::Red),
        minutes @ ..120 => Cell::painted(format!("{minutes}m"), Paint::Yellow),
        minutes @ ..2880 => Cell::plain(format!("{}h", minutes / 60)),
        minutes => Cell::plain(format!("{}d", minutes / 1440)),
    });
    vec![
        text(&row["name"]),
        text(&row["kind"]),
        text(&row["issuer"]),
        left,
        text(&row["not_after"]),
        text(&row["serial"]),
    ]
}

fn provider(row: &Value) -> Vec<Cell> {
    vec![state(row), text(&row["name"]), text(&row["routes"]), text(&row["since"]), text(&row["why"])]
}

fn problem(row: &Value) -> Vec<Cell> {
    let severity = words(&row["severity"]);
    let paint = match severity.as_str() {
        "error" => Paint::Red,
        "warning" => Paint::Yellow,
        _ => Paint::None,
    };
    vec![Cell::painted(severity, paint), text(&row["reason"]), text(&row["subject"]), text(&row["origin"])]
}

fn state(row: &Value) -> Cell {
    let state = words(&row["state"]);
    let paint = match state.as_str() {
        "live" => Paint::Green,
        "denied" => Paint::Red,
        "left_out" | "stale" | "starting" => Paint::Yellow,
        _ => Paint::None,
    };
    Cell::painted(state, paint)
}

fn text(value: &Value) -> Cell {
    Cell::plain(words(value))
}

fn list(value: &Value) -> Cell {
    Cell::list(value.as_array().map(|all| all.iter().map(words).collect()).unwrap_or_default())
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Look = Look { colour: false, width: None, now: Timestamp::UNIX_EPOCH };

    #[test]
    fn routes_are_aligned() {
        let routes = json!([
            {"id": "docker/route/shop/web", "hosts": ["shop.test", "www.shop.test"], "paths": ["/"], "state": "live",
             "matches": ["shop.test/ [method=GET]", "www.shop.test/ [method=GET]"],
             "reason": null, "policy": null, "services": ["docker/service/shop/web"], "endpoints": 2},
            {"id": "file/route/a", "hosts": [], "paths": [], "state": "left_out", "reason": "Conflict",
             "policy": "partners", "services": [], "endpoints": 0},
        ]);
        let expected = "\
STATE     ROUTE                  HOSTS                    PATHS           POLICY    SERVICES                 ENDPOINTS  REASON
live      docker/route/shop/web  shop.test,www.shop.test  / [method=GET]  -         docker/service/shop/web  2          -
left_out  file/route/a           -                        -               partners  -                        0          Conflict
";
        assert_eq!(table(Kind::Routes, &routes, PLAIN), expected);
    }

    #[test]
    fn services_name_their_endpoints() {
        let services = json!([{"id": "docker/service/shop/web", "routes": ["docker/route/shop/web"], "absent": null,
            "endpoints": [{"address": "10.0.0.1:80", "name": "shop-web-1", "state": "ready", "weight": 1},
                          {"address": "10.0.0.2:80", "name": "http://10.0.0.2:80", "state": "draining", "weight": 3}]},
            {"id": "docker/service/shop/api", "routes": [], "endpoints": [],
             "absent": {"reason": "NoNetwork", "detail": "none is shared"}}]);
        let expected = "\
SERVICE                  READY  ENDPOINTS                                                ROUTES                 REASON
docker/service/shop/web  1/2    10.0.0.1:80 (shop-web-1),http://10.0.0.2:80 ×3 draining  docker/route/shop/web  -
docker/service/shop/api  0/0    -                                                        -                      NoNetwork
";
        assert_eq!(table(Kind::Services, &services, PLAIN), expected);
    }

    #[test]
    fn what_does_not_fit_is_counted_in_rows() {
        let problem =
            |n: usize| json!({"severity": "error", "reason": "Invalid", "subject": n, "origin": "-", "detail": "x"});
        let problems = Value::Array((0..5).map(problem).collect());
        let lines = |lines: usize| top(Kind::Problems, &problems, PLAIN, lines);
        assert_eq!(lines(11), table(Kind::Problems, &problems, PLAIN));
        for (room, more) in [(10, "… 1 more\n"), (9, "… 2 more\n"), (4, "… 4 more\n"), (2, "… 5 more\n")] {
            let text = lines(room);
            assert!(text.lines().count() <= room && text.ends_with(more), "{room}: {text}");
        }
        assert_eq!(top(Kind::Problems, &json!([]), PLAIN, 1), "no problems\n");
    }

    #[test]
    fn certificates_say_how_long_they_last() {
        let left = |not_after: &str| {
            let one =
                json!([{"name": "a.test", "kind": "issued", "issuer": "corp", "not_after": not_after, "serial": "0a"}]);
            let text = table(Kind::Certificates, &one, PLAIN);
            text.lines().nth(1).unwrap().split_whitespace().nth(3).unwrap().to_string()
        };
        assert_eq!(left("1970-03-31T00:00:00Z"), "89d");
        assert_eq!(left("1970-01-02T23:59:00Z"), "47h");
        assert_eq!(left("1970-01-01T01:59:00Z"), "119m");
        assert_eq!(left("1969-12-31T00:00:00Z"), "expired");
        assert_eq!(left("soon"), "-");
    }

    #[test]
    fn problems_say_what_to_do_below() {
        let problems = json!([{"severity": "error", "reason": "Invalid", "subject": "docker/route/shop/web",
            "origin": "container shop-web-1, label portolan.mlts", "detail": "did you mean \"mtls\"?"}]);
        let expected = "\
SEVERITY  REASON   SUBJECT                WHERE
error     Invalid  docker/route/shop/web  container shop-web-1, label portolan.mlts
    did you mean \"mtls\"?
";
        assert_eq!(table(Kind::Problems, &problems, PLAIN), expected);
        let coloured = table(Kind::Problems, &problems, Look { colour: true, ..PLAIN });
        assert!(coloured.contains("\x1b[31merror\x1b[0m     Invalid"), "{coloured:?}");
    }

    #[test]
    fn providers_say_why() {
        let providers = json!([{"name": "docker", "state": "stale", "since": "2026-01-01T00:00:00Z", "why": "refused", "routes": 3}]);
        let line = table(Kind::Providers, &providers, PLAIN);
        assert!(line.ends_with("stale  docker    3       2026-01-01T00:00:00Z  refused\n"), "{line}");
    }

    #[test]
    fn nothing_there_is_said() {
        assert_eq!(table(Kind::Problems, &json!([]), PLAIN), "no problems\n");
        assert_eq!(table(Kind::Routes, &json!([]), PLAIN), "no routes\n");
    }

    #[test]
    fn a_label_cannot_command_the_terminal() {
        let problems = json!([{"severity": "error", "reason": "Invalid", "subject": "a\u{1b}[2Jb\nc", "origin": "-",
            "detail": "x\u{9b}31m\r\ny"}]);
        let printed = table(Kind::Problems, &problems, PLAIN);
        assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
        assert_eq!(printed.lines().count(), 3, "{printed:?}");
    }
}
