//! Two instances that share traffic and copy to each other at any moment know in the end what one
//! instance knows that has seen all of it.
//!
//! All that functions know of several flows is compared, byte by byte, with the counts of both
//! instances under one name. What may differ is left out, and why:
//!
//! - When the bucket of a firewall's source was full, and what was taken since: an instance that
//!   has not heard what others took takes it for full earlier, and of two that were full at
//!   different times the later stays. So a rate is one instance's alone, unless it is shared.
//! - What has been forgotten: who has no copy of late may forget a source or a host that another
//!   has just seen. Here nothing is idle for so long.
//! - What was learned of hosts altogether (all-flows): each instance learns what nobody has told it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use weir_state_transfer::merge::Counter;
use weir_state_transfer::{Chunk, FlowId, PortId, ServiceId};

use super::*;
use crate::nf::firewall::{Bucket, Limits, Rate, Rules};
use crate::nf::ids::ScanConfig;
use crate::nf::laws::all_chunks;
use crate::nf::schema::{ASSETS_HOST, FIREWALL_SOURCE, IDS_SOURCE};
use crate::nf::share::Countable;
use crate::packet::{Parsed, parse};

const SECOND: u64 = 1_000_000_000;
const SERVERS: u8 = 3;
const GET: &[u8] = b"GET / HTTP/1.1\r\nUser-Agent: curl/8.5.0\r\n\r\n";
const SYN: u8 = 2;
const ACK: u8 = 16;

/// The instances that copy to each other, that which sees all, and who takes all counts over
/// before they are compared.
const REPLICAS: [Replica; 4] = [replica(1), replica(2), replica(3), replica(4)];
const ALONE: usize = 2;

/// How a copy is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    /// As functions do.
    Joins,
    /// What was counted elsewhere is added to what is counted here.
    Adds,
    /// In the place of what there was.
    Replaces,
}

/// A packet: whether it is from who has begun, its TCP flags (none: it is UDP), its sequence
/// number, what it acknowledges and what it says.
type Packet = (bool, Option<u8>, u32, u32, Vec<u8>);

/// A flow, at one of the two instances and at that which sees all.
struct Flow {
    at: usize,
    ends: [(Ipv4Addr, u16); 2],
    ttl: u8,
    packets: VecDeque<Packet>,
    /// At its instance, and at that which sees all.
    states: [Option<Box<[FlowState]>>; 2],
}

struct World {
    chains: [Chain; 3],
    flows: Vec<Flow>,
    ports: u16,
    now: Nanos,
    put: Put,
    /// Counts that were added.
    added: u32,
    rng: fastrand::Rng,
}

const fn replica(instance: u32) -> Replica {
    Replica { instance, incarnation: 7 }
}

/// A firewall with limits that nobody comes to, an intrusion detection and an asset detection.
fn config() -> ChainConfig {
    let rules = Rules::new(vec!["all: accept any".parse().expect("a rule")]).expect("one rule");
    let rate = Rate { per_second: 1_000, burst: 1_000 };
    let limits = Limits { connections_max: Some(1 << 20), rate: Some(rate), ..Limits::default() };
    let firewall = firewall::Config { rules, limits, ..firewall::Config::default() };
    let window = std::time::Duration::from_secs(20);
    let scan = ScanConfig { threshold: 6, window, ..ScanConfig::default() };
    let functions = vec![
        FunctionConfig::Firewall(firewall),
        FunctionConfig::Ids(ids::Config { scan, ..ids::Config::default() }),
        FunctionConfig::Assets(assets::Config::default()),
    ];
    ChainConfig::new(functions, Timestamp(0)).expect("three functions")
}

/// What the ends of a flow send: nothing comes back, it is refused, it is closed or stays open, or
/// it is no connection.
fn conversation(rng: &mut fastrand::Rng) -> VecDeque<Packet> {
    let answer = format!("HTTP/1.1 200 OK\r\nServer: {}\r\n\r\n", rng.u8(..6)).into_bytes();
    let (asked, answered) = (1 + GET.len() as u32, 1 + answer.len() as u32);
    let tcp = |there, flags, seq, ack| (there, Some(flags), seq, ack, Vec::new());
    let says = |there, seq, ack, what: &[u8]| (there, Some(ACK), seq, ack, what.to_vec());
    let (fin, rst) = (1 | ACK, 4 | ACK);
    let mut packets = vec![tcp(true, SYN, 0, 0)];
    match rng.u8(..5) {
        0 => packets.extend((0..rng.u8(..2)).map(|_| tcp(true, SYN, 0, 0))),
        1 => packets.push(tcp(false, rst, 0, 1)),
        2 => {
            let said = |there| (there, None, 0, 0, vec![b'?'; 8]);
            packets = vec![said(true), said(false), said(true)];
        }
        how => {
            packets.extend([tcp(false, SYN | ACK, 0, 1), tcp(true, ACK, 1, 1)]);
            packets.extend([says(true, 1, 1, GET), says(false, 1, asked, &answer)]);
            if how == 3 {
                packets.extend([
                    tcp(true, fin, asked, answered),
                    tcp(false, fin, answered, asked + 1),
                ]);
                packets.push(tcp(true, ACK, asked + 1, answered + 1));
            }
        }
    }
    packets.into()
}

