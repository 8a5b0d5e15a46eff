//! Checks before rollouts: when there is one, what comes of it, and that nothing of it is left.

use embedded::{Fault, Verb};
use model::SecretMount;
use swarm::Class;

use super::*;
use crate::hold::Blame;
use crate::settings::{CheckPolicy, Checks};
use crate::status::Verdict;
use crate::{Step, check};

pub(super) const CHECK: &str = "dovetail-check-main-web";

pub(super) fn checks() -> Checks {
    Checks {
        policy: CheckPolicy::Auto,
        command: vec!["nginx".into(), "-t".into()],
        refusal: "nginx: [emerg] ".into(),
        beyond: "host not found".into(),
        vouched: "/etc/nginx/routes".into(),
    }
}

pub(super) fn checking() -> Settings {
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

pub(super) fn with_file(mut target: Target, path: &str, content: &[u8]) -> Target {
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
    pub(super) fn checks(&self) -> usize {
        self.written_specs().filter(|spec| spec["Name"] == CHECK).count()
    }

    pub(super) fn has_check(&self) -> bool {
        self.swarm.raw(CHECK).is_some()
    }

    pub(super) async fn until_checking(&mut self) {
        self.until("a check is there", Self::has_check).await;
    }

    /// A changed image, and the process that is started for it, after its first look.
    pub(super) async fn image(&mut self, image: &str) {
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
    let settings: [(&str, Change, bool); 15] = [
        ("image", |s| s.proxy.image = "nginx:1.30".into(), true),
        ("command", |s| s.proxy.command.push("-q".into()), true),
        ("env", |s| drop(s.proxy.env.insert("A".into(), "1".into())), true),
        ("sysctls", |s| s.proxy.sysctls.clear(), true),
        ("capabilities", |s| s.proxy.capability_drop = BTreeSet::from(["ALL".into()]), true),
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
    let shop = target("second", &[("demo", &app), ("a-shop-with-a-long-line-of-its-own", &app)]);
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
    let written = started.elapsed().as_millis() as u64;
    bench.until_in_step().await;
    let verbs = [Verb::CreateService, Verb::UpdateService, Verb::RemoveService];
    assert_eq!(bench.writes(), verbs, "the proxy is pointed to it before the check goes");
    assert_eq!(bench.counters().checks(Verdict::Passed), 1);
    let took = bench.counters().last_check_milliseconds.load(std::sync::atomic::Ordering::Relaxed);
    assert!((500..=written).contains(&took), "{took} ms of {written} ms");
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
async fn who_removes_the_proxies_overrules_a_rollback_by_hand() {
    let (mut bench, _, demo) = Bench::serving(checking()).await;
    let key = bench.secret("key");
    let second = sealed(&demo, &[&key], "k /run/secrets/key;\n");
    bench.aim(&second);
    bench.until_in_step().await;
    bench.swarm.rollback_service(PROXY).unwrap();
    bench.until("it is held", |bench| bench.live().2 == 1).await;
    bench.swarm.remove_service(PROXY).unwrap();
    bench.until_in_step().await;
    assert_eq!(bench.live(), (second.bundle.generation(), second.bundle.generation(), 0));
    assert_eq!(bench.checks(), 2, "what was held is checked before it is all that serves");
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

#[tokio::test(start_paused = true)]
async fn routes_that_change_all_the_time_keep_no_check_from_ending() {
    for broken in [false, true] {
        let (mut bench, app, demo) = Bench::serving(checking()).await;
        let key = bench.secret("key");
        if broken {
            refuse(&bench, "key");
        }
        let started = tokio::time::Instant::now();
        let over = |bench: &Bench| bench.service_writes() > 0 || !bench.holds().is_empty();
        for number in 0.. {
            let name = format!("shop-{number}");
            bench.aim(&sealed(&target("tasks", &[("demo", &app), (&name, &app)]), &[&key], "k /run/secrets/key;\n"));
            bench.passes_for(Duration::from_millis(400)).await;
            if over(&bench) {
                break;
            }
            assert!(started.elapsed() < secs(5), "{:?}", bench.status());
        }
        assert_eq!((bench.checks(), bench.service_writes()), (1, usize::from(!broken)));
        assert!(bench.swarm.all_configs().len() <= 9, "{}", bench.swarm.all_configs().len());
        if broken {
            assert_eq!(bench.live(), (demo.bundle.generation(), demo.bundle.generation(), 1));
            continue;
        }
        bench.until_in_step().await;
        assert_eq!(bench.swarm.all_configs().len(), 5, "of those between nothing is left");
    }
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

/// Everything is checked, and that takes five seconds.
async fn checking_everything() -> (Bench, NetworkId) {
    let mut always = checking();
    always.checks.policy = CheckPolicy::Always;
    let (bench, app, _) = Bench::serving(always).await;
    bench.swarm.set_timing(|timing| timing.prepare = secs(5));
    (bench, app)
}

/// Routes change every few seconds until the proxies are written; answers how long that took.
async fn changed_until_written(bench: &mut Bench, app: &NetworkId) -> Duration {
    let started = tokio::time::Instant::now();
    for number in 0.. {
        let name = format!("shop-{number}");
        bench.aim(&target("tasks", &[("demo", app), (&name, app)]));
        bench.passes_for(secs(2)).await;
        if bench.service_writes() > 0 {
            break;
        }
        assert!(started.elapsed() < bench.settings.rollout_deadline * 2, "{:?}", bench.status());
    }
    started.elapsed()
}

/// Routes that change faster than that would else be waited for by all others, for ever.
#[tokio::test(start_paused = true)]
async fn checks_that_are_overtaken_all_the_time_keep_nobody_waiting_for_longer_than_the_deadline() {
    let (mut bench, app) = checking_everything().await;
    let waited = changed_until_written(&mut bench, &app).await;
    let deadline = bench.settings.rollout_deadline;
    assert!((deadline..deadline + secs(10)).contains(&waited), "{waited:?}");
    assert_eq!(bench.counters().checks(Verdict::Skipped), 1);
    let unchecked = bench.status().unchecked.unwrap_or_default();
    assert!(unchecked.ends_with(" s each check was overtaken by a change"), "{unchecked}");
    let objects = bench.swarm.all_configs().len();
    assert!(objects <= 9, "what was to be checked is not left: {objects}");

    // With time to spare, all is checked again.
    bench.until_in_step().await;
    bench.aim(&target("calm", &[("demo", &app)]));
    bench.until_in_step().await;
    assert_eq!((bench.counters().checks(Verdict::Passed), bench.counters().checks(Verdict::Skipped)), (2, 1));
}

/// What nobody can vouch for is checked even then.
#[tokio::test(start_paused = true)]
async fn checks_that_are_overtaken_all_the_time_let_no_image_through() {
    let (mut bench, app) = checking_everything().await;
    bench.break_on("broken");
    bench.image("nginx:broken").await;
    changed_until_written(&mut bench, &app).await;
    let written: Vec<_> = bench.written_specs().filter(|spec| spec["Name"] == PROXY).collect();
    assert!(written.iter().all(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] == "nginx:1.28"), "{written:?}");
    assert!(
        matches!(bench.status().holds.first(), Some(held) if held.blame == Blame::Settings),
        "{:?}",
        bench.status()
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_that_a_node_refuses_is_tried_again_after_a_minute() {
    let (mut bench, _, demo) = Bench::serving(checking()).await;
    let key = bench.secret("key");
    bench.refuse_on("/run/secrets/key");
    bench.aim(&sealed(&demo, &[&key], "k /run/secrets/key;\n"));
    bench.until("it is held", |bench| !bench.holds().is_empty()).await;
    assert!(bench.holds()[0].reason.ends_with(NOT_ACTIVE), "{}", bench.holds()[0].reason);
    bench.swarm.break_nothing();
    bench.passes_for(secs(75)).await;
    assert!(bench.is_in_step(), "{:?}", bench.status());
}
