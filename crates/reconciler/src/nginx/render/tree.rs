//! The files read back: what nginx will do with them is what the spec says.

use std::collections::{BTreeMap, BTreeSet};

use model::values::Scheme;
use model::{Group, Options, ProxySpec, SECRETS_DIRECTORY, Tls};
use proptest::prelude::*;

use super::tests::{any_service, spec};
use super::{MAIN_FILE, Settings, render};
use crate::sample::{HOSTS, any_options};

// === nginx's grammar: words, quotes, comments, blocks ===

/// A directive: its words, and its block if it has one.
#[derive(Debug)]
struct Directive {
    words: Vec<String>,
    block: Option<Vec<Directive>>,
}

impl Directive {
    fn name(&self) -> &str {
        &self.words[0]
    }

    fn block(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The word behind the name, of the only directive of this name in the block.
    fn value(&self, name: &str) -> Option<&str> {
        let mut found = self.block().iter().filter(|directive| directive.name() == name);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} is there twice: {self:?}");
        Some(&first.words[1])
    }
}

fn parse(text: &str) -> Vec<Directive> {
    let mut rest = text.chars().peekable();
    let directives = parse_block(&mut rest);
    assert_eq!(rest.next(), None, "a block ends that did not begin");
    directives
}

fn parse_block(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    while let Some(&next) = rest.peek() {
        match next {
            '}' => break,
            _ if next.is_ascii_whitespace() => drop(rest.next()),
            '#' => drop(rest.find(|c| *c == '\n')),
            ';' => {
                rest.next();
                directives.push(Directive { words: std::mem::take(&mut words), block: None });
            }
            '{' => {
                rest.next();
                let block = parse_block(rest);
                assert_eq!(rest.next(), Some('}'), "a block does not end: {words:?}");
                directives.push(Directive { words: std::mem::take(&mut words), block: Some(block) });
            }
            '"' | '\'' => {
                rest.next();
                words.push(quoted(rest, next));
            }
            _ => {
                let mut word = String::new();
                while let Some(c) = rest.next_if(|c| !c.is_ascii_whitespace() && !matches!(c, ';' | '{' | '}')) {
                    word.push(c);
                    if c == '\\' {
                        word.extend(rest.next());
                    }
                }
                words.push(word);
            }
        }
    }
    assert!(words.is_empty(), "a directive does not end: {words:?}");
    assert!(directives.iter().all(|directive| !directive.words.is_empty()), "a directive has no name");
    directives
}

fn quoted(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char) -> String {
    let mut word = String::new();
    loop {
        match rest.next().expect("a quoted word ends") {
            '\\' => word.extend(rest.next()),
            c if c == quote => return word,
            c => word.push(c),
        }
    }
}

// === What the files serve ===

/// What is done with a request.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    /// It goes to one of these.
    Servers(Scheme, BTreeSet<String>),
    /// nginx answers itself.
    Status(u16),
}

/// A server of `http`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Server {
    certificate: Option<String>,
    client_ca: Option<String>,
    /// By the words of `location`.
    locations: BTreeMap<String, Answer>,
}

/// Everything that is served, by host; `_` is any other.
#[derive(Debug, Default, PartialEq)]
struct Served {
    plain: BTreeMap<String, Server>,
    over_tls: BTreeMap<String, Server>,
    /// Who gets the bytes of TLS connections; nobody: they end here.
    passed_through: BTreeMap<String, Option<BTreeSet<String>>>,
}