fn frame(flow: &Flow, (there, flags, seq, ack, payload): &Packet) -> Vec<u8> {
    let [from, to] = if *there { flow.ends } else { [flow.ends[1], flow.ends[0]] };
    let ip = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let ip = ip.ipv4(from.0.octets(), to.0.octets(), flow.ttl);
    let mut frame = Vec::new();
    let written = match flags {
        None => ip.udp(from.1, to.1).write(&mut frame, payload),
        Some(flags) => {
            let mut header = etherparse::TcpHeader::new(from.1, to.1, 1_000 + seq, 8_000);
            header.acknowledgment_number = if flags & ACK != 0 { 1_000 + ack } else { 0 };
            [header.fin, header.syn, header.rst, header.ack] =
                [1, SYN, 4, ACK].map(|flag| flags & flag != 0);
            ip.tcp_header(header).write(&mut frame, payload)
        }
    };
    written.expect("a vector has room");
    frame
}

impl World {
    fn new(seed: u64, put: Put) -> Self {
        let chain = |replica| Chain::new(&config(), &SteeringHash::new(0x6d5a), replica);
        let [one, other, alone, _] = REPLICAS;
        let (chains, now) = ([one, other, alone].map(chain), Nanos(1 << 40));
        let rng = fastrand::Rng::with_seed(seed);
        Self { chains, flows: Vec::new(), ports: 1_000, now, put, added: 0, rng }
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0..4 => self.begin(),
            4..15 => self.packet(),
            15..18 => self.now = Nanos(self.now.0 + self.rng.u64(..SECOND)),
            18 => self.expire(),
            _ => {
                let from = self.rng.usize(..ALONE);
                self.copy(from, false);
            }
        }
    }

    fn begin(&mut self) {
        self.ports += 1;
        let Self { rng, ports, .. } = self;
        let client = (Ipv4Addr::new(10, 0, 1, rng.u8(1..5)), *ports);
        let server = (Ipv4Addr::new(10, 0, 2, rng.u8(..SERVERS)), rng.u16(80..120));
        let (at, ends, ttl) = (rng.usize(..ALONE), [client, server], rng.u8(50..60));
        let packets = conversation(rng);
        self.flows.push(Flow { at, ends, ttl, packets, states: [None, None] });
    }

    /// The next packet of a flow comes.
    fn packet(&mut self) {
        let Self { chains, flows, now, rng, put, .. } = self;
        let open = (0..flows.len()).filter(|at| !flows[*at].packets.is_empty());
        let Some(at) = rng.choice(open.collect::<Vec<_>>()) else { return };
        let flow = &mut flows[at];
        let packet = flow.packets.pop_front().expect("it has one");
        let frame = frame(flow, &packet);
        let verdicts = [(flow.at, 0), (ALONE, 1)].map(|(at, place)| {
            let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
            let (mut frame, meta) = (frame.clone(), &mut meta);
            let (frame, port) = (&mut frame[..], PortId(0));
            let mut passing = Passing { frame, meta, port, now: *now };
            let (chain, known) = (&mut chains[at], &mut flow.states[place]);
            match known {
                Some(states) => chain.process(states, &mut passing, &|_| false).is_ok(),
                None => {
                    let (verdict, states) = chain.process_first(&mut passing, &|_| false);
                    *known = states;
                    verdict.is_ok()
                }
            }
        });
        if *put == Put::Joins {
            assert_eq!(verdicts[0], verdicts[1], "no limit is met");
        }
        chains.iter_mut().for_each(|chain| drop(chain.take_records(1_000)));
    }

    /// Flows that have been idle for long end.
    fn expire(&mut self) {
        let Self { chains, flows, now, .. } = self;
        for Flow { at, states, .. } in flows {
            for (at, known) in [*at, ALONE].into_iter().zip(states) {
                known.take_if(|states| chains[at].expire(states, *now));
            }
        }
    }

    /// One of the two copies all that it knows of several flows to the other, or some of it.
    fn copy(&mut self, from: usize, all: bool) {
        let to = 1 - from;
        for (place, chunk) in chunks(&self.chains[from], self.now) {
            if !all && self.rng.bool() {
                continue;
            }
            let chunk = match self.put {
                Put::Adds => self.counted_anew(chunk),
                Put::Joins | Put::Replaces => chunk,
            };
            let to = &mut self.chains[to];
            if self.put == Put::Replaces {
                to.functions[place].del_multi_flow(std::slice::from_ref(&chunk.id));
            }
            to.put_multi_flow(&chunk, self.now).expect("it is such state");
        }
    }

    /// What is known of a source of a firewall, as if nobody had heard of these counts.
    fn counted_anew(&mut self, chunk: Chunk) -> Chunk {
        if chunk.schema != FIREWALL_SOURCE.schema {
            return chunk;
        }
        self.added += 1;
        let by = replica(100 + self.added);
        let mut source =
            firewall::Source::decode(chunk.schema, &chunk.body, self.now).expect("its own");
        for counter in [&mut source.open.up, &mut source.open.down] {
            *counter = Counter::from_parts([(by, counter.value())], Default::default());
        }
        Chunk { body: source.encode(), ..chunk }
    }

    /// Both copy all to each other; what kinds of state are then not as they should be.
    fn converge(&mut self) -> BTreeSet<&'static str> {
        (0..ALONE).for_each(|from| self.copy(from, true));
        let seen = [0, 1, ALONE].map(|at| chunks(&self.chains[at], self.now));
        if self.put == Put::Joins {
            assert_eq!(seen[0], seen[1], "both have the same in the end");
        }
        let [one, other, alone] = seen.map(|chunks| {
            chunks.iter().map(|(_, chunk)| comparable(chunk)).collect::<BTreeSet<_>>()
        });
        let kinds = [FIREWALL_SOURCE, IDS_SOURCE, ASSETS_HOST];
        for kind in kinds {
            assert!(alone.iter().any(|(schema, ..)| *schema == kind.schema.kind), "{}", kind.name);
        }
        let differ = one.symmetric_difference(&alone).chain(other.symmetric_difference(&alone));
        let differ: BTreeSet<u16> = differ.map(|(kind, ..)| *kind).collect();
        kinds
            .iter()
            .filter(|kind| differ.contains(&kind.schema.kind))
            .map(|kind| kind.name)
            .collect()
    }
}

