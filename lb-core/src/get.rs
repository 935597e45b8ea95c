//! The status that a `GET` is answered with: all that a check or a client's first question needs of HTTP.

use std::fmt::Display;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest status line read: `HTTP/1.1 200` and a reason.
const STATUS_LINE: usize = 512;

/// `GET` by HTTP/1.1; the status code, or for people why there is none. The rest of the answer is not read.
pub(crate) async fn status(
    stream: &mut TcpStream,
    host: impl Display,
    path: impl Display,
) -> Result<u16, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lb-probe\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    let failed = |e: std::io::Error| format!("GET {path}: {}", e.kind());
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut line = Vec::with_capacity(STATUS_LINE);
    let mut rest = stream.take(STATUS_LINE as u64);
    while !line.contains(&b'\n') {
        if rest.read_buf(&mut line).await.map_err(failed)? == 0 {
            break;
        }
    }
    status_of(&line).ok_or_else(|| format!("GET {path}: the answer must begin with HTTP/1"))
}

/// RFC 9112, 4: `HTTP/1.x SP 3DIGIT SP ...`.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [minor, b' ', a, b, c, end, ..] = rest else { return None };
    let digits = [minor, a, b, c].iter().all(|d| d.is_ascii_digit());
    let ends = matches!(end, b' ' | b'\r' | b'\n');
    let value = |d: &u8| u16::from(d - b'0');
    (digits && ends).then(|| value(a) * 100 + value(b) * 10 + value(c))
}

#[cfg(test)]
mod tests {
    use super::status_of;

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\r\n"), Some(503));
        for wrong in [
            &b"HTTP/1.1 2000 OK\r\n"[..],
            b"HTTP/1.1 20",
            b"HTTP/1.1  200 OK\r\n",
            b"HTTP/2 200 OK\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"",
        ] {
            assert_eq!(status_of(wrong), None, "{:?}", String::from_utf8_lossy(wrong));
        }
    }
}
