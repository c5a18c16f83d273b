//! Tuples: what the kernel tells the packets of one direction of a flow by.

use std::net::IpAddr;

use weir_state_transfer::flow_id::Extra;
use weir_state_transfer::id::ServiceId;
use weir_state_transfer::protocol::{self, ICMP, ICMPV6};
use weir_state_transfer::wire::{self, WireError};
use weir_state_transfer::{FlowId, FlowKey};

use crate::error::Error;
use crate::netlink::{Attributes, Writer};

/// Families of addresses, as the kernel numbers them.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Attributes: `enum ctattr_tuple`, `ctattr_ip` and `ctattr_l4proto`.
const IP: u16 = 1;
const PROTO: u16 = 2;
const V4: (u16, u16) = (1, 2);
const V6: (u16, u16) = (3, 4);
const NUMBER: u16 = 1;
const PORTS: (u16, u16) = (2, 3);
const ECHO: (u16, u16, u16) = (4, 5, 6);
const ECHO_V6: (u16, u16, u16) = (7, 8, 9);

/// Fields of flow ids that only this function knows: what else tells flows apart for the kernel.
pub(crate) const FIELDS: [&str; 5] = ["ct.sport", "ct.dport", "icmp.id", "icmp.type", "icmp.code"];

/// What the kernel tells the packets of one direction of a flow by, but for their zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tuple {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ends: Ends,
}

/// What is told apart above the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ends {
    /// Nothing.
    None,
    /// Ports, and the keys of GRE.
    Ports { src: u16, dst: u16 },
    /// The exchange of an ICMP query.
    Echo { id: u16, kind: u8, code: u8 },
}

impl Tuple {
    pub(crate) fn family(&self) -> u8 {
        if self.src.is_ipv4() { AF_INET } else { AF_INET6 }
    }

    /// Whether the packets of both directions can have these tuples.
    pub(crate) fn pairs_with(&self, reply: &Self) -> bool {
        let same = std::mem::discriminant(&self.ends) == std::mem::discriminant(&reply.ends);
        (self.protocol, self.family(), true) == (reply.protocol, reply.family(), same)
    }

    pub(crate) fn parse(all: &Attributes<'_>) -> Result<Self, Error> {
        let ip = all.within(IP, "a tuple without addresses")?;
        let address = |v4: u16, v6: u16| -> Result<IpAddr, Error> {
            let v4 = ip.array::<4>(v4)?.map(IpAddr::from);
            let v6 = ip.array::<16>(v6)?.map(IpAddr::from);
            v4.or(v6).ok_or(Error::Malformed("a tuple without an address"))
        };
        let (src, dst) = (address(V4.0, V6.0)?, address(V4.1, V6.1)?);
        let proto = all.within(PROTO, "a tuple without a protocol")?;
        let protocol = proto.u8(NUMBER)?.ok_or(Error::Malformed("a tuple without a protocol"))?;
        let echo = |(id, kind, code): (u16, u16, u16)| -> Result<Option<Ends>, Error> {
            let found = proto.u16(id)?.zip(proto.u8(kind)?).zip(proto.u8(code)?);
            Ok(found.map(|((id, kind), code)| Ends::Echo { id, kind, code }))
        };
        let ports = proto.u16(PORTS.0)?.zip(proto.u16(PORTS.1)?);
        let ends = match protocol {
            ICMP => echo(ECHO)?,
            ICMPV6 => echo(ECHO_V6)?,
            _ => Some(ports.map_or(Ends::None, |(src, dst)| Ends::Ports { src, dst })),
        };
        let ends = ends.ok_or(Error::Malformed("a tuple of ICMP without its query"))?;
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(Error::Malformed("a tuple of two families"));
        }
        Ok(Self { src, dst, protocol, ends })
    }

    pub(crate) fn put(&self, kind: u16, out: &mut Writer) {
        out.nest(kind, |out| {
            out.nest(IP, |out| match (self.src, self.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    out.bytes(V4.0, &src.octets());
                    out.bytes(V4.1, &dst.octets());
                }
                (src, dst) => {
                    out.bytes(V6.0, &octets(src));
                    out.bytes(V6.1, &octets(dst));
                }
            });
            out.nest(PROTO, |out| {
                out.u8(NUMBER, self.protocol);
                match self.ends {
                    Ends::None => {}
                    Ends::Ports { src, dst } => {
                        out.u16(PORTS.0, src);
                        out.u16(PORTS.1, dst);
                    }
                    Ends::Echo { id, kind, code } => {
                        let names = if self.protocol == ICMPV6 { ECHO_V6 } else { ECHO };
                        out.u16(names.0, id);
                        out.u8(names.1, kind);
                        out.u8(names.2, code);
                    }
                }
            });
        });
    }

    /// The flow id of the packets, in a zone of the kernel, which is a service here.
    pub(crate) fn id(&self, zone: u16) -> Option<FlowId> {
        let (ports, named): (_, Vec<(&str, u16)>) = match self.ends {
            Ends::Ports { src, dst } if protocol::has_ports(self.protocol) => ((src, dst), vec![]),
            Ends::Ports { src, dst } => ((0, 0), vec![(FIELDS[0], src), (FIELDS[1], dst)]),
            Ends::Echo { id, kind, code } => {
                let (kind, code) = (kind.into(), code.into());
                ((0, 0), vec![(FIELDS[2], id), (FIELDS[3], kind), (FIELDS[4], code)])
            }
            Ends::None => ((0, 0), vec![]),
        };
        let key = FlowKey::new(self.src, self.dst, ports, self.protocol, ServiceId(zone))?;
        named.into_iter().try_fold(FlowId::flow(&key), |id, (name, value)| {
            id.with(Extra::new(name, &value.to_string()).ok()?).ok()
        })
    }

    /// The tuple and the zone that a flow id is of, if it is as [`Self::id`] makes it.
    pub(crate) fn of_id(id: &FlowId) -> Option<(Self, u16)> {
        let key = id.key()?;
        let named = |name: &str| {
            let field = id.extras().iter().find(|field| field.name() == name)?;
            field.value().parse::<u16>().ok()
        };
        let protocol = key.protocol();
        let ends = match protocol {
            ICMP | ICMPV6 => Ends::Echo {
                id: named(FIELDS[2])?,
                kind: u8::try_from(named(FIELDS[3])?).ok()?,
                code: u8::try_from(named(FIELDS[4])?).ok()?,
            },
            _ if protocol::has_ports(protocol) => {
                Ends::Ports { src: key.src_port(), dst: key.dst_port() }
            }
            _ => match named(FIELDS[0]).zip(named(FIELDS[1])) {
                Some((src, dst)) => Ends::Ports { src, dst },
                None => Ends::None,
            },
        };
        let tuple = Self { src: key.src(), dst: key.dst(), protocol, ends };
        let zone = key.service().0;
        (tuple.id(zone).as_ref() == Some(id)).then_some((tuple, zone))
    }

    /// Appends it to the body of a chunk.
    pub(crate) fn encode(&self, out: &mut wire::Writer) {
        out.address(self.src);
        out.address(self.dst);
        out.u8(self.protocol);
        match self.ends {
            Ends::None => out.u8(0),
            Ends::Ports { src, dst } => {
                out.u8(1);
                out.u16(src);
                out.u16(dst);
            }
            Ends::Echo { id, kind, code } => {
                out.u8(2);
                out.u16(id);
                out.u8(kind);
                out.u8(code);
            }
        }
    }

    /// Takes it from the body of a chunk.
    pub(crate) fn decode(reader: &mut wire::Reader<'_>) -> Result<Self, WireError> {
        let (src, dst, protocol) = (reader.address()?, reader.address()?, reader.u8()?);
        let ends = match reader.u8()? {
            0 => Ends::None,
            1 => Ends::Ports { src: reader.u16()?, dst: reader.u16()? },
            2 => Ends::Echo { id: reader.u16()?, kind: reader.u8()?, code: reader.u8()? },
            _ => return Err(WireError::BadField { what: "kind of ends" }),
        };
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(WireError::BadField { what: "pair of addresses" });
        }
        Ok(Self { src, dst, protocol, ends })
    }
}

