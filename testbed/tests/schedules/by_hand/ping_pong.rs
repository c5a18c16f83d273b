//! The same flows moved to and fro ten thousand times under load: no packet is lost, repeated or out
//! of order, and memory does not grow.

use std::fs;
use std::process::Command;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{InstanceId, MoveId, Selection};

use super::{DESTINATION, IN, OUT, SOURCE, node};
use crate::memory_node::{MemoryNode, host, host_mac, port_mac};

/// Moves, and with `WEIR_LONG`.
const MOVES: u64 = 10_000;
const MOVES_LONG: u64 = 200_000;
/// Moves after which memory has grown to what it needs: more than are remembered.
const WARM_UP: u64 = 2_000;
/// Bytes by which it may have grown in the end, as pages are touched late; what stays of each move
/// would be more.
const GROWTH_MAX: u64 = 512 << 10;
/// Set in the process that has nothing but this test in it.
const ALONE: &str = "WEIR_PING_PONG_ALONE";

/// Rounds in which any two moves end.
const ROUNDS_MAX: u32 = 100_000;
const FLOWS: usize = 16;
/// Packets between the wires: fewer than a hold of this node takes.
const OUTSTANDING: u64 = 64;

/// Flows whose packets are numbered, as they come in and as they leave.
struct Numbered {
    sent: [u32; FLOWS],
    left: [u32; FLOWS],
}

impl Numbered {
    fn outstanding(&self) -> u64 {
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        sum(&self.sent) - sum(&self.left)
    }

    /// The next packet of a flow comes in, always by the same queue.
    fn inject(&mut self, node: &mut MemoryNode, flow: usize) {
        if self.outstanding() == OUTSTANDING {
            return;
        }
        let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
            .ipv4(host(IN.0).octets(), host(OUT.0).octets(), 64)
            .udp(1000 + flow as u16, 53);
        let mut packet = Vec::new();
        headers.write(&mut packet, &self.sent[flow].to_be_bytes()).unwrap();
        let wire = node.wires.get_mut(&(IN, (flow % 2) as u16)).unwrap();
        if wire.inject(&packet) {
            self.sent[flow] += 1;
        }
    }

    /// Takes what has left: it must be the next of its flow.
    fn take(&mut self, node: &mut MemoryNode) {
        while let Some(packet) = (0..2).find_map(|queue| node.take(OUT, queue)) {
            let flow = usize::from(u16::from_be_bytes([packet[34], packet[35]]) - 1000);
            let number = u32::from_be_bytes(*packet.last_chunk().unwrap());
            assert_eq!(number, self.left[flow], "of flow {flow}");
            self.left[flow] += 1;
        }
    }
}

/// What goes there and comes back: by filter, a few buckets, and now and then all of them.
fn selection(pair: u64) -> Selection {
    match pair % 100 {
        0 => Selection::Buckets("0-4095".parse().unwrap()),
        n if n % 2 == 1 => Selection::Filter("sport=1000-1007".parse().unwrap()),
        _ => Selection::Buckets("0-63".parse().unwrap()),
    }
}

fn start(node: &mut MemoryNode, ends: [InstanceId; 2], selection: Selection) -> MoveId {
    let request = Request::new(ends[0], ends[1], selection);
    let begun = node.node.start_move(&api::Change::default(), request, false, node.now);
    MoveId(begun.unwrap().id)
}

/// Moves flows there and back under load; both moves are asked for at once, and the second waits for
/// the first.
fn to_and_fro(
    node: &mut MemoryNode,
    other: InstanceId,
    selection: &Selection,
    numbered: &mut Numbered,
    rng: &mut fastrand::Rng,
) {
    let there = start(node, [FIRST, other], selection.clone());
    let back = start(node, [other, FIRST], selection.clone());
    assert_eq!(node.node.show_move(back).unwrap().phase(), api::MovePhase::Queued);
    let ended = |node: &MemoryNode, id| node.node.show_move(id).unwrap().ended_ns > 0;
    for round in 0.. {
        if ended(node, back) {
            break;
        }
        assert!(round < ROUNDS_MAX, "{:?}", node.node.show_move(back));
        numbered.inject(node, rng.usize(..FLOWS));
        node.step_worker(SOURCE);
        node.step_worker(DESTINATION);
        numbered.take(node);
        node.step_node();
        // A pause of the load: nothing depends on its going on.
        node.now.0 += 1_000;
    }
    let shown = [there, back].map(|id| node.node.show_move(id).unwrap());
    assert!(shown.iter().all(|moved| moved.phase() == api::MovePhase::Done), "{shown:?}");
    assert!(shown[0].ended_ns <= shown[1].flipped_ns, "one after the other: {shown:?}");
}

/// Bytes of memory of this process that are in use, from its page tables: what /proc/self/status says
/// is behind by what each thread has not told yet (proc_pid_smaps(5), proc_pid_status(5)).
fn resident() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

fn ten_thousand() {
    let mut rng = weir_seed::rng();
    let moves = if std::env::var_os("WEIR_LONG").is_some() { MOVES_LONG } else { MOVES };
    let (mut node, destinations) = node(1);
    let mut numbered = Numbered { sent: [0; FLOWS], left: [0; FLOWS] };
    let mut before = 0;
    for pair in 0..moves / 2 {
        to_and_fro(&mut node, destinations[0], &selection(pair), &mut numbered, &mut rng);
        if pair == WARM_UP / 2 {
            before = resident();
        }
    }
    let after = resident();
    while numbered.outstanding() > 0 {
        node.settle();
        numbered.take(&mut node);
    }
    node.settle();
    let counters = node.node.counters();
    assert!(counters.drops.is_empty(), "{:?}", counters.drops);
    assert_eq!(counters.balance.unwrap().unaccounted, 0);
    assert!(node.node.show_steering().rules.is_empty(), "no rule stays behind");
    let packets: u64 = numbered.left.iter().map(|count| u64::from(*count)).sum();
    let grown = after.saturating_sub(before);
    println!("{moves} moves, {packets} packets, {grown} bytes more than after {WARM_UP} moves");
    assert!(packets > moves, "under load");
    assert!(grown <= GROWTH_MAX, "{grown} bytes more than after {WARM_UP} moves");
}

#[test]
fn ten_thousand_moves_to_and_fro_under_load_lose_reorder_and_keep_nothing() {
    if std::env::var_os(ALONE).is_some() {
        return ten_thousand();
    }
    // In a process of its own: other tests take memory too.
    let name = std::thread::current().name().unwrap().to_owned();
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let output = alone.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{}", output.status);
}
