//! The proxy under test as a process: its settings, its ports, its log, its commands.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::dns::Dns;
use super::engine::{Engine, PORTOLAN};
use super::http::{self, Answer, Failure};
use super::wait::eventually;
use super::{output_of, port, run, tail};

/// `portolan run` on free loopback ports. Killed when dropped; `stop` is the orderly way.
pub struct Portolan {
    dir: TempDir,
    state: PathBuf,
    process: Child,
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// A second HTTP listener, named `plain`, without redirect: served are the routes that name it.
    pub plain: SocketAddr,
    pub status: SocketAddr,
    pub admin: SocketAddr,
}

impl Portolan {
    /// With these settings laid over the ones that every test needs, and ready.
    pub fn start(settings: Value) -> Portolan {
        let portolan = Portolan::spawn(settings);
        portolan.wait_until_ready();
        portolan
    }

    /// With these settings and objects, and no engine to watch, whatever the machine has.
    pub fn serving(settings: Value) -> Portolan {
        let mut all = json!({ "providers": { "docker": "off" } });
        lay_over(&mut all, settings);
        Portolan::start(all)
    }

    /// The same, for a proxy that is not expected to become ready.
    pub fn spawn(settings: Value) -> Portolan {
        Portolan::spawn_with(settings, &[], &[])
    }

    /// With flags and environment variables as well.
    pub fn spawn_with(settings: Value, flags: &[&str], environment: &[(&str, &str)]) -> Portolan {
        Portolan::spawn_by(settings, |_| {
            let mut command = Command::new(PORTOLAN);
            command.envs(environment.iter().copied());
            (command, flags.iter().map(|flag| flag.to_string()).collect())
        })
    }

    /// Without an engine, and with names looked up there. `options` are further lines of its `resolv.conf`.
    pub fn resolving(settings: Value, dns: &Dns, options: &str) -> Portolan {
        let mut all = json!({ "providers": { "docker": "off" } });
        lay_over(&mut all, settings);
        let portolan = Portolan::spawn_by(all, |dir| {
            let mut command = dns.resolving(dir, options);
            command.arg(PORTOLAN);
            (command, Vec::new())
        });
        portolan.wait_until_ready();
        portolan
    }

