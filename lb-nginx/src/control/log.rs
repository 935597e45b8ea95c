//! Log lines of what no other part counts: datagrams on a unix socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lb_core::balancer::Failure;
use lb_core::{BackendName, Error, ErrorKind};
use serde::Deserialize;
use tokio::net::UnixDatagram;
use tokio::task::JoinHandle;

/// Longest line; what is longer is cut and not counted.
const MOST_LINE: usize = 8 * 1024;
/// Longest time of a request that is believed, in seconds: some thirty years.
const MOST_SECONDS: f64 = 1e9;
/// Most backends and servers that are counted apart between two calls of [`Receiver::take`].
const MOST_COUNTED: usize = 100_000;

/// Whose requests: a listener's port for byte streams, a backend's name for HTTP; and the server's address.
pub(crate) type Whose = (Target, Option<SocketAddr>);

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Port(u16),
    Backend(BackendName),
}

/// Counts of some lines.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Logged {
    pub requests: u64,
    pub failures: u64,
    /// Seconds of the requests that were timed, and how many.
    pub seconds: f64,
    pub timed: u64,
}

/// Counts lines for as long as it lives.
#[derive(Debug)]
pub(crate) struct Receiver {
    counts: Arc<Mutex<BTreeMap<Whose, Logged>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Listens at `path`, where workers of this user may write.
    pub(crate) fn bind(path: &Path, user: Option<u32>) -> Result<Self, Failure> {
        let wrong = |e: std::io::Error| {
            let subject = path.display().to_string();
            Failure::Other(Error::new(ErrorKind::Unavailable, "", subject, e.to_string()))
        };
        // One of a process before this one.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(wrong(e)),
            _ => {}
        }
        let socket = UnixDatagram::bind(path).map_err(wrong)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(wrong)?;
        if let Some(user) = user {
            std::os::unix::fs::chown(path, Some(user), None).map_err(wrong)?;
        }
        let counts = Arc::<Mutex<BTreeMap<Whose, Logged>>>::default();
        let task = tokio::spawn(receive(socket, counts.clone()));
        Ok(Self { counts, task })
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> BTreeMap<Whose, Logged> {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn receive(socket: UnixDatagram, counts: Arc<Mutex<BTreeMap<Whose, Logged>>>) {
    let mut buffer = vec![0; MOST_LINE];
    while let Ok(length) = socket.recv(&mut buffer).await {
        let Some((whose, line)) = parse(&buffer[..length]) else {
            tracing::debug!(line = %String::from_utf8_lossy(&buffer[..length]), "log line not known");
            continue;
        };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MOST_COUNTED || counts.contains_key(&whose) {
            counts.entry(whose).or_default().add(line);
        }
    }
}

impl Logged {
    /// Adds others to them.
    pub(crate) fn add(&mut self, line: Self) {
        self.requests = self.requests.saturating_add(line.requests);
        self.failures = self.failures.saturating_add(line.failures);
        self.seconds += line.seconds;
        self.timed = self.timed.saturating_add(line.timed);
    }
}

/// A line as `balancer/compose.rs` has NGINX write it; values are text, with `, ` between several tries.
#[derive(Deserialize)]
struct Line<'a> {
    backend: Option<&'a str>,
    port: Option<&'a str>,
    server: &'a str,
    status: &'a str,
    requests: &'a str,
    seconds: &'a str,
}

/// Reads the JSON behind syslog's own head (RFC 3164).
pub(crate) fn parse(datagram: &[u8]) -> Option<(Whose, Logged)> {
    let text = std::str::from_utf8(datagram).ok()?;
    let line: Line<'_> = serde_json::from_str(&text[text.find('{')?..]).ok()?;
    let target = match (line.backend, line.port) {
        (Some(name), None) => Target::Backend(BackendName::new(name).ok()?),
        (None, Some(port)) => Target::Port(port.parse().ok()?),
        _ => return None,
    };
    let last = |all: &str| all.rsplit([',', ' ']).next().unwrap_or_default().to_owned();
    let status: u16 = line.status.parse().ok()?;
    let seconds: Option<f64> = last(line.seconds).parse().ok();
    let seconds = seconds.filter(|seconds| (0.0..=MOST_SECONDS).contains(seconds));
    let counts = Logged {
        requests: line.requests.parse().ok()?,
        failures: u64::from(status >= 500),
        seconds: seconds.unwrap_or_default(),
        timed: u64::from(seconds.is_some()),
    };
    Some(((target, last(line.server).parse().ok()), counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_whose_request_it_was_and_how_it_ended() {
        let line = br#"<190>Nov 25 03:13:22 lb: {"backend":"shop.web","server":"10.0.0.1:80, 10.0.0.2:80","status":"200","requests":"10","seconds":"0.001, 0.250"}"#;
        let (whose, counts) = parse(line).unwrap();
        let name = BackendName::new("shop.web").unwrap();
        assert_eq!(whose, (Target::Backend(name), Some("10.0.0.2:80".parse().unwrap())));
        assert_eq!((counts.requests, counts.failures, counts.timed), (10, 0, 1));
        assert!((counts.seconds - 0.25).abs() < 1e-9);
        let line = br#"<190>Nov 25 03:13:22 lb: {"port":"5432","server":"","status":"502","requests":"1","seconds":"0.001"}"#;
        let (whose, counts) = parse(line).unwrap();
        assert_eq!((whose, counts.failures), ((Target::Port(5432), None), 1));
    }

    #[tokio::test]
    async fn what_was_taken_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.sock");
        let receiver = Receiver::bind(&path, None).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        for port in [1, 1, 2] {
            let line = format!(
                r#"{{"port":"{port}","server":"","status":"200","requests":"1","seconds":""}}"#
            );
            sender.send_to(line.as_bytes(), &path).await.unwrap();
            let came = async || !receiver.counts.lock().unwrap().is_empty();
            lb_test_support::eventually("the line came", came).await;
            let taken: Vec<_> =
                receiver.take().into_iter().map(|(whose, l)| (whose.0, l.requests)).collect();
            assert_eq!(taken, [(Target::Port(port), 1)]);
            assert_eq!(receiver.take(), BTreeMap::new());
        }
    }

    #[test]
    fn a_time_that_cannot_be_is_not_counted_and_no_count_overflows() {
        for seconds in ["NaN", "inf", "-1", "1e300"] {
            let line = format!(
                r#"{{"port":"1","server":"","status":"200","requests":"{}","seconds":"{seconds}"}}"#,
                u64::MAX
            );
            let (_, mut counts) = parse(line.as_bytes()).unwrap();
            counts.add(counts);
            assert_eq!((counts.requests, counts.timed), (u64::MAX, 0), "{seconds}");
            assert!(counts.seconds.abs() < 1e-9, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_line_of_ours_is_left_out() {
        for line in [
            &b"<190>x"[..],
            b"{}",
            b"\xff{",
            br#"{"backend":"A b","server":"","status":"200","requests":"1","seconds":""}"#,
        ] {
            assert!(parse(line).is_none());
        }
    }
}
