//! Opens the AF_XDP ports: programs on all devices first, then their sockets over one UMEM.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use weir_frame::Pool;
use weir_state_transfer::PortId;
use weir_xdp::{Device, LiveTx, Mode, Program, RingSizes, Socket, Tx as SocketTx, Umem};

use super::memory::Memory;
use super::{BootError, Opened};
use crate::config::{Backend, Checksums, Config, Port, Rings, Transmit};
use crate::node::{Kernel, LiveState, WayOut};
use crate::packet::MacAddr;
use crate::port::{Rx, RxQueue, Tx, TxQueue};

/// A port whose device has our program.
pub(super) struct Attached<'a> {
    port: &'a Port,
    program: Program,
    queues: u32,
    rings: Rings,
    transmit: Transmit,
}

/// Attaches the program to the device of each AF_XDP port, in the order of the ports. What is configured
/// of the way out is overridden by `transmit`.
pub(super) fn attach(
    config: &Config,
    transmit: Option<Transmit>,
) -> Result<Vec<Attached<'_>>, BootError> {
    let mut attached = Vec::new();
    for port in config.ports() {
        let Backend::AfXdp { device, queues, rings, transmit: configured } = &port.backend else {
            continue;
        };
        let failed = |source| BootError::Device { port: port.name.to_string(), source };
        let device = Device::find(device.as_str()).and_then(Device::bring_up).map_err(failed)?;
        let has = device.rx_queues();
        if let Some(fewer) = judge_queues(port, device.name(), has, *queues)? {
            tracing::warn!("{fewer}");
        }
        let program = Program::attach(&device, Mode::ZeroCopy).map_err(failed)?;
        let transmit = transmit.unwrap_or(*configured);
        if transmit == Transmit::Frames {
            check_live(&program, has).map_err(|why| no_live_frames(port, &program, why))?;
        }
        attached.push(Attached { port, program, queues: has, rings: *rings, transmit });
    }
    Ok(attached)
}

/// Says why packets can not leave the device as live frames.
fn check_live(program: &Program, queues: u32) -> Result<(), String> {
    let why = match program.mode() {
        Mode::ZeroCopy => "it sends from packet memory by itself",
        // By which queue they come in at the other end depends on the core that sends them.
        Mode::Copy | Mode::Generic if queues > 1 => {
            "packets of several queues could overtake each other"
        }
        Mode::Copy | Mode::Generic => match program.takes_live_frames() {
            Ok(true) => return Ok(()),
            Ok(false) => {
                "its other end takes none, or it does not count them: a veth's takes them with an XDP program, or \
                 with `ethtool -K DEVICE gro on` there"
            }
            Err(error) => return Err(error.to_string()),
        },
    };
    Err(why.to_owned())
}

fn no_live_frames(port: &Port, program: &Program, why: String) -> BootError {
    let (port, device) = (port.name.to_string(), program.device().name().to_owned());
    BootError::LiveFrames { port, device, why }
}

impl Attached<'_> {
    /// Whether packets are to leave as live frames.
    pub(super) fn is_live(&self) -> bool {
        self.transmit == Transmit::Frames
    }

    /// Has the packets of the port's queues leave as live frames, if that is to be.
    fn go_live(&mut self, memory: &Memory, queues: &mut [SocketTx]) -> Result<WayOut, BootError> {
        let Memory::Live(memory) = memory else { return Ok(WayOut::Socket) };
        if !self.is_live() {
            return Ok(WayOut::Socket);
        }
        let ways = self.program.go_live(memory, queues.len() as u32);
        let failed = |source| BootError::Device { port: self.port.name.to_string(), source };
        for (queue, live) in queues.iter_mut().zip(ways.map_err(failed)?) {
            let set = queue.set_live(live);
            debug_assert!(set.is_ok(), "nothing has been sent");
        }
        Ok(WayOut::Frames)
    }
}

/// Refuses a device with more queues than the port would poll, and says so of one with fewer: those
/// that there are are polled.
fn judge_queues(
    port: &Port,
    device: &str,
    has: u32,
    polls: u8,
) -> Result<Option<String>, BootError> {
    let name = &port.name;
    match has.cmp(&u32::from(polls)) {
        Ordering::Greater => {
            let (port, device) = (name.to_string(), device.to_owned());
            Err(BootError::Queues { port, device, has, polls })
        }
        Ordering::Equal => Ok(None),
        Ordering::Less => Ok(Some(format!(
            "port {name}: {device} has {has} rx queues and queues is {polls}: {has} are polled; set \
             queues = {has} in [[port]], or give {device} {polls} queues"
        ))),
    }
}

/// The sockets of a process, over one UMEM.
pub(super) struct Sockets {
    umem: Umem,
}

