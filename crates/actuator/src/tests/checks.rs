//! Checks before rollouts: when there is one, what comes of it, and that nothing of it is left.

use embedded::{Fault, Verb};
use model::{SecretMount, labels};
use swarm::Class;

use super::*;
use crate::hold::Blame;
use crate::settings::{CheckPolicy, Checks};
use crate::status::Verdict;
use crate::{Fence, Step, check, orders};

const CHECK: &str = "dovetail-check-main-web";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn checks() -> Checks {
    Checks {
        policy: CheckPolicy::Auto,
        command: vec!["nginx".into(), "-t".into()],
        refusal: "nginx: [emerg] ".into(),
        vouched: "/etc/nginx/routes".into(),
    }
}

fn checking() -> Settings {
    Settings { checks: checks(), ..settings() }
}

/// The same target with these secrets, and these lines about them among the routes.
pub(super) fn sealed(target: &Target, secrets: &[&SecretMount], lines: &str) -> Target {
    let mut target = target.clone();
    let bundle = Arc::make_mut(&mut target.bundle);
    bundle.secrets = secrets.iter().map(|secret| (*secret).clone()).collect();
    let mut routes = bundle.files["/etc/nginx/routes.conf"].content.to_vec();
    routes.extend_from_slice(lines.as_bytes());
    with_file(target, "/etc/nginx/routes.conf", &routes)
}

fn with_file(mut target: Target, path: &str, content: &[u8]) -> Target {
    let bundle = Arc::make_mut(&mut target.bundle);
    bundle.files.insert(path.into(), model::File::new(content.to_vec()));
    let generation = Bundle::digest(&bundle.files, &bundle.networks, &bundle.secrets);
    Arc::make_mut(&mut bundle.manifest).generation = generation;
    target
}

impl Bench {
    /// A secret of this swarm, mounted under its name.
    pub(super) fn secret(&self, name: &str) -> SecretMount {
        let id = self.swarm.add_secret(name).unwrap();
        SecretMount { id: id.as_str().into(), name: name.into(), target: name.into() }
    }

    /// The checks that were created so far.
    fn checks(&self) -> usize {
        self.written_specs().filter(|spec| spec["Name"] == CHECK).count()
    }

    fn has_check(&self) -> bool {
        self.swarm.raw(CHECK).is_some()
    }

    async fn until_checking(&mut self) {
        self.until("a check is there", Self::has_check).await;
    }

    /// A changed image, and the process that is started for it, after its first look.
    async fn image(&mut self, image: &str) {
        self.settings.proxy.image = image.into();
        self.restart();
        self.pass().await;
    }

    fn tasks(&self) -> BTreeSet<model::TaskId> {
        self.swarm.running_tasks(PROXY).into_iter().map(|task| task.id).collect()
    }

    fn holds(&self) -> Vec<model::Hold> {
        match self.outputs.published.borrow().clone() {
            Some(Published::Live { holds, .. }) => holds,
            _ => Vec::new(),
        }
    }
}

// === When ===

