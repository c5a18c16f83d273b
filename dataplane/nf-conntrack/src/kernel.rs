//! The connection tracking of the kernel, in the network namespace that the process runs in.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;

use crate::entry::{Entry, put_tuple};
use crate::error::Error;
use crate::flows::Table;
use crate::netlink::{Attributes, Dump, NFGENMSG, Request, Socket};
use crate::tuple::Tuple;

/// Names of what every core counts, and their numbers in `enum ctattr_stats_cpu`.
pub(crate) const STATISTICS: [(&str, u16); 10] = [
    ("found", 2),
    ("invalid", 4),
    ("insert", 8),
    ("insert_failed", 9),
    ("drop", 10),
    ("early_drop", 11),
    ("error", 12),
    ("search_restart", 13),
    ("clash_resolve", 14),
    ("chain_toolong", 15),
];

/// The connection tracking of the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
    receive_buffer: usize,
}

/// A listing of entries that goes on as it is read.
#[derive(Debug)]
pub(crate) struct Listing {
    dump: Dump,
    /// Entries of the last datagram that nobody has taken yet; as many as fit in one.
    waiting: VecDeque<Entry>,
    given: Given,
}

/// Which entries a listing has given, as hashes: where the one at which a datagram ended is gone, the
/// kernel begins again with its neighbours. At most as many as the kernel has had entries.
#[derive(Debug, Default)]
struct Given {
    hashes: HashSet<u64>,
    state: RandomState,
}

impl Given {
    /// Notes an entry; whether it was not given before. One that has begun anew has another number.
    fn is_new(&mut self, entry: &Entry) -> bool {
        self.hashes.insert(self.state.hash_one((&entry.original, entry.zone, entry.id)))
    }
}

impl Kernel {
    /// Opens it, with sockets whose receive buffers take so many bytes.
    pub(crate) fn open(receive_buffer: usize) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(receive_buffer)?, receive_buffer })
    }

    /// A number that no other kernel has, nor another network namespace of it. It is the same for the
    /// next process.
    pub(crate) fn number() -> std::io::Result<u64> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: String = boot.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let boot = u64::from_str_radix(&digits, 16).map_err(std::io::Error::other)?;
        Ok(boot ^ fs::metadata("/proc/thread-self/ns/net")?.ino())
    }

    /// Begins a listing of all entries.
    pub(crate) fn list(&self) -> Result<Listing, Error> {
        Ok(Listing { dump: self.dump()?, waiting: VecDeque::new(), given: Given::default() })
    }

    fn dump(&self) -> Result<Dump, Error> {
        Dump::begin(Socket::open(self.receive_buffer)?, Request::Dump)
    }

    /// The kernel's numbers of all entries.
    pub(crate) fn numbers(&self) -> Result<HashSet<u32>, Error> {
        let mut dump = self.dump()?;
        let mut numbers = HashSet::new();
        // One that the kernel gives again has the same number.
        let mut each = |message: &[u8]| {
            numbers.insert(Entry::parse(message)?.id);
            Ok(())
        };
        while dump.next(&mut each)? {}
        Ok(numbers)
    }

    /// Gives what each core has counted, by its number.
    pub(crate) fn statistics(
        &mut self,
        mut each: impl FnMut(u16, [u32; STATISTICS.len()]),
    ) -> Result<(), Error> {
        self.socket.ask(
            (Request::Statistics, 0),
            |_| {},
            |message| {
                let (header, attributes) = message
                    .split_first_chunk::<NFGENMSG>()
                    .ok_or(Error::Malformed("a message is cut"))?;
                let all = Attributes::parse(attributes)?;
                let mut counts = [0; STATISTICS.len()];
                for (count, (_, kind)) in counts.iter_mut().zip(STATISTICS) {
                    *count = all.u32(kind)?.unwrap_or_default();
                }
                each(u16::from_be_bytes([header[2], header[3]]), counts);
                Ok(())
            },
        )
    }
}

impl Table for Kernel {
    fn find(&mut self, tuple: &Tuple, zone: u16) -> Result<Option<Entry>, Error> {
        let mut found = None;
        let put = |out: &mut _| put_tuple(tuple, zone, out);
        let asked = self.socket.ask((Request::Find, tuple.family()), put, |message| {
            found = Some(Entry::parse(message)?);
            Ok(())
        });
        match asked {
            Ok(()) => Ok(found),
            Err(Error::Refused(Errno::NOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self, entry: &Entry) -> Result<(), Error> {
        let family = entry.original.family();
        self.socket.ask((Request::Create, family), |out| entry.put(out), |_| Ok(()))
    }

    fn delete(&mut self, entry: &Entry) -> Result<bool, Error> {
        let family = entry.original.family();
        let asked =
            self.socket.ask((Request::Delete, family), |out| entry.put_name(out), |_| Ok(()));
        match asked {
            Ok(()) => Ok(true),
            Err(Error::Refused(Errno::NOENT)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Listing {
    /// The next entry, each once; none when that was all.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            while let Some(entry) = self.waiting.pop_front() {
                if self.given.is_new(&entry) {
                    return Ok(Some(entry));
                }
            }
            let waiting = &mut self.waiting;
            let more = self.dump.next(|message| {
                waiting.push_back(Entry::parse(message)?);
                Ok(())
            })?;
            if !more {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
