//! Laws, on generated histories.

use embedded::{Fault, Verb};
use proptest::prelude::*;
use serde_json::json;
use swarm::Class;

use super::checks::{checks, sealed};
use super::*;
use crate::settings::CheckPolicy;

/// Something that happens.
#[derive(Clone, Debug)]
enum Happening {
    /// Other routes are wanted: these names, each on one of two networks.
    Routes(BTreeMap<&'static str, bool>),
    /// Another image is configured, and the program restarted for it.
    Image(&'static str),
    /// The routes need a secret, or do no more.
    Seal(bool),
    /// Checks are switched on or off, and the program restarted for it.
    Checks(bool),
    /// An operator changes something.
    Limit(u64),
    /// An operator adds a constraint that fits.
    Constrain,
    /// Somebody removes the proxy service.
    Remove,
    /// The process dies at its next write but so many, before or after it happens.
    Crash { after: u64, answered: bool },
    /// Somebody is faster at the next update.
    Race,
    /// A person freezes everything, or goes on.
    Pause(bool),
    /// Time passes.
    Passes(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("broken")];
    prop_oneof![
        4 => prop::collection::btree_map(name, any::<bool>(), 0..4).prop_map(Happening::Routes),
        1 => prop_oneof![Just("nginx:1.28"), Just("nginx:1.30"), Just("nginx:broken")].prop_map(Happening::Image),
        2 => any::<bool>().prop_map(Happening::Seal),
        1 => any::<bool>().prop_map(Happening::Checks),
        1 => (1..9_u64).prop_map(Happening::Limit),
        1 => Just(Happening::Constrain),
        1 => Just(Happening::Remove),
        3 => (0..7_u64, any::<bool>()).prop_map(|(after, answered)| Happening::Crash { after, answered }),
        1 => Just(Happening::Race),
        1 => any::<bool>().prop_map(Happening::Pause),
        4 => (1..40_u8).prop_map(Happening::Passes),
    ]
}

struct World {
    bench: Bench,
    networks: [NetworkId; 2],
    routes: BTreeMap<&'static str, bool>,
    /// The secret that the routes need, if they do.
    sealed: bool,
    key: model::SecretMount,
}

impl World {
    fn new() -> Self {
        let swarm = Swarm::new();
        let networks = [swarm.create_network("app").unwrap(), swarm.create_network("shop").unwrap()];
        let bystander = swarm::NewConfig {
            name: "dovetail.other.web.0123456789abcdef0123".into(),
            labels: BTreeMap::from([(model::labels::INSTANCE.into(), "other".into())]),
            data: Arc::from(*b"not ours"),
        };
        swarm.add_config(&bystander).unwrap();
        let mut settings = settings();
        settings.operator = Some(crate::Fence::new(Duration::from_secs(1), 1));
        settings.checks = checks();
        let bench = Bench::with(swarm, settings);
        let key = bench.secret("key");
        let world = Self { bench, networks, routes: BTreeMap::new(), sealed: false, key };
        world.bench.break_on("broken");
        world.aim();
        world
    }

    fn target(&self, without: &[&str]) -> Target {
        let routes: Vec<(&str, &NetworkId)> = self
            .routes
            .iter()
            .filter(|(name, _)| !without.contains(name))
            .map(|(name, second)| (*name, &self.networks[usize::from(*second)]))
            .collect();
        let target = target("history", &routes);
        if self.sealed { sealed(&target, &[&self.key], "key /run/secrets/key;\n") } else { target }
    }

    fn aim(&self) {
        self.bench.aim(&self.target(&[]));
    }

    async fn happen(&mut self, happening: &Happening) {
        let swarm = self.bench.swarm.clone();
        match happening {
            Happening::Routes(routes) => {
                self.routes.clone_from(routes);
                self.aim();
            }
            Happening::Image(image) => self.run_image(image),
            Happening::Seal(seal) => {
                self.sealed = *seal;
                self.aim();
            }
            Happening::Checks(on) => {
                self.bench.settings.checks.policy = if *on { CheckPolicy::Auto } else { CheckPolicy::Never };
                self.bench.restart();
            }
            // Refused where there is no service: that is the operator's trouble.
            Happening::Limit(megabytes) => {
                let limits = json!({"Limits": {"MemoryBytes": megabytes << 20}});
                drop(swarm.service_update_raw(PROXY, |spec| spec["TaskTemplate"]["Resources"] = limits));
            }
            Happening::Constrain => drop(swarm.service_update_raw(PROXY, |spec| {
                spec["TaskTemplate"]["Placement"]["Constraints"] = json!(["node.role==manager"]);
            })),
            Happening::Remove => drop(swarm.remove_service(PROXY)),
            Happening::Crash { after, answered } => {
                let fault = Fault::every_write().skip(*after).once();
                let fault = if *answered { fault.fail(Class::Unreachable) } else { fault.unanswered() };
                let fault = swarm.inject(fault);
                for _ in 0..20 {
                    self.pass().await;
                    if fault.hits() > 0 {
                        break;
                    }
                }
                fault.lift();
                self.bench.restart();
            }
            Happening::Race => {
                let faster = |swarm: &Swarm| drop(swarm.set_label(PROXY, "com.example.race", "won"));
                swarm.inject(Fault::on(Verb::UpdateService).once().first(faster));
            }
            Happening::Pause(pause) => self.pause(*pause).await,
            Happening::Passes(count) => {
                for _ in 0..*count {
                    self.pass().await;
                }
            }
        }
    }

    fn run_image(&mut self, image: &str) {
        self.bench.settings.proxy.image = image.into();
        self.bench.restart();
    }

    async fn pause(&self, pause: bool) {
        for _ in 0..2 {
            let inventory = inspect(&self.bench.swarm, &self.bench.settings).await.unwrap();
            let order = if pause {
                crate::orders::pause(&inventory, &self.bench.settings, "frozen")
            } else {
                crate::orders::resume(&inventory, &self.bench.settings)
            };
            // Refused where there is no service.
            let steps: Vec<_> = order.unwrap_or_default().into_iter().collect();
            crate::execute(&self.bench.swarm, &steps, None, &Counters::default()).await;
        }
    }

    /// A pass, after which everything that is referred to must still be there.
    async fn pass(&mut self) {
        let before = self.bench.swarm.raw(PROXY);
        let writes = self.bench.writes().len();
        self.bench.pass().await;
        let swarm = &self.bench.swarm;
        if before.is_some_and(|service| crate::orders::paused(&service.spec).is_some()) {
            assert_eq!(self.bench.writes().len(), writes, "it is paused");
        }
        let Some(service) = swarm.raw_service(PROXY).await.unwrap() else { return };
        let objects = swarm.configs(&self.bench.settings.instance).await.unwrap();
        for spec in [Some(&service.spec), service.previous_spec.as_ref()].into_iter().flatten() {
            for (path, reference) in crate::spec::Mounts::read(spec).files {
                assert!(objects.iter().any(|config| Some(&config.id) == reference.id.as_ref()), "{path} is gone");
            }
        }
    }

    /// What the reconciler would do about a hold: leave the suspect out.
    async fn come_to_rest(&mut self) -> Target {
        self.bench.swarm.clear_faults();
        self.pause(false).await;
        if self.bench.settings.proxy.image.contains("broken") {
            self.run_image("nginx:1.28");
        }
        let mut wanted = self.target(&[]);
        for _ in 0..400 {
            self.pass().await;
            let held = matches!(self.bench.status().phase, Phase::Held { .. })
                || matches!(&*self.bench.outputs.published.borrow(), Some(Published::Live { holds, .. }) if !holds.is_empty());
            if held && self.routes.contains_key("broken") {
                wanted = self.target(&["broken"]);
                self.bench.aim(&wanted);
            }
            if self.bench.is_in_step() && self.bench.status().live == Some(wanted.bundle.generation()) {
                // What it may yet be taken back to goes once it has been watched for long enough.
                self.bench.passes_for(self.bench.settings.soak).await;
                self.pass().await;
                self.pass().await;
                return wanted;
            }
        }
        panic!("it never came to rest: {:#?}", self.bench.status());
    }
}

/// The names of the objects that the spec, and the one before it, refer to.
fn needed(service: &swarm::RawService) -> BTreeSet<String> {
    let specs = [Some(&service.spec), service.previous_spec.as_ref()];
    let mounts = specs.into_iter().flatten().map(crate::spec::Mounts::read);
    mounts.flat_map(|mounts| mounts.files.into_values().map(|file| file.name)).collect()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_history_ends_with_the_target_live_and_nothing_left_over(
        history in prop::collection::vec(happening(), 0..12),
    ) {
        run(async {
            let mut world = World::new();
            for happening in &history {
                world.happen(happening).await;
            }
            let wanted = world.come_to_rest().await;

            // The plan that was carried out has emptied the next one, for an old process and a fresh one.
            assert_eq!(world.bench.plan(&wanted).await.steps, []);
            world.bench.swarm.clear_calls();
            world.bench.restart();
            for _ in 0..30 {
                world.pass().await;
            }
            assert_eq!(world.bench.writes(), []);

            assert_eq!(world.bench.swarm.service_names(), [PROXY], "no check is left over");
            let swarm = &world.bench.swarm;
            let service = swarm.raw_service(PROXY).await.unwrap().unwrap();
            let mounts = crate::spec::Mounts::read(&service.spec);
            for path in wanted.bundle.files.keys() {
                assert!(mounts.files.contains_key(&**path), "{path}");
            }
            assert_eq!(mounts.networks, wanted.bundle.networks);
            let needed = needed(&service);
            for config in swarm.configs(&world.bench.settings.instance).await.unwrap() {
                let held = config.labels.contains_key(model::labels::HELD);
                assert!(needed.contains(&config.name) || held, "{} is left over: {:?}", config.name, config.labels);
            }
            let others = InstanceName::parse("other").unwrap();
            assert_eq!(swarm.configs(&others).await.unwrap().len(), 1);
        });
    }
}

/// Every step of a plan, and for each whether it happened or not; with a check before, and without.
#[test]
fn a_crash_at_any_step_ends_the_same() {
    for (sealed, answered) in [(false, false), (false, true), (true, false), (true, true)] {
        for after in 0..14 {
            run(async {
                let mut world = World::new();
                world.routes = BTreeMap::from([("a", true)]);
                world.aim();
                world.bench.until_in_step().await;
                world.routes = BTreeMap::from([("a", true), ("b", false)]);
                world.aim();
                world.bench.until_in_step().await;
                world.bench.swarm.clear_calls();
                world.sealed = sealed;
                world.routes = BTreeMap::from([("b", false), ("broken", false)]);
                world.aim();
                world.happen(&Happening::Crash { after, answered }).await;
                world.come_to_rest().await;
                let updates = world.bench.service_writes();
                // The bad one, unless it was found out before, and the one without it; one more where the update itself
                // failed.
                let expected = if sealed { 1..=2 } else { 2..=3 };
                assert!(expected.contains(&updates), "{sealed} {answered} {after}: {updates}");
                assert_eq!(world.bench.swarm.service_names(), [PROXY], "{sealed} {answered} {after}");
                let objects = world.bench.swarm.configs(&world.bench.settings.instance).await.unwrap();
                // Common file, two generations' routes and manifests, and the held manifest.
                assert_eq!(objects.len(), 6, "{sealed} {answered} {after}");
            });
        }
    }
}

/// What one of two operators does next.
#[derive(Clone, Debug)]
enum Turn {
    Passes(u8),
    /// It wants the second route as well, or only the first.
    Aim(bool),
    /// Its process is replaced by one that starts now.
    Restart,
    /// Its next write happens, and the answer gets lost.
    LoseAnswer,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (1..12_u8).prop_map(Turn::Passes),
        3 => any::<bool>().prop_map(Turn::Aim),
        1 => Just(Turn::Restart),
        1 => Just(Turn::LoseAnswer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However two operators come into each other's way, they end: with what one of them wants, and without a write.
    #[test]
    fn two_operators_come_to_rest_with_what_one_of_them_wants(
        turns in prop::collection::vec((any::<bool>(), turn()), 0..30),
    ) {
        run(async {
            let swarm = Swarm::new();
            let app = swarm.create_network("app").unwrap();
            let one = target("one", &[("demo", &app)]);
            let two = target("two", &[("demo", &app), ("shop", &app)]);
            let operator = |started| {
                let mut settings = settings();
                settings.operator = Some(crate::Fence::new(Duration::from_secs(started), 7));
                let bench = Bench::with(swarm.clone(), settings);
                bench.aim(&one);
                bench
            };
            let (mut first, mut second) = (operator(1), operator(2));
            let mut started = 3;
            for (is_first, turn) in turns {
                let bench = if is_first { &mut first } else { &mut second };
                match turn {
                    Turn::Passes(count) => {
                        for _ in 0..count {
                            bench.pass().await;
                        }
                    }
                    Turn::Aim(both) => bench.aim(if both { &two } else { &one }),
                    Turn::Restart => {
                        bench.settings.operator = Some(crate::Fence::new(Duration::from_secs(started), 7));
                        started += 1;
                        bench.restart();
                    }
                    Turn::LoseAnswer => {
                        let fault = swarm.inject(Fault::every_write().once().unanswered());
                        bench.pass().await;
                        fault.lift();
                    }
                }
            }
            for _ in 0..150 {
                first.pass().await;
                second.pass().await;
            }
            swarm.clear_calls();
            for _ in 0..20 {
                first.pass().await;
                second.pass().await;
            }
            assert_eq!(swarm.writes(), [], "they are at rest");
            let statuses = [first.status(), second.status()];
            let heard: Vec<_> = statuses.iter().filter(|status| !matches!(status.phase, Phase::Fenced { .. })).collect();
            assert!(!heard.is_empty(), "one of them is heard: {statuses:?}");
            for status in heard {
                assert_eq!((status.live, &status.phase), (status.target, &Phase::InStep));
            }
            let needed = needed(&swarm.raw(PROXY).unwrap());
            for config in swarm.all_configs() {
                assert!(needed.contains(&config.name), "{} is left over: {:?}", config.name, config.labels);
            }
        });
    }
}
