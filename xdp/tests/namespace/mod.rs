//! What the tests over veth stand on: namespaces, devices, ports, and the kernel as a listener.
#![expect(unsafe_code, reason = "namespaces, processes and raw sockets are system calls")]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, mem, panic, ptr, thread};

use libbpf_rs::query::LinkInfoIter;
use libbpf_rs::{Xdp, XdpFlags, libbpf_sys};
use weir_frame::{Frame, FrameSize, HomeId, Homes, HugePages, Pool, Region};
use weir_xdp::{Device, LiveMemory, Mode, Program, RingSizes, Rx, Socket, Tx, Umem};

pub(crate) const RINGS: RingSizes = RingSizes { rx: 1024, fill: 1024, tx: 512, completion: 512 };

/// Longest wait for a packet, in milliseconds.
const LIMIT_MS: i32 = 10_000;

/// Runs `test` on a thread in a new network namespace, which goes with the thread. The kernel
/// sends nothing there by itself.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        // SAFETY: the call takes no pointers, and concerns the calling thread only.
        let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(answer, 0, "a network namespace needs root");
        for conf in ["all", "default"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6"), "1").unwrap();
        }
        test();
    });
    if let Err(panic) = thread.join() {
        panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs something on a thread that has no capability.
pub(crate) fn without_capabilities<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let drop_and_work = || {
        // `struct __user_cap_header_struct` of version 3, for the calling thread, and no set of any.
        let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
        // SAFETY: the structures are of the lengths of that version, and live for the time of the call.
        let answer = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
        assert_eq!(answer, 0);
        work()
    };
    thread::scope(|scope| scope.spawn(drop_and_work).join().unwrap())
}

/// Makes a pair of devices that are up, with so many queues each.
pub(crate) fn veth(a: &str, b: &str, queues: u32) {
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!("link add name {a} {queues} type veth peer name {b} {queues}"));
    for device in [a, b] {
        ip(&format!("link set dev {device} up"));
    }
}

