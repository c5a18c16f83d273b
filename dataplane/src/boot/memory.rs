//! The memory of all frames, which is of one kind for the whole process.

use weir_frame::{Frame, Region};
use weir_xdp::LiveMemory;

use super::BootError;
use super::af_xdp::Attached;
use crate::config::Config;

/// Packet memory.
pub(super) enum Memory {
    /// Memory of the process, in huge pages where it may and can.
    Own(Region),
    /// Memory that the program of live frames can read.
    Live(LiveMemory),
}

impl Memory {
    /// Takes the memory that the ports need, and hands out all its frames.
    pub(super) fn take(
        config: &Config,
        attached: &[Attached<'_>],
    ) -> Result<(Self, Vec<Frame>), BootError> {
        let memory = config.memory();
        let (frames, size) = (memory.frames, memory.frame_size);
        let taken = if attached.iter().any(Attached::is_live) {
            LiveMemory::new(frames, size).map(|(live, all)| (Self::Live(live), all))
        } else {
            let own = Region::anonymous(frames, size, memory.huge_pages);
            own.map(|(region, all)| (Self::Own(region), all))
        };
        taken.map_err(|source| BootError::Memory { frames, bytes: size.bytes(), source })
    }

    /// The region of the frames.
    pub(super) fn region(&self) -> &Region {
        match self {
            Self::Own(region) => region,
            Self::Live(live) => live.region(),
        }
    }
}
