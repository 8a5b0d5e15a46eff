//! One extension becomes one cluster of proxies: what depends on more than one option.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::Draft;
use super::remark::Outcome;
use super::rules::{EXTENSION, NGINX};
use super::source::{Item, Section};
use super::values::{self, Reading};
use crate::config::{ConfigError, NginxVersion, Scalar, Span, Update};

/// Names of clusters that are taken.
#[derive(Default)]
pub struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// A name for a cluster, as near to that of the extension as our rule lets it be.
    fn choose(&mut self, extension: &str) -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = extension.chars().map(fits).collect();
        let name = name.trim_matches('-');
        let name = if name.is_empty() { "cluster" } else { name };
        let cut = |length: usize| name[..name.len().min(length)].trim_end_matches('-');
        let mut chosen = cut(16).to_owned();
        let mut number = 2;
        while !self.taken.insert(chosen.clone()) {
            let ending = format!("-{number}");
            chosen = format!("{}{ending}", cut(16 - ending.len()));
            number += 1;
        }
        chosen
    }
}

impl Draft {
    /// Takes one extension over.
    pub(super) fn extension(
        &mut self,
        extensions: &Section<'_>,
        item: &Item<'_>,
        names: &mut Names,
    ) -> Result<(), ConfigError> {
        let section = extensions.table(item)?;
        let name = names.choose(item.key);
        let below = ["clusters", name.as_str()];
        if name != item.key {
            let outcome = Outcome::Changed {
                key: below.join("."),
                becomes: name.clone(),
                reason: "the name of a cluster has 1 to 16 lower-case letters, digits and hyphens".into(),
            };
            self.remark(extensions, item, outcome);
        }
        self.came_from(&below, extensions, item);
        self.follow(&section, EXTENSION, &below)?;
        self.replicas(&section, &name);
        self.patience(&section, &name);
        if let Some(nginx) = section.below("Config")? {
            self.follow(&nginx, NGINX, &below)?;
            self.global_options(&nginx, &name)?;
        }
        self.grace(&section, &name)?;
        self.image(&section, &name)?;
        self.proxy_name(&section, &name)
    }

    /// The proxy service gets a name of its own: Interlock's bears the old one until the cut-over, and Dovetail
    /// does not touch a service that is not its own.
    fn proxy_name(&mut self, section: &Section<'_>, cluster: &str) -> Result<(), ConfigError> {
        let path = ["clusters", cluster, "proxy", "name"];
        let Some(item) = section.get("ProxyServiceName") else {
            self.yaml.set(&path, json!(format!("dovetail-proxy-{cluster}")), None);
            self.yaml.lead(&path);
            return Ok(());
        };
        let was = values::string(item).map_err(|error| section.refuse(item, &error))?;
        let kind = was.trim_start_matches("ucp-").trim_start_matches("interlock-");
        let becomes = if kind.is_empty() { format!("dovetail-proxy-{cluster}") } else { format!("dovetail-{kind}") };
        let reason = "Interlock's service bears that name until it is removed; scripts find both by the label \
                      type=com.docker.interlock.core.proxy";
        self.take(section, item, &path, Reading::Changed(json!(becomes), reason.into()));
        self.yaml.lead(&path);
        Ok(())
    }

    /// An image is kept if its name says that it is an nginx of a version that we know.
    fn image(&mut self, section: &Section<'_>, cluster: &str) -> Result<(), ConfigError> {
        let Some(item) = section.get("ProxyImage") else { return Ok(()) };
        let image = values::string(item).map_err(|error| section.refuse(item, &error))?;
        match version_of(image) {
            Some(version) => {
                let kept = [(["proxy", "image"], image.to_owned()), (["nginx", "version"], version.to_string())];
                for (key, value) in kept {
                    let path = [&["clusters", cluster][..], &key].concat();
                    self.take(section, item, &path, Reading::Taken(json!(value)));
                    self.yaml.lead(&path);
                }
            }
            None => {
                let default = crate::config::Proxy::default().image;
                let reason = format!(
                    "proxies are plain nginx of version 1.22 to 1.30, and its name does not say that it is one: the default is {default}"
                );
                self.remark(section, item, Outcome::Dropped { reason });
            }
        }
        Ok(())
    }

    /// In host mode the nodes decide how many proxies there are.
    fn replicas(&mut self, section: &Section<'_>, cluster: &str) {
        let proxy = ["clusters", cluster, "proxy"];
        let host = self.yaml.get(&[&proxy[..], &["publish_mode"]].concat()).is_some_and(|mode| mode == "host");
        let Some(item) = section.get("ProxyReplicas").filter(|_| host) else { return };
        self.yaml.remove(&[&proxy[..], &["replicas"]].concat());
        self.remarks.retain(|remark| remark.option != section.path(item.key));
        let reason = "with publish_mode host one proxy runs on each node that proxy.constraints choose".into();
        self.remark(section, item, Outcome::Dropped { reason });
    }

