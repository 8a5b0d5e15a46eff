//! What is wrong with one service, in a form that people, logs and metrics all use.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with one service: what, where, which value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The kind of problem; stable, used in metrics and programs.
    pub code: Code,
    /// The label at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its value as written, as far as it is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A sentence for people, without the label and its value.
    pub message: String,
    /// What would be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

impl Problem {
    /// A problem of the service as a whole.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, label: None, value: None, message: message.into(), allowed: None }
    }

    /// Names the label at fault and its value. Both may be a stranger's, and as long as they like: see [`excerpt`].
    pub fn at(mut self, label: &str, value: &str) -> Self {
        self.label = Some(excerpt(label));
        self.value = Some(excerpt(value));
        self
    }

    /// Names the label at fault, where its value says nothing.
    pub fn about(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Says what would be accepted.
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }
}

/// The beginning of a stranger's text, for a problem: those go into logs and reports, so that 200 characters must do.
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(200) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escapes keep line breaks and control characters of strangers out of logs and terminals.
        let label = self.label.as_deref().map(str::escape_debug);
        match (label, &self.value) {
            (Some(label), Some(value)) => write!(f, "{label}={value:?}: {}", self.message)?,
            (Some(label), None) => write!(f, "{label}: {}", self.message)?,
            _ => f.write_str(&self.message)?,
        }
        match &self.allowed {
            Some(allowed) => write!(f, " (allowed: {allowed})"),
            None => Ok(()),
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kinds of problems; the text form is a contract with dashboards and scripts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every kind there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The name of the kind in metrics, logs and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// `hosts` holds something that is no host name, or nothing at all.
    BadHost = "bad_host",
    /// `port` is not there.
    MissingPort = "missing_port",
    /// `port` is no port.
    BadPort = "bad_port",
    /// `backend_mode` is neither `task` nor `vip`.
    BadBackendMode = "bad_backend_mode",
    /// `default_backend` is neither `true` nor `false`.
    BadDefaultBackend = "bad_default_backend",
    /// Any other label whose value is not possible; [`Problem::label`] says which.
    BadOption = "bad_option",
    /// Labels that exclude each other, or one without another that it needs.
    InconsistentOptions = "inconsistent_options",
    /// A label that changes nothing beside the others: the service is published without it.
    NoEffect = "no_effect",
    /// A label with the routing prefix that nobody knows.
    UnknownLabel = "unknown_label",
    /// Routing labels are on the container, where nobody reads them.
    LabelsOnContainer = "labels_on_container",
    /// A job has no tasks that stay.
    JobService = "job_service",
    /// VIP mode for a service that has no VIP because of `endpoint_mode: dnsrr`.
    VipWithDnsrr = "vip_with_dnsrr",
    /// VIP mode, and Swarm shows no VIP on the chosen network.
    NoVip = "no_vip",
    /// No overlay network that a proxy could join.
    NoNetwork = "no_network",
    /// Several networks, and no label says which.
    AmbiguousNetwork = "ambiguous_network",
    /// `network` names a network that the service is not on.
    UnknownNetwork = "unknown_network",
    /// A second network appeared beside the one in use, and no label says which.
    NetworkKept = "network_kept",
    /// The network has too few addresses left for the proxies to join it.
    NetworkFull = "network_full",
    /// Something without which nothing can be said of it was never read; what is live of it stays.
    Unread = "unread",
    /// A sticky session in VIP mode, where it cannot work.
    StickyInVip = "sticky_in_vip",
    /// Its last change made a rollout fail; the last good is served, or nothing if there is none.
    Quarantined = "quarantined",
    /// The last list of its tasks failed; the tasks known before are served.
    StaleTasks = "stale_tasks",
    /// Tasks of it keep ending, and those in their places get no requests before they have run for longer.
    CrashLoop = "crash_loop",
    /// An older service on the same host says something else.
    Conflict = "conflict",
    /// A service of another stack has the same host.
    SharedHost = "shared_host",
    /// A rule of the cluster does not let it have a host.
    ClaimRefused = "claim_refused",
    /// A label that the cluster lets nobody use.
    LabelRefused = "label_refused",
    /// TLS is asked for, and the cluster's proxies publish no port for it.
    NoHttpsPort = "no_https_port",
    /// A label names a secret that does not exist.
    UnknownSecret = "unknown_secret",
    /// It does not fit into what the proxies' files or their manifest can hold, by itself or beside others.
    TooLarge = "too_large",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_place_value_and_what_is_allowed_on_one_line() {
        let problem =
            Problem::new(Code::BadPort, "is no port").at("com.docker.lb.port", "80\n80").allowed("1 to 65535");
        assert_eq!(problem.to_string(), r#"com.docker.lb.port="80\n80": is no port (allowed: 1 to 65535)"#);
        let strange = Problem::new(Code::UnknownLabel, "is unknown").at("com.docker.lb.\x1b[2J\n", "");
        assert_eq!(strange.to_string(), r#"com.docker.lb.\u{1b}[2J\n="": is unknown"#);
    }

    #[test]
    fn strangers_texts_are_cut_between_characters() {
        let (short, long) = ("é".repeat(200), "é".repeat(1_000_000));
        assert_eq!(excerpt(&short), short);
        assert_eq!(excerpt(&long), format!("{short}..."));
        let problem = Problem::new(Code::UnknownLabel, "is unknown").at(&long, &long);
        assert_eq!((problem.label, problem.value), (Some(excerpt(&long)), Some(excerpt(&long))));
    }
}
