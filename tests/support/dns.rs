//! A DNS server that knows what a test tells it, and a way to run a proxy that asks it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Listens on port 53 of a loopback address of its own: `resolv.conf` has no word for a port.
pub struct Dns {
    pub address: Ipv4Addr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    zone: Mutex<BTreeMap<String, (Vec<IpAddr>, u32)>>,
    asked: Mutex<Vec<String>>,
    silent: AtomicBool,
    ending: AtomicBool,
}

impl Dns {
    pub fn start() -> Dns {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::SeqCst) + std::process::id() * 16;
        let address = Ipv4Addr::new(127, 53, (n >> 8) as u8, n as u8);
        let socket = UdpSocket::bind((address, 53)).expect("port 53 takes root");
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let shared = Arc::new(Shared::default());
        let of = shared.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !of.ending.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = of.answer(&buffer[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Dns { address, shared }
    }

    /// From now on the name, without a dot at its end, has these addresses, for so many seconds.
    pub fn set(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.shared.zone.lock().unwrap().insert(name.to_string(), (addresses, ttl));
    }

    /// From now on there is no such name.
    pub fn forget(&self, name: &str) {
        self.shared.zone.lock().unwrap().remove(name);
    }

    /// Whether nobody is answered any more.
    pub fn silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// How often the name's IPv4 addresses were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }

    /// Runs what follows with a `resolv.conf` of its own, in a mount namespace of its own.
    pub fn resolving(&self, dir: &Path, options: &str) -> Command {
        let file = dir.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {}\n{options}\n", self.address)).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"").arg(file);
        command
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    /// RFC 1035 §4.1: the question comes back, then its records.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let mut labels = Vec::new();
        let mut at = 12;
        while *query.get(at)? != 0 {
            let length = usize::from(query[at]);
            labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
            at += 1 + length;
        }
        let question = query.get(12..at + 5)?;
        let (name, kind) = (labels.join("."), query[at + 2]);
        if kind == 1 {
            self.asked.lock().unwrap().push(name.clone());
        }
        if self.silent.load(Ordering::SeqCst) {
            return None;
        }
        let known = self.zone.lock().unwrap().get(&name).cloned();
        let mut records = Vec::new();
        let (addresses, ttl) = known.clone().unwrap_or_default();
        for address in addresses {
            let data = match address {
                IpAddr::V4(ip) if kind == 1 => ip.octets().to_vec(),
                IpAddr::V6(ip) if kind == 28 => ip.octets().to_vec(),
                _ => continue,
            };
            let mut record = vec![0xc0, 12, 0, kind, 0, 1];
            record.extend(ttl.to_be_bytes());
            record.extend((data.len() as u16).to_be_bytes());
            record.extend(data);
            records.push(record);
        }
        let code = if known.is_some() { 0 } else { 3 };
        let mut answer = query[..2].to_vec();
        answer.extend([0x85, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        answer.extend(question);
        answer.extend(records.concat());
        Some(answer)
    }
}

/// Two loopback addresses of one port on which nobody listens yet.
pub fn two_places() -> [SocketAddr; 2] {
    let port = super::port::free_port();
    [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))]
}
