//! Figures over all flows, by who has counted them.

use weir_state_transfer::merge::Lives;

use crate::nf::schema::IDS_TOTALS;
use crate::nf::totals::totals;

totals! {
    IDS_TOTALS;
    /// Packets.
    packets,
    /// Bytes from the IP header on.
    ip_bytes,
    /// Packets that were fragments.
    fragments,
    /// ICMP errors about packets of connections.
    icmp_errors,
    /// Connections that have begun.
    connections,
    /// Connections that have ended, or did not come to be behind a NAT: those have no record.
    ended,
    /// HTTP transactions.
    transactions,
    /// Connections that did not come about.
    failed,
    /// Failed connections whose source there was no room to watch.
    unwatched,
    /// Connections whose streams were given up, as there was no memory for them.
    without_memory,
    /// Records that there was no room for.
    lost_records,
}

impl Totals {
    /// Lives whose counts have been taken over.
    pub(super) fn retired(&self) -> &Lives {
        self.packets.retired()
    }
}
