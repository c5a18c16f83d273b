//! The ports of a node: which worker polls, transmits and answers for each.

use std::fmt;
use std::sync::Arc;

use weir_api::dataplane::v1 as api;
use weir_state_transfer::{PortId, WorkerId};

use super::Node;
use super::live::{LiveGauges, STOPPED, Watched};
use crate::counters::{RxCounters, TxCounters};
use crate::neighbour::Owner;
use crate::packet::MacAddr;
use crate::port::{FarQueue, RxQueue, TxQueue};
use crate::worker::Command;

/// An opened port, to be taken by the node.
pub struct PortSetup {
    /// Its number.
    pub id: PortId,
    /// Its name.
    pub name: String,
    /// The kind of port: af_xdp, pcap or memory.
    pub backend: &'static str,
    /// The kernel's device, empty when there is none.
    pub device: String,
    /// Its link address.
    pub mac: MacAddr,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<ipnet::IpNet>,
    /// The longest packet that leaves by it, from the network header on, in bytes.
    pub mtu: u16,
    /// How packets come in, and what was tried before.
    pub mode: String,
    /// For each step of the ladder that failed, why.
    pub mode_notes: Vec<String>,
    /// Its queues.
    pub queues: Vec<(RxQueue, TxQueue)>,
    /// Its neighbours' state machine.
    pub owner: Owner,
    /// By which way packets leave.
    pub way_out: WayOut,
    /// Asks the kernel about the device, if there is one.
    pub kernel: Option<Arc<dyn Kernel>>,
}

/// The way by which the packets of a port leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// The one that there is.
    One,
    /// The socket.
    Socket,
    /// Live frames.
    Frames,
}

impl WayOut {
    /// The way in a word, empty where there is one only.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Socket => "socket",
            Self::Frames => "frames",
        }
    }
}

/// How a device does with live frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveState {
    /// Whether it takes them; they are stopped otherwise.
    pub open: bool,
    /// How many it has taken, ever, if it says.
    pub taken: Option<u64>,
}

/// What the kernel knows of the device of a port.
pub trait Kernel: Send + Sync {
    /// Packets passed to the kernel since the port was opened.
    fn punted(&self) -> u64;

    /// Whether the device is up and has a carrier.
    fn has_carrier(&self) -> bool;

    /// Asks whether the device takes live frames, and stops them if it does not: may wait for changes of
    /// devices.
    fn watch_live(&self) -> LiveState;
}

/// What the node knows of a port.
pub(super) struct PortRecord {
    pub(super) name: String,
    backend: &'static str,
    device: String,
    mac: MacAddr,
    addresses: Vec<ipnet::IpNet>,
    mtu: u16,
    mode: String,
    mode_notes: Vec<String>,
    owner: WorkerId,
    queues: Vec<Queue>,
    way_out: WayOut,
    live: Arc<LiveGauges>,
    kernel: Option<Arc<dyn Kernel>>,
    /// Whether its device was found to be gone.
    gone: bool,
}

#[derive(Debug)]
struct Queue {
    rx: Arc<RxCounters>,
    rx_worker: WorkerId,
    tx: Arc<TxCounters>,
    tx_worker: WorkerId,
    far_end: FarQueue,
}

impl fmt::Debug for PortRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} on {}", self.name, self.device)
    }
}

impl Node {
    /// Takes a port: its receive queues are dealt out to the workers, each worker gets a transmit
    /// queue as far as there are any, and one worker answers for its addresses.
    pub fn add_port(&mut self, mut setup: PortSetup) {
        TxQueue::share_gate(setup.queues.iter_mut().map(|(_, tx)| tx));
        let running: Vec<_> = self.running().collect();
        let worker_at = |n: usize| running[n % running.len()];
        let id = setup.id;
        let offset = usize::from(id.0);
        let owner = worker_at(offset);
        let mut queues = Vec::new();
        for (n, (rx, tx)) in setup.queues.into_iter().enumerate() {
            let (rx_worker, tx_worker) = (worker_at(offset + n), worker_at(n));
            queues.push(Queue {
                rx: rx.counters.clone(),
                rx_worker,
                tx: tx.counters.clone(),
                tx_worker,
                far_end: tx.far_end(),
            });
            self.tell(rx_worker, Command::AddRx(Box::new(rx)));
            if n < running.len() {
                self.tell(tx_worker, Command::AddTx(Box::new(tx)));
            } else {
                self.spare_ways_out.push(tx);
            }
        }
        for (n, worker) in running.iter().enumerate().skip(queues.len()) {
            let Queue { tx_worker, far_end, .. } = &queues[n % queues.len()];
            self.tell(*worker, Command::TxVia(id, *tx_worker, far_end.clone()));
        }
        for worker in &running {
            self.tell(*worker, Command::PortOwner(id, owner));
        }
        self.tell(owner, Command::Own(Box::new(setup.owner)));
        let record = PortRecord {
            name: setup.name,
            backend: setup.backend,
            device: setup.device,
            mac: setup.mac,
            addresses: setup.addresses,
            mtu: setup.mtu,
            mode: setup.mode,
            mode_notes: setup.mode_notes,
            owner,
            queues,
            way_out: setup.way_out,
            live: Arc::default(),
            kernel: setup.kernel,
            gone: false,
        };
        self.ports.insert(id, record);
    }

