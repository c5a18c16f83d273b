//! By which way the packets of nodes under test leave: said once for a whole run.

use std::env;

use anyhow::{Result, bail};

use crate::namespace::Namespace;

/// The variable that says it.
const VARIABLE: &str = "WEIR_TX";

/// What `--tx` of the data plane is, and what hosts are to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// By the socket, to hosts that are as a kernel makes them.
    Socket,
    /// As live frames, which the hosts take.
    Frames,
}

impl WayOut {
    /// That of this run: what `WEIR_TX` names, or the socket.
    ///
    /// # Errors
    /// When it asks for anything else.
    pub fn of_run() -> Result<Self> {
        match env::var(VARIABLE).as_deref() {
            Err(env::VarError::NotPresent) | Ok("socket") => Ok(Self::Socket),
            Ok("frames") => Ok(Self::Frames),
            other => bail!("{VARIABLE} is socket or frames, and not {other:?}"),
        }
    }

    /// The value of `--tx`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Frames => "frames",
        }
    }

    /// Queues of a port that is to have so many: live frames leave by one.
    pub fn queues(self, wanted: u32) -> u32 {
        match self {
            Self::Socket => wanted,
            Self::Frames => 1,
        }
    }

    /// Prepares a device of a host. A kernel host takes live frames with GRO on.
    ///
    /// # Errors
    /// When the setting is refused.
    pub fn prepare(self, host: &Namespace, device: &str) -> Result<()> {
        match self {
            Self::Socket => Ok(()),
            Self::Frames => host.run(&format!("ethtool -K {device} gro on")).map(drop),
        }
    }
}
