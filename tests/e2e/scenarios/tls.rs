//! TLS with real clients: openssl says which certificate is shown, curl makes the requests.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::time::Instant;

use crate::support::tls::{self, Certificate, path};
use crate::support::wait::{self, SECOND};
use crate::support::world::World;

/// T3, T16, T19 to T22: a stack with its own secrets, SNI, wildcard, passthrough, client certificates, redirects.
pub async fn every_kind(world: &mut World) -> Result<()> {
    world.nginx_settings = format!("      dynamic_modules: [{STREAM_MODULE}]\n");
    // Keys and certificates are read, and workers get their user, with these alone.
    world.start_operator_with("      cap_drop: [ALL]\n      cap_add: [CHOWN, SETGID, SETUID]\n").await?;
    few_capabilities(world).await?;
    world.network("demo").await?;
    let nodes = nodes(world);
    let node = nodes[0].clone();
    let directory = world.directory().to_owned();
    let app = Certificate::make(&directory, "app.example.org", &["app.example.org"]).await?;
    let wildcard = Certificate::make(&directory, "wild.example.org", &["*.wild.example.org"]).await?;
    let own = Certificate::make(&directory, "own.example.org", &["own.example.org"]).await?;
    let authority = Certificate::make(&directory, "authority", &["authority"]).await?;
    let (client, stranger) = (authority.sign(&directory, "client").await?, own.sign(&directory, "stranger").await?);

    // T19 and T3: the stack of the documents; its secrets are named with the stack's prefix.
    let stack = directory.join("stack.yml");
    std::fs::write(&stack, stack_file(&world.demo_image(), &app))?;
    world.docker.run(&["stack", "deploy", "-c", path(&stack), "demo"]).await?;
    for (name, certificate) in [("app", &app), ("wild", &wildcard), ("own", &own), ("authority", &authority)] {
        secret(world, &format!("{name}.cert"), &certificate.certificate).await?;
        secret(world, &format!("{name}.key"), &certificate.key).await?;
    }
    let https_only = "http://only.example.org,https://only.example.org:8443";
    for (name, hosts, secret, more) in [
        // T16.
        ("https", "only.example.org", "app", &[("redirects", https_only)][..]),
        ("ssl-only", "strict.example.org", "app", &[("ssl_only", "true"), ("hsts", "600")]),
        ("wild", "*.wild.example.org", "wild", &[]),
        // T22.
        ("mutual", "mutual.example.org", "app", &[("client_ca_cert", "authority.cert")]),
    ] {
        let (certificate, key) = (format!("{secret}.cert"), format!("{secret}.key"));
        let tls = [("ssl_cert", certificate.as_str()), ("ssl_key", key.as_str())];
        let label = |(name, value): &(&str, &str)| format!(" --label com.docker.lb.{name}={value}");
        world.serve(name, hosts, &tls.iter().chain(more).map(label).collect::<String>()).await?;
    }
    passthrough(world, "own", "own.example.org", &own).await?;
    wait::until("every name shows its certificate", 120 * SECOND, || async {
        for (name, expect) in [
            ("app.example.org", "app.example.org"),
            ("only.example.org", "app.example.org"),
            ("strict.example.org", "app.example.org"),
            ("any.wild.example.org", "*.wild.example.org"),
            ("mutual.example.org", "app.example.org"),
            ("own.example.org", "own.example.org"),
        ] {
            let shown = tls::subject(&node, Some(name)).await?;
            ensure!(shown.as_deref().is_some_and(|shown| shown.ends_with(expect)), "{name} shows {shown:?}");
        }
        Ok(())
    })
    .await?;
    world.settled(60 * SECOND).await?;

    let answer = tls::get(&nodes, "app.example.org", "/ping", &[]).await?;
    ensure!(answer.status == 200 && !answer.header("x-upstream-addr").is_empty(), "T19: {answer:?}");
    let answer = world.get("app.example.org", "/ping").await?;
    ensure!(answer.status == 200, "T19: plain HTTP is served too: {answer:?}");
    let answer = tls::get(&nodes, "app.example.org", "/headers", &[]).await?;
    ensure!(answer.json()["x-forwarded-proto"][0] == "https", "T19: the application knows that it was TLS: {answer:?}");

    let answer = world.get("only.example.org", "/a?b=c").await?;
    ensure!(
        answer.status == 302 && answer.header("location") == "https://only.example.org:8443/a?b=c",
        "T16: {answer:?}"
    );
    ensure!(tls::get(&nodes, "only.example.org", "/ping", &[]).await?.status == 200, "T16: https is served");
    let answer = world.get("strict.example.org", "/a?b=c").await?;
    ensure!(
        answer.status == 307 && answer.header("location") == "https://strict.example.org:8443/a?b=c",
        "ssl_only: {answer:?}"
    );
    let answer = tls::get(&nodes, "strict.example.org", "/ping", &[]).await?;
    ensure!(answer.header("strict-transport-security") == "max-age=600", "hsts: {answer:?}");

    let answer = tls::get(&nodes, "own.example.org", "/ping", &[]).await?;
    ensure!(
        answer.status == 200 && answer.header("x-upstream-addr").is_empty(),
        "T20: the proxy adds nothing: {answer:?}"
    );
    ensure!(answer.json()["request_id"] == "", "T20: nor to the request: {answer:?}");
    for name in [None, Some("unheard-of.example.org")] {
        let shown = tls::subject(&node, name).await?;
        ensure!(shown.is_none(), "T21: {name:?} is refused, not shown {shown:?}");
    }

    let answer = tls::get(&nodes, "mutual.example.org", "/ping", &[]).await?;
    ensure!(answer.status == 400, "T22: without a client's certificate: {answer:?}");
    for (who, expect) in [(&client, 200), (&stranger, 400)] {
        let with = ["--cert", path(&who.certificate), "--key", path(&who.key)];
        let answer = tls::get(&nodes, "mutual.example.org", "/ping", &with).await?;
        ensure!(answer.status == expect, "T22: {:?} gets {expect}: {answer:?}", who.certificate);
    }
    ensure!(world.get("mutual.example.org", "/ping").await?.status == 307, "T22: plain HTTP is no way round");
    bad_secrets(world, &nodes, &own, &app).await
}

