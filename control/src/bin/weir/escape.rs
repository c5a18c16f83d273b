//! What others say, so that nothing in it controls a terminal.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// The text with all that would control a terminal escaped. Lines stay lines.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |c, out| match c {
        '\n' => out.push(c),
        c => out.extend(c.escape_unicode()),
    })
}

/// The same on one line.
pub(crate) fn line(text: &str) -> String {
    escaped(text, |c, out| match c {
        '\n' => out.push_str("\\n"),
        c => out.extend(c.escape_unicode()),
    })
}

/// JSON that means the same: what is not escaped there yet is in strings only.
pub(crate) fn json(text: &str) -> String {
    escaped(text, |c, out| match c {
        c if c.is_ascii_control() && c != '\u{7f}' => out.push(c),
        // Writing to a string does not fail.
        c => drop(write!(out, "\\u{:04x}", u32::from(c))),
    })
}

/// Writes to standard error, for people.
pub(crate) fn tell(text: &str) {
    say(&lines(text));
}

/// The same for programs: one line of JSON.
pub(crate) fn tell_json(value: &serde_json::Value) {
    say(&json(&value.to_string()));
}

/// When it can not be written, there is nobody to tell that: the exit code is as it would be.
fn say(text: &str) {
    let _written = writeln!(io::stderr(), "{text}");
}

fn escaped(text: &str, mut escape: impl FnMut(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if controls(c) { escape(c, &mut out) } else { out.push(c) }
    }
    out
}

/// Controls of terminals, and of the direction of text (UAX #9), which would show it as another.
fn controls(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\r\nb\u{9b}31m\u{7f}\u{202e}\tü";

    #[test]
    fn nothing_that_is_shown_controls_a_terminal() {
        let shown = lines(HOSTILE);
        assert_eq!(shown, "a\\u{1b}[2J\\u{d}\nb\\u{9b}31m\\u{7f}\\u{202e}\\u{9}ü");
        assert!(!line(HOSTILE).contains('\n'));
    }

    #[test]
    fn json_means_the_same() {
        let text = serde_json::json!({ "reason": HOSTILE }).to_string();
        let shown = json(&text);
        assert!(shown.chars().all(|c| !controls(c)), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["reason"], HOSTILE);
        assert_eq!(json("{\n}"), "{\n}");
    }
}
