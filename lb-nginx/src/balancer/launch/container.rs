//! NGINX in a container on the host's network.

use std::time::Duration;

use async_trait::async_trait;
use lb_core::balancer::{BalancerContainer, Failure, Owner};
use lb_core::{Capability, ErrorKind, Exit};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep};

use super::{CHECK_DEADLINE, Launch, Worker, unchecked};
use crate::balancer::compose::ORDERS;
use crate::balancer::look::LOOK_AGAIN;

/// Longest time from the container's start to NGINX's first answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// The user of the official image.
const USER: &str = "nginx";

/// Runs NGINX in the directory `$1` as the container's first process. What is left of one that was killed goes
/// first: nobody can bind a socket that is there. An engine gives no way to signal a process that this crate
/// could rely on, and none to see those of a container from another: a line in the pipe is an order. `END N` ends the N
/// workers of earlier configurations that have the lowest numbers, `COUNT` writes down how many there are.
const RUN: &str = r#"rm -f "$1"/private/*.sock "$1"/none.sock
[ -p "$1"/private/orders ] || mkfifo -m 600 "$1"/private/orders
master=$$
old() {
    for process in /proc/[0-9]*; do
        title=
        read -r title <"$process"/cmdline
        case $title in "nginx: worker process is"*) echo "${process#/proc/}" ;; esac
    done 2>/dev/null | sort -n
}
exec 3<>"$1"/private/orders
while read -r order count <&3; do
    case $order in
        END) old | while read -r worker; do
            [ "$count" -gt 0 ] && kill -s TERM "$worker"
            count=$((count - 1))
        done ;;
        COUNT) old | wc -l >"$1"/private/old ;;
        *) kill -s "$order" "$master" ;;
    esac
done &
exec nginx -e stderr -p "$1"/ -c "$1"/nginx.conf 3>&-
"#;

/// Where it is written down, in the directory.
const OLD: &str = "private/old";
/// Longest time until it is.
const COUNT_DEADLINE: Duration = Duration::from_secs(1);

/// NGINX in a container on the host's network.
#[derive(Debug)]
pub(crate) struct InContainer(pub BalancerContainer);

impl InContainer {
    async fn order(&self, order: &str) -> Result<(), Failure> {
        let path = self.0.directory.join(ORDERS);
        let wrong = |source| Failure::Connect { path: path.clone(), source };
        let mut pipe = pipe::OpenOptions::new().open_sender(&path).map_err(wrong)?;
        pipe.write_all(format!("{order}\n").as_bytes()).await.map_err(wrong)
    }

    async fn command(&self, words: Vec<String>) -> Result<Exit, Failure> {
        // A check binds ports, where nobody has them.
        let capabilities = [Capability::NetBindService];
        match self.0.run_to_end(words, capabilities, CHECK_DEADLINE).await {
            Err(e) if e.kind() == ErrorKind::Unavailable && e.operation().is_empty() => {
                Err(unchecked(&e))
            }
            exit => Ok(exit?),
        }
    }
}

#[async_trait]
impl Launch for InContainer {
    async fn run(&self, args: &[&str]) -> Result<Exit, Failure> {
        let words = std::iter::once("nginx").chain(args.iter().copied());
        self.command(words.map(str::to_owned).collect()).await
    }

    async fn worker(&self) -> Result<Option<Worker>, Failure> {
        let script = format!("id -u {USER} && id -g {USER} && id -gn {USER}");
        let exit = self.command(vec!["sh".into(), "-c".into(), script]).await?;
        let mut lines = exit.output.lines();
        let mut worker = || {
            let (uid, gid) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
            Some(Worker { names: format!("{USER} {}", lines.next()?), uid, gid })
        };
        worker().map(Some).ok_or_else(|| Failure::Setup {
            field: "image",
            message: format!("must have a user {USER} and the program id: {}", exit.output.trim()),
        })
    }

    async fn start(&self) -> Result<(), Failure> {
        let directory = self.0.directory.display().to_string();
        let words = ["sh", "-c", RUN, "nginx", &directory];
        Ok(self.0.start(words.map(str::to_owned).to_vec(), []).await?)
    }

    async fn reload(&self) -> Result<(), Failure> {
        self.order("HUP").await
    }

    async fn old_workers(&self) -> Option<u32> {
        let path = self.0.directory.join(OLD);
        let _ = tokio::fs::remove_file(&path).await;
        self.order("COUNT").await.ok()?;
        let deadline = Instant::now() + COUNT_DEADLINE;
        while Instant::now() < deadline {
            let text = tokio::fs::read_to_string(&path).await.unwrap_or_default();
            if let Some(count) = text.strip_suffix('\n') {
                return count.trim().parse().ok();
            }
            sleep(LOOK_AGAIN).await;
        }
        None
    }

    async fn end_oldest(&self, count: u32) -> Result<(), Failure> {
        self.order(&format!("END {count}")).await
    }

    async fn stop(&self) -> Result<(), Failure> {
        Ok(self.0.stop().await?)
    }

    async fn log(&self) -> String {
        self.0.log().await
    }

    fn owner(&self) -> Owner {
        Owner::Ours
    }

    fn sees_processes(&self) -> bool {
        false
    }

    fn start_deadline(&self) -> Duration {
        START_DEADLINE
    }
}
