//! From a container's spec to a command line, and from a record back to a container.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lb_core::{
    Assignment, Attachment, ContainerSpec, PortName, Restart, Volume, VolumeSource, label,
};

use crate::address::real_address;
use crate::error::{LocalError, Result};
use crate::process::MARK;
use crate::program::{Image, Program};

/// Variables a process inherits from the orchestrator; all others are cleared.
const INHERITED: [&str; 8] =
    ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"];

/// A process to start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<OsString, OsString>,
}

/// Fails for what a process cannot be given.
pub(crate) fn check(spec: &ContainerSpec) -> Result<()> {
    let unsupported = |what| Err(LocalError::Unsupported(what));
    if !spec.publish.is_empty() {
        return unsupported(
            "processes publish no ports: use Reach::Routed, every local host reaches every address",
        );
    }
    if spec.user.is_some() {
        return unsupported("processes run as the orchestrator's user");
    }
    if spec.restart == Restart::Always {
        return unsupported("nobody but the platform restarts a process");
    }
    spec.volumes.iter().try_for_each(check_volume)
}

fn check_volume(volume: &Volume) -> Result<()> {
    match &volume.source {
        VolumeSource::Path(path) if *path == volume.target => {
            match Path::new(path.as_str()).exists() {
                true => Ok(()),
                false => Err(LocalError::Invalid(format!("volume {path} must exist"))),
            }
        }
        _ => Err(LocalError::Unsupported(
            "a process sees the host's files in place: a volume must be a path mounted at the same path",
        )),
    }
}

/// What to start for `spec`, whose files lie in `dir`.
pub(crate) fn command_line(
    spec: &ContainerSpec,
    image: Image<'_>,
    dir: &Path,
) -> Result<CommandLine> {
    let place = Place::of(spec)?;
    let (mut words, own_env) = words(spec, image)?;
    for word in &mut words {
        *word = place.fill(word)?;
    }
    let mut words = words.into_iter();
    let program = PathBuf::from(words.next().unwrap_or_default());
    if !program.is_absolute() {
        return Err(LocalError::Invalid(format!(
            "program {} in the app's command must be an absolute path",
            program.display()
        )));
    }
    let env = environment(spec, own_env, &place, dir);
    Ok(CommandLine { program, args: words.collect(), env })
}

/// The words of the command line as written: a command replaces program and arguments, as engines do.
fn words<'a>(spec: &ContainerSpec, image: Image<'a>) -> Result<(Vec<String>, Option<&'a Program>)> {
    let program = match image {
        Image::Program(program) => Some(program),
        Image::Host => None,
    };
    let (mut words, own_args) = match (&spec.command, program) {
        (Some(command), _) => (command.clone(), Vec::new()),
        (None, Some(program)) => {
            (vec![program.path.to_string_lossy().into_owned()], program.args.clone())
        }
        (None, None) => {
            return Err(LocalError::Invalid("image \"host\" needs the app's command".into()));
        }
    };
    words.extend(spec.args.clone().unwrap_or(own_args));
    Ok((words, program))
}

fn environment(
    spec: &ContainerSpec,
    program: Option<&Program>,
    place: &Place,
    dir: &Path,
) -> BTreeMap<OsString, OsString> {
    let inherited =
        INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let mut env: BTreeMap<OsString, OsString> = inherited.collect();
    let mut set = |name: &str, value: &str| env.insert(name.into(), value.into());
    for (name, value) in program.iter().flat_map(|p| &p.env) {
        set(name.as_str(), value);
    }
    let first = place.first();
    set("HOST", &first.ip().to_string());
    set("BIND", &first.ip().to_string());
    if first.port() != 0 {
        set("PORT", &first.port().to_string());
    }
    for (name, value) in &spec.env {
        set(name.as_str(), value);
    }
    for (name, value) in &spec.secrets {
        set(name.as_str(), value.expose());
    }
    env.insert(MARK.into(), dir.into());
    env
}

/// Where a process is to listen.
#[derive(Debug)]
struct Place {
    address: Ipv4Addr,
    ports: BTreeMap<PortName, u16>,
}

impl Place {
    fn of(spec: &ContainerSpec) -> Result<Self> {
        let assignment = spec.labels.iter().find(|(key, _)| key.as_str() == label::ASSIGNMENT);
        let ports = match assignment {
            None => BTreeMap::new(),
            Some((_, text)) => {
                serde_json::from_str::<Assignment>(text)
                    .map_err(|e| LocalError::Invalid(format!("label {}: {e}", label::ASSIGNMENT)))?
                    .ports
            }
        };
        let address = match spec.network {
            Attachment::Network { address, .. } => address,
            Attachment::None | Attachment::Host => Ipv4Addr::LOCALHOST,
        };
        Ok(Self { address, ports })
    }

    /// The first port by name; port 0 where there is none.
    fn first(&self) -> SocketAddr {
        self.real(self.ports.values().next().copied().unwrap_or(0))
    }

    fn real(&self, port: u16) -> SocketAddr {
        real_address(SocketAddr::new(IpAddr::V4(self.address), port))
    }

    /// Replaces `{address}`, `{port}` and `{port:NAME}`; other braces stay.
    fn fill(&self, word: &str) -> Result<String> {
        let mut out = String::with_capacity(word.len());
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (inner, after) = match after.split_once('}') {
                Some((inner, after)) => (Some(inner), after),
                None => (None, after),
            };
            if let Some(value) = inner.map(|inner| self.value(inner)).transpose()?.flatten() {
                out.push_str(&value);
                rest = after;
            } else {
                out.push('{');
                rest = &rest[before.len() + 1..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, name: &str) -> Result<Option<String>> {
        let missing = || LocalError::Invalid(format!("{{{name}}} must name a port of the app"));
        Ok(match name.strip_prefix("port:") {
            Some(port) => {
                let found = self.ports.iter().find(|(name, _)| name.as_str() == port);
                Some(self.real(*found.ok_or_else(missing)?.1).port().to_string())
            }
            None if name == "port" && self.ports.is_empty() => return Err(missing()),
            None if name == "port" => Some(self.first().port().to_string()),
            None if name == "address" => Some(self.first().ip().to_string()),
            None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        let ports = [("admin", 9000), ("web", 8080)];
        Place {
            address: Ipv4Addr::new(127, 5, 0, 9),
            ports: ports.iter().map(|(n, p)| (PortName::new(n).unwrap(), *p)).collect(),
        }
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        let filled = |word: &str| place().fill(word).unwrap();
        assert_eq!(filled("{address}:{port}"), "127.5.0.9:9000");
        assert_eq!(filled("--web={port:web}"), "--web=8080");
        assert_eq!(filled("{\"a\": {port}}"), "{\"a\": 9000}");
        assert_eq!(filled("{other} { {"), "{other} { {");
        assert!(place().fill("{port:none}").is_err());
        let none = Place { ports: BTreeMap::new(), ..place() };
        assert!(none.fill("{port}").is_err());
    }
}
