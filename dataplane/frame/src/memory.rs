//! The bytes behind a region.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Bytes of alignment of all memory: the page that UMEM registration asks for.
const PAGE: usize = 4096;
/// Bytes of a huge page, to whole multiples of which a huge mapping is rounded up.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory, aligned to pages, that is freed on drop.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Heap(Layout),
    Mapped(usize),
}

impl Memory {
    /// Allocates `bytes`, more than 0, on the heap.
    pub(crate) fn heap(bytes: usize) -> Memory {
        assert!(bytes > 0, "memory has at least one byte");
        let layout = Layout::from_size_align(bytes, PAGE).expect("fits the address space");
        // SAFETY: the layout has a size above 0: asserted.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Memory { base, backing: Backing::Heap(layout) }
    }

    /// Maps `bytes` and faults them in.
    pub(crate) fn map(bytes: usize, huge: HugePages) -> io::Result<Memory> {
        match huge {
            HugePages::Try => {
                Memory::anonymous(bytes.next_multiple_of(HUGE_PAGE), libc::MAP_HUGETLB)
                    .or_else(|_| Memory::anonymous(bytes, 0))
            }
            HugePages::Off => Memory::anonymous(bytes, 0),
        }
    }

    /// Maps the first `bytes` of what a descriptor names, and faults them in.
    pub(crate) fn shared(bytes: usize, fd: BorrowedFd<'_>) -> io::Result<Memory> {
        Memory::mapping(bytes, libc::MAP_SHARED, fd.as_raw_fd())
    }

    /// Where the memory begins.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn anonymous(bytes: usize, flags: libc::c_int) -> io::Result<Memory> {
        Memory::mapping(bytes, flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn mapping(bytes: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Memory> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_POPULATE;
        // SAFETY: a new mapping, at an address that the kernel chooses, touches no memory that
        // anything else uses.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Memory { base, backing: Backing::Mapped(bytes) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.backing {
            // SAFETY: allocated in `heap` with this layout, and freed here only.
            Backing::Heap(layout) => unsafe { dealloc(self.base.as_ptr(), layout) },
            Backing::Mapped(bytes) => {
                // SAFETY: mapped in `mapping` with this length, and unmapped here only; nobody can
                // reach it (its owner is gone).
                unsafe { libc::munmap(self.base.as_ptr().cast(), bytes) };
            }
        }
    }
}

/// Whether a mapped region asks for huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Huge pages if the machine has enough of them reserved, else normal ones.
    Try,
    /// Normal pages.
    Off,
}