    /// How long a stopping proxy may finish open requests. With hitless updates Interlock's proxies stopped seldom, while
    /// Dovetail's are replaced at every change of routes: UCP's 5 s would then cut what they did not cut before.
    fn grace(&mut self, section: &Section<'_>, cluster: &str) -> Result<(), ConfigError> {
        let proxy = ["clusters", cluster, "proxy", "stop_grace_period"];
        let Some(item) = section.get("ProxyStopGracePeriod") else { return Ok(()) };
        let Some(grace) = self.span(&proxy) else { return Ok(()) };
        let default = crate::config::Proxy::default().stop_grace_period;
        if grace >= default.0 {
            return Ok(());
        }
        let hitless = match section.get("HitlessServiceUpdate") {
            Some(item) => values::boolean(item).map_err(|error| section.refuse(item, &error))?,
            None => false,
        };
        if hitless {
            self.yaml.remove(&proxy);
            self.remarks.retain(|remark| remark.option != section.path(item.key));
            let reason = format!(
                "with HitlessServiceUpdate a change of routes was a reload of nginx, and the period counted only when networks or secrets changed; Dovetail's proxies are replaced at every change of routes, and requests that are longer would be cut: the default is {default}"
            );
            self.remark(section, item, Outcome::Dropped { reason });
            return Ok(());
        }
        let reason =
            format!("requests longer than this are cut at every change of routes; Dovetail's default is {default}");
        self.take(section, item, &proxy, Reading::Doubtful(json!(Span(grace).to_string()), reason));
        self.shutdown(section, item, cluster, grace);
        Ok(())
    }

    /// nginx has to be done before Docker kills it.
    fn shutdown(&mut self, section: &Section<'_>, item: &Item<'_>, cluster: &str, grace: Duration) {
        if grace > crate::config::Nginx::default().worker_shutdown_timeout.0 {
            return;
        }
        let nginx = ["clusters", cluster, "nginx", "worker_shutdown_timeout"];
        let shorter = Duration::from_millis(u64::try_from(grace.as_millis() * 4 / 5).unwrap_or(u64::MAX).max(1));
        let reason = format!("it has to be below proxy.stop_grace_period ({})", Span(grace));
        self.yaml.set(&nginx, json!(Span(shorter).to_string()), Some(format!("Shorter than the default: {reason}.")));
        self.came_from(&nginx, section, item);
        let outcome = Outcome::Changed { key: nginx.join("."), becomes: Span(shorter).to_string(), reason };
        self.remark(section, item, outcome);
    }

    /// A rollout may take longer than its longest step.
    fn patience(&mut self, section: &Section<'_>, cluster: &str) {
        let update = ["clusters", cluster, "proxy", "update"];
        let Some(item) = section.get("ProxyUpdateDelay") else { return };
        let Some(delay) = self.span(&[&update[..], &["delay"]].concat()) else { return };
        let default = Update::default();
        let needed = delay + default.monitor.0;
        if needed < default.deadline.0 {
            return;
        }
        let deadline = Span(needed + default.deadline.0);
        let path = [&update[..], &["deadline"]].concat();
        let reason = format!("it has to be above the delay ({})", Span(delay));
        self.yaml.set(&path, json!(deadline.to_string()), Some(format!("Longer than the default: {reason}.")));
        self.came_from(&path, section, item);
        let outcome = Outcome::Changed { key: path.join("."), becomes: deadline.to_string(), reason };
        self.remark(section, item, outcome);
    }

    /// nginx wants modules loaded before anything else, and `extra.main` is at the end of the file.
    fn global_options(&mut self, nginx: &Section<'_>, cluster: &str) -> Result<(), ConfigError> {
        let Some(item) = nginx.get("GlobalOptions") else { return Ok(()) };
        let (modules, lines) = values::modules_and_lines(item).map_err(|error| nginx.refuse(item, &error))?;
        if modules.is_none() && lines.is_none() {
            self.remark(nginx, item, Outcome::Dropped { reason: values::EMPTY.into() });
        }
        let below = ["clusters", cluster, "nginx"];
        for (key, reading) in [(&["dynamic_modules"][..], modules), (&["extra", "main"], lines)] {
            if let Some(reading) = reading {
                self.take(nginx, item, &[&below[..], key].concat(), reading);
            }
        }
        Ok(())
    }

    fn span(&self, path: &[&str]) -> Option<Duration> {
        Some(Span::read(self.yaml.get(path)?.as_str()?).ok()?.0)
    }
}

/// The version in a name such as `registry.example.org/team/nginx:1.26.2-alpine`.
fn version_of(image: &str) -> Option<NginxVersion> {
    let last = image.rsplit('/').next()?;
    let last = last.split('@').next()?;
    let (name, tag) = last.split_once(':')?;
    if !name.to_ascii_lowercase().contains("nginx") {
        return None;
    }
    NginxVersion::read(tag.split('-').next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_different() {
        let mut names = Names::default();
        for (extension, name) in [
            ("default", "default"),
            ("us-east", "us-east"),
            ("US_East", "us-east-2"),
            ("us east", "us-east-3"),
            ("_", "cluster"),
            ("ä", "cluster-2"),
            ("a-very-long-name-of-an-extension", "a-very-long-name"),
            ("a-very-long-name-of-another", "a-very-long-na-2"),
            ("0123456789abcde-f", "0123456789abcde"),
        ] {
            let chosen = names.choose(extension);
            assert_eq!(chosen, name, "{extension:?}");
            assert!(model::ClusterName::parse(&chosen).is_ok(), "{chosen}");
        }
    }

    #[test]
    fn versions_are_read_from_names() {
        for (image, version) in [
            ("nginx:1.26", Some(NginxVersion(1, 26, 0))),
            ("nginx:1.22.1-alpine", Some(NginxVersion(1, 22, 1))),
            ("registry.example.org:5000/team/nginx:1.28.0@sha256:00", Some(NginxVersion(1, 28, 0))),
            ("nginx:alpine", None),
            ("nginx", None),
            ("nginx:1.13.6", None),
            ("registry.example.org:1.26/haproxy", None),
            ("docker/ucp-interlock-proxy:3.2.3", None),
        ] {
            assert_eq!(version_of(image), version, "{image}");
        }
    }
}
