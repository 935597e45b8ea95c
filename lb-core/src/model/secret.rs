//! Values that must not show in logs, plans or errors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::check::check_value;
use crate::error::{Error, Result};

/// A value that prints as `***`. Serde carries the value: it crosses the wire and rests in stores,
/// which their owners protect.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the value in.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Gives the value out, for the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Login at an image registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryAuth {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: Secret,
}

impl RegistryAuth {
    pub(super) fn check(&self) -> Result<()> {
        let user = &self.username;
        if !(1..=255).contains(&user.len()) || user.contains(char::is_control) {
            let rule = "must be 1 to 255 bytes without control characters";
            return Err(Error::invalid("username", rule));
        }
        check_value("password", self.password.expose())
    }
}
