//! The system calls that AF_XDP sockets need, each as a safe function.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use libc::{c_int, c_void, socklen_t};

/// Opens an AF_XDP socket.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    owned(fd)
}

/// Takes a descriptor that a system call has made.
pub(crate) fn owned(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call that returned it made it for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an option of an AF_XDP socket.
pub(crate) fn set_option<T: Copy>(fd: BorrowedFd<'_>, name: c_int, value: &T) -> io::Result<()> {
    let (value, len) = (ptr::from_ref(value).cast::<c_void>(), size_of::<T>() as socklen_t);
    // SAFETY: `value` points to `len` readable bytes for the time of the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, value, len) })
}

/// Plain structures that the kernel fills in as options of an AF_XDP socket.
///
/// # Safety
/// Every bit pattern is a value of the type.
pub(crate) unsafe trait Answer: Copy {}

// SAFETY: integers only.
unsafe impl Answer for libc::xdp_mmap_offsets {}
// SAFETY: integers only.
unsafe impl Answer for libc::xdp_statistics {}

/// Reads an option of an AF_XDP socket.
pub(crate) fn option<T: Answer>(fd: BorrowedFd<'_>, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as socklen_t;
    let into = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: `into` points to `len` writable bytes for the time of the call.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, into, &raw mut len) })?;
    if (len as usize) < size_of::<T>() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a kernel before Linux 5.9"));
    }
    // SAFETY: the kernel has written it whole, and any bits will do (`Answer`).
    Ok(unsafe { value.assume_init() })
}

/// Binds an AF_XDP socket to a queue of a device.
pub(crate) fn bind(
    fd: BorrowedFd<'_>,
    device: u32,
    queue: u32,
    flags: u16,
    shared: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: device,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    let len = size_of_val(&address) as socklen_t;
    // SAFETY: the address is a structure of `len` bytes that lives for the time of the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })
}

/// Asks the kernel to send what is in the tx ring; it takes 32 descriptors at most.
#[inline]
pub(crate) fn kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let (fd, flags) = (fd.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: a message of no bytes to no address: the null pointers are not followed.
    let sent = unsafe { libc::sendto(fd, ptr::null(), 0, flags, ptr::null(), 0) };
    check(sent as c_int)
}

/// Tells the kernel that the fill ring has been stocked.
pub(crate) fn kick_rx(fd: BorrowedFd<'_>) {
    let (fd, flags) = (fd.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: as in `kick_tx`. The answer says nothing that the rings do not.
    unsafe { libc::recvfrom(fd, ptr::null_mut(), 0, flags, ptr::null_mut(), ptr::null_mut()) };
}

/// Raises the limit on locked memory, against which a UMEM counts, as far as it goes.
pub(crate) fn raise_memlock() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives for the time of the call. If it is refused, the registration
    // of the UMEM says so.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// Memory mapped from a socket, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns the mapping, which any thread may use and unmap.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the `len` bytes of a ring, which is at `offset`.
    pub(crate) fn ring(fd: BorrowedFd<'_>, len: usize, offset: u64) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let (fd, offset) = (fd.as_raw_fd(), offset as libc::off_t);
        // SAFETY: a new mapping, at an address that the kernel chooses, touches no memory that
        // anything else uses.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Mapping { start, len })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `ring` with this length, unmapped here only; whoever has pointers
        // into it owns the mapping (`ring::Shared`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Memory with a page behind it that nobody can write, so that the kernel stops there.
#[derive(Debug)]
pub(crate) struct Guarded {
    start: NonNull<u8>,
    /// Without the page behind it.
    len: usize,
}

impl Guarded {
    const PAGE: usize = 4096;

    /// Maps zeroed memory of `len` bytes and more.
    pub(crate) fn new(len: usize) -> io::Result<Guarded> {
        let len = len.next_multiple_of(Self::PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let (all, none) = (len + Self::PAGE, libc::PROT_NONE);
        // SAFETY: a new mapping, at an address that the kernel chooses, touches no memory that anything
        // else uses.
        let start = unsafe { libc::mmap(ptr::null_mut(), all, none, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        let guarded = Guarded { start, len };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the first `len` bytes of the mapping, to which nobody has a reference yet.
        check(unsafe { libc::mprotect(start.as_ptr().cast(), len, protection) })?;
        Ok(guarded)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: that many bytes are mapped, initialised to zero, and may be read while `self` is there.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; they may be written, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, unmapped here only; references are gone with `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len + Self::PAGE) };
    }
}

pub(crate) fn check(answer: c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Repeats `attempt` while it ends in EBUSY, for a second.
pub(crate) fn while_busy<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const ATTEMPTS: u32 = 100;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the kernel tells nobody of release"
                )]
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
    attempt()
}
