//! The embedded Swarm that most of the other tests stand on answers like the real engine: the same operations are
//! played on both at the same time, through the same port, and what each then shows is compared line by line.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use model::{ConfigId, ServiceId};
use serde_json::{Value, json};
use swarm::{NewConfig, RawService, TaskState, UpdateState};
use tokio::time::{Instant, sleep};

use crate::support::docker::Docker;
use crate::support::world::World;

const SERVICE: &str = "contract";

/// What is done to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Scale(u64),
    Image(Image),
    Label(u64),
    OnFailure(&'static str),
    Order(&'static str),
    /// `docker service rollback`.
    Rollback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    A,
    B,
    /// No registry has it.
    Missing,
}

/// So many operations that follow from the seed.
fn operations(mut seed: u64, count: usize) -> Vec<Operation> {
    let mut below = move |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    let mut operations = Vec::new();
    while operations.len() < count {
        operations.push(match below(9) {
            0 => Operation::Scale(1 + below(3)),
            1 => Operation::Label(below(3)),
            2 => Operation::OnFailure(["pause", "rollback"][below(2) as usize]),
            3 => Operation::Order(["start-first", "stop-first"][below(2) as usize]),
            4 => Operation::Rollback,
            5 | 6 => Operation::Image(Image::Missing),
            7 => Operation::Image(Image::A),
            _ => Operation::Image(Image::B),
        });
    }
    operations
}

/// One of the two, with what the port has no verb for.
struct Side<S> {
    swarm: S,
    images: [String; 3],
    hands: Hands,
}

/// How a person rolls a service back.
enum Hands {
    Docker(Docker),
    Embedded(embedded::Swarm),
}

impl Hands {
    async fn rollback(&self) -> String {
        let done = match self {
            Hands::Docker(docker) => docker.line(&format!("service rollback --detach {SERVICE}")).await.is_ok(),
            Hands::Embedded(swarm) => swarm.rollback_service(SERVICE).is_ok(),
        };
        if done { "done".into() } else { "refused".into() }
    }
}

impl<S: swarm::Write> Side<S> {
    fn image(&self, image: Image) -> Value {
        self.images[image as usize].as_str().into()
    }

    fn name_of(&self, spec: &Value) -> &'static str {
        let at = self.images.iter().position(|known| spec["ContainerSpec"]["Image"] == known.as_str());
        at.map_or("?", |at| ["a", "b", "missing"][at])
    }

    fn spec(&self) -> Value {
        let policy = json!({"Parallelism": 1, "Delay": 0, "Monitor": 1_000_000_000, "FailureAction": "pause",
                            "MaxFailureRatio": 0.0, "Order": "stop-first"});
        json!({
            "Name": SERVICE,
            "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {"Image": self.image(Image::A)},
                "RestartPolicy": {"Condition": "any", "Delay": 500_000_000, "MaxAttempts": 0},
            },
            "Mode": {"Replicated": {"Replicas": 2}},
            "UpdateConfig": policy,
            "RollbackConfig": policy,
        })
    }

    async fn service(&self) -> Result<RawService> {
        self.swarm.raw_service(SERVICE).await?.context("the service is there")
    }

    async fn update(&self, path: &[&str], value: Value) -> Result<String> {
        let RawService { id, version, spec, .. } = self.service().await?;
        Ok(class(self.swarm.update_service(&id, version, &with(&spec, path, value), None).await))
    }

    async fn operate(&self, operation: Operation) -> Result<String> {
        match operation {
            Operation::Scale(replicas) => self.update(&["Mode", "Replicated", "Replicas"], replicas.into()).await,
            Operation::Image(image) => {
                self.update(&["TaskTemplate", "ContainerSpec", "Image"], self.image(image)).await
            }
            Operation::Label(value) => self.update(&["Labels", "n"], value.to_string().into()).await,
            Operation::OnFailure(action) => self.update(&["UpdateConfig", "FailureAction"], action.into()).await,
            Operation::Order(order) => self.update(&["UpdateConfig", "Order"], order.into()).await,
            Operation::Rollback => Ok(self.hands.rollback().await),
        }
    }

    fn short(&self, spec: &Value) -> String {
        let field = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        format!(
            "{} of {}, n={}, {}, {}",
            spec["Mode"]["Replicated"]["Replicas"],
            self.name_of(&spec["TaskTemplate"]),
            field(&spec["Labels"]["n"]),
            field(&spec["UpdateConfig"]["FailureAction"]),
            field(&spec["UpdateConfig"]["Order"])
        )
    }

    /// What is to be seen: how the update stands, what runs, what is wanted, and what Swarm would go back to.
    async fn seen(&self) -> Result<Seen> {
        let service = self.service().await?;
        let mut running: BTreeMap<&str, u64> = BTreeMap::new();
        for task in self.swarm.task_history(&service.id).await? {
            if task.state == TaskState::Running && task.desired == swarm::DesiredState::Running {
                *running.entry(self.name_of(&task.spec)).or_default() += 1;
            }
        }
        let wanted = service.spec["Mode"]["Replicated"]["Replicas"].as_u64().context("it is replicated")?;
        let count: u64 = running.values().sum();
        Ok(Seen {
            update: service.update.as_ref().map(|update| update.state),
            whole: count == wanted,
            surplus: count > wanted,
            running: running.iter().map(|(image, count)| format!("{count} {image}")).collect(),
            spec: self.short(&service.spec),
            previous: service.previous_spec.as_ref().map(|spec| self.short(spec)),
        })
    }

    /// What is to be seen once no update is under way, all tasks run (unless Swarm gave up, or nobody has their image),
    /// and nothing has changed for 3 s, which is longer than any step of an update.
    async fn at_rest(&self) -> Result<Seen> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = self.seen().await?;
        let mut since = Instant::now();
        loop {
            let seen = self.seen().await?;
            let under_way = seen.update.is_some_and(UpdateState::is_under_way);
            let gave_up = matches!(seen.update, Some(UpdateState::Paused | UpdateState::RollbackPaused));
            let done = seen.whole || gave_up || seen.spec.contains("missing");
            if seen != last || under_way || !done {
                (last, since) = (seen, Instant::now());
            } else if since.elapsed() >= Duration::from_secs(3) {
                return Ok(seen);
            }
            if Instant::now() >= deadline {
                ensure!(!last.surplus, Surplus(last.to_string()));
                bail!("not at rest within 60 s: {last}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Plays it all, a line for each operation.
    async fn play(&self, operations: &[Operation]) -> Result<Vec<String>> {
        let mut lines = vec![format!("create: {}", class(self.swarm.create_service(&self.spec(), None).await))];
        lines.push(format!("  {}", self.at_rest().await?));
        for operation in operations {
            lines.push(format!("{operation:?}: {}", self.operate(*operation).await?));
            lines.push(format!("  {}", self.at_rest().await?));
        }
        lines.extend(self.refusals().await?);
        Ok(lines)
    }

    /// What must not work, and how it does not.
    async fn refusals(&self) -> Result<Vec<String>> {
        let swarm = &self.swarm;
        let RawService { id, version, spec, .. } = self.service().await?;
        let mut lines = Vec::new();
        for (what, name) in
            [("the same name", SERVICE.to_owned()), ("a dot", "a.b".into()), ("64 letters", letters(64))]
        {
            let answer = swarm.create_service(&with(&self.spec(), &["Name"], name.into()), None).await;
            lines.push(format!("a service with {what}: {}", class(answer)));
        }
        let nobody = ServiceId::new("nobody");
        let renamed = with(&spec, &["Name"], "another".into());
        let global = with(&spec, &["Mode"], json!({"Global": {}}));
        for (what, id, version, spec) in [
            ("of an old version", &id, version - 1, &spec),
            ("of nobody", &nobody, version, &spec),
            ("to another name", &id, version, &renamed),
            ("to another mode", &id, version, &global),
        ] {
            let answer = class(swarm.update_service(id, version, spec, None).await);
            lines.push(format!("an update {what}: {answer}"));
        }
        let used = swarm.create_config(&config("used", 1)).await?;
        for (what, config) in [
            ("the same name", config("used", 2)),
            ("64 letters", config(&letters(64), 1)),
            ("65 letters", config(&letters(65), 1)),
            ("a blank", config("a b", 1)),
            ("nothing in it", config("empty", 0)),
            ("too much in it", config("large", 1_024_000)),
        ] {
            lines.push(format!("a config with {what}: {}", class(swarm.create_config(&config).await)));
        }
        let nothing = ConfigId::new("nothing");
        for id in [&used, &nothing] {
            let file = json!({"Name": "/x", "UID": "0", "GID": "0", "Mode": 0o444});
            let mounted = json!([{"ConfigID": id, "ConfigName": "used", "File": file}]);
            let used = self.update(&["TaskTemplate", "ContainerSpec", "Configs"], mounted).await?;
            lines.push(format!("a config is used: {used}, removed: {}", class(swarm.remove_config(id).await)));
        }
        Ok(lines)
    }
}

fn with(spec: &Value, path: &[&str], value: Value) -> Value {
    let mut spec = spec.clone();
    let place = path.iter().fold(&mut spec, |place, key| &mut place[*key]);
    *place = value;
    spec
}

fn letters(count: usize) -> String {
    "x".repeat(count)
}

fn config(name: &str, bytes: usize) -> NewConfig {
    NewConfig { name: name.to_owned(), labels: BTreeMap::new(), data: vec![b'x'; bytes].into() }
}

#[derive(Clone, PartialEq)]
struct Seen {
    update: Option<UpdateState>,
    /// Whether as many tasks run as should.
    whole: bool,
    /// Whether more do.
    surplus: bool,
    running: Vec<String>,
    spec: String,
    previous: Option<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { update, running, spec, previous, whole: _, surplus: _ } = self;
        let previous = previous.as_deref().unwrap_or("nothing");
        write!(f, "{update:?}; {} run; {spec}; before: {previous}", running.join(" and "))
    }
}

/// Swarm keeps more tasks than are wanted, and does nothing about it: seen once on 20.10.24 (4 for 2 replicas, after a
/// start-first update back from an image that nobody has). The embedded Swarm does not have that race.
#[derive(Debug)]
struct Surplus(String);

impl fmt::Display for Surplus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after 60 s there are more tasks than are wanted: {}", self.0)
    }
}

