//! Which way packets leave: by the socket, or by live frames.
//!
//! Both ways lead into one queue of the device. What goes by the socket is with the device only when it
//! is completed, so live frames are sent when nothing is left in the socket's rings.

use std::io;

use weir_frame::{Frame, Pool};

use crate::live::{LONGEST, RUN_MAX};
use crate::sender::{SHORTEST, Sender};

/// Packets that wait for the next flush, which says which way they go.
#[derive(Debug)]
pub(crate) struct Ways {
    waiting: Vec<Frame>,
    /// Those that are too long for live frames.
    long: usize,
    /// Bursts of so many packets go by live frames.
    least: usize,
    counters: LiveCounters,
}

/// What has left by live frames; running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounters {
    /// Packets.
    pub packets: u64,
    /// Runs of the program, each a system call.
    pub runs: u64,
    /// Runs that the kernel refused, so that the packets went by the socket.
    pub failed: u64,
    /// Packets that the program did not send; 0 unless we have a bug.
    pub invalid: u64,
}

impl Ways {
    /// Ways for so many packets at one time, of which bursts of `least` go by live frames.
    pub(crate) fn new(slots: u32, least: usize) -> Ways {
        let waiting = Vec::with_capacity(slots as usize);
        Ways { waiting, long: 0, least: least.max(1), counters: LiveCounters::default() }
    }

    /// Puts a packet to those that wait.
    #[inline]
    pub(crate) fn send(&mut self, sender: &Sender, frame: Frame) -> Result<(), Frame> {
        if !self.has_room(sender) || frame.len() < SHORTEST {
            return Err(frame);
        }
        self.long += usize::from(frame.len() > LONGEST);
        self.waiting.push(frame);
        Ok(())
    }

    /// Whether one more packet can wait.
    #[inline]
    pub(crate) fn has_room(&self, sender: &Sender) -> bool {
        self.waiting.len() + sender.lent() < sender.slots() as usize
    }

