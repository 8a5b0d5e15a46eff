//! Labels of HRM, the router of UCP 2.2: `com.docker.ucp.mesh.http[.N]=key=value,key=value`. UCP 3 rewrote them
//! into Interlock's; here their translation is said, for the file.

use std::collections::BTreeSet;

use model::labels;

use super::finding::Finding;
use super::stack::Service;

/// The label, alone or with a dot and something behind it.
pub const LABEL: &str = "com.docker.ucp.mesh.http";

/// Whether a label is one of HRM's.
pub fn is_hrm(name: &str) -> bool {
    name.strip_prefix(LABEL).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What HRM's labels of a service ask for, in our words.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Labels and values.
    pub labels: Vec<(String, String)>,
    /// What has no translation, or not the same effect.
    pub remarks: Vec<String>,
}

/// Translates the labels of a service; `None` if it has none of HRM's.
pub fn translate(service: &Service) -> Option<(usize, Translation)> {
    let mut ours = service.labels.iter().filter(|(name, _)| is_hrm(name)).peekable();
    let line = ours.peek()?.1.line;
    let mut asked = Asked::default();
    for (_, label) in ours {
        asked.add(&label.value);
    }
    Some((line, asked.translated()))
}

#[derive(Default)]
struct Asked {
    hosts: Vec<String>,
    passed_through: Vec<String>,
    default_backend: bool,
    ports: BTreeSet<String>,
    cookies: BTreeSet<String>,
    redirects: Vec<String>,
    remarks: Vec<String>,
}

impl Asked {
    fn add(&mut self, value: &str) {
        let (mut hosts, mut redirect) = (Vec::new(), None);
        for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim() {
                "external_route" => match value.split_once("://") {
                    Some((_, "")) | None if value.is_empty() || value.ends_with("://") => self.default_backend = true,
                    Some(("sni", host)) => self.passed_through.push(host.to_owned()),
                    Some(("http", host)) => hosts.push(host.to_owned()),
                    Some(_) | None => {
                        self.remarks.push(format!("external_route={value} is neither http:// nor sni://"))
                    }
                },
                "internal_port" => drop(self.ports.insert(value.to_owned())),
                "sticky_sessions" => drop(self.cookies.insert(value.to_owned())),
                "redirect" => redirect = Some(value.to_owned()),
                "include_forwarded_for" => {
                    self.remarks
                        .push("include_forwarded_for needs no label: applications always get X-Forwarded-For".into());
                }
                other => self.remarks.push(format!("{other} is no word of HRM's")),
            }
        }
        if let Some(to) = redirect {
            self.redirects.extend(hosts.iter().map(|host| format!("http://{host},{to}")));
            self.remarks.push("redirects are answered with 302, where HRM answered 301".into());
        }
        self.hosts.extend(hosts);
    }

    fn translated(mut self) -> Translation {
        let mut labels = Vec::new();
        let mut label = |name: &str, value: String| labels.push((name.to_owned(), value));
        if !self.hosts.is_empty() && !self.passed_through.is_empty() {
            self.remarks.push(format!(
                "one service is either passed through or not: {} needs a service of its own",
                self.passed_through.join(" and ")
            ));
        }
        if !self.hosts.is_empty() {
            label(labels::HOSTS, self.hosts.join(","));
        } else if !self.passed_through.is_empty() {
            label(labels::HOSTS, self.passed_through.join(","));
            label(labels::SSL_PASSTHROUGH, "true".into());
        }
        if self.default_backend {
            label(labels::DEFAULT_BACKEND, "true".into());
        }
        match self.ports.len() {
            0 => self.remarks.push(format!("without internal_port, {} has to be filled in", labels::PORT)),
            1 => {}
            _ => self.remarks.push(format!(
                "a service has one port: {} need services of their own",
                self.ports.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join(" and ")
            )),
        }
        if let Some(port) = self.ports.pop_first() {
            label(labels::PORT, port);
        }
        if let Some(cookie) = self.cookies.pop_first() {
            label(labels::STICKY_SESSION_COOKIE, cookie);
        }
        if !self.redirects.is_empty() {
            label(labels::REDIRECTS, self.redirects.join(";"));
        }
        Translation { labels, remarks: self.remarks }
    }
}

