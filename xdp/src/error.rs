//! What can go wrong when a port is opened, in words.

use std::fmt;
use std::io;

use crate::holder::Holder;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a step.
    #[error("{step} on {place}: {source}; {}", meaning(*.step, source))]
    Step {
        /// What was tried.
        step: Step,
        /// The device, and its queue if the step concerns one.
        place: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The XDP program could not be loaded or queried.
    #[error("XDP program for {device}: {source}; loading needs root, or CAP_BPF and CAP_NET_ADMIN")]
    Bpf {
        /// The device.
        device: String,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
    /// A program that is not ours is on the device.
    #[error("{device} is held by {holder}; remove it with `{}`, or use another device",
        holder.remedy(device))]
    Held {
        /// The device.
        device: String,
        /// The program.
        holder: Holder,
    },
    /// A running process has our program on the device.
    #[error("{device} is in use by another Weir process ({holder}); stop that process first")]
    InUse {
        /// The device.
        device: String,
        /// The program.
        holder: Holder,
    },
    /// The sizes of the rings do not fit together.
    #[error(
        "ring sizes {rx} rx, {fill} fill, {tx} tx, {completion} completion: \
        powers of two are needed, rx not below fill, completion not below tx"
    )]
    RingSizes {
        /// Slots of the rx ring.
        rx: u32,
        /// Slots of the fill ring.
        fill: u32,
        /// Slots of the tx ring.
        tx: u32,
        /// Slots of the completion ring.
        completion: u32,
    },
}

/// A step of opening a port that the kernel may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finding the device.
    Find,
    /// Setting the device up.
    BringUp,
    /// Attaching the XDP program.
    Attach,
    /// Taking off what an earlier run left.
    Detach,
    /// Opening an AF_XDP socket.
    Socket,
    /// Registering packet memory as UMEM.
    Umem,
    /// Making and mapping the rings.
    Rings,
    /// Binding the socket to its queue.
    Bind,
    /// Giving the socket to the XDP program.
    Connect,
    /// Asking whether the device takes live frames, and how many it has taken.
    AskLive,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Step::Find => "find the device",
            Step::BringUp => "set the device up",
            Step::Attach => "attach the XDP program",
            Step::Detach => "detach the XDP program of an earlier run",
            Step::Socket => "open an AF_XDP socket",
            Step::Umem => "register the UMEM",
            Step::Rings => "make the rings",
            Step::Bind => "bind the AF_XDP socket",
            Step::Connect => "give the socket to the XDP program",
            Step::AskLive => "ask about live frames",
        })
    }
}

/// What an error of the kernel means in a step, and what to do about it.
pub(crate) fn meaning(step: Step, error: &io::Error) -> &'static str {
    match (step, error.raw_os_error().unwrap_or(0)) {
        (Step::Find, libc::ENODEV) => "no such device in this network namespace",
        (_, libc::EPERM | libc::EACCES) => {
            "run as root, or with CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"
        }
        (Step::Attach, libc::ERANGE) => {
            "an MTU is too large for native XDP: on veth set the peer's to 3504 at most"
        }
        (Step::Attach, libc::ENOSPC) => {
            "the veth peer has more tx queues than this end has rx queues: give both ends as many"
        }
        (Step::Attach, libc::EBUSY) => "another program is attached by a link",
        (Step::Attach, libc::EEXIST) => "a program is attached in the other mode",
        (Step::Attach, libc::EOPNOTSUPP) => "the driver has no native XDP",
        (Step::Attach, libc::EINVAL) => "the driver or kernel knows no such attachment",
        (Step::Socket, libc::EAFNOSUPPORT) => "the kernel is built without AF_XDP",
        (Step::Umem, libc::ENOBUFS) => "the limit on locked memory is too low: raise `ulimit -l`",
        (Step::Umem, libc::ENOMEM) => "too little memory for the pool",
        (Step::Umem, libc::EINVAL) => "the memory is not aligned to pages or chunks",
        (Step::Rings, libc::EINVAL) => "a ring's size is not a power of two",
        (Step::Rings, libc::ENOMEM) => "too little memory for rings of this size",
        (Step::Bind, libc::EBUSY) => {
            "another process has an AF_XDP socket on this queue, or its rings are still mapped"
        }
        (Step::Bind, libc::EINVAL) => "the device has no such queue",
        (Step::Bind, libc::EOPNOTSUPP) => "the driver has no zero-copy",
        (Step::Bind, libc::ENODEV) => "the device is not in this network namespace",
        (Step::Connect, libc::E2BIG) => "the device had fewer queues when the program was attached",
        _ => "unexpected here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::Attachment;

    #[test]
    fn an_error_says_the_step_the_place_and_what_to_do() {
        let source = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = Error::Step { step: Step::Attach, place: "veth0".into(), source };
        let text = error.to_string();
        assert!(text.starts_with("attach the XDP program on veth0: No space left"), "{text}");
        assert!(text.ends_with("give both ends as many"), "{text}");
    }

    #[test]
    fn a_held_device_is_reported_with_the_command_that_frees_it() {
        let holder = Holder {
            program_id: 7,
            program: "xdp_firewall".into(),
            attachment: Attachment::Netlink { generic: true },
        };
        let text = Error::Held { device: "eth0".into(), holder }.to_string();
        assert!(text.contains("\"xdp_firewall\" (id 7)"), "{text}");
        assert!(text.contains("`ip link set dev eth0 xdpgeneric off`"), "{text}");
    }
}
