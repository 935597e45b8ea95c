#![forbid(unsafe_code)]
//! lb-template: templates with limits: what a platform may replace, and how far a wrong one can go. For the
//! renderers of lb; a platform meets it through them.
//!
//! Bounds are checked on the text before it is parsed (parsers recurse), on the parsed tree before it is
//! used, and on the output while it is written. A template that passes ends in bounded time whatever the
//! data: it can loop only over the data's own short lists.

mod audit;
mod marks;

use std::io;

use handlebars::{Handlebars, RenderErrorReason, Template, no_escape};
use lb_core::{Error, ErrorKind};
use serde::Serialize;

pub use audit::Use;
pub use marks::{APP_MARK, MarkedText, NAME_MARK, SERVERS_MARK};

/// Longest template in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Most `{{` of a template, which bounds how deep its blocks can nest before it is parsed.
pub const MAX_TEMPLATE_TAGS: usize = 256;
/// Most `(` and `[` of a template, for the same reason.
pub const MAX_TEMPLATE_BRACKETS: usize = 512;
/// Deepest nesting of blocks and subexpressions.
pub const MAX_TEMPLATE_DEPTH: usize = 12;
/// Most steps one rendering can take, each loop counted as if it ran [`LOOP_STEPS`] times.
pub const MAX_TEMPLATE_STEPS: usize = 20_000;
/// Longest list or object a template is given.
pub const LOOP_STEPS: usize = 32;
/// Longest output of one rendering in bytes.
pub const MAX_OUTPUT_BYTES: usize = 256 * 1024;

/// What is wrong with a template or with what it wrote.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Its length in bytes.
    #[error("must be at most {MAX_TEMPLATE_BYTES} bytes, not {0}")]
    TooLong(usize),
    /// The line of a control character.
    #[error("must hold no control characters but line ends and tabs: one stands in line {0}")]
    Control(usize),
    /// How many tags.
    #[error("must hold at most {MAX_TEMPLATE_TAGS} tags, not {0}")]
    TooManyTags(usize),
    /// How many brackets.
    #[error("must hold at most {MAX_TEMPLATE_BRACKETS} of ( and [, not {0}")]
    TooManyBrackets(usize),
    /// Why it does not parse.
    #[error("does not parse: {0}")]
    Parse(String),
    /// What it uses.
    #[error("must not use {0}; allowed are if, unless, each, with, and, or, not, eq and ne")]
    NotAllowed(String),
    /// Nested too deep.
    #[error("must nest at most {MAX_TEMPLATE_DEPTH} deep")]
    TooDeep,
    /// Too many steps.
    #[error("must take at most {MAX_TEMPLATE_STEPS} steps: loops are nested too deep")]
    TooLongRunning,
    /// Why it cannot be rendered.
    #[error("cannot be rendered: {0}")]
    Render(String),
    /// Too long an output.
    #[error("must write at most {MAX_OUTPUT_BYTES} bytes")]
    TooMuchOutput,
    /// A line of its output breaks a rule.
    #[error("line {line} of its output {rule}")]
    Output {
        /// Counted from 1.
        line: usize,
        /// What it must be.
        rule: String,
    },
    /// Its output breaks a rule.
    #[error("its output {0}")]
    Whole(String),
}

impl TemplateError {
    /// The public error, naming which template.
    pub fn about(self, template: &str) -> Error {
        Error::new(ErrorKind::Invalid, "render", format!("{template} template"), self.to_string())
    }
}

/// A template that passed its bounds.
#[derive(Debug, Clone)]
pub struct Bounded {
    registry: Handlebars<'static>,
    uses: Use,
}

const NAME: &str = "t";

impl Bounded {
    /// Checks a template. `settings` are the fields that are no names, for [`uses`](Self::uses).
    ///
    /// # Errors
    /// Which bound it breaks.
    pub fn new(text: &str, settings: &[&str]) -> Result<Self, TemplateError> {
        check_text(text)?;
        let template =
            Template::compile(text).map_err(|e| TemplateError::Parse(shortened(&e.to_string())))?;
        let uses = audit::audit(&template, settings)?;
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(no_escape);
        for helper in ["log", "lookup", "raw", "len", "gt", "gte", "lt", "lte"] {
            registry.unregister_helper(helper);
        }
        registry.register_template(NAME, template);
        Ok(Self { registry, uses })
    }

    /// What the template looks at to decide something.
    pub const fn uses(&self) -> Use {
        self.uses
    }

    /// Renders it.
    ///
    /// # Errors
    /// Where a value is missing, or too much is written.
    pub fn render(&self, data: &impl Serialize) -> Result<String, TemplateError> {
        let mut output = BoundedOutput(Vec::with_capacity(1024));
        match self.registry.render_to_write(NAME, data, &mut output) {
            Ok(()) => String::from_utf8(output.0).map_err(|e| TemplateError::Render(e.to_string())),
            Err(e) if matches!(e.reason(), RenderErrorReason::IOError(_)) => {
                Err(TemplateError::TooMuchOutput)
            }
            Err(e) => Err(TemplateError::Render(shortened(&e.to_string()))),
        }
    }
}

fn check_text(text: &str) -> Result<(), TemplateError> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::TooLong(text.len()));
    }
    for (index, line) in text.split('\n').enumerate() {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(TemplateError::Control(index + 1));
        }
    }
    let tags = text.matches("{{").count();
    let brackets = text.bytes().filter(|b| b"([".contains(b)).count();
    match (tags > MAX_TEMPLATE_TAGS, brackets > MAX_TEMPLATE_BRACKETS) {
        (true, _) => Err(TemplateError::TooManyTags(tags)),
        (_, true) => Err(TemplateError::TooManyBrackets(brackets)),
        _ => Ok(()),
    }
}

/// The first lines of a long message: parsers quote the template.
fn shortened(message: &str) -> String {
    const SHOWN: usize = 300;
    match message.char_indices().nth(SHOWN) {
        None => message.to_owned(),
        Some((cut, _)) => format!("{}...", &message[..cut]),
    }
}

#[derive(Debug)]
struct BoundedOutput(Vec<u8>);

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
