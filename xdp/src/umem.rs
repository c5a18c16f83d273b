//! The packet memory that all sockets of a process share, and the sizes of their rings.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use weir_frame::Region;

use crate::error::Error;
use crate::socket::Connection;
use crate::sys;

/// Packet memory that the sockets of all ports receive into and send from.
///
/// The first socket registers it with the kernel; the others join that socket.
#[derive(Clone, Debug)]
pub struct Umem {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    region: Region,
    zero_copy: bool,
    members: Mutex<Vec<Weak<Connection>>>,
}

impl Umem {
    /// Makes packet memory of `region`. Zero-copy holds for all sockets, so every program must
    /// be attached in [`Mode::ZeroCopy`](crate::Mode::ZeroCopy).
    #[must_use]
    pub fn new(region: &Region, zero_copy: bool) -> Umem {
        sys::raise_memlock();
        let region = region.clone();
        Umem { inner: Arc::new(Inner { region, zero_copy, members: Mutex::default() }) }
    }

    /// The region of the frames.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.inner.region
    }

    /// Whether devices read and write the memory themselves.
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.inner.zero_copy
    }

    /// The sockets bound to this memory, locked while another is.
    pub(crate) fn members(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        let mut members = self.inner.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members
    }
}

/// Slots of the rings of a socket, each a power of two.
///
/// A ring holds `rate × longest stall` packets without loss: where the scheduler takes a worker
/// off its core for 8 ms, 8,192 slots are good for a million packets a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Received packets; not below `fill`, so that it never overflows.
    pub rx: u32,
    /// Empty chunks, which is what a queue borrows from the pool.
    pub fill: u32,
    /// Packets to send.
    pub tx: u32,
    /// Chunks whose packets have left; not below `tx`.
    pub completion: u32,
}

impl Default for RingSizes {
    fn default() -> RingSizes {
        RingSizes { rx: 8192, fill: 8192, tx: 2048, completion: 2048 }
    }
}

impl RingSizes {
    pub(crate) fn check(self) -> Result<(), Error> {
        let RingSizes { rx, fill, tx, completion } = self;
        let powers = [rx, fill, tx, completion].iter().all(|size| size.is_power_of_two());
        if powers && rx >= fill && completion >= tx {
            return Ok(());
        }
        Err(Error::RingSizes { rx, fill, tx, completion })
    }

    pub(crate) fn set(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        sys::set_option(fd, libc::XDP_UMEM_FILL_RING, &self.fill)?;
        sys::set_option(fd, libc::XDP_UMEM_COMPLETION_RING, &self.completion)?;
        sys::set_option(fd, libc::XDP_RX_RING, &self.rx)?;
        sys::set_option(fd, libc::XDP_TX_RING, &self.tx)
    }
}

/// Registers a region as the UMEM of a socket.
///
/// The kernel writes to chunks named in the fill ring only, which are lent frames; and pins the
/// pages, so it never writes to memory that went to another use.
pub(crate) fn register(fd: BorrowedFd<'_>, region: &Region) -> io::Result<()> {
    let (base, bytes) = region.area();
    let registration = libc::xdp_umem_reg {
        addr: base.as_ptr() as u64,
        len: bytes as u64,
        chunk_size: region.frame_size().bytes() as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    sys::set_option(fd.as_fd(), libc::XDP_UMEM_REG, &registration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_that_do_not_fit_together_are_refused() {
        let good = RingSizes::default();
        assert!(good.check().is_ok());
        for bad in [
            RingSizes { rx: 1000, ..good },
            RingSizes { fill: 16384, ..good },
            RingSizes { completion: 1024, ..good },
            RingSizes { tx: 0, ..good },
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.contains("powers of two"), "{text}");
        }
    }
}
