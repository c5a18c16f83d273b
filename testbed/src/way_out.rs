//! By which way the packets of nodes under test leave: said once for a whole run.

use std::env;

use anyhow::{Result, bail};

use crate::namespace::Namespace;

/// The variable that says it.
const VARIABLE: &str = "WEIR_TX";

/// What `--tx` of the data plane is, and what hosts are to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// As the data plane finds best: by the socket, as hosts that are as a kernel makes them take no live
    /// frames.
    Auto,
    /// As the data plane finds best between hosts that take live frames: bursts as such.
    Bursts,
    /// All as live frames, which the hosts take.
    Frames,
}

impl WayOut {
    /// That of this run: what `WEIR_TX` names, or `auto`.
    ///
    /// # Errors
    /// When it asks for anything else.
    pub fn of_run() -> Result<Self> {
        match env::var(VARIABLE).as_deref() {
            Err(env::VarError::NotPresent) | Ok("auto") => Ok(Self::Auto),
            Ok("bursts") => Ok(Self::Bursts),
            Ok("frames") => Ok(Self::Frames),
            other => bail!("{VARIABLE} is auto, bursts or frames, and not {other:?}"),
        }
    }

    /// The value of `--tx`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto | Self::Bursts => "auto",
            Self::Frames => "frames",
        }
    }

    /// Prepares a device of a host. A kernel host takes live frames with GRO on.
    ///
    /// # Errors
    /// When the setting is refused.
    pub fn prepare(self, host: &Namespace, device: &str) -> Result<()> {
        match self {
            Self::Auto => Ok(()),
            Self::Bursts | Self::Frames => {
                host.run(&format!("ethtool -K {device} gro on")).map(drop)
            }
        }
    }
}
