//! Keeps the platform's process: starts it, kills it, tells it what to do, and notices when it ends by itself.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::desk::Desk;
use super::judge::Rule;
use super::platform::{Order, Word};

/// The first argument of a process that is the platform.
pub const ROLE: &str = "platform";
/// Longest time for one answer: a store's deadline and a busy machine.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest time an order is tried again while no platform is there.
const THERE: Duration = Duration::from_secs(60);
/// Longest time for the platform to end in order: what is in flight ends first.
const ENDS: Duration = Duration::from_secs(90);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The platforms there are: the one that takes orders, and one more that follows.
#[derive(Debug)]
pub struct Keeper {
    desk: Arc<Desk>,
    arguments: Vec<OsString>,
    log: PathBuf,
    first: Mutex<Option<Process>>,
}

/// A platform's process.
#[derive(Debug)]
struct Process {
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Keeper {
    /// `arguments` are those of this program; `log` takes what the platform writes.
    pub fn new(desk: Arc<Desk>, arguments: Vec<OsString>, log: PathBuf) -> Self {
        Self { desk, arguments, log, first: Mutex::new(None) }
    }

    fn spawn(&self) -> std::io::Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for the campaign, which then ends the platform in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let none = || std::io::Error::other("the platform has no pipes");
        let orders = child.stdin.take().ok_or_else(none)?;
        let words = BufReader::new(child.stdout.take().ok_or_else(none)?).lines();
        Ok(Process { child, orders, words })
    }

    /// Starts it, unless it is there.
    pub async fn start(&self) -> std::io::Result<()> {
        let mut first = self.first.lock().await;
        if first.is_none() {
            *first = Some(self.spawn()?);
        }
        Ok(())
    }

    /// By SIGKILL.
    pub async fn kill(&self) {
        if let Some(mut process) = self.first.lock().await.take() {
            let _ = process.child.kill().await;
        }
    }

    /// Another one is started and follows; the first is killed when the other answers.
    pub async fn replace(&self) -> std::io::Result<()> {
        let mut second = self.spawn()?;
        let word = second.ask(&Order::Look).await;
        if let Err(error) = &word {
            self.violate(format!("a second platform does not answer: {error}"));
        }
        if word.is_ok_and(|word| word.leads) && self.first.lock().await.is_some() {
            self.violate("a second platform leads beside the first".to_owned());
        }
        let mut first = self.first.lock().await;
        if let Some(mut process) = first.take() {
            let _ = process.child.kill().await;
        }
        *first = Some(second);
        Ok(())
    }

    /// Its process id, where there is one.
    pub async fn pid(&self) -> Option<u32> {
        self.first.lock().await.as_ref().and_then(|process| process.child.id())
    }

    /// Gives an order, again as long as there is no platform: each may be given twice.
    pub async fn tell(&self, order: &Order) -> Option<Word> {
        let deadline = Instant::now() + THERE;
        loop {
            if let Some(word) = self.try_tell(order).await {
                return Some(word);
            }
            if Instant::now() > deadline {
                self.violate(format!("no answer to {} within {THERE:?}", order.name()));
                return None;
            }
            sleep(PAUSE).await;
        }
    }

    /// Gives an order once.
    pub async fn try_tell(&self, order: &Order) -> Option<Word> {
        let mut first = self.first.lock().await;
        let process = first.as_mut()?;
        match process.ask(order).await {
            Ok(word) => Some(word),
            Err(error) => {
                let ended = timeout(PAUSE, process.child.wait()).await;
                let how = ended.map_or_else(|_| "it still runs".to_owned(), |e| format!("{e:?}"));
                self.violate(format!("no answer to {}: {error}; {how}", order.name()));
                let _ = process.child.kill().await;
                *first = self.spawn().ok();
                None
            }
        }
    }

    /// Ends it in order, and its balancer with it.
    pub async fn end(&self) {
        let Some(mut process) = self.first.lock().await.take() else { return };
        let ended = async {
            let word = process.ask_within(&Order::End, ENDS).await?;
            word.error.map_or(Ok(()), |error| Err(std::io::Error::other(error)))?;
            process.child.wait().await.map(drop)
        };
        match timeout(ENDS, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.violate(format!("does not end in order: {error}")),
            Err(_) => self.violate(format!("does not end within {ENDS:?}")),
        }
        let _ = process.child.kill().await;
    }

    fn violate(&self, text: String) {
        self.desk.judge().violate(self.desk.now(), Rule::Platform, text);
    }
}

impl Process {
    async fn ask(&mut self, order: &Order) -> std::io::Result<Word> {
        self.ask_within(order, ANSWER).await
    }

    async fn ask_within(&mut self, order: &Order, within: Duration) -> std::io::Result<Word> {
        let exchange = async {
            let mut line = serde_json::to_vec(order)?;
            line.push(b'\n');
            self.orders.write_all(&line).await?;
            let word = self.words.next_line().await?;
            let ended = || std::io::Error::other("it has ended");
            Ok(serde_json::from_str(&word.ok_or_else(ended)?)?)
        };
        timeout(within, exchange).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl Order {
    const fn name(&self) -> &'static str {
        match self {
            Self::Deploy(_) => "deploy",
            Self::Remove(_) => "remove",
            Self::Look => "look",
            Self::End => "end",
        }
    }
}
