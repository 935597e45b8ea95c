//! Where a campaign takes place: its directory, its ports, its engine; and that nothing of it stays behind.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use lb_examples::{Balancer, DEMO_IMAGE, Engine, StageOptions};
use rustix::process::Signal;

use super::apps::Common;
use super::story::Powers;
use super::{Failure, census};

/// Outside ports for apps that have one of their own, besides the first, which the others share.
pub const OWN_PORTS: u16 = 14;
/// The first port that may be a campaign's, below those the kernel gives to clients.
const FIRST_PORT: u16 = 28_000;
/// Campaigns beside each other on one machine.
const CAMPAIGNS: u16 = 250;
/// The platform's disk, which can be full.
const DISK: &str = "size=256m";
/// The label of containers that belong to somebody else.
const FOREIGN: &str = "campaign.foreign";

/// The place.
#[derive(Debug)]
pub struct Ground {
    pub options: StageOptions,
    pub common: Common,
    pub powers: Powers,
    /// Everything lies in it.
    pub directory: PathBuf,
    /// The command that restarts the engine.
    pub restart: Option<String>,
    restarts: AtomicU32,
    /// Held while the campaign lasts.
    _lock: fs::File,
}

impl Ground {
    /// Takes the place, after removing what a campaign that was killed left there.
    pub fn take(options: &StageOptions, restart: Option<String>) -> Result<Self, Failure> {
        let mut options = options.clone();
        let cluster = options.cluster.to_string();
        let usual = || std::env::temp_dir().join(format!("lb-{cluster}"));
        let directory = options.directory.clone().unwrap_or_else(usual);
        let state = directory.join("host");
        options.directory = Some(state.clone());
        let containers = options.engine != Engine::Local;
        if containers && options.image.is_none() {
            return Err("--image, or LB_TEST_APP_IMAGE: the demo app's image on an engine".into());
        }
        let in_process =
            !containers && matches!(options.balancer, None | Some(Balancer::InProcess));
        let mut ground = Self {
            common: Common {
                image: match &options.image {
                    Some(image) if containers => image.clone(),
                    _ => DEMO_IMAGE.parse()?,
                },
                cluster,
                first_port: free_ports()?,
                limits: containers,
            },
            powers: Powers {
                containers,
                own_balancer: !in_process,
                engine_restart: containers && restart.is_some(),
                full_disk: false,
            },
            options,
            restarts: AtomicU32::new(0),
            _lock: lock(&directory)?,
            directory,
            restart,
        };
        ground.clear()?;
        fs::create_dir_all(&state)?;
        let mount = ["-t", "tmpfs", "-o", DISK, "campaign"];
        ground.powers.full_disk =
            run("mount", mount.iter().map(Path::new).chain([&*state])).is_ok();
        Ok(ground)
    }

