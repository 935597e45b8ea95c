//! Certificates and their keys as PEM (RFC 7468), as people and tools write it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::secret::Secret;
use crate::error::{Error, Result};

/// Longest text that is read, and longest that is kept of it.
const MOST_READ: usize = 512 * 1024;
const MOST_KEPT: usize = 64 * 1024;
/// Longest line, and how a longer one is broken.
const LONGEST_LINE: usize = 128;
const LINE: usize = 64;

/// A certificate chain and its private key as PEM, checked in form: at least one `CERTIFICATE` and exactly one
/// unencrypted `PRIVATE KEY` (PKCS#8, `EC` or `RSA`). Of a longer text these blocks are kept and all else is
/// dropped, such as `EC PARAMETERS` and what tools write around the blocks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Secret", into = "Secret")]
pub struct CertificatePem(Secret);

impl CertificatePem {
    /// Checks the form and takes the blocks in.
    ///
    /// # Errors
    /// `Invalid` saying what is wrong in which line, and what would be right; nothing of the text is shown.
    pub fn new(pem: impl AsRef<str>) -> Result<Self> {
        let kept = blocks(pem.as_ref()).map_err(|rule| Error::invalid("certificate", rule))?;
        Ok(Self(Secret::new(kept)))
    }

    /// The blocks, key included.
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
        Self::new(secret.expose())
    }
}

impl From<CertificatePem> for Secret {
    fn from(pem: CertificatePem) -> Self {
        pem.0
    }
}

/// The certificates and the key of a text, in their order.
fn blocks(text: &str) -> Result<String, String> {
    if text.len() > MOST_READ {
        return Err(format!("must be at most {MOST_READ} bytes"));
    }
    if !text.contains("-----BEGIN ") {
        return Err("must be the PEM text itself, from -----BEGIN CERTIFICATE----- on, not the path of a file".into());
    }
    // As it stands in environment variables, where a line cannot end.
    let text = text.replace("\\n", "\n");
    let (mut kept, mut keys, mut certificates) = (String::new(), Vec::new(), 0);
    let mut reader = Reader { text: &text, at: 0 };
    while let Some(block) = reader.next()? {
        match kind(block.label) {
            Kind::Certificate => certificates += 1,
            Kind::Key if keys.contains(&block.body) => continue,
            Kind::Key => keys.push(block.body.clone()),
            Kind::Other => continue,
            Kind::Refused(rule) => return Err(format!("line {}: {rule}", block.line)),
        }
        block.write(&mut kept);
    }
    match (certificates, keys.len(), kept.len() > MOST_KEPT) {
        (.., true) => Err(format!("certificates and key must be at most {MOST_KEPT} bytes")),
        (0, ..) => Err("must hold at least one CERTIFICATE".into()),
        (_, 0, _) => Err("must hold the PRIVATE KEY as well, beside the certificates".into()),
        (_, 1, _) => Ok(kept),
        (_, n, _) => Err(format!("must hold exactly one PRIVATE KEY, not {n}")),
    }
}

enum Kind {
    Certificate,
    Key,
    /// Nothing a listener needs.
    Other,
    Refused(&'static str),
}

fn kind(label: &str) -> Kind {
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" => Kind::Certificate,
        "TRUSTED CERTIFICATE" => {
            Kind::Refused("must be a plain CERTIFICATE, as `openssl x509` writes it")
        }
        "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => Kind::Key,
        "ENCRYPTED PRIVATE KEY" => Kind::Refused(ENCRYPTED),
        other if other.ends_with("PRIVATE KEY") => Kind::Refused(
            "must be a PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, as `openssl pkey` writes it",
        ),
        _ => Kind::Other,
    }
}

const ENCRYPTED: &str =
    "the private key must not be encrypted: `openssl pkey` writes it without its passphrase";

struct Block<'a> {
    label: &'a str,
    /// Base64, in lines.
    body: Vec<&'a str>,
    line: usize,
}

impl Block<'_> {
    fn write(&self, into: &mut String) {
        let label = self.label.strip_prefix("X509 ").unwrap_or(self.label);
        into.extend(["-----BEGIN ", label, "-----\n"]);
        for line in &self.body {
            let width = if line.len() > LONGEST_LINE { LINE } else { LONGEST_LINE };
            for part in line.as_bytes().chunks(width) {
                into.extend(part.iter().copied().map(char::from));
                into.push('\n');
            }
        }
        into.extend(["-----END ", label, "-----\n"]);
    }
}

/// Goes through the blocks of a text; what stands between them does not matter.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<Block<'a>>, String> {
        let Some((line, label)) = self.marker("-----BEGIN ")? else { return Ok(None) };
        let begin = self.at;
        let rest = &self.text[begin..];
        let Some(length) = rest.find("-----") else {
            return Err(format!("line {line}: {label} must be ended"));
        };
        let end =
            rest[length..].strip_prefix("-----END ").and_then(|rest| rest.strip_prefix(label));
        if !end.is_some_and(|rest| rest.starts_with("-----")) {
            return Err(format!(
                "line {}: {label} must be ended by -----END {label}-----",
                self.line(begin + length)
            ));
        }
        let body: Vec<&str> = rest[..length].split_whitespace().collect();
        self.at = begin + length + "-----END ".len() + label.len() + "-----".len();
        let (is_key, of_base64) =
            (label.ends_with("PRIVATE KEY"), body.iter().all(|line| is_base64(line)));
        match (body.is_empty(), of_base64) {
            (true, _) => Err(format!("line {line}: {label} must hold base64")),
            (false, true) => Ok(Some(Block { label, body, line })),
            (false, false) if is_key && rest[..length].contains("ENCRYPTED") => {
                Err(format!("line {line}: {ENCRYPTED}"))
            }
            (false, false) if matches!(kind(label), Kind::Other) => {
                Ok(Some(Block { label, body, line }))
            }
            (false, false) => Err(format!("line {line}: {label} must hold nothing but base64")),
        }
    }

    /// The line and label of the next `-----BEGIN LABEL-----`, with the reader behind it.
    fn marker(&mut self, start: &str) -> Result<Option<(usize, &'a str)>, String> {
        let text = self.text;
        let between = &text[self.at..];
        let Some(offset) = between.find(start) else { return Ok(None) };
        if let Some(stray) = between[..offset].find("-----END ") {
            return Err(format!(
                "line {}: a block must be begun before it ends",
                self.line(self.at + stray)
            ));
        }
        let (line, begin) = (self.line(self.at + offset), self.at + offset + start.len());
        let rest = &text[begin..];
        let length = rest.find("-----").filter(|n| rest[..*n].bytes().all(is_of_label));
        let Some(length) = length else {
            return Err(format!("line {line}: must be -----BEGIN, a label and -----"));
        };
        self.at = begin + length + "-----".len();
        Ok(Some((line, &rest[..length])))
    }

    fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
}

fn is_base64(line: &str) -> bool {
    let text = line.trim_end_matches('=');
    line.len() - text.len() <= 2
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}
