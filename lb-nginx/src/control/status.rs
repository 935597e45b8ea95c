//! The status server: the mark of the configuration a worker runs.

use std::path::PathBuf;
use std::time::Duration;

use lb_core::balancer::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest time for a request to be answered.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const MOST_ANSWER: u64 = 4 * 1024;
/// What is asked.
const REQUEST: &str = "GET /status";

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
}

impl StatusSocket {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What one of the workers that accept says.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let answer = timeout(DEADLINE, self.ask()).await.unwrap_or_else(|_| {
            let (path, command) = (self.path.clone(), REQUEST.to_owned());
            Err(Failure::Silent { path, command, deadline: DEADLINE })
        })?;
        Status::parse(&answer)
    }

    async fn ask(&self) -> Result<String, Failure> {
        let mut stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| Failure::Connect { path: self.path.clone(), source })?;
        let cut = |_| Failure::Cut { path: self.path.clone(), command: REQUEST.to_owned() };
        stream.write_all(format!("{REQUEST} HTTP/1.0\r\n\r\n").as_bytes()).await.map_err(cut)?;
        let mut answer = Vec::new();
        stream.take(MOST_ANSWER).read_to_end(&mut answer).await.map_err(cut)?;
        let answer = String::from_utf8_lossy(&answer);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Err(cut(std::io::ErrorKind::UnexpectedEof.into()));
        };
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(Failure::reply(REQUEST, &answer)),
        }
    }
}

impl Status {
    /// Reads two lines of two words: `mark` and `pid`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::reply(REQUEST, text);
        let mut words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        match (words.next().as_deref(), words.next().as_deref(), words.next()) {
            (Some(["mark", mark]), Some(["pid", pid]), None) => {
                let pid = pid.parse().map_err(|_| wrong())?;
                Ok(Self { mark: (*mark).to_owned(), pid })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_says_its_mark_and_no_more() {
        let status = Status::parse("mark 0123\npid 7\n").unwrap();
        assert_eq!((status.mark.as_str(), status.pid), ("0123", 7));
    }

    #[test]
    fn an_unknown_answer_is_refused() {
        for text in ["", "pid 7\n", "mark a\npid x\n", "mark a\nnovelty 1\n", "mark a\npid 1\nx\n"]
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
