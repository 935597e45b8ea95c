//! Values that must not show in logs, plans or errors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::app::check_value;
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

/// A certificate chain and its private key as PEM (RFC 7468), checked in form: at least one
/// `CERTIFICATE`, exactly one `... PRIVATE KEY`, nothing else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Secret", into = "Secret")]
pub struct CertificatePem(Secret);

impl CertificatePem {
    /// Checks the form and takes the value in.
    pub fn new(pem: impl Into<String>) -> Result<Self> {
        let pem = pem.into();
        check_pem(&pem).map_err(|rule| Error::invalid("certificate", rule))?;
        Ok(Self(Secret(pem)))
    }

    /// The PEM text, key included.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for CertificatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificatePem(***)")
    }
}

impl TryFrom<Secret> for CertificatePem {
    type Error = Error;
    fn try_from(secret: Secret) -> Result<Self> {
        Self::new(secret.0)
    }
}

impl From<CertificatePem> for Secret {
    fn from(pem: CertificatePem) -> Self {
        pem.0
    }
}

fn check_pem(pem: &str) -> Result<(), String> {
    const MOST: usize = 64 * 1024;
    if pem.len() > MOST {
        return Err(format!("must be at most {MOST} bytes"));
    }
    let (mut certificates, mut keys, mut open, mut lines) = (0, 0, None::<&str>, 0);
    for (number, line) in pem.lines().enumerate() {
        let at = |what: &str| Err(format!("line {}: {what}", number + 1));
        match (open, line.strip_prefix("-----")) {
            (None, None) if line.is_empty() => {}
            (None, None) => return at("must be a -----BEGIN line"),
            (None, Some(rest)) => {
                match rest.strip_prefix("BEGIN ").and_then(|r| r.strip_suffix("-----")) {
                    Some("CERTIFICATE") => {
                        (certificates, open) = (certificates + 1, Some("CERTIFICATE"));
                    }
                    Some(label @ ("PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY")) => {
                        (keys, open) = (keys + 1, Some(label));
                    }
                    _ => return at("must begin a CERTIFICATE or an unencrypted PRIVATE KEY"),
                }
            }
            (Some(label), Some(rest)) => {
                match rest.strip_prefix("END ").and_then(|r| r.strip_suffix("-----")) {
                    Some(_) if lines == 0 => return at("must hold base64 before it ends"),
                    Some(end) if end == label => (open, lines) = (None, 0),
                    _ => return at("must end what was begun"),
                }
            }
            (Some(_), None) => {
                let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
                if line.is_empty() || line.len() > 128 || !line.bytes().all(base64) {
                    return at("must be base64 of at most 128 characters");
                }
                lines += 1;
            }
        }
    }
    match (open, certificates, keys) {
        (Some(label), ..) => Err(format!("{label} must be ended")),
        (_, 0, _) => Err("must hold at least one CERTIFICATE".into()),
        (_, _, 1) => Ok(()),
        (_, _, n) => Err(format!("must hold exactly one PRIVATE KEY, not {n}")),
    }
}
