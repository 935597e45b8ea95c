//! A certificate for tables, and whether a text gives its key away.

use crate::model::CertificatePem;

/// Self-signed, for `shop.example.org`.
const PEM: &str = include_str!("certificate.pem");

/// A certificate that a balancer can use.
pub(super) fn certificate() -> CertificatePem {
    CertificatePem::new(PEM).unwrap()
}

/// Whether the text holds any of the certificate's key.
pub(super) fn shows_key(text: &str) -> bool {
    let key = PEM.split_once("-----END CERTIFICATE-----\n").map_or("", |(_, key)| key);
    key.lines().any(|line| text.contains(line))
}
