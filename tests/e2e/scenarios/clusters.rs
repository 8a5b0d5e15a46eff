//! Several clusters of proxies from one operator.

use anyhow::{Result, bail, ensure};

use crate::support::load;
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// T23, T24, T28: two clusters on nodes and networks of their own; what changes in one never touches the other.
pub async fn east_and_west(world: &mut World) -> Result<()> {
    let names = world.docker.run(&["node", "ls", "--format", "{{.Hostname}}"]).await?;
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    for network in ["eastnet", "westnet", "nowhere"] {
        world.network(network).await?;
    }
    let cluster = |name: &str, node: &str| {
        world.cluster(
            name,
            &format!("    service_cluster: {name}\n    networks: [{name}net]\n"),
            &format!(
                "      name: proxy-{name}\n      publish_mode: host\n      ports:\n        http: 80\n      constraints: [node.hostname=={node}]\n"
            ),
        )
    };
    world.clusters = Some(cluster("east", names[0]) + &cluster("west", names[1]));
    world.start_operator().await?;
    let image = world.demo_image();
    for (name, side) in [("A", "east"), ("B", "west")] {
        world
            .docker
            .line(&format!(
                "service create --name demo{side} --network {side}net --detach --label com.docker.lb.hosts=demo.{name} \
                 --label com.docker.lb.port=8080 --label com.docker.lb.service_cluster={side} {image}"
            ))
            .await?;
    }
    let (east, west) = (world.http[0].clone(), world.http[1].clone());
    for (address, host, expect) in
        [(&east, "demo.A", 200), (&west, "demo.B", 200), (&east, "demo.B", 503), (&west, "demo.A", 503)]
    {
        wait::until(&format!("T23: {host} at {address} is answered {expect}"), 90 * SECOND, || async {
            let answer = load::get(address, host, "/ping").await?;
            if answer.status == expect { Ok(()) } else { bail!("{}", answer.status) }
        })
        .await?;
    }
    wait::until("both clusters are at rest", 60 * SECOND, || async {
        let plan = world.operator().json(&["plan"]).await?;
        let quiet = plan["clusters"].as_array().is_some_and(|clusters| {
            clusters.len() == 2 && clusters.iter().all(|cluster| cluster["steps"].as_array().is_some_and(Vec::is_empty))
        });
        ensure!(quiet, "{plan}");
        for proxies in ["proxy-east", "proxy-west"] {
            // Swarm itself moves a service's version until its rollout has ended.
            let state = world.docker.service(proxies).await?["UpdateStatus"]["State"].clone();
            ensure!(state != "updating", "{proxies} is updating");
        }
        Ok(())
    })
    .await?;

    // T28: a service on a network that is not on the list.
    let (east_before, west_before) =
        (world.docker.version("proxy-east").await?, world.docker.version("proxy-west").await?);
    world
        .docker
        .line(&format!(
            "service create --name lost --network nowhere --detach --label com.docker.lb.hosts=lost.local \
             --label com.docker.lb.port=8080 --label com.docker.lb.service_cluster=west {image}"
        ))
        .await?;
    wait::until("T28: explain says that the network is not on the list", 30 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["explain", "lost"]).await?;
        if text.contains("westnet") { Ok(()) } else { bail!("{text}") }
    })
    .await?;

    // T24: a change in the east.
    world.docker.line("service update --detach --label-add com.docker.lb.hosts=demo.A,more.A demoeast").await?;
    wait::until("T24: the new host is served in the east", 60 * SECOND, || async {
        let answer = load::get(&east, "more.A", "/ping").await?;
        if answer.status == 200 { Ok(()) } else { bail!("{}", answer.status) }
    })
    .await?;
    ensure!(world.docker.version("proxy-east").await? > east_before, "the east was updated");
    ensure!(world.docker.version("proxy-west").await? == west_before, "T24, T28: the west was not");
    Ok(())
}
