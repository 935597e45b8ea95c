//! Where the engine is: `DOCKER_HOST` and its companions, parsed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lb_core::{Error, ErrorKind, Result};

/// Where the engine listens. Displays as `DOCKER_HOST` would write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket on this host: `unix:///var/run/docker.sock`, the default.
    Unix(PathBuf),
    /// Plain TCP, for loopback and test benches: `tcp://127.0.0.1:2375`.
    Tcp {
        /// Host name or address, IPv6 without brackets.
        host: String,
        /// Port. Default 2375.
        port: u16,
    },
    /// TLS over TCP, both sides proving who they are: `tcp://engine.example.org:2376`.
    Tls {
        /// Host name or address, IPv6 without brackets; the engine's certificate must hold it.
        host: String,
        /// Port. Default 2376.
        port: u16,
        /// Directory of `ca.pem`, `cert.pem` and `key.pem`, as Docker lays them out.
        certificates: PathBuf,
    },
}

const DEFAULT: &str = "unix:///var/run/docker.sock";
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

impl Endpoint {
    /// From `DOCKER_HOST`, `DOCKER_CERT_PATH` and `DOCKER_TLS_VERIFY`, as Docker's own client reads them
    /// (docs.docker.com, "Use environment variables"), with one difference: where TLS is asked for by
    /// either of the last two, the engine's certificate is always verified. Contexts are not read.
    ///
    /// # Errors
    /// `Invalid` naming the variable; `Unsupported` for `ssh://`, `npipe://` and `fd://`.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name| read(name).filter(|value| !value.is_empty());
        let certificates = set("DOCKER_CERT_PATH").map(PathBuf::from);
        let tls = match (certificates, set("DOCKER_TLS_VERIFY")) {
            (Some(path), _) => Some(path),
            (None, Some(_)) => Some(home(&read)?.join(".docker")),
            (None, None) => None,
        };
        let address = set("DOCKER_HOST").unwrap_or_else(|| DEFAULT.to_owned());
        parse(&address, tls).map_err(|e| e.within("DOCKER_HOST"))
    }
}

fn home(read: &impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let rule = "must be set when DOCKER_TLS_VERIFY is, or else HOME";
    read("HOME").map(PathBuf::from).ok_or_else(|| Error::invalid("DOCKER_CERT_PATH", rule))
}

fn parse(address: &str, tls: Option<PathBuf>) -> Result<Endpoint> {
    let field = || format!("engine address {address:?}");
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(Error::invalid(field(), "must be unix:///path or tcp://host:port"));
    };
    match (scheme, tls) {
        ("unix", _) if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
        ("unix", _) => Err(Error::invalid(field(), "must hold an absolute path after unix://")),
        ("tcp" | "http" | "https", Some(certificates)) => {
            let (host, port) = host_port(rest, TLS_PORT).ok_or_else(|| bad_host(field()))?;
            Ok(Endpoint::Tls { host, port, certificates })
        }
        ("tcp" | "http", None) => {
            let (host, port) = host_port(rest, PLAIN_PORT).ok_or_else(|| bad_host(field()))?;
            Ok(Endpoint::Tcp { host, port })
        }
        ("https", None) => {
            Err(Error::invalid(field(), "needs DOCKER_CERT_PATH for its certificates"))
        }
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "",
            field(),
            "must be unix:// or tcp://; other transports are not built in",
        )),
    }
}

fn bad_host(field: String) -> Error {
    Error::invalid(field, "must hold host[:port] after the scheme, and no path")
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn host_port(text: &str, default: u16) -> Option<(String, u16)> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port? {
        "" => default,
        digits => digits.parse().ok().filter(|p| *p > 0)?,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    (!host.is_empty() && host.bytes().all(plain)).then(|| (host.to_owned(), port))
}

impl FromStr for Endpoint {
    type Err = Error;

    /// `unix:///path` or `tcp://host[:port]`; TLS needs a directory of certificates, so it has no text form.
    fn from_str(s: &str) -> Result<Self> {
        parse(s, None)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => {
                write!(f, "tcp://{}", authority(host, *port))
            }
        }
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Endpoint> {
        Endpoint::from_variables(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn variables_are_read_as_dockers_client_reads_them() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        let tls = |host: &str, port, path: &str| Endpoint::Tls {
            host: host.into(),
            port,
            certificates: path.into(),
        };
        let cases: [(&[(&str, &str)], Endpoint); 8] = [
            (&[], Endpoint::Unix("/var/run/docker.sock".into())),
            (&[("DOCKER_HOST", "")], Endpoint::Unix("/var/run/docker.sock".into())),
            (&[("DOCKER_HOST", "unix:///a/b.sock")], Endpoint::Unix("/a/b.sock".into())),
            (&[("DOCKER_HOST", "tcp://10.0.0.1")], tcp("10.0.0.1", 2375)),
            (&[("DOCKER_HOST", "tcp://[::1]:99/")], tcp("::1", 99)),
            (&[("DOCKER_HOST", "tcp://h"), ("DOCKER_CERT_PATH", "/c")], tls("h", 2376, "/c")),
            (
                &[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/root")],
                tls("h", 1, "/root/.docker"),
            ),
            (&[("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "")], tcp("h", 2375)),
        ];
        for (variables, wanted) in cases {
            assert_eq!(from(variables).unwrap(), wanted, "{variables:?}");
        }
    }

    #[test]
    fn what_cannot_be_an_engine_is_refused_with_the_variables_name() {
        for (address, kind) in [
            ("docker.sock", ErrorKind::Invalid),
            ("unix://relative", ErrorKind::Invalid),
            ("tcp://", ErrorKind::Invalid),
            ("tcp://h:0", ErrorKind::Invalid),
            ("tcp://h:70000", ErrorKind::Invalid),
            ("tcp://h/path", ErrorKind::Invalid),
            ("tcp://h\r\nx", ErrorKind::Invalid),
            ("https://h", ErrorKind::Invalid),
            ("ssh://h", ErrorKind::Unsupported),
        ] {
            let error = from(&[("DOCKER_HOST", address)]).unwrap_err();
            assert_eq!(error.kind(), kind, "{address}: {error}");
            assert!(error.subject().starts_with("DOCKER_HOST: engine address"), "{error}");
        }
    }
}
