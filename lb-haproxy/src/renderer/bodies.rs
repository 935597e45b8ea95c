//! Backend bodies: rendered once for all that are alike but in name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lb_core::{Backend, BackendName, Result};

use super::sections::{APP_MARK, NAME_MARK, SERVERS_MARK, before_servers, one_section};
use super::view::{BackendView, BodyView};
use crate::templates::{Bounded, TemplateError, Use};

/// Backend bodies of one table, rendered once for all that are alike but in name.
pub(super) struct Bodies<'a> {
    template: &'a Bounded,
    written: BTreeMap<BodyView<'a>, Vec<Piece>>,
}

/// A stretch of a body.
#[derive(Debug)]
enum Piece {
    Text(String),
    Name,
    App,
}

impl<'a> Bodies<'a> {
    /// For a template.
    pub(super) const fn new(template: &'a Bounded) -> Self {
        Self { template, written: BTreeMap::new() }
    }

    /// The section of a backend, up to where its servers go.
    pub(super) fn text(&mut self, name: &BackendName, backend: &'a Backend) -> Result<String> {
        let about = |e: TemplateError| e.about("backend").within(format!("backend \"{name}\""));
        let view = BodyView::new(backend);
        if self.template.uses() == Use::Names {
            let pieces = render(self.template, &view, name.as_str(), backend.app.as_str());
            return Ok(joined(&pieces.map_err(about)?, name, backend));
        }
        let pieces = match self.written.entry(view) {
            Entry::Occupied(written) => written.into_mut(),
            Entry::Vacant(new) => {
                let pieces = render(self.template, new.key(), NAME_MARK, APP_MARK);
                new.insert(pieces.map_err(about)?)
            }
        };
        Ok(joined(pieces, name, backend))
    }
}

fn render(
    template: &Bounded,
    body: &BodyView<'_>,
    name: &str,
    app: &str,
) -> Result<Vec<Piece>, TemplateError> {
    let text = template.render(&BackendView { name, app, servers: SERVERS_MARK, body })?;
    one_section(&text, "backend", name)?;
    Ok(pieces(before_servers(&text)?))
}

fn is_mark(c: char) -> bool {
    [NAME_MARK, APP_MARK].iter().any(|mark| mark.starts_with(c))
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_mark) {
        pieces.push(Piece::Text(rest[..at].to_owned()));
        pieces.push(if rest[at..].starts_with(NAME_MARK) { Piece::Name } else { Piece::App });
        rest = &rest[at + NAME_MARK.len()..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces
}

fn joined(pieces: &[Piece], name: &BackendName, backend: &Backend) -> String {
    let parts: Vec<&str> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Name => name.as_str(),
            Piece::App => backend.app.as_str(),
        })
        .collect();
    parts.concat()
}
