//! `set ssl cert` and `commit ssl cert`; `new ssl cert` and the lists that certificates stand in.

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

/// Makes room for a certificate that is in no list yet. One that is there already is success.
pub(crate) async fn new_certificate(socket: &Socket, name: &FileName) -> Result<(), Failure> {
    let new = format!("new ssl cert {name}");
    let reply = socket.ask(&new).await?;
    let there = ["New empty certificate store", "Certificate '"];
    let is_there = |line: &str| {
        line.starts_with(there[0])
            || line.starts_with(there[1]) && line.ends_with("already exists!")
    };
    match reply.lines().any(is_there) {
        true => Ok(()),
        false => Err(Failure::reply(new, &reply)),
    }
}

/// The certificates in a list, in its order.
pub(crate) async fn listed(socket: &Socket, list: &FileName) -> Result<Vec<String>, Failure> {
    let show = format!("show ssl crt-list {list}");
    let reply = socket.ask(&show).await?;
    in_list(&reply, list.as_str()).ok_or_else(|| Failure::reply(show, &reply))
}

/// Recorded from 2.6.12 and 3.4.0: a line names the list, then each names a certificate, with options behind.
fn in_list(reply: &str, list: &str) -> Option<Vec<String>> {
    let mut lines = reply.lines();
    (lines.next()?.strip_prefix("# ")? == list).then_some(())?;
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    Some(lines.filter(|line| !line.is_empty()).map(name).collect())
}

/// Offers a certificate to clients of the listener that has this list.
pub(crate) async fn list_certificate(
    socket: &Socket,
    list: &FileName,
    name: &FileName,
) -> Result<(), Failure> {
    let add = format!("add ssl crt-list {list} {name}");
    let reply = socket.ask(&add).await?;
    match reply.lines().any(|line| line.trim_end().ends_with("Success!")) {
        true => Ok(()),
        false => Err(Failure::reply(add, &reply)),
    }
}

/// Takes one out of a list, and forgets it.
pub(crate) async fn delete_certificate(
    socket: &Socket,
    list: &FileName,
    name: &str,
) -> Result<(), Failure> {
    let commands = [
        (format!("del ssl crt-list {list} {name}"), "Entry '"),
        (format!("del ssl cert {name}"), "Certificate '"),
    ];
    for (delete, done) in commands {
        let reply = socket.ask(&delete).await?;
        let gone = |line: &str| line.starts_with(done) && line.trim_end().ends_with('!');
        if !reply.lines().any(gone) {
            return Err(Failure::reply(delete, &reply));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded from 2.6.12 and 3.4.0.
    #[test]
    fn a_list_names_itself_and_its_certificates() {
        let reply = "# l.crt-list\n443.a.web.pem\n443.b.web.pem [alpn h2]\n\n";
        let names = ["443.a.web.pem", "443.b.web.pem"].map(str::to_owned);
        assert_eq!(in_list(reply, "l.crt-list"), Some(names.to_vec()));
        assert_eq!(in_list("# l.crt-list\n\n", "l.crt-list"), Some(Vec::new()));
        for other in ["", "didn't find the specified filename\n\n", "# other\n443.a.web.pem\n"] {
            assert_eq!(in_list(other, "l.crt-list"), None, "{other:?}");
        }
    }
}