    /// The ports, as the API shows them.
    pub fn list_ports(&self) -> Vec<api::Port> {
        self.ports.iter().map(|(id, port)| port.show(*id)).collect()
    }

    /// The number of a port.
    pub(super) fn port_id(&self, name: &str) -> Option<PortId> {
        self.ports.iter().find(|(_, port)| port.name == name).map(|(id, _)| *id)
    }

    /// The addresses of a port.
    pub(super) fn addresses_of(&self, name: &str) -> &[ipnet::IpNet] {
        let port = self.ports.values().find(|port| port.name == name);
        port.map_or(&[], |port| port.addresses.as_slice())
    }

    /// The port that is connected to a network.
    pub(super) fn port_on(&self, network: ipnet::IpNet) -> Option<&str> {
        let connected =
            |port: &&PortRecord| port.addresses.iter().any(|address| address.trunc() == network);
        self.ports.values().find(connected).map(|port| port.name.as_str())
    }

    /// Gives a new worker a way out to each port: a queue that nobody uses, or another worker's.
    pub(super) fn give_ways_out(&mut self, worker: WorkerId) {
        for (id, port) in &mut self.ports {
            let spare = self.spare_ways_out.iter().position(|queue| queue.port == *id);
            let command = match spare {
                Some(place) => {
                    let queue = self.spare_ways_out.swap_remove(place);
                    for known in &mut port.queues {
                        if Arc::ptr_eq(&known.tx, &queue.counters) {
                            known.tx_worker = worker;
                        }
                    }
                    Command::AddTx(Box::new(queue))
                }
                None => {
                    let Queue { tx_worker, far_end, .. } = port.way_out_for(worker);
                    Command::TxVia(*id, *tx_worker, far_end.clone())
                }
            };
            let owner = port.owner;
            if let Some(handle) = self.workers.get_mut(&worker) {
                handle.command(Command::PortOwner(*id, owner));
                handle.command(command);
            }
        }
    }

    /// Whether another worker sends by this one's queues.
    pub(super) fn transmits_for_others(&self, worker: WorkerId) -> bool {
        let running = self.running().count();
        self.ports.values().any(|port| {
            let queues = port.queues.len();
            queues < running && port.queues.iter().any(|queue| queue.tx_worker == worker)
        })
    }

    /// The ports of a worker that leaves are answered for by the others.
    pub(super) fn take_over_ports(&mut self, leaving: WorkerId, owners: Vec<Owner>) {
        let running: Vec<_> = self.running().filter(|worker| *worker != leaving).collect();
        for owner in owners {
            let id = owner.port();
            let heir = running[usize::from(id.0) % running.len()];
            if let Some(port) = self.ports.get_mut(&id) {
                port.owner = heir;
            }
            self.tell(heir, Command::Own(Box::new(owner)));
            for worker in self.workers.keys().copied().collect::<Vec<_>>() {
                self.tell(worker, Command::PortOwner(id, heir));
            }
        }
    }

    /// Receive queues that nobody polls are dealt out.
    pub(super) fn place_queues(&mut self, queues: Vec<RxQueue>) {
        let running: Vec<_> = self.running().collect();
        for queue in queues {
            let worker =
                running[(usize::from(queue.port.0) + usize::from(queue.queue)) % running.len()];
            if let Some(port) = self.ports.get_mut(&queue.port)
                && let Some(known) = port.queues.get_mut(usize::from(queue.queue))
            {
                known.rx_worker = worker;
            }
            self.tell(worker, Command::AddRx(Box::new(queue)));
        }
    }

    /// A port whose device has been found to be gone, each once; its notes say so from then on.
    pub fn poll_gone_port(&mut self) -> Option<String> {
        let is_gone = |port: &&mut PortRecord| {
            !port.gone && port.queues.iter().any(|queue| queue.tx.gone.get() > 0)
        };
        let port = self.ports.values_mut().find(is_gone)?;
        port.gone = true;
        let note = "the device is gone: packets for this port are dropped as port_down";
        port.mode_notes.push(note.to_owned());
        Some(format!("port {} (device {}): {note}", port.name, port.device))
    }

    /// Packets that the node received, the kernel's drops and punts not included. The kernel is not
    /// asked, so that a move may ask at each of its steps.
    pub(super) fn received(&self) -> u64 {
        let queues = self.ports.values().flat_map(|port| &port.queues);
        queues.map(|queue| queue.rx.packets.get()).sum()
    }

    /// Sums up what the ports have counted.
    pub(super) fn port_totals(&self) -> PortTotals {
        let mut totals = PortTotals::default();
        for port in self.ports.values() {
            totals.punted += port.punted();
            totals.refused += port.live.refused.get();
            for queue in &port.queues {
                totals.received += queue.rx.packets.get();
                totals.ring_full += queue.rx.ring_full.get();
                totals.fill_ring_empty += queue.rx.fill_ring_empty.get();
                totals.too_long += queue.rx.too_long.get();
                totals.submitted += queue.tx.packets.get();
                totals.completed += queue.tx.completed.get();
                totals.invalid += queue.tx.invalid.get();
                totals.refused += queue.tx.refused.get();
                totals.lost += queue.tx.lost.get();
            }
        }
        totals
    }
}

