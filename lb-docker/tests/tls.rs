//! TLS over TCP, both sides proving who they are, with the fake engine behind it. The certificates in
//! `tests/tls/` are made for these tests: an authority, a server for localhost, a client, and strangers.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod fake;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_core::{ClusterId, ContainerRuntime, ErrorKind};
use lb_docker::{DockerRuntime, Endpoint};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use fake::{Engine, Reply, version};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// A directory as Docker lays it out.
fn certificates(ca: &str, own: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in
        [(ca, "ca.pem"), (&format!("{own}.pem"), "cert.pem"), (&format!("{own}.key"), "key.pem")]
    {
        std::fs::copy(file(from), folder.path().join(to)).unwrap();
    }
    folder
}

fn server() -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap();
    let own = vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    TlsAcceptor::from(Arc::new(
        config.with_client_cert_verifier(clients).with_single_cert(own, key).unwrap(),
    ))
}

/// An engine on a port of loopback.
async fn listening(tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let engine = Engine::new(|asked, _| match asked.call().as_str() {
        "GET /version" => version(),
        _ => Reply::Json(200, json!([])),
    });
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (engine, tls) = (engine.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            engine.serve(stream).await;
                        }
                    }
                    None => engine.serve(stream).await,
                }
            });
        }
    });
    port
}

fn runtime(host: &str, port: u16, certificates: &Path) -> lb_core::Result<DockerRuntime> {
    let endpoint = Endpoint::Tls { host: host.into(), port, certificates: certificates.into() };
    DockerRuntime::builder(ClusterId::new("shop").unwrap()).endpoint(endpoint).build()
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let port = listening(Some(server())).await;
    let folder = certificates("ca.pem", "client");
    for host in ["localhost", "127.0.0.1"] {
        let runtime = runtime(host, port, folder.path()).unwrap();
        assert!(runtime.list().await.unwrap().is_empty());
        assert!(runtime.list().await.unwrap().is_empty(), "again");
    }
}

#[tokio::test]
async fn plain_tcp() {
    let port = listening(None).await;
    let endpoint = format!("tcp://127.0.0.1:{port}").parse().unwrap();
    let runtime =
        DockerRuntime::builder(ClusterId::new("shop").unwrap()).endpoint(endpoint).build().unwrap();
    assert!(runtime.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_is_not_believed_is_told_so() {
    let (tls, plain) = (listening(Some(server())).await, listening(None).await);
    let stranger = certificates("ca.pem", "stranger");
    let other_authority = certificates("other.pem", "client");
    let good = certificates("ca.pem", "client");
    let cases = [
        ("localhost", tls, &other_authority, "UnknownIssuer"),
        ("localhost", tls, &stranger, "received fatal alert"),
        ("127.0.0.2", plain, &good, "refused"),
        ("127.0.0.1", plain, &good, "TLS with the engine failed"),
    ];
    for (host, port, folder, word) in cases {
        let error = runtime(host, port, folder.path()).unwrap().list().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(word), "{word:?} in {error}");
        assert_eq!(error.subject(), format!("engine tcp://{host}:{port}"));
    }
}

#[tokio::test]
async fn files_that_are_missing_or_wrong_are_named() {
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let folder = certificates("ca.pem", "client");
        std::fs::write(folder.path().join(name), "not PEM").unwrap();
        let error = runtime("localhost", 1, folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.subject().contains(name), "{error}");
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let error = runtime("localhost", 1, folder.path()).unwrap_err();
        assert!(
            error.subject().contains(name) && error.message().contains("No such file"),
            "{error}"
        );
    }
}
