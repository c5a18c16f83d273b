//! Filters over state and events: a filter over flows, and what only packets or state have.

use std::fmt;
use std::str::FromStr;

use crate::filter::{FIELDS_OF_PACKETS, Filter, FilterError, Item, Seen, bounded, items};
use crate::flow_id::{Extent, Extra, ExtraError, FlowId};
use crate::flow_key::FlowKey;
use crate::id::PortId;
use crate::quote::quoted;

/// Which state, or which packets, an operation is about; fields that are absent match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateFilter {
    /// What the flows have to look like.
    pub flows: Filter,
    /// The TCP flags of a packet. State has none.
    pub tcp_flags: Option<TcpFlags>,
    /// The port that a packet came in by. State has none.
    pub in_port: Option<PortId>,
    /// Fields that only some network functions know.
    extras: Vec<Extra>,
}

/// TCP flags that must be set and flags that must not be (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    value: u8,
    mask: u8,
}

/// What a filter compares of a packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketFields<'a> {
    /// Its flow.
    pub key: &'a FlowKey,
    /// Its TCP flags, if it has any.
    pub tcp_flags: Option<u8>,
    /// The port it came in by.
    pub in_port: PortId,
}

impl StateFilter {
    /// The same filter with another field that only some network functions know.
    ///
    /// # Errors
    /// When there are too many of them, or one of that name.
    pub fn with(mut self, extra: Extra) -> Result<Self, ExtraError> {
        Extra::add_to(&mut self.extras, extra)?;
        Ok(self)
    }

    /// The fields that only some network functions know, in the order of their names.
    pub fn extras(&self) -> &[Extra] {
        &self.extras
    }

    /// Whether the filter picks state.
    ///
    /// State of one flow is picked when its packets are, so that both go the same way. Of other
    /// state only the fields that both have are compared (OpenNF, section 4.2): a filter for a
    /// network and a port picks the counters of all hosts of that network.
    pub fn picks(&self, id: &FlowId, extent: Extent) -> bool {
        id.is_picked_by(&self.flows, extent) && Extra::agree(&self.extras, id.extras())
    }

    /// Whether a packet matches. What only a network function knows is not known of a packet,
    /// and does not keep it from matching.
    #[inline]
    pub fn matches(&self, packet: &PacketFields<'_>) -> bool {
        let flags = self
            .tcp_flags
            .is_none_or(|wanted| packet.tcp_flags.is_some_and(|flags| wanted.matches(flags)));
        flags
            && self.in_port.is_none_or(|port| port == packet.in_port)
            && self.flows.matches(packet.key)
    }
}

impl From<Filter> for StateFilter {
    fn from(flows: Filter) -> Self {
        Self { flows, ..Self::default() }
    }
}

impl TcpFlags {
    /// The flags of `mask` must be set where `value` has them, and must not be elsewhere; `None`
    /// when a flag is in `value` and not in `mask`, or none is in `mask`.
    pub fn new(value: u8, mask: u8) -> Option<Self> {
        (value & !mask == 0 && mask != 0).then_some(Self { value, mask })
    }

    /// The flags that must be set, and all that are compared.
    pub fn value_and_mask(self) -> (u8, u8) {
        (self.value, self.mask)
    }

    /// Whether the flags of a segment are these.
    #[inline]
    pub fn matches(self, flags: u8) -> bool {
        flags & self.mask == self.value
    }
}

const FLAGS: [(u8, &str); 8] = [
    (0x01, "fin"),
    (0x02, "syn"),
    (0x04, "rst"),
    (0x08, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ece"),
    (0x80, "cwr"),
];

impl FromStr for TcpFlags {
    type Err = ();

    /// Parses flags that must be set, and behind a slash all that are compared: `syn/syn+ack`.
    /// Without a slash only those that must be set are compared.
    fn from_str(text: &str) -> Result<Self, ()> {
        let flags = |text: &str| {
            if text == "none" {
                return Ok(0);
            }
            text.split('+').try_fold(0, |all, word| {
                let known = FLAGS.iter().find(|(_, name)| *name == word.trim());
                known.map(|(flag, _)| all | flag).ok_or(())
            })
        };
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (flags(value.trim())?, flags(mask.trim())?),
            None => (flags(text.trim())?, flags(text.trim())?),
        };
        Self::new(value, mask).ok_or(())
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |flags: u8| {
            let set = FLAGS.iter().filter(|(flag, _)| flags & flag != 0);
            let names: Vec<_> = set.map(|(_, name)| *name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join("+") }
        };
        write!(f, "{}", names(self.value))?;
        if self.value == self.mask { Ok(()) } else { write!(f, "/{}", names(self.mask)) }
    }
}

