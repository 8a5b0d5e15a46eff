//! Who may claim which host.
//!
//! A label is all it takes to answer a host, so on a cluster that several teams share the administrator can say whose a
//! host is. A service that claims a host against the rules is refused as a whole: half of it would be a riddle.
//!
//! What a rule goes by is as strong as who may set it. Anybody who can create a service can name any stack; UCP checks
//! that its access label is one that the user may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use model::values::ValueError;
use model::{Code, Contribution, Desired, Host, Problem, Service, ServiceId, excerpt, labels};

use crate::groups::Members;

/// Whose hosts are whose. Without rules everybody may claim every host, and is warned where another stack has it too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// A host that some rules are about may be claimed by whom one of them admits; any other host by everybody.
    pub rules: Vec<ClaimRule>,
}

/// Who may claim some hosts. Without stacks and access labels, nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRule {
    /// Which hosts.
    pub hosts: BTreeSet<HostPattern>,
    /// Services of these stacks may.
    pub stacks: BTreeSet<String>,
    /// And services whose `com.docker.ucp.access.label` is one of these or below one, such as `/prod` for `/prod/shop`.
    pub access_labels: BTreeSet<String>,
}

/// Hosts that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// `*`: every host, and being the default backend.
    Every,
    /// The host; with a star, every host below it. A service that claims a star claims every host below it, too: for
    /// `*.example.org` it has to be admitted by a rule about `shop.example.org`.
    Host(Host),
}

impl HostPattern {
    /// What is possible.
    pub const ALLOWED: &'static str =
        "a host such as shop.example.org, all below it as *.shop.example.org, or * for every host";

    fn is_about(&self, claimed: &Claimed<'_>) -> bool {
        match (self, claimed) {
            (Self::Every, _) => true,
            (Self::Host(_), Claimed::Default) => false,
            (Self::Host(mine), Claimed::Host(theirs)) => have_a_name_in_common(mine, theirs),
        }
    }
}

fn have_a_name_in_common(one: &Host, other: &Host) -> bool {
    // The dot stays, so that `*.a.local` is below `*.local` and `ba.local` is not below `*.a.local`.
    let suffix = |host: &Host| host.is_wildcard().then(|| host.as_str()[1..].to_owned());
    match (suffix(one), suffix(other)) {
        (None, None) => one == other,
        (Some(star), None) => other.as_str().ends_with(&star),
        (None, Some(star)) => one.as_str().ends_with(&star),
        (Some(one), Some(other)) => one.ends_with(&other) || other.ends_with(&one),
    }
}

impl FromStr for HostPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "*" => Ok(Self::Every),
            text => Host::parse(text).map(Self::Host).map_err(|_| ValueError::new(text, Self::ALLOWED)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Host(host) => host.fmt(f),
        }
    }
}

/// What a service can claim.
#[derive(Clone, Copy)]
enum Claimed<'a> {
    Host(&'a Host),
    /// Every host that nobody else has.
    Default,
}

fn claimed<'a>(hosts: &'a BTreeSet<Host>, default_backend: bool) -> impl Iterator<Item = Claimed<'a>> {
    hosts.iter().map(Claimed::Host).chain(default_backend.then_some(Claimed::Default))
}

impl fmt::Display for Claimed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Default => f.write_str("the default backend"),
        }
    }
}

