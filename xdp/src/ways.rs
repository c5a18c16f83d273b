//! Live frames where they can be, and the socket for what they can not take.
//!
//! A host that takes live frames and packets of a socket out of one ring puts some of these in front of
//! the frames before them. So packets leave as live frames all, and by the socket only while the device
//! takes no live frames, or a run of them fails; and live frames are sent when nothing is left in the
//! socket's rings.

use std::io;

use weir_frame::{Frame, Pool};

use crate::live::{LONGEST, RUN_MAX, Run};
use crate::sender::{SHORTEST, Sender};

/// Packets that wait for the next flush.
#[derive(Debug)]
pub(crate) struct Ways {
    waiting: Vec<Frame>,
    /// Those that are too long for live frames.
    long: usize,
    counters: LiveCounters,
}

/// What has left by live frames; running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounters {
    /// Packets that have gone to the device.
    pub packets: u64,
    /// Runs of the program, each a system call.
    pub runs: u64,
    /// Runs that the kernel refused or broke off, so that packets went by the socket.
    pub failed: u64,
    /// Packets that the program did not send, and that are lost; 0 unless we have a bug.
    pub invalid: u64,
}

impl Ways {
    /// Ways for so many packets at one time.
    pub(crate) fn new(slots: u32) -> Ways {
        let waiting = Vec::with_capacity(slots as usize);
        Ways { waiting, long: 0, counters: LiveCounters::default() }
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
        run: Option<impl FnMut(&[Frame]) -> io::Result<Run>>,
    ) -> u32 {
        if sender.is_gone() {
            return self.waiting.len() as u32 + sender.pending();
        }
        if sender.lent() > 0 {
            sender.flush(pool, &mut kick);
        }
        let by_live_frames = !self.waiting.is_empty() && self.long == 0 && sender.lent() == 0;
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

    fn flush_live(&mut self, pool: &mut Pool, mut run: impl FnMut(&[Frame]) -> io::Result<Run>) {
        let burst = self.waiting.len();
        // Runs of one length: a short one costs as much as a long one.
        let length = burst.div_ceil(burst.div_ceil(RUN_MAX));
        let mut left = 0;
        for frames in self.waiting.chunks(length) {
            let Run { tried, sent } = run(frames).unwrap_or(Run { tried: 0, sent: 0 });
            left += tried;
            self.counters.runs += u64::from(tried > 0);
            self.counters.packets += sent as u64;
            self.counters.invalid += (tried - sent) as u64;
            if tried < frames.len() {
                self.counters.failed += 1;
                break;
            }
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

    /// Packets that have left: to the device, or nowhere.
    pub(crate) fn completed(&self) -> u64 {
        self.counters.packets + self.counters.invalid
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
        /// Packets of a run that the program has, at most.
        run_max: usize,
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

        fn run(&mut self, frames: &[Frame]) -> io::Result<Run> {
            if self.refuses_runs {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            let tried = frames.len().min(self.run_max);
            self.runs.push(frames[..tried].iter().map(Frame::index).collect());
            Ok(Run { tried, sent: tried })
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
        fn new(slots: u32) -> Bench {
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
                run_max: RUN_MAX,
            };
            let ways = Ways::new(slots);
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
    fn packets_leave_as_live_frames_however_few() {
        let mut bench = Bench::new(256);
        let sent: Vec<_> = [1, 16]
            .map(|count| {
                let sent = bench.send(count, 60);
                assert_eq!(bench.flush(), 0);
                sent
            })
            .into();
        assert_eq!((&bench.kernel.runs, bench.kernel.by_socket.len()), (&sent, 0));
        assert_eq!((bench.ways.counters().packets, bench.pool.len()), (17, 1024));
    }

    #[test]
    fn a_long_burst_leaves_in_runs_of_one_length_in_order() {
        let mut bench = Bench::new(512);
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
        let mut bench = Bench::new(256);
        bench.most = 0;
        bench.open = false;
        let first = bench.send(10, 60);
        assert_eq!(bench.flush(), 10);
        bench.open = true;
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
        let mut bench = Bench::new(256);
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
        let mut bench = Bench::new(256);
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
    fn what_a_run_that_is_broken_off_has_not_sent_leaves_by_the_socket() {
        let mut bench = Bench::new(256);
        bench.kernel.run_max = 40;
        let sent = bench.send(100, 60);
        assert_eq!(bench.flush(), 0);
        assert_eq!(
            (&bench.kernel.runs[..], &bench.kernel.by_socket[..]),
            (&[sent[..40].to_vec()][..], &sent[40..])
        );
        let counters = bench.ways.counters();
        assert_eq!((counters.packets, counters.failed, counters.invalid), (40, 1, 0));
        assert_eq!((bench.ways.completed(), bench.sender.completed()), (40, 60));
    }

    #[test]
    fn at_a_device_that_is_down_packets_wait_and_find_no_room_in_the_end() {
        let mut bench = Bench::new(64);
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
