//! The command line as it is typed. Its words are a promise to scripts: add, never rename.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::listener::ListenAddress;

#[derive(Debug, Parser)]
#[command(name = "portolan", bin_name = "portolan", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The proxy
    #[command(after_help = RUN_HELP, after_long_help = RUN_HELP)]
    Run(RunArgs),
    /// HTTPS on loopback for two embedded whoami replicas, with nothing installed; watches Docker too if an engine answers
    Demo,
    /// The small backend of the demo: says who it is and echoes what it received
    Whoami(WhoamiArgs),
    /// Are these settings, routes, labels or manifests valid? (not built yet)
    Check(CheckArgs),
    /// Which route answers a URL, and why (not built yet)
    Explain(ExplainArgs),
    /// The routes that are live now
    Routes(ListArgs),
    /// The services that are live now
    Services(ListArgs),
    /// The certificates in force
    Certificates(ListArgs),
    /// What is wrong, where it was written, and what to do
    Problems(ListArgs),
    /// The internal CA
    Ca(CaArgs),
    /// The CRDs as YAML (not built yet)
    Crds,
    /// JSON Schema of the settings or of a dynamic file
    Schema(SchemaArgs),
    /// Whether the proxy on this machine is well, for HEALTHCHECK: exit code 0 or 1
    Health(HealthArgs),
}

const RUN_HELP: &str = "\
Every setting is also a flag and an environment variable; a flag wins over the environment, and that over the file:
  providers: { docker: { network: web } }     in portolan.yaml
  PORTOLAN_PROVIDERS__DOCKER__NETWORK=web     two underscores between levels
  --providers.docker.network web              the dotted path; with = as well
A list is comma-separated and a map is JSON. `portolan schema` prints every setting with its default.";

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The file of settings; without it ./portolan.yaml or /etc/portolan/portolan.yaml, if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any setting, such as --log.level debug
    #[arg(value_name = "--SETTING VALUE", trailing_var_arg = true, allow_hyphen_values = true)]
    pub settings: Vec<String>,
}

