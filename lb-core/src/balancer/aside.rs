//! Setting aside what alone keeps a table from coming up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SetAside;
use crate::error::Error;
use crate::model::BackendName;
use crate::routing::{Backend, Listener, RoutingTable, TableHash};

/// How long a backend that was refused is left out unasked while it stays as it is.
const HOLD: Duration = Duration::from_secs(60);

/// What is left out, and why.
pub type Aside = BTreeMap<SetAside, String>;

/// The table without what is set aside: no route leads to a backend that is not there, and a listener
/// that would lose its last certificate goes rather than speak in the clear.
pub fn reduced(table: &RoutingTable, aside: &Aside) -> RoutingTable {
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
pub struct Refused(BTreeMap<BackendName, Refusal>);

#[derive(Debug)]
struct Refusal {
    shape: (TableHash, TableHash),
    reason: String,
    until: Instant,
}

impl Refused {
    /// Remembers the backends among `aside`, for a minute from `now`.
    pub fn remember(&mut self, table: &RoutingTable, aside: &Aside, now: Instant) {
        for (part, reason) in aside {
            let SetAside::Backend(name) = part else { continue };
            let Some(backend) = table.backends.get(name) else { continue };
            let until = now + HOLD;
            let refusal = Refusal { shape: shape(backend, table), reason: reason.clone(), until };
            self.0.entry(name.clone()).or_insert(refusal);
        }
    }

    /// Those still in the table as they were.
    pub fn still(&mut self, table: &RoutingTable, now: Instant) -> Aside {
        self.0.retain(|name, refusal| {
            let same = |b: &Arc<Backend>| shape(b, table) == refusal.shape;
            now < refusal.until && table.backends.get(name).is_some_and(same)
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
pub fn named_by(error: &Error, table: &RoutingTable) -> Option<SetAside> {
    let text = format!("{} {}", error.subject(), error.message());
    quoted(&text).find_map(|name| known(&name, table))
}

fn known(name: &str, table: &RoutingTable) -> Option<SetAside> {
    let name = BackendName::new(name).ok()?;
    table.backends.contains_key(&name).then_some(SetAside::Backend(name))
}

/// What stands between quotes of either kind.
pub fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split(['"', '\'']).skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The reasons of all that is set aside, for an error when nothing else is left.
pub fn reasons(aside: &Aside) -> String {
    let reason =
        |(part, reason): (&SetAside, &String)| format!("{}: {reason}", String::from(part.clone()));
    aside.iter().map(reason).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppName, CertificatePem, PathPrefix, Prefix, Protocol};
    use crate::routing::Route;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\
                       -----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

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
        let pem = CertificatePem::new(PEM).unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_until_what_it_is_about_changes_or_for_a_minute() {
        let (mut refused, now) =
            (Refused::default(), tokio::time::sleep(Duration::ZERO).deadline());
        let aside = Aside::from([(SetAside::Backend(backend("b")), "why".to_owned())]);
        refused.remember(&table(), &aside, now);
        assert_eq!(refused.still(&table(), now + HOLD / 2), aside);
        let mut mended = table();
        mended.listeners.remove(&443);
        assert!(refused.still(&mended, now).is_empty(), "its certificate may have been the reason");
        refused.remember(&table(), &aside, now);
        assert!(refused.still(&table(), now + HOLD).is_empty(), "asked again after a while");
    }
}
