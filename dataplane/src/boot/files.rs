//! Opens the ports on capture files.

use std::path::Path;

use weir_state_transfer::PortId;

use super::{BootError, Opened};
use crate::config::{Checksums, Port};
use crate::node::WayOut;
use crate::packet::MacAddr;
use crate::port::pcap::{CaptureError, PcapRx, PcapTx};
use crate::port::{Rx, RxQueue, Tx, TxQueue};

/// Longest IP packet of such a port unless it says otherwise, in bytes.
const MTU: u16 = 1500;

/// Opens a port that replays `rx` and writes `tx`.
pub(super) fn open(
    id: PortId,
    port: &Port,
    rx: Option<&Path>,
    tx: Option<&Path>,
    mac: Option<MacAddr>,
) -> Result<Opened, BootError> {
    let failed = |source: CaptureError| BootError::Capture { port: port.name.to_string(), source };
    let rx = rx.map_or(Ok(PcapRx::none()), PcapRx::open).map_err(failed)?;
    let tx = tx.map_or(Ok(PcapTx::none()), PcapTx::create).map_err(failed)?;
    // What was captured at a sender may have checksums that its hardware completed later.
    let complete = match port.checksums {
        Checksums::Complete => true,
        Checksums::Auto | Checksums::Trust => false,
    };
    let queue =
        (RxQueue::new(id, 0, complete, Rx::Pcap(rx)), TxQueue::new(id, Tx::Pcap(Box::new(tx))));
    Ok(Opened {
        id,
        config: port.clone(),
        // Administered locally (IEEE 802, section 8.4).
        mac: mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, id.0])),
        mtu: port.mtu.unwrap_or(MTU),
        mode: "file".to_owned(),
        mode_notes: Vec::new(),
        way_out: WayOut::One,
        queues: vec![queue],
        kernel: None,
    })
}
