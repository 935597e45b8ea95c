//! [`NginxRenderer`]: a routing table as the text and maps of an NGINX configuration.
//!
//! The text is `http { ... }` and, with byte streams, `stream { ... }`; what stands before them, and how an
//! `upstream` picks a server, is the balancer's ([`layout`]). Requests find their backend
//! by maps, one for each depth of path there is, and are served by a location for all backends that are alike
//! but in name.

mod bodies;
mod locations;
mod maps;
mod names;
mod refuse;
mod syntax;
mod view;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use lb_core::{
    Backend, BackendName, ConfigRenderer, Error, FileName, Fragment, Listener, Protocol,
    RenderedConfig, Result, RoutingTable,
};
use lb_template::{Bounded, TemplateError};

use self::bodies::Bodies;
use self::locations::Locations;
use self::maps::Maps;
use self::view::{BACKEND_FIELDS, DefaultsView, FrontendView};
use crate::layout;

/// The built-in template of settings for all of `http`.
pub const DEFAULTS_TEMPLATE: &str = include_str!("templates/defaults.hbs");
/// The built-in template of a listener.
pub const FRONTEND_TEMPLATE: &str = include_str!("templates/frontend.hbs");
/// The built-in template of a location: how requests are passed to the backends that share it.
pub const LOCATION_TEMPLATE: &str = include_str!("templates/location.hbs");
/// The built-in template of a backend.
pub const BACKEND_TEMPLATE: &str = include_str!("templates/backend.hbs");

/// The file with the locations of all HTTP listeners.
const LOCATIONS_FILE: &str = "lb_locations.conf";

/// Renders listeners, maps, locations and upstreams for NGINX 1.22 and later.
///
/// ```
/// use lb_core::{ConfigRenderer, RoutingTable};
/// use lb_nginx::NginxRenderer;
/// let config = NginxRenderer::new().render(&RoutingTable::default())?;
/// assert!(config.files.contains_key(&lb_core::FileName::new("lb_locations.conf")?));
/// # Ok::<(), lb_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NginxRenderer {
    defaults: String,
    frontend: Bounded,
    location: Bounded,
    backend: Bounded,
    bind: IpAddr,
}

/// Options of an [`NginxRenderer`].
///
/// Templates are handlebars with `if`, `unless`, `each`, `with`, `and`, `or`, `not`, `eq` and `ne`; the
/// built-in ones ([`LOCATION_TEMPLATE`] and its kin) show all values there are. Each writes exactly its own
/// blocks; a backend's holds `{{servers}}` on a line of its own, and none writes a `server` line or method.
#[derive(Debug, Clone)]
#[must_use]
pub struct NginxRendererBuilder {
    defaults: String,
    frontend: String,
    location: String,
    backend: String,
    bind: IpAddr,
}

impl NginxRenderer {
    /// The built-in templates, on all IPv4 addresses.
    pub fn new() -> Self {
        Self::builder().build().unwrap_or_else(|e| unreachable!("built-in templates: {e}"))
    }

