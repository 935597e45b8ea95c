//! Backends that are alike but in name share one rendering, in which marks stand for what differs.

/// Stands for the backend's name. No template and no value can hold a mark: they are control characters.
pub const NAME_MARK: &str = "\u{1}";
/// Stands for the app's name.
pub const APP_MARK: &str = "\u{2}";
/// Stands where the servers go.
pub const SERVERS_MARK: &str = "\u{3}";

/// A text cut at the marks of names.
#[derive(Debug)]
pub struct MarkedText(Vec<Piece>);

/// A stretch of it.
#[derive(Debug)]
enum Piece {
    Text(String),
    Name,
    App,
}

impl MarkedText {
    /// Cuts a text.
    pub fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(is_mark) {
            pieces.push(Piece::Text(rest[..at].to_owned()));
            pieces.push(if rest[at..].starts_with(NAME_MARK) { Piece::Name } else { Piece::App });
            rest = &rest[at + NAME_MARK.len()..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    /// The text with names in the marks' places.
    pub fn with(&self, name: &str, app: &str) -> String {
        let parts = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Name => name,
            Piece::App => app,
        });
        parts.collect::<Vec<_>>().concat()
    }
}

fn is_mark(c: char) -> bool {
    [NAME_MARK, APP_MARK].iter().any(|mark| mark.starts_with(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_the_marks_stood() {
        let text = MarkedText::new("a \u{1}\u{1} b \u{2} c \u{3}");
        assert_eq!(text.with("x", "y"), "a xx b y c \u{3}");
        assert_eq!(MarkedText::new("").with("x", "y"), "");
    }
}
