//! What bollard's errors are to the core.

use bollard::errors::Error as BollardError;
use lb_core::ErrorKind;
use lb_core::engine::{Failure, kind_of_status};

/// What went wrong in one call.
pub(crate) fn failure(error: BollardError) -> Failure {
    match error {
        BollardError::DockerResponseServerError { status_code, message } => {
            refused(status_code, message.trim())
        }
        // An error in the middle of a stream that began with 200: the registry's, said by the engine.
        BollardError::DockerStreamError { error } => refused(500, &error),
        BollardError::RequestTimeoutError => Failure::Late(crate::engine::TRANSPORT_DEADLINE),
        BollardError::IOError { .. }
        | BollardError::HyperResponseError { .. }
        | BollardError::HyperLegacyError { .. } => Failure::Unreachable(error.into()),
        other => Failure::Garbled(other.into()),
    }
}

fn refused(status: u16, message: &str) -> Failure {
    let kind = refusal(status, &message.to_lowercase());
    Failure::Refused { kind, status, message: message.to_owned() }
}

/// Phrases by which Docker Engine (20.10 to 29) tells apart what it answers with one status, in lower case.
const TAKEN: [&str; 8] = [
    "port is already allocated",
    "address already in use",
    "cannot assign requested address",
    "pool overlaps",
    "already in use by container",
    "has active endpoints",
    "already exists",
    "is already in progress",
];
const DENIED: [&str; 6] = [
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "access denied",
    "access to the resource is denied",
    "incorrect username or password",
];
const MISSING: [&str; 4] =
    ["manifest unknown", "no such image", "repository name not known", "name unknown"];
const REGISTRY_DOWN: [&str; 9] = [
    "connection refused",
    "no such host",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "client.timeout exceeded",
    "tls handshake timeout",
    "toomanyrequests",
    "unexpected eof",
];
const BAD_SETTING: [&str; 5] = [
    "executable file not found",
    "no such file or directory: unknown",
    "unable to find user",
    "invalid mount config",
    "does not belong to any of this network's subnets",
];

fn refusal(status: u16, message: &str) -> ErrorKind {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match status {
        // A port or address that is taken comes as 403, 409 or 500, by version.
        400 | 403 | 409 | 500 if says(&TAKEN) => ErrorKind::Conflict,
        403 | 404 | 500 if says(&DENIED) => ErrorKind::Denied,
        500 if says(&MISSING) => ErrorKind::NotFound,
        500 if says(&REGISTRY_DOWN) => ErrorKind::Unavailable,
        500 if says(&BAD_SETTING) => ErrorKind::Invalid,
        _ => kind_of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of Docker Engine as they came, and what they mean.
    #[test]
    fn answers_of_the_engine_have_their_kind() {
        let cases = [
            (404, "No such container: x", ErrorKind::NotFound),
            (
                404,
                "manifest for r/x:1 not found: manifest unknown: manifest unknown",
                ErrorKind::NotFound,
            ),
            (
                404,
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                ErrorKind::Denied,
            ),
            (
                409,
                "Conflict. The container name \"/x\" is already in use by container \"ab\".",
                ErrorKind::Conflict,
            ),
            (403, "Address already in use", ErrorKind::Conflict),
            (403, "Pool overlaps with other one on this address space", ErrorKind::Conflict),
            (
                403,
                "error while removing network: network x id 1 has active endpoints",
                ErrorKind::Conflict,
            ),
            (403, "authorization denied by plugin p", ErrorKind::Denied),
            (
                500,
                "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:80 failed: port is already allocated",
                ErrorKind::Conflict,
            ),
            (
                500,
                "driver failed programming external connectivity: Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use",
                ErrorKind::Conflict,
            ),
            (500, "unauthorized: authentication required", ErrorKind::Denied),
            (
                500,
                "Head \"http://r/v2/x/manifests/1\": no basic auth credentials",
                ErrorKind::Denied,
            ),
            (
                500,
                "Get \"https://r/v2/\": dial tcp 1.2.3.4:443: connect: connection refused",
                ErrorKind::Unavailable,
            ),
            (
                500,
                "Get \"https://r/v2/\": dial tcp: lookup r: no such host",
                ErrorKind::Unavailable,
            ),
            (
                400,
                "OCI runtime create failed: exec: \"x\": executable file not found in $PATH: unknown",
                ErrorKind::Invalid,
            ),
            (
                400,
                "invalid mount config for type \"bind\": bind source path does not exist: /x",
                ErrorKind::Invalid,
            ),
            (
                500,
                "Invalid address 10.1.2.3: It does not belong to any of this network's subnets",
                ErrorKind::Invalid,
            ),
            (503, "", ErrorKind::Unavailable),
            (500, "something new", ErrorKind::Unexpected),
            (418, "teapot", ErrorKind::Unexpected),
        ];
        for (status, message, kind) in cases {
            assert_eq!(refused(status, message).kind(), kind, "{status} {message}");
        }
    }
}