#[tokio::test(start_paused = true)]
async fn only_what_nobody_can_vouch_for_is_checked() {
    let (bench, app, demo) = Bench::serving(checking()).await;
    let two = || target("second", &[("demo", &app), ("shop", &app)]);
    let key = bench.secret("key");
    let due = async |wanted: &Target, change: fn(&mut Settings)| {
        let inventory = inspect(&bench.swarm, &bench.settings).await.unwrap();
        let mut settings = bench.settings.clone();
        change(&mut settings);
        let now = crate::moment::Clock::start().now();
        let plan = plan(Some(wanted), &inventory, &settings, &Memory::default(), now);
        assert!(!plan.steps.is_empty(), "the change is one");
        plan.steps.iter().any(|step| matches!(step, Step::CreateCheck { .. }))
    };
    type Change = fn(&mut Settings);
    let settings: [(&str, Change, bool); 14] = [
        ("image", |s| s.proxy.image = "nginx:1.30".into(), true),
        ("command", |s| s.proxy.command.push("-q".into()), true),
        ("env", |s| drop(s.proxy.env.insert("A".into(), "1".into())), true),
        ("sysctls", |s| s.proxy.sysctls.clear(), true),
        ("stop signal", |s| s.proxy.stop_signal = "SIGTERM".into(), false),
        ("grace period", |s| s.proxy.stop_grace_period = secs(9), false),
        ("health check", |s| s.proxy.health_check = None, false),
        ("container labels", |s| drop(s.proxy.container_labels.insert("a".into(), "b".into())), false),
        ("labels", |s| drop(s.proxy.labels.insert("a".into(), "b".into())), false),
        ("constraints", |s| s.proxy.constraints.push("node.role==manager".into()), false),
        ("replicas", |s| s.proxy.mode = crate::settings::Mode::Replicated(3), false),
        ("memory", |s| s.proxy.limits.memory = Some(1 << 28), false),
        ("image, and never", |s| (s.proxy.image, s.checks.policy) = ("nginx:1.30".into(), CheckPolicy::Never), false),
        ("image, and no command", |s| (s.proxy.image, s.checks.command) = ("nginx:1.30".into(), vec![]), false),
    ];
    for (what, change, expected) in settings {
        assert_eq!(due(&demo, change).await, expected, "{what}");
    }
    let main_file = with_file(demo.clone(), "/etc/nginx/nginx.conf", b"user nobody;\nevents {}\n");
    let another_file = with_file(demo.clone(), "/etc/nginx/tls.conf", b"x");
    for (what, wanted, expected) in [
        ("routes", two(), false),
        ("no routes", target("none", &[]), false),
        ("a secret", sealed(&demo, &[&key], "key /run/secrets/key;\n"), true),
        ("the main file", main_file, true),
        ("a new file", another_file, true),
    ] {
        assert_eq!(due(&wanted, |_| {}).await, expected, "{what}");
    }
    assert!(due(&two(), |settings| settings.checks.policy = CheckPolicy::Always).await);
}

