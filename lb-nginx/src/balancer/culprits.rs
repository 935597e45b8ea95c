//! Finding out what alone keeps a table from coming up.

use std::path::Path;

use lb_core::balancer::{Aside, quoted};
use lb_core::{BackendName, FileName, SetAside};

use super::compose::{CONFIG, Certificate, Composed};

/// Who is to blame for what a check or a reload wrote: parts to set aside with the reason. NGINX stops at the
/// first thing it refuses.
pub(crate) fn culprits(output: &str, composed: &Composed, staged: &Path) -> Aside {
    let mut aside = Aside::new();
    for line in output.lines().filter(|l| l.contains("[emerg]")) {
        let text = line.split_once("[emerg] ").map_or(line, |(_, text)| text);
        let reason = || text.replace(&staged.display().to_string(), CONFIG);
        if let Some(part) = blame(text, composed, staged) {
            aside.entry(part).or_insert_with(reason);
        }
    }
    aside
}

fn blame(text: &str, composed: &Composed, staged: &Path) -> Option<SetAside> {
    let by_line = || {
        let line = line_number(text, staged)?;
        composed.backend_at(line).cloned().map(SetAside::Backend)
    };
    let by_certificate = || {
        let of = |(name, c): (&FileName, &Certificate)| {
            text.contains(name.as_str()).then(|| SetAside::Backend(c.backend.clone()))
        };
        composed.certificates.iter().find_map(of)
    };
    let by_name = || {
        quoted(text).find_map(|name| {
            let name = BackendName::new(name).ok()?;
            composed.record.get(&name).map(|_| SetAside::Backend(name))
        })
    };
    let by_port = || {
        // `bind() to 0.0.0.0:80 failed (98: Address already in use)`
        let address = text.strip_prefix("bind() to ")?.split(' ').next()?;
        let port = address.rsplit(':').next()?.parse().ok()?;
        composed.listeners.contains_key(&port).then_some(SetAside::Listener(port))
    };
    by_line().or_else(by_certificate).or_else(by_name).or_else(by_port)
}

/// The number in `FILE:NUMBER`.
fn line_number(text: &str, staged: &Path) -> Option<usize> {
    let (_, rest) = text.split_once(&format!("{}:", staged.display()))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