/// The bits of CHOWN, SETGID and SETUID: 0, 6 and 7.
const FEW: &str = "CapEff:\t00000000000000c1";

/// The proxy's master process has what the settings leave it.
async fn few_capabilities(world: &World) -> Result<()> {
    let container = world.container("dovetail-proxy").await?;
    let status = world.docker.run(&["exec", &container, "cat", "/proc/1/status"]).await?;
    ensure!(status.lines().any(|line| line == FEW), "the proxy has other capabilities: {status}");
    Ok(())
}

/// A secret that is not there, and one with a wrong key: only their services suffer.
async fn bad_secrets(world: &mut World, nodes: &[String], own: &Certificate, app: &Certificate) -> Result<()> {
    let proxies = world.docker.task_ids("dovetail-proxy").await?;
    let late = "--label com.docker.lb.ssl_cert=late.cert --label com.docker.lb.ssl_key=late.key";
    world.serve("late", "late.example.org", late).await?;
    wait::until("explain names the missing secret", 20 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["explain", "late"]).await?;
        if text.contains("late.cert") && text.contains("unknown_secret") || text.contains("there is") {
            Ok(())
        } else {
            bail!("{text}")
        }
    })
    .await?;
    ensure!(world.docker.task_ids("dovetail-proxy").await? == proxies, "a missing secret touches no proxy");
    let started = Instant::now();
    secret(world, "late.cert", &own.certificate).await?;
    secret(world, "late.key", &own.key).await?;
    wait::until("it is picked up", 60 * SECOND, || async {
        let answer = tls::get(nodes, "late.example.org", "/ping", &[]).await?;
        if answer.status == 200 { Ok(()) } else { bail!("{}", answer.status) }
    })
    .await?;
    world.figure(format!("a secret that was missing appears -> https: {:.1} s", started.elapsed().as_secs_f64()));

    let load = world.load("app.example.org", Duration::from_millis(100));
    secret(world, "wrong.key", &app.key).await?;
    let wrong = "--label com.docker.lb.ssl_cert=own.cert --label com.docker.lb.ssl_key=wrong.key";
    world.serve("wrong", "wrong.example.org", wrong).await?;
    wait::until("the wrong key is held", 120 * SECOND, || async {
        let (_, text, _) = world.operator().command(&["explain", "wrong"]).await?;
        if text.contains("quarantined") { Ok(()) } else { bail!("{text}") }
    })
    .await?;
    let started = Instant::now();
    world.serve("healthy", "healthy.example.org", "").await?;
    world.routed("healthy.example.org", 60 * SECOND).await?;
    world.figure(format!(
        "beside a wrong key, a healthy service is routed after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    let counts = load.stop().await;
    world.figure(format!("a wrong key, one proxy on a host port: {counts}"));
    ensure!(tls::get(nodes, "app.example.org", "/ping", &[]).await?.status == 200, "the others are served");
    Ok(())
}

/// A certificate is rotated by a new secret's name in the label: one rollout, and no request fails where there are
/// several nodes to choose from.
pub async fn rotation(world: &mut World) -> Result<()> {
    world.start_operator().await?;
    world.network("demo").await?;
    let nodes = nodes(world);
    let directory = world.directory().to_owned();
    for name in ["one", "two"] {
        let certificate = Certificate::make(&directory, name, &[name]).await?;
        secret(world, &format!("{name}.cert"), &certificate.certificate).await?;
        secret(world, &format!("{name}.key"), &certificate.key).await?;
    }
    let tls = "--replicas 2 --label com.docker.lb.ssl_cert=one.cert --label com.docker.lb.ssl_key=one.key";
    world.serve("demo", "demo.local", tls).await?;
    let shown = |expect: &'static str| {
        let nodes = nodes.clone();
        async move {
            wait::until(&format!("every node shows {expect}"), 90 * SECOND, || async {
                for node in &nodes {
                    let shown = tls::subject(node, Some("demo.local")).await?;
                    ensure!(shown.as_deref().is_some_and(|shown| shown.ends_with(expect)), "{node} shows {shown:?}");
                }
                Ok(())
            })
            .await
        }
    };
    shown("one").await?;
    world.settled(60 * SECOND).await?;
    let before = world.docker.version("dovetail-proxy").await?;
    let requests = tokio::spawn({
        let nodes = nodes.clone();
        async move {
            let (mut sent, mut failed) = (0_u32, Vec::new());
            let end = Instant::now() + 30 * SECOND;
            while Instant::now() < end {
                sent += 1;
                match tls::get(&nodes, "demo.local", "/ping", &[]).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failed.push(answer.status.to_string()),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            (sent, failed)
        }
    });
    world
        .docker
        .line(
            "service update --detach --label-add com.docker.lb.ssl_cert=two.cert --label-add com.docker.lb.ssl_key=two.key demo",
        )
        .await?;
    shown("two").await?;
    world.settled(60 * SECOND).await?;
    let (sent, failed) = requests.await?;
    world
        .figure(format!("a certificate rotated on 3 nodes: {sent} https requests, {} failed {failed:?}", failed.len()));
    ensure!(failed.is_empty(), "no request fails: {failed:?}");
    let rollouts = world.operator().metric("dovetail_rollouts_total", &["completed", "kind=\"service\""]).await?;
    ensure!(
        world.docker.version("dovetail-proxy").await? > before && rollouts >= 1.0,
        "it was one rollout: {rollouts}"
    );
    Ok(())
}

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn nodes(world: &World) -> Vec<String> {
    world.http.iter().map(|address| address.split(':').next().unwrap_or_default().to_owned()).collect()
}

async fn secret(world: &World, name: &str, file: &Path) -> Result<()> {
    world.docker.run(&["secret", "create", name, path(file)]).await.map(|_| ())
}

/// T20: the application has the certificate; its labels are the documents' own.
async fn passthrough(world: &World, name: &str, host: &str, certificate: &Certificate) -> Result<()> {
    secret(world, "passed.cert", &certificate.certificate).await?;
    secret(world, "passed.key", &certificate.key).await?;
    let image = world.demo_image();
    world
        .docker
        .line(&format!(
            "service create --name {name} --network demo --detach --secret source=passed.cert,target=/run/secrets/cert.pem \
             --secret source=passed.key,target=/run/secrets/key.pem --label com.docker.lb.hosts={host} \
             --label com.docker.lb.port=8080 --label com.docker.lb.ssl_passthrough=true --label com.docker.lb.network=demo \
             {image} --tls-cert=/run/secrets/cert.pem --tls-key=/run/secrets/key.pem"
        ))
        .await
        .map(|_| ())
}

fn stack_file(image: &str, certificate: &Certificate) -> String {
    format!(
        r#"version: "3.8"
services:
  demo:
    image: {image}
    deploy:
      replicas: 1
      labels:
        com.docker.lb.hosts: app.example.org
        com.docker.lb.network: demo_demo-network
        com.docker.lb.port: 8080
        com.docker.lb.ssl_cert: demo_app.example.org.cert
        com.docker.lb.ssl_key: demo_app.example.org.key
    environment:
      METADATA: proxy-handles-tls
    networks: [demo-network]
networks:
  demo-network:
    driver: overlay
secrets:
  app.example.org.cert:
    file: {}
  app.example.org.key:
    file: {}
"#,
        certificate.certificate.display(),
        certificate.key.display(),
    )
}
