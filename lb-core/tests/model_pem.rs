//! Certificate files as people and tools write them.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(clippy::too_many_lines, reason = "lists of cases")]

use lb_core::CertificatePem;
use lb_core::conformance::strategies::certificate;
use proptest::prelude::*;

const CERT: &str = "-----BEGIN CERTIFICATE-----\nAAAA\nBB==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

fn read(pem: impl AsRef<str>) -> String {
    CertificatePem::new(&pem)
        .unwrap_or_else(|e| panic!("{e}: {}", pem.as_ref()))
        .expose()
        .to_owned()
}

#[test]
fn what_is_plain_is_kept_as_it_is() {
    for pem in [format!("{CERT}{KEY}"), format!("{KEY}{CERT}{CERT}"), format!("{CERT}{CERT}{KEY}")]
    {
        assert_eq!(read(&pem), pem);
    }
    for label in ["EC PRIVATE KEY", "RSA PRIVATE KEY"] {
        let pem = format!("{CERT}{}", KEY.replace("PRIVATE KEY", label));
        assert_eq!(read(&pem), pem);
    }
}

#[test]
fn what_stands_around_the_blocks_and_what_is_not_needed_is_dropped() {
    let plain = format!("{CERT}{KEY}");
    let block =
        |label: &str| format!("-----BEGIN {label}-----\nBggqhkjOPQMBBw==\n-----END {label}-----\n");
    let around = [
        format!("{CERT}{}{KEY}", block("EC PARAMETERS")),
        format!("{}{plain}", block("DH PARAMETERS")),
        format!("{plain}{}{}", block("CERTIFICATE REQUEST"), block("X509 CRL")),
        format!("{plain}{}", block("PUBLIC KEY")),
        format!(
            "subject=CN = shop.example.org\nissuer=CN = R3\n{CERT}\nBag Attributes\n    friendlyName: shop\nKey Attributes: <No Attributes>\n{KEY}\n"
        ),
        format!("\u{feff}{plain}"),
        format!("# the shop's\n\n\n{plain}\n\n"),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', "  \t\n"),
        plain.replace('\n', "\n    "),
        plain.replace("-----END", "\n-----END"),
        plain.replace('\n', " "),
        plain.replace('\n', "\\n"),
        plain.trim_end().to_owned(),
        plain.replace("CERTIFICATE", "X509 CERTIFICATE"),
        format!("{plain}{KEY}"),
    ];
    for pem in around {
        assert_eq!(read(&pem), plain, "{pem:?}");
    }
}

#[test]
fn a_body_in_one_long_line_is_broken() {
    let long = "A".repeat(1000);
    let kept = read(format!("{}{KEY}", CERT.replace("AAAA", &long)));
    assert!(kept.lines().all(|line| line.len() <= 64));
    let text: String = kept.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(text, format!("{long}BB==AAAA"));
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00FF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let bad = [
        (String::new(), "must be the PEM text itself"),
        ("/etc/ssl/cert.pem".to_owned(), "not the path of a file"),
        (KEY.to_owned(), "must hold at least one CERTIFICATE"),
        (CERT.to_owned(), "must hold the PRIVATE KEY as well"),
        (
            format!("{CERT}{KEY}{}", KEY.replace("AAAA", "BBBB")),
            "must hold exactly one PRIVATE KEY, not 2",
        ),
        (
            format!("{CERT}{}", KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")),
            "line 5: the private key must not be encrypted",
        ),
        (format!("{CERT}{encrypted}"), "line 5: the private key must not be encrypted"),
        (
            format!("{CERT}{}", KEY.replace("PRIVATE", "OPENSSH PRIVATE")),
            "line 5: must be a PRIVATE KEY",
        ),
        (
            format!("{CERT}{}", KEY.replace("PRIVATE", "DSA PRIVATE")),
            "line 5: must be a PRIVATE KEY",
        ),
        (
            format!("{}{KEY}", CERT.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            "line 1: must be a plain CERTIFICATE",
        ),
        (
            format!("{}{KEY}", CERT.replace("BB==", "B?B")),
            "line 1: CERTIFICATE must hold nothing but base64",
        ),
        (
            format!("{}{KEY}", CERT.replace("AAAA\nBB==", "")),
            "line 1: CERTIFICATE must hold base64",
        ),
        (
            format!("{}{KEY}", CERT.replace("-----END CERTIFICATE-----", "")),
            "line 5: CERTIFICATE must be ended by -----END CERTIFICATE-----",
        ),
        (CERT.replace("-----END CERTIFICATE-----\n", ""), "line 1: CERTIFICATE must be ended"),
        (
            format!("BB==\n-----END CERTIFICATE-----\n{CERT}{KEY}"),
            "line 2: a block must be begun before it ends",
        ),
        (format!("{CERT}-----BEGIN \n{KEY}"), "line 5: must be -----BEGIN, a label and -----"),
        ("A".repeat(600_000), "must be at most 524288 bytes"),
        (format!("{}{KEY}", CERT.repeat(2000)), "certificates and key must be at most 65536 bytes"),
    ];
    for (pem, rule) in bad {
        let error = CertificatePem::new(&pem).unwrap_err().to_string();
        assert!(error.starts_with("certificate: ") && error.contains(rule), "{error} / {rule}");
    }
}

proptest! {
    #[test]
    fn what_was_kept_is_kept_again(pem in certificate(), text in "[ -~\n]{0,40}") {
        let around = format!("{}\n{}", text.replace('-', " "), pem.expose());
        prop_assert_eq!(CertificatePem::new(pem.expose()).unwrap(), pem.clone());
        prop_assert_eq!(CertificatePem::new(around).unwrap(), pem);
    }

    #[test]
    fn no_text_is_a_panic(text in "(-----(BEGIN|END) ?[A-Z ]{0,12}-----|[A-Z=]{1,8}|\\PC|\n| ){0,12}") {
        if let Ok(pem) = CertificatePem::new(&text) {
            prop_assert!(pem.expose().is_ascii());
        }
    }
}
