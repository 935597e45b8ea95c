//! A websocket that sends back every byte it gets, frames unread.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};

use crate::http::{Reply, text};

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Answers the handshake and leaves the connection to an echo.
pub(crate) fn upgrade(mut request: Request<Incoming>) -> Reply {
    let asked = |name, value: &str| {
        let header = request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        header.split(',').any(|token| token.trim().eq_ignore_ascii_case(value))
    };
    let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
    let Some(key) = key.filter(|_| asked(UPGRADE, "websocket") && asked(CONNECTION, "upgrade"))
    else {
        return text(StatusCode::BAD_REQUEST, "a websocket handshake is wanted here\n".into());
    };
    tokio::spawn(async move {
        if let Ok(connection) = hyper::upgrade::on(&mut request).await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
            // Either side may leave at any time; there is nobody to tell.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    let mut reply = Response::new(crate::http::empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(UPGRADE, hyper::header::HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, hyper::header::HeaderValue::from_static("upgrade"));
    if let Ok(accept) = accept(key.as_bytes()).parse() {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    reply
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_accept_value_is_the_one_of_the_standard() {
        // RFC 6455, section 1.3.
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
