//! The metrics page. Everything is counted where it happens, in the crates below; here it is only given names,
//! which are a contract with dashboards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actuator::status::{Outcome, Verdict};
use actuator::{Kind, Phase};
use model::{Code, Published};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::view::View;

/// Where the numbers come from.
pub struct Sources {
    /// The loops.
    pub view: Arc<View>,
    /// The VIP short-circuit.
    pub short_circuits: Arc<observer::ShortCircuits>,
    /// Compiles and renders.
    pub reconciler: Arc<reconciler::Counters>,
    /// Rollouts and writes, a cluster.
    pub actuators: BTreeMap<model::ClusterName, Arc<actuator::Counters>>,
    /// Calls to the Engine.
    pub traffic: Box<dyn Fn() -> engine::Traffic + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// A registry with everything in it.
pub fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sources));
    registry
}

/// One metric with its samples. A counter's name gets `_total` from the encoder.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Counter, samples: Vec::new() }
}

fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Gauge, samples: Vec::new() }
}

impl Family {
    fn sample<const N: usize>(mut self, labels: [(&'static str, &str); N], value: f64) -> Self {
        self.add(labels, value);
        self
    }

    fn add<const N: usize>(&mut self, labels: [(&'static str, &str); N], value: f64) {
        self.samples.push((labels.iter().map(|&(name, value)| (name, value.to_owned())).collect(), value));
    }
}

impl Sources {
    fn families(&self) -> Vec<Family> {
        let mut families = vec![
            gauge("dovetail_build_info", "Always 1; the version is in the label.")
                .sample([("version", env!("CARGO_PKG_VERSION"))], 1.0),
        ];
        self.add_short_circuits(&mut families);
        self.add_loops(&mut families);
        self.add_services(&mut families);
        self.add_networks(&mut families);
        self.add_rollouts(&mut families);
        self.add_engine(&mut families);
        families
    }

    fn add_short_circuits(&self, families: &mut Vec<Family>) {
        let mut family = counter(
            "dovetail_short_circuits",
            "Changes of services and networks by outcome: `spared` woke nobody, `routing` led to a new computation.",
        );
        for count in self.short_circuits.snapshot() {
            family.add([("outcome", count.kind), ("reason", count.reason)], count.count as f64);
        }
        families.push(family);
    }

    fn add_loops(&self, families: &mut Vec<Family>) {
        let mut passes = counter("dovetail_passes", "Passes of each loop that went well.");
        let mut failures = counter("dovetail_pass_failures", "Passes of each loop that failed.");
        let mut seconds = gauge("dovetail_pass_seconds", "How long the last good pass of each loop took.");
        for (name, status) in &self.view.loops {
            let status = status.borrow();
            passes.add([("loop", name)], status.passes as f64);
            failures.add([("loop", name)], status.failures as f64);
            seconds.add([("loop", name)], status.last_duration.as_secs_f64());
        }
        families.extend([passes, failures, seconds]);
        let ready = self.view.readiness().ready;
        families.push(gauge("dovetail_ready", "1 if /readyz says so.").sample([], f64::from(u8::from(ready))));
        if let Some(age) = self.view.age() {
            let gauge = gauge("dovetail_observation_age_seconds", "How old the knowledge of the cluster is.");
            families.push(gauge.sample([], age.as_secs_f64()));
        }
        let (compiles, compile_time) = self.reconciler.compiles();
        let (renders, render_time) = self.reconciler.renders();
        families.extend([
            counter("dovetail_compiles", "How often routing was computed.").sample([], compiles as f64),
            counter("dovetail_compile_seconds", "Time spent computing it.").sample([], compile_time.as_secs_f64()),
            counter("dovetail_renders", "How often files of proxies were rendered.").sample([], renders as f64),
            counter("dovetail_render_seconds", "Time spent rendering them.").sample([], render_time.as_secs_f64()),
            counter("dovetail_law_violations", "Specs that broke a law of ours; more than 0 is a bug in Dovetail.")
                .sample([], self.reconciler.violations() as f64),
        ]);
    }

    fn add_services(&self, families: &mut Vec<Family>) {
        let report = self.view.report();
        let mut states: BTreeMap<&str, u64> =
            ["routed", "waiting", "refused", "quarantined", "elsewhere"].into_iter().map(|state| (state, 0)).collect();
        for service in report.services.values() {
            *states.entry(service.verdict.as_str()).or_default() += 1;
        }
        let mut services = gauge("dovetail_services", "Services that ask to be routed, by what became of it.");
        for (state, count) in states {
            services.add([("state", state)], count as f64);
        }
        let mut problems = gauge("dovetail_service_problems", "Problems and warnings of services, by kind.");
        for code in Code::ALL {
            problems.add([("code", code.as_str())], self.reconciler.problems(*code) as f64);
        }
        families.extend([services, problems]);
    }

    fn add_networks(&self, families: &mut Vec<Family>) {
        let mut addresses = gauge(
            "dovetail_network_addresses",
            "Addresses of the networks of services that ask to be routed: `taken` at least, `free` at most.",
        );
        let mut nearly_full = gauge(
            "dovetail_network_nearly_full",
            "1 if nine of ten addresses are taken, or too few are free for a rollout.",
        );
        for network in self.view.addresses.borrow().values() {
            addresses.add([("network", &network.name), ("state", "taken")], network.taken as f64);
            addresses.add([("network", &network.name), ("state", "free")], network.free() as f64);
            nearly_full.add([("network", &network.name)], f64::from(u8::from(network.nearly_full)));
        }
        families.extend([addresses, nearly_full]);
    }

    fn add_rollouts(&self, families: &mut Vec<Family>) {
        let mut proxies =
            gauge("dovetail_proxies", "Proxies: `running`, and how many are `wanted`, as Swarm counts them.");
        for (cluster, count) in &*self.view.running_proxies.borrow() {
            proxies.add([("cluster", cluster.as_str()), ("state", "running")], count.running as f64);
            proxies.add([("cluster", cluster.as_str()), ("state", "wanted")], count.desired as f64);
        }
        let mut rollouts =
            counter("dovetail_rollouts", "Rollouts of proxies that ended, by outcome and by what they were for.");
        let mut seconds = gauge("dovetail_last_rollout_seconds", "How long the last rollout that went well took.");
        let mut checks = counter("dovetail_checks", "Checks of files before a rollout that ended, by outcome.");
        let mut check_seconds = gauge("dovetail_last_check_seconds", "How long the last check that passed took.");
        let mut service_writes = counter("dovetail_proxy_writes", "Writes to proxy services.");
        let mut config_writes = counter("dovetail_config_writes", "Config objects created or labelled.");
        let mut removals = counter("dovetail_config_removals", "Config objects removed.");
        let mut held = gauge("dovetail_held_generations", "Generations that failed and wait to be tried again.");
        for (cluster, counters) in &self.actuators {
            let cluster = cluster.as_str();
            for outcome in Outcome::ALL {
                for kind in Kind::ALL {
                    let labels = [("cluster", cluster), ("outcome", outcome.as_str()), ("kind", kind.as_str())];
                    rollouts.add(labels, counters.rollouts(outcome, kind) as f64);
                }
            }
            for verdict in Verdict::ALL {
                checks.add([("cluster", cluster), ("outcome", verdict.as_str())], counters.checks(verdict) as f64);
            }
            let milliseconds = counters.last_rollout_milliseconds.load(Ordering::Relaxed);
            seconds.add([("cluster", cluster)], milliseconds as f64 / 1000.0);
            let milliseconds = counters.last_check_milliseconds.load(Ordering::Relaxed);
            check_seconds.add([("cluster", cluster)], milliseconds as f64 / 1000.0);
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
            service_writes.add([("cluster", cluster)], read(&counters.service_writes));
            config_writes.add([("cluster", cluster)], read(&counters.config_writes));
            removals.add([("cluster", cluster)], read(&counters.removals));
        }
        for (cluster, published) in self.view.published() {
            if let Published::Live { holds, .. } = published {
                held.add([("cluster", cluster.as_str())], holds.len() as f64);
            }
        }
        let mut paused = gauge("dovetail_paused", "1 while a person's order keeps the operator from writing.");
        let mut fenced = gauge("dovetail_fenced", "1 while another operator, started later, writes.");
        let mut phases =
            gauge("dovetail_phase", "1 for the phase that the cluster is in, as dovetail status tells it.");
        for (cluster, status) in &self.view.rollouts {
            let phase = status.borrow().as_ref().map(|status| status.phase.as_str());
            let is = |word: &str| f64::from(u8::from(phase == Some(word)));
            paused.add([("cluster", cluster.as_str())], is("paused"));
            fenced.add([("cluster", cluster.as_str())], is("fenced"));
            for phase in Phase::ALL {
                phases.add([("cluster", cluster.as_str()), ("phase", phase)], is(phase));
            }
        }
        families.extend([
            proxies,
            rollouts,
            seconds,
            checks,
            check_seconds,
            service_writes,
            config_writes,
            removals,
            held,
            paused,
            fenced,
            phases,
        ]);
    }

    fn add_engine(&self, families: &mut Vec<Family>) {
        let traffic = (self.traffic)();
        let mut errors = counter("dovetail_engine_errors", "Failed calls to the Engine, by class.");
        for (class, count) in &traffic.errors {
            errors.add([("class", class.as_str())], *count as f64);
        }
        families.extend([
            counter("dovetail_engine_calls", "Calls to the Engine.").sample([], traffic.calls as f64),
            counter("dovetail_engine_connections", "Connections opened to the Engine.")
                .sample([], traffic.connections as f64),
            counter("dovetail_engine_bytes", "Bytes to and from the Engine.")
                .sample([("direction", "received")], traffic.bytes_received as f64)
                .sample([("direction", "sent")], traffic.bytes_sent as f64),
            errors,
        ]);
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.families() {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                // Without labels there are no braces either.
                if labels.is_empty() {
                    encode(&mut metric, family.kind, *value)?;
                } else {
                    encode(&mut metric.encode_family(&labels)?, family.kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => encoder.encode_gauge(&value),
    }
}
