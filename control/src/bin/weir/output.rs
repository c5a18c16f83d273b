//! Answers as tables or as the proto's own JSON.

use std::{
    io::{self, Write as _},
    sync::OnceLock,
};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::ser::{Formatter, PrettyFormatter};
use tonic::Code;
use weir_control::fault::Fault;

use super::failure::Failure;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    Table,
    /// Proto3 JSON, for programs; streams print one object a line.
    Json,
}

/// Writes to standard output. A reader that has gone away ends the program quietly.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => Ok(outcome?),
    }
}

/// Shows one answer.
pub(crate) fn show<T: Message + Name>(
    format: Format,
    message: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => write(&table(message)),
        Format::Json => write(&json(message, PrettyFormatter::new())?),
    }
}

/// Shows one message of a stream.
pub(crate) fn show_next<T: Message + Name>(
    format: Format,
    message: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => write(&table(message)),
        Format::Json => write(&json(message, serde_json::ser::CompactFormatter)?),
    }
}

/// Rows under a header, in columns.
pub(crate) fn columns(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table.add_rows(rows);
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end()).collect();
    format!("{}\n", lines.join("\n"))
}

/// Labels and values, one pair a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    pairs.iter().map(|(label, value)| format!("{label:<width$}  {value}\n")).collect()
}

/// Nanoseconds in the unit that reads best.
pub(crate) fn span(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.1} s", nanos as f64 / 1e9),
    }
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn json<T: Message + Name>(message: &T, formatter: impl Formatter) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::from(Fault::new(Code::Internal, "JSON", error.to_string()))
    };
    let name = T::full_name();
    let descriptor = pool()
        .get_message_by_name(&name)
        .ok_or_else(|| failed(&format!("the descriptors lack {name}")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| failed(&error))?;
    // All keys, always: a script should not have to know which values are defaults.
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    dynamic.serialize_with_options(&mut serializer, &options).map_err(|error| failed(&error))?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| failed(&error))
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(weir_api::FILE_DESCRIPTOR_SET).expect("our own descriptors decode")
    })
}
