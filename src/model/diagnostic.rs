//! What is wrong, where it was written, and what to do about it.
//!
//! Bad input is a [`Diagnostic`] value, never an `Err` that takes something else down. They are born in lowering,
//! reconcile and compile, gathered in the `View`, and read by the log, the admin API, the metrics and the CLI.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::ObjectId;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody wrote it: a default, or something that Portolan concluded.
    Default,
    /// 1-based line and column.
    File {
        path: Arc<str>,
        line: u32,
        column: u32,
    },
    Label {
        container: Arc<str>,
        key: Arc<str>,
    },
    /// The container as a whole, where no one label is to blame.
    Container {
        name: Arc<str>,
    },
    ServiceLabel {
        service: Arc<str>,
        key: Arc<str>,
    },
    /// A Swarm service as a whole.
    Service {
        name: Arc<str>,
    },
    Env {
        variable: Arc<str>,
    },
    Flag {
        flag: Arc<str>,
    },
}

impl Origin {
    /// Labels, flags and environment variables carry every value as text: lists are comma-separated and maps JSON.
    pub fn is_text(&self) -> bool {
        matches!(self, Origin::Label { .. } | Origin::ServiceLabel { .. } | Origin::Env { .. } | Origin::Flag { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: 0, .. } => f.write_str(path),
            Origin::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Origin::Label { container, key } => write!(f, "container {container}, label {key}"),
            Origin::Container { name } => write!(f, "container {name}"),
            Origin::ServiceLabel { service, key } => write!(f, "service {service}, label {key}"),
            Origin::Service { name } => write!(f, "service {name}"),
            Origin::Env { variable } => write!(f, "environment variable {variable}"),
            Origin::Flag { flag } => write!(f, "flag --{flag}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Info,
}

/// Why. One word for the diagnostic, the `portolan-reason` header, the metric label and the object condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    UnknownField,
    Invalid,
    NotSupportedYet,
    OperatorOnly,
    Unresolved,
    NameTaken,
    Conflict,
    HostHeld,
    HostProtected,
    Outranked,
    Shadowed,
    ReplicasDiffer,
    NoPort,
    AmbiguousPort,
    NoNetwork,
    NoAddress,
    NotReady,
    NoListener,
    NoRoute,
    NoCertificate,
    SwarmTask,
    Unreadable,
    CertificateInvalid,
    NoRevocationList,
    TrustInvalid,
    ListenerUnavailable,
    ProviderUnavailable,
    NeedsRestart,
    Ignored,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownField => "UnknownField",
            Reason::Invalid => "Invalid",
            Reason::NotSupportedYet => "NotSupportedYet",
            Reason::OperatorOnly => "OperatorOnly",
            Reason::Unresolved => "Unresolved",
            Reason::NameTaken => "NameTaken",
            Reason::Conflict => "Conflict",
            Reason::HostHeld => "HostHeld",
            Reason::HostProtected => "HostProtected",
            Reason::Outranked => "Outranked",
            Reason::Shadowed => "Shadowed",
            Reason::ReplicasDiffer => "ReplicasDiffer",
            Reason::NoPort => "NoPort",
            Reason::AmbiguousPort => "AmbiguousPort",
            Reason::NoNetwork => "NoNetwork",
            Reason::NoAddress => "NoAddress",
            Reason::NotReady => "NotReady",
            Reason::NoListener => "NoListener",
            Reason::NoRoute => "NoRoute",
            Reason::NoCertificate => "NoCertificate",
            Reason::SwarmTask => "SwarmTask",
            Reason::Unreadable => "Unreadable",
            Reason::CertificateInvalid => "CertificateInvalid",
            Reason::NoRevocationList => "NoRevocationList",
            Reason::TrustInvalid => "TrustInvalid",
            Reason::ListenerUnavailable => "ListenerUnavailable",
            Reason::ProviderUnavailable => "ProviderUnavailable",
            Reason::NeedsRestart => "NeedsRestart",
            Reason::Ignored => "Ignored",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding about one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub subject: ObjectId,
    pub reason: Reason,
    /// The field as a path in the schema, `mtls` or `allow.0.dns`; absent where no one field is to blame.
    pub field: Option<Arc<str>>,
    pub origin: Origin,
    /// What is wrong and what to do, in one or two sentences.
    pub detail: String,
    /// The other side of a conflict.
    pub related: Vec<ObjectId>,
}

impl Diagnostic {
    pub fn error(subject: ObjectId, reason: Reason, origin: Origin, detail: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            subject,
            reason,
            field: None,
            origin,
            detail: detail.into(),
            related: Vec::new(),
        }
    }

    pub fn warning(subject: ObjectId, reason: Reason, origin: Origin, detail: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(subject, reason, origin, detail) }
    }

    pub fn on(mut self, field: impl Into<Arc<str>>) -> Diagnostic {
        self.field = Some(field.into());
        self
    }

    pub fn relating(mut self, other: ObjectId) -> Diagnostic {
        self.related.push(other);
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}: {}", self.subject, self.origin, self.reason, self.detail)
    }
}

/// Why a route answers 503 whatever is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Denial {
    pub reason: Reason,
    pub detail: Arc<str>,
}

impl Denial {
    pub fn new(reason: Reason, detail: impl Into<Arc<str>>) -> Denial {
        Denial { reason, detail: detail.into() }
    }

    /// The denial that follows from a diagnostic. Every way of being wrong in the text itself is `Invalid` to the
    /// outside; the diagnostic says which.
    pub fn of(diagnostic: &Diagnostic) -> Denial {
        let reason = match diagnostic.reason {
            Reason::UnknownField => Reason::Invalid,
            other => other,
        };
        Denial::new(reason, diagnostic.detail.as_str())
    }
}
