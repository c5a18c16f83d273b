//! Messages: a header, that of netfilter behind it, and attributes.

use rustix::io::Errno;

use super::Writer;
use crate::error::Error;

/// Bytes of the header of every message.
const HEADER: usize = 16;
/// Bytes of the header of netfilter behind it: family, version, and a number that few use.
pub(crate) const NFGENMSG: usize = 4;
/// Messages of connection tracking: the high byte of their types.
const CTNETLINK: u16 = 1 << 8;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP_INTERRUPTED: u16 = 0x10;
const F_DUMP: u16 = 0x300;
const F_EXCLUSIVE_CREATE: u16 = 0x600;

/// What is asked of connection tracking, by the numbers of `enum cntl_msg_types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A new entry; one that is there already is an error.
    Create,
    /// One entry.
    Find,
    /// All entries.
    Dump,
    /// The end of an entry.
    Delete,
    /// What every core has counted.
    Statistics,
}

impl Request {
    /// The bytes of a request.
    pub(crate) fn encode(
        self,
        sequence: u32,
        family: u8,
        put: impl FnOnce(&mut Writer),
    ) -> Vec<u8> {
        let (kind, flags) = match self {
            Self::Create => (0, F_ACK | F_EXCLUSIVE_CREATE),
            Self::Find => (1, F_ACK),
            Self::Dump => (1, F_DUMP),
            Self::Delete => (2, F_ACK),
            Self::Statistics => (4, F_DUMP),
        };
        let mut writer = Writer(vec![0; HEADER + NFGENMSG]);
        put(&mut writer);
        let mut bytes = writer.0;
        let length = u32::try_from(bytes.len()).expect("a request is small");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&(CTNETLINK | kind).to_ne_bytes());
        bytes[6..8].copy_from_slice(&(F_REQUEST | flags).to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes[HEADER] = family;
        bytes
    }
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// What was asked for, from the header of netfilter on.
    Given(&'a [u8]),
    /// The request is done; or why not.
    Ended(Result<(), Error>),
    /// Of an earlier request, or of none that this asks.
    Other,
}

/// Gives every message of a datagram that answers a request; fails at one that is malformed.
pub(crate) fn answers(
    mut bytes: &[u8],
    sequence: u32,
    mut each: impl FnMut(Answer<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let payload = bytes.get(HEADER..length).ok_or(Error::Malformed("a message is cut"))?;
        let (kind, flags) = (u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1]));
        let is_own = u32::from_ne_bytes([s0, s1, s2, s3]) == sequence;
        each(if is_own { answer(kind, flags, payload)? } else { Answer::Other })?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if bytes.is_empty() { Ok(()) } else { Err(Error::Malformed("a message is cut")) }
}

fn answer(kind: u16, flags: u16, payload: &[u8]) -> Result<Answer<'_>, Error> {
    if flags & F_DUMP_INTERRUPTED != 0 {
        return Ok(Answer::Ended(Err(Error::Interrupted)));
    }
    match kind {
        ERROR | DONE => {
            let code = match payload.first_chunk::<4>() {
                Some(code) => i32::from_ne_bytes(*code),
                None if kind == DONE => 0,
                None => return Err(Error::Malformed("an error without a number")),
            };
            let errno =
                Errno::from_raw_os_error(code.checked_neg().unwrap_or(i32::MAX).clamp(1, 4_095));
            Ok(Answer::Ended(if code == 0 { Ok(()) } else { Err(Error::refused(errno)) }))
        }
        OVERRUN => Ok(Answer::Ended(Err(Error::Overrun))),
        _ if kind & 0xff00 == CTNETLINK => Ok(Answer::Given(payload)),
        _ => Ok(Answer::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], sequence: u32) -> Result<Vec<String>, Error> {
        let mut seen = Vec::new();
        answers(bytes, sequence, |answer| {
            seen.push(format!("{answer:?}"));
            Ok(())
        })?;
        Ok(seen)
    }

    /// A message as the kernel makes it.
    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = (HEADER + payload.len()) as u32;
        let mut bytes = [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &sequence.to_ne_bytes(),
            &[0; 4],
            payload,
        ]
        .concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn answers_are_told_from_others_and_from_ends() {
        let given = message(CTNETLINK, 2, 7, &[2, 0, 0, 0]);
        let exists = message(ERROR, 0, 7, &(-17_i32).to_ne_bytes());
        let denied = message(ERROR, 0, 7, &(-1_i32).to_ne_bytes());
        let done = message(DONE, 2, 7, &[0; 4]);
        let seen = all(&[given.clone(), exists, denied, done].concat(), 7).unwrap();
        assert_eq!(seen[0], "Given([2, 0, 0, 0])");
        assert_eq!(seen[1], format!("{:?}", Answer::Ended(Err(Error::Refused(Errno::EXIST)))));
        assert_eq!(seen[2], format!("{:?}", Answer::Ended(Err(Error::NotPermitted))));
        assert_eq!(seen[3], "Ended(Ok(()))");
        assert_eq!(all(&given, 8).unwrap(), ["Other"]);
        let interrupted = message(CTNETLINK, 2 | F_DUMP_INTERRUPTED, 7, &[2, 0, 0, 0]);
        assert_eq!(all(&interrupted, 7).unwrap(), ["Ended(Err(Interrupted))"]);
        assert!(all(&given[..given.len() - 1], 7).is_err());
        assert!(all(&message(ERROR, 0, 7, &[]), 7).is_err());
        let extreme = message(ERROR, 0, 7, &i32::MIN.to_ne_bytes());
        assert!(all(&extreme, 7).unwrap()[0].starts_with("Ended(Err(Refused"));
    }

    proptest! {
        #![proptest_config(crate::seeded())]

        #[test]
        fn no_bytes_break_it(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            length in 0_u32..64,
            kind in 0_u16..6,
        ) {
            let _any = all(&bytes, 1);
            // One whose header looks right.
            let mut bytes = bytes;
            bytes.splice(0..0, message(kind, 0, 1, &[]));
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            let _any = all(&bytes, 1);
        }
    }
}
