//! What does it cost to hand packets from one worker to another by a ring, in bursts?
//!
//! The ring is that of the workers with items of their kind. On one thread the cost is that of
//! push and pop; between two threads, each on a core of its own where the machine has two, it is
//! the time a packet takes of a stream that goes to the other thread and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rtrb::{Consumer, Producer, RingBuffer};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use weir_dataplane::port::BURST;
use weir_dataplane::worker::Item;
use weir_frame::{Frame, FrameSize, Region};
use weir_state_transfer::PortId;

/// Slots of a ring, as the configuration's default.
const SLOTS: usize = 1024;
/// Packets under way at most.
const PACKETS: u32 = 512;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handover");
    group.throughput(Throughput::Elements(BURST as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let (_region, frames) = Region::heap(PACKETS, FrameSize::B2048);
    let mut items: Vec<_> = frames.into_iter().map(item).collect();
    let (mut to, mut from) = RingBuffer::new(SLOTS);
    group.bench_function("one_thread", |bencher| {
        bencher.iter(|| {
            for item in items.drain(items.len() - BURST..) {
                to.push(item).expect("the ring has room");
            }
            while let Ok(item) = from.pop() {
                items.push(item);
            }
        });
    });
    group.bench_function("two_threads_there_and_back", |bencher| {
        bencher.iter_custom(|bursts| two_threads(bursts, &mut items));
    });
    group.finish();
}

/// How long a stream of so many bursts takes to the other thread and back.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn two_threads(bursts: u64, items: &mut Vec<Item>) -> Duration {
    let (mut there, other_in) = RingBuffer::new(SLOTS);
    let (other_out, mut back) = RingBuffer::new(SLOTS);
    let stop = AtomicBool::new(false);
    let before = sched_getaffinity(None).ok();
    let elapsed = thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            send_back(other_in, other_out, &stop);
        });
        pin(0);
        let began = Instant::now();
        let (mut sent, mut received) = (0, 0);
        let packets = bursts * BURST as u64;
        while received < packets {
            for _ in 0..BURST {
                if sent == packets {
                    break;
                }
                let Some(item) = items.pop() else { break };
                there.push(item).expect("as many slots as packets");
                sent += 1;
            }
            while let Ok(item) = back.pop() {
                items.push(item);
                received += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        began.elapsed()
    });
    if let Some(before) = before {
        let _same_as_before = sched_setaffinity(None, &before);
    }
    elapsed
}

fn send_back(mut from: Consumer<Item>, mut to: Producer<Item>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let Ok(item) = from.pop() else { break };
            to.push(item).expect("as many slots as packets");
        }
    }
}

fn item(frame: Frame) -> Item {
    Item::Transmit(PortId(0), frame)
}

/// Pins this thread to a core where there is such a core.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _unpinned_then = sched_setaffinity(None, &set);
}

criterion_group!(benches, bench);
criterion_main!(benches);
