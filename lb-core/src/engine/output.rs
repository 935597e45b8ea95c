//! The end of an output, whatever its length.

/// Takes an output in pieces and keeps its end, beginning with a whole line where one fits.
#[derive(Debug)]
pub struct Tail {
    kept: Vec<u8>,
    most: usize,
    cut: bool,
}

impl Tail {
    /// Keeps the last `most` bytes.
    pub const fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, cut: false }
    }

    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.kept.extend_from_slice(piece);
        // Twice the bound, so that cutting costs no more than reading.
        if self.kept.len() > self.most * 2 {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        if self.kept.len() > self.most {
            self.cut = true;
            self.kept.drain(..self.kept.len() - self.most);
        }
    }

    /// What was kept.
    pub fn finish(mut self) -> String {
        self.shorten();
        let begin = match self.kept.iter().position(|byte| *byte == b'\n') {
            Some(end) if self.cut && end + 1 < self.kept.len() => end + 1,
            _ => 0,
        };
        String::from_utf8_lossy(&self.kept[begin..]).into_owned()
    }

    /// The last `lines` lines of what was kept.
    pub fn finish_lines(self, lines: usize) -> String {
        let text = self.finish();
        let ends = text.trim_end_matches('\n').rmatch_indices('\n');
        match (lines, ends.map(|(at, _)| at + 1).nth(lines.saturating_sub(1))) {
            (0, _) => String::new(),
            (_, Some(begin)) => text[begin..].to_owned(),
            (_, None) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(pieces: &[&str], most: usize) -> Tail {
        let mut tail = Tail::new(most);
        for piece in pieces {
            tail.push(piece.as_bytes());
        }
        tail
    }

    #[test]
    fn the_end_is_kept_from_a_whole_line() {
        let end = |pieces: &[&str], most| tail(pieces, most).finish();
        assert_eq!(end(&["a\n", "b\n"], 100), "a\nb\n");
        assert_eq!(end(&["one\n", "two\n", "three\n"], 10), "three\n");
        assert_eq!(end(&["one\n", "two\n", "three\n"], 11), "two\nthree\n");
        assert_eq!(end(&["0123456789"], 4), "6789");
        assert_eq!(end(&["x\n"; 1000], 6), "x\nx\n");
        assert_eq!(end(&[], 4), "");
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        let lines = |text: &str, lines| tail(&[text], 100).finish_lines(lines);
        assert_eq!(lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(lines("a\nb\nc", 2), "b\nc");
        assert_eq!(lines("a\nb\n", 2), "a\nb\n");
        assert_eq!(lines("a\n", 5), "a\n");
        assert_eq!(lines("a\nb\n", 0), "");
        assert_eq!(lines("", 3), "");
    }
}
