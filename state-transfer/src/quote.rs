//! What was given, as errors quote it: escaped, and no longer than helps.

/// Bytes of what was given that are quoted at most, as they are escaped.
pub const QUOTED_MAX: usize = 200;

/// A text in double quotes, escaped; of a long one its beginning, and how long it is.
pub fn quoted(text: &str) -> String {
    let (shown, is_whole) = beginning(text);
    if is_whole { format!("\"{shown}\"") } else { format!("\"{shown}...\" ({} bytes)", text.len()) }
}

/// The same without quotes, for a name.
pub fn shortened(text: &str) -> String {
    let (shown, is_whole) = beginning(text);
    if is_whole { shown } else { format!("{shown}... ({} bytes)", text.len()) }
}

/// As much of a text as is shown, and whether that is all.
fn beginning(text: &str) -> (String, bool) {
    let mut shown = String::new();
    for c in text.chars() {
        let before = shown.len();
        match c {
            // It ends no quotation.
            '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
        if shown.len() > QUOTED_MAX {
            shown.truncate(before);
            return (shown, false);
        }
    }
    (shown, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_quoted_as_it_is() {
        for text in ["", "src=10.0.0.1", "it's \"this\"", "a\nb\u{1b}[2J", "\u{e4}"] {
            assert_eq!(quoted(text), format!("{text:?}"));
        }
        assert_eq!(shortened("a\nb"), "a\\nb");
    }

    #[test]
    fn of_what_is_long_the_beginning_is_quoted_whatever_it_is_made_of() {
        for piece in ["z", "\"", "\u{1}", "\u{e9}", "\u{202e}", "\u{1f600}"] {
            let text = piece.repeat(30_000);
            let said = quoted(&text);
            assert!(said.len() <= QUOTED_MAX + 30, "{} bytes", said.len());
            assert!(said.ends_with(&format!("...\" ({} bytes)", text.len())), "{said}");
            assert!(said.find("...").expect("a cut") > QUOTED_MAX - 10, "{said}");
            assert!(shortened(&text).len() < said.len());
        }
    }
}
