//! What podman-api's errors are to the core.

use std::io;

use containers_api::conn;
use lb_core::ErrorKind;
use lb_core::engine::{Failure, kind_of_status};
use podman_api::Error as PodmanError;

/// What went wrong in one call. podman-api wraps the errors of streams in other errors of its own.
pub(crate) fn failure(error: PodmanError) -> Failure {
    match error {
        PodmanError::Fault { code, message } => refused(code.as_u16(), &message),
        PodmanError::IO(error) | PodmanError::Error(conn::Error::IO(error)) => within_io(error),
        PodmanError::Error(conn::Error::Any(error)) => match error.downcast::<PodmanError>() {
            Ok(inner) => failure(*inner),
            Err(error) => Failure::Garbled(error),
        },
        PodmanError::Error(conn::Error::Hyper(error)) => Failure::Unreachable(error.into()),
        other => Failure::Garbled(other.into()),
    }
}

fn within_io(error: io::Error) -> Failure {
    match error.downcast::<PodmanError>() {
        Ok(inner) => failure(inner),
        Err(error) => Failure::Unreachable(error.into()),
    }
}

/// A refusal, in the engine's words. Podman says the cause twice: as it is, and behind the message.
pub(crate) fn refused(status: u16, message: &str) -> Failure {
    let said_twice = message.match_indices(": ").find_map(|(at, colon)| {
        let (head, cause) = (&message[..at], &message[at + colon.len()..]);
        head.ends_with(cause).then_some(head)
    });
    let message = said_twice.unwrap_or(message).trim().to_owned();
    Failure::Refused { kind: kind(status, &message.to_lowercase()), status, message }
}

/// Phrases by which Podman (4 and 5, with netavark or CNI, runc or crun, containers/image) tells apart what
/// it answers with one status, in lower case.
const TAKEN: [&str; 9] = [
    "address already in use",
    "cannot assign requested address",
    "is already allocated",
    "name is already in use",
    "is already in use by",
    "already used on the host",
    "already used by",
    "already exists",
    "network is being used",
];
const DENIED: [&str; 6] = [
    "unauthorized",
    "authentication required",
    "invalid username/password",
    "no basic auth credentials",
    "access denied",
    "access to the resource is denied",
];
const MISSING: [&str; 8] = [
    // A container that goes away while it is being looked at.
    "does not exist in database: no such container",
    "manifest unknown",
    "name unknown",
    "repository name not known",
    "no such image",
    "image not known",
    "unable to find network",
    "network not found",
];
const REGISTRY_DOWN: [&str; 10] = [
    "connection refused",
    "no such host",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "client.timeout exceeded",
    "tls handshake timeout",
    "toomanyrequests",
    "unexpected eof",
    "server misbehaving",
];
const BAD_SETTING: [&str; 13] = [
    "executable file not found",
    "command that was not found",
    "no such file or directory",
    "unable to find user",
    "unable to find group",
    "no matching entries in passwd file",
    "no matching entries in group file",
    "invalid argument",
    "permission denied",
    "memory limit",
    "container init was oom-killed",
    "oci runtime error",
    "not in any subnet on network",
];

fn kind(status: u16, message: &str) -> ErrorKind {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    match status {
        400 | 409 | 500 if says(&TAKEN) => ErrorKind::Conflict,
        500 if says(&DENIED) => ErrorKind::Denied,
        500 if says(&MISSING) => ErrorKind::NotFound,
        500 if says(&REGISTRY_DOWN) => ErrorKind::Unavailable,
        500 if says(&BAD_SETTING) => ErrorKind::Invalid,
        _ => kind_of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of Podman 4.3 as they came, and what they mean.
    #[test]
    fn answers_of_the_engine_have_their_kind() {
        let cases = [
            (
                404,
                "no container with name or ID \"x\" found: no such container",
                ErrorKind::NotFound,
            ),
            (
                500,
                "container ab does not exist in database: no such container",
                ErrorKind::NotFound,
            ),
            (
                500,
                "creating container storage: the container name \"x\" is already in use by ab. You have to remove that container to be able to reuse that name: that name is already in use",
                ErrorKind::Conflict,
            ),
            (
                500,
                "IPAM error: requested ip address 10.1.1.10 is already allocated to container ID ab",
                ErrorKind::Conflict,
            ),
            (
                500,
                "cannot listen on the TCP port: listen tcp4 127.0.0.3:80: bind: address already in use",
                ErrorKind::Conflict,
            ),
            (
                500,
                "\"x\" has associated containers with it. Use -f to forcibly delete containers and pods: network is being used",
                ErrorKind::Conflict,
            ),
            (409, "network name x already used: network already exists", ErrorKind::Conflict),
            (
                500,
                "initializing source docker://r/x:1: reading manifest 1 in r/x: manifest unknown: manifest unknown",
                ErrorKind::NotFound,
            ),
            (
                500,
                "initializing source docker://r/x:1: reading manifest 1 in r/x: unauthorized: authentication required",
                ErrorKind::Denied,
            ),
            (
                500,
                "initializing source docker://r/x:1: pinging container registry r: Get \"http://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                ErrorKind::Unavailable,
            ),
            (
                500,
                "runc: runc create failed: unable to start container process: exec: \"/x\": stat /x: no such file or directory: OCI runtime attempted to invoke a command that was not found",
                ErrorKind::Invalid,
            ),
            (
                500,
                "requested static ip 10.252.156.0 not in any subnet on network x.net",
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

    #[test]
    fn a_cause_said_twice_is_said_once() {
        let words = |message| match refused(500, message) {
            Failure::Refused { message, .. } => message,
            other => panic!("{other}"),
        };
        assert_eq!(
            words("no container \"x\": no such container: no such container"),
            "no container \"x\": no such container"
        );
        assert_eq!(words("IPAM error: taken: IPAM error: taken"), "IPAM error: taken");
        assert_eq!(words("plain: words"), "plain: words");
    }

    #[test]
    fn what_streams_wrap_is_unwrapped() {
        let fault = || PodmanError::Fault {
            code: containers_api::conn::http::StatusCode::NOT_FOUND,
            message: "x".into(),
        };
        let wrapped = [
            PodmanError::IO(io::Error::other(fault())),
            PodmanError::Error(conn::Error::Any(Box::new(fault()))),
        ];
        for error in wrapped {
            assert!(failure(error).is_absent());
        }
        let broken = PodmanError::IO(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(failure(broken).kind(), ErrorKind::Unavailable);
    }
}
