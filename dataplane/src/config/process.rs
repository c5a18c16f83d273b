//! The tables about the process itself: `[node]`, `[dataplane]`, `[idle]`, `[[worker]]`, `[memory]`.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use weir_frame::{FrameSize, HugePages};

use super::Name;
use super::report::{Finding, Findings};
use super::section::Section;
use super::value;
use crate::driver::{Cores, Idle, Poll};

/// Most workers of a node.
pub const WORKERS_MAX: u8 = 16;
/// Most switch instances of a node.
pub const INSTANCES_MAX: u8 = 250;

/// `[dataplane]` and `[idle]`: how the process serves its agent and how its workers poll.
#[derive(Clone, Debug)]
pub struct Process {
    /// Unix socket of the agent; default `/run/weir/dataplane.sock`.
    pub socket: PathBuf,
    /// Whether workers sleep when they have nothing to do; default adaptive.
    pub poll: Poll,
    /// When an adaptive worker yields and sleeps.
    pub idle: Idle,
    /// Most workers at one time, 1 to 16; default 8.
    pub workers_max: u8,
    /// Most instances at one time, 1 to 250; default 64.
    pub instances_max: u8,
    /// Items in the ring from one worker to another, a power of two; default 512.
    pub handover_ring: u32,
}

/// One `[[worker]]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// The core that it is pinned to; `None` leaves it to the scheduler.
    pub core: Option<u16>,
}

/// `[memory]`: the frames that all ports share.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How many; default as many as the quotas of the configuration add up to.
    pub frames: u32,
    /// The size of each; default 2,048 bytes.
    pub frame_size: FrameSize,
    /// Whether huge pages are tried; default yes.
    pub huge_pages: HugePages,
}

/// `[memory]` before the quotas have been added up.
pub(super) struct MemoryDraft {
    pub(super) frames: Option<Spanned<u32>>,
    pub(super) frame_size: FrameSize,
    pub(super) huge_pages: HugePages,
}

const POLLS: &[(&str, Poll)] = &[("adaptive", Poll::Adaptive), ("busy", Poll::Busy)];
const HUGE_PAGES: &[(&str, HugePages)] = &[("try", HugePages::Try), ("off", HugePages::Off)];

pub(super) fn read_node(mut section: Section<'_>, default: Name) -> Name {
    let name = section.or("name", default, value::name);
    section.close();
    name
}

pub(super) fn read_process(mut section: Section<'_>, mut idle: Section<'_>) -> Process {
    let read = Process {
        socket: section.or("socket", "/run/weir/dataplane.sock".into(), value::socket_path),
        poll: section.or("poll", Poll::Adaptive, value::word(POLLS)),
        workers_max: section.or("workers_max", 8, value::count(1..=WORKERS_MAX)),
        instances_max: section.or("instances_max", 64, value::count(1..=INSTANCES_MAX)),
        handover_ring: section.or("handover_ring", 512, value::power_of_two(64..=65_536)),
        idle: read_idle(&mut idle),
    };
    section.close();
    idle.close();
    read
}

fn read_idle(section: &mut Section<'_>) -> Idle {
    let default = Idle::default();
    let micros = |micros| Duration::from_micros(micros);
    let idle = Idle {
        yield_after: section.or(
            "yield_after",
            default.yield_after,
            value::duration(Duration::ZERO..=micros(1_000_000)),
        ),
        sleep_after: section.or(
            "sleep_after",
            default.sleep_after,
            value::duration(Duration::ZERO..=micros(10_000_000)),
        ),
        sleep_max: section.or(
            "sleep_max",
            default.sleep_max,
            value::duration(micros(1_000)..=micros(1_000_000)),
        ),
    };
    if idle.sleep_after < idle.yield_after {
        section.fault(
            "sleep_after is shorter than yield_after",
            "a worker yields before it sleeps",
            format!("raise sleep_after to at least {:?}", idle.yield_after),
        );
    }
    idle
}

pub(super) fn read_worker(
    mut section: Section<'_>,
    cores: &Cores,
    findings: &Findings,
) -> Spanned<Worker> {
    let header = section.header();
    let core = section.optional("core", value::count(0..=1023_u16));
    section.close();
    if let Some(core) = core.as_ref().filter(|core| !cores.contains(*core.get_ref())) {
        let title = format!("core {} is not there", core.get_ref());
        let finding = Finding::error(core.span(), title, "this process cannot run on it");
        findings.push(finding.help(format!("cores that it can run on: {cores}")));
    }
    let span = core.as_ref().map_or(header, Spanned::span);
    Spanned::new(span, Worker { core: core.map(Spanned::into_inner) })
}

pub(super) fn read_memory(mut section: Section<'_>) -> MemoryDraft {
    let frame_size = |value: &toml::de::DeValue<'_>| match value::size(2048..=4096)(value) {
        Ok(2048) => Ok(FrameSize::B2048),
        Ok(4096) => Ok(FrameSize::B4096),
        Ok(_) | Err(_) => Err("expected 2048 or 4096".to_owned()),
    };
    let read = MemoryDraft {
        frames: section.optional("frames", value::count(1024..=super::quota::FRAMES_MAX)),
        frame_size: section.or("frame_size", FrameSize::B2048, frame_size),
        huge_pages: section.or("huge_pages", HugePages::Try, value::word(HUGE_PAGES)),
    };
    section.close();
    read
}
