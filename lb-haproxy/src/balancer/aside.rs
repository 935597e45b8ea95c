//! Setting aside what alone keeps a table from coming up, and finding out what that is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{Backend, BackendName, Error, Listener, RoutingTable, SetAside, TableHash};
use tokio::time::Instant;

use super::compose::Composed;
use super::directory::CONFIG;

/// How long a backend that was refused is left out unasked while it stays as it is.
const HOLD: Duration = Duration::from_secs(60);

/// What is left out, and why.
pub(crate) type Aside = BTreeMap<SetAside, String>;

/// The table without what is set aside: no route leads to a backend that is not there, and a listener
/// that would lose its last certificate goes rather than speak in the clear.
pub(crate) fn reduced(table: &RoutingTable, aside: &Aside) -> RoutingTable {
    if aside.is_empty() {
        return table.clone();
    }
    let out = |name: &BackendName| aside.contains_key(&SetAside::Backend(name.clone()));
    let listener = |(port, listener): (&u16, &Listener)| {
        if aside.contains_key(&SetAside::Listener(*port)) {
            return None;
        }
        match listener {
            Listener::Tcp { backend, .. } if out(backend) => None,
            Listener::Tcp { .. } => Some((*port, listener.clone())),
            Listener::Http { routes, certificates } => {
                let routes = routes.iter().filter(|r| !out(&r.backend)).cloned().collect();
                let kept: BTreeMap<_, _> = certificates
                    .iter()
                    .filter(|(name, _)| !out(name))
                    .map(|(name, pem)| (name.clone(), pem.clone()))
                    .collect();
                let clear = kept.is_empty() && !certificates.is_empty();
                (!clear).then_some((*port, Listener::Http { routes, certificates: kept }))
            }
        }
    };
    RoutingTable {
        host: table.host.clone(),
        listeners: table.listeners.iter().filter_map(listener).collect(),
        backends: table
            .backends
            .iter()
            .filter(|(name, _)| !out(name))
            .map(|(name, backend)| (name.clone(), backend.clone()))
            .collect(),
    }
}

/// Backends that were refused, so that not every change of another asks again.
#[derive(Debug, Default)]
pub(crate) struct Refused(BTreeMap<BackendName, Refusal>);

#[derive(Debug)]
struct Refusal {
    shape: (TableHash, TableHash),
    reason: String,
    until: Instant,
}

impl Refused {
    /// Remembers the backends among `aside`.
    pub(crate) fn remember(&mut self, table: &RoutingTable, aside: &Aside) {
        for (part, reason) in aside {
            let SetAside::Backend(name) = part else { continue };
            let Some(backend) = table.backends.get(name) else { continue };
            let until = Instant::now() + HOLD;
            let refusal = Refusal { shape: shape(backend, table), reason: reason.clone(), until };
            self.0.entry(name.clone()).or_insert(refusal);
        }
    }

    /// Those still in the table as they were.
    pub(crate) fn still(&mut self, table: &RoutingTable) -> Aside {
        self.0.retain(|name, refusal| {
            let same = |b: &Arc<Backend>| shape(b, table) == refusal.shape;
            Instant::now() < refusal.until && table.backends.get(name).is_some_and(same)
        });
        let part = |(name, r): (&BackendName, &Refusal)| {
            (SetAside::Backend(name.clone()), r.reason.clone())
        };
        self.0.iter().map(part).collect()
    }
}

/// What a refusal may be about: the backend, or what listeners say of it, certificates included.
fn shape(backend: &Backend, table: &RoutingTable) -> (TableHash, TableHash) {
    let listeners = RoutingTable { backends: BTreeMap::new(), ..table.clone() };
    (backend.shape().hash(), listeners.hash())
}

/// The backend a renderer's error names.
pub(crate) fn named_by(error: &Error, table: &RoutingTable) -> Option<SetAside> {
    let text = format!("{} {}", error.subject(), error.message());
    quoted(&text).find_map(|name| known(&name, table))
}

/// Who is to blame for what a check wrote: parts to set aside with the reason.
pub(crate) fn culprits(output: &str, composed: &Composed, staged: &Path) -> Aside {
    let mut aside = Aside::new();
    for line in output.lines().filter(|l| l.contains("[ALERT]")) {
        let at = line_number(line, staged);
        let reason = || match (line.split_once(" : "), at) {
            (Some((_, text)), _) => text.replace(&staged.display().to_string(), CONFIG),
            (None, _) => line.to_owned(),
        };
        if let Some(part) = blame(line, at, composed) {
            aside.entry(part).or_insert_with(reason);
        }
    }
    aside
}

fn blame(line: &str, at: Option<usize>, composed: &Composed) -> Option<SetAside> {
    let by_line = at.and_then(|n| composed.backend_at(n)).cloned().map(SetAside::Backend);
    let by_certificate = || {
        let of = |(name, c): (&lb_core::FileName, &super::compose::Certificate)| {
            line.contains(name.as_str()).then(|| SetAside::Backend(c.backend.clone()))
        };
        composed.certificates.iter().find_map(of)
    };
    let by_name = || {
        quoted(line).find_map(|name| {
            let name = BackendName::new(name).ok()?;
            composed.servers.contains_key(&name).then_some(SetAside::Backend(name))
        })
    };
    let by_frontend = || {
        let in_words = |word: &str| crate::layout::listener_port(word);
        let split = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        line.split(split).find_map(in_words).map(SetAside::Listener)
    };
    by_line.or_else(by_certificate).or_else(by_name).or_else(by_frontend)
}

