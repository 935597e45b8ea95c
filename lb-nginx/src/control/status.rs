//! The status server: the mark of the configuration a worker runs, and with Lua the servers.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use lb_core::balancer::Failure;
use lb_core::{BackendName, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest time for a request to be answered.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of an answer: the figures of some 300,000 servers.
const MOST_ANSWER: u64 = 64 * 1024 * 1024;

/// The status server by its socket.
#[derive(Debug, Clone)]
pub(crate) struct StatusSocket {
    path: PathBuf,
}

/// What a worker says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The generation mark.
    pub mark: String,
    /// The worker's process id, in its own namespace.
    pub pid: u32,
    /// What Lua knows; `None` without Lua.
    pub lua: Option<LuaStatus>,
}

/// What Lua counts, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LuaStatus {
    /// Names this run: counters begin at 0 with it.
    pub boot: u64,
    /// Names the servers it picks from.
    pub state: String,
    pub backends: Vec<LuaBackend>,
    pub servers: Vec<LuaServer>,
}

/// A backend's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LuaBackend {
    pub name: BackendName,
    /// All requests, also those that reached no server or one that left.
    pub requests: u64,
    pub failures: u64,
    pub queued: u64,
    /// Time of all requests, in microseconds.
    pub micros: u64,
}

/// A server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LuaServer {
    pub backend: BackendName,
    pub name: ServerName,
    pub open: u64,
    pub requests: u64,
    pub up: bool,
}

impl StatusSocket {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What one of the workers that accept says.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        Status::parse(&self.ask("GET /status", "").await?)
    }

    /// Gives Lua servers, as `balancer/server.rs` writes them.
    pub(crate) async fn put_servers(&self, text: &str) -> Result<(), Failure> {
        match self.ask("POST /servers", text).await?.as_str() {
            "taken\n" => Ok(()),
            other => Err(Failure::reply("POST /servers", other)),
        }
    }

    async fn ask(&self, request: &str, body: &str) -> Result<String, Failure> {
        self.bounded(request, async {
            let mut stream = UnixStream::connect(&self.path)
                .await
                .map_err(|source| Failure::Connect { path: self.path.clone(), source })?;
            let cut = |_| Failure::Cut { path: self.path.clone(), command: request.to_owned() };
            let head = format!("{request} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.map_err(cut)?;
            stream.write_all(body.as_bytes()).await.map_err(cut)?;
            let mut answer = Vec::new();
            stream.take(MOST_ANSWER).read_to_end(&mut answer).await.map_err(cut)?;
            let answer = String::from_utf8_lossy(&answer);
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                return Err(cut(std::io::ErrorKind::UnexpectedEof.into()));
            };
            match head.split(' ').nth(1) {
                Some("200") => Ok(body.to_owned()),
                _ => Err(Failure::reply(request, &answer)),
            }
        })
        .await
    }

    async fn bounded<T>(
        &self,
        request: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(DEADLINE, work).await.unwrap_or_else(|_| {
            let (path, command) = (self.path.clone(), request.to_owned());
            Err(Failure::Silent { path, command, deadline: DEADLINE })
        })
    }
}

impl Status {
    /// Reads lines of words: `mark`, `pid`, and with Lua `boot`, `state`, `backend` and `server`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::reply("GET /status", text);
        let (mut status, mut lua) = (Self::default(), LuaStatus::default());
        let (mut marked, mut by_lua) = (false, false);
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["mark", mark] => (status.mark, marked) = ((*mark).to_owned(), true),
                ["pid", pid] => status.pid = pid.parse().map_err(|_| wrong())?,
                ["boot", boot] => {
                    (lua.boot, by_lua) = (boot.parse().map_err(|_| wrong())?, true);
                }
                ["state", state] => (*state).clone_into(&mut lua.state),
                ["backend", rest @ ..] => lua.backends.push(backend(rest).ok_or_else(wrong)?),
                ["server", rest @ ..] => lua.servers.push(server(rest).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            }
        }
        status.lua = by_lua.then_some(lua);
        if marked { Ok(status) } else { Err(wrong()) }
    }
}

/// What is open or waits now. Less than none is none: it counts up again by itself, and is no reason to manage
/// nothing meanwhile.
fn gauge(text: &str) -> Option<u64> {
    text.parse().ok().map(|number: i64| number.max(0).unsigned_abs())
}

fn backend(words: &[&str]) -> Option<LuaBackend> {
    let [name, requests, failures, queued, micros] = words else { return None };
    Some(LuaBackend {
        name: BackendName::new(name).ok()?,
        requests: requests.parse().ok()?,
        failures: failures.parse().ok()?,
        queued: gauge(queued)?,
        micros: micros.parse().ok()?,
    })
}

fn server(words: &[&str]) -> Option<LuaServer> {
    let [backend, name, open, requests, state] = words else { return None };
    Some(LuaServer {
        backend: BackendName::new(backend).ok()?,
        name: ServerName::new(name).ok()?,
        open: gauge(open)?,
        requests: requests.parse().ok()?,
        up: match *state {
            "up" => true,
            "down" => false,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_lua_says_its_mark_and_no_more() {
        let status = Status::parse("mark 0123\npid 7\n").unwrap();
        assert_eq!((status.mark.as_str(), status.pid, status.lua), ("0123", 7, None));
    }

    #[test]
    fn lua_says_what_is_in_flight() {
        let text = "mark 0123\npid 7\nboot 99\nstate ab\nbackend shop.web 1 2 3 4000000\n\
                    server shop.web a 5 6 up\nserver shop.web b 0 0 down\n";
        let lua = Status::parse(text).unwrap().lua.unwrap();
        assert_eq!((lua.boot, lua.state.as_str()), (99, "ab"));
        assert_eq!((lua.backends[0].failures, lua.backends[0].queued), (2, 3));
        assert_eq!((lua.servers[0].open, lua.servers[0].up, lua.servers[1].up), (5, true, false));
    }

    #[test]
    fn less_than_none_in_flight_or_waiting_is_none_and_counters_are_never_less() {
        let text = |failures| {
            format!(
                "mark 0123\nboot 99\nbackend shop.web 1 {failures} -3 4\nserver shop.web a -1 6 up\n"
            )
        };
        let lua = Status::parse(&text(2)).unwrap().lua.unwrap();
        assert_eq!((lua.backends[0].queued, lua.servers[0].open), (0, 0));
        assert!(Status::parse(&text(-2)).is_err());
    }

    #[test]
    fn an_unknown_answer_is_refused() {
        for text in
            ["", "pid 7\n", "mark a\npid x\n", "mark a\nnovelty 1\n", "mark a\nserver A b 1 1 up\n"]
        {
            assert!(Status::parse(text).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_absent_socket_cannot_be_reached() {
        let socket = StatusSocket::new("/nonexistent/s".into());
        assert!(matches!(socket.status().await, Err(Failure::Connect { .. })));
    }
}
