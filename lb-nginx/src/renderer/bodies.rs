//! Upstreams: rendered once for all that are alike but in name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lb_core::{Backend, BackendName, Result};
use lb_template::{APP_MARK, Bounded, MarkedText, NAME_MARK, SERVERS_MARK, TemplateError, Use};

use super::syntax;
use super::view::{BackendView, BodyView};

/// The upstreams of one table.
pub(super) struct Bodies<'a> {
    template: &'a Bounded,
    written: BTreeMap<BodyView, Parts>,
}

/// The text before and after the servers.
type Parts = [MarkedText; 2];

impl<'a> Bodies<'a> {
    /// For a template.
    pub(super) const fn new(template: &'a Bounded) -> Self {
        Self { template, written: BTreeMap::new() }
    }

    /// The block of a backend, before and after where its servers go.
    pub(super) fn text(&mut self, name: &BackendName, backend: &Backend) -> Result<[String; 2]> {
        let about = |e: TemplateError| e.about("backend").within(format!("backend \"{name}\""));
        let view = BodyView::new(backend);
        let whole =
            |parts: &Parts| parts.each_ref().map(|p| p.with(name.as_str(), backend.app.as_str()));
        if self.template.uses() == Use::Names {
            let parts = render(self.template, view, name.as_str(), backend.app.as_str());
            return Ok(whole(&parts.map_err(about)?));
        }
        let parts = match self.written.entry(view) {
            Entry::Occupied(written) => written.into_mut(),
            Entry::Vacant(new) => {
                let parts = render(self.template, *new.key(), NAME_MARK, APP_MARK);
                new.insert(parts.map_err(about)?)
            }
        };
        Ok(whole(parts))
    }
}

fn render(
    template: &Bounded,
    body: BodyView,
    name: &str,
    app: &str,
) -> Result<Parts, TemplateError> {
    let text = template.render(&BackendView { name, app, servers: SERVERS_MARK, body })?;
    let [before, after] = syntax::upstream(&text, name)?;
    Ok([MarkedText::new(&before), MarkedText::new(&after)])
}
