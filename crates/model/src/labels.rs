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
/// The part of its hosts' paths that the service answers.
pub const CONTEXT_ROOT: &str = "com.docker.lb.context_root";
/// `true`: the application sees `/` in the place of the context root.
pub const CONTEXT_ROOT_REWRITE: &str = "com.docker.lb.context_root_rewrite";
/// The secret with the certificate for TLS.
pub const SSL_CERT: &str = "com.docker.lb.ssl_cert";
/// The secret with its private key; absent where one secret holds both.
pub const SSL_KEY: &str = "com.docker.lb.ssl_key";
/// The secret with the authorities of clients' certificates.
pub const CLIENT_CA_CERT: &str = "com.docker.lb.client_ca_cert";
/// `true`: the application speaks TLS itself.
pub const SSL_PASSTHROUGH: &str = "com.docker.lb.ssl_passthrough";
/// `true`: plain HTTP is redirected to HTTPS.
pub const SSL_ONLY: &str = "com.docker.lb.ssl_only";
/// `true`: TLS to the application.
pub const SSL_BACKEND: &str = "com.docker.lb.ssl_backend";
/// Whether the application's certificate is verified: `required` or `none`.
pub const SSL_BACKEND_TLS_VERIFY: &str = "com.docker.lb.ssl_backend_tls_verify";
/// Strict-Transport-Security.
pub const HSTS: &str = "com.docker.lb.hsts";
/// Hosts that are redirected, and whereto: `source,target;source,target`.
pub const REDIRECTS: &str = "com.docker.lb.redirects";
/// Paths of WebSockets. They work on every path, so this changes nothing.
pub const WEBSOCKET_ENDPOINTS: &str = "com.docker.lb.websocket_endpoints";
/// Sticky sessions by the application's cookie: not possible in VIP mode.
pub const STICKY_SESSION_COOKIE: &str = "com.docker.lb.sticky_session_cookie";
/// Sticky sessions by the client's address: not possible in VIP mode.
pub const IP_HASH: &str = "com.docker.lb.ip_hash";
/// The longest time between two reads from the application.
pub const TIMEOUT: &str = "com.docker.lb.timeout";
/// The largest request body.
pub const MAX_BODY_SIZE: &str = "com.docker.lb.max_body_size";
/// The only networks of clients that are let in.
pub const ALLOW: &str = "com.docker.lb.allow";
/// Networks of clients that are not.
pub const DENY: &str = "com.docker.lb.deny";
/// The secret with names and hashed passwords.
pub const BASIC_AUTH: &str = "com.docker.lb.basic_auth";
/// Requests of one client address.
pub const RATE_LIMIT: &str = "com.docker.lb.rate_limit";
/// The service's share of a route.
pub const WEIGHT: &str = "com.docker.lb.weight";
/// After so many failures a server is set aside: not possible in VIP mode.
pub const MAX_FAILS: &str = "com.docker.lb.max_fails";
/// For how long, and within which time: not possible in VIP mode.
pub const FAIL_TIMEOUT: &str = "com.docker.lb.fail_timeout";

/// Every routing label that is read.
pub const ROUTING: [&str; 29] = [
    HOSTS,
    PORT,
    NETWORK,
    BACKEND_MODE,
    DEFAULT_BACKEND,
    SERVICE_CLUSTER,
    CONTEXT_ROOT,
    CONTEXT_ROOT_REWRITE,
    SSL_CERT,
    SSL_KEY,
    CLIENT_CA_CERT,
    SSL_PASSTHROUGH,
    SSL_ONLY,
    SSL_BACKEND,
    SSL_BACKEND_TLS_VERIFY,
    HSTS,
    REDIRECTS,
    WEBSOCKET_ENDPOINTS,
    STICKY_SESSION_COOKIE,
    IP_HASH,
    TIMEOUT,
    MAX_BODY_SIZE,
    ALLOW,
    DENY,
    BASIC_AUTH,
    RATE_LIMIT,
    WEIGHT,
    MAX_FAILS,
    FAIL_TIMEOUT,
];

/// Whose a service is to UCP: a path such as `/prod/shop`.
pub const UCP_ACCESS: &str = "com.docker.ucp.access.label";
/// The stack that `docker stack deploy` made an object for.
pub const STACK: &str = "com.docker.stack.namespace";

/// On every object of ours: the installation that owns it.
pub const INSTANCE: &str = "dovetail.instance";
/// On objects that belong to one proxy: its cluster.
pub const CLUSTER: &str = "dovetail.cluster";
/// On config objects: the full digest of the content. On a check: of everything that is checked.
pub const DIGEST: &str = "dovetail.digest";
/// On config objects: `file` or `manifest`. On the service that checks a generation before its rollout: `check`.
pub const KIND: &str = "dovetail.kind";
/// On the proxy service: the values of the owned fields that we wrote last, for the three-way merge.
pub const APPLIED: &str = "dovetail.applied";
/// On the proxy service and on a check: the generation that its files make. On a manifest: the generation that it
/// describes.
pub const GENERATION: &str = "dovetail.generation";
/// On a check: the digest of the settings of the proxy service under which the generation is to be rolled out.
pub const SETTINGS: &str = "dovetail.settings";
/// On a generation's manifest: why its rollout failed; such a generation is not rolled out again for a while.
pub const HELD: &str = "dovetail.held";
/// On a held manifest: when it failed, in seconds since 1970.
pub const HELD_SINCE: &str = "dovetail.held-since";
/// On a held manifest: how many times it failed.
pub const HELD_ATTEMPTS: &str = "dovetail.held-attempts";
/// On a manifest whose routes are held: `true` if a node refused their task, which never ran.
pub const HELD_REJECTED: &str = "dovetail.held-rejected";
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
