//! AF_XDP sockets over one UMEM, and the XDP program that feeds them.
//!
//! A port is opened in five steps: [`Device::find`], [`Program::attach`] (one a device),
//! [`Umem::new`] (one a process, over the region of all frames), [`Socket::open`] (one a queue)
//! and [`Program::connect`]. `examples/forward.rs` shows them.
//!
//! What makes veth fast and lossless is built in: the native program starts NAPI; sockets share
//! one UMEM with rings of their own and ask for copy mode where the device has no zero-copy;
//! transmission is repeated until the ring is empty, since the kernel takes 32 descriptors a
//! call; a queue that was just released is asked for again. Two things are the peer's: a kernel
//! host on a veth sends partial checksums, which the receiver has to complete, and its MTU and
//! number of queues have bounds, which the errors name.
#![expect(unsafe_code, reason = "rings and packet memory are shared with the kernel")]

mod device;
mod error;
mod holder;
mod live;
mod probe;
mod program;
mod receiver;
/// The rings between user space and the kernel.
pub mod ring;
mod sender;
mod socket;
mod sync;
mod sys;
mod taken;
mod umem;
mod ways;

pub use device::Device;
pub use error::{Error, Step};
pub use holder::{Attachment, Holder};
pub use live::{LiveMemory, LiveTx};
pub use probe::{Mode, ProbeNote};
pub use program::{LiveState, Outcomes, Program};
pub use sender::TxCounters;
pub use socket::{Rx, Socket, Statistics, Tx};
pub use umem::{RingSizes, Umem};
pub use ways::LiveCounters;
