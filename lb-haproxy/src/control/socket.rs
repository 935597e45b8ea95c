//! A unix socket that takes commands line by line.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use lb_core::balancer::Failure;

/// Longest time for one command, or one batch of them, to be answered.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Most commands in one write: HAProxy reads them into one buffer (`tune.bufsize`, 16 kB).
pub(crate) const MOST_COMMANDS: usize = 100;
/// Most bytes in one write, below that buffer less what HAProxy reserves in it.
pub(crate) const MOST_BYTES: usize = 12 * 1024;
/// Most bytes of one answer: the statistics of some 300,000 servers.
const MOST_ANSWER: usize = 128 * 1024 * 1024;
/// In interactive mode each answer ends so (management guide, 9.3 `prompt`).
const PROMPT: &[u8] = b"\n> ";

/// A socket by its path.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    path: PathBuf,
}

impl Socket {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Sends one command and reads its answer to the end of the connection.
    pub(crate) async fn ask(&self, command: &str) -> Result<String, Failure> {
        self.ask_within(command, DEADLINE).await
    }

    /// The same for a command that may take longer than others.
    pub(crate) async fn ask_within(
        &self,
        command: &str,
        deadline: Duration,
    ) -> Result<String, Failure> {
        within(deadline, &self.path, command, async {
            let mut stream = self.connect().await?;
            let cut = |_| Failure::Cut { path: self.path.clone(), command: first_line(command) };
            stream.write_all(format!("{command}\n").as_bytes()).await.map_err(cut)?;
            stream.shutdown().await.map_err(cut)?;
            let mut answer = Vec::new();
            stream.take(MOST_ANSWER as u64).read_to_end(&mut answer).await.map_err(cut)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })
        .await
    }

    /// Opens a connection for many commands.
    pub(crate) async fn session(&self) -> Result<Session, Failure> {
        let stream = within(DEADLINE, &self.path, "prompt", self.connect()).await?;
        let mut session = Session { stream, path: self.path.clone(), unread: Vec::new() };
        session.run(&["prompt"]).await?;
        Ok(session)
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        UnixStream::connect(&self.path)
            .await
            .map_err(|source| Failure::Connect { path: self.path.clone(), source })
    }
}

/// A connection in interactive mode: one worker at the other end for all its commands, and answers that
/// can be told apart.
#[derive(Debug)]
pub(crate) struct Session {
    stream: UnixStream,
    path: PathBuf,
    unread: Vec<u8>,
}

impl Session {
    /// The answer to one command.
    pub(crate) async fn ask(&mut self, command: &str) -> Result<String, Failure> {
        Ok(self.run(&[command]).await?.pop().unwrap_or_default())
    }

    /// The answers to all commands, in order. Commands travel in batches.
    pub(crate) async fn run<C: AsRef<str>>(
        &mut self,
        commands: &[C],
    ) -> Result<Vec<String>, Failure> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut rest = commands;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            let path = self.path.clone();
            let first = batch[0].as_ref();
            within(DEADLINE, &path, first, self.run_batch(batch, &mut answers)).await?;
            rest = later;
        }
        Ok(answers)
    }

    async fn run_batch<C: AsRef<str>>(
        &mut self,
        batch: &[C],
        answers: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let first = first_line(batch[0].as_ref());
        let cut = || Failure::Cut { path: self.path.clone(), command: first.clone() };
        let text: String = batch.iter().flat_map(|c| [c.as_ref(), "\n"]).collect();
        self.stream.write_all(text.as_bytes()).await.map_err(|_| cut())?;
        let mut searched = 0;
        let wanted = answers.len() + batch.len();
        while answers.len() < wanted {
            if let Some(end) = find(&self.unread[searched..]).map(|at| at + searched) {
                answers.push(String::from_utf8_lossy(&self.unread[..end]).into_owned());
                self.unread.drain(..end + PROMPT.len());
                searched = 0;
                continue;
            }
            searched = self.unread.len().saturating_sub(PROMPT.len());
            let read = self.stream.read_buf(&mut self.unread).await.map_err(|_| cut())?;
            if read == 0 || self.unread.len() > MOST_ANSWER {
                return Err(cut());
            }
        }
        Ok(())
    }
}

/// How many of the commands fit one write: at least one.
fn batch_len<C: AsRef<str>>(commands: &[C]) -> usize {
    let mut bytes = 0;
    let fits = commands.iter().take(MOST_COMMANDS).take_while(|command| {
        bytes += command.as_ref().len() + 1;
        bytes <= MOST_BYTES
    });
    fits.count().max(1)
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(PROMPT.len()).position(|w| w == PROMPT)
}

fn first_line(command: &str) -> String {
    command.lines().next().unwrap_or_default().to_owned()
}

async fn within<T>(
    deadline: Duration,
    path: &Path,
    command: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(deadline, work).await.unwrap_or_else(|_| {
        let command = first_line(command);
        Err(Failure::Silent { path: path.to_owned(), command, deadline })
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn batches_respect_both_bounds() {
        assert_eq!(batch_len(&vec!["x"; 1_000]), MOST_COMMANDS);
        assert_eq!(batch_len(&vec!["x".repeat(1_023); 50]), 12);
        assert_eq!(batch_len(&["x".repeat(20_000)]), 1);
    }

    /// Answers each line with `answer`, in pieces of `piece` bytes.
    fn serve(dir: &Path, answer: &'static [u8], piece: usize) -> Socket {
        let path = dir.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                for _ in buffer[..n].iter().filter(|b| **b == b'\n') {
                    for part in answer.chunks(piece) {
                        stream.write_all(part).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
            }
        });
        Socket::new(path)
    }

    #[tokio::test]
    async fn answers_are_told_apart_however_they_arrive() {
        for piece in [1, 2, 3, 100] {
            let dir = tempfile::tempdir().unwrap();
            let socket = serve(dir.path(), b"New server registered.\n\n> ", piece);
            let mut session = socket.session().await.unwrap();
            let answers = session.run(&["a", "b", "c"]).await.unwrap();
            assert_eq!(answers, ["New server registered.\n"; 3], "pieces of {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_socket_is_a_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let socket = serve(dir.path(), b"", 1);
        assert!(matches!(socket.session().await, Err(Failure::Silent { .. })));
    }

    #[tokio::test]
    async fn an_absent_socket_cannot_be_reached() {
        let socket = Socket::new("/nonexistent/s");
        assert!(matches!(socket.ask("show proc").await, Err(Failure::Connect { .. })));
    }
}
