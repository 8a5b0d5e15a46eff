use model::{Code, Service, Verdict};

use super::*;
use crate::sample::{desired, main_cluster, settings, tasks_service, vip_service};

struct World {
    reconciler: Reconciler,
    desired: watch::Sender<Option<Arc<Desired>>>,
    published: watch::Sender<Option<Published>>,
    target: watch::Receiver<Option<Arc<Target>>>,
    report: watch::Receiver<Option<Arc<Report>>>,
    counters: Arc<Counters>,
}

fn world() -> World {
    let (desired, desired_receiver) = watch::channel(None);
    let (published, published_receiver) = watch::channel(None);
    let (target_sender, target) = watch::channel(None);
    let (report_sender, report) = watch::channel(None);
    let counters = Arc::new(Counters::default());
    let reconciler = Reconciler::new(
        settings(),
        desired_receiver,
        BTreeMap::from([(main_cluster(), published_receiver)]),
        BTreeMap::from([(main_cluster(), target_sender)]),
        report_sender,
        Arc::clone(&counters),
    );
    World { reconciler, desired, published, target, report, counters }
}

impl World {
    fn ask(&self, services: Vec<Service>) {
        self.desired.send_replace(Some(Arc::new(desired(services))));
    }

    async fn pass(&mut self) {
        let Ok(next) = self.reconciler.pass().await;
        assert_eq!(next, Next::Woken);
    }

    fn target(&self) -> Option<Arc<Target>> {
        self.target.borrow().clone()
    }

    fn retargeted(&mut self) -> bool {
        let changed = self.target.has_changed().unwrap();
        self.target.mark_unchanged();
        changed
    }
}

fn demo() -> Service {
    vip_service("demo", "demo.local", "n1", "10.0.0.9")
}

#[tokio::test]
async fn nothing_is_aimed_at_before_everything_is_read() {
    let mut world = world();
    world.pass().await;
    assert_eq!(*world.report.borrow(), None);
    world.ask(vec![demo()]);
    world.pass().await;
    assert_eq!(world.target(), None);
    let verdict = world.report.borrow().as_ref().unwrap().services[&ServiceId::new("demo")].verdict.clone();
    assert!(matches!(verdict, Verdict::Waiting { .. }), "{verdict:?}");
    world.published.send_replace(Some(Published::Nothing));
    world.pass().await;
    let target = world.target().expect("a target");
    assert_eq!(target.bundle.manifest.reason, "the first generation: 1 service published");
    assert_eq!(target.bundle.manifest.services[&ServiceId::new("demo")].reason, "a task has run");
}

#[tokio::test]
async fn a_target_is_sent_only_when_the_generation_differs() {
    let mut world = world();
    world.published.send_replace(Some(Published::Nothing));
    world.ask(vec![demo()]);
    world.pass().await;
    assert!(world.retargeted());
    world.pass().await;
    assert!(!world.retargeted());
    // It goes live.
    let manifest = Arc::clone(&world.target().unwrap().bundle.manifest);
    let live = Published::Live { manifest: Arc::clone(&manifest), last_good: manifest, holds: vec![] };
    world.published.send_replace(Some(live));
    world.pass().await;
    assert!(!world.retargeted());
    assert_eq!(world.counters.renders().0, 1);
    // Something changes.
    world.ask(vec![demo(), tasks_service("shop", "shop.local", "n1", &["10.0.0.3"])]);
    world.pass().await;
    assert!(world.retargeted());
    assert_eq!(world.target().unwrap().bundle.manifest.reason, "service shop published");
    assert_eq!(world.counters.targets(), 2);
    // What is live cannot be told any more: the target stays.
    world.published.send_replace(Some(Published::Unknown { reason: "damaged".into() }));
    world.ask(vec![]);
    world.pass().await;
    assert!(!world.retargeted());
}

#[tokio::test]
async fn a_restarted_reconciler_aims_at_what_is_live_if_nothing_changed() {
    let mut before = world();
    before.published.send_replace(Some(Published::Nothing));
    before.ask(vec![demo()]);
    before.pass().await;
    let manifest = Arc::clone(&before.target().unwrap().bundle.manifest);
    let mut after = world();
    let mut not_seen_running = demo();
    not_seen_running.backends = model::Backends::Vip {
        addresses: BTreeMap::from([("n1".into(), "10.0.0.9".parse().unwrap())]),
        has_run: false,
    };
    after.ask(vec![not_seen_running]);
    let live = Published::Live { manifest: Arc::clone(&manifest), last_good: Arc::clone(&manifest), holds: vec![] };
    after.published.send_replace(Some(live));
    after.pass().await;
    let again = after.target().unwrap();
    assert_eq!(again.bundle.generation(), manifest.generation);
    assert_eq!(again.bundle.manifest.services, manifest.services, "no new story about an old publication");
}

#[tokio::test]
async fn problems_are_counted_as_they_are_now() {
    let mut world = world();
    world.published.send_replace(Some(Published::Nothing));
    let mut lost = demo();
    lost.networks.clear();
    world.ask(vec![lost]);
    world.pass().await;
    assert_eq!(world.counters.problems(Code::NoNetwork), 1);
    world.ask(vec![demo()]);
    world.pass().await;
    assert_eq!(world.counters.problems(Code::NoNetwork), 0);
    assert_eq!(world.counters.violations(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_wakes_for_every_input_and_not_without_one() {
    let mut world = world();
    let soon = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(soon, world.reconciler.woken()).await.is_err());
    world.ask(vec![]);
    tokio::time::timeout(soon, world.reconciler.woken()).await.expect("what is asked for wakes it");
    world.published.send_replace(Some(Published::Nothing));
    tokio::time::timeout(soon, world.reconciler.woken()).await.expect("what is live wakes it");
    world.ask(vec![]);
    world.pass().await;
    assert!(tokio::time::timeout(soon, world.reconciler.woken()).await.is_err(), "the pass has seen it");
    drop(world.desired);
    drop(world.published);
    assert!(tokio::time::timeout(soon, world.reconciler.woken()).await.is_err(), "a closed input is no wake-up");
}
