//! The one schema, as users spell it in a file, in labels, in the settings and through the admin API.
//!
//! Every field is optional and has one type; keyed maps, never arrays of named things. `provider::lower` turns these
//! into the typed objects of `model`. Fields whose capability is not built yet parse all the same: lowering says
//! `NotSupportedYet` and denies what needs them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::{Kind, NameRef};
use super::units::Span;

/// A dynamic file: what `providers.file.path` holds, and what may also stand in `portolan.yaml` itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    pub routes: BTreeMap<String, RouteSpec>,
    pub services: BTreeMap<String, ServiceSpec>,
    pub tcp_routes: BTreeMap<String, TcpRouteSpec>,
    pub middlewares: BTreeMap<String, MiddlewareSpec>,
    pub mtls_policies: BTreeMap<String, MtlsPolicySpec>,
    pub trust_bundles: BTreeMap<String, TrustBundleSpec>,
    pub revocations: BTreeMap<String, RevocationSpec>,
    pub certificates: BTreeMap<String, CertificateSpec>,
}

/// What a document's sections are called, and what stands in them.
pub const SECTIONS: [(&str, Kind); 8] = [
    ("routes", Kind::Route),
    ("services", Kind::Service),
    ("tcp_routes", Kind::TcpRoute),
    ("middlewares", Kind::Middleware),
    ("mtls_policies", Kind::MtlsPolicy),
    ("trust_bundles", Kind::TrustBundle),
    ("revocations", Kind::Revocation),
    ("certificates", Kind::Certificate),
];

/// Which requests go to which service, and under which policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSpec {
    /// One host: exact, or `*.example.com` for one label. `*` is any host.
    pub host: Option<String>,
    pub hosts: Option<Vec<String>>,
    /// Element-wise prefix.
    pub path: Option<String>,
    pub path_exact: Option<String>,
    /// Anchored at both ends, RE2 syntax; on the path with every character decoded that is not reserved.
    pub path_regex: Option<String>,
    /// Any of these.
    pub methods: Option<Vec<String>>,
    /// Header name to one of its values, exactly. All hold.
    pub headers: Option<BTreeMap<String, String>>,
    /// Parameter name to one of its values, exactly, both decoded. All hold.
    pub query: Option<BTreeMap<String, String>>,
    /// CIDR blocks or addresses, one of which holds the peer's own.
    pub clients: Option<Vec<String>>,
    /// Instead of the fields above: Traefik v3's grammar and meaning.
    pub rule: Option<String>,
    pub priority: Option<i64>,
    /// Names of listeners; absent means every TLS listener.
    pub listeners: Option<Vec<String>>,
    /// Middlewares, in order.
    #[serde(rename = "use")]
    pub middlewares: Option<Vec<NameRef>>,
    /// One client-certificate policy by name.
    pub mtls: Option<NameRef>,
    /// Absent means the service of the same name.
    pub service: Option<NameRef>,
    /// Service to weight, instead of `service`.
    pub split: Option<BTreeMap<NameRef, u32>>,
    pub tls: Option<RouteTlsSpec>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTlsSpec {
    pub issuer: Option<String>,
    pub certificate: Option<NameRef>,
    pub min_version: Option<TlsVersion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// What requests are forwarded to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSpec {
    /// URLs such as `http://10.0.0.7:8080` or `http://kuard:8080`; from settings and files only.
    pub endpoints: Option<Vec<String>>,
    /// The container's port, for what an engine discovers.
    pub port: Option<u16>,
    pub scheme: Option<Scheme>,
    /// The engine's network to reach it by: exact, or without the project prefix.
    pub network: Option<String>,
    pub address: Option<AddressMode>,
    pub balance: Option<BalanceSpec>,
    /// What `consistent_hash` tells requests apart by; absent means the client's IP address.
    pub hash: Option<HashSpec>,
    /// For what an engine discovers: the weight of this container; 0 = no request. Replicas may differ in it.
    pub weight: Option<u32>,
    /// Endpoint to weight, for endpoints that are written; 1 where absent, 0 = no request.
    pub weights: Option<BTreeMap<String, u32>>,
    pub health: Option<HealthSpec>,
    pub ejection: Option<EjectionSpec>,
    pub retry: Option<RetrySpec>,
    pub timeouts: Option<TimeoutsSpec>,
    pub sticky: Option<StickySpec>,
    pub tls: Option<UpstreamTlsSpec>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    #[default]
    Http,
    /// h2 in cleartext, without asking first.
    H2c,
    /// h1 or h2, as the endpoint picks by ALPN.
    Https,
    /// h2 over TLS.
    H2,
}

impl Scheme {
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::H2)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::H2c => "h2c",
            Scheme::Https => "https",
            Scheme::H2 => "h2",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AddressMode {
    Task,
    Vip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceSpec {
    RoundRobin,
    Random,
    Weighted,
    LeastRequest,
    ConsistentHash,
}

/// Exactly one of these is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HashSpec {
    pub header: Option<String>,
    pub cookie: Option<String>,
}

/// Every endpoint is asked at an interval. `{}` is a check that connects, and no more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSpec {
    /// What a GET asks for; absent means that a connection is answer enough.
    pub path: Option<String>,
    /// Absent means the endpoint's own.
    pub port: Option<u16>,
    /// The `Host` that the GET carries; absent means the endpoint's name or address.
    pub host: Option<String>,
    pub interval: Option<Span>,
    /// For the whole of one check.
    pub timeout: Option<Span>,
    /// Any of these is good; absent means any from 200 to 399.
    pub status: Option<Vec<u16>>,
    /// So many good ones in a row bring an endpoint back.
    pub healthy: Option<u32>,
    /// So many bad ones in a row take it out.
    pub unhealthy: Option<u32>,
}

