//! Filters and buckets of requests: what they may have in them, and how what is wrong is refused.

use std::ops::Range;

use weir_state_transfer::{
    BUCKETS, BucketSet, Filter, StateFilter,
    filter::{FIELDS, FIELDS_OF_PACKETS},
    flow_id::Extra,
    state_filter::StateFilterError,
};

use crate::fault::Fault;

/// What a filter picks, and so which fields it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picks {
    /// Flows that are listed.
    Flows,
    /// State, which has no fields of packets.
    State,
    /// Packets, which have no fields of network functions.
    Packets,
}

impl Picks {
    /// The fields in a sentence: for help, and for what to do about a filter that is wrong.
    pub fn fields(self) -> String {
        let of_flows = FIELDS.join(", ");
        match self {
            Self::Flows => format!("Fields: {of_flows}"),
            Self::State => {
                format!("Fields: {of_flows}, and those with a dot that weir nf processes lists")
            }
            Self::Packets => format!("Fields: {}", FIELDS_OF_PACKETS.join(", ")),
        }
    }

    /// What help says of an option that takes such a filter.
    pub fn help(self, what: &str) -> String {
        format!("{what}. {}", self.fields())
    }
}

/// The flows that a request names. What is none is told here: the data plane needs not be asked.
pub(crate) fn flows(text: &str) -> Result<Filter, Fault> {
    text.parse().map_err(|error| wrong(format!("{error}"), Picks::Flows))
}

/// The filter of a text that picks state: no state is compared with what only packets have, so that
/// such a field would pick more than it names.
pub(crate) fn state(text: &str) -> Result<StateFilter, Fault> {
    let filter = parsed(text, Picks::State)?;
    let flags = filter.tcp_flags.map(|_| "tcp_flags");
    let Some(field) = flags.or(filter.in_port.map(|_| "in_port")) else { return Ok(filter) };
    let message = format!("{field} is of packets: state has none, and all of it would be picked");
    let fault = wrong(message, Picks::State);
    Err(fault.fix(format!("leave {field} out; weir notify tells of the packets that have it")))
}

/// The filter of a text that picks packets: none is compared with what only network functions know,
/// so that such a field would pick more than it names.
pub(crate) fn packets(text: &str) -> Result<StateFilter, Fault> {
    let filter = parsed(text, Picks::Packets)?;
    let Some(field) = filter.extras().first().map(Extra::name) else { return Ok(filter) };
    let message = format!("{field} is of state: packets have none, and all would be told of");
    let fault = wrong(message, Picks::Packets);
    Err(fault.fix(format!("leave {field} out, and name addresses, ports or tcp_flags")))
}

/// Where a filter has something else than a number in the place of a port's, such as its name.
pub(crate) fn port_name(text: &str) -> Option<Range<usize>> {
    match text.parse::<StateFilter>() {
        Err(StateFilterError::BadValue { field: "in_port", found, position, .. }) => {
            Some(position..position + found.len())
        }
        _ => None,
    }
}

/// The filter of a text, whatever fields it has.
pub(crate) fn parsed(text: &str, picks: Picks) -> Result<StateFilter, Fault> {
    if text.is_empty() {
        let what = match picks {
            Picks::Flows => "flows",
            Picks::State => "state",
            Picks::Packets => "packets",
        };
        let fault = wrong("there is no filter".to_owned(), picks);
        let fix = format!("name {what}, or \"any\" for all. {}", fault.fix);
        return Err(fault.fix(fix));
    }
    text.parse().map_err(|error| wrong(format!("{error}"), picks))
}

/// The steering buckets of a text.
pub(crate) fn buckets(text: &str) -> Result<BucketSet, Fault> {
    text.parse().map_err(|error| {
        let fault = Fault::invalid("BUCKETS", format!("{error}")).object("buckets");
        fault.fix(format!("name some of 0-{}, as in 0-1023,2048", BUCKETS - 1))
    })
}

fn wrong(message: String, picks: Picks) -> Fault {
    Fault::invalid("FILTER", message).object("filter").fix(picks.fields())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_no_number_is_found_where_it_stands() {
        for (text, name) in [
            ("in_port=sap1", Some("sap1")),
            ("proto=tcp, in_port = sap1 ,dport=80", Some("sap1")),
            ("in_port=256", Some("256")),
            ("in_port=", Some("")),
            ("in_port=2", None),
            ("dport=80", None),
            ("dport=x,in_port=sap1", None),
        ] {
            let found = port_name(text).map(|place| &text[place]);
            assert_eq!(found, name, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_fields_that_there_are() {
        let state = state("tcpp=1").unwrap_err();
        assert!(
            state.fix.contains("dport") && state.fix.contains("weir nf processes"),
            "{state:?}"
        );
        assert!(!state.fix.contains("in_port"), "{state:?}");
        let packets = packets("tcp_flag=syn").unwrap_err();
        assert!(packets.fix.contains("tcp_flags, in_port"), "{packets:?}");
        assert!(packets.message.contains("did you mean tcp_flags?"), "{packets:?}");
        let flows = flows("src=10.0.0.1/33").unwrap_err();
        assert!(flows.fix.ends_with("service, symmetric"), "{flows:?}");
        let none = super::packets("").unwrap_err();
        assert!(none.fix.starts_with("name packets, or \"any\" for all. Fields: src"), "{none:?}");
    }
}
