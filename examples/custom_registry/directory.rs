//! The adapter: a directory that all machines see, with a file for each host.
//!
//! A host announces itself by writing `ID.json`, which says until when it holds; who watches looks into the
//! directory a few times a second. The machines' clocks must agree to well within a lease.

use std::fs;
use std::io::{self, ErrorKind::NotFound, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use lb_core::{Error, ErrorKind, HostFacts, HostId, HostRegistry, HostSet, Keyed, Result};
use tempfile::NamedTempFile;

/// Longest a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// The registry, as one process holds it.
#[derive(Debug)]
pub struct Directory {
    path: Arc<Path>,
    /// Gives a call its task, its turn and its deadline: a caller that goes leaves it done or not done.
    calls: Keyed<HostId>,
}

impl Directory {
    /// A directory that exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self { path: path.into(), calls: Keyed::default() }
    }

    async fn call(
        &self,
        operation: &'static str,
        id: &HostId,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let subject = format!("host \"{id}\"");
        let work = async move {
            let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
            done.flatten().map_err(|e| unavailable(operation, subject, e))
        };
        self.calls.run(id.clone(), operation, DEADLINE, work).await
    }
}

fn unavailable(operation: &'static str, subject: String, e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, operation, subject, e.to_string()).with_source(e)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The hosts whose files still hold.
fn look(directory: &Path) -> io::Result<HostSet> {
    let mut hosts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = match fs::read(&path) {
            Err(e) if e.kind() == NotFound => continue, // it withdrew just now
            read => read?,
        };
        let (facts, until): (HostFacts, Duration) = serde_json::from_slice(&text)?;
        hosts.extend((now() < until).then_some(facts));
    }
    Ok(hosts.into_iter().collect())
}

#[async_trait]
impl HostRegistry for Directory {
    async fn announce(&self, host: &HostFacts, ttl: Duration) -> Result<()> {
        if ttl.is_zero() {
            let subject = format!("host \"{}\"", host.id);
            return Err(Error::invalid(subject, "ttl must not be 0").during("announce"));
        }
        host.check().map_err(|e| e.during("announce"))?;
        let (directory, id, held) =
            (self.path.clone(), host.id.clone(), (host.clone(), now() + ttl));
        let write = move || {
            // Written beside and then put in place: who looks meanwhile sees the one before, whole.
            let mut file = NamedTempFile::new_in(&directory)?;
            file.write_all(&serde_json::to_vec(&held)?)?;
            file.persist(directory.join(format!("{id}.json")))?;
            Ok(())
        };
        self.call("announce", &host.id, write).await
    }

    async fn withdraw(&self, id: &HostId) -> Result<()> {
        let file = self.path.join(format!("{id}.json"));
        let remove = move || match fs::remove_file(file) {
            Err(e) if e.kind() != NotFound => Err(e),
            _ => Ok(()),
        };
        self.call("withdraw", id, remove).await
    }

    fn watch(&self) -> BoxStream<'static, Result<Arc<HostSet>>> {
        let looked = stream::unfold((self.path.clone(), None), |(path, told)| async move {
            loop {
                let directory = path.clone();
                let looked = tokio::task::spawn_blocking(move || look(&directory)).await;
                let looked = looked.map_err(io::Error::other).flatten();
                let news =
                    looked.map(Arc::new).map_err(|e| unavailable("watch", "hosts".into(), e));
                if told.as_ref() != Some(&news) {
                    return Some((news.clone(), (path, Some(news))));
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        looked.boxed()
    }
}
