//! Commands that change a running worker, and what their answers mean.

use std::fmt;

use lb_core::balancer::Failure;
use lb_core::{BackendName, ServerName};

/// One command. Names are types that admit no separator: none can become two commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new server, in maintenance, its checks off.
    Add(BackendName, ServerName, String),
    /// Turns its checks on.
    EnableHealth(BackendName, ServerName),
    /// Gives new servers their cookie: the key must be set again after each `add server`.
    CookieKey(BackendName, String),
    /// It takes requests.
    Ready(BackendName, ServerName),
    /// It takes none, not even from clients whose cookie names it; open ones go on.
    Maint(BackendName, ServerName),
    /// Its share.
    Weight(BackendName, ServerName, u16),
    /// Shuts its open connections.
    Shut(BackendName, ServerName),
    /// Shuts one connection, by what `show sess` calls it. One that has ended is success.
    ShutOne(String),
    /// Moves a server that is to be deleted to a port nobody uses: the one command that closes its idle
    /// connections (a request that ends in maintenance leaves one, for `pool-purge-delay`).
    Purge(BackendName, ServerName, u16),
    /// Forgets it: in maintenance and without connections only.
    Delete(BackendName, ServerName),
    /// A new backend, by the name of the `defaults` it is made from and its mode; it takes no requests yet (3.4).
    AddBackend(BackendName, String, &'static str),
    /// It takes requests.
    Publish(BackendName),
    /// It takes none.
    Unpublish(BackendName),
    /// Forgets it: unpublished, and without servers and requests only.
    DeleteBackend(BackendName),
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done.
    Done,
    /// Not yet: it still has connections, or what is its own.
    Busy,
}

/// Why a backend cannot be deleted, now or before a reload (3.4.0, `be_check_for_deletion`).
const STAYS: [&str; 4] = [
    "Backend still has attached streams on it.",
    "Only a backend without server can be deleted.",
    "Cannot remove a backend with stick-table.",
    "This proxy cannot be removed at runtime due to other configuration elements pointing to it.",
];

impl Change {
    /// What the answer means.
    ///
    /// # Errors
    /// For every answer not known to mean success: the state is then unknown and must be read again.
    pub(crate) fn judge(&self, reply: &str) -> Result<Verdict, Failure> {
        let reply = reply.trim();
        match self {
            // Warnings of a keyword may stand before it.
            Self::Add(..) if reply.ends_with("New server registered.") => Ok(Verdict::Done),
            Self::Delete(..)
                if reply.ends_with("Server deleted.") || reply == "No such server." =>
            {
                Ok(Verdict::Done)
            }
            Self::Delete(..) if reply.starts_with("Server still has connections attached") => {
                Ok(Verdict::Busy)
            }
            Self::Purge(..) if reply.ends_with("by 'stats socket command'") => Ok(Verdict::Done),
            // It is there already: an earlier try ended with this port (2.6 says so in other words).
            Self::Purge(..) if reply == "nothing changed" => Ok(Verdict::Done),
            Self::Purge(..) if reply == "No such server." => Ok(Verdict::Done),
            Self::ShutOne(..) if reply == "No such session (use 'show sess')." => Ok(Verdict::Done),
            Self::AddBackend(..) if reply.ends_with("New backend registered.") => Ok(Verdict::Done),
            Self::Publish(..) if reply.ends_with("Backend published.") => Ok(Verdict::Done),
            Self::Unpublish(..) if reply.ends_with("Backend unpublished.") => Ok(Verdict::Done),
            Self::DeleteBackend(..) if reply.ends_with("Backend deleted.") => Ok(Verdict::Done),
            Self::Unpublish(..) | Self::DeleteBackend(..) if reply == "No such backend." => {
                Ok(Verdict::Done)
            }
            Self::DeleteBackend(..) if STAYS.iter().any(|why| reply.ends_with(why)) => {
                Ok(Verdict::Busy)
            }
            Self::Add(..)
            | Self::Delete(..)
            | Self::Purge(..)
            | Self::AddBackend(..)
            | Self::Publish(..)
            | Self::Unpublish(..)
            | Self::DeleteBackend(..) => Err(self.unknown(reply)),
            _ if reply.is_empty() => Ok(Verdict::Done),
            _ => Err(self.unknown(reply)),
        }
    }

