//! `show sess`: which connections a worker holds to which server.

/// The sessions of one worker that go to one of its servers: by backend and server, its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionEntry {
    /// What `shutdown session` takes.
    pub id: String,
    pub backend: String,
    pub server: String,
}

/// Reads the list. Lines of other forms are passed over: what is missed ends by itself with the worker
/// (`hard-stop-after`).
pub(crate) fn parse_sessions(text: &str) -> Vec<SessionEntry> {
    let entry = |line: &str| {
        let (id, rest) = line.split_once(": ")?;
        let value = |key: &str| rest.split_whitespace().find_map(|w| w.strip_prefix(key));
        let hexadecimal = id.strip_prefix("0x")?.bytes().all(|b| b.is_ascii_hexdigit());
        hexadecimal.then_some(SessionEntry {
            id: id.to_owned(),
            backend: value("be=")?.to_owned(),
            server: value("srv=")?.to_owned(),
        })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_name_their_server() {
        // Recorded from 2.6.12, shortened.
        let text = "0x562cef67d750: proto=tcpv4 src=127.0.0.1:40424 fe=t be=t.t srv=s1 ts=00 epoch=0\n0x7f376403c520: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00\n\n";
        let sessions = parse_sessions(text);
        assert_eq!(sessions.len(), 2);
        let SessionEntry { id, backend, server } = &sessions[0];
        assert_eq!(
            (id.as_str(), backend.as_str(), server.as_str()),
            ("0x562cef67d750", "t.t", "s1")
        );
        assert!(parse_sessions("Permission denied\nx: be=a srv=b\n").is_empty());
    }
}
