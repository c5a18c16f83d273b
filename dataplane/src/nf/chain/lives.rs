//! Instances come and go by the thousand, and what they knew of more than one flow stays as it is
//! and as large as it is.

use std::net::Ipv4Addr;

use weir_state_transfer::{Chunk, PortId, ServiceId};

use super::*;
use crate::nf::REPLICAS_OF_A_LIFE;
use crate::nf::firewall::{Limits, Rate, Rules, Source};
use crate::nf::schema::FIREWALL_SOURCE;
use crate::packet::samples::{self, HOST_B};
use crate::packet::{Parsed, parse};

/// An instance that is there, under a number.
struct Alive {
    id: u32,
    chain: Chain,
}

/// Instances, and the connections that there are, which are wherever the next packet comes.
struct World {
    config: ChainConfig,
    alive: Vec<Alive>,
    /// Lives that each number has had.
    lives: [u64; 8],
    connections: Vec<Box<[FlowState]>>,
    ports: u16,
    now: Nanos,
    packets: u64,
    begun: u64,
}

impl World {
    fn new() -> Self {
        let rule = "all: accept any".parse().expect("a rule");
        let rate = Rate { per_second: 1_000, burst: 1_000 };
        let limits = Limits { connections_max: Some(1 << 30), rate: Some(rate), sources_max: 64 };
        let rules = Rules::new(vec![rule]).expect("one rule");
        let firewall = firewall::Config { rules, limits, ..firewall::Config::default() };
        let functions =
            vec![FunctionConfig::Firewall(firewall), FunctionConfig::Ids(ids::Config::default())];
        let config = ChainConfig::new(functions, Timestamp(0)).expect("two functions");
        let (alive, connections) = (Vec::new(), Vec::new());
        let now = Nanos(1 << 40);
        Self { config, alive, lives: [0; 8], connections, ports: 0, now, packets: 0, begun: 0 }
    }

    fn begin(&mut self) {
        let free = |id: &u32| self.alive.iter().all(|alive| alive.id != *id);
        let id = (0..8).find(free).expect("few are alive");
        let life = &mut self.lives[id as usize];
        *life += 1;
        let incarnation = 77 + *life * REPLICAS_OF_A_LIFE;
        let chain = Chain::new(
            &self.config,
            &SteeringHash::new(0x6d5a),
            Replica { instance: id, incarnation },
        );
        self.alive.push(Alive { id, chain });
    }

    /// A connection of one of four sources begins at an instance.
    fn connect(&mut self, at: usize, source: u8) {
        self.ports = self.ports.wrapping_add(1);
        let host = Ipv4Addr::new(10, 0, 1, source % 4);
        let mut frame = samples::tcp4(host, HOST_B, (self.ports, 80), b"");
        // A SYN and nothing else.
        frame[14 + 20 + 13] = 2;
        let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
        let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
        let mut passing = Passing { frame, meta, port, now: self.now };
        let (verdict, states) = self.alive[at].chain.process_first(&mut passing, &|_| false);
        assert_eq!(verdict, Ok(()));
        self.packets += 1;
        self.begun += 1;
        self.connections.extend(states);
    }

    /// The oldest connections end, at an instance that has not seen them begin, it may be.
    fn disconnect(&mut self, at: usize, but: usize) {
        let end = self.now + std::time::Duration::from_secs(200);
        let count = self.connections.len().saturating_sub(but);
        for mut states in self.connections.drain(..count) {
            assert!(self.alive[at].chain.expire(&mut states, end));
        }
    }

    /// An instance goes, and the longest-lived of those that stay is its heir.
    fn end(&mut self, gone: usize) {
        let Alive { chain, .. } = self.alive.remove(gone);
        self.alive[0].chain.inherit(chain);
    }
}

/// All that functions know of more than one flow.
fn chunks(chain: &Chain, now: Nanos) -> Vec<(usize, Chunk)> {
    let get =
        Get { filter: &StateFilter::default(), extent: Extent::Overlaps, since: 0, max: 1_000 };
    let mut all = Vec::new();
    for (n, function) in chain.functions.iter().enumerate() {
        let mut chunks = function.get_all_flows();
        let (cursor, now) = (&mut Cursor::default(), chain.moment(now));
        assert_eq!(function.get_multi_flow(&get, cursor, &mut chunks, now), More::No);
        all.extend(chunks.into_iter().map(|chunk| (n, chunk)));
    }
    all
}