/// The finding, with the translation as lines in the form of the file.
pub fn finding(service: &Service, line: usize, translation: &Translation) -> Finding {
    let mut message = "HRM's labels are not read; these say the same".to_owned();
    for remark in &translation.remarks {
        message.push_str("; ");
        message.push_str(remark);
    }
    let asks_already =
        service.labels.contains_key(labels::HOSTS) || service.labels.contains_key(labels::DEFAULT_BACKEND);
    let finding = match asks_already {
        true => Finding::note("hrm_labels", line, message),
        false => Finding::problem("hrm_labels", line, message),
    };
    let quoted = |value: &str| serde_json::Value::from(value).to_string();
    let paste = translation.labels.iter().map(|(name, value)| match service.listed {
        true => format!("- {}", quoted(&format!("{name}={value}"))),
        false => format!("{name}: {}", quoted(value)),
    });
    Finding { paste: paste.collect(), ..finding.of(&service.name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::stack::Label;

    fn translated(values: &[&str]) -> (Vec<String>, Vec<String>) {
        let labels = values.iter().enumerate().map(|(number, value)| {
            (format!("{LABEL}.{number}"), Label { line: number + 1, value: (*value).to_owned() })
        });
        let service = Service {
            name: "web".into(),
            line: 1,
            labels: labels.collect(),
            container_labels: Default::default(),
            listed: false,
            mode: swarm::Mode::Replicated(1),
            endpoint_mode: swarm::EndpointMode::Vip,
            host_ports: Default::default(),
            networks: Default::default(),
        };
        let (line, translation) = translate(&service).expect("there are labels");
        assert_eq!(line, 1);
        (finding(&service, line, &translation).paste, translation.remarks)
    }

    #[test]
    fn every_word_is_translated() {
        let (lines, remarks) =
            translated(&["external_route=http://app.example.org,internal_port=8080,sticky_sessions=session"]);
        assert_eq!(
            lines,
            [
                "com.docker.lb.hosts: \"app.example.org\"",
                "com.docker.lb.port: \"8080\"",
                "com.docker.lb.sticky_session_cookie: \"session\""
            ]
        );
        assert_eq!(remarks, [""; 0]);
        let (lines, _) = translated(&["external_route=sni://app.example.org,internal_port=8443"]);
        assert_eq!(lines[1], "com.docker.lb.ssl_passthrough: \"true\"");
        let (lines, _) = translated(&["external_route=http://,internal_port=80"]);
        assert_eq!(lines[0], "com.docker.lb.default_backend: \"true\"");
        let (lines, remarks) = translated(&[
            "external_route=http://new.local,internal_port=80",
            "external_route=http://old.local, internal_port=80, redirect=http://new.local, include_forwarded_for=true",
        ]);
        assert_eq!(
            lines,
            [
                "com.docker.lb.hosts: \"new.local,old.local\"",
                "com.docker.lb.port: \"80\"",
                "com.docker.lb.redirects: \"http://old.local,http://new.local\""
            ]
        );
        assert_eq!(remarks.len(), 2);
    }

    #[test]
    fn what_cannot_be_translated_is_said() {
        let (lines, remarks) = translated(&[
            "external_route=http://a.local,internal_port=80",
            "external_route=sni://b.local,internal_port=443,colour=blue",
        ]);
        assert_eq!(lines, ["com.docker.lb.hosts: \"a.local\"", "com.docker.lb.port: \"443\""]);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        let (_, remarks) = translated(&["external_route=ftp://a"]);
        assert_eq!(remarks.len(), 2, "{remarks:?}");
    }

    #[test]
    fn only_hrms_labels_count() {
        for (name, is) in [(LABEL, true), ("com.docker.ucp.mesh.http.1", true), ("com.docker.ucp.mesh.https", false)] {
            assert_eq!(is_hrm(name), is, "{name}");
        }
    }
}