    /// The platform's own directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("host")
    }

    /// Where the platform's output goes: not on the disk that can be full.
    pub fn log(&self) -> PathBuf {
        self.directory.join("platform.log")
    }

    /// What is left of the campaign, in words; nothing must be.
    pub fn left_behind(&self) -> Vec<String> {
        let mut left = self.left_of_apps();
        left.extend(census::balancer(&self.state()).iter().map(|pid| format!("balancer {pid}")));
        left.extend(self.containers("lb.cluster").into_iter().map(|id| format!("container {id}")));
        left
    }

    /// What must go with the last app.
    pub fn left_of_apps(&self) -> Vec<String> {
        let instances = census::instances(&self.common.cluster);
        let mut left: Vec<String> =
            instances.values().flatten().map(|i| format!("instance {}", i.id)).collect();
        left.extend(self.networks().into_iter().map(|id| format!("network {id}")));
        left
    }

    /// Ends and removes all that is left.
    pub fn clear(&self) -> io::Result<()> {
        for label in ["lb.cluster", FOREIGN] {
            for id in self.containers(label) {
                let _ = self.engine(&["rm", "-f", &id]);
            }
        }
        for id in self.networks() {
            let _ = self.engine(&["network", "rm", &id]);
        }
        let instances = census::instances(&self.common.cluster);
        let pids: Vec<u32> = instances.values().flatten().map(|i| i.pid).collect();
        census::signal(&pids, Signal::KILL);
        census::signal(&census::balancer(&self.state()), Signal::KILL);
        let state = self.state();
        while is_mount(&state) && run("umount", ["-l".as_ref(), state.as_path()]).is_ok() {}
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs the engine's own command line.
    pub fn engine(&self, arguments: &[&str]) -> io::Result<String> {
        let (program, endpoint) = match self.options.engine {
            Engine::Local => return Ok(String::new()),
            Engine::Docker => ("docker", self.options.docker.as_ref().map(ToString::to_string)),
            Engine::Podman => ("podman", self.options.podman.as_ref().map(ToString::to_string)),
        };
        let mut command = Command::new(program);
        match (program, endpoint) {
            ("docker", Some(endpoint)) => command.args(["-H", &endpoint]),
            (_, Some(endpoint)) => command.args(["--remote", "--url", &endpoint]),
            (_, None) => &mut command,
        };
        said(&command.args(arguments).output()?)
    }

    fn containers(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}={}", self.common.cluster);
        words(self.engine(&["ps", "-aq", "--filter", &filter]))
    }

    /// The networks of the cluster.
    pub fn networks(&self) -> Vec<String> {
        let filter = format!("label=lb.cluster={}", self.common.cluster);
        words(self.engine(&["network", "ls", "-q", "--filter", &filter]))
    }

    /// Takes the cluster's networks away, with the containers in them.
    pub fn remove_networks(&self) -> io::Result<()> {
        let containers = self.containers("lb.cluster");
        for network in self.networks() {
            for container in &containers {
                // Those that are not in it refuse.
                let _ = self.engine(&["network", "disconnect", "-f", &network, container]);
            }
            self.engine(&["network", "rm", &network])?;
        }
        Ok(())
    }

    /// Somebody else's container in one of the cluster's networks, instead of the one before.
    pub fn intrude(&self) -> io::Result<()> {
        self.end_intruders()?;
        let Some(network) = self.networks().into_iter().next() else { return Ok(()) };
        let (label, image) =
            (format!("{FOREIGN}={}", self.common.cluster), self.common.image.to_string());
        self.engine(&["run", "-d", "--network", &network, "--label", &label, &image]).map(drop)
    }

    /// Somebody else's containers leave.
    pub fn end_intruders(&self) -> io::Result<()> {
        let ids = self.containers(FOREIGN);
        ids.iter().try_for_each(|id| self.engine(&["rm", "-f", id]).map(drop))
    }

    /// Somebody else's containers that run, and all of them.
    pub fn intruders(&self) -> (usize, usize) {
        let filter = format!("label={FOREIGN}={}", self.common.cluster);
        let running = words(self.engine(&["ps", "-q", "--filter", &filter]));
        (running.len(), self.containers(FOREIGN).len())
    }

    pub fn restart_engine(&self) -> io::Result<()> {
        let Some(command) = &self.restart else { return Ok(()) };
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let output = Command::new("sh").args(["-c", command]).output();
        self.restarts.fetch_add(1, Ordering::Relaxed);
        said(&output?).map(drop)
    }

    /// How often a restart of the engine has begun or ended.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }
}

fn words(said: io::Result<String>) -> Vec<String> {
    said.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn said(output: &Output) -> io::Result<String> {
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    said(&Command::new(program).args(arguments).output()?).map(drop)
}

fn is_mount(directory: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let directory = directory.to_string_lossy();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(&directory))
}

/// Two campaigns in one place would end each other.
fn lock(directory: &Path) -> Result<fs::File, Failure> {
    let path = directory.with_extension("lock");
    let file = fs::File::options().create(true).append(true).open(&path)?;
    let taken = |e| format!("{}: must not be another campaign's: {e}", path.display());
    file.try_lock().map_err(taken)?;
    Ok(file)
}

/// The first of so many ports in a row that nobody listens on.
fn free_ports() -> Result<u16, Failure> {
    let start = std::process::id() as u16 % CAMPAIGNS;
    let mut places = (start..CAMPAIGNS).chain(0..start).map(|n| FIRST_PORT + n * (OWN_PORTS + 2));
    let free = |first: &u16| {
        (*first..=first + OWN_PORTS).all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok())
    };
    places.find(free).ok_or_else(|| "no free ports from 28000 to 32000".into())
}
