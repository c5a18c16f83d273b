//! Figures over all flows, by who has counted them.

use crate::nf::schema::ASSETS_TOTALS;
use crate::nf::totals::totals;

totals! {
    ASSETS_TOTALS;
    /// Packets.
    packets,
    /// Payloads that were looked at.
    looked_at,
    /// Payloads that were recognised.
    recognised,
    /// SYNs and SYN+ACKs.
    handshakes,
    /// SYNs and SYN+ACKs whose fingerprint the table does not have.
    unmatched,
    /// Hosts that were learned.
    learned_hosts,
    /// Services, and names of services, that were learned.
    learned_services,
    /// Clients that were learned.
    learned_clients,
    /// Times that the system of a host was learned, or seemed to be another.
    learned_systems,
    /// Packets of hosts that there was no room for.
    hosts_full,
    /// Fingerprints, services, names and clients that were left out, as a host has only so many.
    left_out,
    /// Hosts that were forgotten.
    forgotten,
    /// Records that there was no room for.
    lost_records,
}
