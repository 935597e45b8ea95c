//! [`HaproxyRenderer`]: a routing table as the text and maps of an HAProxy configuration.
//!
//! The text begins with `defaults`; the balancer puts `global` and [`peers_section`](crate::layout::peers_section)
//! before it and the server lines into it. Backends that are alike but in name share one rendering.

mod bodies;
mod drops;
mod maps;
mod sections;
mod view;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use lb_core::{
    Backend, BackendName, ConfigRenderer, Error, Fragment, Listener, Protocol, RenderedConfig,
    Result, RoutingTable,
};
use lb_template::Bounded;

use crate::layout;
use bodies::Bodies;
use maps::{Maps, maps};
use sections::{defaults_sections, one_section};
use view::{BODY_FIELDS, DefaultsView, FrontendView};
pub use view::{RATE_TABLE_SIZE, STREAMED_BODY_BYTES};

/// The built-in template of `defaults lb_http` and `defaults lb_tcp`.
pub const DEFAULTS_TEMPLATE: &str = include_str!("templates/defaults.hbs");
/// The built-in template of a listener.
pub const FRONTEND_TEMPLATE: &str = include_str!("templates/frontend.hbs");
/// The built-in template of a backend.
pub const BACKEND_TEMPLATE: &str = include_str!("templates/backend.hbs");

/// Renders frontends, maps and backend bodies for HAProxy 2.6 and later.
///
/// ```
/// use lb_core::{ConfigRenderer, RoutingTable};
/// use lb_haproxy::HaproxyRenderer;
/// let config = HaproxyRenderer::new().render(&RoutingTable::default())?;
/// assert!(config.files.is_empty());
/// # Ok::<(), lb_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct HaproxyRenderer {
    defaults: String,
    frontend: Bounded,
    backend: Bounded,
    bind: IpAddr,
}

/// Options of a [`HaproxyRenderer`].
///
/// Templates are handlebars with `if`, `unless`, `each`, `with`, `and`, `or`, `not`, `eq` and `ne`; the
/// built-in ones ([`BACKEND_TEMPLATE`] and its kin) show all values there are. Each writes exactly its own
/// section, a backend's ends with `{{servers}}` on a line of its own, and none writes a server line.
#[derive(Debug, Clone)]
#[must_use]
pub struct HaproxyRendererBuilder {
    defaults: String,
    frontend: String,
    backend: String,
    bind: IpAddr,
}

impl HaproxyRenderer {
    /// The built-in templates, on all IPv4 addresses.
    pub fn new() -> Self {
        Self::builder().build().unwrap_or_else(|e| unreachable!("built-in templates: {e}"))
    }