fn put(chain: &mut Chain, (n, chunk): &(usize, Chunk), now: Nanos) {
    let all_flows = chunk.id == weir_state_transfer::FlowId::default();
    let now = chain.moment(now);
    let function = &mut chain.functions[*n];
    let put = match all_flows {
        true => function.put_all_flows(chunk),
        false => function.put_multi_flow(chunk, now),
    };
    put.expect("it was such state");
}

/// Of each source, how many connections it has open.
fn open(chain: &Chain) -> Vec<i128> {
    let chunks = chunks(chain, Nanos(0)).into_iter().map(|(_, chunk)| chunk);
    let of_sources = chunks.filter(|chunk| chunk.schema == FIREWALL_SOURCE.schema);
    let open = |chunk: Chunk| {
        let source = Source::decode(chunk.schema, &chunk.body, Nanos(0)).expect("its own bytes");
        source.open.value()
    };
    of_sources.map(open).collect()
}

fn counted(chain: &Chain, name: &str) -> u64 {
    let counters = chain.counters().flat_map(|(kind, counters)| {
        counters.into_iter().map(move |(name, value)| (format!("{kind}.{name}"), value))
    });
    counters.filter(|(known, _)| known == name).map(|(_, value)| value).sum()
}

#[test]
fn five_thousand_lives_are_counted_to_the_last_packet_and_take_no_more_room_than_few() {
    let mut rng = weir_seed::rng();
    let (mut world, mut old) = (World::new(), Vec::new());
    world.begin();
    for step in 0..5_000 {
        world.begin();
        world.now = world.now + std::time::Duration::from_millis(rng.u64(..300));
        for at in 0..world.alive.len() {
            (0..rng.u8(..3)).for_each(|_| world.connect(at, rng.u8(..)));
            // What goes on while what is gone is taken over in pieces.
            let (sources, now) = (rng.usize(1..4), world.now);
            (0..rng.u8(..24)).for_each(|_| _ = world.alive[at].chain.sweep(sources, now));
            world.alive[at].chain.take_records(1_000);
        }
        let at = rng.usize(..world.alive.len());
        world.disconnect(at, 40);
        if step % 100 == 0 {
            old.extend(chunks(&world.alive[at].chain, world.now));
        }
        while world.alive.len() > rng.usize(1..5) {
            world.end(rng.usize(..world.alive.len()));
        }
        for alive in &world.alive {
            for (_, chunk) in chunks(&alive.chain, world.now) {
                // 35 counters, with 8 parts and 16 lives that have ended, of 20 bytes each.
                assert!(chunk.body.len() < 20_000, "{} bytes after {step}", chunk.body.len());
            }
        }
    }
    while world.alive.len() > 1 {
        world.end(1);
    }
    world.disconnect(0, 0);
    let Alive { mut chain, .. } = world.alive.pop().expect("one");
    while !chain.inherited.is_empty() {
        chain.take_over(16, chain.moment(world.now));
    }
    assert!(world.lives.iter().sum::<u64>() > 5_000);
    let figures = |chain: &Chain| {
        let names = ["firewall.accepted", "firewall.begun", "firewall.ended", "firewall.rule.all"];
        let of_ids = ["ids.packets", "ids.connections", "ids.ended", "ids.failed"];
        names.into_iter().chain(of_ids).map(|name| counted(chain, name)).collect::<Vec<_>>()
    };
    let (packets, begun) = (world.packets, world.begun);
    let expected = [packets, begun, begun, begun, packets, begun, begun, begun];
    assert_eq!(figures(&chain), expected);
    assert!(open(&chain).iter().all(|open| *open == 0), "{:?}", open(&chain));
    // What comes late of lives that have ended brings nothing, of sources that were forgotten too.
    for forget in [false, true] {
        if forget {
            let idle = world.now + std::time::Duration::from_secs(100);
            (0..8).for_each(|_| _ = chain.sweep(100, idle));
            assert!(open(&chain).is_empty());
        }
        for chunk in &old {
            put(&mut chain, chunk, world.now);
        }
        assert_eq!(figures(&chain), expected);
        assert!(open(&chain).iter().all(|open| *open == 0), "{:?}", open(&chain));
    }
    assert!(!old.is_empty());
}
