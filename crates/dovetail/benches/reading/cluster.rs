//! A cluster's lists in the Engine's JSON, as long as the Engine's own.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// The tasks of a service, and what they may become.
const TASKS: u32 = 10;
const MOST_TASKS: u32 = TASKS + 1;
const NODES: u32 = 50;

/// What changes between two lists of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Churn {
    None,
    /// A service in task mode, each time another one, has one task more; the one before has ten again.
    OneTask,
}

/// So many services on one network, after so many changes.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    pub services: u32,
    pub churn: Churn,
    pub changes: u32,
}

impl Cluster {
    /// The answer to `GET /services?status=true`.
    pub fn services(&self) -> Vec<u8> {
        list((0..self.services).map(|number| self.service(number).to_string()))
    }

    /// The answer to `GET /tasks`.
    pub fn tasks(&self) -> Vec<u8> {
        // Most of a task's text is the same in all of them.
        let text = task().to_string();
        let parts: Vec<&str> = text.split('@').collect();
        let tasks = (0..self.services).flat_map(|number| (1..=self.count(number)).map(move |slot| (number, slot)));
        list(tasks.map(|(number, slot)| {
            let mut text = String::with_capacity(text.len() + 100);
            let (first, rest) = parts.split_first().expect("one part at least");
            text.push_str(first);
            for part in rest {
                let (key, part) = part.split_at(1);
                match key {
                    "t" => write!(text, "task{number:012}{slot:09}"),
                    "s" => write!(text, "{}", id(number)),
                    "n" => write!(text, "node{:021}", (number + slot) % NODES),
                    "l" => write!(text, "{slot}"),
                    "a" => write!(text, "{}", address(number, slot)),
                    _ => unreachable!("a key that nobody wrote"),
                }
                .expect("strings take everything");
                text.push_str(part);
            }
            text
        }))
    }

    fn count(&self, number: u32) -> u32 {
        // Those in task mode have odd numbers.
        let changed = self.churn == Churn::OneTask && self.changes > 0;
        if changed && number == self.changes * 2 % self.services + 1 { MOST_TASKS } else { TASKS }
    }

    fn service(&self, number: u32) -> Value {
        let mode = if number.is_multiple_of(2) { "vip" } else { "task" };
        let tasks = self.count(number);
        let labels = json!({
            "com.docker.lb.hosts": format!("app-{number:05}.example.org"), "com.docker.lb.port": "8080",
            "com.docker.lb.backend_mode": mode,
        });
        json!({
            "ID": id(number), "Version": { "Index": tasks }, "CreatedAt": TIME, "UpdatedAt": TIME,
            "Spec": {
                "Name": format!("app-{number:05}"), "Labels": labels, "TaskTemplate": template(),
                "Mode": { "Replicated": { "Replicas": tasks } }, "EndpointSpec": { "Mode": "vip" },
            },
            "Endpoint": {
                "Spec": { "Mode": "vip" }, "VirtualIPs": [{ "NetworkID": NETWORK, "Addr": address(number, 0) }],
            },
            "ServiceStatus": { "RunningTasks": tasks, "DesiredTasks": tasks, "CompletedTasks": 0 },
        })
    }
}

const TIME: &str = "2026-11-24T22:20:04.69742757Z";
const NETWORK: &str = "network000000000000000000";

/// The answer to `GET /networks/...`.
pub fn network() -> Value {
    json!({
        "Name": "apps", "Id": NETWORK, "Created": TIME, "Scope": "swarm", "Driver": "overlay", "Ingress": false,
        "IPAM": { "Driver": "default", "Config": [{ "Subnet": "10.16.0.0/12", "Gateway": "10.16.0.1" }] },
    })
}

fn id(number: u32) -> String {
    format!("service{number:018}")
}

fn address(number: u32, task: u32) -> String {
    let first = Ipv4Addr::new(10, 16, 1, 0).to_bits();
    format!("{}/12", Ipv4Addr::from_bits(first + number * (MOST_TASKS + 1) + task))
}

fn list(items: impl Iterator<Item = String>) -> Vec<u8> {
    let mut list = b"[".to_vec();
    for item in items {
        if list.len() > 1 {
            list.push(b',');
        }
        list.extend_from_slice(item.as_bytes());
    }
    list.extend_from_slice(b"]\n");
    list
}

fn template() -> Value {
    json!({
        "ContainerSpec": {
            "Image": format!("registry.example.org/shop/app:0.1#sha256:{}", "0".repeat(64)),
            "Init": false, "DNSConfig": {}, "Isolation": "default", "StopGracePeriod": 10_000_000_000_u64,
            "Env": ["LOG_LEVEL=info", "DATABASE_URL=postgres://database.internal/shop"],
        },
        "Resources": { "Limits": {}, "Reservations": {} },
        "Placement": { "Platforms": [{ "Architecture": "amd64", "OS": "linux" }] },
        "Networks": [{ "Target": NETWORK }],
        "ForceUpdate": 0,
        "Runtime": "container",
    })
}

/// A running task; what differs from one to the next is an `@` and a letter.
fn task() -> Value {
    json!({
        "ID": "@t", "Version": { "Index": 7 }, "CreatedAt": TIME, "UpdatedAt": TIME,
        "Labels": {}, "Spec": template(), "ServiceID": "@s", "Slot": 1, "NodeID": "@n",
        "Status": {
            "Timestamp": TIME, "State": "running", "Message": "started", "PortStatus": {},
            "ContainerStatus": { "ContainerID": "0".repeat(64), "PID": 4242, "ExitCode": 0 },
        },
        "DesiredState": "running",
        "NetworksAttachments": [{
            "Network": {
                "ID": NETWORK, "Version": { "Index": 9 }, "CreatedAt": TIME, "UpdatedAt": TIME,
                "Spec": {
                    "Name": "apps", "Labels": {}, "DriverConfiguration": { "Name": "overlay" },
                    "IPAMOptions": { "Driver": { "Name": "default" } }, "Scope": "swarm",
                },
                "DriverState": {
                    "Name": "overlay", "Options": { "com.docker.network.driver.overlay.vxlanid_list": "4097" },
                },
                "IPAM": { "Driver": { "Name": "default" }, "Configs": [{ "Subnet": "10.16.0.0/12", "Gateway": "10.16.0.1" }] },
            },
            "Addresses": ["@a"],
        }],
    })
}