/// The bytes of an address of IPv6, of which both of a tuple are where one is.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, ends: Ends) -> Tuple {
        Tuple { src: [10, 1, 0, 2].into(), dst: [10, 9, 0, 2].into(), protocol, ends }
    }

    #[test]
    fn every_tuple_has_an_id_that_names_it() {
        let v6 = Tuple {
            src: "fd00::1".parse().unwrap(),
            dst: "fd00::2".parse().unwrap(),
            ..tuple(ICMPV6, Ends::Echo { id: 7, kind: 128, code: 0 })
        };
        let all = [
            tuple(6, Ends::Ports { src: 4000, dst: 80 }),
            tuple(ICMP, Ends::Echo { id: 7, kind: 8, code: 0 }),
            tuple(ICMP, Ends::Echo { id: 8, kind: 8, code: 0 }),
            // GRE, whose keys are no ports elsewhere.
            tuple(47, Ends::Ports { src: 0, dst: 5 }),
            tuple(4, Ends::None),
            v6,
        ];
        let ids: std::collections::BTreeSet<_> = all.iter().map(|one| one.id(3).unwrap()).collect();
        assert_eq!(ids.len(), all.len());
        for one in all {
            assert_eq!(Tuple::of_id(&one.id(3).unwrap()), Some((one, 3)));
            let bytes = wire::Writer::bytes_of(|out| one.encode(out));
            assert_eq!(wire::Reader::whole(&bytes, Tuple::decode), Ok(one));
        }
    }

    #[test]
    fn an_id_of_more_or_less_than_a_tuple_names_none() {
        let host = FlowId::host([10, 0, 0, 1].into(), ServiceId(0));
        let key = FlowKey::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (0, 0), 1, ServiceId(0));
        let icmp = FlowId::flow(&key);
        let tcp = tuple(6, Ends::Ports { src: 1, dst: 2 }).id(0).unwrap();
        let more = tcp.with(Extra::new("http.host", "x").unwrap()).unwrap();
        for id in [host, icmp, more, FlowId::default()] {
            assert_eq!(Tuple::of_id(&id), None, "{id}");
        }
    }
}
