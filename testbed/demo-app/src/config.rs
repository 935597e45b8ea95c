//! What the app is told by its environment.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

/// The settings, each from one environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `BIND`: the address of both listeners; 0.0.0.0 by default.
    pub bind: IpAddr,
    /// `PORT`: HTTP; 8080 by default. `PORT=0` is `None`, no HTTP; here `Some(0)` is any free port.
    pub http_port: Option<u16>,
    /// `TCP_PORT`: an echo of raw bytes; none by default.
    pub tcp_port: Option<u16>,
    /// `TCP_HELLO=1`: each TCP connection starts with the line `INSTANCE VERSION`; off by default.
    pub tcp_hello: bool,
    /// `VERSION`: shown in every answer; empty by default.
    pub version: String,
    /// `INSTANCE` or `LB_INSTANCE`: shown in every answer; the host name by default.
    pub instance: String,
    /// `START_DELAY_MS`: time before it listens at all; 0 by default.
    pub start_delay: Duration,
    /// `READY_DELAY_MS`: time from listening to being ready; 0 by default.
    pub ready_delay: Duration,
    /// `WORK_US`: CPU time burnt by each request of `/`; 0 by default.
    pub work: Duration,
    /// `STOP`: what SIGTERM means; `at-once` (the default) or `graceful`.
    pub stop: Stop,
    /// `EXIT_AFTER_MS`: time after which the program fails by itself, 0 before it listens; never by default.
    pub exit_after: Option<Duration>,
    /// `EXIT_CODE`: what it then ends with; 1 by default.
    pub exit_code: i32,
}

/// What the app does when it is told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stop {
    /// Exit, whatever is in flight: the strict case, which only a correct drain survives.
    #[default]
    AtOnce,
    /// Accept nothing new, finish what is in flight, then exit.
    Graceful,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::UNSPECIFIED.into(),
            http_port: Some(8080),
            tcp_port: None,
            tcp_hello: false,
            version: String::new(),
            instance: String::new(),
            start_delay: Duration::ZERO,
            ready_delay: Duration::ZERO,
            work: Duration::ZERO,
            stop: Stop::AtOnce,
            exit_after: None,
            exit_code: 1,
        }
    }
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// `InvalidInput` with the variable's name, when one does not parse.
    pub fn from_env() -> io::Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(get: impl Fn(&str) -> Option<String>) -> io::Result<Self> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let port = |name| parsed::<u16>(&get, name, "a port, 0 to 65535");
        let millis = |name| parsed(&get, name, "milliseconds").map(Option::unwrap_or_default);
        let stop = match get("STOP").as_deref() {
            None | Some("at-once") => Stop::AtOnce,
            Some("graceful") => Stop::Graceful,
            Some(other) => return Err(refused("STOP", other, "at-once or graceful")),
        };
        let default = Self::default();
        Ok(Self {
            bind: parsed(&get, "BIND", "an IP address")?.unwrap_or(default.bind),
            http_port: port("PORT")?.map_or(default.http_port, non_zero),
            tcp_port: port("TCP_PORT")?.and_then(non_zero),
            tcp_hello: get("TCP_HELLO").is_some_and(|value| value != "0"),
            version: get("VERSION").unwrap_or_default(),
            instance: get("INSTANCE").or_else(|| get("LB_INSTANCE")).unwrap_or_else(host_name),
            start_delay: Duration::from_millis(millis("START_DELAY_MS")?),
            ready_delay: Duration::from_millis(millis("READY_DELAY_MS")?),
            work: Duration::from_micros(
                parsed(&get, "WORK_US", "microseconds")?.unwrap_or_default(),
            ),
            stop,
            exit_after: parsed(&get, "EXIT_AFTER_MS", "milliseconds")?.map(Duration::from_millis),
            exit_code: parsed(&get, "EXIT_CODE", "a number")?.unwrap_or(default.exit_code),
        })
    }
}

fn non_zero(port: u16) -> Option<u16> {
    Some(port).filter(|&port| port != 0)
}

fn parsed<T: FromStr>(
    get: &impl Fn(&str) -> Option<String>,
    name: &str,
    wanted: &str,
) -> io::Result<Option<T>> {
    let Some(value) = get(name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| refused(name, &value, wanted))
}

fn refused(name: &str, value: &str, wanted: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name}={value}: must be {wanted}"))
}

#[cfg(unix)]
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> io::Result<Config> {
        Config::from_lookup(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_environment_is_http_on_8080_under_the_host_name() {
        let config = read(&[("VERSION", "")]).unwrap();
        assert!(!config.instance.is_empty());
        assert_eq!(config, Config { instance: config.instance.clone(), ..Config::default() });
    }

    #[test]
    fn every_variable_is_read() {
        let config = read(&[
            ("BIND", "127.0.0.2"),
            ("PORT", "0"),
            ("TCP_PORT", "9000"),
            ("TCP_HELLO", "1"),
            ("VERSION", "7"),
            ("INSTANCE", "a"),
            ("START_DELAY_MS", "1"),
            ("READY_DELAY_MS", "2"),
            ("WORK_US", "3"),
            ("STOP", "graceful"),
            ("EXIT_AFTER_MS", "0"),
            ("EXIT_CODE", "3"),
        ]);
        let expected = Config {
            bind: [127, 0, 0, 2].into(),
            http_port: None,
            tcp_port: Some(9000),
            tcp_hello: true,
            version: "7".into(),
            instance: "a".into(),
            start_delay: Duration::from_millis(1),
            ready_delay: Duration::from_millis(2),
            work: Duration::from_micros(3),
            stop: Stop::Graceful,
            exit_after: Some(Duration::ZERO),
            exit_code: 3,
        };
        assert_eq!(config.unwrap(), expected);
    }

    #[test]
    fn a_bad_value_is_refused_with_its_variable_and_what_is_right() {
        for (name, value) in [
            ("PORT", "65536"),
            ("BIND", "here"),
            ("WORK_US", "-1"),
            ("STOP", "soon"),
            ("EXIT_CODE", "bad"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}={value}: must be ")), "{error}");
        }
    }
}
