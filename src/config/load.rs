//! From what people wrote in all places to the settings that are in force, or everything that is wrong with them.
//!
//! ```text
//! defaults ─▶ portolan.yaml ─▶ environment ─▶ flags ──Layers──▶ Tree ──read──▶ Settings ──check──▶ Loaded
//!                                                                  └────────────┴── Fault ──▶ LoadError
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check;
use super::layer::{self, Layers, PREFIX};
use super::read::{self, Fault, What};
use super::settings::Settings;
use super::tree::{Node, Tree};
use super::whole::{self, Doubt};
use super::yaml;
use crate::model::{Diagnostic, Listener, Origin};

/// Looked for in this order where no file is named.
const PLACES: [&str; 2] = ["portolan.yaml", "/etc/portolan/portolan.yaml"];

/// Settings that hold together.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    pub listeners: Vec<Listener>,
    /// The sections of objects (`routes:`, `services:`, …) that stand in the file, to be lowered by the settings provider.
    pub objects: Tree,
    /// What is passed over, and what looks like a mistake without being one for certain.
    pub findings: Vec<Diagnostic>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// What it said.
    text: Option<String>,
    /// The settings, with the place of each value.
    tree: Tree,
    inputs: Inputs,
}

/// Reads one of the files that settings may stand in.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// What the settings were asked from, so that they can be asked again.
#[derive(Debug, Clone, PartialEq)]
struct Inputs {
    file: Option<PathBuf>,
    env: Vec<(String, String)>,
    flags: Vec<(String, String)>,
}

impl Loaded {
    /// The same command line and environment, and the file as it is now. Where none was named, one that has appeared
    /// since is read. A file that is gone, empty or cut off is at fault: what it said is not taken back by that.
    pub fn again(&self, read: ReadFile<'_>) -> Result<Loaded, LoadError> {
        let Inputs { file, env: _, flags: _ } = &self.inputs;
        let found = find(file.as_deref(), self.file.as_deref(), read)?;
        if let Some((path, text)) = &found {
            let last = self.text.as_deref().filter(|_| self.file.as_ref() == Some(path));
            match whole::doubt(text, last) {
                None => {}
                Some(Doubt::Empty) => {
                    let why = "it is empty; write a comment into it to go back to the defaults";
                    return Err(unusable(path, 0, 0, why.into()));
                }
                Some(Doubt::CutOff) => return Err(unusable(path, 0, 0, whole::CUT_OFF.into())),
            }
        }
        assemble(found, self.inputs.clone())
    }

    /// Every file that settings may come from.
    pub fn places(&self) -> Vec<PathBuf> {
        places(self.inputs.file.as_deref()).into_iter().map(Path::to_path_buf).collect()
    }

    /// Where the value at a path was written, or what comes nearest to it.
    pub fn origin(&self, path: &[&str]) -> Origin {
        self.tree.nearest(path).origin.clone()
    }
}

/// Why the proxy does not start: everything that is wrong, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    pub faults: Vec<Fault>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings cannot be used")?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// `flags` are dotted paths, without the dashes, and their values.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Loaded, LoadError> {
    let inputs = Inputs {
        file: file.map(Path::to_path_buf),
        env: env.filter(|(variable, _)| variable.starts_with(PREFIX)).collect(),
        flags: flags.to_vec(),
    };
    assemble(find(file, None, &|path| std::fs::read(path))?, inputs)
}

/// What one file says where nothing else says anything.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn of_text(file: PathBuf, text: String) -> Result<Loaded, LoadError> {
    let inputs = Inputs { file: Some(file.clone()), env: Vec::new(), flags: Vec::new() };
    assemble(Some((file, text)), inputs)
}