impl std::error::Error for Surplus {}

fn class<T>(answer: swarm::Result<T>) -> String {
    answer.map_or_else(|error| error.class.as_str().to_owned(), |_| "done".to_owned())
}

/// Generated operations and everything that is refused, on both.
pub async fn embedded_and_real(world: &mut World) -> Result<()> {
    let demo = world.demo_image();
    let images = [demo.clone(), demo.replace(":0.1", ":0.2"), demo.replace(":0.1", ":no-such-version")];
    // This seed has updates that fail under both failure actions and in both orders, and rolls one of them back.
    let seed = std::env::var("CONTRACT_SEED").ok().map_or(Ok(854), |seed| seed.parse())?;
    let operations = operations(seed, 8);
    let endpoint = engine::Endpoint::parse(&format!("unix://{}", world.engine_socket().display()), None)?;
    let real = Side {
        swarm: engine::Engine::connect(&endpoint, engine::Settings::default())?,
        images: images.clone(),
        hands: Hands::Docker(world.docker.clone()),
    };
    let swarm = embedded::Swarm::new();
    swarm.set_config_limit(1_024_000);
    swarm.break_when(|task, _| {
        let image = task["ContainerSpec"]["Image"].as_str().unwrap_or_default();
        image.contains("no-such-version").then(|| "No such image".to_owned())
    });
    // An image that cannot be pulled never gets to running.
    swarm.set_timing(|timing| timing.fail = Duration::ZERO);
    let embedded = Side { hands: Hands::Embedded(swarm.clone()), swarm, images };
    let (mut on_real, on_embedded) = tokio::join!(real.play(&operations), embedded.play(&operations));
    if let Err(error) = &on_real
        && let Some(surplus) = error.downcast_ref::<Surplus>()
    {
        world.figure(format!("the real engine, at the first try: {surplus}"));
        world.docker.line(&format!("service rm {SERVICE}")).await?;
        on_real = real.play(&operations).await;
    }
    let (real, embedded) = (on_real.context("the real engine")?, on_embedded.context("the embedded Swarm")?);
    if let Some(at) = (0..real.len().max(embedded.len())).find(|at| real.get(*at) != embedded.get(*at)) {
        let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
        let before = real[..at].join("\n");
        return Err(anyhow!("{before}\nthe real engine: {}\nthe embedded:    {}", line(&real), line(&embedded)));
    }
    world.figure(format!("{} operations and {} answers are the same", operations.len(), real.len()));
    Ok(())
}
