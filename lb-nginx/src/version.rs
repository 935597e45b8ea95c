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

    /// Whether a server says `http2 on;` (1.25.1), and not its `listen`.
    fn has_http2_directive(self) -> bool {
        self >= Self::new(1, 25, 1)
    }

    /// Whether what an app says before its answer (103, early hints) is not taken for the answer (1.29.0).
    pub fn skips_early_hints(self) -> bool {
        self >= Self::new(1, 29, 0)
    }

    /// Whether a reload leaves idle connections of clients open for a while (`keepalive_min_timeout`, 1.27.4).
    pub fn reloads_gently(self) -> bool {
        self >= Self::new(1, 27, 4)
    }

    /// A configuration in the words this version knows: [`NginxRenderer`](crate::NginxRenderer) writes today's, also
    /// templates of a platform's own. Before 1.25.1, `http2 on;` on a line of its own is a word of the `listen` line
    /// before it.
    ///
    /// ```
    /// let text = "listen 0.0.0.0:443 ssl;\nhttp2 on;\n";
    /// assert_eq!(lb_nginx::Version::new(1, 28, 3).worded(text), text);
    /// assert_eq!(lb_nginx::Version::OLDEST.worded(text), "listen 0.0.0.0:443 ssl http2;\n\n");
    /// ```
    pub fn worded(self, text: &str) -> String {
        if self.has_http2_directive() {
            return text.to_owned();
        }
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let mut listen = None;
        for at in 0..lines.len() {
            match (lines[at].trim(), listen) {
                (line, _) if line.starts_with("listen ") => listen = Some(at),
                // The line stays, for those that are counted after it.
                ("http2 on;", Some(before)) => {
                    lines[at].clear();
                    lines[before] = lines[before].replace(';', " http2;");
                }
                _ => {}
            }
        }
        lines.join("\n")
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
    fn http2_is_said_of_each_listener_and_no_line_moves() {
        let text = "server {\n    listen 1 ssl reuseport;\n    http2 on;\n}\nserver {\n    listen 2;\n}\nserver {\n    \
                    listen 1 ssl;\n    http2 on;\n}\n";
        let old = "server {\n    listen 1 ssl reuseport http2;\n\n}\nserver {\n    listen 2;\n}\nserver {\n    \
                   listen 1 ssl http2;\n\n}\n";
        assert_eq!(version("1.25.0").worded(text), old);
        assert_eq!(version("1.25.1").worded(text), text);
    }

    #[test]
    fn a_later_version_can_do_what_an_earlier_one_can() {
        let all = ["1.22.1", "1.26.3", "1.27.4", "1.28.3", "1.30.6", "1.31.5", "1.99.0", "2.0.0"];
        let gentle = all.map(|text| version(text).reloads_gently());
        assert_eq!(gentle, [false, false, true, true, true, true, true, true]);
        let hints = all.map(|text| version(text).skips_early_hints());
        assert_eq!(hints, [false, false, false, false, true, true, true, true]);
        assert!(all.map(version).is_sorted());
    }
}
