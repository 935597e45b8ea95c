//! Certificates, and the one a listener shows.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
