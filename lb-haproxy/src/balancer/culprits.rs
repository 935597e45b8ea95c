//! Finding out what alone keeps a table from coming up.

use std::path::Path;

use lb_core::balancer::{Aside, quoted};
use lb_core::{BackendName, SetAside};

use super::compose::{CONFIG, Composed};
use super::log::{Entry, entries};

/// Who is to blame for what a check wrote: parts to set aside with the reason.
pub(crate) fn culprits(output: &str, composed: &Composed, staged: &Path) -> Aside {
    let mut aside = Aside::new();
    for Entry { text, .. } in entries(output).iter().filter(|entry| entry.is_alert()) {
        if let Some(part) = blame(text, line_number(text, staged), composed) {
            let reason = || text.replace(&staged.display().to_string(), CONFIG);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use lb_core::{
        AppName, Backend, CertificatePem, Listener, PathPrefix, Prefix, Protocol, RenderedConfig,
        Route, RoutingTable,
    };

    use super::super::compose::{GlobalSettings, Ground};
    use super::super::limits::Resources;
    use super::super::loaded::Shapes;
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
        let pem =
            CertificatePem::new(include_str!("../../../testbed/support/data/shop.pem")).unwrap();
        let routes = [route("a", "/a"), route("b", "/b")].into();
        let certificates = [(backend("a"), pem)].into();
        table.listeners.insert(443, Listener::Http { routes, certificates });
        let routes = [route("a", "/a"), route("b", "/b")].into();
        table.listeners.insert(80, Listener::Http { routes, certificates: BTreeMap::new() });
        table.listeners.insert(9000, Listener::Tcp { backend: backend("raw"), certificate: None });
        table
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
            header_bytes: 32 << 10,
            hard_stop_after: Duration::from_secs(60),
            user: Vec::new(),
            abilities: crate::Abilities::default(),
        };
        let limits = Resources::default().limits(0);
        let dir = Path::new("/run/lb");
        let (settings, shapes) = (&settings, &Shapes::new());
        let ground = Ground { dir, settings, limits, running: None, shapes };
        Composed::new(&table(), table().hash(), rendered, ground).unwrap()
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
    fn a_broken_certificate_is_its_apps_affair_however_it_is_told() {
        let in_one_line = [
            "unable to load certificate from file '443.a.web.pem'.", // 2.6.12
            "unable to load certificate from file '443.a.web.pem': header too long.", // 2.8.25
        ]
        .map(|said| format!("'crt-list' : {said}"));
        // 3.0.11, 3.2.26 and 3.4.0.
        let in_three = "\u{20}
  'crt-list' : error processing line 1 in file 'listener-443.crt-list' : unable to load certificate from file '443.a.web.pem': header too long.
  unable to load SSL private key into SSL Context '443.a.web.pem': passed a null parameter."
            .to_owned();
        for said in in_one_line.into_iter().chain([in_three]) {
            let output = format!(
                "[NOTICE]   (4076) : haproxy version is 3.0.11-1+deb13u4
[ALERT]    (4076) : config : parsing [/run/lb/next/haproxy.cfg:2] : 'bind 127.0.0.1:29443' in section 'frontend' : {said}
[ALERT]    (4076) : config : Error(s) found in configuration file : /run/lb/next/haproxy.cfg
[ALERT]    (4076) : config : Fatal errors found in configuration.
"
            );
            let aside = culprits(&output, &composed(), Path::new("/run/lb/next/haproxy.cfg"));
            assert_eq!(
                aside.keys().collect::<Vec<_>>(),
                [&SetAside::Backend(backend("a"))],
                "{said}"
            );
            let reason = aside.values().next().unwrap();
            assert!(
                reason.contains("[haproxy.cfg:2]") && reason.contains("443.a.web.pem"),
                "{reason}"
            );
        }
    }
}
