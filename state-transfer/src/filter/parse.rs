//! Filters as text: `src=10.0.0.0/8,proto=udp,dport=53,symmetric=false`.

use std::fmt;
use std::str::FromStr;

use super::{Endpoint, Filter, PortRange};
use crate::id::ServiceId;
use crate::prefix::{Prefix, PrefixError};
use crate::protocol;
use crate::quote::quoted;

/// Bytes of a filter as text at most.
pub const FILTER_MAX: usize = 8 << 10;

/// The fields of filters: those of flows, and behind them those that only packets have.
const ALL_FIELDS: [&str; 9] =
    ["src", "dst", "proto", "sport", "dport", "service", "symmetric", "tcp_flags", "in_port"];
const OF_FLOWS: usize = 7;
/// The fields of a filter of flows.
pub const FIELDS: &[&str] = ALL_FIELDS.split_at(OF_FLOWS).0;
/// The fields of a filter of packets.
pub const FIELDS_OF_PACKETS: &[&str] = &ALL_FIELDS;

impl FromStr for Filter {
    type Err = FilterError;

    /// Parses `field=value` pairs apart by commas, or `any`; blanks around words are allowed. It has
    /// [`FILTER_MAX`] bytes at most.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        bounded(text)?;
        if text.trim() == "any" {
            return Ok(filter);
        }
        let mut seen = Seen::default();
        for item in items(text, FIELDS) {
            seen.set(&mut filter, &item?, FIELDS)?;
        }
        filter.check()?;
        Ok(filter)
    }
}

/// Refuses a text that is longer than any filter needs to be.
pub(crate) fn bounded(text: &str) -> Result<(), FilterError> {
    let length = text.len();
    if length > FILTER_MAX { Err(FilterError::TooLong { length }) } else { Ok(()) }
}

/// One `field=value` of a text; positions are byte offsets into it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    pub(crate) position: usize,
    pub(crate) position_of_value: usize,
}

/// The fields of a text, apart by commas; a value in double quotes may have commas in it. Errors tell
/// of the fields that are `known`.
pub(crate) fn items<'a>(
    text: &'a str,
    known: &'static [&'static str],
) -> impl Iterator<Item = Result<Item<'a>, FilterError>> {
    let mut quoted = false;
    let pieces = text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    let mut start = 0;
    pieces.map(move |piece| {
        let position = start + (piece.len() - piece.trim_start().len());
        let begin = start;
        start += piece.len() + 1;
        let (name, value) = piece.split_once('=').ok_or_else(|| FilterError::NotAField {
            found: piece.trim().to_owned(),
            position,
            known,
        })?;
        let blanks = value.len() - value.trim_start().len();
        let position_of_value = begin + name.len() + 1 + blanks;
        Ok(Item { name: name.trim(), value: value.trim(), position, position_of_value })
    })
}

/// Which fields of a filter have been given.
#[derive(Debug, Default)]
pub(crate) struct Seen([bool; FIELDS.len()]);

impl Seen {
    /// Sets the field of a filter that an item names, which must not be set yet. Another is refused
    /// with those that are `known`.
    pub(crate) fn set(
        &mut self,
        filter: &mut Filter,
        item: &Item<'_>,
        known: &'static [&'static str],
    ) -> Result<(), FilterError> {
        let index = FIELDS
            .iter()
            .position(|field| *field == item.name)
            .ok_or_else(|| unknown_field(item.name, item.position, known))?;
        if std::mem::replace(&mut self.0[index], true) {
            return Err(FilterError::Repeated { field: FIELDS[index], position: item.position });
        }
        set_field(filter, FIELDS[index], (item.value, item.position_of_value))
    }
}

