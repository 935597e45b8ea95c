//! `show sess`: which connections a worker holds to which server.

/// The sessions of one worker that go to one of its servers: by backend and server, its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionEntry {
    /// What `shutdown session` takes.
    pub id: String,
    pub backend: String,
    pub server: String,
    /// Whether it still tries to connect: to shut it would fail a request that another server can answer.
    pub connecting: bool,
}

/// The state of an established connection (`SC_ST_EST`); lower ones lead to it.
const ESTABLISHED: u32 = 8;

impl SessionEntry {
    /// Its backend and server.
    pub(crate) fn target(&self) -> (&str, &str) {
        (&self.backend, &self.server)
    }

    /// Whether it leads to a server, or is about to.
    pub(crate) fn has_server(&self) -> bool {
        self.server != "<none>"
    }
}

/// What a worker lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    pub entries: Vec<SessionEntry>,
    /// Whether every line was understood: only then no other session leads to a server.
    pub whole: bool,
}

/// Reads the list. Lines of other forms are passed over: what is missed ends by itself with the worker
/// (`hard-stop-after`).
pub(crate) fn parse_sessions(text: &str) -> Sessions {
    let entry = |line: &str| {
        let (id, rest) = line.split_once(": ")?;
        let value = |key: &str| rest.split_whitespace().find_map(|w| w.strip_prefix(key));
        let hexadecimal = id.strip_prefix("0x")?.bytes().all(|b| b.is_ascii_hexdigit());
        // Its server's side: `scb=[state,flags,fd=..]`.
        let state = value("scb=[").and_then(|v| v.split(',').next()?.parse::<u32>().ok());
        hexadecimal.then_some(SessionEntry {
            id: id.to_owned(),
            backend: value("be=")?.to_owned(),
            server: value("srv=")?.to_owned(),
            connecting: state.is_some_and(|state| state < ESTABLISHED),
        })
    };
    let lines = || text.lines().filter(|line| !line.is_empty());
    let entries: Vec<_> = lines().filter_map(entry).collect();
    // Whoever asks is one of them.
    Sessions { whole: !entries.is_empty() && entries.len() == lines().count(), entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_name_their_server() {
        // Recorded from 2.6.12, shortened.
        let text = "0x562cef67d750: proto=tcpv4 src=127.0.0.1:40424 fe=t be=t.t srv=s1 ts=00 epoch=0 scf=[8,80h,fd=12] scb=[8,11h,fd=14] exp=4s\n\
            0x562cef67d990: proto=tcpv4 src=127.0.0.1:40428 fe=t be=t.t srv=s2 ts=00 epoch=0 scf=[8,280h,fd=11] scb=[5,11h,fd=13] exp=4s\n\
            0x7f376403c520: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00\n\n";
        let sessions = parse_sessions(text);
        let entry = |id: &str, backend: &str, server: &str, connecting| SessionEntry {
            id: id.to_owned(),
            backend: backend.to_owned(),
            server: server.to_owned(),
            connecting,
        };
        let wanted = [
            entry("0x562cef67d750", "t.t", "s1", false),
            entry("0x562cef67d990", "t.t", "s2", true),
            entry("0x7f376403c520", "<NONE>", "<none>", false),
        ];
        assert_eq!(sessions.entries, wanted);
        assert!(sessions.whole);
        assert_eq!(sessions.entries.iter().filter(|s| s.has_server()).count(), 2);
        let unknown = parse_sessions("Permission denied\nx: be=a srv=b\n");
        assert_eq!(unknown, Sessions::default());
        let cut = parse_sessions(&format!("{text}0x7f: a line of a later version\n"));
        assert_eq!((cut.entries, cut.whole), (wanted.into(), false));
        assert!(!parse_sessions("\n").whole);
    }
}
