//! Talking to a running HAProxy: the runtime API of its workers and the command line of its master.
//!
//! Nothing here decides anything: commands go out, answers come back parsed, and an answer that is not
//! known is an error.

mod certificate;
mod change;
mod info;
mod map;
mod processes;
#[cfg(test)]
pub(crate) mod recorded;
mod sessions;
mod socket;
mod stat;

pub(crate) use self::certificate::{
    abort_certificate, commit_certificate, delete_certificate, list_certificate, listed,
    new_certificate, set_certificate,
};
pub(crate) use self::change::{Change, Verdict};
pub(crate) use self::info::WorkerInfo;
pub(crate) use self::map::replace_map;
pub(crate) use self::processes::Processes;
pub(crate) use self::sessions::{SessionEntry, Sessions, parse_sessions};
pub(crate) use self::socket::{Session, Socket};
pub(crate) use self::stat::{Row, RowKind, Stat};

use std::time::Duration;

use lb_core::balancer::Failure;

/// Statistics of all backends and servers: their lines only, without frontends.
const SHOW_STAT: &str = "show stat -1 7 -1";

/// In the answer to a reload that was not begun.
const RELOAD_IN_PROGRESS: &str = "Another reload is still in progress.";

/// The master's socket.
#[derive(Debug, Clone)]
pub(crate) struct Master(Socket);

impl Master {
    pub(crate) const fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// The processes there are.
    pub(crate) async fn processes(&self) -> Result<Processes, Failure> {
        Processes::parse(&self.0.ask("show proc").await?)
    }

    /// Asks for a reload. 2.6 answers nothing and closes; later versions say how it went once they know, at the latest
    /// after `patience`.
    pub(crate) async fn reload(&self, patience: Duration) -> Result<Reloaded, Failure> {
        match self.0.ask_within("reload", patience).await {
            Err(Failure::Cut { .. }) => Ok(Reloaded::Unknown),
            reply => Reloaded::parse(reply?),
        }
    }

    /// What a worker says of itself.
    pub(crate) async fn info(&self, worker: u32) -> Result<WorkerInfo, Failure> {
        WorkerInfo::parse(&self.of_worker(worker, "show info").await?)
    }

    /// A worker's statistics.
    pub(crate) async fn stat(&self, worker: u32) -> Result<Stat, Failure> {
        Stat::parse(&self.of_worker(worker, SHOW_STAT).await?)
    }

    /// The same, and whose they are.
    pub(crate) async fn counted(&self, worker: u32) -> Result<(WorkerInfo, Stat), Failure> {
        Ok((self.info(worker).await?, self.stat(worker).await?))
    }

    /// The connections a worker holds to servers.
    pub(crate) async fn sessions(&self, worker: u32) -> Result<Vec<SessionEntry>, Failure> {
        Ok(parse_sessions(&self.of_worker(worker, "show sess").await?).entries)
    }

    /// Shuts one of them. One that has ended is success.
    pub(crate) async fn shut(&self, worker: u32, session: &SessionEntry) -> Result<(), Failure> {
        let change = Change::ShutOne(session.id.clone());
        change.judge(&self.of_worker(worker, &change.to_string()).await?).map(drop)
    }

    /// A worker's answer, which an empty line ends. Without one it was cut, or the master speaks of itself.
    async fn of_worker(&self, worker: u32, command: &str) -> Result<String, Failure> {
        let command = format!("@!{worker} {command}");
        let reply = self.0.ask(&command).await?;
        match reply == "\n" || reply.ends_with("\n\n") {
            true => Ok(reply),
            false => Err(Failure::reply(command, &reply)),
        }
    }
}

/// How a reload went, as far as the master says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// It does not say: look at its processes.
    Unknown,
    /// Not begun: an earlier one has not ended (3.1).
    Busy,
    /// The new worker runs.
    Done,
    /// The new configuration was refused, with the reason.
    Refused(String),
}

impl Reloaded {
    fn parse(reply: String) -> Result<Self, Failure> {
        match reply.lines().next().unwrap_or_default().trim() {
            "" => Ok(Self::Unknown),
            "Success=1" => Ok(Self::Done),
            "Success=0" if reply.contains(RELOAD_IN_PROGRESS) => Ok(Self::Busy),
            "Success=0" => Ok(Self::Refused(reply)),
            _ => Err(Failure::reply("reload", &reply)),
        }
    }
}

/// Connects to the worker that accepts on the statistics socket, and hears what it says of itself.
pub(crate) async fn meet(socket: &Socket) -> Result<(Session, WorkerInfo), Failure> {
    let mut session = socket.session().await?;
    let info = WorkerInfo::parse(&session.ask("show info").await?)?;
    Ok((session, info))
}

/// The statistics of the worker at the other end.
pub(crate) async fn stat(session: &mut Session) -> Result<Stat, Failure> {
    Stat::parse(&session.ask(SHOW_STAT).await?)
}

/// The connections it holds to servers.
pub(crate) async fn sessions(session: &mut Session) -> Result<Sessions, Failure> {
    Ok(parse_sessions(&session.ask("show sess").await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded from 2.6.12, 2.8.25, 3.2.26 and 3.4.0, shortened.
    #[test]
    fn how_a_reload_went_is_its_first_line() {
        let parse = |reply: &str| Reloaded::parse(reply.to_owned());
        assert_eq!(parse("").unwrap(), Reloaded::Unknown);
        for done in [
            "Success=1\n--\n[NOTICE]   (32566) : New worker (2323) forked\n\n",
            "Success=1\n--\n[NOTICE]   (10836) : Initializing new worker (13212)\n[NOTICE]   (10836) : Loading success.\n\n",
            "Success=1\n",
        ] {
            assert_eq!(parse(done).unwrap(), Reloaded::Done, "{done:?}");
        }
        let refused =
            "Success=0\n--\n[ALERT]    (10713) : config : Fatal errors found in configuration.\n\n";
        assert_eq!(parse(refused).unwrap(), Reloaded::Refused(refused.to_owned()));
        let busy = "Success=0\n--\nAnother reload is still in progress.\n\n";
        assert_eq!(parse(busy).unwrap(), Reloaded::Busy);
        for other in ["Permission denied\n", "Unknown command\n", "Success=2\n"] {
            assert!(parse(other).is_err(), "{other:?}");
        }
    }
}
