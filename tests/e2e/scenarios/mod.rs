//! The scenarios, in the order in which they run.

mod beside;
mod checks;
mod cluster;
mod clusters;
mod contract;
mod deployment;
mod faults;
mod founding;
mod hands;
mod interlock;
mod ipvs;
mod life;
mod networks;
mod operators;
mod problems;
mod rollouts;
mod scale;
mod task_mode;
mod tls;
mod troubles;
mod vip_mode;

use super::support::runner::{Scenario, Suite};

macro_rules! scenarios {
    ($($name:literal in $suite:ident on $nodes:literal => $path:path $(, shows $($number:literal)*)?;)*) => {
        vec![$(Scenario {
            name: $name,
            suite: Suite::$suite,
            nodes: $nodes,
            shows: &[$($($number),*)?],
            run: |world| Box::pin($path(world)),
        },)*]
    };
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    scenarios![
        "founding-default-backend" in Core on 1 => founding::default_backend;
        "founding-demo" in Core on 1 => founding::demo, shows 1;
        "task-scale" in Core on 1 => task_mode::scale, shows 2;
        "task-canary" in Core on 1 => task_mode::canary, shows 7;
        "task-websocket-and-headers" in Core on 1 => task_mode::websocket_and_headers, shows 13;
        "task-crash-loop" in Core on 1 => task_mode::crash_loop;
        "vip-short-circuit" in Core on 1 => vip_mode::short_circuit, shows 10;
        "vip-edges" in Core on 1 => vip_mode::edges, shows 10;
        "vip-and-task-on-one-host" in Core on 1 => vip_mode::mixed_host;
        "problems-stay-with-their-service" in Core on 1 => problems::stay_with_their_service;
        "problems-permissions" in Core on 1 => problems::permissions;
        "stack-rm" in Core on 1 => life::stack_rm, shows 29;
        "operator-killed" in Core on 1 => life::operator_killed;
        "engine-api-gone" in Core on 1 => life::api_gone;
        "engine-restarted" in Core on 1 => life::engine_restarted;
        "hands-edits-are-kept" in Core on 1 => hands::edits_are_kept;
        "hands-pinned" in Core on 1 => hands::pinned, shows 31;
        "hands-removed-service" in Core on 1 => hands::removed_service;
        "hands-rollback-is-held-to" in Core on 1 => hands::rollback_is_held_to;
        "hands-pause-and-resume" in Core on 1 => hands::pause_and_resume;
        "beside-interlock" in Core on 1 => beside::interlock;
        "deploy-and-undeploy" in Core on 1 => deployment::deploy_and_undeploy;
        "deploy-bad-config" in Core on 1 => deployment::bad_config, shows 30;
        "deploy-over-tls" in Core on 1 => deployment::deploy_over_tls;
        "interlock-over-http" in Core on 1 => interlock::over_http, shows 1 3 4 5 6 11 12 14 15 17 18 32 34 35;
        "tls" in Core on 1 => tls::every_kind, shows 3 16 19 20 21 22;
        "rollout-of-two-proxies" in Core on 1 => rollouts::of_two_proxies;
        "hands-more-replicas-than-fit" in Core on 1 => hands::more_replicas_than_fit;
        "operators-two" in Core on 1 => operators::two;
        "operators-manifest-from-the-future" in Core on 1 => operators::manifest_from_the_future;
        "operators-upgraded-and-back" in Core on 1 => operators::upgraded_and_back;
        "contract-embedded-and-real" in Core on 1 => contract::embedded_and_real;
        "deploy-through-ucp" in Core on 1 => deployment::deploy_through_ucp;
        "ipvs-four-tasks" in Vip on 1 => ipvs::four_tasks, shows 8;
        "ipvs-canary" in Vip on 1 => ipvs::canary, shows 9;
        "ipvs-steady" in Vip on 1 => ipvs::steady, shows 10 27;
        "ipvs-edges" in Vip on 1 => vip_mode::edges_with_traffic, shows 10;
        "ipvs-routing-mesh" in Vip on 1 => ipvs::routing_mesh;
        "ipvs-idle-connections" in Vip on 1 => ipvs::idle_connections;
        "interlock-clusters" in Core on 3 => clusters::east_and_west, shows 23 24 28;
        "interlock-host-mode" in Core on 3 => interlock::host_mode, shows 25;
        "interlock-hitless" in Core on 3 => interlock::hitless, shows 26 27 33;
        "tls-rotation" in Core on 3 => tls::rotation;
        "network-full" in Core on 3 => networks::full;
        "rollout-held" in Core on 3 => rollouts::held;
        "rollout-bad-images" in Core on 3 => rollouts::bad_images;
        "checks-of-images" in Core on 3 => checks::images;
        "checks-of-raw-lines" in Core on 3 => checks::raw_lines;
        "trouble-late-exit" in Cluster on 3 => troubles::late_exit;
        "trouble-edited-on-the-way" in Cluster on 3 => troubles::edited_on_the_way;
        "trouble-paused-by-swarm" in Cluster on 3 => troubles::paused_by_swarm;
        "trouble-node-drained" in Cluster on 3 => troubles::node_drained;
        "trouble-port-taken" in Cluster on 3 => troubles::port_taken;
        "trouble-another-port" in Cluster on 3 => troubles::another_port;
        "cluster-fifty-networks" in Cluster on 3 => cluster::fifty_networks;
        "cluster-leader-and-operator-lost" in Cluster on 3 => cluster::leader_and_operator_lost;
        "cluster-node-cut-off" in Cluster on 3 => cluster::node_cut_off;
        "cluster-engine-api-troubles" in Cluster on 3 => cluster::api_troubles;
        "cluster-faults-under-load" in Cluster on 3 => faults::under_load;
        "scale-ten-thousand-services" in Scale on 1 => scale::ten_thousand;
        "checks-of-secrets" in Core on 3 => checks::secrets;
    ]
}
