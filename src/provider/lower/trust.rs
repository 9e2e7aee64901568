//! Trust bundles and revocation lists: where their bytes come from.

use std::time::Duration;

use crate::config::tree::Tree;
use crate::model::diagnostic::Diagnostic;
use crate::model::id::{Kind, Name, Provider};
use crate::model::mtls::{BundleSource, ListSource, Revocation, TrustBundle};
use crate::model::schema::{RevocationSpec, TrustBundleSpec};

use super::Author;
use super::reading::{Reading, operator_only};

const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

pub(super) fn bundle(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> TrustBundle {
    let mut reading = Reading::<TrustBundleSpec>::of(author.id(Kind::TrustBundle, name), tree, findings);
    let TrustBundleSpec { file, pem, issuer, config } = std::mem::take(&mut reading.spec);
    if file.is_some() && !author.is_operator() {
        let instead = "carry the certificates in pem:, or name an operator's bundle";
        let diagnostic = operator_only(&reading.id, tree, "file", instead);
        reading.deny(diagnostic);
    }
    let given = [file.is_some(), pem.is_some(), issuer.is_some(), config.is_some()];
    one_of(&mut reading, given, "a bundle comes from exactly one of file, pem, issuer and config");
    if let Some(config) = config.as_ref().filter(|_| reading.denied.is_none()) {
        // What could be read of it stands in `pem` by now.
        let why = match author.source.provider {
            Provider::Swarm => format!("the service's own stack has no config \"{config}\"; see docker config ls"),
            _ => "a config is named by the deploy.labels of a Swarm service alone; use pem: here".to_string(),
        };
        reading.invalid("config", why);
    }
    let from = match (file, pem, issuer) {
        (Some(file), _, _) => Some(BundleSource::File(file.into())),
        (_, Some(pem), _) => Some(BundleSource::Pem(pem.into())),
        (_, _, Some(issuer)) => Some(BundleSource::Issuer(Name::normalised(&issuer))),
        _ => None,
    };
    TrustBundle {
        origin: tree.origin.clone(),
        from: from.filter(|_| reading.denied.is_none()),
        denied: reading.denied,
        id: reading.id,
    }
}

pub(super) fn revocation(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> Revocation {
    let mut reading = Reading::<RevocationSpec>::of(author.id(Kind::Revocation, name), tree, findings);
    let RevocationSpec { file, url, refresh, pem, stale } = std::mem::take(&mut reading.spec);
    for (field, given) in [("file", file.is_some()), ("url", url.is_some())] {
        if given && !author.is_operator() {
            let instead = "carry the list in pem:, or name an operator's";
            let diagnostic = operator_only(&reading.id, tree, field, instead);
            reading.deny(diagnostic);
        }
    }
    if let Some(url) = &url
        && let Err(why) = fetchable(url)
    {
        reading.invalid("url", why);
    }
    match refresh {
        Some(_) if url.is_none() => {
            reading.invalid("refresh", "refresh goes with url: files are followed as they change");
        }
        Some(refresh) if refresh.0 < SHORTEST_REFRESH => {
            reading.invalid("refresh", "once a second is the most often that a list is fetched; write 1s or more");
        }
        _ => {}
    }
    let given = [file.is_some(), url.is_some(), pem.is_some()];
    one_of(&mut reading, given, "a revocation list comes from exactly one of file, url and pem");
    let from = match (file, url, pem) {
        (Some(file), _, _) => Some(ListSource::File(file.into())),
        (_, Some(url), _) => Some(ListSource::Url { url: url.into(), refresh }),
        (_, _, Some(pem)) => Some(ListSource::Pem(pem.into())),
        _ => None,
    };
    Revocation {
        origin: tree.origin.clone(),
        from: from.filter(|_| reading.denied.is_none()),
        stale: stale.unwrap_or_default(),
        denied: reading.denied,
        id: reading.id,
    }
}

fn fetchable(raw: &str) -> Result<(), String> {
    let wrong = || format!("\"{raw}\" is nothing to fetch; write it like http://crl.example.org/ca.crl");
    let url: http::Uri = raw.parse().map_err(|_| wrong())?;
    let authority =
        url.authority().filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    match (url.scheme_str(), authority) {
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(wrong()),
    }
}

fn one_of<T>(reading: &mut Reading<'_, T>, given: impl IntoIterator<Item = bool>, why: &str)
where
    T: serde::de::DeserializeOwned + Default,
{
    let count = given.into_iter().filter(|given| *given).count();
    if count != 1 && reading.denied.is_none() {
        reading.invalid("", why);
    }
}
