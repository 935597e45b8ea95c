//! `set ssl cert` and `commit ssl cert`.

use lb_core::balancer::Failure;
use lb_core::{FileName, Secret};

use super::socket::Socket;

/// Most bytes of a certificate a command can carry (`tune.bufsize`, less the command).
pub(crate) const MOST_PEM: usize = 15 * 1024;

/// Has HAProxy read new contents of a loaded certificate, without using them yet.
///
/// # Errors
/// When HAProxy refuses them.
pub(crate) async fn set_certificate(
    socket: &Socket,
    name: &FileName,
    pem: &Secret,
) -> Result<(), Failure> {
    let set = format!("set ssl cert {name}");
    if pem.expose().len() > MOST_PEM {
        return Err(Failure::reply(set, "too long for a command"));
    }
    // An empty line ends the payload: the certificate must hold none.
    let lines = pem.expose().lines().filter(|l| !l.is_empty());
    let payload: String = lines.flat_map(|l| [l, "\n"]).collect();
    let reply = socket.ask(&format!("{set} <<\n{payload}")).await?;
    let begun =
        |l: &str| ["Transaction created", "Transaction updated"].iter().any(|b| l.starts_with(b));
    match reply.lines().any(begun) {
        true => Ok(()),
        false => Err(Failure::reply(set, &reply)),
    }
}

/// Puts what was set in use.
pub(crate) async fn commit_certificate(socket: &Socket, name: &FileName) -> Result<(), Failure> {
    let commit = format!("commit ssl cert {name}");
    let reply = socket.ask(&commit).await?;
    // Warnings may stand before and behind it.
    if reply.lines().any(|line| line.trim_end().ends_with("Success!")) {
        return Ok(());
    }
    abort_certificate(socket, name).await;
    Err(Failure::reply(commit, &reply))
}

/// Forgets what was set: left open, it would be in the way of every other certificate.
pub(crate) async fn abort_certificate(socket: &Socket, name: &FileName) {
    if let Err(error) = socket.ask(&format!("abort ssl cert {name}")).await {
        tracing::warn!(certificate = %name, %error, "certificate left half set");
    }
}