    /// Starts from the built-in templates and all IPv4 addresses.
    pub fn builder() -> NginxRendererBuilder {
        NginxRendererBuilder {
            defaults: DEFAULTS_TEMPLATE.to_owned(),
            frontend: FRONTEND_TEMPLATE.to_owned(),
            location: LOCATION_TEMPLATE.to_owned(),
            backend: BACKEND_TEMPLATE.to_owned(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

impl Default for NginxRenderer {
    fn default() -> Self {
        Self::new()
    }
}

impl NginxRendererBuilder {
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

    /// Replaces [`LOCATION_TEMPLATE`].
    pub fn location_template(mut self, text: impl Into<String>) -> Self {
        self.location = text.into();
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
    pub fn build(self) -> Result<NginxRenderer> {
        let defaults = Bounded::new(&self.defaults, &[])
            .and_then(|template| template.render(&DefaultsView::new()))
            .and_then(|text| syntax::settings(&text).map(|()| ended(text)))
            .map_err(|e| e.about("defaults"))?;
        let template = |text: &str, name: &str, fields: &[&str]| {
            Bounded::new(text, fields).map_err(|e: TemplateError| e.about(name))
        };
        let renderer = NginxRenderer {
            defaults,
            frontend: template(&self.frontend, "frontend", &[])?,
            location: template(&self.location, "location", &[])?,
            backend: template(&self.backend, "backend", &BACKEND_FIELDS)?,
            bind: self.bind,
        };
        renderer.render(&view::sample_table())?;
        Ok(renderer)
    }
}

impl ConfigRenderer for NginxRenderer {
    fn render(&self, table: &RoutingTable) -> Result<RenderedConfig> {
        table.backends.iter().try_for_each(|(name, b)| refuse::refuse(name, b))?;
        let streams = table.backends.values().any(|b| b.protocol == Protocol::Tcp);
        let mut config = RenderedConfig::default();
        let maps: BTreeMap<u16, Maps> = table
            .listeners
            .iter()
            .filter_map(|(port, l)| Some((*port, maps::maps(*port, l)?)))
            .collect();
        let locations = Locations::new(table, maps.values().any(|m| m.strips));
        // Sizes first: NGINX takes them no more once there is a map.
        let sizes = hash_sizes(&maps, table);
        let mut head = format!("http {{\n{sizes}    include {};\n", layout::HTTP_INCLUDE);
        head.push_str(&self.defaults);
        head.push_str(&maps::shared_maps(&maps));
        head.push_str(&locations.maps());
        let (mut http, mut tcp) = (String::new(), String::new());
        for (port, listener) in &table.listeners {
            let text = match listener {
                Listener::Http { .. } => &mut http,
                Listener::Tcp { .. } => &mut tcp,
            };
            self.listener(*port, listener, table, maps.get(port), text)?;
        }
        config.files.extend(maps.into_values().flat_map(|m| m.files));
        config.files.insert(layout::locations_file(), locations.file());
        config.files.insert(file(LOCATIONS_FILE), locations.render(&self.location)?);
        config.fragments.push(text(head + &http));
        self.backends(table, Protocol::Http, &mut config)?;
        config.fragments.push(text("}\n".to_owned()));
        if streams {
            let head = format!("stream {{\n    include {};\n{tcp}", layout::STREAM_INCLUDE);
            config.fragments.push(text(head));
            self.backends(table, Protocol::Tcp, &mut config)?;
            config.fragments.push(text("}\n".to_owned()));
        }
        Ok(config)
    }
}

impl NginxRenderer {
    fn listener(
        &self,
        port: u16,
        listener: &Listener,
        table: &RoutingTable,
        maps: Option<&Maps>,
        text: &mut String,
    ) -> Result<()> {
        let mut behind = Vec::new();
        match listener {
            Listener::Http { routes, .. } => {
                for route in routes {
                    behind.push(led_to(table, port, &route.backend, Protocol::Http)?);
                }
            }
            Listener::Tcp { backend, .. } => {
                behind.push(led_to(table, port, backend, Protocol::Tcp)?);
            }
        }
        let view = FrontendView::new(port, self.bind, listener, maps, &behind)
            .map_err(|e| e.within(format!("listener {port}")))?;
        let written = self
            .frontend
            .render(&view)
            .and_then(|text| syntax::listener(&text, view.is_stream()).map(|()| ended(text)));
        text.push_str(
            &written.map_err(|e| e.about("frontend").within(format!("listener {port}")))?,
        );
        Ok(())
    }

    fn backends(
        &self,
        table: &RoutingTable,
        protocol: Protocol,
        config: &mut RenderedConfig,
    ) -> Result<()> {
        let mut bodies = Bodies::new(&self.backend);
        for (name, backend) in table.backends.iter().filter(|(_, b)| b.protocol == protocol) {
            let [before, after] = bodies.text(name, backend)?;
            let of = |text| Fragment::Text { backend: Some(name.clone()), text };
            config.fragments.push(of(before));
            config.fragments.push(Fragment::Servers(name.clone()));
            config.fragments.push(of(after));
        }
        Ok(())
    }
}

/// Hash tables that fit the longest key and the number of keys: NGINX refuses a key longer than a bucket.
fn hash_sizes(maps: &BTreeMap<u16, Maps>, table: &RoutingTable) -> String {
    let longest =
        maps.values().map(|m| m.longest).chain(table.backends.keys().map(|b| b.as_str().len()));
    let bucket = (longest.max().unwrap_or_default() + 32).next_multiple_of(64);
    let keys =
        maps.values().map(|m| m.keys).chain([table.backends.len()]).max().unwrap_or_default();
    let size = (2 * keys).max(2048).next_power_of_two();
    let mut text = String::new();
    let _ = writeln!(text, "    map_hash_bucket_size {bucket};\n    map_hash_max_size {size};");
    let _ = writeln!(
        text,
        "    server_names_hash_bucket_size 320;\n    server_names_hash_max_size {size};"
    );
    let variables = (16 * table.listeners.len()).max(1024).next_power_of_two();
    let _ = writeln!(
        text,
        "    variables_hash_max_size {variables};\n    variables_hash_bucket_size 128;"
    );
    text
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

fn text(text: String) -> Fragment {
    Fragment::Text { backend: None, text }
}

fn file(name: &str) -> FileName {
    FileName::new(name).unwrap_or_else(|e| unreachable!("names of ours are file names: {e}"))
}

/// With a final line end.
fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
