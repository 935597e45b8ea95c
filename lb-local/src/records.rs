//! State on disk: one directory a container, one file a network. Nothing else remembers anything.
//!
//! ```text
//! DIR/lock                        held for the instant of a change, across processes
//! DIR/containers/NAME/record.json what it is; written before the process starts, and again after
//! DIR/containers/NAME/log         its output; also its working directory
//! DIR/networks/NAME.json
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use lb_core::{
    Attachment, ClusterId, ContainerId, ContainerName, ContainerSpec, LabelKey, NetworkName,
    NetworkSpec, Role, Signal, SpecHash,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{LocalError, Result};
use crate::process::ProcessId;

/// Raised when a reader of the old form would be wrong about the new one.
const SCHEMA: u32 = 1;

/// What is kept of a container: no environment, no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) cluster: ClusterId,
    pub(crate) name: ContainerName,
    pub(crate) id: ContainerId,
    pub(crate) role: Role,
    pub(crate) spec: SpecHash,
    pub(crate) labels: BTreeMap<LabelKey, String>,
    pub(crate) network: Option<(NetworkName, Ipv4Addr)>,
    pub(crate) stop_signal: Option<Signal>,
    /// Absent until it has been started.
    pub(crate) process: Option<ProcessId>,
    /// Present once its end was seen by its parent.
    pub(crate) exit: Option<i64>,
}

/// A network and its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    schema: u32,
    pub(crate) cluster: ClusterId,
    pub(crate) spec: NetworkSpec,
}

impl Record {
    pub(crate) fn new(cluster: ClusterId, spec: &ContainerSpec) -> Self {
        let made = jiff::Timestamp::now().as_nanosecond();
        let network = match &spec.network {
            Attachment::Network { name, address } => Some((name.clone(), *address)),
            Attachment::None | Attachment::Host => None,
        };
        Self {
            schema: SCHEMA,
            cluster,
            name: spec.name.clone(),
            id: ContainerId(format!("{}-{made:x}", spec.name)),
            role: spec.role,
            spec: spec.hash(),
            labels: spec.labels.clone(),
            network,
            stop_signal: spec.stop_signal.clone(),
            process: None,
            exit: None,
        }
    }

    /// Whether the process runs, by what the kernel says.
    pub(crate) fn is_alive(&self) -> bool {
        self.exit.is_none() && self.process.as_ref().is_some_and(ProcessId::is_alive)
    }
}

impl NetworkRecord {
    pub(crate) const fn new(cluster: ClusterId, spec: NetworkSpec) -> Self {
        Self { schema: SCHEMA, cluster, spec }
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens or makes it.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        for part in ["containers", "networks"] {
            fs::create_dir_all(dir.join(part)).map_err(LocalError::file(dir))?;
        }
        let dir = dir.canonicalize().map_err(LocalError::file(dir))?;
        Ok(Self { dir })
    }

    /// Does `work` while no other process changes anything here. Keep it short.
    pub(crate) fn locked<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.dir.join("lock");
        let lock = File::create(&path).map_err(LocalError::file(&path))?;
        lock.lock().map_err(LocalError::file(&path))?;
        work()
    }

    pub(crate) fn container_dir(&self, name: &ContainerName) -> PathBuf {
        self.dir.join("containers").join(name.as_str())
    }

    pub(crate) fn container(&self, name: &ContainerName) -> Result<Option<Record>> {
        let record: Option<Record> = read(&self.container_dir(name).join("record.json"))?;
        record.map(|r| check_schema(r.schema, name.as_str()).map(|()| r)).transpose()
    }

    pub(crate) fn put_container(&self, record: &Record) -> Result<()> {
        let dir = self.container_dir(&record.name);
        fs::create_dir_all(&dir).map_err(LocalError::file(&dir))?;
        write(&dir.join("record.json"), record)
    }

    /// Writes down how the container ended, unless it is another one by now.
    pub(crate) fn put_exit(&self, name: &ContainerName, id: &ContainerId, code: i64) -> Result<()> {
        self.locked(|| match self.container(name)? {
            Some(record) if record.id == *id => {
                self.put_container(&Record { exit: Some(code), ..record })
            }
            _ => Ok(()),
        })
    }

    /// The record goes first: a directory without one is nothing.
    pub(crate) fn remove_container(&self, name: &ContainerName) -> Result<()> {
        let dir = self.container_dir(name);
        remove(&dir.join("record.json"))?;
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(LocalError::file(dir)(e)),
            _ => Ok(()),
        }
    }

    /// All that can be read, in order of name; what cannot is reported and left alone.
    pub(crate) fn containers(&self) -> Result<Vec<Record>> {
        let names = self.names("containers")?;
        let names = names.iter().filter_map(|name| ContainerName::new(name).ok());
        Ok(names.filter_map(|name| readable(self.container(&name), name.as_str())).collect())
    }

    pub(crate) fn network(&self, name: &NetworkName) -> Result<Option<NetworkRecord>> {
        let record: Option<NetworkRecord> = read(&self.network_path(name))?;
        record.map(|r| check_schema(r.schema, name.as_str()).map(|()| r)).transpose()
    }

    pub(crate) fn put_network(&self, record: &NetworkRecord) -> Result<()> {
        write(&self.network_path(&record.spec.name), record)
    }

    pub(crate) fn remove_network(&self, name: &NetworkName) -> Result<()> {
        remove(&self.network_path(name))
    }

    pub(crate) fn networks(&self) -> Result<Vec<NetworkRecord>> {
        let names = self.names("networks")?;
        let names =
            names.iter().filter_map(|name| NetworkName::new(name.strip_suffix(".json")?).ok());
        Ok(names.filter_map(|name| readable(self.network(&name), name.as_str())).collect())
    }

    fn network_path(&self, name: &NetworkName) -> PathBuf {
        self.dir.join("networks").join(format!("{name}.json"))
    }

    fn names(&self, part: &str) -> Result<Vec<String>> {
        let dir = self.dir.join(part);
        let entries = fs::read_dir(&dir).map_err(LocalError::file(&dir))?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }
}

fn readable<T>(result: Result<Option<T>>, name: &str) -> Option<T> {
    result.unwrap_or_else(|error| {
        tracing::warn!(name, %error, "unreadable record");
        None
    })
}

fn check_schema(schema: u32, name: &str) -> Result<()> {
    match schema {
        SCHEMA => Ok(()),
        _ => Err(LocalError::Corrupt {
            path: name.into(),
            reason: format!("schema {schema} is not {SCHEMA}"),
        }),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(LocalError::file(path))?,
    };
    let corrupt =
        |e: serde_json::Error| LocalError::Corrupt { path: path.into(), reason: e.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

/// Temporary file, fsync, rename: a reader sees the old contents or the new.
fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let corrupt =
        |e: serde_json::Error| LocalError::Corrupt { path: path.into(), reason: e.to_string() };
    let bytes = serde_json::to_vec(value).map_err(corrupt)?;
    let temporary = path.with_extension("new");
    let put = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    put().map_err(LocalError::file(path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(LocalError::file(path)(e)),
        _ => Ok(()),
    }
}