/// Why a filter over state or events is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateFilterError {
    /// A field that every filter has is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A field that only some network functions know is wrong.
    #[error(transparent)]
    Extra(#[from] ExtraError),
    /// A field of packets is wrong.
    #[error("{field}: expected {expected} at position {position}, found {}", quoted(found))]
    BadValue {
        /// The field.
        field: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// Where it starts.
        position: usize,
    },
    /// A field of packets is given twice.
    #[error("field {field} is given again at position {position}")]
    Repeated {
        /// The field.
        field: &'static str,
        /// Where it starts for the second time.
        position: usize,
    },
}

impl FromStr for StateFilter {
    type Err = StateFilterError;

    /// Parses what [`Filter`] parses, and `tcp_flags=syn/syn+ack`, `in_port=2`, and fields with a
    /// dot in their names, whose values may be in double quotes: `http.host=example.org`.
    fn from_str(text: &str) -> Result<Self, StateFilterError> {
        let mut filter = Self::default();
        bounded(text)?;
        if text.trim() == "any" {
            return Ok(filter);
        }
        let mut seen = Seen::default();
        for item in items(text, FIELDS_OF_PACKETS) {
            filter.set(&item?, &mut seen)?;
        }
        filter.flows.check()?;
        Ok(filter)
    }
}

impl StateFilter {
    fn set(&mut self, item: &Item<'_>, seen: &mut Seen) -> Result<(), StateFilterError> {
        match item.name {
            "tcp_flags" => {
                let flags = "flags such as syn, syn+ack or syn/syn+ack";
                set_once(&mut self.tcp_flags, "tcp_flags", flags, item)
            }
            "in_port" => {
                let mut number = self.in_port.map(|port| port.0);
                set_once(&mut number, "in_port", "the number of a port (0-255)", item)?;
                self.in_port = number.map(PortId);
                Ok(())
            }
            name if name.contains('.') => {
                let quoted = item.value.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                let extra = Extra::new(name, quoted.unwrap_or(item.value))?;
                Ok(Extra::add_to(&mut self.extras, extra)?)
            }
            _ => Ok(seen.set(&mut self.flows, item, FIELDS_OF_PACKETS)?),
        }
    }
}

/// Sets a field that must not be set yet.
fn set_once<T: FromStr>(
    place: &mut Option<T>,
    field: &'static str,
    expected: &'static str,
    item: &Item<'_>,
) -> Result<(), StateFilterError> {
    if place.is_some() {
        return Err(StateFilterError::Repeated { field, position: item.position });
    }
    let value = item.value.parse().map_err(|_| StateFilterError::BadValue {
        field,
        expected,
        found: item.value.to_owned(),
        position: item.position_of_value,
    })?;
    *place = Some(value);
    Ok(())
}

