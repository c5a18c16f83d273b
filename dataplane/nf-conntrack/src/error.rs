//! Why the kernel has not done what it was asked.

use rustix::io::Errno;

/// Why the kernel has not done what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call fails.
    #[error("{call}: {errno}")]
    System {
        /// Which one.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The kernel refuses the request.
    #[error("the kernel refuses it: {0}")]
    Refused(Errno),
    /// What the kernel says is not what it should be.
    #[error("the kernel's answer is malformed: {0}")]
    Malformed(&'static str),
    /// The receive buffer could not take all that the kernel said; some of it is lost.
    #[error("the receive buffer was overrun: ask again, or make it larger")]
    Overrun,
    /// The table changed so much that the listing is not whole.
    #[error("the listing was interrupted: ask again")]
    Interrupted,
    /// An entry made room for another, which could not be made, and then not be made again.
    #[error("an entry that was to be replaced is lost: put the flow again")]
    Lost,
    /// The agent lacks what it needs.
    #[error("connection tracking needs the capability CAP_NET_ADMIN in its network namespace")]
    NotPermitted,
}

impl Error {
    pub(crate) fn system(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| match errno {
            Errno::PERM => Self::NotPermitted,
            Errno::NOBUFS => Self::Overrun,
            errno => Self::System { call, errno },
        }
    }

    /// What the kernel answers with a number.
    pub(crate) fn refused(errno: Errno) -> Self {
        if errno == Errno::PERM { Self::NotPermitted } else { Self::Refused(errno) }
    }
}
