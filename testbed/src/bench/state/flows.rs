//! The flows whose state is measured.

use anyhow::{Result, ensure};
use weir_dataplane::instance::digest::digest;

use crate::flow::DESTINATION_PORTS;
use crate::packet_socket::arriving_udp;
use crate::topology::{HOSTS, Topology};
use crate::traffic::{Options, Traffic, warm_up};
use crate::wait::{LIMIT, until};

/// Hosts that send to each other: the first ones.
const USED: usize = 2;
/// Packets a second.
const RATE: u64 = 40_000;
/// Packets that are sent before it is looked again whether each flow has had one, for each flow.
const BETWEEN_LOOKS: usize = 8;

const _: () = assert!(USED <= HOSTS);

/// Makes UDP flows through a router, one in four of IPv6, each of which has sent a packet when this
/// returns; how many: the number is rounded up to an even one.
///
/// # Errors
/// When packets are lost.
pub(super) fn make(topology: &Topology, flows: usize, seed: u64) -> Result<usize> {
    warm_up(topology)?;
    let filter = arriving_udp(*DESTINATION_PORTS.start(), *DESTINATION_PORTS.end());
    let sockets = topology.hosts.iter().take(USED).map(|host| host.socket(&filter));
    let options = Options::new(flows, RATE, seed, digest);
    let mut traffic = Traffic::over(sockets.collect::<Result<_>>()?, options)?;
    let mut enough = 0;
    loop {
        enough += (BETWEEN_LOOKS * flows) as u64;
        until("each flow to be sent", LIMIT, || (traffic.sent() >= enough).then_some(()))?;
        let report = traffic.settle()?;
        ensure!(report.lost == 0, "{} packets were lost", report.lost);
        if report.states.iter().all(|(_, state)| state.packets > 0) {
            return Ok(report.states.len());
        }
        traffic.resume();
    }
}
