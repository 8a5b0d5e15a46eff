//! The scenarios, in the order in which they run.

mod beside;
mod checks;
mod clusters;
mod contract;
mod deployment;
mod founding;
mod hands;
mod interlock;
mod life;
mod operators;
mod problems;
mod rollouts;
mod task_mode;
mod tls;
mod troubles;
mod vip_mode;

use super::support::runner::Scenario;

macro_rules! scenarios {
    ($($name:literal on $nodes:literal => $path:path,)*) => {
        vec![$(Scenario { name: $name, nodes: $nodes, run: |world| Box::pin($path(world)) },)*]
    };
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    scenarios![
        "founding-default-backend" on 1 => founding::default_backend,
        "founding-demo" on 1 => founding::demo,
        "task-scale" on 1 => task_mode::scale,
        "task-canary" on 1 => task_mode::canary,
        "task-websocket-and-headers" on 1 => task_mode::websocket_and_headers,
        "vip-short-circuit" on 1 => vip_mode::short_circuit,
        "vip-edges" on 1 => vip_mode::edges,
        "vip-and-task-on-one-host" on 1 => vip_mode::mixed_host,
        "problems-stay-with-their-service" on 1 => problems::stay_with_their_service,
        "stack-rm" on 1 => life::stack_rm,
        "operator-killed" on 1 => life::operator_killed,
        "engine-api-gone" on 1 => life::api_gone,
        "engine-restarted" on 1 => life::engine_restarted,
        "hands-edits-are-kept" on 1 => hands::edits_are_kept,
        "hands-removed-service" on 1 => hands::removed_service,
        "hands-rollback-is-held-to" on 1 => hands::rollback_is_held_to,
        "hands-pause-and-resume" on 1 => hands::pause_and_resume,
        "beside-interlock" on 1 => beside::interlock,
        "deploy-and-undeploy" on 1 => deployment::deploy_and_undeploy,
        "deploy-over-tls" on 1 => deployment::deploy_over_tls,
        "interlock-over-http" on 1 => interlock::over_http,
        "tls" on 1 => tls::every_kind,
        "rollout-of-two-proxies" on 1 => rollouts::of_two_proxies,
        "hands-more-replicas-than-fit" on 1 => hands::more_replicas_than_fit,
        "operators-two" on 1 => operators::two,
        "operators-manifest-from-the-future" on 1 => operators::manifest_from_the_future,
        "contract-embedded-and-real" on 1 => contract::embedded_and_real,
        "deploy-through-ucp" on 1 => deployment::deploy_through_ucp,
        "interlock-clusters" on 3 => clusters::east_and_west,
        "tls-rotation" on 3 => tls::rotation,
        "rollout-held" on 3 => rollouts::held,
        "rollout-bad-images" on 3 => rollouts::bad_images,
        "checks-of-images" on 3 => checks::images,
        "checks-of-secrets" on 3 => checks::secrets,
        "trouble-late-exit" on 3 => troubles::late_exit,
        "trouble-edited-on-the-way" on 3 => troubles::edited_on_the_way,
        "trouble-paused-by-swarm" on 3 => troubles::paused_by_swarm,
        "trouble-node-drained" on 3 => troubles::node_drained,
        "trouble-port-taken" on 3 => troubles::port_taken,
    ]
}
