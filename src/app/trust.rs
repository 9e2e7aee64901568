//! The root of an internal CA in the system's store, and out of it again.
//!
//! ```text
//! root ─▶ one file in the store's directory ─▶ the system's own tool makes it known
//! ```

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, anyhow, bail};
use rustls_pki_types::CertificateDer;

use super::ca::Place;
use crate::control::ca::{Known, pem_text};
use crate::control::durable;
use crate::material::system_store::{self, Layout};

const ROOT: &str = "/";
/// Where the tools are, though the shells of some users do not look there.
const PLACES: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// What was installed of this CA before and is not trusted any more goes.
pub fn install(place: &Place) -> anyhow::Result<ExitCode> {
    let Some(layout) = Layout::of(Path::new(ROOT)) else {
        crate::cli::print(&by_hand(place.name(), &place.trusted()?.file))?;
        return Ok(ExitCode::FAILURE);
    };
    let tool = ready(layout, layout.after_adding)?;
    let directory = layout.directory(Path::new(ROOT));
    let wanted = files(place.name(), &directory, &place.trusted()?.roots)?;
    let held = installed(&directory, place.name())?;
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    for (path, pem) in &wanted {
        durable::write_atomic(path, pem.as_bytes(), durable::PUBLIC).with_context(|| path.display().to_string())?;
    }
    let gone = held.iter().filter(|path| !wanted.iter().any(|(wanted, _)| wanted == *path));
    let gone = gone.map(|path| remove(path)).collect::<anyhow::Result<Vec<String>>>()?;
    tell(&tool, if gone.is_empty() { layout.after_adding } else { layout.after_removing })?;
    let mut said: Vec<String> = wanted.iter().map(|(path, _)| format!("installed: {}", path.display())).collect();
    said.extend(gone);
    said.push(format!("what the internal CA \"{}\" signed is trusted on this machine now", place.name()));
    crate::cli::print(&(said.join("\n") + "\n"))
}

/// By the issuer's name alone: the CA itself may be gone already.
pub fn uninstall(place: &Place) -> anyhow::Result<ExitCode> {
    let Some(layout) = Layout::of(Path::new(ROOT)) else {
        bail!(
            "the system's store is not one that Portolan knows, so that it has installed nothing there; take out by \
             hand what was installed by hand"
        );
    };
    let tool = ready(layout, layout.after_removing)?;
    let directory = layout.directory(Path::new(ROOT));
    let mut said = Vec::new();
    for path in installed(&directory, place.name())? {
        said.push(remove(&path)?);
    }
    if said.is_empty() {
        said.push(format!("nothing of the internal CA \"{}\" is in {}", place.name(), directory.display()));
    }
    // Even so: the last attempt may have ended between the two.
    tell(&tool, layout.after_removing)?;
    crate::cli::print(&(said.join("\n") + "\n"))
}

/// The tool, where it is there and may be used: before anything is touched.
fn ready(layout: &Layout, command: &[&str]) -> anyhow::Result<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        bail!("the system's store of CAs belongs to root; run it again with sudo, or as root");
    }
    let name = command.first().copied().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(PLACES.map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|tool| tool.is_file());
    found.ok_or_else(|| anyhow!("there is no {name} on this machine; install the package {}", layout.package))
}

fn tell(tool: &Path, command: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(tool).args(command.iter().skip(1)).output();
    let output = output.with_context(|| format!("{} cannot be run", tool.display()))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}, so that what was changed is not known yet; run it again when this is mended:\n{}{}",
            command.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Each root of the CA, and where it goes.
fn files(issuer: &str, directory: &Path, roots: &[CertificateDer<'_>]) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let file = |root: &[u8]| {
        let known = Known::of(root).map_err(|why| anyhow!("the root of the internal CA \"{issuer}\" {why}"))?;
        let path = directory.join(system_store::file_name(issuer, &known.fingerprint));
        Ok((path, pem_text("CERTIFICATE", root)))
    };
    roots.iter().map(|root| file(root)).collect()
}

fn installed(directory: &Path, issuer: &str) -> anyhow::Result<Vec<PathBuf>> {
    system_store::installed(directory, issuer).with_context(|| directory.display().to_string())
}

fn remove(path: &Path) -> anyhow::Result<String> {
    fs::remove_file(path).with_context(|| path.display().to_string())?;
    Ok(format!("taken out: {}", path.display()))
}

fn by_hand(issuer: &str, root: &Path) -> String {
    let root = root.display();
    format!(
        "\
The system's store of CAs is not one that Portolan knows, so that nothing is installed. The root of the internal CA
\"{issuer}\" is {root}; `portolan ca root` prints it. By hand it is installed so:
  Arch       trust anchor --store {root}
  openSUSE   cp {root} /etc/pki/trust/anchors/portolan-{issuer}.pem && update-ca-certificates
  NixOS      security.pki.certificateFiles = [ {root} ];
  macOS      security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain root.pem
  Windows    certutil -addstore -f ROOT root.pem
"
    )
}
