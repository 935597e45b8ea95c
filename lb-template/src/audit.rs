//! Walks a parsed template: only known helpers, bounded depth and steps, no partials, no decorators.

use handlebars::template::{DecoratorTemplate, HelperTemplate, Parameter, TemplateElement};
use handlebars::{Path, Template};
use serde_json::Value as Json;

use super::{LOOP_STEPS, MAX_TEMPLATE_DEPTH, MAX_TEMPLATE_STEPS, TemplateError};

/// Helpers whose cost is a step.
const HELPERS: [&str; 8] = ["if", "unless", "with", "and", "or", "not", "eq", "ne"];
/// The helper that loops.
const LOOP: &str = "each";

/// What a template looks at to decide something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Settings only: names are written, never compared, so backends alike but in name come out alike.
    Settings,
    /// Possibly names too.
    Names,
}

/// Checks a parsed template, and says what it looks at.
pub(super) fn audit(template: &Template, settings: &[&str]) -> Result<Use, TemplateError> {
    let mut walk = Walk { settings, uses: Use::Settings };
    match walk.template(template, 0)? {
        0..=MAX_TEMPLATE_STEPS => Ok(walk.uses),
        _ => Err(TemplateError::TooLongRunning),
    }
}

struct Walk<'s> {
    settings: &'s [&'s str],
    uses: Use,
}

impl Walk<'_> {
    /// The steps the template can take.
    fn template(&mut self, template: &Template, depth: usize) -> Result<usize, TemplateError> {
        if depth > MAX_TEMPLATE_DEPTH {
            return Err(TemplateError::TooDeep);
        }
        template.elements.iter().try_fold(0_usize, |steps, element| {
            Ok(steps.saturating_add(self.element(element, depth)?))
        })
    }

    fn element(&mut self, element: &TemplateElement, depth: usize) -> Result<usize, TemplateError> {
        use TemplateElement as E;
        match element {
            E::RawString(_) | E::Comment(_) => Ok(1),
            E::Expression(helper) | E::HtmlExpression(helper) | E::HelperBlock(helper) => {
                self.helper(helper, depth)
            }
            E::PartialExpression(d) | E::PartialBlock(d) => Err(refused("partial", d)),
            E::DecoratorExpression(d) | E::DecoratorBlock(d) => Err(refused("decorator", d)),
            other => Err(unknown(other)),
        }
    }

    fn helper(&mut self, helper: &HelperTemplate, depth: usize) -> Result<usize, TemplateError> {
        let called = helper.block || !helper.params.is_empty() || !helper.hash.is_empty();
        let name = self.name(&helper.name, called, depth)?;
        for parameter in helper.params.iter().chain(helper.hash.values()) {
            self.parameter(parameter, depth)?;
        }
        let mut inside = 0_usize;
        for template in [&helper.template, &helper.inverse].into_iter().flatten() {
            inside = inside.saturating_add(self.template(template, depth + 1)?);
        }
        let times = if name == Some(LOOP) { LOOP_STEPS } else { 1 };
        Ok(inside.saturating_mul(times).saturating_add(1))
    }

    /// The helper's name, if one is called.
    fn name<'a>(
        &mut self,
        name: &'a Parameter,
        called: bool,
        depth: usize,
    ) -> Result<Option<&'a str>, TemplateError> {
        let text = match name {
            Parameter::Name(text) => text,
            Parameter::Path(path) if called => raw(path),
            Parameter::Path(_) => return Ok(None),
            Parameter::Literal(value) => return plain(value).map(|()| None),
            Parameter::Subexpression(_) => return self.parameter(name, depth).map(|()| None),
            other => return Err(unknown(other)),
        };
        match text {
            LOOP => Ok(Some(LOOP)),
            known if HELPERS.contains(&known) => Ok(Some(known)),
            _ if !called => Ok(None),
            other => Err(not_allowed("helper", other)),
        }
    }

    fn parameter(&mut self, parameter: &Parameter, depth: usize) -> Result<(), TemplateError> {
        match parameter {
            Parameter::Literal(value) => plain(value)?,
            Parameter::Name(text) => self.looks_at(text),
            Parameter::Path(path) => self.looks_at(raw(path)),
            Parameter::Subexpression(inner) if depth < MAX_TEMPLATE_DEPTH => {
                self.element(&inner.element, depth + 1)?;
            }
            Parameter::Subexpression(_) => return Err(TemplateError::TooDeep),
            other => return Err(unknown(other)),
        }
        Ok(())
    }

    fn looks_at(&mut self, path: &str) {
        let first = path.trim_start_matches("../").trim_start_matches("@root/");
        let first = first.split(['.', '/']).next().unwrap_or_default();
        let climbs = path.trim_start_matches("../").contains("..");
        if climbs || !self.settings.contains(&first) {
            self.uses = Use::Names;
        }
    }
}

fn raw(path: &Path) -> &str {
    match path {
        Path::Relative((_, raw)) | Path::Local((_, _, raw)) => raw,
    }
}

fn refused(what: &str, decorator: &DecoratorTemplate) -> TemplateError {
    let name = match &decorator.name {
        Parameter::Name(name) => name.as_str(),
        Parameter::Path(path) => raw(path),
        _ => "",
    };
    not_allowed(what, name)
}

fn not_allowed(what: &str, name: &str) -> TemplateError {
    TemplateError::NotAllowed(format!("the {what} {:?}", name.chars().take(64).collect::<String>()))
}

/// Texts a template holds can be written by escapes, past the check of its own characters.
fn plain(literal: &Json) -> Result<(), TemplateError> {
    match literal {
        Json::String(text) if text.chars().any(|c| c.is_control() && !"\n\t".contains(c)) => {
            Err(TemplateError::NotAllowed("a text with a control character".to_owned()))
        }
        Json::Array(all) => all.iter().try_for_each(plain),
        Json::Object(all) => all.values().try_for_each(plain),
        _ => Ok(()),
    }
}

/// For kinds of elements that a later handlebars may add.
fn unknown(element: &impl std::fmt::Debug) -> TemplateError {
    TemplateError::NotAllowed(format!("{element:?}").chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use crate::{Bounded, TemplateError};

    fn refusal(text: &str) -> String {
        match Bounded::new(text, &[]) {
            Err(error @ TemplateError::NotAllowed(_)) => error.to_string(),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_control_character_cannot_be_written_as_an_escape() {
        for text in [
            r#"{{#with "\u0001"}}{{this}}{{/with}}"#,
            r#"{{#each ["a", "\u0002"]}}{{this}}{{/each}}"#,
            r#"{{#if (eq name "\u001b")}}{{/if}}"#,
        ] {
            assert!(refusal(text).contains("a text with a control character"), "{text}");
        }
        let plain = Bounded::new(r#"{{#with "a\tb\n"}}{{this}}{{/with}}"#, &[]);
        assert!(plain.is_ok(), "line ends and tabs may stand in it");
    }

    #[test]
    fn a_name_is_shown_as_far_as_it_helps() {
        let helper = format!("{{{{{} x}}}}", "a".repeat(4_000));
        assert!(refusal(&helper).len() < 200);
    }
}
