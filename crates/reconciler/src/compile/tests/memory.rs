//! What is remembered from one pass to the next changes nothing but the work.

use model::values::SecretName;
use model::{Bundle, File, NetworkId, Publication, SecretId};
use proptest::prelude::*;

use super::laws::any_service_with_options;
use super::*;
use crate::bundle::{Bundler, target};
use crate::sample::{secret_names, secrets};
use crate::{ClaimRule, Claims};

/// What happens between two passes.
#[derive(Clone, Debug)]
enum Step {
    Comes(Box<Service>),
    /// It is the same, and another value in memory.
    IsReadAgain(&'static str),
    Goes(&'static str),
    /// It comes into another stack, and is otherwise the same.
    Moves(&'static str, Option<&'static str>),
    /// A network is there, by another name or without room for a cluster's proxies; or it is gone.
    Network(&'static str, Option<(&'static str, Option<&'static str>)>),
    Secret(SecretName, Option<u8>),
    Live(&'static str, Happens),
}

/// What happens to one cluster.
#[derive(Clone, Debug)]
enum Happens {
    NotRead,
    Unknown(u8),
    Nothing,
    /// What was made last is rolled out; the actuator may hand it back, or read it from the cluster.
    RolledOut {
        read_back: bool,
    },
    /// The rollout has ended well.
    Converged,
    /// The rollout has failed, and what was before is served.
    Failed {
        named: bool,
        by_hand: bool,
    },
    /// What failed is tried again.
    Retried,
    /// Another version of ours, or somebody else, wrote something else.
    Rewritten {
        without: Option<&'static str>,
        setup: bool,
    },
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const CLUSTERS: [&str; 2] = ["main", "east"];

fn any_step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(NAMES.to_vec());
    let room = prop::option::of(prop::sample::select(CLUSTERS.to_vec()));
    let network = (prop::sample::select(vec!["net-n1", "other"]), room);
    prop_oneof![
        12 => any_candidate().prop_map(|service| Step::Comes(Box::new(service))),
        1 => name().prop_map(Step::IsReadAgain),
        3 => name().prop_map(Step::Goes),
        3 => (name(), any_stack()).prop_map(|(name, stack)| Step::Moves(name, stack)),
        2 => (prop::sample::select(vec!["n1", "n2", "n3"]), prop::option::weighted(0.7, network))
            .prop_map(|(id, network)| Step::Network(id, network)),
        2 => (prop::sample::select(all_secrets()), prop::option::weighted(0.7, 0..2_u8))
            .prop_map(|(name, id)| Step::Secret(name, id)),
        10 => (prop::sample::select(CLUSTERS.to_vec()), any_happening())
            .prop_map(|(cluster, happens)| Step::Live(cluster, happens)),
    ]
}

fn any_happening() -> impl Strategy<Value = Happens> {
    prop_oneof![
        1 => Just(Happens::NotRead),
        1 => (0..2_u8).prop_map(Happens::Unknown),
        1 => Just(Happens::Nothing),
        6 => any::<bool>().prop_map(|read_back| Happens::RolledOut { read_back }),
        3 => Just(Happens::Converged),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(named, by_hand)| Happens::Failed { named, by_hand }),
        1 => Just(Happens::Retried),
        1 => (prop::option::of(prop::sample::select(NAMES.to_vec())), any::<bool>())
            .prop_map(|(without, setup)| Happens::Rewritten { without, setup }),
    ]
}

fn any_stack() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::of(prop::sample::select(vec!["shop", "blog"]))
}

/// A service of any cluster and stack, sometimes with so many options that a file cannot hold two of them.
fn any_candidate() -> impl Strategy<Value = Service> {
    let cluster = prop::sample::select(vec!["", "", "", "east", "west"]);
    let stack = any_stack();
    (any_service_with_options(), any::<bool>(), cluster, stack, any::<bool>(), 0..40_u8).prop_map(
        |(mut service, plain, cluster, stack, third, oddity)| {
            service.stack = stack.map(str::to_owned);
            if third {
                service.networks.insert("n3".into());
            }
            if let Ok(request) = &mut service.asked {
                request.service_cluster = cluster.into();
                if plain {
                    request.options = model::Options::default();
                }
                if oddity < 2 {
                    let host = request.options.host.clone();
                    request.options = model::Options { host, ..huge_options(service.id.as_str()) };
                }
            }
            match (oddity, &mut service.backends) {
                (1..4, Backends::Tasks { stale, .. }) => *stale = true,
                (1..8, Backends::Vip { has_run, .. }) => *has_run = false,
                (10..12, backends) => *backends = Backends::Unread { reason: "it could not be read".into() },
                _ => {}
            }
            service
        },
    )
}

/// Two of these at different paths do not fit into one file, nor does one that is said twice, with TLS and without.
fn huge_options(path: &str) -> model::Options {
    let network = |n| format!("2001:db8:ffff:ffff:ffff:ffff:{n:x}:0/112").parse().unwrap();
    let mut options =
        model::Options { context_root: format!("/huge/{path}").parse().unwrap(), ..model::Options::default() };
    options.route.allow = Some((0x1000..0x13e8).map(network).collect::<BTreeSet<_>>().into());
    options.route.deny = Some((0x2000..0x23e8).map(network).collect::<BTreeSet<_>>().into());
    options
}

fn all_secrets() -> Vec<SecretName> {
    let names = secret_names();
    names.iter().cloned().chain(names.iter().filter_map(|name| name.in_stack("shop"))).collect()
}

fn cluster(name: &str) -> ClusterName {
    ClusterName::parse(name).unwrap()
}

fn two_clusters() -> Settings {
    let nginx = nginx::Settings { ip_hash: true, published_https: NonZeroU16::new(443), ..nginx::Settings::default() };
    let east = ClusterSettings {
        service_cluster: "east".into(),
        networks: Some(["net-n1".into(), "n2".into()].into()),
        refused_labels: Default::default(),
        nginx,
    };
    let rule = ClaimRule {
        hosts: ["z.local".parse().unwrap()].into(),
        stacks: ["shop".to_owned()].into(),
        access_labels: BTreeSet::new(),
    };
    Settings {
        clusters: [(cluster("main"), ClusterSettings::default()), (cluster("east"), east)].into(),
        claims: Claims { rules: vec![rule] },
    }
}

struct World {
    desired: Desired,
    published: BTreeMap<ClusterName, Published>,
    made: BTreeMap<ClusterName, Bundle>,
    compiler: Compiler,
    bundlers: BTreeMap<ClusterName, Bundler>,
}

impl World {
    fn new() -> Self {
        let mut desired = desired([]);
        desired.secrets = secrets(secret_names());
        Self {
            desired,
            published: BTreeMap::new(),
            made: BTreeMap::new(),
            compiler: Compiler::new(two_clusters()),
            bundlers: CLUSTERS.map(|name| (cluster(name), Bundler::new(cluster(name)))).into(),
        }
    }

    fn take(&mut self, step: Step) {
        let services = &mut self.desired.services;
        match step {
            Step::Comes(service) => drop(services.insert(service.id.clone(), Arc::new(*service))),
            Step::IsReadAgain(name) => {
                if let Some(service) = services.get_mut(&ServiceId::new(name)) {
                    *service = Arc::new(Service::clone(service));
                }
            }
            Step::Moves(name, stack) => {
                if let Some(service) = services.get_mut(&ServiceId::new(name)) {
                    Arc::make_mut(service).stack = stack.map(str::to_owned);
                }
            }
            Step::Goes(name) => drop(services.remove(&ServiceId::new(name))),
            Step::Network(id, None) => drop(self.desired.networks.remove(&NetworkId::new(id))),
            Step::Network(id, Some((name, full_for))) => {
                let shortage = |name| {
                    let shortage = Shortage { subnets: vec!["10.0.0.0/28".into()], addresses: 13, needed: 6 };
                    (cluster(name), shortage)
                };
                let no_room_for = full_for.into_iter().map(shortage).collect();
                let network = Network { no_room_for, ..Network::new(id.into(), name) };
                self.desired.networks.insert(id.into(), Arc::new(network));
            }
            Step::Secret(name, None) => drop(self.desired.secrets.remove(&name)),
            Step::Secret(name, Some(n)) => {
                self.desired.secrets.insert(name, SecretId::new(format!("secret-{n}")));
            }
            Step::Live(name, happens) => self.happen(cluster(name), happens),
        }
    }

    fn happen(&mut self, cluster: ClusterName, happens: Happens) {
        let live = match self.published.get(&cluster) {
            Some(Published::Live { manifest, last_good, holds }) => Some((manifest, last_good, holds)),
            _ => None,
        };
        let published = match (happens, live) {
            (Happens::NotRead, _) => return drop(self.published.remove(&cluster)),
            (Happens::Unknown(n), _) => Published::Unknown { reason: format!("damage {n}") },
            (Happens::Nothing, _) => Published::Nothing,
            (Happens::RolledOut { read_back }, live) => {
                let Some(Bundle { manifest, .. }) = self.made.get(&cluster) else { return };
                let manifest = match read_back {
                    true => Arc::new(Manifest::read(manifest.write().values().map(Vec::as_slice)).unwrap()),
                    false => Arc::clone(manifest),
                };
                let last_good = live.map_or(&manifest, |(_, last_good, _)| last_good);
                let holds = live.map(|(_, _, holds)| holds.clone()).unwrap_or_default();
                Published::Live { last_good: Arc::clone(last_good), manifest, holds }
            }
            (_, None) => return,
            (Happens::Converged, Some((manifest, _, holds))) => Published::Live {
                manifest: Arc::clone(manifest),
                last_good: Arc::clone(manifest),
                holds: holds.clone(),
            },
            (Happens::Failed { named, by_hand }, Some((manifest, last_good, holds))) => {
                let hold = held(manifest, named, by_hand);
                let holds = holds.iter().cloned().chain([hold]).collect();
                Published::Live { manifest: Arc::clone(last_good), last_good: Arc::clone(last_good), holds }
            }
            (Happens::Retried, Some((manifest, last_good, _))) => {
                Published::Live { manifest: Arc::clone(manifest), last_good: Arc::clone(last_good), holds: Vec::new() }
            }
            (Happens::Rewritten { without, setup }, Some((manifest, last_good, holds))) => {
                let mut other = Manifest::clone(manifest);
                if let Some(gone) = without {
                    other.services.remove(&ServiceId::new(gone));
                }
                if let Some(retold) = other.services.get_mut(&ServiceId::new(NAMES[0])) {
                    Arc::make_mut(retold).reason = "in other words".into();
                }
                if setup {
                    let nginx = nginx::Settings { hide_info_headers: true, ..nginx::Settings::default() };
                    other.setup = crate::setup::write(&nginx);
                }
                Published::Live { manifest: Arc::new(other), last_good: Arc::clone(last_good), holds: holds.clone() }
            }
        };
        self.published.insert(cluster, published);
    }

    /// A pass with all that is remembered is one with nothing remembered. Where `bundled` is not true the specs are left
    /// alone, as where they are the same as before.
    fn pass(&mut self, bundled: bool) -> Result<(), TestCaseError> {
        let compiled = self.compiler.compile(&self.desired, &self.published);
        prop_assert_eq!(&compiled, &compile(&self.desired, &self.published, &two_clusters()));
        for (cluster, spec) in compiled.specs.iter().filter(|_| bundled) {
            let (setup, live) = (
                &compiled.setups[cluster],
                match self.published.get(cluster) {
                    Some(Published::Live { manifest, .. }) => Some(&**manifest),
                    _ => None,
                },
            );
            let bundler = self.bundlers.get_mut(cluster).unwrap();
            let made = bundler.target(spec, setup, &compiled.report, &self.desired, live).expect("a lawful spec");
            let at_once = target(spec, setup, &compiled.report, &self.desired, live).expect("a lawful spec");
            prop_assert_eq!(&made.manifest, &at_once.manifest);
            let texts = |bundle: &Bundle| -> Vec<(String, String)> {
                let text = |file: &File| String::from_utf8_lossy(&file.content).into_owned();
                bundle.files.iter().map(|(path, file)| (path.to_string(), text(file))).collect()
            };
            prop_assert!(made == at_once, "{:#?} and {:#?}", texts(&made), texts(&at_once));
            self.made.insert(cluster.clone(), made);
        }
        Ok(())
    }
}

fn held(manifest: &Manifest, named: bool, by_hand: bool) -> Hold {
    let fragment = |(id, publication): (&ServiceId, &Arc<Publication>)| {
        let Publication { fragment: digest, contribution, .. } = &**publication;
        let named = (named && !contribution.secrets.is_empty()).then(|| contribution.secrets_digest());
        (id.clone(), Fragment { digest: *digest, network: contribution.network.clone(), named })
    };
    Hold {
        generation: manifest.generation,
        fragments: manifest.services.iter().map(fragment).collect(),
        setup: manifest.setup.clone(),
        reason: "it failed".into(),
        by_hand,
    }
}

#[test]
fn what_did_not_change_is_shared_also_where_the_manifest_was_read_back() {
    let service = |n: usize, address: &str| vip_service(&format!("s{n}"), &format!("{n}.local"), "n1", address);
    let mut world = World::new();
    world.desired = desired((0..1500).map(|n| service(n, "10.0.0.9")));
    world.happen(main_cluster(), Happens::Nothing);
    world.pass(true).unwrap();
    let (report, before) =
        (world.compiler.compile(&world.desired, &world.published).report, world.made[&main_cluster()].clone());
    world.happen(main_cluster(), Happens::RolledOut { read_back: true });
    world.desired.services.insert(ServiceId::new("s7"), Arc::new(service(7, "10.0.0.8")));
    world.pass(true).unwrap();
    let (now, made) = (world.compiler.compile(&world.desired, &world.published).report, &world.made[&main_cluster()]);
    let others = |id: &ServiceId| id.as_str() != "s7";
    let same_report = |(id, about): (&ServiceId, &Arc<ServiceReport>)| Arc::ptr_eq(about, &now.services[id]);
    assert!(report.services.iter().filter(|(id, _)| others(id)).all(same_report));
    let published = &made.manifest.services;
    let same_publication = |(id, old): (&ServiceId, &Arc<Publication>)| Arc::ptr_eq(old, &published[id]);
    assert!(before.manifest.services.iter().filter(|(id, _)| others(id)).all(same_publication));
    let rewritten = before.files.iter().filter(|(path, file)| !Arc::ptr_eq(&file.content, &made.files[*path].content));
    assert_eq!((rewritten.count(), before.files.len() > 3), (1, true));
}

/// Chance seldom comes to these.
#[test]
fn what_others_do_is_looked_at() {
    let comes = |service: Service| Step::Comes(Box::new(service));
    let live = |happens| Step::Live("main", happens);
    let rolled_out = || live(Happens::RolledOut { read_back: false });
    let huge = |name: &str| {
        with(vip_service(name, "huge.local", "n1", "10.0.0.9"), |s| request(s).options = huge_options(name))
    };
    for steps in [
        // The proxies leave a network that is full by now, and another one is on it.
        vec![
            comes(vip_service("a", "a.local", "n1", "10.0.0.9")),
            rolled_out(),
            live(Happens::Converged),
            Step::Network("n1", Some(("net-n1", Some("main")))),
            comes(vip_service("b", "b.local", "n1", "10.0.0.8")),
            live(Happens::Rewritten { without: Some("a"), setup: false }),
            live(Happens::Converged),
        ],
        // The older of two on a host comes into another stack.
        vec![
            comes(vip_service("a", "a.local", "n1", "10.0.0.9")),
            comes(vip_service("b", "a.local", "n1", "10.0.0.8")),
            Step::Moves("a", Some("shop")),
            Step::Moves("a", None),
        ],
        // Of two that do not fit into one file one is live, and then the other one.
        vec![
            comes(huge("b")),
            rolled_out(),
            comes(huge("a")),
            rolled_out(),
            Step::IsReadAgain("b"),
            comes(vip_service("c", "huge.local,c.local", "n1", "10.0.0.7")),
            Step::Goes("b"),
            rolled_out(),
            comes(huge("b")),
            live(Happens::Rewritten { without: Some("a"), setup: true }),
            live(Happens::Nothing),
        ],
    ] {
        let mut world = World::new();
        world.happen(main_cluster(), Happens::Nothing);
        for step in steps {
            world.take(step);
            world.pass(true).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn one_change_after_the_other_comes_to_the_same_as_everything_at_once(
        steps in prop::collection::vec((any_step(), any::<bool>(), prop::bool::weighted(0.8)), 1..40),
    ) {
        let mut world = World::new();
        for cluster in CLUSTERS {
            world.happen(self::cluster(cluster), Happens::Nothing);
        }
        for (step, passes, bundled) in steps {
            world.take(step);
            if passes {
                world.pass(bundled)?;
            }
        }
        world.pass(true)?;
    }
}