    fn unknown(&self, reply: &str) -> Failure {
        Failure::reply(self.to_string(), reply)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(b, s, keywords) => write!(f, "add server {b}/{s} {keywords}"),
            Self::EnableHealth(b, s) => write!(f, "enable health {b}/{s}"),
            Self::CookieKey(b, key) => write!(f, "set dynamic-cookie-key backend {b} {key}"),
            Self::Ready(b, s) => write!(f, "set server {b}/{s} state ready"),
            Self::Maint(b, s) => write!(f, "set server {b}/{s} state maint"),
            Self::Weight(b, s, weight) => write!(f, "set server {b}/{s} weight {weight}"),
            Self::Shut(b, s) => write!(f, "shutdown sessions server {b}/{s}"),
            Self::ShutOne(id) => write!(f, "shutdown session {id}"),
            Self::Purge(b, s, port) => write!(f, "set server {b}/{s} addr 127.0.0.1 port {port}"),
            Self::Delete(b, s) => write!(f, "del server {b}/{s}"),
            Self::AddBackend(b, shape, mode) => {
                write!(f, "add backend {b} from {shape} mode {mode}")
            }
            Self::Publish(b) => write!(f, "publish backend {b}"),
            Self::Unpublish(b) => write!(f, "unpublish backend {b}"),
            Self::DeleteBackend(b) => write!(f, "del backend {b}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (BackendName, ServerName) {
        (BackendName::new("a.b").unwrap(), ServerName::new("s2").unwrap())
    }

    // Recorded from 2.6.12, 2.8.25, 3.0.11, 3.2.26 and 3.4.0: where they differ, one of each kind.
    #[test]
    fn known_answers_are_understood() {
        let (b, s) = names();
        let add = Change::Add(b.clone(), s.clone(), "127.0.0.1:1 id 2".into());
        assert_eq!(add.to_string(), "add server a.b/s2 127.0.0.1:1 id 2");
        assert_eq!(add.judge("New server registered.\n").unwrap(), Verdict::Done);
        let delete = Change::Delete(b.clone(), s.clone());
        for done in ["Server deleted.\n", "Server deleted.\n\n", "No such server.\n"] {
            assert_eq!(delete.judge(done).unwrap(), Verdict::Done, "{done:?}");
        }
        for end in ["", "\n", "\n\n"] {
            let busy =
                format!("Server still has connections attached to it, cannot remove it.{end}");
            assert_eq!(delete.judge(&busy).unwrap(), Verdict::Busy, "{busy:?}");
        }
        let warned = "'x' : deprecated.\nNew server registered.\n\n";
        assert_eq!(add.judge(warned).unwrap(), Verdict::Done);
        let purge = Change::Purge(b.clone(), s.clone(), 1);
        for moved in [
            "no need to change the addr, port changed from '29095' to '1' by 'stats socket command'\n\n",
            "no need to change the addr, no need to change the port by 'stats socket command'\n\n",
            "IP changed from '10.0.0.1' to '127.0.0.1', port changed from '80' to '1' by 'stats socket command'\n\n",
            "port changed from '18082' to '1' by 'stats socket command'\n\n",
            "nothing changed\n\n",
            "No such server.\n\n",
        ] {
            assert_eq!(purge.judge(moved).unwrap(), Verdict::Done, "{moved:?}");
        }
        for other in
            ["", "no need to change the addr, no need to change the port", "No such backend."]
        {
            assert!(purge.judge(other).is_err(), "{other:?}");
        }
        let ended = Change::ShutOne("0x562cef67d750".into());
        assert_eq!(ended.to_string(), "shutdown session 0x562cef67d750");
        assert_eq!(ended.judge("No such session (use 'show sess').\n").unwrap(), Verdict::Done);
        assert!(ended.judge("Permission denied\n").is_err());
        assert_eq!(Change::Weight(b, s, 50).judge("").unwrap(), Verdict::Done);
    }

    // Recorded from 3.4.0, or read in its source.
    #[test]
    fn answers_about_backends_are_understood() {
        let (b, _) = names();
        let add = Change::AddBackend(b.clone(), "lb_shape_1".into(), "http");
        assert_eq!(add.to_string(), "add backend a.b from lb_shape_1 mode http");
        assert_eq!(add.judge("New backend registered.\n\n").unwrap(), Verdict::Done);
        for (change, done) in [
            (Change::Publish(b.clone()), "Backend published.\n\n"),
            (Change::Unpublish(b.clone()), "Backend unpublished.\n\n"),
            (Change::Unpublish(b.clone()), "No such backend.\n\n"),
            (Change::DeleteBackend(b.clone()), "Backend deleted.\n\n"),
            (Change::DeleteBackend(b.clone()), "No such backend.\n\n"),
        ] {
            assert_eq!(change.judge(done).unwrap(), Verdict::Done, "{change}");
        }
        let delete = Change::DeleteBackend(b.clone());
        for stays in STAYS {
            assert_eq!(delete.judge(&format!("{stays}\n\n")).unwrap(), Verdict::Busy, "{stays}");
        }
        for (change, reply) in [
            (add.clone(), ""),
            (add.clone(), "New backend registered (no support for dynamic servers: x).\n"),
            (add, "Cannot find default proxy 'lb_shape_1'.\n"),
            (Change::Publish(b.clone()), "No such backend.\n"),
            (Change::Publish(b), ""),
            (delete.clone(), "Backend must be unpublished prior to its deletion.\n"),
            (delete, "Unknown command: 'del backend'\n"),
        ] {
            assert!(change.judge(reply).is_err(), "{change}: {reply:?}");
        }
    }

    #[test]
    fn every_other_answer_is_a_failure() {
        let (b, s) = names();
        let add = Change::Add(b.clone(), s.clone(), String::new());
        for reply in [
            "",
            "Already exists a server with the same name in backend.\n",
            "'id' : custom id 2 already used at (null):0 ('server s2').\n",
            "unknown keyword 'foo'; did you mean 'tfo' maybe ?\n",
            "No such backend.",
            "'enabled' option is not accepted for dynamic server\n\n",
            "Unknown command: 'add server', but maybe one of the following ones is a better match:\n",
        ] {
            assert!(add.judge(reply).is_err(), "{reply:?}");
        }
        let delete = Change::Delete(b.clone(), s.clone());
        for reply in ["", "Only servers in maintenance mode can be deleted.", "Permission denied\n"]
        {
            assert!(delete.judge(reply).is_err(), "{reply:?}");
        }
        for change in [Change::Ready(b.clone(), s.clone()), Change::EnableHealth(b, s)] {
            for reply in ["No such server.\n", "Unknown command\n", "Permission denied\n", "ok"] {
                assert!(change.judge(reply).is_err(), "{change}: {reply:?}");
            }
        }
    }
}