/// An endpoint that fails one request after the other is left out for a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EjectionSpec {
    /// In a row; 0 = never.
    pub failures: Option<u32>,
    /// Answers that count beside connections that fail or break off: `[502, 503, 504]`.
    pub status: Option<Vec<u16>>,
    /// The first time; as long again for each one more in a row.
    pub time: Option<Span>,
    /// Of the endpoints, at once: `50%`.
    pub share: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySpec {
    /// In all, the first time included; 1 = never again.
    pub attempts: Option<u32>,
    /// Retries of requests that may have arrived, as a share of all requests: `20%`.
    pub budget: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsSpec {
    pub connect: Option<Span>,
    /// From the request's last byte to the head of the answer.
    pub response_header: Option<Span>,
    /// From the request's head to the answer's last byte; absent means without end.
    pub request: Option<Span>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StickySpec {
    /// The cookie's name; absent means one of the service's own.
    pub cookie: Option<String>,
    /// Whether the cookie carries a MAC, so that no client can make one up.
    pub signed: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTlsSpec {
    /// The name that is asked for (SNI), and that the certificate must be for where `sans` says nothing; absent means the
    /// endpoint's own.
    pub server_name: Option<String>,
    /// DNS names, addresses and URIs: the certificate must be for one of them.
    pub sans: Option<Vec<String>>,
    /// Bundles; with `issuer`, instead of the system's CAs.
    pub trust: Option<Vec<NameRef>>,
    /// An internal CA that is trusted.
    pub issuer: Option<String>,
    /// The certificate that Portolan shows to an endpoint that asks for one.
    pub client: Option<ClientCertificateSpec>,
    /// Operator-only.
    pub insecure_skip_verify: Option<bool>,
}

/// One of `issuer` and `certificate` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificateSpec {
    /// An internal CA, which issues and renews it.
    pub issuer: Option<String>,
    /// Of what the internal CA issues; absent means one of the service's own. Operator-only.
    pub uri: Option<String>,
    /// The same. Operator-only.
    pub dns: Option<String>,
    /// A name under `certificates`. Operator-only.
    pub certificate: Option<NameRef>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpRouteSpec {
    pub sni: Option<String>,
    pub listener: Option<String>,
    pub passthrough: Option<bool>,
    pub service: Option<NameRef>,
}

/// One kind each: exactly one of these fields is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MiddlewareSpec {
    /// Put before the path that is forwarded.
    pub add_prefix: Option<String>,
    pub headers: Option<HeadersSpec>,
    /// Taken from the path that is forwarded, by whole segments: the longest that matches.
    pub strip_prefix: Option<Vec<String>>,
    pub redirect: Option<RedirectSpec>,
}

/// Changes to the headers of the request that is forwarded and of the response that is returned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeadersSpec {
    pub request: Option<HeaderChangesSpec>,
    pub response: Option<HeaderChangesSpec>,
}

/// Applied in this order: remove, set, add.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChangesSpec {
    pub set: Option<BTreeMap<String, String>>,
    pub add: Option<BTreeMap<String, String>>,
    pub remove: Option<Vec<String>>,
}

/// Sends the client to another URL; what is not given stays as it was asked for. A client that is there already goes
/// through.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedirectSpec {
    /// `http` or `https`.
    pub scheme: Option<String>,
    pub host: Option<String>,
    /// The whole path, without a query.
    pub path: Option<String>,
    /// Absent means the port that was asked for, or the default one of another scheme.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308, which is the default.
    pub status: Option<u16>,
}

/// Who may come in with which client certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MtlsPolicySpec {
    pub mode: Option<ClientAuthMode>,
    pub trust: Option<Vec<NameRef>>,
    pub allow: Option<Vec<IdentityMatchSpec>>,
    pub revoked: Option<Vec<NameRef>>,
    pub forward: Option<Vec<ForwardIdentity>>,
    pub handshake: Option<HandshakeMode>,
    /// The most intermediate certificates between the client's own and the root's.
    pub depth: Option<u8>,
}

/// What a client has to show. From the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    Off,
    Request,
    RequireAny,
    VerifyIfGiven,
    Require,
}

/// Whether a host whose every route requires a verified certificate refuses without one in the handshake already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeMode {
    #[default]
    Refuse,
    Ask,
}

/// Of a revocation list whose next update is overdue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StaleList {
    /// Nobody whom its issuer vouches for is verified.
    #[default]
    Deny,
    /// Whoever does not stand on it is.
    Accept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardIdentity {
    ClientCert,
    ClientCertChain,
    Xfcc,
    TraefikPem,
    TraefikInfo,
    Nginx,
}

/// The keys within one entry must all hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityMatchSpec {
    pub dns: Option<String>,
    pub uri: Option<String>,
    pub email: Option<String>,
    pub ip: Option<String>,
    pub subject: Option<BTreeMap<String, String>>,
    pub issuer: Option<BTreeMap<String, String>>,
    pub spki: Option<String>,
    pub fingerprint: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrustBundleSpec {
    /// Operator-only.
    pub file: Option<String>,
    pub pem: Option<String>,
    pub issuer: Option<String>,
    pub config: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RevocationSpec {
    /// PEM or DER, one list or several. Operator-only.
    pub file: Option<String>,
    /// `http://` or `https://`, of PEM or DER. Operator-only.
    pub url: Option<String>,
    /// How often `url` is fetched; absent means once an hour.
    pub refresh: Option<Span>,
    pub pem: Option<String>,
    /// What becomes of a list that is overdue; absent means `deny`.
    pub stale: Option<StaleList>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateSpec {
    /// PEM, leaf first. Operator-only.
    pub cert_file: Option<String>,
    /// PEM. Operator-only.
    pub key_file: Option<String>,
}
