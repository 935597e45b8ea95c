//! The names a certificate is for, by which NGINX chooses among a listener's certificates.

use lb_core::{CertificatePem, DomainName, Error, Result};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use webpki::EndEntityCert;

/// The DNS names (RFC 5280, 4.2.1.6) of the first certificate in a chain, those that can be host names.
pub(super) fn names(pem: &CertificatePem) -> Result<Vec<DomainName>> {
    let wrong = |why: String| Error::invalid("certificate", why);
    let leaf = CertificateDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|e| wrong(format!("must be PEM: {e}")))?;
    let leaf = EndEntityCert::try_from(&leaf)
        .map_err(|e| wrong(format!("must be an X.509 certificate of version 3: {e}")))?;
    Ok(leaf
        .valid_dns_names()
        .filter_map(|name| DomainName::new(name.to_ascii_lowercase()).ok())
        .collect())
}
