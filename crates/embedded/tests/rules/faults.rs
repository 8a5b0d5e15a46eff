use embedded::{Call, Fault, Swarm, Verb};
use swarm::{Class, NewConfig, Read, TasksOf, Write};
use tokio::time::{Instant, timeout};

use crate::{SECOND, class, demo, tasks_of};

fn config(name: &str) -> NewConfig {
    NewConfig { name: name.into(), labels: Default::default(), data: b"x".as_slice().into() }
}

#[tokio::test(start_paused = true)]
async fn a_fault_hits_the_calls_it_names_as_often_as_it_says() {
    let swarm = demo();
    let fault = swarm.inject(Fault::on(Verb::Services).skip(1).times(2).fail(Class::Unavailable));
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(class(swarm.services().await));
    }
    assert_eq!(answers, [None, Some(Class::Unavailable), Some(Class::Unavailable), None]);
    assert_eq!(fault.hits(), 2);
    assert!(swarm.identity().await.is_ok());

    let web = swarm.service("web").create().unwrap();
    let one = TasksOf::Service(web.clone());
    let hit = one.clone();
    let fault = swarm.inject(Fault::when(move |call| *call == Call::Tasks(hit.clone())).fail(Class::Unreachable));
    assert_eq!(class(swarm.tasks(one.clone()).await), Some(Class::Unreachable));
    assert!(swarm.tasks(tasks_of([web])).await.is_ok());
    fault.lift();
    assert!(swarm.tasks(one).await.is_ok());
    swarm.inject(Fault::every_call().fail(Class::Malformed));
    assert_eq!(class(swarm.identity().await), Some(Class::Malformed));
    swarm.clear_faults();
    assert!(swarm.identity().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_write_happens_and_a_failed_one_does_not() {
    let swarm = demo();
    swarm.inject(Fault::every_write().once().fail(Class::Unreachable));
    assert_eq!(class(swarm.create_config(&config("a")).await), Some(Class::Unreachable));
    assert!(swarm.all_configs().is_empty());
    swarm.inject(Fault::every_write().once().unanswered());
    assert_eq!(class(swarm.create_config(&config("a")).await), Some(Class::Unreachable));
    assert_eq!(swarm.all_configs().len(), 1);
    assert_eq!(class(swarm.create_config(&config("a")).await), Some(Class::Conflict));
}

#[tokio::test(start_paused = true)]
async fn calls_hang_dawdle_and_answer_with_nothing() {
    let swarm = demo();
    swarm.inject(Fault::on(Verb::Services).once().hang());
    assert!(timeout(3600 * SECOND, swarm.services()).await.is_err());

    // Slow: the state at the end counts. Late: the state at the beginning.
    for (fault, services) in
        [(Fault::on(Verb::Services).slow(2 * SECOND), 1), (Fault::on(Verb::Services).late(2 * SECOND), 1)]
    {
        swarm.inject(fault.once());
        let (other, started) = (swarm.clone(), Instant::now());
        let (answer, ()) = tokio::join!(swarm.services(), async {
            tokio::time::sleep(SECOND).await;
            let name = format!("s{}", other.service_names().len());
            other.service(&name).create().unwrap();
        });
        assert_eq!(answer.unwrap().len(), services);
        assert_eq!(started.elapsed(), 2 * SECOND);
    }

    swarm.inject(Fault::every_call().times(3).nothing());
    assert_eq!(swarm.network("demo").await, Ok(None));
    assert_eq!(swarm.services().await, Ok(Vec::new()));
    assert!(swarm.identity().await.is_ok(), "it cannot be empty");
    assert!(swarm.network("demo").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn somebody_can_be_faster() {
    let swarm = demo();
    let web = swarm.service("web").create().unwrap();
    let read = swarm.raw("web").unwrap();
    swarm.inject(Fault::on(Verb::UpdateService).once().first(|swarm| swarm.set_label("web", "a", "b").unwrap()));
    assert_eq!(class(swarm.update_service(&web, read.version, &read.spec, None).await), Some(Class::Conflict));
    assert_eq!(swarm.service_named("web").unwrap().labels["a"], "b");
}

#[tokio::test(start_paused = true)]
async fn a_down_engine_answers_nobody_and_the_cluster_goes_on() {
    let swarm = demo();
    swarm.service("web").network("demo").create().unwrap();
    swarm.engine_down();
    assert_eq!(class(swarm.services().await), Some(Class::Unreachable));
    assert_eq!(class(swarm.create_config(&config("a")).await), Some(Class::Unreachable));
    swarm.eventually("the task runs", |swarm| swarm.running_tasks("web").len() == 1).await;
    swarm.engine_up();
    assert_eq!(swarm.services().await.unwrap().len(), 1);
    assert!(swarm.all_configs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_journal_holds_calls_and_not_what_people_do() {
    let swarm = demo();
    swarm.service("web").create().unwrap();
    swarm.inject(Fault::on(Verb::CreateConfig).skip(1).once().fail(Class::Unavailable));
    swarm.services().await.unwrap();
    swarm.create_config(&config("a")).await.unwrap();
    swarm.create_config(&config("b")).await.unwrap_err();
    assert_eq!(swarm.calls(), [Call::Services, Call::CreateConfig(config("a")), Call::CreateConfig(config("b")),]);
    assert_eq!(swarm.writes().len(), 2);
    let answers: Vec<_> = swarm.journal().into_iter().map(|entry| entry.answer).collect();
    assert_eq!(answers, [Some(Ok(())), Some(Ok(())), Some(Err(Class::Unavailable))]);
    swarm.clear_calls();
    assert_eq!(Swarm::calls(&swarm), []);
}