#[tokio::test(start_paused = true)]
async fn another_use_of_the_same_secrets_is_checked_and_routes_beside_them_are_not() {
    let (mut bench, app, demo) = Bench::serving(checking()).await;
    let (one, two) = (bench.secret("one"), bench.secret("two"));
    let both = [&one, &two];
    let lines = "a /run/secrets/one;\nb /run/secrets/two;\n";
    bench.aim(&sealed(&demo, &both, lines));
    bench.until_in_step().await;
    assert_eq!(bench.checks(), 1);
    let shop = target("second", &[("demo", &app), ("shop", &app)]);
    let rotated = SecretMount { id: bench.secret("new").id, name: "new".into(), ..one.clone() };
    for (what, wanted, expected) in [
        ("routes", sealed(&shop, &both, lines), false),
        ("other pairs", sealed(&demo, &both, "a /run/secrets/two;\nb /run/secrets/one;\n"), true),
        ("one more use", sealed(&demo, &both, &format!("{lines}{lines}")), true),
        ("another secret at its place", sealed(&demo, &[&rotated, &two], lines), true),
        ("one less", sealed(&demo, &[&one], "a /run/secrets/one;\n"), true),
        ("none", demo.clone(), false),
    ] {
        let plan = bench.plan(&wanted).await;
        let checks = plan.steps.iter().filter(|step| matches!(step, Step::CreateCheck { .. })).count();
        assert_eq!(checks, usize::from(expected), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_serves_only_secrets_are_checked() {
    let bench = Bench::with(Swarm::new(), checking());
    let key = bench.secret("key");
    let (bare, with_secret) = (target("first", &[]), sealed(&target("first", &[]), &[&key], ""));
    for (policy, wanted, expected) in [
        (CheckPolicy::Auto, &bare, false),
        (CheckPolicy::Auto, &with_secret, true),
        (CheckPolicy::Always, &bare, true),
        (CheckPolicy::Never, &with_secret, false),
    ] {
        let mut bench = Bench::with(bench.swarm.clone(), checking());
        bench.settings.checks.policy = policy;
        let steps = bench.plan(wanted).await.steps;
        assert_eq!(matches!(steps.last(), Some(Step::CreateCheck { .. })), expected, "{policy:?}");
        assert_ne!(matches!(steps.last(), Some(Step::CreateService(_))), expected, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_plan_says_that_the_files_are_checked() {
    let (mut bench, _, demo) = Bench::serving(checking()).await;
    bench.settings.proxy.image = "nginx:1.30".into();
    let plan = bench.plan(&demo).await;
    let [step] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    let text = step.to_string();
    let generation = demo.bundle.generation().short();
    assert_eq!(
        text,
        format!(
            "check the files with nginx -t before the rollout: generation {generation}, \
             settings changed: TaskTemplate.ContainerSpec.Image"
        )
    );
    assert_eq!(serde_json::to_value(step).unwrap()["step"], "create_check");
    assert!(matches!(plan.status.phase, Phase::Pending { .. }), "{:?}", plan.status);
}

// === What comes of it ===

#[tokio::test(start_paused = true)]
async fn what_passes_is_rolled_out_and_nothing_of_the_check_is_left() {
    let mut settings = checking();
    settings.object_labels.insert("com.docker.ucp.access.label".into(), "/Shared".into());
    let (mut bench, app, _) = Bench::serving(settings).await;
    bench.image("nginx:1.30").await;
    let started = tokio::time::Instant::now();
    bench.until_checking().await;
    let spec = bench.swarm.raw(CHECK).unwrap().spec;
    assert_eq!(spec["Labels"]["com.docker.ucp.access.label"], "/Shared");
    assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.30");
    bench.until("status says so", |bench| matches!(bench.status().phase, Phase::Checking { .. })).await;
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    assert!(started.elapsed() < secs(2), "{:?}", started.elapsed());
    bench.until_in_step().await;
    let verbs = [Verb::CreateService, Verb::UpdateService, Verb::RemoveService];
    assert_eq!(bench.writes(), verbs, "the proxy is pointed to it before the check goes");
    assert_eq!(bench.counters().checks(Verdict::Passed), 1);
    assert!(bench.counters().last_check_milliseconds.load(std::sync::atomic::Ordering::Relaxed) > 500);
    assert_eq!(bench.swarm.service_names(), [PROXY]);
    assert_eq!(bench.status().unchecked, None);

    // Nobody asks for it any more, once the proxies have been watched for a while.
    bench.passes_for(secs(40)).await;
    bench.swarm.clear_calls();
    bench.passes_for(secs(60)).await;
    let calls: BTreeSet<Verb> = bench.swarm.calls().iter().map(Call::verb).collect();
    assert_eq!(calls, BTreeSet::from([Verb::RawService]));
    assert!(bench.swarm.calls().iter().all(|call| *call == Call::RawService(PROXY.into())));
    bench.aim(&target("routes", &[("demo", &app), ("shop", &app)]));
    bench.until_in_step().await;
    assert_eq!(bench.checks(), 0);
    assert!(bench.swarm.calls().iter().all(|call| call.verb() != Verb::TaskLog));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_refuses_the_files_never_reaches_a_proxy() {
    let (mut bench, app, demo) = Bench::serving(checking()).await;
    let (version, tasks) = (bench.swarm.raw(PROXY).unwrap().version, bench.tasks());
    bench.break_on("broken");
    bench.image("nginx:broken").await;
    bench.until("it is held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    bench.passes_for(secs(300)).await;
    assert_eq!((bench.swarm.raw(PROXY).unwrap().version, bench.tasks()), (version, tasks), "no proxy noticed");
    let Phase::Held { reason, blame, .. } = bench.status().phase else { panic!("{:?}", bench.status()) };
    assert_eq!((reason.as_str(), blame), ("nginx refused the files: broken", Blame::Settings));
    assert_eq!((bench.checks(), bench.service_writes()), (1, 0), "once, and not again");
    assert_eq!(bench.counters().checks(Verdict::Failed), 1);
    assert_eq!(bench.swarm.service_names(), [PROXY]);
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 0), "no route is to blame");

    // Routes go on under the image that works, without a check.
    let shop = target("shop", &[("demo", &app), ("shop", &app)]);
    bench.aim(&shop);
    bench.until("the route is there", |bench| bench.live().1 == shop.bundle.generation()).await;
    assert_eq!((bench.checks(), bench.service_writes()), (1, 1));

    // A fresh process knows it; after ten minutes it is tried again.
    bench.restart();
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.checks(), 1);
    bench.swarm.break_nothing();
    bench.passes_for(secs(600)).await;
    assert!(bench.is_in_step(), "{:?}", bench.status());
    assert_eq!((bench.checks(), bench.service_writes()), (2, 2));
    assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:broken");
}

/// Programs complain about this secret if it is mounted.
fn refuse(bench: &Bench, secret: &'static str) {
    bench.swarm.break_when(move |task, _| {
        let mounted = task["ContainerSpec"]["Secrets"].to_string().contains(&format!("\"{secret}\""));
        mounted.then(|| {
            format!(
                "2026/11/25 [emerg] 1#1: bad\nnginx: [emerg] cannot load key \"/run/secrets/{secret}\": no start line"
            )
        })
    });
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_no_key_is_found_out_and_its_generation_held() {
    // Alone, and with an image that is not to blame.
    for image in ["nginx:1.28", "nginx:1.30"] {
        let (mut bench, app, demo) = Bench::serving(checking()).await;
        let tasks = bench.tasks();
        let (good, bad) = (bench.secret("good"), bench.secret("bad"));
        refuse(&bench, "bad");
        bench.image(image).await;
        let shop = target("shop", &[("demo", &app), ("shop", &app)]);
        let wanted = sealed(&shop, &[&good, &bad], "k /run/secrets/good;\nk /run/secrets/bad;\n");
        bench.aim(&wanted);
        bench.until("it is held", |bench| bench.live().2 == 1).await;
        let [hold] = &bench.holds()[..] else { panic!() };
        assert_eq!(hold.reason, "nginx refused the files: cannot load key \"/run/secrets/bad\": no start line");
        assert!(bad.is_named_in(&hold.reason) && !good.is_named_in(&hold.reason));
        assert_eq!(hold.generation, wanted.bundle.generation());
        assert_eq!((bench.service_writes(), bench.tasks()), (0, tasks));
        bench.passes_for(secs(120)).await;
        assert_eq!((bench.checks(), bench.service_writes()), (1, 0));
        assert_eq!(bench.live().0, demo.bundle.generation());

        // What the reconciler makes of it.
        bench.aim(&sealed(&shop, &[&good], "k /run/secrets/good;\n"));
        bench.until_in_step().await;
        assert_eq!((bench.checks(), bench.service_writes()), (2, 1));
        assert_eq!(bench.spec().await["TaskTemplate"]["ContainerSpec"]["Image"], image);
        assert_eq!(bench.swarm.service_names(), [PROXY]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_generation_with_a_bad_secret_is_held_before_there_is_a_proxy() {
    for restart in [false, true] {
        let mut bench = Bench::with(Swarm::new(), checking());
        let app = bench.swarm.create_network("app").unwrap();
        let (good, bad) = (bench.secret("good"), bench.secret("bad"));
        refuse(&bench, "bad");
        let both = target("first", &[("demo", &app), ("shop", &app)]);
        bench.aim(&sealed(&both, &[&good, &bad], "k /run/secrets/good;\nk /run/secrets/bad;\n"));
        bench.until("it is held", |bench| bench.holds().len() == 1).await;
        if restart {
            bench.restart();
        }
        bench.passes_for(secs(60)).await;
        assert_eq!((bench.checks(), bench.service_writes()), (1, 0), "it is not checked again and again");
        assert!(matches!(bench.status().phase, Phase::Held { .. }), "{:?}", bench.status());
        assert_eq!(bench.holds()[0].fragments.len(), 2);
        let smaller = sealed(&target("smaller", &[("demo", &app)]), &[&good], "k /run/secrets/good;\n");
        bench.aim(&smaller);
        bench.until_in_step().await;
        assert_eq!(bench.live(), (smaller.bundle.generation(), smaller.bundle.generation(), 1));
        assert_eq!((bench.checks(), bench.service_writes()), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn proxies_that_were_removed_come_back_without_a_check_of_what_worked() {
    let (mut bench, _, demo) = Bench::serving(checking()).await;
    let key = bench.secret("key");
    bench.aim(&sealed(&demo, &[&key], "k /run/secrets/key;\n"));
    bench.until_in_step().await;
    bench.swarm.clear_calls();
    bench.swarm.remove_service(PROXY).unwrap();
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn words_that_cannot_be_read_change_no_verdict() {
    for fault in [
        Fault::on(Verb::TaskLog).fail(Class::Unavailable),
        Fault::on(Verb::TaskLog).hang(),
        Fault::on(Verb::TaskLog).nothing(),
    ] {
        let (mut bench, ..) = Bench::serving(checking()).await;
        bench.break_on("broken");
        bench.swarm.inject(fault);
        bench.image("nginx:broken").await;
        let started = tokio::time::Instant::now();
        bench.until("it is held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
        assert!(started.elapsed() < secs(6), "{:?}", started.elapsed());
        let Phase::Held { reason, .. } = bench.status().phase else { panic!() };
        assert_eq!(reason, "the check of the files failed: task: non-zero exit (1)");
        assert_eq!(bench.service_writes(), 0);
    }
}

// === Checks that come to no end ===

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_move_is_gone_without() {
    // Its image is slow to come; no address, no node.
    type Slow = fn(&mut embedded::Timing);
    let cases: [(Slow, u64); 2] =
        [(|timing| timing.prepare = secs(3600), 60), (|timing| timing.allocate = secs(3600), 15)];
    for (slow, limit) in cases {
        let (mut bench, ..) = Bench::serving(checking()).await;
        let timing = embedded::Timing::default();
        bench.swarm.set_timing(slow);
        bench.image("nginx:1.30").await;
        let started = tokio::time::Instant::now();
        bench.until("it is written", |bench| bench.service_writes() == 1).await;
        let took = started.elapsed();
        assert!(took > secs(limit) && took < secs(limit + 3), "{took:?}");
        assert!(!bench.has_check(), "it is removed");
        assert_eq!(bench.counters().checks(Verdict::Skipped), 1, "told once");
        bench.swarm.set_timing(|now| *now = timing);
        let unchecked = bench.status().unchecked.expect("status says it");
        assert!(unchecked.starts_with(&format!("no progress for {limit} s: its task")), "{unchecked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_stopped_from_outside_is_gone_without() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.image("nginx:1.30").await;
    bench.swarm.set_timing(|timing| timing.end = secs(3600));
    bench.until_checking().await;
    bench.passes_for(secs(5)).await;
    bench.swarm.scale(CHECK, 0).unwrap();
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY]);
}

/// Calls that are about a check.
fn of_the_check(call: &Call) -> bool {
    match call {
        Call::CreateService { spec, .. } => spec["Name"] == CHECK,
        Call::RawService(name) => name == CHECK,
        _ => false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_allows_no_check_gets_its_rollouts_at_once() {
    // It may not be created; it may not even be looked for.
    for reads in [false, true] {
        let (mut bench, app, demo) = Bench::serving(checking()).await;
        let key = bench.secret("key");
        let refuses = move |call: &Call| of_the_check(call) && (reads || call.is_write());
        bench.swarm.inject(Fault::when(refuses).fail(Class::Refused));
        bench.image("nginx:1.30").await;
        let started = tokio::time::Instant::now();
        bench.until("it is written", |bench| bench.service_writes() == 1).await;
        assert!(started.elapsed() < secs(2), "{:?}", started.elapsed());
        bench.until_in_step().await;
        assert_eq!(bench.status().unchecked.as_deref(), Some("the Engine refuses the check: injected"));
        assert_eq!(bench.status().trouble, None, "nobody has to do anything");
        assert_eq!(bench.checks(), 1, "tried once for each rollout");
        bench.aim(&sealed(&target("keys", &[("demo", &app), ("shop", &app)]), &[&key], "k /run/secrets/key;\n"));
        bench.until("it is written", |bench| bench.service_writes() == 2).await;
        assert_eq!((bench.checks(), bench.counters().checks(Verdict::Skipped)), (2, 2));
        drop(demo);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_create_a_check_keeps_nothing_for_ever() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.swarm.inject(Fault::when(|call| of_the_check(call) && call.is_write()).fail(Class::Unavailable));
    bench.image("nginx:1.30").await;
    let started = tokio::time::Instant::now();
    bench.until("it is written", |bench| bench.service_writes() == 1).await;
    assert!(started.elapsed() < secs(20), "{:?}", started.elapsed());
    let unchecked = bench.status().unchecked.unwrap();
    assert!(unchecked.starts_with("it was not started for"), "{unchecked}");
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_checks_name_that_is_not_ours_is_left_alone() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.swarm.service(CHECK).create().unwrap();
    let foreign = bench.swarm.raw(CHECK).unwrap();
    bench.image("nginx:1.30").await;
    bench.until_in_step().await;
    assert_eq!(bench.writes(), [Verb::UpdateService]);
    assert_eq!(
        bench.status().unchecked.as_deref(),
        Some("the service dovetail-check-main-web exists and is no check of ours")
    );
    bench.passes_for(secs(60)).await;
    assert_eq!(bench.swarm.raw(CHECK).unwrap().spec, foreign.spec);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_removed_keeps_nobody_from_anything() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    let refused = bench.swarm.inject(Fault::on(Verb::RemoveService).fail(Class::Refused));
    bench.image("nginx:1.30").await;
    bench.until_in_step().await;
    bench.passes_for(secs(60)).await;
    assert_eq!(refused.hits(), 1, "it is not tried again");
    assert!(bench.has_check());
    // The next one has no place, but for a fresh process, which tries to remove it once.
    bench.image("nginx:1.31").await;
    bench.until_in_step().await;
    assert_eq!((refused.hits(), bench.checks(), bench.service_writes()), (2, 1, 2));
    assert_eq!(bench.status().unchecked.as_deref(), Some("the check before cannot be removed"));
    refused.lift();
    bench.restart();
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY], "left-overs go when they can");
}

// === In the middle ===

#[tokio::test(start_paused = true)]
async fn a_fresh_process_goes_on_with_the_check_that_it_finds() {
    for (broken, passes) in [(false, 1), (false, 3), (true, 1), (true, 3)] {
        let (mut bench, ..) = Bench::serving(checking()).await;
        let image = if broken { "nginx:broken" } else { "nginx:1.30" };
        bench.break_on("broken");
        bench.image(image).await;
        bench.until_checking().await;
        for _ in 1..passes {
            bench.pass().await;
        }
        bench.restart();
        let over = |bench: &Bench| bench.is_in_step() || matches!(bench.status().phase, Phase::Held { .. });
        bench.until("it is decided", over).await;
        bench.passes_for(secs(60)).await;
        assert_eq!((bench.checks(), bench.service_writes()), (1, usize::from(!broken)), "{broken} {passes}");
        assert_eq!(bench.swarm.service_names(), [PROXY]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_nobody_wants_any_more_is_removed_by_a_fresh_process() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.image("nginx:1.30").await;
    bench.until_checking().await;
    bench.settings.checks.policy = CheckPolicy::Never;
    bench.image("nginx:1.28").await;
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY]);
    assert_eq!(bench.service_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newer_target_takes_the_place_of_the_check() {
    let (mut bench, app, demo) = Bench::serving(checking()).await;
    let (one, two) = (bench.secret("one"), bench.secret("two"));
    bench.aim(&sealed(&demo, &[&one], "k /run/secrets/one;\n"));
    bench.until_checking().await;
    let first = bench.swarm.raw(CHECK).unwrap().id;
    let last = sealed(&target("more", &[("demo", &app), ("shop", &app)]), &[&one, &two], "k /run/secrets/two;\n");
    bench.aim(&last);
    bench.until("the check is another", |bench| bench.swarm.raw(CHECK).is_some_and(|check| check.id != first)).await;
    assert_eq!(bench.service_writes(), 0, "what was superseded is not rolled out");
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (2, 1));
    assert_eq!(bench.live().0, last.bundle.generation());
    assert_eq!(bench.swarm.service_names(), [PROXY]);

    // And one that needs no check is not kept waiting.
    bench.swarm.clear_calls();
    bench.aim(&sealed(&demo, &[&two], "k /run/secrets/two;\n"));
    bench.until_checking().await;
    bench.aim(&target("without", &[("demo", &app), ("more", &app)]));
    bench.pass().await;
    assert_eq!(bench.service_writes(), 1);
    bench.until_in_step().await;
    assert_eq!(bench.swarm.service_names(), [PROXY]);
    assert_eq!(
        bench.swarm.configs(&bench.settings.instance).await.unwrap().len(),
        5,
        "of the one between nothing is left"
    );
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_is_checked_too() {
    let (mut bench, _, demo) = Bench::serving(checking()).await;
    let key = bench.secret("key");
    bench.aim(&sealed(&demo, &[&key], "k /run/secrets/key;\n"));
    bench.until_checking().await;
    bench.swarm.update_image(PROXY, "nginx:edited").unwrap();
    bench.until_in_step().await;
    let images: Vec<Value> = bench
        .written_specs()
        .filter(|spec| spec["Name"] == CHECK)
        .map(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"].clone())
        .collect();
    assert_eq!(images, ["nginx:1.28", "nginx:edited"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_needs_no_second_check() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    let faster = |swarm: &Swarm| swarm.set_label(PROXY, "com.example.race", "won").unwrap();
    bench.swarm.inject(Fault::on(Verb::UpdateService).once().first(faster));
    bench.image("nginx:1.30").await;
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (1, 2), "the conflict, and the update");
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_the_middle_stops_everything_but_the_check_itself() {
    for broken in [false, true] {
        let (mut bench, _, demo) = Bench::serving(checking()).await;
        bench.break_on("broken");
        bench.image(if broken { "nginx:broken" } else { "nginx:1.30" }).await;
        bench.until_checking().await;
        bench.pause("wait").await;
        bench.passes_for(secs(200)).await;
        assert_eq!(bench.writes(), [], "{broken}");
        assert!(bench.has_check());
        let waits = bench.plan(&demo).await.waiting.len();
        assert_eq!(waits, 2, "the update or the hold, and the removal");
        bench.resume().await;
        bench.passes_for(secs(60)).await;
        assert_eq!((bench.checks(), bench.service_writes()), (0, usize::from(!broken)));
        assert_eq!(matches!(bench.status().phase, Phase::Held { .. }), broken);
        assert_eq!(bench.swarm.service_names(), [PROXY]);
    }
    // Paused before: none is started, and its time does not run.
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.pause("wait").await;
    bench.image("nginx:1.30").await;
    bench.passes_for(secs(600)).await;
    assert_eq!(bench.writes(), []);
    bench.resume().await;
    bench.until_in_step().await;
    assert_eq!((bench.checks(), bench.service_writes()), (1, 1));
    assert_eq!(bench.status().unchecked, None);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_operator_checks_nothing() {
    let (mut bench, ..) = Bench::serving(checking()).await;
    bench.swarm.service_update_raw(PROXY, |spec| Fence::new(secs(9), 1).leave_on(spec)).unwrap();
    bench.settings.operator = Some(Fence::new(secs(1), 1));
    bench.image("nginx:1.30").await;
    // Whoever was started first finds the fence only after its own first look.
    bench.swarm.service_update_raw(PROXY, |spec| Fence::new(secs(99), 1).leave_on(spec)).unwrap();
    bench.passes_for(secs(120)).await;
    assert_eq!(bench.writes(), []);
    assert!(matches!(bench.status().phase, Phase::Fenced { .. }), "{:?}", bench.status());
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_lead_to_one_rollout_and_no_left_over() {
    for verb in [Verb::CreateService, Verb::UpdateService, Verb::RemoveService, Verb::CreateConfig, Verb::LabelConfig] {
        for broken in [false, true] {
            let (mut bench, app, _) = Bench::serving(checking()).await;
            let key = bench.secret("key");
            bench.break_on("broken");
            let lost = bench.swarm.inject(Fault::on(verb).once().unanswered());
            let name = if broken { "broken" } else { "shop" };
            let wanted = target("keys", &[("demo", &app), (name, &app)]);
            bench.aim(&sealed(&wanted, &[&key], "k /run/secrets/key;\n"));
            let over = |bench: &Bench| bench.is_in_step() || matches!(bench.status().phase, Phase::Held { .. });
            bench.pass().await;
            bench.until("it is decided", over).await;
            bench.passes_for(secs(60)).await;
            assert_eq!(bench.service_writes(), usize::from(!broken), "{verb:?} {broken}");
            assert_eq!(bench.swarm.service_names(), [PROXY], "{verb:?} {broken}");
            let never = if broken { verb == Verb::UpdateService } else { verb == Verb::LabelConfig };
            assert_eq!(lost.hits(), u64::from(!never), "{verb:?} {broken}");
        }
    }
}

// === Notes that cannot be made ===

#[tokio::test(start_paused = true)]
async fn a_hold_that_cannot_be_written_does_not_keep_the_last_good_from_coming_back() {
    let (mut bench, app, demo) = Bench::serving_demo().await;
    let mut pause = bench.settings.clone();
    pause.proxy.update.failure_action = crate::settings::FailureAction::Pause;
    bench.settings = pause;
    bench.restart();
    bench.until_in_step().await;
    bench.swarm.clear_calls();
    bench.break_on("broken");
    let refused = bench.swarm.inject(Fault::on(Verb::LabelConfig).fail(Class::Refused));
    bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
    bench.until("the last good is written", |bench| bench.service_writes() == 2).await;
    bench.passes_for(secs(120)).await;
    assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 1));
    assert!(matches!(bench.status().phase, Phase::Held { .. }), "{:?}", bench.status());
    assert_eq!((bench.service_writes(), refused.hits()), (2, 1), "it is remembered without");
    let verbs = bench.writes();
    let label = verbs.iter().position(|verb| *verb == Verb::LabelConfig).unwrap();
    assert_eq!(verbs[label + 1], Verb::UpdateService, "in the same pass");
    assert_eq!(bench.swarm.running_tasks(PROXY).len(), 2);

    // With the rights the second failure is written down, and what was remembered does not stand in its way.
    refused.lift();
    bench.until("it is tried again", |bench| bench.service_writes() == 3).await;
    bench.until("it is held again", |bench| bench.status().holds.first().is_some_and(|hold| hold.attempts == 2)).await;
    bench.passes_for(secs(60)).await;
    let configs = bench.swarm.configs(&bench.settings.instance).await.unwrap();
    let attempts: Vec<&String> = configs.iter().filter_map(|config| config.labels.get(labels::HELD_ATTEMPTS)).collect();
    assert_eq!(attempts, ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_written_is_an_error() {
    let (mut bench, app, _) = Bench::serving_demo().await;
    bench.break_on("broken");
    bench.aim(&target("bad", &[("broken", &app), ("demo", &app)]));
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    bench.swarm.inject(Fault::on(Verb::LabelConfig).fail(Class::Refused));
    let inventory = inspect(&bench.swarm, &bench.settings).await.unwrap();
    let steps = orders::release(&inventory, &bench.settings, crate::moment::Clock::start().now());
    let executed = crate::execute(&bench.swarm, &steps, None, &Counters::default()).await;
    assert_eq!(executed.error.map(|error| error.class), Some(Class::Refused));
}

#[test]
fn the_name_of_a_check_fits_and_tells_clusters_apart() {
    let longest = "abcdefghijklmnop";
    let mut settings = settings();
    settings.instance = InstanceName::parse(longest).unwrap();
    settings.cluster = ClusterName::parse(longest).unwrap();
    assert!(check::service_name(&settings).len() <= 63);
    assert_eq!(check::service_name(&checking()), CHECK);
}
