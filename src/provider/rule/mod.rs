//! The `rule` of a route: Traefik v3's grammar and meaning for HTTP.
//!
//! ```text
//! text ──lexer──▶ tokens ──parser──▶ Expr of Tests ──normal──▶ RouteMatches, any of which may hold
//!                            └─ matcher: names, arity, values
//! ```
//! Pure, and bounded in every direction: whatever a label says, reading it costs little and ends.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hosts;
mod lexer;
mod matcher;
#[cfg(test)]
mod meaning;
mod normal;
mod parser;
#[cfg(test)]
mod tests;

use crate::model::route::RouteMatch;

pub use hosts::literal_hosts;
pub(in crate::provider) use matcher::{header_name, method};

/// In bytes.
const LENGTH: usize = 16 * 1024;

/// The conjunctions that a rule comes to, sorted. The error says what is wrong, at which character, and what to do.
pub fn matches(rule: &str) -> Result<Vec<RouteMatch>, String> {
    if rule.len() > LENGTH {
        return Err(format!("the rule has {} bytes where {LENGTH} are allowed; split it into routes", rule.len()));
    }
    let expr = parser::parse(rule).map_err(|error| error.said_of(rule))?;
    normal::alternatives(&expr)
}

/// What is wrong at one place of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RuleError {
    /// In bytes from its beginning.
    at: usize,
    why: String,
}

impl RuleError {
    fn new(at: usize, why: impl Into<String>) -> RuleError {
        RuleError { at, why: why.into() }
    }

    fn said_of(&self, rule: &str) -> String {
        let character = rule.get(..self.at).unwrap_or(rule).chars().count() + 1;
        format!("at character {character} of the rule: {}", self.why)
    }
}