    fn spawn_by(settings: Value, command: impl FnOnce(&Path) -> (Command, Vec<String>)) -> Portolan {
        let dir = tempfile::Builder::new().prefix("portolan-").tempdir().unwrap();
        let [http, https, plain, status, admin] =
            std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], port::free_port())));
        let mut all = json!({
            "listeners": {
                "http": { "address": http, "redirect": "https" },
                "https": { "address": https, "tls": {} },
                "plain": { "address": plain, "redirect": "off" },
            },
            "status": { "address": status },
            "admin": { "address": admin },
            "log": { "level": "debug", "format": "json" },
            "shutdown": { "delay": "0s", "deadline": "5s" },
            "state_dir": dir.path().join("state"),
        });
        lay_over(&mut all, settings);
        write_settings(dir.path(), &all);
        let state = PathBuf::from(all["state_dir"].as_str().unwrap());
        let (command, flags) = command(dir.path());
        let process = run_in(dir.path(), command, &flags);
        Portolan { dir, state, process, http, https, plain, status, admin }
    }

    /// Watching the engine through its socket, on the engine's own host.
    pub fn beside(engine: &Engine) -> Portolan {
        Portolan::beside_with(engine, json!({}))
    }

    pub fn beside_with(engine: &Engine, settings: Value) -> Portolan {
        let endpoint = format!("unix://{}", engine.socket.display());
        let mut all = json!({ "providers": { "docker": { "endpoint": endpoint } } });
        lay_over(&mut all, settings);
        Portolan::start(all)
    }

    /// Watching the same engine as if it were on another machine: over TLS, with a client certificate.
    pub fn over_tcp(engine: &Engine) -> Portolan {
        Portolan::start(json!({ "providers": { "docker": {
            "endpoint": format!("tcp://{}", engine.tcp),
            "tls": {
                "ca_file": engine.authority.ca_file,
                "cert_file": engine.client.cert_file,
                "key_file": engine.client.key_file,
            },
        } } }))
    }

    pub fn wait_until_ready(&self) {
        eventually("the proxy is ready", || {
            // A zombie until it is waited for: it will never be ready, and its log says why.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
            assert!(!stat.contains(") Z "), "the proxy ended:\n{}", self.log());
            self.ready()
        });
    }

    /// `Err` with what `/readyz` says, or with why it says nothing.
    pub fn ready(&self) -> Result<(), String> {
        match http::get_plain(self.status, "localhost", "/readyz") {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
            Err(e) => Err(format!("{e}\n{}", self.log())),
        }
    }

    /// An HTTPS request verified against the internal CA's root and nothing else.
    pub fn get(&self, url: &str) -> Result<Answer, Failure> {
        self.curl(url, &[])
    }

    pub fn curl(&self, url: &str, options: &[&str]) -> Result<Answer, Failure> {
        let to = if url.starts_with("https:") { self.https } else { self.http };
        http::curl(url, to, Some(&self.root()), options)
    }

    /// Asks until the answer is what `wanted` takes.
    pub fn get_until(&self, url: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        eventually(url, || match self.get(url) {
            Ok(answer) if wanted(&answer) => Ok(answer),
            other => Err(format!("{other:?}\n{}", self.log())),
        })
    }

    /// The answer of the container by this name.
    pub fn get_from(&self, url: &str, name: &str) -> Answer {
        self.get_until(url, |answer| answer.status == 200 && answer.whoami("Name") == Some(name))
    }

    /// The internal CA's root, as `portolan ca root` prints it.
    pub fn root(&self) -> PathBuf {
        let file = self.dir.path().join("root.pem");
        if !file.exists() {
            std::fs::write(&file, self.cli(&["ca", "root"]) + "\n").unwrap();
        }
        file
    }

    /// The standard output of a command that must succeed, asked of this proxy.
    pub fn cli(&self, args: &[&str]) -> String {
        output_of(&mut self.command(args))
    }

    /// The same for a command that may fail.
    pub fn try_cli(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PORTOLAN);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("PORTOLAN_ADMIN__ADDRESS", self.admin.to_string())
            .env("PORTOLAN_STATUS__ADDRESS", self.status.to_string())
            .env("PORTOLAN_STATE_DIR", &self.state);
        command
    }

    /// What `portolan problems` lists.
    pub fn problems(&self) -> Vec<Value> {
        listed(&self.cli(&["problems", "-o", "json"]))
    }

    pub fn routes(&self) -> Vec<Value> {
        listed(&self.cli(&["routes", "-o", "json"]))
    }

    pub fn services(&self) -> Vec<Value> {
        listed(&self.cli(&["services", "-o", "json"]))
    }

    /// What `portolan services` says of an endpoint, once `wanted` takes it.
    pub fn endpoint(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the endpoint {name}"), || {
            let services = self.services();
            let all = services.iter().flat_map(|service| service["endpoints"].as_array().unwrap());
            let found = all.filter(|endpoint| endpoint["name"] == name).find(|endpoint| wanted(endpoint)).cloned();
            found.ok_or(services)
        })
    }

    /// The first problem that has `reason` (any, if empty) and in which every one of `words` occurs.
    pub fn problem(&self, reason: &str, words: &[&str]) -> Value {
        eventually(&format!("a problem {reason} that names {words:?}"), || {
            let problems = self.problems();
            let found = problems.iter().find(|problem| {
                let text = problem.to_string();
                (reason.is_empty() || problem["reason"] == reason) && words.iter().all(|word| text.contains(word))
            });
            found.cloned().ok_or(problems)
        })
    }

    /// The routes in the table that answer for this host.
    pub fn routes_of(&self, host: &str) -> Vec<Value> {
        let names = |route: &Value| route["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|h| h == host));
        self.routes().into_iter().filter(names).collect()
    }

    pub fn log(&self) -> String {
        format!("{}\n{}", tail(&self.dir.path().join("stdout.log"), 60), tail(&self.dir.path().join("stderr.log"), 60))
    }

    /// The access log so far, if it is in JSON.
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("stdout.log")).unwrap();
        // The last line may be on its way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Its first line that has these values.
    pub fn logged(&self, wanted: Value) -> Value {
        let wanted = wanted.as_object().unwrap();
        eventually(&format!("a line of the access log with {wanted:?}"), || {
            let lines = self.access_log();
            let fits = |line: &&Value| wanted.iter().all(|(key, value)| line[key] == *value);
            lines.iter().find(fits).cloned().ok_or(lines)
        })
    }

    /// Lays this over the settings that it runs with, as an editor does that renames into place.
    pub fn edit(&self, over: Value) {
        let file = self.dir().join("portolan.yaml");
        let mut settings = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        lay_over(&mut settings, over);
        self.put(&serde_json::to_string_pretty(&settings).unwrap());
    }

    /// Renames a file that says this into the place of its settings.
    pub fn put(&self, text: &str) {
        let staged = self.dir().join("staged");
        std::fs::write(&staged, text).unwrap();
        std::fs::rename(&staged, self.dir().join("portolan.yaml")).unwrap();
    }

    /// Until the log has a line in which all of these words occur, in the last 60.
    pub fn says(&self, words: &[&str]) -> String {
        eventually(&format!("a line of the log with {words:?}"), || {
            let log = self.log();
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_string);
            found.ok_or(log)
        })
    }

    /// Until nothing is wrong.
    pub fn without_problems(&self) {
        eventually("no problem is left", || match self.problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(problems),
        });
    }

    pub fn signal(&self, signal: &str) {
        output_of(Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]));
    }

    /// The directory it runs in; its state is in `state` there.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn metrics(&self) -> String {
        http::get_plain(self.status, "localhost", "/metrics").unwrap().body
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
    }

    /// The value of a series, as `/metrics` names it; 0 where there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for its end, and returns its exit code and what it wrote to standard error.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = self.wait();
        (code, std::fs::read_to_string(self.dir.path().join("stderr.log")).unwrap())
    }

    /// Waits for its end. Its directory stays.
    pub fn wait(&mut self) -> Option<i32> {
        eventually("the proxy ends", || self.process.try_wait().unwrap().ok_or_else(|| self.log())).code()
    }

    /// Ends it as a power cut would. It must have been running until now.
    pub fn kill(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("the proxy ended by itself with {status}:\n{}", self.log());
        }
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again over the same settings and the same state, without flags and variables.
    pub fn again(&mut self) {
        self.process = run_in(self.dir.path(), Command::new(PORTOLAN), &[]);
    }

    /// SIGTERM, and the exit code that an orderly end has.
    pub fn stop(self) {
        self.terminate();
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "after SIGTERM:\n{log}");
    }
}

impl Drop for Portolan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- portolan\n{}", self.log());
        }
        // Both fail harmlessly where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run_in(dir: &Path, mut command: Command, flags: &[String]) -> Child {
    let log = |name: &str| File::options().create(true).append(true).open(dir.join(name)).unwrap();
    command
        .args(["run", "--config", "portolan.yaml"])
        .args(flags)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log("stdout.log"))
        .stderr(log("stderr.log"))
        .spawn()
        .unwrap()
}

/// JSON is YAML, so a test needs no writer of the latter.
pub fn write_settings(dir: &Path, settings: &Value) {
    std::fs::write(dir.join("portolan.yaml"), serde_json::to_string_pretty(settings).unwrap()).unwrap();
}

/// Merged key by key, as the settings themselves are; null takes a key away.
pub fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    under.remove(&key);
                } else {
                    lay_over(under.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (under, over) => *under = over,
    }
}

fn listed(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("not a JSON array ({e}): {json}"))
}

/// A command that needs no proxy, in a directory of its own, with what it may not inherit taken away.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PORTOLAN);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PORTOLAN_") {
            command.env_remove(name);
        }
    }
    command
}