#[derive(Debug, Args)]
pub struct WhoamiArgs {
    #[arg(long, value_name = "ADDR", default_value = ":80")]
    pub listen: ListenAddress,
    /// What it calls itself; otherwise the host's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Settings, dynamic files or manifests; - is standard input
    #[arg(value_name = "FILE", required_unless_present = "compose")]
    pub files: Vec<PathBuf>,
    /// The labels of a compose file
    #[arg(long, value_name = "FILE")]
    pub compose: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    pub url: String,
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// Once for each
    #[arg(long, value_name = "K:V")]
    pub header: Vec<String>,
    /// The client certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Offline, by these files
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub with: Vec<PathBuf>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Go on and show each change, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Where the admin API is.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Of the admin API; otherwise what the settings say
    #[arg(long, value_name = "ADDR", value_parser = here)]
    pub admin: Option<SocketAddr>,
    /// The file of settings, as for run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Of the status listener; otherwise what the settings say
    #[arg(long, value_name = "ADDR", value_parser = here)]
    pub status: Option<SocketAddr>,
    /// The file of settings, as for run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `:9180` is a port on this machine.
fn here(raw: &str) -> Result<SocketAddr, String> {
    raw.parse().map(|address: ListenAddress| address.from_here())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct CaArgs {
    /// One of issuers:; otherwise the first internal one
    #[arg(long, value_name = "NAME", global = true)]
    pub issuer: Option<String>,
    /// The file of settings, as for run
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: CaCommand,
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Prints its root certificate, PEM
    Root,
    /// Installs its root in the store of CAs of this machine, so that curl and its like accept what it signed
    #[command(after_help = TRUST_HELP, after_long_help = TRUST_HELP)]
    Trust {
        /// Takes it out again
        #[arg(long)]
        uninstall: bool,
    },
    /// A client or server certificate, with a fresh key
    #[command(after_help = ISSUE_HELP, after_long_help = ISSUE_HELP)]
    Issue(IssueArgs),
    /// Takes a certificate back; a running proxy turns it away within a second
    #[command(after_help = REVOKE_HELP, after_long_help = REVOKE_HELP)]
    Revoke {
        /// Its serial number, its SHA-256 fingerprint, or its file
        #[arg(value_name = "SERIAL|FINGERPRINT|FILE")]
        certificate: String,
    },
    /// Replaces its root; a running proxy follows within a second
    #[command(after_help = ROTATE_HELP, after_long_help = ROTATE_HELP)]
    Rotate {
        /// How long the old root is trusted beside the new one; 0s refuses every older root at once
        #[arg(long, value_name = "TIME", default_value = "7d")]
        overlap: crate::model::units::Span,
    },
}

const TRUST_HELP: &str = "\
It needs root, and one of the stores of Debian, Ubuntu, Alpine, Fedora or their relatives; elsewhere it says how to do it by
hand. Firefox and Chromium have stores of their own, of each user: there, import what `portolan ca root` prints.
  sudo portolan ca trust --config /etc/portolan/portolan.yaml     as for run: the settings say where the CA is
  sudo portolan ca trust --uninstall
Of a Portolan in a container, on the machine itself:
  docker compose exec -T portolan /portolan ca root | sudo tee /usr/local/share/ca-certificates/portolan.crt
  sudo update-ca-certificates";

const ROTATE_HELP: &str = "\
The old root signs the new one. Until the overlap ends, clients that know the old root alone verify what the new one signs,
policies trust certificates of both, and every client should be given the new one (`ca root`, `ca trust`). Then the old
root is refused, and with it whatever certificate was issued under it and has not ended by itself: the command names them.
After a theft of the CA's keys: portolan ca rotate --overlap 0s";

const ISSUE_HELP: &str = "\
Written are cert.pem (certificate and intermediate), key.pem (0600), root.pem and, with --pkcs12, cert.p12 (0600); what is
there already is replaced, so that the same command renews. Each issue is a line of the log beside the CA.
  portolan ca issue --uri spiffe://example.org/alice --out alice     for curl --cert alice/cert.pem --key alice/key.pem
  portolan ca issue --email anna@example.org --pkcs12 --password-file p --out anna     for a browser
  portolan ca issue --dns db.example.org --server --ttl 720h --out db";

const REVOKE_HELP: &str = "\
The serial number is what `ca issue` prints and `openssl x509 -serial` shows; a certificate that the log beside the CA does
not know is taken back by its file. It works beside a running proxy and without one, and needs no key of the CA.";

#[derive(Debug, Args)]
pub struct IssueArgs {
    /// A host that it is for; once for each
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// An address that it is for
    #[arg(long, value_name = "ADDR")]
    pub ip: Vec<String>,
    /// A URI that its holder is called, such as a SPIFFE ID
    #[arg(long, value_name = "URI")]
    pub uri: Vec<String>,
    /// A mailbox of its holder
    #[arg(long, value_name = "ADDRESS")]
    pub email: Vec<String>,
    /// The subject's common name; otherwise the first name above
    #[arg(long, value_name = "NAME")]
    pub cn: Option<String>,
    /// For clients; without this and --server for clients, and for servers too where it has a --dns or --ip name
    #[arg(long)]
    pub client: bool,
    /// For servers; both may be given
    #[arg(long)]
    pub server: bool,
    /// The directory to write to; - prints certificates and key (or the PKCS#12 file) instead
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How long it is valid, at most as long as the intermediate that signs it; otherwise the issuer's ttl, a day by default
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<crate::model::units::Span>,
    /// Also as a PKCS#12 file, for browsers and key stores
    #[arg(long, requires = "password_file")]
    pub pkcs12: bool,
    /// Its first and only line is the password of the PKCS#12 file; /dev/stdin asks there
    #[arg(long, value_name = "FILE", requires = "pkcs12")]
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SchemaArgs {
    #[arg(value_enum, default_value_t = Described::Settings)]
    pub of: Described,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// portolan.yaml
    Settings,
    /// A file of routes and services, as providers.file.path holds them
    Dynamic,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_page_is_read() {
        for line in [
            "run --config portolan.yaml",
            "run --workers=2 --providers.docker.network web",
            "demo",
            "whoami --listen :8080 --name web",
            "check a.yaml b.yaml",
            "check -",
            "check --compose compose.yaml",
            "explain https://a.example/ --method POST --header A:b --cert c.pem --with a.yaml b.yaml",
            "routes -o json --watch",
            "services --admin 127.0.0.1:9180",
            "certificates",
            "problems --output table",
            "ca root --issuer corp",
            "ca --issuer corp trust",
            "ca trust --uninstall",
            "ca issue --dns a.example --uri spiffe://a/b --out . --ttl 1h --pkcs12 --password-file p",
            "ca issue --ip ::1 --email a@b.example --cn a --client --server --out -",
            "ca revoke 01ab",
            "ca rotate",
            "ca rotate --issuer corp --overlap 24h",
            "crds",
            "schema",
            "schema dynamic",
            "health",
        ] {
            let words = std::iter::once("portolan").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_follows_run_is_kept_for_the_settings() {
        let cli = Cli::try_parse_from([
            "portolan",
            "run",
            "--config",
            "c",
            "--workers=2",
            "--log.level",
            "debug",
            "--config",
            "d",
        ]);
        let Ok(Cli { command: Command::Run(RunArgs { config, settings }) }) = cli else { panic!("{cli:?}") };
        assert_eq!(config, Some("c".into()));
        assert_eq!(settings, ["--workers=2", "--log.level", "debug", "--config", "d"]);
    }
}