    /// Starts from the built-in templates and all IPv4 addresses.
    pub fn builder() -> HaproxyRendererBuilder {
        HaproxyRendererBuilder {
            defaults: DEFAULTS_TEMPLATE.to_owned(),
            frontend: FRONTEND_TEMPLATE.to_owned(),
            backend: BACKEND_TEMPLATE.to_owned(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

impl Default for HaproxyRenderer {
    fn default() -> Self {
        Self::new()
    }
}

impl HaproxyRendererBuilder {
    /// Replaces [`DEFAULTS_TEMPLATE`]. Apps that keep a default time get the one set here.
    pub fn defaults_template(mut self, text: impl Into<String>) -> Self {
        self.defaults = text.into();
        self
    }

    /// Replaces [`FRONTEND_TEMPLATE`].
    pub fn frontend_template(mut self, text: impl Into<String>) -> Self {
        self.frontend = text.into();
        self
    }

    /// Replaces [`BACKEND_TEMPLATE`].
    pub fn backend_template(mut self, text: impl Into<String>) -> Self {
        self.backend = text.into();
        self
    }

    /// Where listeners listen. Default `0.0.0.0`, all IPv4 addresses; `::` is all of both families.
    pub fn bind_address(mut self, address: IpAddr) -> Self {
        self.bind = address;
        self
    }

    /// Checks the templates and tries each on samples.
    ///
    /// # Errors
    /// `Invalid` naming the template, what is wrong with it and what would be right.
    pub fn build(self) -> Result<HaproxyRenderer> {
        let defaults = Bounded::new(&self.defaults, &[])
            .and_then(|template| template.render(&DefaultsView::new()))
            .and_then(|text| defaults_sections(&text).map(|()| ended(text)))
            .map_err(|e| e.about("defaults"))?;
        let frontend = Bounded::new(&self.frontend, &[]).map_err(|e| e.about("frontend"))?;
        let backend = Bounded::new(&self.backend, &BODY_FIELDS).map_err(|e| e.about("backend"))?;
        let renderer = HaproxyRenderer { defaults, frontend, backend, bind: self.bind };
        renderer.render(&view::sample_table())?;
        Ok(renderer)
    }
}

impl ConfigRenderer for HaproxyRenderer {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        let mut config = RenderedConfig::default();
        let mut head = self.defaults.clone();
        for (port, listener) in &table.listeners {
            let maps = self.frontend(*port, listener, table, &mut head)?;
            config.files.extend(maps.files);
        }
        let _ = write!(
            head,
            "backend {} from lb_http\n    http-request return status 404\n",
            layout::NO_ROUTE
        );
        config.fragments.reserve(1 + 2 * table.backends.len());
        config.fragments.push(Fragment::Text { backend: None, text: head });
        let mut bodies = Bodies::new(&self.backend);
        let over_tls = only_over_tls(table);
        for (name, backend) in &table.backends {
            let text = bodies.text(name, backend, over_tls.contains(name))?;
            config.fragments.push(Fragment::Text { backend: Some(name.clone()), text });
            config.fragments.push(Fragment::Servers(name.clone()));
        }
        Ok(config)
    }
}

impl HaproxyRenderer {
    /// Adds a listener's section to `text`.
    fn frontend(
        &self,
        port: u16,
        listener: &Listener,
        table: &RoutingTable,
        text: &mut String,
    ) -> Result<Maps> {
        let bind = self.bind(port);
        let (view, maps) = match listener {
            Listener::Http { routes, .. } => {
                let mut behind = Vec::new();
                for route in routes {
                    behind.push(led_to(table, port, &route.backend, Protocol::Http)?);
                }
                let mut view = FrontendView::new(port, bind, listener, behind.into_iter());
                let maps = maps(port, routes)?;
                view.stages.clone_from(&maps.stages);
                view.strips.clone_from(&maps.strips);
                view.paths = maps.paths;
                (view, maps)
            }
            Listener::Tcp { backend, .. } => {
                let behind = led_to(table, port, backend, Protocol::Tcp)?;
                let mut view = FrontendView::new(port, bind, listener, std::iter::once(behind));
                view.default_backend = backend.to_string();
                (view, Maps::default())
            }
        };
        let section = self.frontend.render(&view).and_then(|section| {
            one_section(&section, "frontend", &view.name).map(|()| ended(section))
        });
        text.push_str(
            &section.map_err(|e| e.about("frontend").within(format!("listener {port}")))?,
        );
        Ok(maps)
    }

    fn bind(&self, port: u16) -> String {
        match self.bind {
            IpAddr::V4(any) if any.is_unspecified() => format!("*:{port}"),
            IpAddr::V6(any) if any.is_unspecified() => format!("[::]:{port} v4v6"),
            IpAddr::V4(one) => format!("{one}:{port}"),
            IpAddr::V6(one) => format!("[{one}]:{port}"),
        }
    }
}

/// The backends that TLS listeners lead to and no others.
fn only_over_tls(table: &RoutingTable) -> BTreeSet<&BackendName> {
    let (mut over_tls, mut in_clear) = (BTreeSet::new(), BTreeSet::new());
    for listener in table.listeners.values() {
        if let Listener::Http { routes, certificates } = listener {
            let led = if certificates.is_empty() { &mut in_clear } else { &mut over_tls };
            led.extend(routes.iter().map(|route| &route.backend));
        }
    }
    &over_tls - &in_clear
}

fn led_to<'a>(
    table: &'a RoutingTable,
    port: u16,
    name: &BackendName,
    protocol: Protocol,
) -> Result<&'a Backend> {
    let wrong = |rule: String| {
        Err(Error::invalid(format!("listener {port}: backend \"{name}\""), rule).during("render"))
    };
    match table.backends.get(name) {
        Some(backend) if backend.protocol == protocol => Ok(backend),
        Some(_) => wrong(format!("must speak {protocol:?}")),
        None => wrong("must be in the table".to_owned()),
    }
}

/// With a final line end.
fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
