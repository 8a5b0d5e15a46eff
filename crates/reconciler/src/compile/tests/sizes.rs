//! What is too large, and who pays for it.

use serde_json::json;

use super::*;
use crate::bundle::target;
use crate::sample::options;

/// A service at a path of a host, created so much later than others.
fn at_path(name: &str, age: i64, tasks: u32) -> Service {
    let addresses: Vec<String> = (0..tasks).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    with(tasks_service(name, "busy.local", "n1", &addresses), |service| {
        service.created_at = Timestamp(age);
        request(service).options = options(json!({"context_root": format!("/{name}")}));
    })
}

/// Whom these are not served besides, where this is live: refused for their size.
fn refused(services: &[Service], published: &BTreeMap<ClusterName, Published>) -> (Vec<String>, Published) {
    let compiled = compile(&desired(services.to_vec()), published, &settings());
    let spec = &compiled.specs[&main_cluster()];
    assert_eq!(check(spec), Ok(()));
    let too_large = |about: &ServiceReport| about.problems.iter().any(|problem| problem.code == Code::TooLarge);
    let refused = compiled.report.services.iter().filter(|(_, about)| too_large(about));
    let refused: Vec<String> = refused.map(|(id, _)| id.to_string()).collect();
    assert_eq!(refused.len() + spec.contributions.len(), services.len(), "all others are served");
    let served: Vec<(&str, Contribution)> =
        spec.contributions.iter().map(|(id, from)| (id.as_str(), Contribution::clone(from))).collect();
    (refused, live(&served, vec![]).remove(&main_cluster()).unwrap())
}

/// Who is refused, which nothing but a change may change: what comes of it is rolled out, and looked at again.
fn refused_for_good(services: &[Service], published: Published) -> (Vec<String>, Published) {
    let (first, published) = refused(services, &BTreeMap::from([(main_cluster(), published)]));
    let (again, published) = refused(services, &BTreeMap::from([(main_cluster(), published)]));
    assert_eq!(first, again, "once rolled out, the same are refused");
    (first, published)
}

#[test]
fn two_hundred_services_with_a_path_share_a_host() {
    let services: Vec<Service> = (0..200).map(|n| at_path(&format!("app-{n}"), n, 3)).collect();
    assert_eq!(refused_for_good(&services, Published::Nothing).0, [""; 0]);
}

#[test]
fn whoever_comes_to_a_full_host_is_refused_and_whoever_is_live_stays() {
    // Eight of these fit.
    let mut services: Vec<Service> = (0..8).map(|n| at_path(&format!("live-{n}"), n, 1800 + n as u32)).collect();
    let (out, published) = refused_for_good(&services, Published::Nothing);
    assert_eq!(out, [""; 0]);
    // Two that are smaller than those and older, and one that fits beside them.
    services.extend([at_path("late", -1, 1500), at_path("later", -2, 1600), at_path("tiny", 9, 1)]);
    let (out, published) = refused_for_good(&services, published);
    assert_eq!(out, ["late", "later"]);
    // One that grows pays for itself, and leaves room for one who waits.
    services[0] = at_path("live-0", 0, 3000);
    assert_eq!(refused_for_good(&services, published).0, ["later", "live-0"]);
    // Where nothing is live the largest are refused.
    assert_eq!(refused_for_good(&services, Published::Nothing).0, ["live-0", "live-7"]);
}

#[test]
fn a_host_that_two_can_share_and_not_three_is_for_the_oldest_of_those_alike() {
    let services: Vec<Service> = [3, 1, 2].map(|age| at_path(&format!("age-{age}"), age, 6000)).to_vec();
    assert_eq!(refused_for_good(&services, Published::Nothing).0, ["age-3"]);
}

fn hosts(numbers: impl Iterator<Item = u32>) -> String {
    numbers.map(|n| format!("{n}.local")).collect::<Vec<_>>().join(",")
}

/// Names that have one hash to nginx.
fn alike(count: u32) -> String {
    let word = |n: u32| (0..11).map(|bit| if n >> bit & 1 == 0 { "an" } else { "c0" }).collect::<String>();
    (0..count).map(word).collect::<Vec<_>>().join(",")
}