impl Sockets {
    /// The UMEM is used by the devices themselves if all of them can.
    pub(super) fn new(memory: &Memory, attached: &[Attached<'_>]) -> Self {
        let zero_copy = attached.iter().all(|port| port.program.mode() == Mode::ZeroCopy);
        Self { umem: Umem::new(memory.region(), zero_copy) }
    }

    /// Opens the queues of a port.
    pub(super) fn open(
        &mut self,
        id: PortId,
        mut attached: Attached<'_>,
        config: &Config,
        memory: &Memory,
        pool: &mut Pool,
    ) -> Result<Opened, BootError> {
        let Attached { port, program, queues, rings, .. } = &attached;
        let failed = |source| BootError::Device { port: port.name.to_string(), source };
        let sizes =
            RingSizes { rx: rings.rx, fill: rings.fill, tx: rings.tx, completion: rings.tx };
        let complete = completes(port.checksums, program.device().name());
        let (mut received, mut sent) = (Vec::new(), Vec::new());
        for queue in 0..*queues {
            let socket =
                Socket::open(&self.umem, program.device(), queue, sizes).map_err(&failed)?;
            let (mut rx, tx) = socket.split();
            rx.refill(pool);
            program.connect(queue, &rx).map_err(&failed)?;
            received.push(RxQueue::new(id, queue as u16, complete, Rx::AfXdp(rx)));
            sent.push(tx);
        }
        let way_out = attached.go_live(memory, &mut sent)?;
        let sent = sent.into_iter().map(|tx| TxQueue::new(id, Tx::AfXdp(tx)));
        let Attached { port, program, .. } = attached;
        let (mode, mode_notes) = self.mode(&program);
        Ok(Opened {
            id,
            config: port.clone(),
            mac: MacAddr(program.device().mac()),
            mtu: mtu(port, program.device(), config, way_out),
            mode,
            mode_notes,
            way_out,
            queues: received.into_iter().zip(sent).collect(),
            kernel: Some(Arc::new(Asked(program))),
        })
    }

    /// The mode of a port in a word, and for each better one why not.
    fn mode(&self, program: &Program) -> (String, Vec<String>) {
        let mut notes: Vec<String> = program.notes().iter().map(ToString::to_string).collect();
        let word = match program.mode() {
            Mode::ZeroCopy if self.umem.is_zero_copy() => "zero-copy",
            Mode::ZeroCopy => {
                notes.push("another port has no zero-copy, and all share their memory".to_owned());
                "copy"
            }
            Mode::Copy => "copy",
            Mode::Generic => "generic",
        };
        (word.to_owned(), notes)
    }
}

/// Asks the kernel about the device that a program is attached to.
#[derive(Debug)]
pub(super) struct Asked(pub(super) Program);

impl Kernel for Asked {
    fn punted(&self) -> u64 {
        // A device that has gone away passes nothing any more.
        let Ok(outcomes) = self.0.outcomes() else { return 0 };
        outcomes.pass_no_socket
            + outcomes.pass_link_local
            + outcomes.pass_other_protocol
            + outcomes.pass_runt
    }

    fn has_carrier(&self) -> bool {
        // A device that has gone away has none.
        Device::find(self.0.device().name()).is_ok_and(|device| device.has_carrier())
    }

    fn watch_live(&self) -> LiveState {
        match self.0.watch_live() {
            Ok(Some(state)) => LiveState { open: state.open, taken: state.taken },
            // A device that has gone away takes none.
            Ok(None) | Err(_) => LiveState { open: false, taken: None },
        }
    }
}

/// The longest packet of the port: what is configured, or what the device, a frame and the way out take.
fn mtu(port: &Port, device: &Device, config: &Config, way_out: WayOut) -> u16 {
    let longest = match way_out {
        WayOut::Frames => LiveTx::LONGEST,
        WayOut::Socket | WayOut::One => usize::MAX,
    };
    let most = longest.min(config.memory().frame_size.bytes() - 256) - 18;
    let most = u16::try_from(most).expect("a frame is at most 4,096 bytes long");
    let of_device = u16::try_from(device.mtu()).unwrap_or(u16::MAX);
    if port.mtu.is_none() && of_device > most {
        tracing::warn!(
            port = %port.name, device = device.name(), mtu = of_device, most,
            "longer packets do not fit in a frame: set frame_size = 4096 or lower the mtu",
        );
    }
    port.mtu.unwrap_or(of_device).min(most)
}

/// Whether senders may leave checksums to be completed here: those behind a virtual device.
fn completes(checksums: Checksums, device: &str) -> bool {
    match checksums {
        Checksums::Complete => true,
        Checksums::Trust => false,
        // A device of the machine has a link to its hardware.
        Checksums::Auto => !Path::new("/sys/class/net").join(device).join("device").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;

    #[test]
    fn packets_of_a_port_are_no_longer_than_its_frames_and_its_way_out_take() {
        let machine = Machine { cores: [].into_iter().collect(), memory: None, available: None };
        let port = "[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'lo'\n";
        // It takes 65,536 bytes.
        let device = Device::find("lo").unwrap();
        for (size, way_out, longest) in [
            (2048, WayOut::Socket, 2048 - 256 - 18),
            (2048, WayOut::Frames, 2048 - 256 - 18),
            (4096, WayOut::Socket, 4096 - 256 - 18),
            (4096, WayOut::Frames, 3408 - 18),
        ] {
            let text = format!("[memory]\nframe_size = {size}\n{port}");
            let (config, _) = Config::parse("weir.toml", text.as_bytes(), &machine).unwrap();
            assert_eq!(
                mtu(&config.ports()[0], &device, &config, way_out),
                longest,
                "{size} {way_out:?}"
            );
        }
    }

    #[test]
    fn queues_that_a_device_does_not_have_are_named_with_what_to_set() {
        let machine = Machine { cores: [].into_iter().collect(), memory: None, available: None };
        let text = "[[port]]\nname = 'a'\nbackend = 'af_xdp'\ndevice = 'eth0'\n";
        let (config, _) = Config::parse("weir.toml", text.as_bytes(), &machine).unwrap();
        let judge = |has, polls| judge_queues(&config.ports()[0], "eth0", has, polls);
        assert_eq!(judge(2, 2).unwrap(), None);
        let fewer = judge(2, 64).unwrap().unwrap();
        assert!(fewer.contains("eth0 has 2 rx queues") && fewer.contains("set queues = 2 in"));
        let more = judge(4, 2).unwrap_err().to_string();
        assert!(more.contains("eth0 has 4 rx queues") && more.contains("set queues = 4 in"));
    }
}