/// An Ethernet frame of `len` bytes.
pub(crate) fn packet(protocol: u16, len: usize) -> Vec<u8> {
    let mut packet = vec![0xa5; len];
    packet[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    packet[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    packet[12..14].copy_from_slice(&protocol.to_be_bytes());
    packet
}

/// Packet memory and its free frames.
pub(crate) struct Stock {
    pub(crate) region: Region,
    pub(crate) umem: Umem,
    pub(crate) pool: Pool,
    /// Where the region is one for live frames.
    pub(crate) live: Option<LiveMemory>,
}

impl Stock {
    pub(crate) fn new(frames: u32) -> Stock {
        Stock::of(frames, FrameSize::B2048)
    }

    pub(crate) fn with_large_frames(frames: u32) -> Stock {
        Stock::of(frames, FrameSize::B4096)
    }

    fn of(frames: u32, size: FrameSize) -> Stock {
        let (region, all) = Region::anonymous(frames, size, HugePages::Off).unwrap();
        Stock::over(region, all, None)
    }

    /// Memory that live frames can read.
    pub(crate) fn for_live_frames(frames: u32) -> Stock {
        let (memory, all) = LiveMemory::new(frames, FrameSize::B2048).unwrap();
        Stock::over(memory.region().clone(), all, Some(memory))
    }

    fn over(region: Region, all: Vec<Frame>, live: Option<LiveMemory>) -> Stock {
        let mut pool = Pool::new(HomeId(0), &Homes::new(&region));
        pool.adopt(all);
        Stock { umem: Umem::new(&region, false), region, pool, live }
    }
}

/// One queue of a device, ready.
pub(crate) struct Port {
    pub(crate) program: Arc<Program>,
    pub(crate) rx: Rx,
    pub(crate) tx: Tx,
}

impl Port {
    pub(crate) fn open(device: &str, stock: &mut Stock) -> Port {
        Port::open_with(device, stock, RINGS)
    }

    pub(crate) fn open_with(device: &str, stock: &mut Stock, rings: RingSizes) -> Port {
        let device = Device::find(device).unwrap();
        let program = Arc::new(Program::attach(&device, Mode::ZeroCopy).unwrap());
        let port = Port::unconnected(&program, 0, stock, rings);
        program.connect(0, &port.rx).unwrap();
        port
    }

    /// A port whose packets leave as live frames.
    pub(crate) fn open_live(device: &str, stock: &mut Stock) -> Port {
        let device = Device::find(device).unwrap();
        let mut program = Program::attach(&device, Mode::ZeroCopy).unwrap();
        assert!(program.takes_live_frames().unwrap(), "the other end takes live frames");
        let memory = stock.live.as_ref().expect("memory for live frames");
        let live = program.go_live(memory, 1).unwrap().pop().unwrap();
        let program = Arc::new(program);
        let mut port = Port::unconnected(&program, 0, stock, RINGS);
        program.connect(0, &port.rx).unwrap();
        port.tx.set_live(live).unwrap();
        port
    }

    /// A socket on a queue that the program does not know.
    pub(crate) fn unconnected(
        program: &Arc<Program>,
        queue: u32,
        stock: &mut Stock,
        rings: RingSizes,
    ) -> Port {
        let socket = Socket::open(&stock.umem, program.device(), queue, rings).unwrap();
        let (mut rx, tx) = socket.split();
        rx.refill(&mut stock.pool);
        Port { program: Arc::clone(program), rx, tx }
    }

    pub(crate) fn send_all(&mut self, pool: &mut Pool, packets: &[Vec<u8>]) {
        for packet in packets {
            let mut frame = pool.alloc().expect("a free frame");
            frame.write(packet).unwrap();
            self.tx.send(frame).expect("room in the tx ring");
        }
        assert_eq!(self.tx.flush(pool), 0);
    }

    /// Waits for `count` packets, and sees that there are no more.
    pub(crate) fn receive(&mut self, pool: &mut Pool, count: usize) -> Vec<Frame> {
        let mut packets = Vec::new();
        while packets.len() < count {
            wait(self.rx.as_fd());
            self.rx.receive(pool, 64, |frame| packets.push(frame));
        }
        assert_eq!(packets.len(), count);
        packets
    }
}

/// Waits until `fd` is readable.
fn wait(fd: BorrowedFd<'_>) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives for the time of the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, LIMIT_MS) };
    assert_eq!(ready, 1, "nothing arrived in {LIMIT_MS} ms");
}

/// What passes the XDP program: a packet socket that sees what the kernel's stack does.
pub(crate) struct Kernel {
    socket: OwnedFd,
}

impl Kernel {
    pub(crate) fn listen(device: &Device) -> Kernel {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "a packet socket needs root");
        // SAFETY: the descriptor is new, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a structure of integers, for which zero bits are a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = device.index() as i32;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is a structure of `len` bytes that lives for the time of the call.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), len) };
        assert_eq!(bound, 0);
        Kernel { socket }
    }

    /// Waits for `count` packets.
    pub(crate) fn receive(&self, count: usize) -> Vec<Vec<u8>> {
        let one = || {
            wait(self.socket.as_fd());
            let mut packet = vec![0; 2048];
            let (fd, into) = (self.socket.as_raw_fd(), packet.as_mut_ptr().cast());
            // SAFETY: `into` points to that many writable bytes.
            let len = unsafe { libc::recv(fd, into, packet.len(), 0) };
            packet.truncate(usize::try_from(len).expect("a packet"));
            packet
        };
        std::iter::repeat_with(one).take(count).collect()
    }
}

/// A process that holds a program's link and does nothing else.
pub(crate) struct Owner {
    process: Child,
}

impl Owner {
    /// Leaves `program` to a new process.
    pub(crate) fn of(program: Program) -> Owner {
        let device = program.device().index() as i32;
        let id = Xdp::new(program.as_fd()).query_id(device, XdpFlags::NONE).unwrap();
        let link = LinkInfoIter::default().find(|link| link.prog_id == id).unwrap();
        // SAFETY: the call takes no pointers.
        let link = unsafe { libbpf_sys::bpf_link_get_fd_by_id(link.id) };
        assert!(link >= 0);
        // SAFETY: the descriptor is new, and nobody else has it.
        let link = unsafe { OwnedFd::from_raw_fd(link) };
        let fd = link.as_raw_fd();
        let keep_link = move || {
            // SAFETY: the call takes no pointers.
            match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        let mut command = Command::new("sleep");
        command.arg("600");
        // SAFETY: between fork and exec a system call is made, and nothing is allocated.
        unsafe { command.pre_exec(keep_link) };
        let process = command.spawn().unwrap();
        drop((link, program));
        Owner { process }
    }

    /// Kills the process.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a limit to the wait")]
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "not in 10 s");
        thread::yield_now();
    }
}

/// Loads a program that passes everything, under a name that is not ours.
pub(crate) fn foreign_program(name: &str) -> OwnedFd {
    let name = CString::new(name).unwrap();
    let instruction = |code: u32, imm: i32| libbpf_sys::bpf_insn {
        code: code as u8,
        imm,
        ..libbpf_sys::bpf_insn::default()
    };
    let xdp_pass = 2;
    let program = [
        instruction(libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K, xdp_pass),
        instruction(libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT, 0),
    ];
    // SAFETY: the strings end in a zero byte, and the program is of that many instructions; all
    // live for the time of the call.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            c"Apache-2.0".as_ptr(),
            program.as_ptr(),
            program.len() as _,
            ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
