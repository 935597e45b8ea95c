//! Where the engine is: `CONTAINER_HOST` or the usual socket, parsed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lb_core::{Error, ErrorKind, Result};

/// Where the service listens. Displays as `CONTAINER_HOST` would write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket on this host: `unix:///run/podman/podman.sock`.
    Unix(PathBuf),
    /// Plain TCP, for loopback and test benches: `tcp://127.0.0.1:8080`.
    Tcp {
        /// Host name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

const ROOT_SOCKET: &str = "/run/podman/podman.sock";

impl Endpoint {
    /// From `CONTAINER_HOST`, as Podman's own client reads it (podman(1), "Environment Variables"); without
    /// it `/run/podman/podman.sock` for root and `$XDG_RUNTIME_DIR/podman/podman.sock` for other users.
    /// Connections named in `containers.conf` are not read.
    ///
    /// # Errors
    /// `Invalid` naming the variable; `Unsupported` for `ssh://`.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok(), rustix::process::geteuid().is_root())
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>, root: bool) -> Result<Self> {
        let set = |name| read(name).filter(|value| !value.is_empty());
        match (set("CONTAINER_HOST"), root) {
            (Some(address), _) => parse(&address).map_err(|e| e.within("CONTAINER_HOST")),
            (None, true) => Ok(Self::Unix(ROOT_SOCKET.into())),
            (None, false) => {
                let rule = "must be set where CONTAINER_HOST is not and the user is not root";
                let folder = set("XDG_RUNTIME_DIR").filter(|folder| folder.starts_with('/'));
                let folder = folder.ok_or_else(|| Error::invalid("XDG_RUNTIME_DIR", rule))?;
                Ok(Self::Unix(PathBuf::from(folder).join("podman/podman.sock")))
            }
        }
    }
}

fn parse(address: &str) -> Result<Endpoint> {
    let field = || format!("engine address {address:?}");
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(Error::invalid(field(), "must be unix:///path or tcp://host:port"));
    };
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
        "unix" => Err(Error::invalid(field(), "must hold an absolute path after unix://")),
        "tcp" | "http" => host_port(rest).ok_or_else(|| {
            Error::invalid(field(), "must hold host:port after the scheme, and no path")
        }),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "",
            field(),
            "must be unix:// or tcp://; a socket behind ssh can be forwarded with ssh -L",
        )),
    }
}

/// `host:port` or `[v6]:port`.
fn host_port(text: &str) -> Option<Endpoint> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.split_once(':')?,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && host.bytes().all(plain))
        .then(|| Endpoint::Tcp { host: host.to_owned(), port })
}

impl FromStr for Endpoint {
    type Err = Error;

    /// `unix:///path` or `tcp://host:port`.
    fn from_str(s: &str) -> Result<Self> {
        parse(s)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)], root: bool) -> Result<Endpoint> {
        let read =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Endpoint::from_variables(read, root)
    }

    #[test]
    fn variables_are_read_as_podmans_client_reads_them() {
        let unix = |path: &str| Endpoint::Unix(path.into());
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        assert_eq!(from(&[], true).unwrap(), unix("/run/podman/podman.sock"));
        let cases = [
            ("XDG_RUNTIME_DIR", "/run/user/7", true, unix("/run/podman/podman.sock")),
            ("XDG_RUNTIME_DIR", "/run/user/7", false, unix("/run/user/7/podman/podman.sock")),
            ("CONTAINER_HOST", "unix:///a/b.sock", false, unix("/a/b.sock")),
            ("CONTAINER_HOST", "tcp://10.0.0.1:99/", true, tcp("10.0.0.1", 99)),
            ("CONTAINER_HOST", "tcp://[::1]:99", true, tcp("::1", 99)),
        ];
        for (variable, value, root, wanted) in cases {
            let endpoint = from(&[(variable, value)], root).unwrap();
            assert_eq!(endpoint, wanted, "{variable}={value}");
            assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn what_cannot_be_an_engine_is_refused_with_the_variables_name() {
        for (address, kind) in [
            ("podman.sock", ErrorKind::Invalid),
            ("unix://relative", ErrorKind::Invalid),
            ("tcp://h", ErrorKind::Invalid),
            ("tcp://h:0", ErrorKind::Invalid),
            ("tcp://:1", ErrorKind::Invalid),
            ("tcp://h:1/path", ErrorKind::Invalid),
            ("tcp://h\r\nx:1", ErrorKind::Invalid),
            ("ssh://u@h/run/podman/podman.sock", ErrorKind::Unsupported),
        ] {
            let error = from(&[("CONTAINER_HOST", address)], true).unwrap_err();
            assert_eq!(error.kind(), kind, "{address}: {error}");
            assert!(error.subject().starts_with("CONTAINER_HOST: engine address"), "{error}");
        }
        let error = from(&[], false).unwrap_err();
        assert_eq!(error.subject(), "XDG_RUNTIME_DIR");
    }
}
