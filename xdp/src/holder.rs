//! Who holds a device's XDP hook.

use std::fmt;
use std::os::fd::BorrowedFd;

use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo, ProgInfoIter};
use libbpf_rs::{Xdp, XdpFlags};

use crate::device::Device;

/// How the names of our XDP programs begin, as the kernel tells them.
const OUR_PROGRAM: &str = "weir_xdp";

/// The XDP program that is attached to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The kernel's number of the program.
    pub program_id: u32,
    /// Its name.
    pub program: String,
    /// What keeps it there.
    pub attachment: Attachment,
}

/// What keeps an XDP program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Nothing but the device: it was attached by netlink and outlives who did it.
    Netlink {
        /// In generic mode.
        generic: bool,
    },
    /// A BPF link, which a process has open or a pin keeps.
    Link {
        /// The kernel's number of the link.
        id: u32,
    },
}

impl Holder {
    /// Finds who holds `device`; any XDP program will do to ask with.
    pub(crate) fn find(
        device: &Device,
        program: BorrowedFd<'_>,
    ) -> Result<Option<Holder>, libbpf_rs::Error> {
        let index = device.index();
        let answer = Xdp::new(program).query(index as i32, XdpFlags::NONE)?;
        let generic = answer.attach_mode == libbpf_rs::libbpf_sys::XDP_ATTACHED_SKB as u8;
        let ids = [answer.drv_prog_id, answer.hw_prog_id, answer.skb_prog_id, answer.prog_id];
        let Some(id) = ids.into_iter().find(|id| *id != 0) else {
            return Ok(None);
        };
        let name = ProgInfoIter::default()
            .find(|program| program.id == id)
            .map_or_else(String::new, |found| found.name.to_string_lossy().into_owned());
        let link = LinkInfoIter::default().find(|link| {
            link.prog_id == id
                && matches!(&link.info, LinkTypeInfo::Xdp(xdp) if xdp.ifindex == index)
        });
        let attachment = match link {
            Some(link) => Attachment::Link { id: link.id },
            None => Attachment::Netlink { generic },
        };
        Ok(Some(Holder { program_id: id, program: name, attachment }))
    }

    /// Whether the program is one of ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.program.starts_with(OUR_PROGRAM)
    }

    pub(crate) fn is_link(&self) -> bool {
        matches!(self.attachment, Attachment::Link { .. })
    }

    /// The command that takes the program off `device`.
    #[must_use]
    pub fn remedy(&self, device: &str) -> String {
        match self.attachment {
            Attachment::Netlink { generic: false } => format!("ip link set dev {device} xdp off"),
            Attachment::Netlink { generic: true } => {
                format!("ip link set dev {device} xdpgeneric off")
            }
            Attachment::Link { id } => format!("bpftool link detach id {id}"),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the XDP program {:?} (id {})", self.program, self.program_id)?;
        match self.attachment {
            Attachment::Netlink { .. } => Ok(()),
            Attachment::Link { id } => write!(formatter, ", attached by link {id}"),
        }
    }
}
