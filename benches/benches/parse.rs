//! What does it cost to read a packet into its descriptor?
//!
//! The headers are in the cache, so this is the work alone. Of each kind 256 packets are read, so
//! that no branch is learnt by heart.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use weir_dataplane::packet;
use weir_state_transfer::ServiceId;

const PACKETS: u64 = 256;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// A packet of a kind, one of many.
type Kind = fn(u8) -> Vec<u8>;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(PACKETS));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let kinds: [(&str, Kind); 5] = [
        ("udp4", udp4),
        ("tcp4", tcp4),
        ("udp6", udp6),
        ("icmp4_error", icmp4_error),
        ("bad_checksum", bad_checksum),
    ];
    for (name, kind) in kinds {
        let frames: Vec<_> = (0..=u8::MAX).map(kind).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    let _parsed = black_box(packet::parse(black_box(frame), ServiceId(0)));
                }
            });
        });
    }
    group.finish();
}

fn udp4(n: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(MAC, MAC).ipv4([10, 0, 0, n], [192, 0, 2, 1], 64);
    packet.udp(1024 + u16::from(n), 53).write(&mut frame, &[n; 18]).expect("a short packet");
    frame
}

fn tcp4(n: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(MAC, MAC).ipv4([10, 0, 0, n], [192, 0, 2, 1], 64);
    packet.tcp(1024 + u16::from(n), 80, 1, 64).write(&mut frame, &[n; 6]).expect("a short packet");
    frame
}

fn udp6(n: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n];
    let packet = PacketBuilder::ethernet2(MAC, MAC).ipv6(source, [0x20; 16], 64);
    packet.udp(1024 + u16::from(n), 53).write(&mut frame, &[n; 18]).expect("a short packet");
    frame
}

/// An error about a packet: it takes the key of the packet that it quotes.
fn icmp4_error(n: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(MAC, MAC).ipv4([203, 0, 113, 1], [10, 0, 0, n], 64);
    let mut about = udp4(n).split_off(14);
    about.truncate(28);
    packet.icmpv4_raw(3, 1, [0; 4]).write(&mut frame, &about).expect("a short packet");
    frame
}

fn bad_checksum(n: u8) -> Vec<u8> {
    let mut frame = udp4(n);
    frame[24] ^= 1;
    frame
}

criterion_group!(benches, bench);
criterion_main!(benches);
