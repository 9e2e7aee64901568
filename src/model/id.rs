//! Who an object is: provider, kind, namespace and name, ordered and printable.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where objects come from. The order is the provider rank that precedence falls back on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    Settings,
    File,
    Acme,
    Api,
    Kubernetes,
    Swarm,
    Docker,
}

impl Provider {
    pub const ALL: [Provider; 7] = [
        Provider::Settings,
        Provider::File,
        Provider::Acme,
        Provider::Api,
        Provider::Kubernetes,
        Provider::Swarm,
        Provider::Docker,
    ];

    /// Settings and files are written by whoever runs the proxy; everyone else is a tenant.
    pub fn is_operator(self) -> bool {
        matches!(self, Provider::Settings | Provider::File)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Provider::Settings => "settings",
            Provider::File => "file",
            Provider::Acme => "acme",
            Provider::Api => "api",
            Provider::Kubernetes => "kubernetes",
            Provider::Swarm => "swarm",
            Provider::Docker => "docker",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an object is. The first eight are the kinds of the schema, in its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Route,
    TcpRoute,
    Service,
    Middleware,
    MtlsPolicy,
    TrustBundle,
    Revocation,
    Certificate,
    Listener,
    Issuer,
    Container,
    Document,
    Provider,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Route => "route",
            Kind::TcpRoute => "tcp_route",
            Kind::Service => "service",
            Kind::Middleware => "middleware",
            Kind::MtlsPolicy => "mtls_policy",
            Kind::TrustBundle => "trust_bundle",
            Kind::Revocation => "revocation",
            Kind::Certificate => "certificate",
            Kind::Listener => "listener",
            Kind::Issuer => "issuer",
            Kind::Container => "container",
            Kind::Document => "document",
            Kind::Provider => "provider",
        }
    }
}

/// A name in the alphabet `[a-z0-9_-]+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// Lower-cases, then turns every character outside the alphabet into `-`.
    pub fn normalised(raw: &str) -> Name {
        let name: String = raw
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-' { c } else { '-' })
            .collect();
        Name(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The namespace that containers without a compose project share.
pub const SHARED_NAMESPACE: &str = "_";

/// A provider and a namespace together: the unit of tenancy.
///
/// Containers without a project are each a source of their own, spelt `_/<container>`: what their labels define is
/// visible to that container alone, while [`Source::group`] still sees them as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    pub provider: Provider,
    pub namespace: Option<Arc<str>>,
}

impl Source {
    pub fn new(provider: Provider, namespace: Option<Arc<str>>) -> Source {
        Source { provider, namespace }
    }

    pub fn is_operator(&self) -> bool {
        self.provider.is_operator()
    }

    /// The namespace as rule (a) of "Who wins" sees it: `_` for every container without a project.
    pub fn group(&self) -> (Provider, Option<&str>) {
        let namespace = self.namespace.as_deref();
        (self.provider, namespace.map(|n| n.split_once('/').map_or(n, |(group, _)| group)))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}", self.provider),
            None => write!(f, "{}", self.provider),
        }
    }
}

/// The address of one object. `Display` is `docker/route/shop/web`; ties everywhere end at this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    pub provider: Provider,
    pub kind: Kind,
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

impl ObjectId {
    pub fn new(source: &Source, kind: Kind, name: impl Into<Arc<str>>) -> ObjectId {
        ObjectId { provider: source.provider, kind, namespace: source.namespace.clone(), name: name.into() }
    }

    pub fn source(&self) -> Source {
        Source { provider: self.provider, namespace: self.namespace.clone() }
    }

    /// The object of another kind that stands beside this one under the same name.
    pub fn sibling(&self, kind: Kind, name: impl Into<Arc<str>>) -> ObjectId {
        ObjectId { kind, name: name.into(), ..self.clone() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.provider, self.kind.as_str())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// A reference as users write it: `strip`, `strip@file` or `shop/strip`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NameRef(Arc<str>);

impl NameRef {
    pub fn new(raw: &str) -> NameRef {
        NameRef(raw.trim().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Splits into what [`RefScope`] distinguishes; the name part is normalised.
    pub fn parts(&self) -> (RefScope<'_>, Name) {
        if let Some((name, provider)) = self.0.rsplit_once('@') {
            return (RefScope::Provider(provider), Name::normalised(name));
        }
        if let Some((namespace, name)) = self.0.split_once('/') {
            return (RefScope::Namespace(namespace), Name::normalised(name));
        }
        (RefScope::Own, Name::normalised(&self.0))
    }
}

impl fmt::Display for NameRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a [`NameRef`] is to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefScope<'a> {
    /// The referrer's own namespace, else the operator's objects.
    Own,
    Provider(&'a str),
    Namespace(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_then_folded_into_the_alphabet() {
        assert_eq!(Name::normalised("My Shop.API_v2").as_str(), "my-shop-api_v2");
    }

    #[test]
    fn containers_without_a_project_are_sources_of_their_own_in_one_group() {
        let a = Source::new(Provider::Docker, Some("_/a".into()));
        let b = Source::new(Provider::Docker, Some("_/b".into()));
        assert_ne!(a, b);
        assert_eq!(a.group(), b.group());
    }

    #[test]
    fn references_say_where_to_look() {
        assert_eq!(NameRef::new("strip@file").parts().0, RefScope::Provider("file"));
        assert_eq!(NameRef::new("shop/strip").parts().0, RefScope::Namespace("shop"));
        assert_eq!(NameRef::new("Strip").parts(), (RefScope::Own, Name::normalised("strip")));
    }
}
