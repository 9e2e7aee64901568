//! The commands of the internal CA. They work on its files, beside a running proxy or without one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::{SignedDuration, Timestamp};

use crate::cli::args::IssueArgs;
use crate::config::Settings;
use crate::config::settings::InternalIssuerSettings;
use crate::control::ca::{self, CaOptions, InternalCa, Issued, LeafRequest, Passphrase, Purposes, San, pem_text};
use crate::control::durable;
use crate::control::state::StateDir;
use crate::model::Name;

/// Standard output as a place to write to.
const STDOUT: &str = "-";

/// An internal CA of the settings, and where it is.
pub struct Place {
    name: String,
    dir: PathBuf,
    options: CaOptions,
}

/// What the settings say of an internal CA.
pub fn options(settings: Option<&InternalIssuerSettings>) -> CaOptions {
    let InternalIssuerSettings { ttl, intermediate_ttl, name_constraints, passphrase_file } =
        settings.cloned().unwrap_or_default();
    CaOptions {
        leaf_life: ttl.0,
        intermediate_life: intermediate_ttl.0,
        constraints: name_constraints,
        passphrase_file,
    }
}

impl Place {
    /// `None` is the first default issuer.
    pub fn find(settings: &Settings, issuer: Option<&str>) -> anyhow::Result<Place> {
        let internal = |name: &&str| settings.issuers.get(*name).is_some_and(|issuer| issuer.internal.is_some());
        let known: Vec<&str> = settings.issuers.keys().map(String::as_str).filter(internal).collect();
        let name = match issuer {
            Some(name) => {
                known.iter().find(|known| **known == Name::normalised(name).as_str()).copied().ok_or_else(|| {
                    anyhow!("there is no internal issuer \"{name}\"; issuers: names {}", known.join(", "))
                })?
            }
            None => {
                let default = settings.default_issuers.iter().map(String::as_str).find(internal);
                default.or(known.first().copied()).ok_or_else(|| anyhow!("issuers: names no internal CA"))?
            }
        };
        let internal = settings.issuers.get(name).and_then(|issuer| issuer.internal.as_ref());
        let dir = StateDir::view(&settings.state_dir).issuer_dir(name);
        Ok(Place { name: name.into(), dir, options: options(internal) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to trust of the CA that is there. Whoever trusts one that was made for the purpose trusts nobody's.
    pub fn trusted(&self) -> anyhow::Result<ca::Trusted> {
        Ok(ca::trusted(&self.dir, &self.name, Timestamp::now())?)
    }

    /// Makes the CA where there is none yet.
    fn open(&self) -> anyhow::Result<InternalCa> {
        let known = self.dir.exists();
        let ca = InternalCa::open_with(&self.dir, &self.name, &self.options, Timestamp::now())?;
        if !known {
            // With another state_dir than the proxy's this is a root that no proxy uses.
            eprintln!("portolan: there was no CA in {}; made one", self.dir.display());
        }
        Ok(ca)
    }
}

/// Prints the root of an internal CA; in an overlap the one before it as well.
pub fn root(place: &Place) -> anyhow::Result<ExitCode> {
    crate::cli::print(&place.open()?.trusted_pem(Timestamp::now()))
}

pub fn issue(place: &Place, args: &IssueArgs) -> anyhow::Result<ExitCode> {
    let request = request(args)?;
    // Before anything is made: what cannot be written down must not be issued.
    let password = args.password_file.as_deref().filter(|_| args.pkcs12).map(password).transpose()?;
    let (now, ttl) = (Timestamp::now(), args.ttl.map_or(place.options.leaf_life, |ttl| ttl.0));
    let ca = place.open()?;
    let issued = ca.issue(&request, ttl, now)?;
    let name = request.subject().unwrap_or_else(|| issued.serial.clone());
    let archive = password.map(|password| ca::pkcs12(&issued, &ca.root_der(), &name, password.as_str()));
    let archive = archive.transpose().map_err(|why| anyhow!(why))?;
    if args.out == Path::new(STDOUT) {
        match archive {
            Some(archive) => std::io::stdout().write_all(&archive).context("standard output")?,
            None => drop(crate::cli::print(&(chain_pem(&issued) + &key_pem(&issued) + &ca.trusted_pem(now)))?),
        }
        eprintln!("{}", summary(&issued, &request, ttl));
        return Ok(ExitCode::SUCCESS);
    }
    let out = &args.out;
    durable::create_private_dir(out).with_context(|| out.display().to_string())?;
    let write = |file: &str, bytes: &[u8], mode: u32| {
        let path = out.join(file);
        durable::write_atomic(&path, bytes, mode).with_context(|| path.display().to_string())?;
        anyhow::Ok(path.display().to_string())
    };
    let mut written = vec![
        write("key.pem", key_pem(&issued).as_bytes(), durable::PRIVATE)?,
        write("cert.pem", chain_pem(&issued).as_bytes(), durable::PUBLIC)?,
        write("root.pem", ca.trusted_pem(now).as_bytes(), durable::PUBLIC)?,
    ];
    if let Some(archive) = archive {
        written.push(write("cert.p12", &archive, durable::PRIVATE)?);
    }
    crate::cli::print(&format!("{}\nwritten: {}\n", summary(&issued, &request, ttl), written.join(", ")))
}

pub fn revoke(place: &Place, wanted: &str) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let ca::Revocation { certificate, new } = ca::revoke(&place.dir, &place.name, wanted, now)?;
    let ca::Known { serial, subject, names, not_after, .. } = &certificate;
    let names = if names.is_empty() { subject.clone() } else { names.join(", ") };
    let what = if new { "revoked" } else { "revoked already" };
    let until = match *not_after <= now {
        true => format!("it ended by itself at {not_after}"),
        false => format!("on the list until it ends, at {not_after}"),
    };
    crate::cli::print(&format!("{what}: serial {serial} ({names}), {until}\n"))
}

pub fn rotate(place: &Place, overlap: Duration) -> anyhow::Result<ExitCode> {
    let rotation = ca::rotate(&place.dir, &place.name, &place.options, overlap, Timestamp::now())?;
    let ca::Rotation { old, new, until, cut_short } = rotation;
    let then = match overlap.is_zero() {
        true => "refused from now on".to_string(),
        false => format!("trusted beside it until {until}"),
    };
    let mut said = format!(
        "rotated: {} (serial {}) is the root now\nbefore: {} (serial {}), {then}\ngive clients the new one: portolan ca \
         root, portolan ca trust\n",
        new.subject, new.serial, old.subject, old.serial
    );
    if !cut_short.is_empty() {
        said.push_str("these live longer than the old root is trusted; issue them anew before it is not:\n");
    }
    for ca::Known { serial, subject, names, not_after, .. } in &cut_short {
        let names = if names.is_empty() { subject.clone() } else { names.join(", ") };
        said.push_str(&format!("  serial {serial} ({names}), valid until {not_after}\n"));
    }
    crate::cli::print(&said)
}

fn request(args: &IssueArgs) -> anyhow::Result<LeafRequest> {
    let IssueArgs { dns, ip, uri, email, cn, client, server, out: _, ttl: _, pkcs12: _, password_file: _ } = args;
    let names = dns.iter().map(|name| San::dns(name)).chain(ip.iter().map(|name| San::ip(name)));
    let names = names.chain(uri.iter().map(|name| San::uri(name))).chain(email.iter().map(|name| San::email(name)));
    let names: Vec<San> = names.collect::<Result<_, _>>()?;
    let hosts = names.iter().any(|name| matches!(name, San::Host(_)));
    let purposes = match (*client, *server) {
        (false, false) => Purposes { client: true, server: hosts },
        (client, server) => Purposes { client, server },
    };
    Ok(LeafRequest { names, common_name: cn.clone(), purposes })
}

fn password(file: &Path) -> anyhow::Result<Passphrase> {
    Passphrase::read(file).map_err(|why| anyhow!("the password file {} {why}", file.display()))
}

fn chain_pem(issued: &Issued) -> String {
    issued.chain.iter().map(|certificate| pem_text("CERTIFICATE", certificate)).collect()
}

fn key_pem(issued: &Issued) -> String {
    pem_text("PRIVATE KEY", issued.key.secret_der())
}

fn summary(issued: &Issued, request: &LeafRequest, ttl: Duration) -> String {
    let Purposes { client, server } = request.purposes;
    let whom = match (client, server) {
        (true, true) => "clients and servers",
        (true, false) => "clients",
        _ => "servers",
    };
    let names: Vec<String> = request.names.iter().map(San::to_string).collect();
    let names =
        if names.is_empty() { format!("CN={}", request.subject().unwrap_or_default()) } else { names.join(", ") };
    let life = issued.not_after.duration_since(Timestamp::now());
    let wanted = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
    let short = match wanted.saturating_sub(life) > SignedDuration::from_secs(5) {
        true => ": shorter than asked for, because what signs it ends then",
        false => "",
    };
    format!("issued: serial {} for {whom} ({names}), valid until {}{short}", issued.serial, issued.not_after)
}