/// Reads the routes' files.
fn read(files: &BTreeMap<String, String>, settings: &Settings) -> Served {
    let of = |kind: &str| {
        let texts = files.iter().filter(|(path, _)| path.rsplit('/').next().is_some_and(|name| name.starts_with(kind)));
        texts.flat_map(|(_, text)| parse(text)).collect::<Vec<Directive>>()
    };
    let (routes, streams, names) = (of("routes"), of("streams"), of("passthrough"));
    let mut served = Served::default();
    let upstreams = upstreams(&routes);
    for server in routes.iter().filter(|directive| directive.name() == "server") {
        let listeners = server.block().iter().filter(|directive| directive.name() == "listen");
        let hosts = server.block().iter().filter(|directive| directive.name() == "server_name");
        let hosts: Vec<String> = hosts.map(|name| name.words[1].clone()).collect();
        for listener in listeners {
            let default = listener.words.iter().any(|word| word == "default_server");
            assert_eq!(default, hosts.is_empty(), "the default server is the one without a name: {listener:?}");
            let plain = listener.words[1] == settings.http_port.to_string();
            let servers = if plain { &mut served.plain } else { &mut served.over_tls };
            assert_eq!(listener.words.iter().any(|word| word == "ssl"), !plain, "{listener:?}");
            let names = if default { vec!["_".to_owned()] } else { hosts.clone() };
            for name in names {
                let new = read_server(server, plain, &upstreams);
                assert_eq!(servers.insert(name.clone(), new), None, "{name} has one server on each listener");
            }
        }
    }
    let upstreams = self::upstreams(&streams);
    let default = parse(&files[MAIN_FILE]);
    let default = default.iter().find(|directive| directive.name() == "stream").and_then(|stream| {
        let map = stream.block().iter().find(|directive| directive.name() == "map").expect("a map of names");
        map.value("default").map(|upstream| Directive { words: vec!["_".into(), upstream.into()], block: None })
    });
    for entry in names.iter().chain(&default) {
        let to = (!entry.words[1].is_empty()).then(|| upstreams[&entry.words[1]].clone());
        let name = entry.name().trim_start_matches('\\').to_owned();
        assert_eq!(served.passed_through.insert(name.clone(), to), None, "{name} is passed on once");
    }
    served
}

fn upstreams(directives: &[Directive]) -> BTreeMap<String, BTreeSet<String>> {
    let mut upstreams = BTreeMap::new();
    for upstream in directives.iter().filter(|directive| directive.name() == "upstream") {
        let servers = upstream.block().iter().filter(|directive| directive.name() == "server");
        let servers: BTreeSet<String> = servers.map(|server| server.words[1].clone()).collect();
        assert_eq!(upstreams.insert(upstream.words[1].clone(), servers), None, "{} is there once", upstream.words[1]);
    }
    upstreams
}

fn read_server(server: &Directive, plain: bool, upstreams: &BTreeMap<String, BTreeSet<String>>) -> Server {
    let secret = |name: &str| server.value(name).map(|path| path.replacen(SECRETS_DIRECTORY, "", 1));
    let locations = server.block().iter().filter(|directive| directive.name() == "location").map(|location| {
        let answer = match (location.value("return"), location.value("proxy_pass")) {
            (Some(status), None) => Answer::Status(status.parse().expect("a status")),
            (None, Some(to)) => {
                let (scheme, to) = to.split_once("://").expect("a scheme");
                let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
                Answer::Servers(scheme, upstreams[to.trim_end_matches('/')].clone())
            }
            other => panic!("one of them answers, not {other:?}"),
        };
        (location.words[1..].join(" "), answer)
    });
    let mut read = Server::default();
    for (words, answer) in locations {
        assert_eq!(read.locations.insert(words.clone(), answer), None, "{words} is there once");
    }
    // The server of both listeners names its certificate, and plain HTTP shows none.
    if !plain {
        (read.certificate, read.client_ca) = (secret("ssl_certificate"), secret("ssl_client_certificate"));
    }
    read
}

// === What the spec predicts ===

fn predict(spec: &ProxySpec, settings: &Settings) -> Served {
    let mut served = Served::default();
    let passed = spec.hosts.values().chain(&spec.default_backend).any(|group| !group.passthrough.is_empty());
    for (host, group) in &spec.hosts {
        let host = host.as_str().to_owned();
        let (plain, over_tls) = predict_servers(group, spec, settings);
        served.plain.extend(plain.map(|server| (host.clone(), server)));
        served.over_tls.extend(over_tls.map(|server| (host.clone(), server)));
        if passed && let Some(tls) = &group.tls {
            let to = matches!(tls, Tls::Passthrough).then(|| addresses(&group.passthrough, spec));
            served.passed_through.insert(host, to);
        }
    }
    let (plain, over_tls) =
        spec.default_backend.as_ref().map_or((None, None), |group| predict_servers(group, spec, settings));
    let nobody = |status, health: bool| {
        let health = health.then(|| (format!("= {}", settings.health_path.as_str()), Answer::Status(200)));
        let locations = health.into_iter().chain([("/".to_owned(), Answer::Status(status))]).collect();
        Server { locations, ..Server::default() }
    };
    served.plain.insert("_".into(), plain.unwrap_or_else(|| nobody(settings.default_status, true)));
    served.over_tls.insert("_".into(), over_tls.unwrap_or_else(|| nobody(421, false)));
    if let Some(group) = spec.default_backend.as_ref().filter(|group| !group.passthrough.is_empty()) {
        served.passed_through.insert("_".into(), Some(addresses(&group.passthrough, spec)));
    }
    served
}

