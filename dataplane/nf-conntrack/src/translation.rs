//! What the kernel is told so that it translates packets as an entry's two tuples say.

use std::net::IpAddr;

use crate::netlink::Writer;
use crate::tuple::{Ends, Tuple};

/// Attributes: `enum ctattr_nat` and `ctattr_protonat`.
const V4: (u16, u16) = (1, 2);
const PROTO: u16 = 3;
const V6: (u16, u16) = (4, 5);
const PORTS: (u16, u16) = (1, 2);

/// What packets of the original direction get: an address, and a port or the number of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    address: IpAddr,
    port: Option<u16>,
}

/// Both translations of a flow, where it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) source: Option<End>,
    pub(crate) destination: Option<End>,
}

impl Translation {
    /// What makes the packets of one tuple be answered by those of the other.
    pub(crate) fn of(original: &Tuple, reply: &Tuple) -> Self {
        let (before, after) = (original.ends, reply.ends);
        let (source, destination) = match (before, after) {
            (Ends::Ports { src, dst }, Ends::Ports { src: from, dst: to }) => {
                ((Some(src), Some(to)), (Some(dst), Some(from)))
            }
            // An exchange has one number, which goes with the source.
            (Ends::Echo { id, .. }, Ends::Echo { id: other, .. }) => {
                ((Some(id), Some(other)), (None, None))
            }
            _ => ((None, None), (None, None)),
        };
        let changed = |was: (IpAddr, Option<u16>), is: (IpAddr, Option<u16>)| {
            (was != is).then_some(End { address: is.0, port: is.1 })
        };
        Self {
            source: changed((original.src, source.0), (reply.dst, source.1)),
            destination: changed((original.dst, destination.0), (reply.src, destination.1)),
        }
    }
}

impl End {
    pub(crate) fn put(&self, kind: u16, out: &mut Writer) {
        out.nest(kind, |out| {
            match self.address {
                IpAddr::V4(address) => {
                    out.bytes(V4.0, &address.octets());
                    out.bytes(V4.1, &address.octets());
                }
                IpAddr::V6(address) => {
                    out.bytes(V6.0, &address.octets());
                    out.bytes(V6.1, &address.octets());
                }
            }
            if let Some(port) = self.port {
                out.nest(PROTO, |out| {
                    out.u16(PORTS.0, port);
                    out.u16(PORTS.1, port);
                });
            }
        });
    }
}

/// The tuple of replies to packets that are not translated. The query of ICMP that answers another
/// is the kernel's to know, and stands in the translated one.
pub(crate) fn untranslated(original: &Tuple, reply: &Tuple) -> Tuple {
    let ends = match (original.ends, reply.ends) {
        (Ends::Ports { src, dst }, _) => Ends::Ports { src: dst, dst: src },
        (Ends::Echo { id, .. }, Ends::Echo { kind, code, .. }) => Ends::Echo { id, kind, code },
        (ends, _) => ends,
    };
    Tuple { src: original.dst, dst: original.src, ends, ..*original }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: [u8; 4], dst: [u8; 4], ends: Ends) -> Tuple {
        Tuple { src: src.into(), dst: dst.into(), protocol: 6, ends }
    }

    fn ports(src: u16, dst: u16) -> Ends {
        Ends::Ports { src, dst }
    }

    const CLIENT: [u8; 4] = [10, 1, 0, 2];
    const PUBLIC: [u8; 4] = [203, 0, 113, 1];
    const SERVER: [u8; 4] = [10, 9, 0, 2];

    fn end(address: [u8; 4], port: Option<u16>) -> Option<End> {
        Some(End { address: address.into(), port })
    }

    #[test]
    fn what_differs_between_the_tuples_is_translated() {
        let original = tuple(CLIENT, PUBLIC, ports(4000, 80));
        let plain = tuple(PUBLIC, CLIENT, ports(80, 4000));
        assert_eq!(Translation::of(&original, &plain), Translation::default());
        assert_eq!(untranslated(&original, &plain), plain);
        let port = tuple(PUBLIC, CLIENT, ports(80, 4001));
        let source = Translation { source: end(CLIENT, Some(4001)), destination: None };
        assert_eq!(Translation::of(&original, &port), source);
        let both = tuple(SERVER, PUBLIC, ports(8080, 4000));
        let all = Translation::of(&original, &both);
        assert_eq!(
            (all.source, all.destination),
            (end(PUBLIC, Some(4000)), end(SERVER, Some(8080)))
        );
        assert_eq!(untranslated(&original, &both), plain);
    }

    #[test]
    fn the_number_of_an_exchange_goes_with_the_source() {
        let echo = |id, kind| Ends::Echo { id, kind, code: 0 };
        let original = tuple(CLIENT, SERVER, echo(7, 8));
        let reply = tuple(SERVER, PUBLIC, echo(9, 0));
        let all = Translation::of(&original, &reply);
        assert_eq!((all.source, all.destination), (end(PUBLIC, Some(9)), None));
        assert_eq!(untranslated(&original, &reply), tuple(SERVER, CLIENT, echo(7, 0)));
    }
}
