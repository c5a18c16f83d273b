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
    /// Takes the memory that the ports need, and hands out all its frames. Where there is none for live
    /// frames, ports that can do without do.
    pub(super) fn take(
        config: &Config,
        attached: &mut [Attached<'_>],
    ) -> Result<(Self, Vec<Frame>), BootError> {
        let memory = config.memory();
        if attached.iter().any(Attached::is_live) {
            match LiveMemory::new(memory.frames, memory.frame_size) {
                Ok((live, frames)) => return Ok((Self::Live(live), frames)),
                Err(error) => {
                    let why = format!("no packet memory for live frames: {error}");
                    attached.iter_mut().try_for_each(|port| port.without_live(&why))?;
                }
            }
        }
        Region::anonymous(memory.frames, memory.frame_size, memory.huge_pages)
            .map(|(region, frames)| (Self::Own(region), frames))
            .map_err(|source| BootError::Memory {
                frames: memory.frames,
                bytes: memory.frame_size.bytes(),
                source,
            })
    }

    /// The region of the frames.
    pub(super) fn region(&self) -> &Region {
        match self {
            Self::Own(region) => region,
            Self::Live(live) => live.region(),
        }
    }
}