#[test]
fn names_that_nginx_cannot_hold_beside_each_other_are_refused_and_others_with_that_hash_stay() {
    let few = vip_service("few", "anananananananananc0c0,c0c0c0c0c0c0c0c0c0c0c0", "n1", "10.0.0.9");
    let many = with(vip_service("many", &alike(2048), "n1", "10.0.0.8"), |service| service.created_at = Timestamp(-1));
    let other = vip_service("other", "other.local", "n1", "10.0.0.7");
    let services = [few, many, other];
    assert_eq!(refused_for_good(&services, Published::Nothing).0, ["many"]);
    let (_, published) = refused_for_good(&services[..1], Published::Nothing);
    assert_eq!(refused_for_good(&services, published).0, ["many"]);
    let stars =
        with(vip_service("stars", &format!("*.{}", alike(2048).replace(',', ".x.local,*.")), "n1", "10.0.0.8"), |_| {});
    assert_eq!(refused_for_good(&[stars], Published::Nothing).0, ["stars"]);
}

fn tasks(name: &str, hosts: &str, count: u32) -> Service {
    let addresses: Vec<String> = (0..count).map(|n| std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string()).collect();
    tasks_service(name, hosts, "n1", &addresses.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_service_whose_hosts_would_each_hold_all_of_its_text_is_refused_alone() {
    let networks: Vec<String> = (0..650).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let to_itself = |n: u32| (format!("{n}.local"), format!("https://{n}.local"));
    let redirects: BTreeMap<String, String> = (0..4000).map(to_itself).collect();
    let said = json!({"host": {"redirects": redirects}, "route": {"allow": networks}});
    let services = [
        with(vip_service("everywhere", &hosts(0..4000), "n1", "10.0.0.9"), |s| request(s).options = options(said)),
        tasks("beside", "7.local,8.local", 1),
        tasks("elsewhere", "elsewhere.local", 1),
        // Many hosts that are answered alike are no matter.
        tasks("large", &hosts(10_000..11_000), 500),
    ];
    assert_eq!(refused_for_good(&services, Published::Nothing).0, ["everywhere"]);
    let compiled = compile(&desired(services), &nothing_published(), &settings());
    let about = &compiled.report.services[&ServiceId::new("everywhere")];
    insta::assert_snapshot!(about.problems[0], @"with it the hosts of the service everywhere are in 4000 groups, each answered in its own way, and its text in all of them takes 75868000 bytes of the proxy's files (allowed: 4194304 bytes for one service)");
    let files = nginx::render(&compiled.specs[&main_cluster()], &nginx::Settings::default());
    assert!(files.values().map(String::len).sum::<usize>() < nginx::SERVICE_LIMIT);
}

#[test]
fn whoever_splits_the_hosts_of_a_live_service_pays_for_it() {
    let mut services = vec![tasks("live", &hosts(0..1024), 1000)];
    let (out, published) = refused_for_good(&services, Published::Nothing);
    assert_eq!(out, [""; 0]);
    // The hosts of each of these are another half, so that each makes two groups of one.
    let on_half = |bit: u32| {
        let half = hosts((0..1024).filter(|n| n >> bit & 1 == 1));
        with(tasks(&format!("half-{bit}"), &half, 1), |service| service.created_at = Timestamp(bit.into()))
    };
    services.extend((0..10).map(on_half));
    assert_eq!(refused_for_good(&services, published).0, ["half-7", "half-8", "half-9"]);
}

/// Everything that is written for the proxies and their manifest fits into config objects; returns who is published.
fn published_within_objects(services: Vec<Service>) -> Vec<String> {
    let desired = desired(services);
    let compiled = compile(&desired, &nothing_published(), &settings());
    let spec = &compiled.specs[&main_cluster()];
    let bundle = target(spec, &nginx::Settings::default(), &compiled.report, &desired, None).expect("a lawful spec");
    let parts = bundle.manifest.write();
    let sizes = bundle.files.values().map(|file| file.content.len()).chain(parts.values().map(Vec::len));
    // What Swarm takes on older engines.
    sizes.for_each(|size| assert!(size < 500 * 1024, "{size}"));
    bundle.manifest.services.keys().map(ServiceId::to_string).collect()
}

#[test]
fn a_service_too_large_for_a_manifest_is_refused_and_its_neighbours_are_published() {
    let to = format!("https://{0}.{0}.{0}.{1}:65535/{2}", "h".repeat(63), "h".repeat(61), "p".repeat(254));
    let redirecting = |name: &str, count: u32| {
        let redirects: BTreeMap<String, &String> = (0..count).map(|n| (format!("{n}.local"), &to)).collect();
        let said = options(json!({"host": {"redirects": redirects}}));
        with(vip_service(name, &hosts(0..count), "n1", "10.0.0.9"), |service| request(service).options = said)
    };
    let services = vec![
        redirecting("large", 700),
        redirecting("too-large", 950),
        vip_service("small", "7.local", "n1", "10.0.0.8"),
    ];
    assert_eq!(published_within_objects(services), ["large", "small"]);
}
