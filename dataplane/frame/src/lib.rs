//! Packet memory: a region of equal chunks, the frames that own them, and the ledgers and pools
//! that know where each frame is.
//!
//! Every chunk of a [`Region`] has exactly one [`Frame`], handed out when the region is made.
//! Nothing here makes a second one, so the number of frames in free lists, rings and hands is
//! always the region's size; a frame that is merely dropped comes home to the region.
#![expect(unsafe_code, reason = "packet memory is shared with the kernel and addressed by hand")]

/// The cycle counter of the processor and its frequency.
pub mod cycles;
mod frame;
mod homes;
mod loans;
mod memory;
mod pool;
mod prefetch;
mod reclaim;
mod region;
mod sync;

pub use frame::{Frame, HEADROOM, NoRoom};
pub use homes::{HomeId, Homes, PARTITIONS};
pub use loans::{BadDescriptor, Loans};
pub use memory::HugePages;
pub use pool::Pool;
pub use prefetch::prefetch;
pub use region::{FrameSize, Reclaimed, Region};
