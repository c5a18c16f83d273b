//! Putting flows into a table of connections, and taking them out.

use rustix::io::Errno;

use crate::carried::Carried;
use crate::entry::Entry;
use crate::error::Error;
use crate::tuple::Tuple;

/// How often an entry is made anew that a packet was faster to make. Packets that are held, as
/// those of a flow that moves should be, make none.
const TRIES: usize = 3;

/// What holds entries: the kernel.
pub(crate) trait Table {
    /// The entry of which a tuple is the original or that of replies.
    fn find(&mut self, tuple: &Tuple, zone: u16) -> Result<Option<Entry>, Error>;
    /// Makes an entry; fails with `EXIST` where another has one of its tuples.
    fn create(&mut self, entry: &Entry) -> Result<(), Error>;
    /// Ends this very entry; whether it was there.
    fn delete(&mut self, entry: &Entry) -> Result<bool, Error>;
}

/// Why a flow is not taken in. Nothing has changed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another flow has one of its tuples.
    Clash(String),
    /// There is no room in the kernel, or for what it has counted.
    Full,
    /// It has a part that can not be had here.
    Unsupported(String),
    /// The kernel says that it is malformed.
    Malformed(Errno),
    /// What there is is later, and of this version.
    Older(u64),
    /// The kernel does not do it, whatever the flow: what was there is restored if it lets us.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(Errno::NOMEM) => Self::Full,
            Error::Refused(
                errno @ (Errno::INVAL | Errno::RANGE | Errno::OPNOTSUPP | Errno::BUSY),
            ) => Self::Malformed(errno),
            error => Self::Failed(error),
        }
    }
}

/// Flows, with all that they have counted.
#[derive(Debug)]
pub(crate) struct Flows<T> {
    pub(crate) table: T,
    pub(crate) carried: Carried,
}

impl<T: Table> Flows<T> {
    /// Puts a flow in, in the place of the entry with its tuples if there is one, unless that is later:
    /// of a later version of the same connection, where 0 is as late as any, or of a connection that
    /// began later. Where nobody knows when connections began, what is put is the later.
    ///
    /// The two steps, the end of the old entry and the beginning of the new one, are apart: a
    /// process that is killed in between leaves none, and putting the flow again makes it.
    pub(crate) fn put(&mut self, entry: &Entry, version: u64) -> Result<(), Refusal> {
        if let Some(obstacle) = &entry.obstacle {
            return Err(Refusal::Unsupported(obstacle.clone()));
        }
        if entry.timeout.is_none() {
            return Err(Refusal::Unsupported("no time that is left".to_owned()));
        }
        if !self.carried.has_room(entry) {
            return Err(Refusal::Full);
        }
        let old = self.own(entry)?.map(|old| self.carried.complete(old));
        if let Some(old) = &old {
            let is_older = match old.connection == entry.connection {
                true => (1..old.version()).contains(&version),
                false => entry.connection.is_before(old.connection),
            };
            if is_older {
                return Err(Refusal::Older(old.version()));
            }
            self.table.delete(old)?;
        }
        let made = self.create(entry);
        match (made, old) {
            (Ok(made), _) => {
                self.carried.keep(&made, entry);
                Ok(())
            }
            (Err(refusal), None) => Err(refusal),
            (Err(refusal), Some(old)) => {
                // What there was is as good as before, but for what else the kernel knew of it.
                let restored = self.create(&old).map_err(|_| Refusal::Failed(Error::Lost))?;
                self.carried.keep(&restored, &old);
                Err(refusal)
            }
        }
    }

    /// Ends the entry that has a tuple in either direction; whether there was one.
    pub(crate) fn delete(&mut self, tuple: &Tuple, zone: u16) -> Result<bool, Error> {
        let Some(entry) = self.table.find(tuple, zone)? else { return Ok(false) };
        self.carried.forget(&entry);
        self.table.delete(&entry)
    }

    /// The entry in whose place another comes. No other flow may have any of its tuples.
    fn own(&mut self, entry: &Entry) -> Result<Option<Entry>, Refusal> {
        let mut own = None;
        for tuple in [&entry.original, &entry.reply] {
            match self.table.find(tuple, entry.zone)? {
                Some(found) if found.original == entry.original => own = Some(found),
                Some(other) => return Err(clash(&other)),
                None => {}
            }
        }
        Ok(own)
    }

    /// Makes an entry, and makes sure that it is what it should be.
    fn create(&mut self, entry: &Entry) -> Result<Entry, Refusal> {
        for _ in 0..TRIES {
            match self.table.create(entry) {
                Ok(()) => return self.made(entry),
                Err(Error::Refused(Errno::EXIST)) => {}
                Err(error) => return Err(error.into()),
            }
            // A packet came first.
            if let Some(hasty) = self.own(entry)? {
                self.table.delete(&hasty)?;
            }
        }
        Err(Refusal::Clash("packets of the flow itself make its entry again and again".to_owned()))
    }

    /// The entry that the kernel has made. It chooses another translation where the one that it is
    /// told is taken, and leaves labels out that no rule of the namespace uses.
    fn made(&mut self, entry: &Entry) -> Result<Entry, Refusal> {
        let Some(made) = self.table.find(&entry.original, entry.zone)? else {
            // It has ended at once, such as by a packet that ends the connection.
            return Ok(entry.clone());
        };
        let refusal = if made.reply != entry.reply {
            Refusal::Clash("its translation, which the kernel gives another".to_owned())
        } else if made.labels != entry.labels {
            Refusal::Unsupported("labels, as no rule here uses them".to_owned())
        } else {
            return Ok(made);
        };
        self.table.delete(&made)?;
        Err(refusal)
    }
}

fn clash(other: &Entry) -> Refusal {
    let id = other.original.id(other.zone);
    let name = id.map_or_else(|| format!("{:?}", other.original), |id| id.to_string());
    Refusal::Clash(format!("{name} has a tuple of it"))
}

#[cfg(test)]
mod tests;
