use dovetail_embedded::Swarm;
use std::time::{Duration, Instant};
#[tokio::test(start_paused = true)]
async fn perf() {
    let swarm = Swarm::new();
    for n in 0..10 { swarm.create_network_sized(&format!("n{n}"), 16).unwrap(); }
    for n in 0..9 { swarm.add_node(&format!("x{n}")).unwrap(); }
    let t = Instant::now();
    for n in 0..10_000 { swarm.service(&format!("s{n}")).network(&format!("n{}", n % 10)).replicas(2).create().unwrap(); }
    eprintln!("create {:?}", t.elapsed());
    assert!(swarm.settled(Duration::from_secs(100)).await);
    eprintln!("settled {:?}", t.elapsed());
    let t = Instant::now();
    use swarm::Read;
    swarm.services().await.unwrap();
    eprintln!("list {:?}", t.elapsed());
    assert_eq!(swarm.tasks(swarm::TasksOf::All).await.unwrap().len(), 20000);
    eprintln!("list {:?}", t.elapsed());
}
