//! Names of the labels that we read from services and write onto our own objects.

/// All routing labels start with this.
pub const PREFIX: &str = "com.docker.lb.";
/// Comma-separated host names that the service answers.
pub const HOSTS: &str = "com.docker.lb.hosts";
/// The port of the container that the proxy connects to.
pub const PORT: &str = "com.docker.lb.port";
/// The network over which the proxy reaches the service.
pub const NETWORK: &str = "com.docker.lb.network";
/// `task` or `vip`.
pub const BACKEND_MODE: &str = "com.docker.lb.backend_mode";
/// `true`: answers every host that nobody else asked for.
pub const DEFAULT_BACKEND: &str = "com.docker.lb.default_backend";
/// The name of the service cluster whose proxies serve this service.
pub const SERVICE_CLUSTER: &str = "com.docker.lb.service_cluster";
/// Sticky sessions by the application's cookie: not possible in VIP mode.
pub const STICKY_SESSION_COOKIE: &str = "com.docker.lb.sticky_session_cookie";
/// Sticky sessions by the client's address: not possible in VIP mode.
pub const IP_HASH: &str = "com.docker.lb.ip_hash";

/// The stack that `docker stack deploy` made an object for.
pub const STACK: &str = "com.docker.stack.namespace";

/// On every object of ours: the installation that owns it.
pub const INSTANCE: &str = "dovetail.instance";
/// On objects that belong to one proxy: its cluster.
pub const CLUSTER: &str = "dovetail.cluster";
/// On config objects: the full digest of the content.
pub const DIGEST: &str = "dovetail.digest";
/// On config objects: `file` or `manifest`.
pub const KIND: &str = "dovetail.kind";
/// On the proxy service: the values of the owned fields that we wrote last, for the three-way merge.
pub const APPLIED: &str = "dovetail.applied";
/// On the proxy service: the generation that its files make. On a manifest: the generation that it describes.
pub const GENERATION: &str = "dovetail.generation";
/// On a generation's manifest: why its rollout failed; such a generation is not rolled out again for a while.
pub const HELD: &str = "dovetail.held";
/// On a held manifest: when it failed, in seconds since 1970.
pub const HELD_SINCE: &str = "dovetail.held-since";
/// On a held manifest: how many times it failed.
pub const HELD_ATTEMPTS: &str = "dovetail.held-attempts";
/// On the proxy service: that nothing is written to this cluster's proxies, and who said so, when and why.
pub const PAUSED: &str = "dovetail.paused";
/// On the proxy service: the operator process that wrote it last. The one that was started last may write.
pub const OPERATOR: &str = "dovetail.operator";
/// On the proxy service: a generation, and the places at which its rollout was told not to wait.
pub const PASSED_BY: &str = "dovetail.passed-by";
/// How operators' scripts find Interlock's proxies, and now ours.
pub const TYPE: &str = "type";
/// The value of [`TYPE`] on a proxy service.
pub const TYPE_PROXY: &str = "com.docker.interlock.core.proxy";