fn addresses(services: &[model::ServiceId], spec: &ProxySpec) -> BTreeSet<String> {
    services.iter().flat_map(|id| &*spec.endpoints[id]).map(ToString::to_string).collect()
}

/// What a group's hosts answer over plain HTTP and over TLS that ends here.
fn predict_servers(group: &Group, spec: &ProxySpec, settings: &Settings) -> (Option<Server>, Option<Server>) {
    let terminated = match &group.tls {
        Some(Tls::Terminate { certificate, client_ca, .. }) => Some((certificate, client_ca)),
        Some(Tls::Passthrough) | None => None,
    };
    let only_tls = group.ssl_only || terminated.is_some_and(|(_, client_ca)| client_ca.is_some());
    let redirected = |scheme: Scheme| {
        group.redirect.as_ref().is_some_and(|to| {
            let comes_back = to.scheme == scheme || to.scheme == Scheme::Http && only_tls;
            !(group.hosts.contains(&to.host) && comes_back)
        })
    };
    let server = |answers: BTreeMap<String, Answer>| Server {
        locations: [(format!("= {}", settings.health_path.as_str()), Answer::Status(200))]
            .into_iter()
            .chain(answers)
            .collect(),
        ..Server::default()
    };
    let everything = |status| server(BTreeMap::from([("/".to_owned(), Answer::Status(status))]));
    let routes = || server(predict_routes(group, spec, settings));
    let plain = match () {
        () if redirected(Scheme::Http) => Some(everything(302)),
        () if only_tls => Some(everything(307)),
        () => (!group.routes.is_empty()).then(routes),
    };
    let over_tls = terminated.map(|(certificate, client_ca)| Server {
        certificate: Some(certificate.to_string()),
        client_ca: client_ca.as_ref().map(ToString::to_string),
        ..if redirected(Scheme::Https) { everything(302) } else { routes() }
    });
    (plain, over_tls)
}

fn predict_routes(group: &Group, spec: &ProxySpec, settings: &Settings) -> BTreeMap<String, Answer> {
    let mut answers = BTreeMap::from([("/".to_owned(), Answer::Status(404))]);
    for route in &group.routes {
        let path = route.path.as_str();
        let scheme = if route.options.backend_tls.is_some() { Scheme::Https } else { Scheme::Http };
        let passed = Answer::Servers(scheme, addresses(&route.services, spec));
        if path == "/" {
            answers.insert(path.to_owned(), passed);
            continue;
        }
        if path != settings.health_path.as_str() {
            let rewritten = route.options.context_root_rewrite == Some(true);
            let exact = if rewritten { Answer::Status(301) } else { passed.clone() };
            answers.insert(format!("= {path}"), exact);
        }
        answers.insert(format!("{path}/"), passed);
    }
    answers
}

// === The law ===

proptest! {
    #[test]
    fn the_files_say_what_the_spec_says(
        services in prop::collection::vec(
            (
                prop::sample::subsequence([&HOSTS[..], &["default"]].concat(), 0..=3),
                1..3_usize,
                any::<bool>(),
                prop_oneof![Just(Options::default()), any_options()],
                "\\PC{0,40}|[\\x00-\\x7f]{0,40}",
            ),
            0..6,
        ),
    ) {
        let services = services.into_iter().enumerate().map(|(n, (hosts, tasks, vip, options, name))| {
            any_service(name, &hosts.join(","), tasks, vip, n as i64, options)
        });
        let spec = spec(services.collect());
        let settings = Settings::default();
        prop_assert_eq!(read(&render(&spec, &settings), &settings), predict(&spec, &settings));
    }
}

#[test]
fn the_grammar_is_nginx_s() {
    let directives = parse("a b \"c;{ \\\" d\" 'e}'; # f { ;\ng { h; i j { } }\n");
    let words: Vec<&[String]> = directives.iter().map(|directive| &directive.words[..]).collect();
    assert_eq!(words, [&["a", "b", "c;{ \" d", "e}"].map(str::to_owned)[..], &["g".to_owned()][..]]);
    assert_eq!(directives[1].block().len(), 2);
    for broken in ["a", "a {", "}", ";", "a \"b"] {
        assert!(std::panic::catch_unwind(|| parse(broken)).is_err(), "{broken:?}");
    }
}