/// All that follows from what was found: nothing outside is asked any more.
fn assemble(found: Option<(PathBuf, String)>, inputs: Inputs) -> Result<Loaded, LoadError> {
    let file_tree = found.as_ref().map(|(path, text)| parse(path, text)).transpose()?;
    let (file, text) = found.unzip();
    let mut layers = lay(file_tree, inputs.env.iter().cloned(), &inputs.flags);
    let mut settings = read_all(&mut layers);
    settings.providers.off = std::mem::take(&mut layers.off);
    let Layers { tree, objects, mut faults, mut findings, .. } = layers;
    let verdict = check::check(&settings, &tree, &objects);
    // What follows from a value that could not be read is not worth a second complaint.
    let news: Vec<Fault> =
        verdict.faults.into_iter().filter(|fault| !faults.iter().any(|known| concerns(known, fault))).collect();
    faults.extend(news);
    if !faults.is_empty() {
        return Err(LoadError { faults });
    }
    findings.extend(verdict.findings);
    Ok(Loaded { settings, listeners: verdict.listeners, objects, findings, file, text, tree, inputs })
}

/// For commands that need to know where things are, and are asked most when something is wrong: as many of the settings
/// as can be read. An error where one of the `needed` sections is among what cannot.
pub fn partial(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    needed: &[&str],
) -> Result<Settings, LoadError> {
    let found = find(file, None, &|path| std::fs::read(path))?;
    let mut layers = lay(found.map(|(path, text)| parse(&path, &text)).transpose()?, env, &[]);
    let mut settings = read_all(&mut layers);
    settings.providers.off = std::mem::take(&mut layers.off);
    let touches = |fault: &Fault| fault.path.first().is_some_and(|section| needed.contains(&section.as_str()));
    let faults: Vec<Fault> = layers.faults.into_iter().filter(touches).collect();
    if faults.is_empty() { Ok(settings) } else { Err(LoadError { faults }) }
}

/// What the environment alone says: for commands that ask a running proxy what is wrong, when it is the file that is.
pub fn without_file(env: impl Iterator<Item = (String, String)>) -> Settings {
    let mut layers = lay(None, env, &[]);
    read_all(&mut layers)
}

fn lay(file: Option<Tree>, env: impl Iterator<Item = (String, String)>, flags: &[(String, String)]) -> Layers {
    let mut layers = Layers::over_defaults();
    if let Some(tree) = file {
        layers.lay_file(tree);
    }
    layers.lay_environment(env);
    for (flag, value) in flags {
        layers.lay_flag(flag, value);
    }
    layers.settle();
    layers
}

fn places(named: Option<&Path>) -> Vec<&Path> {
    named.map_or_else(|| PLACES.iter().map(Path::new).collect(), |path| vec![path])
}