    /// Sends what waits, in its order, and frees what has left; returns how many packets have not. `run`
    /// sends some by live frames, if the device takes them now; `kick` has the kernel send by the socket.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        sender: &mut Sender,
        pool: &mut Pool,
        mut kick: impl FnMut() -> io::Result<()>,
        run: Option<impl FnMut(&[Frame]) -> io::Result<u32>>,
    ) -> u32 {
        if sender.lent() > 0 {
            sender.flush(pool, &mut kick);
        }
        let by_live_frames =
            self.waiting.len() >= self.least && self.long == 0 && sender.lent() == 0;
        if let Some(run) = run
            && by_live_frames
        {
            // Live frames would be lost at a device that is down, where the socket's wait.
            if !sender.kick(&mut kick) {
                return self.waiting.len() as u32;
            }
            self.flush_live(pool, run);
        }
        if self.waiting.is_empty() {
            return sender.pending();
        }
        self.flush_socket(sender, pool, kick)
    }

    fn flush_live(&mut self, pool: &mut Pool, mut run: impl FnMut(&[Frame]) -> io::Result<u32>) {
        let burst = self.waiting.len();
        // Runs of one length: a short one costs as much as a long one.
        let length = burst.div_ceil(burst.div_ceil(RUN_MAX));
        let mut left = 0;
        for frames in self.waiting.chunks(length) {
            let Ok(sent) = run(frames) else {
                self.counters.failed += 1;
                break;
            };
            left += frames.len();
            self.counters.runs += 1;
            self.counters.packets += frames.len() as u64;
            self.counters.invalid += frames.len() as u64 - u64::from(sent);
        }
        for frame in self.waiting.drain(..left) {
            pool.free(frame);
        }
    }

    fn flush_socket(
        &mut self,
        sender: &mut Sender,
        pool: &mut Pool,
        kick: impl FnMut() -> io::Result<()>,
    ) -> u32 {
        let waiting = self.waiting.len();
        let fit = waiting.min(sender.room(waiting as u32));
        for frame in self.waiting.drain(..fit) {
            self.long -= usize::from(frame.len() > LONGEST);
            let sent = sender.send(frame);
            debug_assert!(sent.is_ok(), "it has room, and the frame is long enough");
        }
        sender.flush(pool, kick) + self.waiting.len() as u32
    }

    /// Packets that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn counters(&self) -> LiveCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use weir_frame::{FrameSize, HomeId, Homes, Loans, Region};

    use super::*;
    use crate::ring::{Chunk, Consumer, Descriptor, Producer, testing};

    /// The kernel's end of the socket, and a device that takes live frames: the numbers of what has come.
    struct Kernel {
        tx: Consumer<Descriptor>,
        completion: Producer<Chunk>,
        region: Region,
        by_socket: Vec<u32>,
        runs: Vec<Vec<u32>>,
        down: bool,
        refuses_runs: bool,
    }

    impl Kernel {
        fn kick(&mut self, most: usize) -> io::Result<()> {
            if self.down {
                return Err(io::Error::from_raw_os_error(libc::ENETDOWN));
            }
            self.tx.available(32);
            for _ in 0..most {
                if self.completion.room(1) == 0 {
                    break;
                }
                let Some(descriptor) = self.tx.pop() else { break };
                let chunk = descriptor.address as u32 / self.region.frame_size().bytes() as u32;
                self.by_socket.push(chunk);
                self.completion.push(Chunk(descriptor.address));
            }
            self.tx.release();
            self.completion.publish();
            Ok(())
        }

        fn run(&mut self, frames: &[Frame]) -> io::Result<u32> {
            if self.refuses_runs {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            self.runs.push(frames.iter().map(Frame::index).collect());
            Ok(frames.len() as u32)
        }
    }

    struct Bench {
        ways: Ways,
        sender: Sender,
        pool: Pool,
        kernel: Kernel,
        open: bool,
        /// Packets that the socket takes in one call.
        most: usize,
    }

    impl Bench {
        fn new(slots: u32, least: usize) -> Bench {
            let (region, all) = Region::heap(1024, FrameSize::B4096);
            let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
            pool.adopt(all);
            let (ring, tx) = testing::pair(slots, true);
            let (completion, completed) = testing::pair(slots, false);
            let sender = Sender::new(ring, completed, Loans::new(&region));
            let (by_socket, runs) = (Vec::new(), Vec::new());
            let kernel = Kernel {
                tx,
                completion,
                region,
                by_socket,
                runs,
                down: false,
                refuses_runs: false,
            };
            let ways = Ways::new(slots, least);
            Bench { ways, sender, pool, kernel, open: true, most: 32 }
        }

        /// Queues so many packets, and says which.
        fn send(&mut self, count: usize, len: usize) -> Vec<u32> {
            let mut one = |_| {
                let mut frame = self.pool.alloc().unwrap();
                frame.write(&vec![7; len]).unwrap();
                let index = frame.index();
                self.ways.send(&self.sender, frame).map(|()| index)
            };
            (0..count).map_while(|n| one(n).ok()).collect()
        }

        fn flush(&mut self) -> u32 {
            let kernel = std::cell::RefCell::new(&mut self.kernel);
            let (open, most) = (self.open, self.most);
            let run = open.then_some(|frames: &[Frame]| kernel.borrow_mut().run(frames));
            let kick = || kernel.borrow_mut().kick(most);
            self.ways.flush(&mut self.sender, &mut self.pool, kick, run)
        }
    }

    #[test]
    fn a_burst_leaves_by_live_frames_and_less_by_the_socket() {
        let mut bench = Bench::new(256, 16);
        let few = bench.send(15, 60);
        assert_eq!(bench.flush(), 0);
        let many = bench.send(16, 60);
        assert_eq!(bench.flush(), 0);
        assert_eq!((&bench.kernel.by_socket, &bench.kernel.runs), (&few, &vec![many]));
        assert_eq!((bench.ways.counters().packets, bench.sender.completed()), (16, 15));
        assert_eq!(bench.pool.len(), 1024);
    }

    #[test]
    fn a_long_burst_leaves_in_runs_of_one_length_in_order() {
        let mut bench = Bench::new(512, 16);
        let sent = bench.send(300, 60);
        assert_eq!(bench.flush(), 0);
        let lengths: Vec<_> = bench.kernel.runs.iter().map(Vec::len).collect();
        assert_eq!((lengths, bench.kernel.runs.concat()), (vec![100; 3], sent));
        assert_eq!(
            bench.ways.counters(),
            LiveCounters { packets: 300, runs: 3, failed: 0, invalid: 0 }
        );
    }

    #[test]
    fn live_frames_wait_for_what_the_socket_has_not_sent() {
        let mut bench = Bench::new(256, 16);
        bench.most = 0;
        let first = bench.send(10, 60);
        assert_eq!(bench.flush(), 10);
        let second = bench.send(20, 60);
        assert_eq!(bench.flush(), 30, "nothing overtakes");
        bench.most = 32;
        let third = bench.send(20, 60);
        assert_eq!(bench.flush(), 0);
        assert_eq!(bench.kernel.by_socket, [first, second].concat());
        assert_eq!(bench.kernel.runs, [third]);
    }

    #[test]
    fn a_packet_that_no_live_frame_holds_takes_its_burst_along() {
        let mut bench = Bench::new(256, 16);
        let long = bench.send(1, LONGEST + 1);
        let sent = bench.send(20, LONGEST);
        assert_eq!(bench.flush(), 0);
        assert_eq!(bench.kernel.by_socket, [long, sent].concat());
        bench.send(20, LONGEST);
        bench.flush();
        assert_eq!(bench.kernel.runs.len(), 1);
    }

    #[test]
    fn what_a_run_is_refused_and_what_the_device_does_not_take_leaves_by_the_socket() {
        let mut bench = Bench::new(256, 1);
        bench.kernel.refuses_runs = true;
        let mut sent = bench.send(30, 60);
        assert_eq!((bench.flush(), bench.ways.counters().failed), (0, 1));
        bench.kernel.refuses_runs = false;
        bench.open = false;
        sent.extend(bench.send(30, 60));
        assert_eq!(bench.flush(), 0);
        assert_eq!((&bench.kernel.by_socket, bench.kernel.runs.len()), (&sent, 0));
        bench.open = true;
        bench.send(1, 60);
        assert_eq!((bench.flush(), bench.kernel.runs.len()), (0, 1), "all that there is to be");
    }

    #[test]
    fn at_a_device_that_is_down_packets_wait_and_find_no_room_in_the_end() {
        let mut bench = Bench::new(64, 16);
        bench.kernel.down = true;
        let sent = bench.send(70, 60);
        assert_eq!((sent.len(), bench.flush(), bench.flush()), (64, 64, 64));
        assert_eq!((bench.sender.counters().down, bench.kernel.runs.len()), (2, 0));
        assert!(bench.send(1, 60).is_empty());
        bench.kernel.down = false;
        assert_eq!(bench.flush(), 0);
        assert_eq!(bench.kernel.runs.concat(), sent);
    }
}
