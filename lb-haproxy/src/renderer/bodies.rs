//! Backend bodies: rendered once for all that are alike but in name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lb_core::{Backend, BackendName, Result};
use lb_template::{APP_MARK, Bounded, MarkedText, NAME_MARK, SERVERS_MARK, TemplateError, Use};

use super::sections::{before_servers, one_section};
use super::view::{BackendView, BodyView};

/// Backend bodies of one table, rendered once for all that are alike but in name.
pub(super) struct Bodies<'a> {
    template: &'a Bounded,
    written: BTreeMap<BodyView<'a>, MarkedText>,
}

impl<'a> Bodies<'a> {
    /// For a template.
    pub(super) const fn new(template: &'a Bounded) -> Self {
        Self { template, written: BTreeMap::new() }
    }

    /// The section of a backend, up to where its servers go.
    pub(super) fn text(
        &mut self,
        name: &BackendName,
        backend: &'a Backend,
        over_tls: bool,
    ) -> Result<String> {
        let about = |e: TemplateError| e.about("backend").within(format!("backend \"{name}\""));
        let view = BodyView::new(backend, over_tls);
        if self.template.uses() == Use::Names {
            let pieces = render(self.template, &view, name.as_str(), backend.app.as_str());
            return Ok(pieces.map_err(about)?.with(name.as_str(), backend.app.as_str()));
        }
        let pieces = match self.written.entry(view) {
            Entry::Occupied(written) => written.into_mut(),
            Entry::Vacant(new) => {
                let pieces = render(self.template, new.key(), NAME_MARK, APP_MARK);
                new.insert(pieces.map_err(about)?)
            }
        };
        Ok(pieces.with(name.as_str(), backend.app.as_str()))
    }
}

fn render(
    template: &Bounded,
    body: &BodyView<'_>,
    name: &str,
    app: &str,
) -> Result<MarkedText, TemplateError> {
    let text = template.render(&BackendView { name, app, servers: SERVERS_MARK, body })?;
    one_section(&text, "backend", name)?;
    Ok(MarkedText::new(before_servers(&text)?))
}
