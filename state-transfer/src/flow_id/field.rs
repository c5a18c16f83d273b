//! Fields of flow ids and filters that only some network functions know.

use std::fmt;

/// Such fields of one id or filter at most.
pub const EXTRAS_MAX: usize = 4;
/// Bytes of a name at most.
pub const NAME_MAX: usize = 32;
/// Bytes of a value at most.
pub const VALUE_MAX: usize = 1024;

/// A named field that only some network functions know, such as `http.host`.
///
/// Its name has at least two words with a dot in between, so that it can not be taken for a field
/// that every network function knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extra {
    name: String,
    value: String,
}

/// Why a field is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtraError {
    /// The name is not two or more words with dots in between.
    #[error(
        "{name:?} does not name a field: expected words of a-z, 0-9 and _ with dots in between, \
         such as http.host, of {NAME_MAX} bytes at most"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The value is too long, or has a character that can not be shown.
    #[error(
        "the value of {name} has {length} bytes: expected {VALUE_MAX} at most, without control \
         characters and double quotes"
    )]
    BadValue {
        /// The field.
        name: String,
        /// Bytes of the value.
        length: usize,
    },
    /// There are too many fields.
    #[error("{name} is one field too many: at most {EXTRAS_MAX} of this kind")]
    TooMany {
        /// The field.
        name: String,
    },
    /// There is a field of that name.
    #[error("{name} is given twice")]
    Repeated {
        /// The field.
        name: String,
    },
}

impl Extra {
    /// The field.
    ///
    /// # Errors
    /// When its name or its value is malformed.
    pub fn new(name: &str, value: &str) -> Result<Self, ExtraError> {
        if !Self::is_name(name) {
            return Err(ExtraError::BadName { name: name.chars().take(NAME_MAX).collect() });
        }
        let is_shown = |c: char| !c.is_control() && c != '"';
        if value.len() > VALUE_MAX || !value.chars().all(is_shown) {
            return Err(ExtraError::BadValue { name: name.to_owned(), length: value.len() });
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Its value, in double quotes where a filter needs them.
    pub(crate) fn value_text(&self) -> String {
        let plain = !self.value.contains(',') && self.value.trim() == self.value;
        if plain { self.value.clone() } else { format!("\"{}\"", self.value) }
    }

    /// Whether a text can name such a field.
    pub(crate) fn is_name(text: &str) -> bool {
        let is_word = |word: &str| {
            let letter = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            !word.is_empty() && word.bytes().all(letter)
        };
        text.len() <= NAME_MAX && text.contains('.') && text.split('.').all(is_word)
    }

    /// Adds a field to others, in the order of their names.
    pub(crate) fn add_to(extras: &mut Vec<Self>, extra: Self) -> Result<(), ExtraError> {
        match extras.binary_search_by(|other| other.name.cmp(&extra.name)) {
            Ok(_) => Err(ExtraError::Repeated { name: extra.name }),
            Err(_) if extras.len() == EXTRAS_MAX => Err(ExtraError::TooMany { name: extra.name }),
            Err(place) => {
                extras.insert(place, extra);
                Ok(())
            }
        }
    }

    /// Whether the fields that both have are the same.
    pub(crate) fn agree(one: &[Self], two: &[Self]) -> bool {
        one.iter().all(|own| {
            let other = two.iter().find(|other| other.name == own.name);
            other.is_none_or(|other| other.value == own.value)
        })
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value_text())
    }
}