/// The number in `[FILE:NUMBER]`.
fn line_number(line: &str, staged: &Path) -> Option<usize> {
    let (_, rest) = line.split_once(&format!("{}:", staged.display()))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn known(name: &str, table: &RoutingTable) -> Option<SetAside> {
    let name = BackendName::new(name).ok()?;
    table.backends.contains_key(&name).then_some(SetAside::Backend(name))
}

/// What stands between quotes of either kind.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split(['"', '\'']).skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lb_core::{AppName, CertificatePem, PathPrefix, Prefix, Protocol, RenderedConfig, Route};

    use super::super::compose::GlobalSettings;
    use super::super::limits::Resources;
    use super::*;

    fn backend(app: &str) -> BackendName {
        BackendName::new(format!("{app}.web")).unwrap()
    }

    fn table() -> RoutingTable {
        let mut table = RoutingTable::default();
        for (app, protocol) in
            [("a", Protocol::Http), ("b", Protocol::Http), ("raw", Protocol::Tcp)]
        {
            let new = Backend::new(AppName::new(app).unwrap(), protocol);
            table.backends.insert(backend(app), Arc::new(new));
        }
        let route = |app: &str, path: &str| Route {
            host: None,
            path: PathPrefix::new(path).unwrap(),
            prefix: Prefix::Kept,
            backend: backend(app),
        };
        let pem = CertificatePem::new(include_str!("../../tests/data/shop.pem")).unwrap();
        let routes = [route("a", "/a"), route("b", "/b")].into();
        let certificates = [(backend("a"), pem)].into();
        table.listeners.insert(443, Listener::Http { routes, certificates });
        let routes = [route("a", "/a"), route("b", "/b")].into();
        table.listeners.insert(80, Listener::Http { routes, certificates: BTreeMap::new() });
        table.listeners.insert(9000, Listener::Tcp { backend: backend("raw"), certificate: None });
        table
    }

    fn without(parts: &[SetAside]) -> RoutingTable {
        let aside = parts.iter().map(|part| (part.clone(), "why".to_owned())).collect();
        let reduced = reduced(&table(), &aside);
        reduced.check().unwrap();
        reduced
    }

    #[test]
    fn no_route_leads_to_what_is_set_aside() {
        let rest = without(&[SetAside::Backend(backend("b"))]);
        assert_eq!(rest.backends.len(), 2);
        assert_eq!(rest.listeners.len(), 3);
        let rest = without(&[SetAside::Backend(backend("raw"))]);
        assert_eq!(rest.listeners.keys().collect::<Vec<_>>(), [&80, &443]);
        let rest = without(&[SetAside::Listener(80)]);
        assert_eq!((rest.backends.len(), rest.listeners.len()), (3, 2));
    }

    #[test]
    fn a_listener_never_loses_its_encryption() {
        let rest = without(&[SetAside::Backend(backend("a"))]);
        assert_eq!(rest.listeners.keys().collect::<Vec<_>>(), [&80, &9000]);
    }

    fn composed() -> Composed {
        use lb_core::Fragment::{Servers, Text};
        let text = |backend, text: &str| Text { backend, text: text.to_owned() };
        let mut fragments = vec![text(None, "frontend listener_443\n    bind :443 ssl\n")];
        for app in ["a", "b", "raw"] {
            let head = format!("backend {}\n    balance leastconn\n", backend(app));
            fragments.extend([text(Some(backend(app)), &head), Servers(backend(app))]);
        }
        let rendered = RenderedConfig { fragments, files: BTreeMap::new() };
        let settings = GlobalSettings {
            hard_stop_after: Duration::from_secs(60),
            max_reloads: 8,
            user: Vec::new(),
        };
        let limits = Resources::default().limits(0);
        let dir = Path::new("/run/lb");
        Composed::new(&table(), table().hash(), rendered, dir, &settings, limits).unwrap()
    }

    fn blamed(output: &str) -> Vec<SetAside> {
        let staged = Path::new("/run/lb/next/haproxy.cfg");
        culprits(output, &composed(), staged).into_keys().collect()
    }

    #[test]
    fn a_line_a_certificate_a_name_or_a_frontend_tells_who_is_to_blame() {
        let composed = composed();
        let line = 2 + composed.text.lines().position(|l| l == "backend b.web").unwrap();
        let alert = format!(
            "[ALERT]    (1) : config : parsing [/run/lb/next/haproxy.cfg:{line}] : unknown keyword 'x'\n"
        );
        assert_eq!(blamed(&alert), [SetAside::Backend(backend("b"))]);
        assert!(blamed(&alert.replace("ALERT", "WARNING")).is_empty());
        let alert = "[ALERT] (1) : config : parsing [/run/lb/next/haproxy.cfg:2] : unable to load certificate from file '443.a.web.pem'.\n";
        assert_eq!(blamed(alert), [SetAside::Backend(backend("a"))]);
        let alert = "[ALERT] (1) : config : backend 'raw.web': something global to it\n";
        assert_eq!(blamed(alert), [SetAside::Backend(backend("raw"))]);
        let alert = "[ALERT] (1) : config : Proxy 'listener_443': no SSL certificate specified\n";
        assert_eq!(blamed(alert), [SetAside::Listener(443)]);
        assert!(blamed("[ALERT] (1) : config : Fatal errors found in configuration.\n").is_empty());
    }

    #[test]
    fn a_refusal_is_remembered_until_what_it_is_about_changes() {
        let mut refused = Refused::default();
        let aside = Aside::from([(SetAside::Backend(backend("b")), "why".to_owned())]);
        refused.remember(&table(), &aside);
        assert_eq!(refused.still(&table()), aside);
        let mut mended = table();
        mended.listeners.remove(&443);
        assert!(refused.still(&mended).is_empty(), "its certificate may have been the reason");
    }
}
