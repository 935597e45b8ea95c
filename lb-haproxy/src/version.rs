//! Which HAProxy it is, and what that can do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use lb_core::{Ability, Error};

/// A branch of HAProxy, read from what a program says of itself: `2.6.12-1+deb12u3`, `3.5-dev5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u16,
    minor: u16,
}

impl Version {
    /// The oldest one this crate runs.
    pub const OLDEST: Self = Self::new(2, 6);

    /// The branch `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// What it can do. One that is newer than all that are known is taken for the newest known.
    pub fn abilities(self) -> Abilities {
        Abilities {
            reload_reports: self >= Self::new(2, 8),
            backends_at_run_time: self >= Self::new(3, 4),
            asks_for_chroot: self >= Self::new(3, 4),
        }
    }
}

/// What `haproxy -v` calls its version; the first line where it names none.
pub(crate) fn named(output: &str) -> &str {
    // Before 2.4 it was HA-Proxy.
    let name = |line| str::split_once(line, "roxy version ")?.1.split_whitespace().next();
    output.lines().find_map(name).or_else(|| output.lines().next()).unwrap_or_default()
}

impl FromStr for Version {
    type Err = Error;

    /// Reads what a program calls its version.
    ///
    /// # Errors
    /// `Invalid` when it does not begin with two numbers and a dot between, or is older than
    /// [`OLDEST`](Self::OLDEST).
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |rule: &str| Error::invalid(format!("haproxy's version {text:?}"), rule);
        let known = text.split_once('.').and_then(|(major, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            Some(Self { major: number(major)?, minor: number(&rest[..end])? })
        });
        match known {
            None => Err(wrong("must begin with two numbers, as in \"3.2\"")),
            Some(version) if version < Self::OLDEST => {
                Err(wrong(&format!("must be {} or later", Self::OLDEST)))
            }
            Some(version) => Ok(version),
        }
    }
}

/// Digits only: `u16` takes a `+` as well.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a [`Version`] can do that [`Version::OLDEST`] cannot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// `reload` answers once it is known how it went (2.8).
    pub reload_reports: bool,
    /// `add backend` and `del backend` (3.4).
    pub backends_at_run_time: bool,
    /// As root it warns at each start and reload unless it is told where to be: `chroot` (3.4).
    pub asks_for_chroot: bool,
}

impl Abilities {
    /// Those that are somebody else's business.
    pub(crate) fn shown(self) -> BTreeSet<Ability> {
        let all = [
            (self.reload_reports, Ability::ReloadReports),
            (self.backends_at_run_time, Ability::BackendsAtRunTime),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, ability)| ability).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_is_read() {
        for (line, major, minor) in [
            ("HAProxy version 2.6.12-1+deb12u3 2025/10/03 - https://haproxy.org/\nStatus", 2, 6),
            ("HAProxy version 2.8.25-5cf5d0683 2026/06/26 - https://haproxy.org/", 2, 8),
            ("HAProxy version 3.0.11-1+deb13u4 2026/10/15 - https://haproxy.org/", 3, 0),
            ("HAProxy version 3.2.26-1 2026/10/14 - https://haproxy.org/", 3, 2),
            ("HAProxy version 3.4.0-64a335366 2026/06/03 - https://haproxy.org/", 3, 4),
            ("HAProxy version 3.5-dev5-50872da 2026/08/21 - https://haproxy.org/", 3, 5),
            ("HA-Proxy version 2.6 2022/05/31", 2, 6),
        ] {
            let version = named(line).parse::<Version>().unwrap();
            assert_eq!(version, Version::new(major, minor), "{line}");
        }
        assert_eq!("3.10.1".parse::<Version>().unwrap().to_string(), "3.10");
    }

    #[test]
    fn what_is_no_version_or_too_old_is_an_error_that_says_so() {
        for text in ["", "3", "three.two", "+3.2", "3.+2", "3.", ".2", "v3.2", "99999999.1"] {
            let error = text.parse::<Version>().unwrap_err();
            assert!(error.to_string().contains("must begin with two numbers"), "{text}: {error}");
        }
        let error = named("sh: haproxy: not found").parse::<Version>().unwrap_err();
        assert!(error.to_string().contains("sh: haproxy: not found"), "{error}");
        let error = "2.4.22".parse::<Version>().unwrap_err();
        assert!(error.to_string().contains("2.6 or later"), "{error}");
    }

    #[test]
    fn a_newer_version_can_do_what_older_ones_can() {
        assert_eq!(Version::OLDEST.abilities(), Abilities::default());
        assert!(Version::new(2, 10).abilities().reload_reports, "numbers, not texts");
        assert!(!Version::new(3, 2).abilities().backends_at_run_time);
        let newest = Version::new(3, 4).abilities();
        for unknown in [Version::new(3, 17), Version::new(4, 0), Version::new(u16::MAX, 0)] {
            assert_eq!(unknown.abilities(), newest, "{unknown}");
        }
        let shown = newest.shown();
        assert!(shown.contains(&Ability::BackendsAtRunTime), "{shown:?}");
    }
}