/// A file that was named must be there, and one that is in force; another may be.
fn find(
    named: Option<&Path>,
    in_force: Option<&Path>,
    read: ReadFile<'_>,
) -> Result<Option<(PathBuf, String)>, LoadError> {
    for path in places(named) {
        match read(path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))) {
            Ok(text) => return Ok(Some((path.to_path_buf(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() && in_force != Some(path) => {}
            Err(error) => return Err(unusable(path, 0, 0, format!("cannot be read: {error}"))),
        }
    }
    Ok(None)
}

fn parse(path: &Path, text: &str) -> Result<Tree, LoadError> {
    let name: Arc<str> = path.to_string_lossy().into();
    yaml::parse(&name, text).map_err(|error| unusable(path, error.line, error.column, error.why))
}

fn unusable(path: &Path, line: u32, column: u32, why: String) -> LoadError {
    let origin = Origin::File { path: path.to_string_lossy().into(), line, column };
    LoadError { faults: vec![Fault { path: Vec::new(), origin, what: What::Invalid(why) }] }
}

/// Reads the whole; a value that is wrong is noted and gives way to its default, so that the next one is found too.
fn read_all(layers: &mut Layers) -> Settings {
    let defaults = layer::defaults();
    loop {
        let fault = match read::strict::<Settings>(&layers.tree) {
            Ok(settings) => return settings,
            Err(fault) => fault,
        };
        // Without this a default that cannot be read would be put back for ever.
        let repeated = layers.faults.contains(&fault);
        let again = !repeated && revert(&mut layers.tree, Some(&defaults), &fault.path);
        layers.faults.push(fault);
        if !again {
            return Settings::default();
        }
    }
}

/// Whether anything changed.
fn revert(tree: &mut Tree, default: Option<&Tree>, path: &[String]) -> bool {
    let (Node::Map(entries), Some((first, rest))) = (&mut tree.node, path.split_first()) else { return false };
    let Some(at) = entries.iter().position(|entry| entry.key == *first) else { return false };
    let default = default.and_then(|default| default.entries().iter().find(|entry| entry.key == *first));
    let below = default.map(|entry| &entry.value);
    if !rest.is_empty() && revert(&mut entries[at].value, below, rest) {
        return true;
    }
    match below {
        Some(below) if entries[at].value != *below => entries[at].value = below.clone(),
        _ => {
            entries.remove(at);
        }
    }
    true
}

fn concerns(known: &Fault, fault: &Fault) -> bool {
    known.path.starts_with(&fault.path) || fault.path.starts_with(&known.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::listener::Redirect;
    use crate::model::units::Size;
    use crate::model::{Provider, Reason};

    /// The settings page as a user would copy it, less what refuses to start.
    const EVERYTHING: &str = r#"
listeners:
  http: { address: ":80", redirect: https, public_port: 8080 }
  https:
    address: ":443"
    tls: {}
    trusted_proxies: [10.0.0.0/8, "fd00::/8"]
    proxy_protocol: off
    limits: { header_size: 64KiB, headers: 100, uri_size: 16KiB, body: 10MB, body_rate: 0, connections: 1000, client_connections: 50, streams: 100, resets: 10 }
    timeouts: { header: 30s, idle: 75s, body: 60s, send: 60s, handshake: 5s, tunnel_idle: 10m }
providers:
  docker:
    endpoint: "unix:///var/run/docker.sock"
    network: null
    expose: labelled
    default_host: "{service}.{project}.localhost"
    dialects: [portolan]
  swarm:
    endpoints: ["unix:///var/run/docker.sock"]
    network: null
    expose: labelled
    default_host: "{service}.{project}.localhost"
  kubernetes:
    namespaces: []
    ingress_class: portolan
    gateway_controller: portolan.dev/gateway-controller
    ingress_nginx_compat: false
  file: { path: ./routes.d }
  api: {}
issuers:
  corp: { internal: {} }
default_issuers: [corp]
default_certificate: shop
status: { address: ":9181" }
admin: { address: "127.0.0.1:9180" }
log: { level: info, format: auto }
access_log: { enabled: true, format: json }
shutdown: { delay: 5s, deadline: 30s }
state_dir: /var/lib/portolan
workers: 0
user: null
reason_header: true
claims: []
routes: { shop: { host: shop.example.com } }
certificates: { shop: { cert_file: /c.pem, key_file: /k.pem } }
"#;

    /// What `portolan.yaml` says, the environment and the flags.
    fn loaded(yaml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(a, b)| ((*a).to_string(), (*b).to_string())).collect()
        };
        let file = PathBuf::from("portolan.yaml");
        let inputs = Inputs { file: Some(file.clone()), env: own(env), flags: own(flags) };
        assemble(Some((file, yaml.to_string())), inputs)
            .map_err(|error| error.faults.iter().map(Fault::to_string).collect())
    }

    fn settings(yaml: &str) -> Settings {
        loaded(yaml, &[], &[]).expect(yaml).settings
    }

    fn errors(yaml: &str) -> Vec<String> {
        loaded(yaml, &[], &[]).expect_err(yaml)
    }

    #[test]
    fn only_a_loopback_address_is_taken_for_the_admin_api() {
        let with = |address: &str| format!("admin: {{ address: \"{address}\" }}");
        for good in ["127.0.0.1:9180", "[::1]:9180", "127.8.8.8:1"] {
            assert!(loaded(&with(good), &[], &[]).is_ok(), "{good}");
        }
        for bad in [":9180", "0.0.0.0:9180", "[::]:9180", "192.0.2.1:9180"] {
            let why = errors(&with(bad)).join("\n");
            assert!(why.contains("loopback") && why.contains("127.0.0.1:"), "{why}");
        }
        assert!(errors(&with("localhost")).join("\n").contains("not an address"));
    }

    #[test]
    fn without_a_word_the_defaults_are_those_of_the_settings_page() {
        let Loaded { settings, listeners, findings, .. } = loaded("", &[], &[]).expect("defaults");
        assert_eq!(settings, Settings::default());
        assert_eq!(findings, []);
        let shown: Vec<String> =
            listeners.iter().map(|l| format!("{} {} {} {:?}", l.id, l.address, l.tls, l.redirect)).collect();
        assert_eq!(shown, ["settings/listener/http :80 false Some(Https)", "settings/listener/https :443 true None"]);
        // The page itself, less what it shows by way of example.
        let page = self::settings(EVERYTHING);
        let default = Settings::default();
        assert_eq!(
            (page.issuers, page.default_issuers, page.status, page.admin, page.log, page.access_log),
            (default.issuers, default.default_issuers, default.status, default.admin, default.log, default.access_log)
        );
        assert_eq!(
            (page.shutdown, page.state_dir, page.workers, page.user, page.reason_header, page.claims),
            (default.shutdown, default.state_dir, default.workers, default.user, default.reason_header, default.claims)
        );
        let providers = page.providers;
        assert_eq!(
            (providers.docker, providers.swarm, providers.kubernetes, providers.file),
            (Some(Default::default()), Some(Default::default()), Some(Default::default()), Some(Default::default()))
        );
    }

    #[test]
    fn every_field_of_the_settings_page_is_read() {
        let Loaded { settings, objects, listeners, findings, file, .. } = loaded(EVERYTHING, &[], &[]).expect("valid");
        let https = &settings.listeners["https"];
        assert_eq!(https.trusted_proxies.as_ref().map(Vec::len), Some(2));
        assert_eq!(https.limits.as_ref().and_then(|limits| limits.header_size).map(|size| size.0), Some(65_536));
        assert_eq!(listeners[1].timeouts.handshake.to_string(), "5s");
        assert_eq!(listeners[1].timeouts.tunnel_idle.to_string(), "10m");
        let limits = listeners[1].limits;
        assert_eq!((limits.body, limits.body_rate, limits.connections), (Some(Size(10_000_000)), None, Some(1000)));
        assert_eq!((limits.client_connections, limits.streams, limits.resets), (Some(50), 100, 10));
        assert_eq!(settings.listeners["http"].public_port, Some(8080));
        assert_eq!(objects.entries().iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["routes", "certificates"]);
        assert!(file.is_some());
        let passed: Vec<&str> = findings.iter().filter_map(|finding| finding.field.as_deref()).collect();
        assert_eq!(passed, ["providers.kubernetes", "providers.api"]);
        assert!(findings.iter().all(|finding| finding.reason == Reason::NotSupportedYet));
    }

    #[test]
    fn a_limit_that_no_proxy_can_go_without_is_not_taken_away() {
        for (field, value) in [
            ("limits.header_size", "0"),
            ("limits.header_size", "2MiB"),
            ("limits.headers", "0"),
            ("limits.uri_size", "64KiB"),
            ("limits.streams", "0"),
            ("limits.resets", "0"),
            ("timeouts.header", "0s"),
            ("timeouts.idle", "0"),
            ("timeouts.body", "0s"),
            ("timeouts.send", "0s"),
            ("timeouts.handshake", "0s"),
            ("timeouts.tunnel_idle", "0s"),
        ] {
            let why = loaded("", &[], &[(&format!("listeners.http.{field}"), value)]).expect_err(field).join("\n");
            assert!(why.contains(&format!("listeners.http.{field}")), "{why}");
        }
        for field in ["body", "body_rate", "connections", "client_connections"] {
            assert!(loaded("", &[], &[(&format!("listeners.http.limits.{field}"), "0")]).is_ok(), "{field}");
        }
    }

    #[test]
    fn layers_are_merged_key_by_key() {
        let Loaded { settings, listeners, .. } = loaded(
            "listeners: { http: { address: \":8080\" }, extra: { address: \":9000\" } }\nlog: { level: warn }",
            &[("PORTOLAN_LOG__LEVEL", "debug"), ("PORTOLAN_SHUTDOWN__DELAY", "0s"), ("PORTOLAN_STATE_DIR", "/s")],
            &[("log.level", "trace"), ("listeners.https.address", "127.0.0.1:8443")],
        )
        .expect("valid");
        assert_eq!(
            (listeners[1].address.to_string().as_str(), listeners[1].redirect),
            (":8080", Some(Redirect::Https))
        );
        assert_eq!((listeners[2].address.to_string().as_str(), listeners[2].tls), ("127.0.0.1:8443", true));
        assert_eq!(serde_json::json!(settings.log), serde_json::json!({ "level": "trace", "format": "auto" }));
        assert_eq!(settings.shutdown.delay.to_string(), "0s");
        assert_eq!(settings.shutdown.deadline.to_string(), "30s");
        assert_eq!(settings.state_dir, Path::new("/s"));
        assert_eq!(listeners[1].origin.to_string().rsplit('/').next(), Some("portolan.yaml:1:31"));
        assert_eq!(listeners[2].origin.to_string(), "flag --listeners.https.address");
    }

    #[test]
    fn off_takes_away_what_the_defaults_bring() {
        for off in ["off", "false", "\"off\""] {
            let yaml = format!("listeners: {{ http: {{ redirect: {off} }} }}");
            assert_eq!(loaded(&yaml, &[], &[]).expect(off).listeners[0].redirect, None);
            let settings = settings(&format!("listeners: {{ http: {off} }}\nproviders: {{ docker: {off} }}"));
            assert_eq!(settings.listeners.keys().collect::<Vec<_>>(), ["https"]);
            assert_eq!(settings.providers.off.iter().collect::<Vec<_>>(), [&Provider::Docker]);
        }
        let flags = [("listeners.http", "off"), ("default-issuers", ""), ("issuers.corp", "off")];
        let loaded = loaded("", &[], &flags).expect("valid");
        assert_eq!(loaded.listeners.len(), 1);
        assert!(loaded.settings.issuers.is_empty());
    }

    #[test]
    fn what_is_emptied_is_left_out_and_said_but_tls_stays() {
        let loaded = loaded("log:\nstatus:\nlisteners:\n  http:\n  https: { tls: }\nproviders:\n  file:\n", &[], &[])
            .expect("valid");
        assert_eq!(loaded.listeners.iter().map(|l| l.tls).collect::<Vec<_>>(), [true]);
        assert_eq!(loaded.settings.providers, Default::default());
        let said: Vec<&str> = loaded.findings.iter().filter_map(|finding| finding.field.as_deref()).collect();
        assert_eq!(said, ["listeners.http", "providers.file"]);
    }

    #[test]
    fn the_environment_spells_paths_with_two_underscores() {
        let env = [
            ("PORTOLAN_PROVIDERS__DOCKER__NETWORK", "web"),
            ("PORTOLAN_PROVIDERS__DOCKER__DEFAULT_HOST", "{service}"),
            ("PORTOLAN_LISTENERS__HTTPS__TRUSTED_PROXIES", "10.0.0.0/8, 192.168.0.0/16"),
            ("PORTOLAN_LISTENERS__MY_LISTENER__ADDRESS", ":8081"),
            ("PORTOLAN_LISTENERS", r#"{"http": {"publicPort": 8443}}"#),
            ("PORTOLAN_SERVICE_HOST", "10.0.0.1"),
            ("PORTOLAN_TEST_DIR", "/tmp"),
            ("HOME", "/root"),
        ];
        let Loaded { settings, listeners, findings, .. } =
            loaded("listeners: { my-listener: { tls: {} } }", &env, &[]).expect("valid");
        let docker = settings.providers.docker.expect("given");
        assert_eq!((docker.network.as_deref(), docker.default_host.as_str()), (Some("web"), "{service}"));
        let shown: Vec<String> = listeners.iter().map(|l| format!("{} {} {}", l.name, l.address, l.tls)).collect();
        assert_eq!(shown, ["http :80 false", "https :443 true", "my-listener :8081 true"]);
        assert_eq!((listeners[0].public_port, listeners[1].trusted_proxies.len()), (Some(8443), 2));
        assert_eq!(findings, []);
    }

    #[test]
    fn an_unknown_variable_is_named_with_the_nearest_setting() {
        let env = [
            ("PORTOLAN_PROVDERS__DOCKER__NETWORK", "web"),
            ("PORTOLAN_LOG__LEVLE", "debug"),
            ("PORTOLAN_ROUTES__A__HOST", "a"),
        ];
        assert_eq!(
            loaded("", &env, &[]).expect_err("unknown"),
            [
                "environment variable PORTOLAN_PROVDERS__DOCKER__NETWORK: provders.docker.network: there is no setting \
                 \"provders.docker.network\"; did you mean \"providers.docker.network\"?",
                "environment variable PORTOLAN_ROUTES__A__HOST: routes.a.host: \"routes\" are objects, not settings: they \
                 stand in portolan.yaml, in files and in labels",
                "environment variable PORTOLAN_LOG__LEVLE: log.levle: there is no field \"levle\"; did you mean \"level\"?",
            ]
        );
        let findings = loaded("", &[("PORTOLAN_WORKRS", "2")], &[]).expect("no error").findings;
        assert!(findings[0].detail.contains("PORTOLAN_WORKERS"), "{findings:?}");
    }

    #[test]
    fn flags_are_dotted_paths_and_their_errors_name_them() {
        let flags =
            [("workers", "2"), ("providers.docker.default-host", "{service}.x"), ("providers.docker.network", "null")];
        let settings = loaded("providers: { docker: { network: web } }", &[], &flags).expect("valid").settings;
        let docker = settings.providers.docker.expect("given");
        assert_eq!((settings.workers, docker.network, docker.default_host.as_str()), (2, None, "{service}.x"));
        let flags = [("network", "web"), ("workrs", "2"), ("workers", "many"), ("providers.docker.expose", "al")];
        assert_eq!(
            loaded("", &[], &flags).expect_err("unknown"),
            [
                "flag --network: network: there is no setting \"network\"; did you mean \"providers.docker.network\"?",
                "flag --workrs: workrs: there is no setting \"workrs\"; did you mean \"workers\"?",
                "flag --providers.docker.expose: providers.docker.expose: \"al\" is none of labelled, all; did you mean \"all\"?",
                "flag --workers: workers: \"many\" stands where a whole number from 0 up belongs",
            ]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_where() {
        let yaml = "listners: {}\nlisteners:\n  http: { adress: \":80\" }\n  https: { address: \"443\" }\n  extra: { address: [] }\n\
                    shutdown: { delay: soon }\nworkers: -1\ndefault_issuers: [copr]\nadmin: { address: \":9180\" }\n";
        assert_eq!(
            errors(yaml),
            [
                "portolan.yaml:1:1: listners: there is no setting \"listners\"; did you mean \"listeners\"?",
                "portolan.yaml:3:11: listeners.http.adress: there is no field \"adress\"; did you mean \"address\"?",
                "portolan.yaml:4:21: listeners.https.address: \"443\" is not an address to listen on; write \":443\" or \
                 \"127.0.0.1:8443\"",
                "portolan.yaml:5:21: listeners.extra.address: a list stands where a word belongs",
                "portolan.yaml:6:20: shutdown.delay: \"soon\" is not a duration; write it like 250ms, 5s, 1m30s or 24h",
                "portolan.yaml:7:10: workers: \"-1\" stands where a whole number from 0 up belongs",
                "portolan.yaml:9:19: admin.address: the admin API has neither TLS nor rights yet, so that it listens on a \
                 loopback address only; write \"127.0.0.1:9180\"",
                "portolan.yaml:8:18: default_issuers: there is no issuer \"copr\"; did you mean \"corp\"?",
            ]
        );
    }

    #[test]
    fn what_cannot_be_refuses_to_start() {
        for (yaml, field, why) in [
            ("claims: [{ source: docker/shop, hosts: [a.example] }]", "claims", "NotSupportedYet"),
            ("listeners: { https: { proxy_protocol: v1v2 } }", "listeners.https.proxy_protocol", "NotSupportedYet"),
            ("issuers: { lets: { acme: { email: a@b.example } } }", "issuers.lets.acme", "NotSupportedYet"),
            ("issuers: { lets: {} }", "issuers.lets", "internal: {}"),
            ("issuers: { corp: { internal: { ttl: 1s } } }", "issuers.corp.internal.ttl", "write 2s or more"),
            (
                "issuers: { corp: { internal: { ttl: 2h, intermediate_ttl: 3h } } }",
                "issuers.corp.internal.intermediate_ttl",
                "twice ttl or more: 4h",
            ),
            (
                "issuers: { corp: { internal: { name_constraints: { dns: [a.example], ip: [] } } } }",
                "issuers.corp.internal.name_constraints.ip",
                "names nothing that may be signed",
            ),
            (
                "issuers: { corp: { internal: { name_constraints: { dns: [\"*.a.example\"] } } } }",
                "issuers.corp.internal.name_constraints.dns",
                "write the domain alone",
            ),
            ("default_issuers: [corp, lets]", "default_issuers", "known are corp"),
            ("default_certificate: shop", "default_certificate", "no certificate \"shop\""),
            ("default_certificate: shp\ncertificates: { Shop: {} }", "default_certificate", "mean \"shop\""),
            ("listeners: { extra: { tls: {} } }", "listeners.extra.address", "has no address"),
            (
                "listeners: { http: { address: \"127.0.0.1:443\" } }",
                "listeners.https.address",
                "taken by listeners.http",
            ),
            ("listeners: { http: { address: \":9181\" } }", "listeners.http.address", "taken by status"),
            ("status: { address: \":9180\" }", "status.address", "taken by admin"),
            ("listeners: { https: off }", "listeners.http.redirect", "no listener has tls"),
            ("listeners: { http: { tls: {} } }", "listeners.http.redirect", "write redirect: off"),
            ("listeners: { http: { public_port: 0 } }", "listeners.http.public_port", "no port"),
            ("listeners: { http: { trusted_proxies: [ten] } }", "listeners.http.trusted_proxies.0", "invalid IP"),
            ("providers: { docker: { endpoint: /var/run/docker.sock } }", "providers.docker.endpoint", "unix://"),
            ("providers: { docker: { endpoint: \"tcp://engine\" } }", "providers.docker.endpoint", "2376"),
            (
                "providers: { docker: { endpoint: \"tcp://e:2376\", tls: { ca_file: /c, cert_file: /d } } }",
                "providers.docker.tls.key_file",
                "missing",
            ),
            (
                "providers: { docker: { tls: { ca_file: /c, cert_file: /d, key_file: /k } } }",
                "providers.docker.tls",
                "tcp://",
            ),
            ("[]", "", "a map"),
            ("a: 1\nb: [", "", "portolan.yaml:"),
        ] {
            let found = errors(yaml);
            assert!(found.len() == 1 && found[0].contains(field) && found[0].contains(why), "{yaml}: {found:#?}");
        }
    }

    #[test]
    fn a_certificate_may_also_come_from_the_file_provider() {
        assert!(loaded("default_certificate: shop\nproviders: { file: {} }", &[], &[]).is_ok());
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let error = load(Some(Path::new("/nowhere/portolan.yaml")), std::iter::empty(), &[]).expect_err("absent");
        assert!(error.to_string().contains("/nowhere/portolan.yaml: cannot be read: No such file"), "{error}");
        assert_eq!(load(None, std::iter::empty(), &[]).expect("defaults").file, None);
    }

    #[test]
    fn the_settings_can_be_asked_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("portolan.yaml");
        std::fs::write(&file, "workers: 1").expect("written");
        let env = [("PORTOLAN_STATE_DIR".to_string(), "/s".to_string())];
        let flags = [("log.level".to_string(), "debug".to_string())];
        let loaded = load(Some(&file), env.into_iter(), &flags).expect("valid");
        let again = |loaded: &Loaded| loaded.again(&|path: &Path| std::fs::read(path));
        assert_eq!(again(&loaded), Ok(loaded.clone()));
        std::fs::write(&file, "workers: 2").expect("written");
        let next = again(&loaded).expect("valid");
        assert_eq!((next.settings.workers, next.settings.state_dir.clone()), (2, PathBuf::from("/s")));
        assert_eq!(next.origin(&["workers"]).to_string(), format!("{}:1:10", file.display()));
        assert_eq!(next.origin(&["state_dir"]).to_string(), "environment variable PORTOLAN_STATE_DIR");
    }

    #[test]
    fn a_file_that_goes_or_shrinks_takes_nothing_back() {
        let at = |path: &str| PathBuf::from(path);
        let files = |files: &[(&str, &str)]| -> Vec<(PathBuf, Vec<u8>)> {
            files.iter().map(|(path, text)| (at(path), text.as_bytes().to_vec())).collect()
        };
        let again = |loaded: &Loaded, there: &[(&str, &str)]| {
            let there = files(there);
            loaded.again(&|path: &Path| {
                let found = there.iter().find(|(known, _)| known == path);
                found.map(|(_, bytes)| bytes.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
            })
        };
        let inputs = Inputs { file: None, env: Vec::new(), flags: Vec::new() };
        let none = assemble(None, inputs).expect("the defaults");
        assert_eq!(again(&none, &[]), Ok(none.clone()));
        let etc =
            again(&none, &[("/etc/portolan/portolan.yaml", "workers: 1\nlog: { level: warn }\n")]).expect("valid");
        assert_eq!(etc.settings.workers, 1, "one that appears is read");
        for (there, why) in [
            (&[][..], "cannot be read: entity not found"),
            (&[("/etc/portolan/portolan.yaml", " ")], "is empty"),
            (&[("/etc/portolan/portolan.yaml", "workers: 1\n")], "still being written"),
        ] {
            let error = again(&etc, there).expect_err(why).to_string();
            assert!(error.contains(why) && error.contains("/etc/portolan/portolan.yaml"), "{error}");
        }
        assert!(again(&etc, &[("/etc/portolan/portolan.yaml", "# none\n")]).is_ok(), "comments are a word");
        let here = again(&etc, &[("portolan.yaml", "workers: 2\n"), ("/etc/portolan/portolan.yaml", "")]);
        let here = here.expect("the nearer one is read, as at a start");
        assert_eq!(here.settings.workers, 2);
        let error = again(&here, &[("/etc/portolan/portolan.yaml", "workers: 3\n")]).expect_err("gone");
        assert!(error.to_string().contains("portolan.yaml: cannot be read"), "{error}");
    }

    #[test]
    fn a_command_gets_what_it_needs_though_the_rest_is_wrong() {
        let env =
            || [("PORTOLAN_WORKERS".into(), "x".into()), ("PORTOLAN_ADMIN__ADDRESS".into(), "127.0.0.1:1".into())];
        let settings = partial(None, env().into_iter(), &["admin"]).expect("admin is fine");
        assert_eq!(settings.admin.address.to_string(), "127.0.0.1:1");
        assert!(partial(None, env().into_iter(), &["workers"]).is_err());
    }
}