impl fmt::Display for StateFilter {
    /// What parses back to the same filter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = Vec::new();
        if self.flows != Filter::default() {
            fields.push(self.flows.to_string());
        }
        fields.extend(self.tcp_flags.map(|flags| format!("tcp_flags={flags}")));
        fields.extend(self.in_port.map(|port| format!("in_port={port}")));
        fields.extend(self.extras.iter().map(ToString::to_string));
        if fields.is_empty() { f.write_str("any") } else { f.write_str(&fields.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ServiceId;
    use crate::prefix::Prefix;
    use crate::protocol;

    fn parsed(text: &str) -> StateFilter {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn host(text: &str) -> FlowId {
        FlowId::host(text.parse().expect("an address"), ServiceId(0))
    }

    fn key(proto: u8, ports: (u16, u16)) -> FlowKey {
        let (src, dst) = ([10, 0, 0, 5].into(), [192, 168, 0, 1].into());
        FlowKey::v4(src, dst, ports, proto, ServiceId(0))
    }

    #[test]
    fn what_is_shown_parses_back() {
        for text in [
            "any",
            "src=10.0.0.0/8,proto=tcp,tcp_flags=syn/syn+ack",
            "tcp_flags=rst",
            "tcp_flags=none/fin+syn+rst",
            "in_port=3,http.host=example.org",
            "http.host=example.org,http.url=\"/a,b\"",
            "dport=80,symmetric=false,http.url=\"/a?b=c, d\"",
        ] {
            assert_eq!(parsed(text).to_string(), text);
            assert_eq!(parsed(&parsed(text).to_string()), parsed(text));
        }
        assert_eq!(parsed("http.url=\" a\"").extras()[0].value(), " a");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, error) in [
            ("src=10.0.0.1,src=10.0.0.2", "field src is given again at position 13"),
            ("tcp_flags=syn,tcp_flags=rst", "field tcp_flags is given again at position 14"),
            (
                "dport=80,tcp_flags=sin",
                "tcp_flags: expected flags such as syn, syn+ack or syn/syn+ack at position 19, \
                 found \"sin\"",
            ),
            (
                "tcp_flags=syn/ack",
                "tcp_flags: expected flags such as syn, syn+ack or syn/syn+ack at position 10, \
                 found \"syn/ack\"",
            ),
            (
                "in_port=256",
                "in_port: expected the number of a port (0-255) at position 8, found \"256\"",
            ),
            (
                "tcp_flag=syn",
                "unknown field \"tcp_flag\" at position 0: did you mean tcp_flags? (fields: src, dst, \
                 proto, sport, dport, service, symmetric, tcp_flags, in_port)",
            ),
            ("http.host=a,http.host=b", "http.host is given twice"),
            (
                "Http.host=a",
                "\"Http.host\" does not name a field: expected words of a-z, 0-9 and _ with dots \
                 in between, such as http.host, of 32 bytes at most",
            ),
            ("a.b=1,a.c=1,a.d=1,a.e=1,a.f=1", "a.f is one field too many: at most 4 of this kind"),
        ] {
            let found = text.parse::<StateFilter>().expect_err(text);
            assert_eq!(found.to_string(), error);
        }
    }

    #[test]
    fn a_filter_for_a_network_and_a_port_picks_the_state_of_its_hosts() {
        let filter = parsed("src=10.0.0.0/8,dport=80");
        for extent in [Extent::Overlaps, Extent::Contains] {
            assert!(filter.picks(&host("10.1.2.3"), extent));
            assert!(!filter.picks(&host("11.1.2.3"), extent));
            assert!(filter.picks(&FlowId::default(), extent), "it says nothing about the flows");
        }
    }

    #[test]
    fn a_host_is_picked_by_either_end_of_a_filter() {
        let filter = parsed("src=10.0.0.0/8,dst=192.168.0.0/16");
        assert!(filter.picks(&host("10.1.2.3"), Extent::Contains));
        assert!(filter.picks(&host("192.168.1.1"), Extent::Contains));
        assert!(!filter.picks(&host("8.8.8.8"), Extent::Contains));
        assert!(!filter.picks(&host("2001:db8::1"), Extent::Overlaps), "another family");
    }

    #[test]
    fn state_of_more_than_is_named_overlaps_and_is_not_contained() {
        let filter = parsed("src=10.0.0.0/16");
        let id = |text: &str| {
            let prefix: Prefix = text.parse().expect("a prefix");
            FlowId::new(crate::flow_id::Ends::Host(prefix), None, None)
        };
        let found = |text| [Extent::Overlaps, Extent::Contains].map(|e| filter.picks(&id(text), e));
        assert_eq!(found("10.0.0.0/8"), [true, false]);
        assert_eq!(found("10.0.4.0/24"), [true, true]);
        assert_eq!(found("10.1.0.0/16"), [false, false]);
    }

    #[test]
    fn state_of_a_flow_is_picked_when_its_packets_match() {
        let tcp = FlowId::flow(&key(protocol::TCP, (1000, 80)));
        let icmp = FlowId::flow(&key(protocol::ICMP, (0, 0)));
        let picks = |text: &str, id| parsed(text).picks(id, Extent::Contains);
        assert!(picks("dst=10.0.0.5,sport=80", &tcp), "a symmetric filter, the other way round");
        assert!(!picks("dst=10.0.0.5,sport=80,symmetric=false", &tcp));
        // Its packets do not match, so its state must stay with them.
        assert!(!picks("dport=80", &icmp));
        // Flags and ports are of packets, and do not matter to state.
        assert!(picks("dport=80,tcp_flags=syn,in_port=9", &tcp));
    }

    #[test]
    fn fields_of_network_functions_are_compared_where_both_have_them() {
        let extra = |name, value| Extra::new(name, value).expect("a field");
        let page = host("10.0.0.1").with(extra("http.url", "/a")).expect("room");
        assert!(parsed("http.url=/a").picks(&page, Extent::Contains));
        assert!(!parsed("http.url=/b").picks(&page, Extent::Overlaps));
        assert!(parsed("http.host=example.org").picks(&page, Extent::Contains));
        assert!(!parsed("src=10.0.0.2,http.url=/a").picks(&page, Extent::Overlaps));
    }

    #[test]
    fn packets_match_by_flags_and_port() {
        let key = key(protocol::TCP, (1000, 80));
        let packet = |tcp_flags, port| PacketFields { key: &key, tcp_flags, in_port: PortId(port) };
        let syn = parsed("tcp_flags=syn/syn+ack");
        assert!(syn.matches(&packet(Some(0x02), 0)) && syn.matches(&packet(Some(0x42), 0)));
        assert!(!syn.matches(&packet(Some(0x12), 0)) && !syn.matches(&packet(None, 0)));
        let rst = parsed("tcp_flags=rst,in_port=2,dport=80");
        assert!(rst.matches(&packet(Some(0x14), 2)) && !rst.matches(&packet(Some(0x14), 1)));
        assert!(parsed("http.host=a").matches(&packet(None, 0)));
    }
}
