//! What the kernel tracks of a connection of TCP or SCTP, as far as it tells it.

use weir_state_transfer::protocol::{SCTP, TCP};
use weir_state_transfer::wire::{self, WireError};

use crate::error::Error;
use crate::netlink::{Attributes, Writer};

/// Attributes: `enum ctattr_protoinfo`, `ctattr_protoinfo_tcp` and `ctattr_protoinfo_sctp`.
const INFO_TCP: u16 = 1;
const INFO_SCTP: u16 = 3;
const STATE: u16 = 1;
const TCP_SCALE: [u16; 2] = [2, 3];
const TCP_FLAGS: [u16; 2] = [4, 5];
const SCTP_TAG: [u16; 2] = [2, 3];

/// Flags of TCP that mean something by themselves: window scaling, selective acknowledgements, who
/// closes, and that both opened. The others speak of numbers that the kernel does not tell.
const TCP_FLAGS_OWN: u8 = 0x01 | 0x02 | 0x04 | 0x80;
/// That packets outside the window are let pass: `IP_CT_TCP_FLAG_BE_LIBERAL`.
const TCP_LIBERAL: u8 = 0x08;
/// States of TCP: `TCP_CONNTRACK_MAX` is the first that is none.
const TCP_STATES: u8 = 10;
/// Largest shift of a window (RFC 7323, section 2.3).
const SCALE_MAX: u8 = 14;

/// What is tracked of a connection, in the order original, reply where it is about a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolState {
    /// Nothing but that there are packets.
    None,
    /// The state, window scales and flags of TCP. The windows themselves the kernel does not tell:
    /// it takes them from the packets that come, and lets pass meanwhile what they do not explain.
    Tcp { state: u8, scales: [u8; 2], flags: [u8; 2] },
    /// The state and verification tags of SCTP.
    Sctp { state: u8, tags: [u32; 2] },
}

impl ProtocolState {
    /// Of an attribute; what it is about when it is of a protocol that is not known here.
    pub(crate) fn parse(info: Option<&Attributes<'_>>) -> Result<Self, Error> {
        let Some(info) = info else { return Ok(Self::None) };
        if let Some(tcp) = info.nested(INFO_TCP)? {
            let [scales, flags] = [TCP_SCALE, TCP_FLAGS].map(|kinds| {
                // Flags have a mask behind them.
                kinds.map(|kind| tcp.get(kind).and_then(|bytes| bytes.first().copied()))
            });
            let state = tcp.u8(STATE)?.ok_or(Error::Malformed("TCP without a state"))?;
            let known = |values: [Option<u8>; 2]| values.map(Option::unwrap_or_default);
            let flags = known(flags).map(|flags| flags & TCP_FLAGS_OWN);
            return Ok(Self::Tcp { state, scales: known(scales), flags });
        }
        let Some(sctp) = info.nested(INFO_SCTP)? else { return Ok(Self::None) };
        let state = sctp.u8(STATE)?.ok_or(Error::Malformed("SCTP without a state"))?;
        let tag = |kind| Ok(sctp.u32(kind)?.unwrap_or_default());
        Ok(Self::Sctp { state, tags: [tag(SCTP_TAG[0])?, tag(SCTP_TAG[1])?] })
    }

    pub(crate) fn put(&self, kind: u16, out: &mut Writer) {
        match *self {
            Self::None => {}
            Self::Tcp { state, scales, flags } => out.nest(kind, |out| {
                out.nest(INFO_TCP, |out| {
                    out.u8(STATE, state);
                    for side in [0, 1] {
                        out.u8(TCP_SCALE[side], scales[side]);
                        let flags = flags[side] | TCP_LIBERAL;
                        out.bytes(TCP_FLAGS[side], &[flags, TCP_FLAGS_OWN | TCP_LIBERAL]);
                    }
                });
            }),
            Self::Sctp { state, tags } => out.nest(kind, |out| {
                out.nest(INFO_SCTP, |out| {
                    out.u8(STATE, state);
                    out.u32(SCTP_TAG[0], tags[0]);
                    out.u32(SCTP_TAG[1], tags[1]);
                });
            }),
        }
    }

    pub(crate) fn encode(&self, out: &mut wire::Writer) {
        match *self {
            Self::None => out.u8(0),
            Self::Tcp { state, scales, flags } => {
                out.u8(TCP);
                out.u8(state);
                out.raw(&scales);
                out.raw(&flags);
            }
            Self::Sctp { state, tags } => {
                out.u8(SCTP);
                out.u8(state);
                tags.into_iter().for_each(|tag| out.u32(tag));
            }
        }
    }

    /// Takes it from the body of a chunk about a flow of that protocol.
    pub(crate) fn decode(reader: &mut wire::Reader<'_>, protocol: u8) -> Result<Self, WireError> {
        let bad = |what| Err(WireError::BadField { what });
        match reader.u8()? {
            0 => Ok(Self::None),
            found if found != protocol => bad("state of another protocol"),
            TCP => {
                let (state, scales, flags) = (reader.u8()?, reader.array()?, reader.array()?);
                if state >= TCP_STATES || scales.iter().any(|scale| *scale > SCALE_MAX) {
                    return bad("TCP state or window scale");
                }
                if flags.iter().any(|flags| flags & !TCP_FLAGS_OWN != 0) {
                    return bad("set of TCP flags");
                }
                Ok(Self::Tcp { state, scales, flags })
            }
            SCTP => {
                let state = reader.u8()?;
                Ok(Self::Sctp { state, tags: [reader.u32()?, reader.u32()?] })
            }
            _ => bad("protocol with state"),
        }
    }
}
