//! Which image a tag means, and who may pull it.

use embedded::{Fault, Verb};
use swarm::Class;

use super::*;

fn image(spec: &Value) -> String {
    spec["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_image_is_pinned_to_its_digest_and_a_tag_that_moves_is_not_noticed() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    swarm.push_image("nginx:1.28", "sha256:one");
    let mut bench = Bench::with(swarm, settings());
    bench.aim(&target("first", &[("demo", &app)]));
    bench.until_in_step().await;
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:one");
    bench.swarm.push_image("nginx:1.28", "sha256:two");
    bench.swarm.clear_calls();
    bench.restart();
    bench.passes_for(secs(900)).await;
    assert_eq!(bench.writes(), []);
    assert!(bench.swarm.calls().iter().all(|call| call.verb() != Verb::ResolveImage), "nobody asks");
    // Routes change under the same image.
    bench.aim(&target("second", &[("demo", &app), ("shop", &app)]));
    bench.until_in_step().await;
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:one");

    // Another tag is another image; what fails is taken back to the very digest that worked.
    bench.swarm.push_image("nginx:broken", "sha256:three");
    bench.break_on("broken");
    bench.settings.proxy.image = "nginx:broken".into();
    bench.restart();
    bench.until("it is held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    bench.passes_for(secs(60)).await;
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:one");
    bench.aim(&target("third", &[("demo", &app), ("more", &app)]));
    bench.passes_for(secs(60)).await;
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:one");
    bench.swarm.push_image("nginx:1.30", "sha256:four");
    bench.settings.proxy.image = "nginx:1.30".into();
    bench.restart();
    bench.until_in_step().await;
    assert_eq!(image(&bench.spec().await), "nginx:1.30@sha256:four");
}

#[tokio::test(start_paused = true)]
async fn a_followed_tag_is_rolled_out_when_it_moves_and_held_when_it_is_bad() {
    let swarm = Swarm::new();
    let app = swarm.create_network("app").unwrap();
    swarm.push_image("nginx:1.28", "sha256:one");
    let mut follow = settings();
    follow.proxy.image_policy = crate::settings::ImagePolicy::Follow;
    let mut bench = Bench::with(swarm, follow);
    bench.aim(&target("first", &[("demo", &app)]));
    bench.until_in_step().await;
    bench.swarm.push_image("nginx:1.28", "sha256:two");
    bench.passes_for(secs(330)).await;
    assert!(bench.is_in_step());
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:two");
    assert_eq!(bench.service_writes(), 2);

    let gone = bench.swarm.inject(Fault::on(Verb::ResolveImage).fail(Class::Unavailable));
    bench.passes_for(secs(700)).await;
    bench.restart();
    bench.passes_for(secs(700)).await;
    gone.lift();
    assert_eq!(bench.service_writes(), 2, "a registry that is away changes nothing");

    bench.break_on("sha256:bad");
    bench.swarm.push_image("nginx:1.28", "sha256:bad");
    bench.until("it is held", |bench| matches!(bench.status().phase, Phase::Held { .. })).await;
    bench.passes_for(secs(60)).await;
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:two");
    let shop = target("shop", &[("demo", &app), ("shop", &app)]);
    bench.aim(&shop);
    bench.until("routes go on", |bench| bench.live().1 == shop.bundle.generation()).await;
    bench.swarm.push_image("nginx:1.28", "sha256:good");
    bench.passes_for(secs(400)).await;
    assert!(bench.is_in_step());
    assert_eq!(image(&bench.spec().await), "nginx:1.28@sha256:good");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_answer_stops_nobody() {
    for fault in [Fault::on(Verb::ResolveImage).hang(), Fault::on(Verb::ResolveImage).fail(Class::Unavailable)] {
        let mut bench = Bench::new();
        bench.swarm.inject(fault);
        bench.aim(&target("first", &[]));
        let started = tokio::time::Instant::now();
        bench.until_in_step().await;
        assert!(started.elapsed() < secs(40), "{:?}", started.elapsed());
        assert_eq!(image(&bench.spec().await), "nginx:1.28");
        let asked = bench.swarm.calls().iter().filter(|call| call.verb() == Verb::ResolveImage).count();
        assert_eq!(asked, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_go_to_the_registry_and_with_every_write_and_are_never_shown() {
    let swarm = Swarm::new();
    let mut settings = settings();
    settings.registry_auth = Some(swarm::RegistryAuth::new("c2VjcmV0".into()));
    assert!(!format!("{settings:?}").contains("c2VjcmV0"));
    let mut bench = Bench::with(swarm, settings);
    bench.aim(&target("first", &[]));
    bench.until_in_step().await;
    for call in bench.swarm.calls() {
        match call {
            Call::ResolveImage { auth, .. } | Call::CreateService { auth, .. } => assert!(auth),
            _ => {}
        }
    }
}
