//! What a plan says, as text.

use std::fmt::Write as _;

use super::checks::with_file;
use super::*;

/// The plan for people: its phase and its steps, without ids.
fn text(plan: &Plan) -> String {
    let mut text = format!("{}\n", serde_json::to_string(&plan.status.phase).unwrap());
    for step in &plan.steps {
        writeln!(text, "- {step}").unwrap();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn the_first_creation() {
    let bench = Bench::new();
    let app = bench.swarm.create_network("app").unwrap();
    let plan = bench.plan(&target("service demo published", &[("demo", &app)])).await;
    assert_eq!(plan.published, Published::Nothing);
    insta::assert_snapshot!(text(&plan));
}

#[tokio::test(start_paused = true)]
async fn a_changed_route() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&target("service demo published", &[("demo", &app)]));
    bench.until_in_step().await;
    insta::assert_snapshot!(text(
        &bench.plan(&target("service shop published", &[("demo", &app), ("shop", &app)])).await
    ));
}

#[tokio::test(start_paused = true)]
async fn networks_join_and_leave_with_their_routes() {
    let swarm = Swarm::new();
    let (app, shop) = (swarm.create_network("app").unwrap(), swarm.create_network("shop").unwrap());
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&target("service demo published", &[("demo", &app)]));
    bench.until_in_step().await;
    let joins = bench.plan(&target("network shop joined for shop", &[("demo", &app), ("shop", &shop)])).await;
    let moves = bench.plan(&target("service demo moved to shop", &[("demo", &shop)])).await;
    insta::assert_snapshot!(format!("{}{}", text(&joins), text(&moves)));
}

#[tokio::test(start_paused = true)]
async fn changed_settings() {
    let demo = target("nothing yet", &[]);
    let mut bench = Bench::in_step_with(&demo).await;
    bench.settings.proxy.image = "nginx:1.30".into();
    bench.settings.proxy.constraints.push("node.role==worker".into());
    insta::assert_snapshot!(text(&bench.plan(&demo).await));
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_is_an_empty_plan_even_for_another_reason() {
    let mut bench = Bench::in_step_with(&target("first", &[])).await;
    let plan = bench.plan(&target("said otherwise", &[])).await;
    assert_eq!(plan.steps, []);
    bench.aim(&target("said otherwise", &[]));
    bench.swarm.clear_calls();
    bench.passes_for(Duration::from_secs(30)).await;
    assert_eq!(bench.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_json() {
    let bench = Bench::new();
    let plan = serde_json::to_value(bench.plan(&target("first", &[])).await).unwrap();
    assert_eq!(plan["steps"][0]["step"], "create_config");
    assert_eq!(plan["steps"][3]["step"], "create_service");
    assert_eq!(plan["steps"][3]["spec"]["Name"], PROXY);
    assert_eq!(plan["status"]["phase"]["state"], "pending");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_brought_about_says_why_and_what_to_do() {
    let mut bench = Bench::new();
    bench.settings.proxy.networks = Some(BTreeSet::from(["edge".to_owned()]));
    let no_network = bench.plan(&target("first", &[])).await;
    let mut serving = Bench::in_step_with(&target("first", &[])).await;
    serving.settings.proxy.networks.clone_from(&bench.settings.proxy.networks);
    assert_eq!(text(&serving.plan(&target("first", &[])).await), text(&no_network), "the same where proxies serve");

    let config = swarm::NewConfig {
        name: format!("dovetail.main.web.{}", Digest::of(b"events {}\n").name()),
        labels: BTreeMap::from([
            (model::labels::INSTANCE.into(), "main".into()),
            (model::labels::CLUSTER.into(), "web".into()),
        ]),
        data: Arc::from(*b"other"),
    };
    let taken = Bench::new();
    taken.swarm.add_config(&config).unwrap();
    let taken = taken.plan(&target("first", &[])).await;

    let mut mode = Bench::in_step_with(&target("first", &[])).await;
    mode.settings.proxy.mode = crate::settings::Mode::Global;
    let mode = mode.plan(&target("first", &[])).await;

    for plan in [&no_network, &taken, &mode] {
        assert_eq!(plan.steps, []);
    }
    insta::assert_snapshot!([text(&no_network), text(&taken), text(&mode)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_no_config_can_hold_is_impossible_and_nothing_else_is_written() {
    let bench = Bench::new();
    for size in [0, swarm::limits::CONFIG_BYTES + 1] {
        let wanted = with_file(target("first", &[]), "/etc/nginx/routes.conf", &vec![b'#'; size]);
        let plan = bench.plan(&wanted).await;
        assert_eq!(plan.steps, []);
        let Phase::Impossible { reason, .. } = plan.status.phase else { panic!("{:?}", plan.status) };
        let expected = format!("the file /etc/nginx/routes.conf has {size} bytes, 1 to 511999 are possible");
        assert_eq!(reason, expected);
    }
}
