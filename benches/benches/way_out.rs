//! What does a packet cost on its way out over veth, by the socket and as a live frame, in bursts?
//!
//! The figures have the whole way in them: the system calls, the veth, and the XDP program at its other
//! end, whose socket takes nothing, so that packets end there. Needs root, for a network namespace.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_frame::{FrameSize, HomeId, Homes, Pool};
use weir_testbed::namespace::Namespace;
use weir_xdp::{Device, LiveMemory, LiveTx, Mode, Program, RingSizes, Rx, Socket, Tx, Umem};

/// Packets of a burst; 32 is what a worker takes from a queue at once.
const BURSTS: [usize; 5] = [1, 16, 32, 64, 128];
/// Bytes of a packet with its Ethernet header.
const LENGTHS: [usize; 2] = [64, 1500];
const RINGS: RingSizes = RingSizes { rx: 64, fill: 64, tx: 512, completion: 512 };
const FRAMES: u32 = 2048;

fn bench(criterion: &mut Criterion) {
    let namespace = Namespace::new().expect("a network namespace needs root");
    namespace.run("ip link add near type veth peer name far").expect("a veth");
    for device in ["near", "far"] {
        namespace.run(&format!("ip link set {device} up")).expect("it is there");
    }
    // What is opened in the namespace stays there.
    let mut way = namespace.enter(WayOut::open).expect("it is there");
    for length in LENGTHS {
        measure(criterion, "socket", length, &mut way);
    }
    way.tx.set_live(way.live.take().expect("one queue")).expect("all has left");
    for length in LENGTHS {
        measure(criterion, "live_frames", length, &mut way);
    }
    let state = namespace.enter(|| way.near.watch_live()).expect("it is there");
    let taken = state.expect("the device is there").expect("it is live").taken;
    let share = taken.unwrap_or(0) as f64 / way.tx.live_counters().packets as f64;
    assert!(share > 0.99, "the other end has taken {share} of the live frames");
}

/// The near end of a veth, and what keeps both ends as they are.
struct WayOut {
    tx: Tx,
    live: Option<LiveTx>,
    pool: Pool,
    near: Program,
    _rest: (Rx, Socket, Program, LiveMemory),
}

impl WayOut {
    fn open() -> WayOut {
        let (memory, all) = LiveMemory::new(FRAMES, FrameSize::B2048).expect("memory for frames");
        let mut pool = Pool::new(HomeId(0), &Homes::new(memory.region()));
        pool.adopt(all);
        let umem = Umem::new(memory.region(), false);
        let open = |device: &str| {
            let device = Device::find(device).expect("the device is there");
            Program::attach(&device, Mode::Copy).expect("a program attaches to a veth")
        };
        let far = open("far");
        let end = Socket::open(&umem, far.device(), 0, RINGS).expect("a socket");
        far.connect(0, &end).expect("the queue is there");
        let mut near = open("near");
        let socket = Socket::open(&umem, near.device(), 0, RINGS).expect("a socket");
        let live = near.go_live(&memory, 1).expect("the other end takes live frames").pop();
        let (rx, tx) = socket.split();
        WayOut { tx, live, pool, near, _rest: (rx, end, far, memory) }
    }
}

fn measure(criterion: &mut Criterion, way: &str, length: usize, way_out: &mut WayOut) {
    let WayOut { tx, pool, .. } = way_out;
    let mut group = criterion.benchmark_group(format!("way_out/{way}/{length}"));
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut packet = vec![0; length];
    packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    for burst in BURSTS {
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(BenchmarkId::from_parameter(burst), |bencher| {
            bencher.iter(|| {
                for _ in 0..burst {
                    let mut frame = pool.alloc().expect("a free frame");
                    frame.write(&packet).expect("it fits");
                    tx.send(frame).expect("room in the ring");
                }
                assert_eq!(tx.flush(pool), 0, "all leaves");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
