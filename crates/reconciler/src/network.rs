//! Which network a service is reached over. Never a guess: a label, the only one, or the one in use.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Code, Network, NetworkChoice, NetworkId, Problem, labels};

/// What the choice depends on.
pub(crate) struct Question<'a> {
    /// The networks that the service is on and a proxy can join, as the cluster knows them.
    pub networks: &'a BTreeSet<NetworkId>,
    /// Their names.
    pub known: &'a imbl::OrdMap<NetworkId, Arc<Network>>,
    /// The proxies' fixed list, by name or id.
    pub fixed: Option<&'a BTreeSet<String>>,
    /// The label.
    pub label: Option<&'a str>,
    /// The service's stack.
    pub stack: Option<&'a str>,
    /// The network that its live route uses.
    pub live: Option<&'a NetworkId>,
}

/// The network, and what is odd about it.
#[derive(Debug, PartialEq)]
pub(crate) struct Chosen {
    pub choice: NetworkChoice,
    pub warning: Option<Problem>,
}

pub(crate) fn choose(question: &Question<'_>) -> Result<Chosen, Problem> {
    let candidates = candidates(question);
    if candidates.is_empty() {
        return Err(none(question));
    }
    let chosen = |candidate, reason, warning| Ok(Chosen { choice: choice(candidate, reason), warning });
    if let Some(label) = question.label {
        let (named, how) = named(&candidates, label, question.stack);
        return match named.as_slice() {
            [] => Err(unknown(question, &candidates, label)),
            [one] => chosen(*one, how, None),
            _ => Err(Problem::new(Code::AmbiguousNetwork, "is the name of several networks of the service")
                .at(labels::NETWORK, label)
                .allowed(format!("the id of one of them: {}", ids(&named)))),
        };
    }
    if let [one] = candidates.as_slice() {
        return chosen(*one, "it is the only one", None);
    }
    if let Some(live) = live(&candidates, question) {
        let message = format!(
            "the service is on several networks and {} does not say which; the one in use, {}, is kept",
            labels::NETWORK,
            live.1
        );
        let warning = Problem::new(Code::NetworkKept, message).allowed(format!(
            "{}={}",
            labels::NETWORK,
            names(&candidates, " or ")
        ));
        return chosen(live, IN_USE, Some(warning));
    }
    let message = format!("the service is on several networks and {} does not say which", labels::NETWORK);
    Err(Problem::new(Code::AmbiguousNetwork, message).allowed(format!(
        "{}={}",
        labels::NETWORK,
        names(&candidates, " or ")
    )))
}

/// The network that the live route uses, if it is there for both; whatever a label says by now.
pub(crate) fn in_use(question: &Question<'_>) -> Option<NetworkChoice> {
    live(&candidates(question), question).map(|live| choice(live, IN_USE))
}

const IN_USE: &str = "it is in use already";

/// A network's id and name.
type Candidate<'a> = (&'a NetworkId, &'a str);

/// Those that the service is on and these proxies may join.
fn candidates<'a>(question: &Question<'a>) -> Vec<Candidate<'a>> {
    let known = question.known;
    let named =
        question.networks.iter().map(|id| (id, known.get(id).map_or(id.as_str(), |network| network.name.as_str())));
    let fixed = |(id, name): &Candidate<'_>| {
        question.fixed.is_none_or(|fixed| fixed.contains(*name) || fixed.contains(id.as_str()))
    };
    named.filter(fixed).collect()
}

fn live<'a>(candidates: &[Candidate<'a>], question: &Question<'_>) -> Option<Candidate<'a>> {
    candidates.iter().copied().find(|(id, _)| Some(*id) == question.live)
}

fn choice((id, name): Candidate<'_>, reason: &str) -> NetworkChoice {
    NetworkChoice { id: id.clone(), name: name.to_owned(), reason: reason.to_owned() }
}

/// The candidates that a label names, by the first form that fits any: the id, the name, the stack's bare name.
fn named<'a>(
    candidates: &[(&'a NetworkId, &'a str)],
    label: &str,
    stack: Option<&str>,
) -> (Vec<(&'a NetworkId, &'a str)>, &'static str) {
    let in_stack = stack.map(|stack| format!("{stack}_{label}"));
    let by_id: Vec<_> = candidates.iter().copied().filter(|(id, _)| id.as_str() == label).collect();
    if !by_id.is_empty() {
        return (by_id, "the label names it by id");
    }
    let by_name: Vec<_> = candidates.iter().copied().filter(|(_, name)| *name == label).collect();
    if !by_name.is_empty() {
        return (by_name, "the label names it");
    }
    let bare = candidates.iter().copied().filter(|(_, name)| Some(*name) == in_stack.as_deref()).collect();
    (bare, "the label names it within its stack")
}

fn none(question: &Question<'_>) -> Problem {
    let problem = match question.fixed {
        Some(fixed) if !question.networks.is_empty() => {
            let fixed: Vec<&str> = fixed.iter().map(String::as_str).collect();
            Problem::new(Code::NoNetwork, "the service is on none of the networks that these proxies join")
                .allowed(format!("attach it to {}", fixed.join(" or ")))
        }
        _ => Problem::new(Code::NoNetwork, "the service is on no network that a proxy can join")
            .allowed("attach it to an overlay network of the swarm, other than ingress"),
    };
    match question.label {
        Some(label) => problem.at(labels::NETWORK, label),
        None => problem,
    }
}

