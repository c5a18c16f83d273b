//! Forwards every packet from each of two devices to the other, by moving descriptors.
//!
//! `cargo run --release -p weir-xdp --example forward -- DEVICE DEVICE`
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;

use weir_frame::{FrameSize, HomeId, Homes, HugePages, Pool, Region};
use weir_xdp::{Device, Mode, Program, RingSizes, Rx, Socket, Tx, Umem};

const RINGS: RingSizes = RingSizes { rx: 4096, fill: 4096, tx: 2048, completion: 2048 };
const BURST: usize = 64;

struct Port {
    program: Program,
    rx: Rx,
    tx: Tx,
}

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [first, second] = names.as_slice() else {
        return Err("usage: forward DEVICE DEVICE".into());
    };
    let per_port = RINGS.fill + RINGS.tx;
    let (region, frames) =
        Region::anonymous(2 * per_port + 1024, FrameSize::B2048, HugePages::Try)?;
    let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
    pool.adopt(frames);

    let programs = [attach(first)?, attach(second)?];
    let zero_copy = programs.iter().all(|program| program.mode() == Mode::ZeroCopy);
    let umem = Umem::new(&region, zero_copy);
    let [first, second] = programs.map(|program| open(program, &umem, &mut pool));
    let (mut first, mut second) = (first?, second?);

    let mut forwarded = 0_u64;
    loop {
        let there = forward(&mut first.rx, &mut second.tx, &mut pool);
        let back = forward(&mut second.rx, &mut first.tx, &mut pool);
        let before = forwarded;
        forwarded += (there + back) as u64;
        if before >> 20 != forwarded >> 20 {
            println!("{forwarded} packets; {:?}", first.program.outcomes()?);
        }
    }
}

fn attach(name: &str) -> Result<Program, weir_xdp::Error> {
    let program = Program::attach(&Device::find(name)?.bring_up()?, Mode::ZeroCopy)?;
    for note in program.notes() {
        println!("{name}: {note}");
    }
    Ok(program)
}

fn open(program: Program, umem: &Umem, pool: &mut Pool) -> Result<Port, weir_xdp::Error> {
    let (mut rx, tx) = Socket::open(umem, program.device(), 0, RINGS)?.split();
    rx.refill(pool);
    program.connect(0, &rx)?;
    Ok(Port { program, rx, tx })
}

fn forward(from: &mut Rx, to: &mut Tx, pool: &mut Pool) -> usize {
    let mut burst = Vec::with_capacity(BURST);
    from.receive(pool, BURST, |frame| burst.push(frame));
    let packets = burst.len();
    for frame in burst {
        if let Err(frame) = to.send(frame) {
            pool.free(frame);
        }
    }
    to.flush(pool);
    packets
}