/// All that functions know of several flows, with the place of each function.
fn chunks(chain: &Chain, now: Nanos) -> Vec<(usize, Chunk)> {
    let now = chain.moment(now);
    let functions = chain.functions.iter().enumerate();
    let of_each = functions.flat_map(|(place, function)| {
        let chunks =
            all_chunks("any", 5, |get, cursor, out| function.get_multi_flow(get, cursor, out, now));
        chunks.into_iter().map(move |chunk| (place, chunk))
    });
    of_each.collect()
}

/// The kind of a piece of state, what it is about, and its bytes: the same wherever and by whom it
/// was counted.
fn comparable(chunk: &Chunk) -> (u16, FlowId, Vec<u8>) {
    fn by_one<S: Countable>(source: &mut S) {
        let [counted @ .., heir] = REPLICAS;
        counted.into_iter().for_each(|by| source.take_from(by, heir));
    }
    let (schema, body) = (chunk.schema, &chunk.body);
    let body = if schema == FIREWALL_SOURCE.schema {
        let mut source = firewall::Source::decode(schema, body, Nanos(0)).expect("its own bytes");
        source.bucket = Bucket::default();
        by_one(&mut source);
        source.encode()
    } else if schema == IDS_SOURCE.schema {
        let mut source = ids::Source::decode(schema, body).expect("its own bytes");
        by_one(&mut source);
        source.encode()
    } else {
        body.clone()
    };
    (schema.kind, chunk.id.clone(), body)
}

/// What kinds of state were not as they should be, at any of several moments.
fn run(seed: u64, put: Put) -> BTreeSet<&'static str> {
    let mut world = World::new(seed, put);
    let mut wrong = BTreeSet::new();
    for _ in 0..4 {
        (0..300).for_each(|_| world.step());
        wrong.extend(world.converge());
    }
    wrong
}

#[test]
fn two_instances_that_copy_to_each_other_know_what_one_that_sees_all_knows() {
    weir_seed::each(weir_seed::schedules(40), |seed| {
        assert_eq!(run(seed, Put::Joins), BTreeSet::new());
    });
}

/// Each of so few runs shows it.
#[test]
fn copies_that_are_added_or_that_replace_are_noticed() {
    let all = [FIREWALL_SOURCE, IDS_SOURCE, ASSETS_HOST].map(|kind| kind.name);
    for seed in 0..10 {
        assert!(run(seed, Put::Adds).contains(FIREWALL_SOURCE.name), "{seed}");
        assert_eq!(run(seed, Put::Replaces), BTreeSet::from(all), "{seed}");
    }
}
