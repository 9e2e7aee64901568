//! The main job with nothing installed: two embedded replicas behind HTTPS on loopback, and Docker where it answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Running, Signals, control_runtime, logs};
use crate::config;
use crate::config::settings::{LogFormat, LogLevel};

/// Tried first, so that the address is the same each time; another free port where somebody listens there.
const HTTPS_PORT: u16 = 8443;
const HTTP_PORT: u16 = 8080;

pub fn demo() -> anyhow::Result<ExitCode> {
    use std::io::IsTerminal;
    let terminal = std::io::stderr().is_terminal();
    logs::init(LogLevel::Warn, LogFormat::Text, terminal).map_err(|why| anyhow::anyhow!(why))?;
    control_runtime()?.block_on(async {
        let signals = Signals::listen()?;
        let stop = CancellationToken::new();
        let mut endpoints = Vec::new();
        for name in ["whoami-1", "whoami-2"] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a replica of the demo")?;
            endpoints.push(format!("http://{}", listener.local_addr()?));
            tokio::spawn(crate::whoami::serve(listener, Some(name.into()), stop.clone()));
        }
        let dir = Scratch::make()?;
        let https = free_port(HTTPS_PORT).await?;
        let http = free_port(HTTP_PORT).await?;
        let settings = serde_json::json!({
            "listeners": {
                "http": { "address": format!("127.0.0.1:{http}"), "redirect": "https" },
                "https": { "address": format!("127.0.0.1:{https}"), "tls": {} },
            },
            "status": { "address": format!("127.0.0.1:{}", free_port(9181).await?) },
            "admin": { "address": format!("127.0.0.1:{}", free_port(9180).await?) },
            "access_log": { "enabled": false },
            "shutdown": { "delay": "0s", "deadline": "2s" },
            "state_dir": dir.0.join("state"),
            "routes": { "whoami": { "host": "whoami.localhost" } },
            "services": { "whoami": { "endpoints": endpoints } },
        });
        let file = dir.0.join("portolan.yaml");
        std::fs::write(&file, settings.to_string()).context("the demo's settings")?;
        let loaded = config::load(Some(&file), std::iter::empty(), &[])?;
        let state_dir = loaded.settings.state_dir.clone();
        let admin = loaded.settings.admin.address.from_here();
        // Its settings are nobody's to change.
        let (running, _reload) = Running::start(loaded).await?;
        running.wait_until_ready().await?;

        let ca = dir.0.join("root.pem");
        let issuer = crate::control::state::StateDir::view(&state_dir).issuer_dir("corp");
        let root = crate::control::ca::InternalCa::open(&issuer, "corp")?.root_pem();
        std::fs::write(&ca, root).context("the demo's root certificate")?;
        let ca = ca.display();
        // As this very binary is called: it is on nobody's PATH yet.
        let portolan = std::env::current_exe().map_or_else(|_| "portolan".into(), |path| path.display().to_string());
        println!(
            "Portolan is serving two replicas of whoami at\n\n  https://whoami.localhost:{https}/\n\n\
             with a certificate of its own CA, whose root is in {ca}\n\n  \
             curl --cacert {ca} https://whoami.localhost:{https}/\n\n\
             With Docker on this machine, a labelled container is live beside it a moment after it starts:\n\n  \
             docker run -d -l portolan.host=hello.localhost -l portolan.port=80 nginx\n  \
             curl --cacert {ca} https://hello.localhost:{https}/\n\n\
             What is live, and what is wrong:\n\n  {portolan} routes --admin {admin}\n  {portolan} problems --admin {admin}\n\n\
             Ctrl-C ends it.",
        );
        signals.reach(1).await;
        running.stop(signals).await;
        stop.cancel();
        Ok(ExitCode::SUCCESS)
    })
}

/// The preferred port, or whichever is free. Somebody may take it before it is opened; then the start says so.
async fn free_port(preferred: u16) -> anyhow::Result<u16> {
    let at = |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    match at(preferred).await {
        Ok(_) => Ok(preferred),
        Err(_) => Ok(at(0).await.context("no port is free on 127.0.0.1")?.local_addr()?.port()),
    }
}

/// A directory that is gone with the demo.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("portolan-demo-{}", std::process::id()));
        // One that a process of the same number left behind is not ours to trust.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
