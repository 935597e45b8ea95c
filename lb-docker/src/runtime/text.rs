//! The end of an output, whatever its length.

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures_util::{Stream, StreamExt};

/// Reads the output to its end and keeps the last `most` bytes, beginning with a whole line where one fits.
pub(super) async fn end_of(
    output: impl Stream<Item = Result<LogOutput, Error>>,
    most: usize,
) -> Result<String, Error> {
    let mut output = std::pin::pin!(output);
    let (mut kept, mut cut) = (Vec::new(), false);
    while let Some(piece) = output.next().await {
        kept.extend_from_slice(piece?.as_ref());
        // Twice the bound, so that cutting costs no more than reading.
        if kept.len() > most * 2 {
            cut = true;
            kept.drain(..kept.len() - most);
        }
    }
    if kept.len() > most {
        cut = true;
        kept.drain(..kept.len() - most);
    }
    let begin = match kept.iter().position(|byte| *byte == b'\n') {
        Some(end) if cut && end + 1 < kept.len() => end + 1,
        _ => 0,
    };
    Ok(String::from_utf8_lossy(&kept[begin..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    async fn end(pieces: &[&str], most: usize) -> String {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|p| Ok(LogOutput::StdOut { message: (*p).to_owned().into() }))
            .collect();
        end_of(stream::iter(pieces), most).await.unwrap()
    }

    #[tokio::test]
    async fn the_end_is_kept_from_a_whole_line() {
        assert_eq!(end(&["a\n", "b\n"], 100).await, "a\nb\n");
        assert_eq!(end(&["one\n", "two\n", "three\n"], 10).await, "three\n");
        assert_eq!(end(&["one\n", "two\n", "three\n"], 11).await, "two\nthree\n");
        assert_eq!(end(&["0123456789"], 4).await, "6789");
        assert_eq!(end(&["x\n"; 1000], 6).await, "x\nx\n");
        assert_eq!(end(&[], 4).await, "");
    }
}
