//! Talking to a running HAProxy: the runtime API of its workers and the command line of its master.
//!
//! Nothing here decides anything: commands go out, answers come back parsed, and an answer that is not
//! known is an error.

mod certificate;
mod change;
mod info;
mod processes;
mod sessions;
mod socket;
mod stat;

pub(crate) use self::certificate::{abort_certificate, commit_certificate, set_certificate};
pub(crate) use self::change::{Change, Verdict};
pub(crate) use self::info::WorkerInfo;
pub(crate) use self::processes::Processes;
pub(crate) use self::sessions::{SessionEntry, parse_sessions};
pub(crate) use self::socket::{Session, Socket};
pub(crate) use self::stat::{Row, RowKind, Stat};

use lb_core::balancer::Failure;

/// Statistics of all backends and servers: their lines only, without frontends.
const SHOW_STAT: &str = "show stat -1 6 -1";

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

    /// Asks for a reload. 2.6 answers nothing and closes; later versions say how it went.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Failure> {
        let reply = match self.0.ask("reload").await {
            Err(Failure::Cut { .. }) => return Ok(Reloaded::Unknown),
            reply => reply?,
        };
        match reply.lines().next().unwrap_or_default().trim() {
            "" => Ok(Reloaded::Unknown),
            "Success=1" => Ok(Reloaded::Done),
            "Success=0" => Ok(Reloaded::Refused(reply)),
            _ => Err(Failure::reply("reload", &reply)),
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
        Ok(parse_sessions(&self.of_worker(worker, "show sess").await?))
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
    /// The new worker runs.
    Done,
    /// The new configuration was refused, with the reason.
    Refused(String),
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
pub(crate) async fn sessions(session: &mut Session) -> Result<Vec<SessionEntry>, Failure> {
    Ok(parse_sessions(&session.ask("show sess").await?))
}