impl ClaimRule {
    fn admits(&self, service: &Service) -> bool {
        let stack = service.stack.as_ref().is_some_and(|stack| self.stacks.contains(stack));
        let access = service.access_label.as_deref().is_some_and(|label| {
            self.access_labels.iter().any(|prefix| {
                let rest = label.strip_prefix(prefix.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        });
        stack || access
    }

    /// Whom it admits, for people.
    fn admitted(&self) -> String {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let stacks = (!self.stacks.is_empty()).then(|| format!("services of the stacks {}", list(&self.stacks)));
        let access = (!self.access_labels.is_empty())
            .then(|| format!("services with {} at or below {}", labels::UCP_ACCESS, list(&self.access_labels)));
        let admitted = [stacks, access].into_iter().flatten().collect::<Vec<_>>().join(", and ");
        if admitted.is_empty() { "nobody".to_owned() } else { admitted }
    }
}

impl Claims {
    fn about(&self, claimed: Claimed<'_>) -> impl Iterator<Item = &ClaimRule> {
        self.rules.iter().filter(move |rule| rule.hosts.iter().any(|pattern| pattern.is_about(&claimed)))
    }

    /// Why the service may not claim what it claims: the first host that is not its own.
    pub(crate) fn refuse(&self, service: &Service, hosts: &BTreeSet<Host>, default_backend: bool) -> Option<Problem> {
        claimed(hosts, default_backend).find_map(|claimed| {
            let mut rules = self.about(claimed);
            let first = rules.next()?;
            if first.admits(service) || rules.any(|rule| rule.admits(service)) {
                return None;
            }
            let patterns: Vec<String> = first.hosts.iter().map(HostPattern::to_string).collect();
            let label = match claimed {
                Claimed::Host(_) => labels::HOSTS,
                Claimed::Default => labels::DEFAULT_BACKEND,
            };
            let short = |text: &Option<String>| text.as_deref().map(excerpt);
            let who = match (short(&service.stack), short(&service.access_label)) {
                (Some(stack), Some(label)) => format!("the stack {stack:?} with the access label {label:?}"),
                (Some(stack), None) => format!("the stack {stack:?}"),
                (None, Some(label)) => format!("the access label {label:?}"),
                (None, None) => "a service without a stack".to_owned(),
            };
            let rule = patterns.join(", ");
            let message = format!("the rule of the cluster for {rule} does not let {who} claim {claimed}");
            Some(Problem::new(Code::ClaimRefused, message).about(label).allowed(first.admitted()))
        })
    }

    /// What members of a claim, the oldest first, are warned of where another stack has it too, which may not know of it.
    /// Where a rule lets them, the administrator does.
    pub(crate) fn shared(
        &self,
        host: Option<&Host>,
        members: &Members<'_>,
        desired: &Desired,
    ) -> BTreeMap<ServiceId, String> {
        let stack = |id: &ServiceId| desired.services.get(id).and_then(|service| service.stack.as_deref());
        let claimed = host.map_or(Claimed::Default, Claimed::Host);
        let Some(oldest) = members.first() else { return BTreeMap::new() };
        let other = members.iter().find(|(id, _)| stack(id) != stack(oldest.0));
        let Some(other) = other.filter(|_| self.about(claimed).next().is_none()) else { return BTreeMap::new() };
        let told = |(id, _): &(&ServiceId, &Contribution)| {
            let (with, from) = if stack(id) == stack(oldest.0) { other } else { oldest };
            let of =
                stack(with).map_or_else(|| "no stack".to_owned(), |stack| format!("the stack {:?}", excerpt(stack)));
            ((*id).clone(), format!("{claimed} is also claimed by the service {} of {of}", from.name))
        };
        members.iter().map(told).collect()
    }
}

/// The warning for a service that shares this with another stack, and so many claims more.
pub(crate) fn shared_host(message: &str, more: usize) -> Problem {
    let more = if more > 0 { format!(" (and {more} more like it)") } else { String::new() };
    Problem::new(Code::SharedHost, format!("{message}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::vip_service;

    fn rule(hosts: &str, stacks: &str, access_labels: &str) -> ClaimRule {
        let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        ClaimRule {
            hosts: hosts.split(' ').map(|host| host.parse().unwrap()).collect(),
            stacks: words(stacks),
            access_labels: words(access_labels),
        }
    }

    fn service(stack: Option<&str>, access_label: Option<&str>) -> Service {
        let mut service = vip_service("web", "x.local", "n1", "10.0.0.9");
        service.stack = stack.map(str::to_owned);
        service.access_label = access_label.map(str::to_owned);
        service
    }

    fn hosts(hosts: &str) -> BTreeSet<Host> {
        hosts.split(' ').filter(|host| !host.is_empty()).map(|host| Host::parse(host).unwrap()).collect()
    }

    #[test]
    fn a_pattern_is_about_hosts_that_it_has_a_name_in_common_with() {
        for (pattern, about, not_about) in [
            (
                "shop.example.org",
                "shop.example.org *.example.org *.org",
                "example.org a.shop.example.org *.shop.example.org",
            ),
            (
                "*.example.org",
                "a.example.org a.b.example.org *.example.org *.a.example.org *.org",
                "example.org badexample.org *.badexample.org example.com",
            ),
            ("*", "a *.b.local", ""),
        ] {
            let pattern: HostPattern = pattern.parse().unwrap();
            for (list, expected) in [(about, true), (not_about, false)] {
                for host in &hosts(list) {
                    assert_eq!(pattern.is_about(&Claimed::Host(host)), expected, "{pattern}, {host}");
                }
            }
            assert_eq!(pattern.is_about(&Claimed::Default), pattern == HostPattern::Every);
        }
        let error = "*.*.local".parse::<HostPattern>().unwrap_err().to_string();
        assert_eq!(error, format!("\"*.*.local\" is not possible: {}", HostPattern::ALLOWED));
    }

    #[test]
    fn a_host_with_rules_is_for_whom_one_of_them_admits_and_any_other_for_everybody() {
        let claims = Claims {
            rules: vec![
                rule("shop.local *.shop.local", "shop", "/prod/shop/"),
                rule("*.local", "platform", ""),
                rule("nobody.example", "", ""),
            ],
        };
        let (shop, other) = (service(Some("shop"), None), service(Some("other"), None));
        let (platform, alone) = (service(Some("platform"), None), service(None, None));
        let labelled = |label: &str| service(None, Some(label));
        for (who, service, claimed, refused) in [
            ("its own", &shop, "shop.local a.shop.local", false),
            ("a stranger", &other, "shop.local", true),
            ("a stranger, among others", &other, "free.example shop.local", true),
            ("a stranger, elsewhere", &other, "free.example", false),
            ("no stack", &alone, "shop.local", true),
            ("no stack, elsewhere", &alone, "free.example", false),
            ("the other rule", &platform, "shop.local", false),
            ("only the other rule", &shop, "blog.local", true),
            ("a star above", &other, "*.local", true),
            ("its own star", &platform, "*.local", false),
            ("nobody", &shop, "nobody.example", true),
            ("label", &labelled("/prod/shop"), "shop.local", false),
            ("below the label", &labelled("/prod/shop/web"), "shop.local", false),
            ("another label", &labelled("/prod/shopping"), "shop.local", true),
            ("above the label", &labelled("/prod"), "shop.local", true),
        ] {
            assert_eq!(claims.refuse(service, &hosts(claimed), false).is_some(), refused, "{who}");
        }
        assert_eq!(claims.refuse(&other, &hosts(""), true), None, "no rule is about the default backend");
        let every = Claims { rules: vec![rule("*", "shop", "")] };
        assert!(every.refuse(&other, &hosts(""), true).is_some());
        assert!(every.refuse(&other, &hosts("free.example"), false).is_some());
        assert_eq!(every.refuse(&shop, &hosts("free.example"), true), None);
        assert_eq!(Claims::default().refuse(&other, &hosts("shop.local"), true), None);
    }

    #[test]
    fn a_refusal_names_the_rule_the_host_and_whom_it_admits() {
        let claims = Claims { rules: vec![rule("shop.local *.shop.local", "shop web", "/prod/shop")] };
        let refused = |service| claims.refuse(&service, &hosts("a.local shop.local"), false).unwrap().to_string();
        assert_eq!(
            refused(service(Some("b\nlog"), Some("/dev"))),
            "com.docker.lb.hosts: the rule of the cluster for *.shop.local, shop.local does not let the stack \"b\\nlog\" \
             with the access label \"/dev\" claim shop.local (allowed: services of the stacks shop, web, and services with \
             com.docker.ucp.access.label at or below /prod/shop)"
        );
        assert_eq!(
            Claims { rules: vec![rule("*", "", "")] }
                .refuse(&service(None, None), &hosts(""), true)
                .unwrap()
                .to_string(),
            "com.docker.lb.default_backend: the rule of the cluster for * does not let a service without a stack claim the \
             default backend (allowed: nobody)"
        );
    }
}
