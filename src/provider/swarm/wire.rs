//! The JSON of an engine's swarm calls, as far as it concerns us, brought into the words of [`super::objects`].
//!
//! bollard's types leave out the networks of a task, and take no word for a state that they do not know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::objects::{self, Network, Published, Told};

pub const STACK: &str = "com.docker.stack.namespace";

/// `GET /info`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    #[serde(deserialize_with = "lax")]
    pub swarm: InfoSwarm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InfoSwarm {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// `inactive`, `pending`, `active`, `error` or `locked`.
    pub local_node_state: String,
    /// It is a manager.
    pub control_available: bool,
    pub error: String,
}

/// `GET /containers/{id}/json`, of Portolan's own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    #[serde(deserialize_with = "lax")]
    pub host_config: HostConfig,
    #[serde(deserialize_with = "lax")]
    pub network_settings: NetworkSettings,
    #[serde(deserialize_with = "lax")]
    pub config: ContainerConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    pub network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    #[serde(deserialize_with = "lax")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    #[serde(deserialize_with = "lax")]
    pub labels: BTreeMap<String, String>,
}

/// `GET /services`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    #[serde(rename = "ID")]
    id: String,
    created_at: String,
    #[serde(deserialize_with = "lax")]
    spec: ServiceSpec,
    #[serde(deserialize_with = "lax")]
    endpoint: Endpoint,
    #[serde(deserialize_with = "lax")]
    update_status: UpdateStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceSpec {
    name: String,
    #[serde(deserialize_with = "lax")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lax")]
    mode: Mode,
    #[serde(deserialize_with = "lax")]
    endpoint_spec: EndpointSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mode {
    replicated: Option<Replicated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Replicated {
    replicas: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EndpointSpec {
    mode: String,
    #[serde(deserialize_with = "lax")]
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Endpoint {
    #[serde(deserialize_with = "lax")]
    ports: Vec<Port>,
    #[serde(rename = "VirtualIPs", deserialize_with = "lax")]
    virtual_ips: Vec<VirtualIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    protocol: String,
    target_port: u16,
    published_port: u16,
    publish_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VirtualIp {
    #[serde(rename = "NetworkID")]
    network_id: String,
    addr: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UpdateStatus {
    state: String,
}

/// `GET /tasks`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "ServiceID")]
    service_id: String,
    slot: Option<u64>,
    #[serde(rename = "NodeID")]
    node_id: String,
    desired_state: String,
    #[serde(deserialize_with = "lax")]
    spec: TaskSpec,
    #[serde(deserialize_with = "lax")]
    status: TaskStatus,
    #[serde(deserialize_with = "lax")]
    networks_attachments: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskSpec {
    #[serde(deserialize_with = "lax")]
    container_spec: ContainerSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerSpec {
    stop_signal: String,
    /// Nanoseconds.
    stop_grace_period: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskStatus {
    state: String,
    err: String,
    #[serde(deserialize_with = "lax")]
    container_status: ContainerStatus,
    #[serde(deserialize_with = "lax")]
    port_status: PortStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(rename = "ContainerID")]
    container_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PortStatus {
    #[serde(deserialize_with = "lax")]
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    #[serde(deserialize_with = "lax")]
    network: AttachedNetwork,
    #[serde(deserialize_with = "lax")]
    addresses: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AttachedNetwork {
    #[serde(rename = "ID")]
    id: String,
    #[serde(deserialize_with = "lax")]
    spec: NetworkSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSpec {
    name: String,
    #[serde(deserialize_with = "lax")]
    driver_configuration: Driver,
    internal: bool,
    ingress: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Driver {
    name: String,
}

/// `GET /nodes`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    #[serde(rename = "ID")]
    id: String,
    #[serde(deserialize_with = "lax")]
    description: NodeDescription,
    #[serde(deserialize_with = "lax")]
    status: NodeStatus,
    #[serde(deserialize_with = "lax")]
    manager_status: ManagerStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeDescription {
    hostname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeStatus {
    state: String,
    addr: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ManagerStatus {
    addr: String,
}

/// `GET /configs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    #[serde(deserialize_with = "lax")]
    spec: ConfigSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigSpec {
    name: String,
    #[serde(deserialize_with = "lax")]
    labels: BTreeMap<String, String>,
    data: String,
}

/// The names of networks by their ids, as tasks and Portolan's own container know them.
pub type Names = BTreeMap<String, String>;

impl Service {
    pub fn read(self, names: &Names) -> objects::Service {
        let ServiceSpec { name, labels, mode, endpoint_spec } = self.spec;
        let vips = self.endpoint.virtual_ips.iter();
        let ports = endpoint_spec.ports.iter().chain(&self.endpoint.ports);
        objects::Service {
            id: self.id,
            name,
            labels,
            created: self.created_at.parse::<Timestamp>().unwrap_or_default(),
            replicas: mode.replicated.map(|replicated| replicated.replicas.unwrap_or_default()),
            dnsrr: endpoint_spec.mode == "dnsrr",
            vips: vips.filter_map(|vip| Some((names.get(&vip.network_id)?.clone(), ip(&vip.addr)?))).collect(),
            ports: ports.filter(|port| port.is_tcp()).map(|port| port.target_port).collect(),
            updating: ["updating", "rollback_started"].contains(&self.update_status.state.as_str()),
        }
    }
}

impl Task {
    /// The networks that it is on, by id.
    pub fn networks(&self) -> impl Iterator<Item = (String, Network)> {
        self.networks_attachments.iter().map(|Attachment { network, .. }| {
            let NetworkSpec { name, driver_configuration, internal, ingress } = &network.spec;
            let driver = driver_configuration.name.clone();
            (network.id.clone(), Network { name: name.clone(), driver, internal: *internal, ingress: *ingress })
        })
    }

    pub fn read(self) -> objects::Task {
        let TaskStatus { state, err, container_status, port_status } = self.status;
        let ContainerSpec { stop_signal, stop_grace_period } = self.spec.container_spec;
        let attached = self.networks_attachments.into_iter().map(|Attachment { network, addresses }| {
            // An IPv4 address where there is one, as for containers.
            let mut addresses: Vec<IpAddr> = addresses.iter().filter_map(|address| ip(address)).collect();
            addresses.sort();
            (network.spec.name, addresses.first().copied())
        });
        let host = port_status.ports.iter().filter(|port| port.is_tcp() && port.publish_mode == "host");
        objects::Task {
            id: self.id,
            service: self.service_id,
            slot: self.slot.filter(|slot| *slot != 0),
            node: self.node_id,
            container: container_status.container_id,
            state,
            desired: self.desired_state,
            error: err,
            networks: attached.collect(),
            published: host
                .map(|port| Published { task_port: port.target_port, node_port: port.published_port })
                .collect(),
            stop_signal: stop_signal.parse().ok(),
            stop_grace: stop_grace_period.map(|nanoseconds| nanoseconds / 1_000_000_000),
            told: Told::Nothing,
        }
    }
}

impl Node {
    pub fn read(self) -> objects::Node {
        let usable = |ip: &IpAddr| !ip.is_unspecified();
        // The address of a single manager is now and then said to be 0.0.0.0.
        let manager = self.manager_status.addr.parse::<std::net::SocketAddr>().ok().map(|addr| addr.ip());
        objects::Node {
            id: self.id,
            name: self.description.hostname,
            address: ip(&self.status.addr).filter(usable).or(manager.filter(usable)),
            // Under a new leader every node is `unknown` for a moment.
            down: ["down", "disconnected"].contains(&self.status.state.as_str()),
        }
    }
}

impl Config {
    pub fn read(self) -> objects::Config {
        let ConfigSpec { name, mut labels, data } = self.spec;
        let data = STANDARD.decode(data).unwrap_or_default();
        let stack = labels.remove(STACK).filter(|stack| !stack.is_empty());
        objects::Config { name, stack, data: String::from_utf8_lossy(&data).into_owned() }
    }
}

impl Port {
    fn is_tcp(&self) -> bool {
        self.protocol.is_empty() || self.protocol == "tcp"
    }
}

impl Container {
    /// The networks that it is on.
    pub fn networks(&self, names: &Names) -> BTreeSet<String> {
        let attached = self.network_settings.networks.iter();
        // A network of this engine alone is another one, even under the same name.
        let unknown = |name: &String| !names.values().any(|known| known == name);
        attached
            .filter_map(|(name, endpoint)| {
                names.get(&endpoint.network_id).or_else(|| Some(name).filter(|name| unknown(name))).cloned()
            })
            .collect()
    }
}

/// With or without the length of its prefix.
fn ip(address: &str) -> Option<IpAddr> {
    address.split('/').next()?.parse().ok()
}

/// Go says `null` for what is empty.
fn lax<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_engine_20_10_is_read_whole() {
        let json = r#"{"ID":"sapym","CreatedAt":"2026-11-28T11:24:03.344811054Z","UpdateStatus":{"State":"updating"},
            "Spec":{"Name":"shop_web","Labels":{"com.docker.stack.namespace":"shop","portolan.host":"a.test"},
                "TaskTemplate":{"ContainerSpec":{"Image":"web:1"},"Networks":[{"Target":"uph0"}]},
                "Mode":{"Replicated":{"Replicas":2}},
                "EndpointSpec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":8080,"PublishedPort":90}]}},
            "Endpoint":{"Ports":[{"Protocol":"udp","TargetPort":53,"PublishedPort":53}],
                "VirtualIPs":[{"NetworkID":"uph0","Addr":"10.0.1.4/24"},{"NetworkID":"other","Addr":"10.9.1.4/24"}]}}"#;
        let names = Names::from([("uph0".into(), "hn".into())]);
        let read = serde_json::from_str::<Service>(json).expect("a service").read(&names);
        assert_eq!((read.id.as_str(), read.name.as_str(), read.replicas), ("sapym", "shop_web", Some(2)));
        assert_eq!(read.vips, BTreeMap::from([("hn".into(), IpAddr::from([10, 0, 1, 4]))]));
        assert_eq!((read.ports, read.updating, read.dnsrr), (BTreeSet::from([8080]), true, false));
        let global = r#"{"ID":"w","Spec":{"Name":"dn","Labels":null,"Mode":{"Global":{}},"EndpointSpec":{"Mode":"dnsrr"}},
            "Endpoint":{"Spec":{}}}"#;
        let read = serde_json::from_str::<Service>(global).expect("a service").read(&names);
        assert_eq!((read.replicas, read.dnsrr), (None, true));
    }

    #[test]
    fn a_task_of_engine_20_10_is_read_whole() {
        let json = r#"{"ID":"gi69","ServiceID":"sapym","Slot":1,"NodeID":"m4p0","DesiredState":"running","Labels":{},
            "Spec":{"ContainerSpec":{"StopGracePeriod":3000000000,"StopSignal":"SIGINT"}},
            "Status":{"State":"running","ContainerStatus":{"ContainerID":"4103","PID":621,"ExitCode":0},"PortStatus":{
                "Ports":[{"Protocol":"tcp","TargetPort":8080,"PublishedPort":9090,"PublishMode":"host"},
                         {"Protocol":"tcp","TargetPort":8080,"PublishedPort":9090,"PublishMode":"host"}]}},
            "NetworksAttachments":[{"Network":{"ID":"uph0","Spec":{"Name":"hn","DriverConfiguration":{"Name":"overlay"},
                "Attachable":true,"Scope":"swarm"}},"Addresses":["10.0.1.5/24"]},
                {"Network":{"ID":"ing","Spec":{"Name":"ingress","Ingress":true,"DriverConfiguration":{}}},"Addresses":null}]}"#;
        let task: Task = serde_json::from_str(json).expect("a task");
        let networks: BTreeMap<String, Network> = task.networks().collect();
        assert!(networks["ing"].ingress && networks["uph0"].driver == "overlay");
        let read = task.read();
        assert_eq!(read.networks["hn"], Some(IpAddr::from([10, 0, 1, 5])));
        let published = BTreeSet::from([Published { task_port: 8080, node_port: 9090 }]);
        assert_eq!((read.networks["ingress"], read.published), (None, published));
        assert_eq!((read.stop_grace, read.stop_signal), (Some(3), "2".parse().ok()));
        assert_eq!((read.slot, read.container.as_str(), read.state.as_str()), (Some(1), "4103", "running"));
        let waiting = r#"{"ID":"r","ServiceID":"s","Status":{"State":"pending","Err":"no suitable node","PortStatus":{}},
            "DesiredState":"running"}"#;
        let read = serde_json::from_str::<Task>(waiting).expect("a task").read();
        assert_eq!((read.slot, read.node.as_str(), read.error.as_str()), (None, "", "no suitable node"));
    }

    #[test]
    fn nodes_and_configs_are_read() {
        let node = |status: &str| {
            let json = format!(
                r#"{{"ID":"m","Description":{{"Hostname":"vm"}},"ManagerStatus":{{"Addr":"10.1.0.1:2377"}},"Status":{status}}}"#
            );
            serde_json::from_str::<Node>(&json).expect("a node").read()
        };
        let ready = node(r#"{"State":"ready","Addr":"10.2.0.1"}"#);
        assert_eq!((ready.name.as_str(), ready.address, ready.down), ("vm", Some([10, 2, 0, 1].into()), false));
        assert_eq!(node(r#"{"State":"unknown","Addr":"0.0.0.0"}"#).address, Some([10, 1, 0, 1].into()));
        assert!(node(r#"{"State":"down"}"#).down && !node(r#"{"State":"unknown"}"#).down);
        let json =
            r#"{"ID":"8","Spec":{"Name":"shop_ca","Labels":{"com.docker.stack.namespace":"shop"},"Data":"aGk="}}"#;
        let config = serde_json::from_str::<Config>(json).expect("a config").read();
        assert_eq!(
            (config.name.as_str(), config.stack.as_deref(), config.data.as_str()),
            ("shop_ca", Some("shop"), "hi")
        );
    }
}
