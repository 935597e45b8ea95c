//! Names the renderer and the balancer share: files, variables, and who writes what.
//!
//! The renderer's text is the `http` block and, with byte streams, the `stream` block. Each begins by
//! including the balancer's lines ([`HTTP_INCLUDE`], [`STREAM_INCLUDE`]); everything before them (`user`,
//! `events`, modules) is the balancer's too. How a server of an `upstream` is picked, method and `server`
//! lines, is the balancer's and goes where the [`Servers`](lb_core::Fragment::Servers) fragment stands.
//!
//! Names of ours hold a `_`, which no [`BackendName`] can: they never meet an app's.

use lb_core::{BackendName, FileName};
use xxhash_rust::xxh3::xxh3_64;

/// The balancer's lines in `http`: logs, the status server, maps of its own.
pub const HTTP_INCLUDE: &str = "lb_http.conf";

/// The balancer's lines in `stream`.
pub const STREAM_INCLUDE: &str = "lb_stream.conf";

/// The variable a listener sets to the name of the backend a request goes to; empty where no route leads.
/// The balancer counts and picks by it.
pub const BACKEND_VARIABLE: &str = "lb_backend";

/// The variable that holds the path as it was routed, which [`UriHash`](lb_core::Balance::UriHash) hashes.
pub const PATH_VARIABLE: &str = "lb_path";

/// A lookup of a listener's routes, in order of precedence from 1.
pub fn map_file(port: u16, stage: usize) -> FileName {
    file(&format!("listener_{port}.{stage}.map"))
}

/// Which location serves each backend that is not served by the usual one.
pub fn locations_file() -> FileName {
    file("locations.map")
}

/// A backend's name as a key of a map, where some words mean something at the beginning of a line.
pub(crate) fn map_key(backend: &BackendName) -> String {
    const PARAMETERS: [&str; 4] = ["default", "hostnames", "include", "volatile"];
    let escape = if PARAMETERS.contains(&backend.as_str()) { "\\" } else { "" };
    format!("{escape}{backend}")
}

/// A certificate with its key: `PORT.BACKEND.pem`, or a hash in the backend's place where that is longer than
/// a file name may be. The balancer writes it.
pub fn pem_file(port: u16, backend: &BackendName) -> FileName {
    let hashed = || format!("{port}.{:016x}.pem", xxh3_64(backend.as_str().as_bytes()));
    FileName::new(format!("{port}.{backend}.pem")).unwrap_or_else(|_| file(&hashed()))
}

fn file(name: &str) -> FileName {
    FileName::new(name).unwrap_or_else(|e| unreachable!("names of ours are file names: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_backend_name_still_has_a_file_of_its_own() {
        let long = |end: &str| BackendName::new(format!("{}.{end}", "a".repeat(60))).unwrap();
        assert_ne!(pem_file(443, &long("x")), pem_file(443, &long("y")));
        let short = BackendName::new("shop.web").unwrap();
        assert_eq!(pem_file(443, &short).as_str(), "443.shop.web.pem");
    }
}