/// What all ports have counted.
#[derive(Debug, Default)]
pub(super) struct PortTotals {
    pub(super) received: u64,
    pub(super) ring_full: u64,
    pub(super) fill_ring_empty: u64,
    pub(super) too_long: u64,
    pub(super) submitted: u64,
    pub(super) completed: u64,
    pub(super) invalid: u64,
    pub(super) refused: u64,
    pub(super) lost: u64,
    pub(super) punted: u64,
}

impl PortRecord {
    fn punted(&self) -> u64 {
        self.kernel.as_ref().map_or(0, |kernel| kernel.punted())
    }

    /// What is to be watched where it sends live frames.
    pub(super) fn watched(&self) -> Option<Watched> {
        let kernel = self.kernel.as_ref().filter(|_| self.way_out == WayOut::Frames)?;
        Some(Watched {
            port: self.name.clone(),
            device: self.device.clone(),
            kernel: kernel.clone(),
            queues: self.queues.iter().map(|queue| queue.tx.clone()).collect(),
            gauges: self.live.clone(),
        })
    }

    /// The link in a word, empty without a device.
    fn link(&self) -> &'static str {
        let Some(kernel) = &self.kernel else { return "" };
        let is_gone = |queue: &Queue| queue.tx.gone.get() > 0;
        match self.queues.iter().any(is_gone) {
            true => "gone",
            false if kernel.has_carrier() => "up",
            false => "down",
        }
    }

    /// The queue by which a worker without one sends.
    fn way_out_for(&self, worker: WorkerId) -> &Queue {
        &self.queues[usize::from(worker.0) % self.queues.len()]
    }

    fn show(&self, id: PortId) -> api::Port {
        let sum = |count: fn(&Queue) -> u64| self.queues.iter().map(count).sum();
        let queue = |(n, queue): (usize, &Queue)| api::Queue {
            id: n as u32,
            rx_worker: u32::from(queue.rx_worker.0),
            tx_worker: u32::from(queue.tx_worker.0),
            rx_packets: queue.rx.packets.get(),
            tx_packets: queue.tx.packets.get(),
        };
        api::Port {
            id: u32::from(id.0),
            name: self.name.clone(),
            backend: self.backend.to_owned(),
            device: self.device.clone(),
            mac: self.mac.to_string(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            mtu: u32::from(self.mtu),
            mode: self.mode.clone(),
            mode_notes: self.mode_notes.clone(),
            queues: self.queues.iter().enumerate().map(queue).collect(),
            rx_packets: sum(|queue| queue.rx.packets.get()),
            rx_bytes: sum(|queue| queue.rx.bytes.get()),
            tx_packets: sum(|queue| queue.tx.packets.get()),
            tx_bytes: sum(|queue| queue.tx.bytes.get()),
            punted: self.punted(),
            kernel_drops: sum(|queue| {
                queue.rx.ring_full.get() + queue.rx.fill_ring_empty.get() + queue.rx.too_long.get()
            }),
            owner_worker: u32::from(self.owner.0),
            link: self.link().to_owned(),
            transmit: self.way_out.as_str().to_owned(),
            transmit_note: if self.live.stopped.get() > 0 {
                STOPPED.to_owned()
            } else {
                String::new()
            },
            tx_live: sum(|queue| queue.tx.live.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Carrier(bool);

    impl Kernel for Carrier {
        fn punted(&self) -> u64 {
            0
        }

        fn has_carrier(&self) -> bool {
            self.0
        }

        fn watch_live(&self) -> LiveState {
            LiveState { open: false, taken: None }
        }
    }

    #[test]
    fn a_link_is_what_the_kernel_says_until_the_device_is_gone() {
        let queue = || Queue {
            rx: Arc::default(),
            rx_worker: WorkerId(0),
            tx: Arc::default(),
            tx_worker: WorkerId(0),
            far_end: FarQueue::default(),
        };
        let mut port = PortRecord {
            name: "a".to_owned(),
            backend: "af_xdp",
            device: "eth0".to_owned(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            addresses: Vec::new(),
            mtu: 1500,
            mode: "copy".to_owned(),
            mode_notes: Vec::new(),
            owner: WorkerId(0),
            queues: vec![queue(), queue()],
            way_out: WayOut::One,
            live: Arc::default(),
            kernel: None,
            gone: false,
        };
        assert_eq!(port.show(PortId(1)).link, "");
        for (carrier, link) in [(true, "up"), (false, "down")] {
            port.kernel = Some(Arc::new(Carrier(carrier)));
            assert_eq!(port.show(PortId(1)).link, link);
        }
        port.queues[1].tx.gone.set(1);
        assert_eq!(port.show(PortId(1)).link, "gone");
    }
}