fn unknown(question: &Question<'_>, candidates: &[(&NetworkId, &str)], label: &str) -> Problem {
    let message = match question.fixed {
        Some(_) => "names no network that both the service and these proxies are on",
        None => "names no network that the service is on",
    };
    Problem::new(Code::UnknownNetwork, message).at(labels::NETWORK, label).allowed(names(candidates, " or "))
}

fn names(candidates: &[(&NetworkId, &str)], separator: &str) -> String {
    let mut names: Vec<&str> = candidates.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    names.join(separator)
}

fn ids(candidates: &[(&NetworkId, &str)]) -> String {
    candidates.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Networks are written `id:name`; the answer is `id, reason[, warning]` or the problem.
    fn check(on: &str, fixed: Option<&str>, label: Option<&str>, live: Option<&str>, expect: &str) {
        let pairs: Vec<(NetworkId, String)> = on
            .split_whitespace()
            .map(|pair| pair.split_once(':').expect("id:name"))
            .map(|(id, name)| (NetworkId::new(id), name.to_owned()))
            .collect();
        let known =
            pairs.iter().map(|(id, name)| (id.clone(), Arc::new(Network::new(id.clone(), name.as_str())))).collect();
        let networks = pairs.into_iter().map(|(id, _)| id).collect();
        let fixed = fixed.map(|fixed| fixed.split_whitespace().map(str::to_owned).collect());
        let live = live.map(NetworkId::new);
        let answer = choose(&Question {
            networks: &networks,
            known: &known,
            fixed: fixed.as_ref(),
            label,
            stack: Some("shop"),
            live: live.as_ref(),
        });
        let answer = match answer {
            Ok(Chosen { choice, warning: None }) => format!("{}, {}", choice.id, choice.reason),
            Ok(Chosen { choice, warning: Some(warning) }) => {
                format!("{}, {}, {}", choice.id, choice.reason, warning.code)
            }
            Err(problem) => format!("{}: {problem}", problem.code),
        };
        assert_eq!(answer, expect, "on {on}, fixed {fixed:?}, label {label:?}, live {live:?}");
    }

    #[test]
    fn the_network_is_chosen_by_label_or_because_it_is_the_only_one_or_in_use() {
        let two = "n1:shop_app n2:other";
        check("n1:app", None, None, None, "n1, it is the only one");
        check(two, None, Some("n2"), None, "n2, the label names it by id");
        check(two, None, Some("other"), None, "n2, the label names it");
        check(two, None, Some("shop_app"), None, "n1, the label names it");
        check(two, None, Some("app"), None, "n1, the label names it within its stack");
        check("n1:shop_app n2:app", None, Some("app"), None, "n2, the label names it");
        check(two, None, None, Some("n2"), "n2, it is in use already, network_kept");
        check(two, None, Some("app"), Some("n2"), "n1, the label names it within its stack");
        check("n1:shop_app", None, None, Some("n2"), "n1, it is the only one");
        check(two, Some("other"), None, None, "n2, it is the only one");
        check(two, Some("n1"), None, Some("n2"), "n1, it is the only one");
    }

    #[test]
    fn what_cannot_be_chosen_is_a_problem_that_lists_what_is_possible() {
        let two = "n1:shop_app n2:other";
        check(
            two,
            None,
            None,
            None,
            "ambiguous_network: the service is on several networks and com.docker.lb.network does not say which (allowed: com.docker.lb.network=other or shop_app)",
        );
        check(
            two,
            None,
            None,
            Some("n3"),
            "ambiguous_network: the service is on several networks and com.docker.lb.network does not say which (allowed: com.docker.lb.network=other or shop_app)",
        );
        check(
            two,
            None,
            Some("ap"),
            Some("n1"),
            "unknown_network: com.docker.lb.network=\"ap\": names no network that the service is on (allowed: other or shop_app)",
        );
        check(
            two,
            Some("other"),
            Some("app"),
            None,
            "unknown_network: com.docker.lb.network=\"app\": names no network that both the service and these proxies are on (allowed: other)",
        );
        check(
            "n1:x n2:x",
            None,
            Some("x"),
            None,
            "ambiguous_network: com.docker.lb.network=\"x\": is the name of several networks of the service (allowed: the id of one of them: n1, n2)",
        );
        check(
            "",
            None,
            None,
            None,
            "no_network: the service is on no network that a proxy can join (allowed: attach it to an overlay network of the swarm, other than ingress)",
        );
        check(
            "",
            None,
            Some("x"),
            None,
            "no_network: com.docker.lb.network=\"x\": the service is on no network that a proxy can join (allowed: attach it to an overlay network of the swarm, other than ingress)",
        );
        check(
            two,
            Some("east west"),
            None,
            None,
            "no_network: the service is on none of the networks that these proxies join (allowed: attach it to east or west)",
        );
    }
}