impl fmt::Display for Filter {
    /// What parses back to the same filter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("any");
        }
        let Endpoint { prefix: src, ports: sport } = self.src;
        let Endpoint { prefix: dst, ports: dport } = self.dst;
        let proto = self.protocol.map(|number| match protocol::name(number) {
            Some(name) => name.to_owned(),
            None => number.to_string(),
        });
        let fields = [
            ("src", src.map(|src| src.to_string())),
            ("dst", dst.map(|dst| dst.to_string())),
            ("proto", proto),
            ("sport", sport.map(|ports| ports.to_string())),
            ("dport", dport.map(|ports| ports.to_string())),
            ("service", self.service.map(|service| service.to_string())),
            ("symmetric", (!self.symmetric).then(|| "false".to_owned())),
        ];
        let mut separator = "";
        for (name, value) in fields {
            let Some(value) = value else { continue };
            write!(f, "{separator}{name}={value}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Why a filter is refused; positions are byte offsets into its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is too long.
    #[error("the filter has {length} bytes: {FILTER_MAX} are the most")]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// There is no `=` where a field should be.
    #[error(
        "expected field=value at position {position}, found {} (fields: {})",
        quoted(found),
        known.join(", ")
    )]
    NotAField {
        /// What stands there.
        found: String,
        /// Where it starts.
        position: usize,
        /// The fields that there are.
        known: &'static [&'static str],
    },
    /// No field has that name.
    #[error(
        "unknown field {} at position {position}{} (fields: {})",
        quoted(found),
        did_you_mean(*suggestion),
        known.join(", ")
    )]
    UnknownField {
        /// The name.
        found: String,
        /// Where it starts.
        position: usize,
        /// The field that looks like it.
        suggestion: Option<&'static str>,
        /// The fields that there are.
        known: &'static [&'static str],
    },
    /// A field is given twice.
    #[error("field {field} is given again at position {position}")]
    Repeated {
        /// The field.
        field: &'static str,
        /// Where it starts for the second time.
        position: usize,
    },
    /// The value of a field is not what the field takes.
    #[error(
        "{field}: expected {expected} at position {position}, found {}{}",
        quoted(found),
        did_you_mean(*suggestion)
    )]
    BadValue {
        /// The field.
        field: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// Where it starts.
        position: usize,
        /// The value that looks like it.
        suggestion: Option<&'static str>,
    },
    /// An address or prefix is malformed.
    #[error("{field}: bad prefix at position {position}: {source}")]
    BadPrefix {
        /// The field.
        field: &'static str,
        /// Where it starts.
        position: usize,
        /// What is wrong with it.
        source: PrefixError,
    },
    /// The ends are of different families.
    #[error("no flow goes from {src} to {dst}: src and dst are of different families")]
    MixedFamilies {
        /// The source prefix.
        src: Prefix,
        /// The destination prefix.
        dst: Prefix,
    },
    /// Ports are given for a protocol that has none.
    #[error(
        "protocol {} has no ports: leave out sport and dport",
        protocol::name(*protocol).map_or_else(|| protocol.to_string(), str::to_owned)
    )]
    NoPorts {
        /// The protocol.
        protocol: u8,
    },
}

fn unknown_field(found: &str, position: usize, known: &'static [&'static str]) -> FilterError {
    let suggestion = closest(found, known);
    FilterError::UnknownField { found: found.to_owned(), position, suggestion, known }
}

fn set_field(
    filter: &mut Filter,
    field: &'static str,
    (value, position): (&str, usize),
) -> Result<(), FilterError> {
    let bad = |expected, suggestion| FilterError::BadValue {
        field,
        expected,
        found: value.to_owned(),
        position,
        suggestion,
    };
    let prefix =
        || value.parse().map_err(|source| FilterError::BadPrefix { field, position, source });
    let ports = || ports(value).ok_or_else(|| bad("a port or a range first-last", None));
    match field {
        "src" => filter.src.prefix = Some(prefix()?),
        "dst" => filter.dst.prefix = Some(prefix()?),
        "sport" => filter.src.ports = Some(ports()?),
        "dport" => filter.dst.ports = Some(ports()?),
        "proto" => {
            let named = protocol::NAMES.iter().find(|(_, name)| *name == value);
            let number = named.map(|(number, _)| *number).or_else(|| number(value));
            let names = protocol::NAMES.map(|(_, name)| name);
            filter.protocol =
                Some(number.ok_or_else(|| {
                    bad("a protocol number (0-255) or name", closest(value, &names))
                })?);
        }
        "service" => {
            let id = number(value).ok_or_else(|| bad("a service number (0-65535)", None))?;
            filter.service = Some(ServiceId(id));
        }
        _ => {
            filter.symmetric = value
                .parse()
                .map_err(|_| bad("true or false", closest(value, &["true", "false"])))?;
        }
    }
    Ok(())
}

fn ports(text: &str) -> Option<PortRange> {
    match text.split_once('-') {
        None => number(text).map(PortRange::exactly),
        Some((first, last)) => PortRange::new(number(first)?..=number(last)?),
    }
}

/// A plain decimal number; `parse` alone would take a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn closest(found: &str, known: &[&'static str]) -> Option<&'static str> {
    let distance = |word: &str| strsim::damerau_levenshtein(&found.to_ascii_lowercase(), word);
    known
        .iter()
        .map(|word| (distance(word), *word))
        .filter(|(distance, word)| *distance <= word.len() / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |word| format!(": did you mean {word}?"))
}
