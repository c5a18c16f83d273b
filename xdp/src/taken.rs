//! What a device says of live frames: whether it takes them, and how many it has taken.

use std::io;
use std::ptr;

use libbpf_rs::libbpf_sys as sys_bpf;

use crate::device::{Device, Query};
use crate::sys::Guarded;

/// Most statistics of a device that are read: those of a veth with 1,024 queues of each kind fit.
const STATISTICS_MAX: usize = 1 << 14;
/// Bytes of the name of a statistic.
const NAME: usize = 32;
/// `NETDEV_XDP_ACT_NDO_XMIT` of `linux/netdev.h`.
const TAKES_FRAMES: u64 = 4;

/// Whether the device takes live frames now, and has a program that sends them. On a veth the first is the
/// other end's to say: it does with an XDP program, or with GRO.
pub(crate) fn takes_frames(device: &Device) -> io::Result<bool> {
    let mut answer = sys_bpf::bpf_xdp_query_opts {
        sz: size_of::<sys_bpf::bpf_xdp_query_opts>() as _,
        ..Default::default()
    };
    let index = device.index() as i32;
    // SAFETY: the structure names its size, and lives for the time of the call.
    let error = unsafe { sys_bpf::bpf_xdp_query(index, 0, ptr::from_mut(&mut answer)) };
    match error {
        0.. => Ok(answer.feature_flags & TAKES_FRAMES != 0 && answer.prog_id != 0),
        _ => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Frames that the device has ever taken from programs that send to it; `None` if it does not count them.
pub(crate) fn taken(device: &Device) -> io::Result<Option<u64>> {
    let query = Query::new(device.name())?;
    let count = |answer: &[u8]| {
        let word = answer.first_chunk().copied().unwrap_or_default();
        usize::try_from(u32::from_ne_bytes(word)).unwrap_or(usize::MAX)
    };
    // The number is a word behind a mask of sets, which says that there is one.
    let info = ask(&query, [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS, 0])?;
    let info = info.bytes();
    if count(&info[16..]) > STATISTICS_MAX {
        return Ok(None);
    }
    let names = ask(&query, [ETHTOOL_GSTRINGS, ETH_SS_STATS, 0, 0])?;
    let values = ask(&query, [ETHTOOL_GSTATS, 0, 0, 0])?;
    let (names, values) = (names.bytes(), values.bytes());
    let (named, known) = (count(&names[8..]), count(&values[4..]));
    if named != known {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let names = names[12..].as_chunks::<NAME>().0.iter().take(named);
    let values = values[8..].as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let counts = names.zip(values).filter(|(name, _)| is_taken(name)).map(|(_, value)| value);
    Ok(counts.reduce(u64::wrapping_add))
}

/// The answer to a command of ethtool that begins with four words, in its place.
fn ask(query: &Query, command: [u32; 4]) -> io::Result<Guarded> {
    let mut answer = Guarded::new(16 + STATISTICS_MAX * NAME)?;
    for (bytes, word) in answer.bytes_mut().chunks_exact_mut(4).zip(command) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    // SAFETY: what is longer than the memory meets the page behind it, which ends the command with EFAULT.
    unsafe { query.ethtool(answer.bytes_mut().as_mut_ptr().cast()) }?;
    Ok(answer)
}

/// Whether it is the number of frames that a queue has taken, as veth names it.
fn is_taken(name: &[u8; NAME]) -> bool {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    let queue =
        name[..end].strip_prefix(b"tx_queue_").and_then(|rest| rest.strip_suffix(b"_xdp_xmit"));
    queue.is_some_and(|queue| !queue.is_empty() && queue.iter().all(u8::is_ascii_digit))
}

const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETH_SS_STATS: u32 = 1;
