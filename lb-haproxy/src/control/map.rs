//! `prepare map`, `add map` and `commit map`: the contents of a map, replaced in one step.

use lb_core::FileName;
use lb_core::balancer::Failure;

use super::socket::{MOST_BYTES, Socket};

/// Gives a loaded map these contents, lines as in its file. Lookups see the ones before until all are there.
///
/// # Errors
/// Where no map of this name is loaded, or an answer is not known: the contents are then those before.
pub(crate) async fn replace_map(
    socket: &Socket,
    name: &FileName,
    contents: &str,
) -> Result<(), Failure> {
    let prepare = format!("prepare map {name}");
    let reply = socket.ask(&prepare).await?;
    let version = prepared(&reply).ok_or_else(|| Failure::reply(prepare, &reply))?;
    let filled = fill(socket, name, version, contents).await;
    if filled.is_err() {
        // Not in use; what is left of it costs memory only, until the next reload.
        let _ = socket.ask(&format!("clear map @{version} {name}")).await;
    }
    filled
}

async fn fill(
    socket: &Socket,
    name: &FileName,
    version: u32,
    contents: &str,
) -> Result<(), Failure> {
    for payload in payloads(contents) {
        silent(socket, &format!("add map @{version} {name}"), &format!(" <<\n{payload}")).await?;
    }
    silent(socket, &format!("commit map @{version} {name}"), "").await
}

/// The first line of the command is what an error names.
async fn silent(socket: &Socket, command: &str, rest: &str) -> Result<(), Failure> {
    let reply = socket.ask(&format!("{command}{rest}")).await?;
    match reply.trim().is_empty() {
        true => Ok(()),
        false => Err(Failure::reply(command, &reply)),
    }
}

/// Recorded from 2.6.12, 3.0.11, 3.2.26 and 3.4.0.
pub(crate) fn prepared(reply: &str) -> Option<u32> {
    reply.trim().strip_prefix("New version created: ")?.parse().ok()
}

/// Whole lines, as many as a command can carry. An empty one would end the payload.
pub(crate) fn payloads(contents: &str) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for line in contents.lines().filter(|line| !line.trim().is_empty()) {
        match payloads.last_mut().filter(|p| p.len() + line.len() < MOST_BYTES) {
            Some(payload) => payload.extend([line, "\n"]),
            None => payloads.push(format!("{line}\n")),
        }
    }
    payloads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_behind_known_words() {
        assert_eq!(prepared("New version created: 1\n\n"), Some(1));
        for other in [
            "",
            "\n",
            "New version created: \n",
            "New version created: 1 2\n",
            "Unknown map identifier. Please use #<id> or <file>.\n\n",
        ] {
            assert_eq!(prepared(other), None, "{other:?}");
        }
    }

    #[test]
    fn contents_travel_in_whole_lines_that_fit() {
        let lines: Vec<String> =
            (0..5_000).map(|n| format!("shop-{n}.example.org/ shop-{n}.web")).collect();
        let payloads = payloads(&format!("\n{}\n\n", lines.join("\n")));
        assert!(payloads.len() > 1 && payloads.iter().all(|p| p.len() <= MOST_BYTES));
        let again: Vec<&str> = payloads.iter().flat_map(|p| p.lines()).collect();
        assert_eq!(again, lines);
        assert!(super::payloads("\n \n").is_empty());
    }
}
