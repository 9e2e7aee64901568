//! The settings: what `portolan.yaml`, the environment and the flags say, with every default in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Provider;
use crate::model::constraints::NameConstraints;
use crate::model::listener::{ListenAddress, UnderscoreHeaders};
use crate::model::units::{Size, Span};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub listeners: BTreeMap<String, ListenerSettings>,
    pub providers: ProviderSettings,
    pub issuers: BTreeMap<String, IssuerSettings>,
    /// Tried in order for every name that no configured certificate covers.
    pub default_issuers: Vec<String>,
    /// A name under `certificates`.
    pub default_certificate: Option<String>,
    pub status: StatusSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
    pub access_log: AccessLogSettings,
    pub shutdown: ShutdownSettings,
    pub state_dir: PathBuf,
    /// Worker threads; 0 is one per core.
    pub workers: usize,
    /// As whom to go on where it was started as root: a user's number, which is its group's as well. 0, as without it,
    /// stays root. The image says 65532.
    pub user: Option<u32>,
    /// Whether Portolan's own answers name their reason in `portolan-reason`.
    pub reason_header: bool,
    /// Which source may use which hosts, listeners and policies. Not built yet: refuses to start.
    pub claims: Vec<ClaimSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        let http = ListenerSettings {
            address: Some(ListenAddress::everywhere(80)),
            redirect: Some(RedirectSetting::Https),
            ..ListenerSettings::default()
        };
        let https = ListenerSettings {
            address: Some(ListenAddress::everywhere(443)),
            tls: Some(ListenerTlsSettings::default()),
            ..ListenerSettings::default()
        };
        let corp = IssuerSettings { internal: Some(InternalIssuerSettings::default()), acme: None };
        Settings {
            listeners: BTreeMap::from([("http".into(), http), ("https".into(), https)]),
            providers: ProviderSettings::default(),
            issuers: BTreeMap::from([("corp".into(), corp)]),
            default_issuers: vec!["corp".into()],
            default_certificate: None,
            status: StatusSettings { address: ListenAddress::everywhere(9181) },
            admin: AdminSettings { address: ListenAddress { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 9180 } },
            log: LogSettings::default(),
            access_log: AccessLogSettings { enabled: true, format: AccessLogFormat::Json },
            shutdown: ShutdownSettings { delay: Span::seconds(5), deadline: Span::seconds(30) },
            state_dir: "/var/lib/portolan".into(),
            workers: 0,
            user: None,
            reason_header: true,
            claims: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerSettings {
    /// `":443"` is every address, dual stack where the host has IPv6.
    pub address: Option<ListenAddress>,
    /// Present on a listener that terminates TLS.
    pub tls: Option<ListenerTlsSettings>,
    /// `https`: everything but the routes that name this listener is answered 308.
    pub redirect: Option<RedirectSetting>,
    /// The port that clients see, where it differs: it is the one that redirects name.
    pub public_port: Option<u16>,
    /// Peers whose forwarding headers are believed.
    #[schemars(with = "Option<Vec<String>>")]
    pub trusted_proxies: Option<Vec<IpNet>>,
    /// Not built yet: anything but `off` refuses to start.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Request headers whose names have an underscore: `drop` (as by default), `pass` or `refuse` with 400.
    pub underscore_headers: Option<UnderscoreHeaders>,
    pub limits: Option<LimitSettings>,
    pub timeouts: Option<ListenerTimeoutSettings>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTlsSettings {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedirectSetting {
    Https,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    Off,
    V1v2,
}

/// What one client may take up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// All header fields of a request: names, values and 32 bytes for each.
    pub header_size: Option<Size>,
    /// Header fields of a request.
    pub headers: Option<u32>,
    /// A request's path and query.
    pub uri_size: Option<Size>,
    /// A request's body; 0 is any size.
    pub body: Option<Size>,
    /// Bytes a second of a body that an endpoint waits for, over `timeouts.body`; 0 is any rate.
    pub body_rate: Option<Size>,
    /// Open at the same time; 0 is as many as the process may open.
    pub connections: Option<u32>,
    /// The same of one client address; 0 is any number.
    pub client_connections: Option<u32>,
    /// Requests under way on one h2 connection.
    pub streams: Option<u32>,
    /// Requests that one h2 connection may give up unanswered.
    pub resets: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTimeoutSettings {
    /// From a head's first byte, or from the start of a fresh connection, to the head's end.
    pub header: Option<Span>,
    /// From the end of the last answer to the first byte of the next request.
    pub idle: Option<Span>,
    /// Over which `limits.body_rate` is measured.
    pub body: Option<Span>,
    /// While bytes wait for a client that takes none.
    pub send: Option<Span>,
    /// Until the TLS handshake is complete.
    pub handshake: Option<Span>,
    /// While no byte passes either way through a WebSocket or another upgraded connection.
    pub tunnel_idle: Option<Span>,
}

/// A provider that is absent is "auto" where that means anything; one that is given is on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    pub docker: Option<DockerSettings>,
    pub swarm: Option<SwarmSettings>,
    pub kubernetes: Option<KubernetesSettings>,
    pub file: Option<FileSettings>,
    pub api: Option<ApiSettings>,
    /// Set to `off`: not even tried. The one way to keep a provider from being on by itself.
    #[serde(skip)]
    pub off: BTreeSet<Provider>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DockerSettings {
    /// `unix:///var/run/docker.sock` or `tcp://engine:2376`.
    pub endpoint: String,
    /// The network to reach containers by, where their labels name none.
    pub network: Option<String>,
    pub expose: Expose,
    /// `{service}` and `{project}` are filled in.
    pub default_host: String,
    pub dialects: Vec<Dialect>,
    /// For a `tcp://` endpoint.
    pub tls: Option<EngineTlsSettings>,
}

impl Default for DockerSettings {
    fn default() -> Self {
        DockerSettings {
            endpoint: "unix:///var/run/docker.sock".into(),
            network: None,
            expose: Expose::Labelled,
            default_host: "{service}.{project}.localhost".into(),
            dialects: vec![Dialect::Portolan],
            tls: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expose {
    /// Containers with any route, tcp_route or service label.
    Labelled,
    /// Also those without, at `default_host`.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    Portolan,
    Traefik,
    Caddy,
}

/// PEM files, as `docker --tlsverify` names them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineTlsSettings {
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwarmSettings {
    /// Several managers: the first that answers.
    pub endpoints: Vec<String>,
    /// The network to reach tasks by, where a service's labels name none.
    pub network: Option<String>,
    pub expose: Expose,
    /// `{service}` and `{project}`, the stack, are filled in.
    pub default_host: String,
    /// For `tcp://` endpoints.
    pub tls: Option<EngineTlsSettings>,
}

impl Default for SwarmSettings {
    fn default() -> Self {
        let DockerSettings { endpoint, network, expose, default_host, dialects: _, tls } = DockerSettings::default();
        SwarmSettings { endpoints: vec![endpoint], network, expose, default_host, tls }
    }
}

/// Not built yet, passed over with a diagnostic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSettings {
    /// None named is all of them.
    pub namespaces: Vec<String>,
    pub ingress_class: String,
    pub gateway_controller: String,
    /// Reads ingress-nginx's annotations as well.
    pub ingress_nginx_compat: bool,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        KubernetesSettings {
            namespaces: Vec::new(),
            ingress_class: "portolan".into(),
            gateway_controller: "portolan.dev/gateway-controller".into(),
            ingress_nginx_compat: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileSettings {
    /// A directory of `.yaml`, `.yml` and `.json` files, or one file.
    pub path: PathBuf,
}

impl Default for FileSettings {
    fn default() -> Self {
        FileSettings { path: "./routes.d".into() }
    }
}

/// Objects written through the admin API. Not built yet, passed over with a diagnostic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {}

/// One kind each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    pub internal: Option<InternalIssuerSettings>,
    pub acme: Option<AcmeSettings>,
}

/// The internal CA, kept in the state dir.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InternalIssuerSettings {
    /// The life of certificates, of those that handshakes ask for and of `ca issue` without --ttl. They are renewed when two
    /// thirds of it are over.
    pub ttl: Span,
    /// The life of the intermediate that signs them.
    pub intermediate_ttl: Span,
    /// The names that it may sign.
    pub name_constraints: NameConstraints,
    /// Its one line encrypts the CA's keys.
    pub passphrase_file: Option<PathBuf>,
}

impl Default for InternalIssuerSettings {
    fn default() -> Self {
        InternalIssuerSettings {
            ttl: Span::seconds(24 * 3600),
            intermediate_ttl: Span::seconds(365 * 24 * 3600),
            name_constraints: NameConstraints::default(),
            passphrase_file: None,
        }
    }
}

/// Not built yet: refuses to start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeSettings {
    pub directory: Option<String>,
    pub email: Option<String>,
    pub challenges: Vec<String>,
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusSettings {
    pub address: ListenAddress,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    pub address: ListenAddress,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    pub level: LogLevel,
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: LogLevel::Info, format: LogFormat::Auto }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLogSettings {
    pub enabled: bool,
    pub format: AccessLogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    Json,
    Common,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShutdownSettings {
    /// Not ready, but still accepting.
    pub delay: Span,
    /// For what is in flight after accepting has stopped.
    pub deadline: Span,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimSettings {
    pub source: Option<String>,
    pub hosts: Vec<String>,
    pub listeners: Vec<String>,
    pub policies: Vec<String>,
}
