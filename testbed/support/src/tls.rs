//! Certificates, the one a listener shows, and a client that speaks TLS with its owner.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};

/// A self-signed certificate for `shop.example.org` and `*.shop.example.org`.
pub const SHOP: &str = include_str!("../data/shop.pem");
/// One for `a.test.example`.
pub const A: &str = include_str!("../data/a.pem");
/// Another for it, whose common name is `renewed.a.test.example`.
pub const A_RENEWED: &str = include_str!("../data/a-renewed.pem");
/// One for `b.test.example`.
pub const B: &str = include_str!("../data/b.pem");

/// The server's first answer to a TLS 1.2 hello, in which its certificate is readable (RFC 5246, 7.4).
pub async fn certificate_for(port: u16, name: &str) -> String {
    let extension = |kind: u16, body: &[u8]| {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    };
    let mut sni = ((name.len() + 3) as u16).to_be_bytes().to_vec();
    sni.push(0);
    sni.extend((name.len() as u16).to_be_bytes());
    sni.extend(name.as_bytes());
    let mut extensions = extension(0, &sni);
    extensions.extend(extension(10, &[0, 4, 0, 23, 0, 29]));
    extensions.extend(extension(11, &[1, 0]));
    extensions.extend(extension(13, &[0, 6, 4, 3, 5, 3, 4, 1]));
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2c, 1, 0]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    let work = async {
        // ServerHelloDone ends the server's flight.
        while !answer.ends_with(&[14, 0, 0, 0]) {
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes).await.unwrap() {
                0 => break,
                n => answer.extend_from_slice(&bytes[..n]),
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), work).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection to who owns the key of this certificate, and offers one of these protocols (ALPN).
pub async fn connect(port: u16, name: &str, pem: &str, offered: &[&str]) -> TlsStream<TcpStream> {
    let provider = Arc::new(ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let owner = Arc::new(Owner { certificate, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(owner)
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|p| p.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Of one certificate, which signs itself: nobody else vouches for it.
#[derive(Debug)]
struct Owner {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Owner {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *shown == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
