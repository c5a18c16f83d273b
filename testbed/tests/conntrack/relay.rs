//! What stands for the switch: it passes frames between two hosts and one of two kernels, holds them
//! when it is told to, and steers.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use weir_testbed::namespace::Namespace;
use weir_testbed::packet_socket::{BURST, Burst, PacketSocket, arriving};
use weir_testbed::wait::{LIMIT, pause};

/// Frames that are held, or wait for a device, at most; one more fails the test.
const FRAMES_MAX: usize = 200_000;
/// Whom the relay asks for the end of a queue as: an address that nobody has.
const PROBE_MAC: [u8; 6] = [2, 0, 0, 0, 0xee, 0xee];

/// The devices of the switch's namespace.
pub(crate) struct Ports<'a> {
    /// The client's side and the server's.
    pub(crate) hosts: [&'a str; 2],
    /// Of each kernel its inner and outer side.
    pub(crate) kernels: [[&'a str; 2]; 2],
}

/// A relay on a thread of its own, until it is dropped.
pub(crate) struct Relay {
    orders: Sender<(Order, Sender<Counts>)>,
    thread: Option<JoinHandle<()>>,
}

/// What the relay can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Holds the frames of the hosts. Done when the kernel has processed all it was sent before.
    Hold,
    /// Sends what is held to a kernel, in order, and everything that comes from then on.
    Steer(usize),
    /// Nothing but to tell its counts.
    Tell,
}

/// Frames that the relay has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Frames that were held when it was last told to steer.
    pub(crate) held: usize,
}

impl Relay {
    pub(crate) fn start(switch: &Namespace, ports: &Ports<'_>) -> Self {
        let open = |device: &&str| Port {
            socket: PacketSocket::open(switch, device, &arriving()).unwrap(),
            waiting: VecDeque::new(),
        };
        let [client, server] = ports.hosts.each_ref().map(open);
        let [a, b] = ports.kernels.each_ref().map(|sides| sides.each_ref().map(open));
        let (orders, told) = mpsc::channel();
        let mut switch = Switch {
            hosts: [client, server],
            kernels: [a, b],
            steered: Some(0),
            last: 0,
            held: VecDeque::new(),
            counts: Counts::default(),
            holding: None,
        };
        let thread = std::thread::spawn(move || {
            stay_on_one_core();
            switch.run(&told);
        });
        Self { orders, thread: Some(thread) }
    }

    /// Tells it something, and waits until that is done.
    pub(crate) fn tell(&self, order: Order) -> Counts {
        let (done, answer) = mpsc::channel();
        self.orders.send((order, done)).unwrap();
        answer.recv_timeout(LIMIT).expect("the relay does as it is told")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let (orders, _) = mpsc::channel();
        self.orders = orders;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the relay has failed");
    }
}

/// A frame that a veth takes is put into the queue of the core that sends it: only of one core do
/// frames stay in order, and come before a probe behind them.
fn stay_on_one_core() {
    let allowed = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    let core = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).unwrap();
    one.set(core);
    sched_setaffinity(None, &one).unwrap();
}

struct Port {
    socket: PacketSocket,
    waiting: VecDeque<Vec<u8>>,
}

struct Switch {
    /// The client and the server.
    hosts: [Port; 2],
    kernels: [[Port; 2]; 2],
    /// The kernel that gets what hosts send; none while it is held.
    steered: Option<usize>,
    last: usize,
    /// Frames of hosts, by the side that they came from.
    held: VecDeque<(usize, Vec<u8>)>,
    counts: Counts,
    holding: Option<(Sender<Counts>, [bool; 2])>,
}

impl Switch {
    fn run(&mut self, orders: &Receiver<(Order, Sender<Counts>)>) {
        let mut burst = Burst::default();
        loop {
            match orders.try_recv() {
                Ok((order, done)) => self.obey(order, done),
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
            if self.relay(&mut burst) == 0 && self.flush() == 0 {
                let ports = self.hosts.iter().chain(self.kernels.iter().flatten());
                let mut sockets: Vec<_> =
                    ports.map(|port| PollFd::new(&port.socket, PollFlags::IN)).collect();
                pause(&mut sockets, Duration::from_millis(1)).unwrap();
            }
        }
    }

    fn obey(&mut self, order: Order, done: Sender<Counts>) {
        match order {
            Order::Hold => {
                // What waits for the devices of the kernel goes first.
                while self.flush() > 0 {}
                self.steered = None;
                for (side, port) in self.kernels[self.last].iter_mut().enumerate() {
                    port.waiting.push_back(probe(side));
                }
                self.holding = Some((done, [false; 2]));
            }
            Order::Steer(kernel) => {
                self.counts.held = self.held.len();
                for (side, frame) in self.held.drain(..) {
                    self.kernels[kernel][side].waiting.push_back(frame);
                }
                (self.steered, self.last) = (Some(kernel), kernel);
                let _nobody_waits = done.send(self.counts);
            }
            Order::Tell => {
                let _nobody_waits = done.send(self.counts);
            }
        }
    }

    /// Takes a burst of each port in; how many frames that were.
    fn relay(&mut self, burst: &mut Burst) -> usize {
        let mut total = 0;
        for side in [0, 1] {
            let Self { hosts, kernels, steered, held, .. } = self;
            let received = hosts[side].socket.receive(burst, |frame| match steered {
                Some(kernel) => kernels[*kernel][side].waiting.push_back(frame.to_vec()),
                None => held.push_back((side, frame.to_vec())),
            });
            total += received.unwrap();
            for (kernel, ports) in kernels.iter_mut().enumerate() {
                let received = ports[side].socket.receive(burst, |frame| {
                    if frame[..6] != PROBE_MAC {
                        hosts[side].waiting.push_back(frame.to_vec());
                    } else if let Some((_, answered)) = &mut self.holding
                        && kernel == self.last
                    {
                        answered[side] = true;
                    }
                });
                total += received.unwrap();
            }
        }
        self.counts.received += total as u64;
        assert!(self.held.len() < FRAMES_MAX, "more is held than may be");
        if let Some((done, _)) = self.holding.take_if(|(_, answered)| *answered == [true; 2]) {
            let _nobody_waits = done.send(self.counts);
        }
        total
    }

    /// Gives devices what waits for them; how many frames they took.
    fn flush(&mut self) -> usize {
        let mut total = 0;
        for port in self.hosts.iter_mut().chain(self.kernels.iter_mut().flatten()) {
            assert!(port.waiting.len() < FRAMES_MAX, "a device takes too little");
            let frames = port.waiting.iter().take(BURST).map(Vec::as_slice);
            let sent = port.socket.send(frames).unwrap();
            port.waiting.drain(..sent);
            total += sent;
        }
        self.counts.sent += total as u64;
        total
    }
}

/// Asks a kernel at one of its sides who it is (RFC 826): it answers behind all it was sent.
fn probe(side: usize) -> Vec<u8> {
    let (asked, asker) =
        [([10, 1, 0, 1], [10, 1, 0, 99]), ([203, 0, 113, 1], [203, 0, 113, 99])][side];
    let mut frame = vec![0xff; 6];
    frame.extend(PROBE_MAC);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(PROBE_MAC);
    frame.extend(asker);
    frame.extend([0; 6]);
    frame.extend(asked);
    frame.resize(60, 0);
    frame
}
