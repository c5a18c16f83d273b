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

use super::{escape, failure::Failure};

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    Table,
    /// Proto3 JSON, for programs: one document, or one object a line of what is watched.
    Json,
}

/// Writes what people read to standard output: see [`write()`].
pub(crate) fn write_lines(text: &str) -> Result<(), Failure> {
    write(&escape::lines(text))
}

/// Writes to standard output. A reader that has gone away ends the program quietly.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            let message = format!("cannot write the answer: {error}");
            let fault = Fault::new(Code::Internal, "OUTPUT", message).object("standard output");
            Err(fault.fix("see that where it leads to has room and can be written").into())
        }
        Ok(()) => Ok(()),
    }
}

/// Shows one answer.
pub(crate) fn show<T: Message + Name>(
    format: Format,
    message: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => write_lines(&table(message)),
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
        Format::Table => write_lines(&table(message)),
        Format::Json => write(&json(message, serde_json::ser::CompactFormatter)?),
    }
}

/// A listing that comes in parts, shown as they come: rows under a header, or one JSON document
/// with all elements in one list, as the message of a part has it.
pub(crate) struct Listing {
    format: Format,
    /// The name of the list in the messages.
    field: &'static str,
    /// Elements so far.
    count: usize,
}

impl Listing {
    /// Begins with the header of the table.
    pub(crate) fn begin(
        format: Format,
        field: &'static str,
        header: &str,
    ) -> Result<Self, Failure> {
        match format {
            Format::Table => write(header)?,
            Format::Json => write(&format!("{{\"{field}\":["))?,
        }
        Ok(Self { format, field, count: 0 })
    }

    /// Shows a part.
    pub(crate) fn part<T: Message + Name>(
        &mut self,
        part: &T,
        rows: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.format == Format::Table {
            return write_lines(&rows(part));
        }
        let text = json(part, serde_json::ser::CompactFormatter)?;
        let part: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| no_json(&error))?;
        for element in part[self.field].as_array().into_iter().flatten() {
            let comma = if self.count == 0 { "" } else { "," };
            write(&format!("{comma}\n{}", escape::json(&element.to_string())))?;
            self.count += 1;
        }
        Ok(())
    }

    /// Ends the document.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.format {
            Format::Table => Ok(()),
            Format::Json => write("\n]}\n"),
        }
    }
}

/// Rows under a header, in columns.
pub(crate) fn columns(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    // A value of several lines would be shown as several rows.
    let shown = |row: Vec<String>| row.iter().map(|value| escape::line(value)).collect::<Vec<_>>();
    table.add_rows(rows.into_iter().map(shown));
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end()).collect();
    format!("{}\n", lines.join("\n"))
}

/// Labels and values, one pair a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let pair =
        |(label, value): &(&str, String)| format!("{label:<width$}  {}\n", escape::line(value));
    pairs.iter().map(pair).collect()
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
    let name = T::full_name();
    let descriptor = pool()
        .get_message_by_name(&name)
        .ok_or_else(|| no_json(&format!("the descriptors lack {name}")))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| no_json(&error))?;
    // All keys, always: a script should not have to know which values are defaults.
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    dynamic.serialize_with_options(&mut serializer, &options).map_err(|error| no_json(&error))?;
    text.push(b'\n');
    let text = String::from_utf8(text).map_err(|error| no_json(&error))?;
    Ok(escape::json(&text))
}

fn no_json(error: &dyn std::fmt::Display) -> Failure {
    Fault::new(Code::Internal, "JSON", error.to_string()).into()
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(weir_api::FILE_DESCRIPTOR_SET).expect("our own descriptors decode")
    })
}
