//! Versions of NGINX, and what each can do.

use std::fmt;
use std::str::FromStr;

use lb_core::{Error, Membership};

/// A version of NGINX.
///
/// What it can do is asked of it alone: a version that is not known yet can do what the newest known one can.
///
/// ```
/// use lb_nginx::Version;
/// let stable: Version = "1.30.6".parse()?;
/// assert!(stable > Version::OLDEST && stable.reloads_gently());
/// assert_eq!(stable.to_string(), "1.30.6");
/// # Ok::<(), lb_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The oldest that has all directives written here.
    pub const OLDEST: Self = Self::new(1, 22, 0);

    /// The version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Whether a reload leaves idle connections of clients open for a while (`keepalive_min_timeout`, 1.27.4).
    pub fn reloads_gently(self) -> bool {
        self >= Self::new(1, 27, 4)
    }

    /// How servers come and go.
    pub fn membership(self) -> Membership {
        match self.reloads_gently() {
            true => Membership::GentleReload,
            false => Membership::Reload,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Three numbers with dots between them; what distributors append (`1.22.1-ubuntu`) does not count.
impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::invalid("nginx version", "must be three numbers: 1.28.3");
        let mut parts = text.splitn(3, '.');
        let mut number = || {
            let part = parts.next()?;
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        let mut version = || Some(Self::new(number()?, number()?, number()?));
        version().ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_version_is_read_as_its_binary_says_it() {
        assert_eq!(version("1.22.1"), Version::new(1, 22, 1));
        assert_eq!(version("1.21.4.1"), Version::new(1, 21, 4), "of OpenResty");
        assert_eq!(version("1.26.3-3+deb13u1"), Version::new(1, 26, 3));
        for wrong in ["", "1", "1.22", "1.x.3", "a.b.c", "1.22.", "99999999999.1.1"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_later_version_can_do_what_an_earlier_one_can() {
        let all = ["1.22.1", "1.26.3", "1.27.4", "1.28.3", "1.30.6", "1.31.5", "1.99.0", "2.0.0"];
        let gentle = all.map(|text| version(text).reloads_gently());
        assert_eq!(gentle, [false, false, true, true, true, true, true, true]);
        assert!(all.map(version).is_sorted());
    }
}
