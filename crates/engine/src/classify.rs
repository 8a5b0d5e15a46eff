//! From what the Engine answers to what a caller should do about it.

use swarm::Class;

/// The class of an answer that is no success.
///
/// The status alone does not tell: the daemon passes on errors of the managers, and their codes arrive as
/// whatever status they had no better one for ("update out of sequence" is a 500). So the known texts come
/// first, each recorded from an engine or read in its source, then the status.
pub(crate) fn classify(status: u16, message: &str) -> Class {
    let says = |text: &str| message.contains(text);
    if says("update out of sequence") {
        return Class::Conflict;
    }
    // Refused today, and not for ever: by an engine of 20.10 a 400 like a wrong spec.
    if says("is in use by") {
        return Class::InUse;
    }
    // Another engine answers than the one that was asked for its version, as behind a name for several of them.
    if is_about_the_version(message) {
        return Class::Unavailable;
    }
    let cluster_is_away = says("not a swarm manager")
        || says("does not have a leader")
        || says("no leader")
        || says("context deadline exceeded")
        || says("node is not part of a swarm")
        || says("Swarm is encrypted and needs to be unlocked");
    if cluster_is_away {
        return Class::Unavailable;
    }
    match status {
        404 => Class::NotFound,
        409 => Class::Conflict,
        // Time-outs and "too many requests", as balancers before UCP answer.
        408 | 429 => Class::Unavailable,
        // 501: what Swarm does for nobody, such as another name for a service.
        400..500 | 501 => Class::Refused,
        500.. => Class::Unavailable,
        // A redirect, or something that is no HTTP API at all.
        _ => Class::Malformed,
    }
}

/// Whether an Engine does not speak the version of its API that it was spoken to in.
pub(crate) fn is_about_the_version(message: &str) -> bool {
    message.contains("is too old. Minimum supported API version")
        || message.contains("is too new. Maximum supported API version")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Engine 20.10.24 unless said otherwise.
    #[test]
    fn recorded_replies_are_understood() {
        for (status, message, class) in [
            (404, "service nope not found", Class::NotFound),
            (501, "rpc error: code = Unimplemented desc = renaming services is not supported", Class::Refused),
            (501, "rpc error: code = Unimplemented desc = service mode change is not allowed", Class::Refused),
            (404, "network nope not found", Class::NotFound),
            (404, "config nope not found", Class::NotFound),
            (409, "rpc error: code = AlreadyExists desc = config c1 already exists", Class::Conflict),
            (
                409,
                "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists",
                Class::Conflict,
            ),
            (500, "rpc error: code = Unknown desc = update out of sequence", Class::Conflict),
            // The same with other codes, as it would be if Swarm gave it one.
            (400, "rpc error: code = FailedPrecondition desc = update out of sequence", Class::Conflict),
            (409, "rpc error: code = Aborted desc = update out of sequence", Class::Conflict),
            (
                400,
                "rpc error: code = InvalidArgument desc = config 'c1' is in use by the following service: user",
                Class::InUse,
            ),
            (
                400,
                "rpc error: code = InvalidArgument desc = secret 's' is in use by the following services: a, b",
                Class::InUse,
            ),
            (
                400,
                "rpc error: code = FailedPrecondition desc = network 28fqno6i2osrgibo4uxhwxccu is in use by service w0i7e2crbgohat91u6aeov3vu",
                Class::InUse,
            ),
            (
                400,
                "rpc error: code = InvalidArgument desc = config data must be larger than 0 and less than 1024000 bytes",
                Class::Refused,
            ),
            (400, "mismatched Runtime and *Spec fields", Class::Refused),
            (
                400,
                "client version 1.11 is too old. Minimum supported API version is 1.12, please upgrade your client to a newer version",
                Class::Unavailable,
            ),
            (400, "client version 1.99 is too new. Maximum supported API version is 1.41", Class::Unavailable),
            (401, "unauthorized", Class::Refused),
            (403, "access denied", Class::Refused),
            (
                503,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
                Class::Unavailable,
            ),
            // Docker 1.12 and Engines behind UCP.
            (
                406,
                "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.",
                Class::Unavailable,
            ),
            (
                500,
                "rpc error: code = Unknown desc = raft: failed to process the request: node lost leader status",
                Class::Unavailable,
            ),
            (
                500,
                "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.",
                Class::Unavailable,
            ),
            (500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded", Class::Unavailable),
            (400, "context deadline exceeded", Class::Unavailable),
            (500, "something broke", Class::Unavailable),
            (502, "<html>Bad Gateway</html>", Class::Unavailable),
            (429, "slow down", Class::Unavailable),
            (301, "", Class::Malformed),
        ] {
            assert_eq!(classify(status, message), class, "{status} {message}");
        }
    }
}
