//! Ten thousand services that an operator sees beside those of a real engine: they are put into the engine's lists on
//! their way through the recorder. A throwaway engine cannot run a hundred thousand containers; everything that the
//! operator makes of them (config objects, proxies, nginx) is real.
//!
//! Half of them are in VIP mode. Their JSON is as long as the Engine's own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;
use serde_json::{Value, json};

/// The host of a service.
pub fn host(number: u32) -> String {
    format!("{}.crowd.example.org", name(number))
}

fn name(number: u32) -> String {
    format!("crowd-{number:05}")
}

fn id(number: u32) -> String {
    format!("crowd{number:020}")
}

fn of_one_service(query: &str) -> bool {
    query.contains("%22service%22")
}

/// Such services, on one network.
#[derive(Clone, Debug)]
pub struct Crowd {
    network: String,
    first: u32,
    tasks: u32,
    /// Each service's part of both lists.
    entries: BTreeMap<String, (String, String)>,
    services: Bytes,
    all_tasks: Bytes,
}

impl Crowd {
    /// So many services of so many tasks each. Their addresses begin with `first`, on the network with this id.
    pub fn new(services: u32, tasks: u32, network: &str, first: Ipv4Addr) -> Self {
        let mut crowd = Self {
            network: network.to_owned(),
            first: first.to_bits(),
            tasks,
            entries: BTreeMap::new(),
            services: Bytes::new(),
            all_tasks: Bytes::new(),
        };
        for number in 0..services {
            crowd.entries.insert(id(number), crowd.entry(number, 1, tasks));
        }
        crowd.join();
        crowd
    }

    /// The same with another number of tasks of one service.
    pub fn scaled(&self, number: u32, tasks: u32) -> Self {
        let mut crowd = self.clone();
        crowd.entries.insert(id(number), crowd.entry(number, 2, tasks));
        crowd.join();
        crowd
    }

    /// What a list has more: its items, separated by commas. None of what it does not add to.
    pub fn of(&self, path: &str, query: &str) -> Option<Bytes> {
        match path {
            "/services" if query.contains("status") => Some(self.services.clone()),
            "/tasks" if !of_one_service(query) => Some(self.all_tasks.clone()),
            _ => None,
        }
    }

    /// The tasks of one of these services, as a list: the engine itself knows no such service, and says 404.
    pub fn tasks_of_one(&self, path: &str, query: &str) -> Option<Bytes> {
        if path != "/tasks" || !of_one_service(query) {
            return None;
        }
        let (_, entry) = self.entries.iter().find(|(id, _)| query.contains(id.as_str()))?;
        Some(Bytes::from(format!("[{}]", entry.1)))
    }

    fn join(&mut self) {
        let joined = |part: fn(&(String, String)) -> &String| {
            Bytes::from(self.entries.values().map(|entry| part(entry).as_str()).collect::<Vec<_>>().join(","))
        };
        (self.services, self.all_tasks) = (joined(|entry| &entry.0), joined(|entry| &entry.1));
    }

    fn address(&self, number: u32, task: u32) -> String {
        // Room for more tasks of each than it begins with.
        format!("{}/12", Ipv4Addr::from_bits(self.first + number * (self.tasks + 6) + task))
    }

    fn entry(&self, number: u32, version: u64, tasks: u32) -> (String, String) {
        let mode = if number.is_multiple_of(2) { "vip" } else { "task" };
        let (id, time) = (id(number), "2026-11-24T22:20:04.69742757Z");
        let template = json!({
            "ContainerSpec": {
                "Image": "registry.example.org/shop/demo-app:0.1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "Init": false, "DNSConfig": {}, "Isolation": "default", "StopGracePeriod": 10_000_000_000_u64,
                "Env": ["LOG_LEVEL=info", "DATABASE_URL=postgres://database.internal/shop"],
            },
            "Resources": { "Limits": {}, "Reservations": {} },
            "Placement": { "Platforms": [{ "Architecture": "amd64", "OS": "linux" }] },
            "Networks": [{ "Target": self.network }],
            "ForceUpdate": 0,
            "Runtime": "container",
        });
        let labels = json!({
            "com.docker.lb.hosts": host(number), "com.docker.lb.port": "8080", "com.docker.lb.backend_mode": mode,
        });
        let service = json!({
            "ID": id, "Version": { "Index": version }, "CreatedAt": time, "UpdatedAt": time,
            "Spec": {
                "Name": name(number), "Labels": labels, "TaskTemplate": template,
                "Mode": { "Replicated": { "Replicas": tasks } }, "EndpointSpec": { "Mode": "vip" },
            },
            "Endpoint": {
                "Spec": { "Mode": "vip" },
                "VirtualIPs": [{ "NetworkID": self.network, "Addr": self.address(number, 0) }],
            },
            "ServiceStatus": { "RunningTasks": tasks, "DesiredTasks": tasks, "CompletedTasks": 0 },
        });
        let task = |slot: u32| -> Value {
            json!({
                "ID": format!("task{number:012}{slot:09}"), "Version": { "Index": version }, "CreatedAt": time, "UpdatedAt": time,
                "Labels": {}, "Spec": template, "ServiceID": id, "Slot": slot, "NodeID": "crowdnode0000000000000000",
                "Status": {
                    "Timestamp": time, "State": "running", "Message": "started", "PortStatus": {},
                    "ContainerStatus": { "ContainerID": "0".repeat(64), "PID": 4242, "ExitCode": 0 },
                },
                "DesiredState": "running",
                "NetworksAttachments": [{
                    "Network": {
                        "ID": self.network, "Version": { "Index": 9 }, "CreatedAt": time, "UpdatedAt": time,
                        "Spec": {
                            "Name": "crowd", "Labels": {}, "DriverConfiguration": { "Name": "overlay" },
                            "IPAMOptions": { "Driver": { "Name": "default" } }, "Scope": "swarm",
                        },
                        "DriverState": {
                            "Name": "overlay", "Options": { "com.docker.network.driver.overlay.vxlanid_list": "4097" },
                        },
                    },
                    "Addresses": [self.address(number, slot)],
                }],
            })
        };
        let tasks = (1..=tasks).map(|slot| task(slot).to_string()).collect::<Vec<_>>().join(",");
        (service.to_string(), tasks)
    }
}
