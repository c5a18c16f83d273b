//! What can only be judged over several tables: names used twice, networks that meet, memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;
use weir_frame::FrameSize;

use super::nf::Nf;
use super::port::{Backend, PortDraft};
use super::process::{Memory, MemoryDraft, Worker};
use super::quota::{FRAMES_MAX, Quota};
use super::report::{Finding, Findings};
use crate::nf::FunctionConfig;

/// Warns when workers share a core: each of them expects it whole.
pub(super) fn workers(workers: &[Spanned<Worker>], findings: &Findings) {
    let pinned = workers.iter().filter_map(|worker| Some((worker.get_ref().core?, worker.span())));
    for (core, span, first) in repeated(pinned) {
        let title = format!("two workers share core {core}");
        let finding = Finding::warning(span, title, "shared").over_the_whole();
        findings.push(finding.context(first, "pinned here first"));
    }
}

/// Refuses names, interfaces, addresses and networks that two ports claim.
pub(super) fn ports(ports: &[PortDraft], findings: &Findings) {
    let names = ports.iter().map(|draft| (draft.port.name.as_str(), draft.name_span.clone()));
    let devices = ports.iter().filter_map(|draft| match &draft.port.backend {
        Backend::AfXdp { device, .. } => Some((device.as_str(), draft.device_span.clone())),
        Backend::Pcap { .. } => None,
    });
    let writers = ports.iter().filter_map(|draft| match &draft.port.backend {
        Backend::Pcap { tx, .. } => Some((tx.as_deref()?.to_str()?, draft.device_span.clone())),
        Backend::AfXdp { .. } => None,
    });
    for (what, repeats) in [
        ("port name", repeated(names)),
        ("device", repeated(devices)),
        ("tx file", repeated(writers)),
    ] {
        for (value, span, first) in repeats {
            let title = format!("{what} {value} is used twice");
            let finding = Finding::error(span, title, "again here").over_the_whole();
            findings.push(finding.context(first, "first here"));
        }
    }
    networks(ports, findings);
}

/// Refuses an address that is given twice, and networks of two ports that overlap.
fn networks(ports: &[PortDraft], findings: &Findings) {
    let all: Vec<(usize, IpNet, &Range<usize>)> = ports
        .iter()
        .enumerate()
        .flat_map(|(n, draft)| {
            let addresses = draft.port.addresses.iter().zip(&draft.address_spans);
            addresses.map(move |(address, span)| (n, *address, span))
        })
        .collect();
    for (later, (port, address, span)) in all.iter().enumerate() {
        let clash = all[..later].iter().find(|(other, earlier, _)| {
            let same_address = earlier.addr() == address.addr();
            let overlap = earlier.contains(&address.trunc()) || address.contains(&earlier.trunc());
            same_address || (overlap && other != port)
        });
        let Some((_, earlier, first)) = clash else { continue };
        let title = if earlier.addr() == address.addr() {
            format!("address {} is used twice", address.addr())
        } else {
            format!("network {} overlaps {} of another port", address.trunc(), earlier.trunc())
        };
        let finding = Finding::error((*span).clone(), title, "again here").over_the_whole();
        findings.push(finding.context((*first).clone(), "first here"));
    }
}

/// Refuses backends at addresses of the router itself: what a NAT leads there is forwarded, and
/// nobody would get it.
pub(super) fn backends(nfs: &[Spanned<Nf>], ports: &[PortDraft], findings: &Findings) {
    let addresses = ports.iter().flat_map(|draft| {
        let spans = draft.address_spans.iter();
        draft.port.addresses.iter().map(IpNet::addr).zip(spans)
    });
    let own: HashMap<IpAddr, &Range<usize>> = addresses.collect();
    for nf in nfs {
        let FunctionConfig::Nat(nat) = &nf.get_ref().function else { continue };
        for backend in nat.rules.backends() {
            let Some(place) = own.get(&backend.ip()) else { continue };
            let title = format!("the backend {backend} is at an address of the router itself");
            let finding = Finding::error(nf.span(), title, "of a service here").over_the_whole();
            let finding = finding.context((*place).clone(), "this port has the address");
            findings.push(finding.help("name a host behind a port"));
        }
    }
}

/// Refuses packets that do not fit in a frame: the kernel reserves 256 bytes in front.
pub(super) fn mtu(ports: &[PortDraft], frame_size: FrameSize, findings: &Findings) {
    let most = frame_size.bytes() - 256 - 18;
    for draft in ports {
        if draft.port.mtu.is_some_and(|mtu| usize::from(mtu) > most) {
            let title = format!("packets of port {} do not fit in a frame", draft.port.name);
            let label = format!("at most {most} with frames of {} bytes", frame_size.bytes());
            let finding = Finding::error(draft.mtu_span.clone(), title, &label).over_the_whole();
            findings.push(finding.help("say frame_size = 4096 in [memory], or lower mtu"));
        }
    }
}

/// The memory that the quotas need, or an error that shows how they add up.
pub(super) fn memory(draft: MemoryDraft, quota: &Quota, findings: &Findings) -> Memory {
    let MemoryDraft { frames, frame_size, huge_pages } = draft;
    let (span, available) = match &frames {
        Some(frames) => (frames.span(), *frames.get_ref()),
        None => (0..0, quota.frames()),
    };
    if u64::from(available) < quota.total() {
        let least = quota.total().next_multiple_of(1024);
        let what_to_do = if least > u64::from(FRAMES_MAX) {
            format!("lower the rings and quotas below: {FRAMES_MAX} frames are the most")
        } else {
            format!("raise frames in [memory] to {least}, or lower what follows")
        };
        let title =
            format!("{available} frames are fewer than the {} that can be in use", quota.total());
        let finding = Finding::error(span, title, "too few").over_the_whole();
        findings.push(finding.help(format!("{what_to_do}\n{quota}")));
    }
    Memory { frames: available, frame_size, huge_pages }
}

/// Each repeated value with its own place and that of its first use.
fn repeated<T: Copy + Eq + Hash>(
    items: impl Iterator<Item = (T, Range<usize>)>,
) -> Vec<(T, Range<usize>, Range<usize>)> {
    let mut first: HashMap<T, Range<usize>> = HashMap::new();
    let mut repeats = Vec::new();
    for (value, span) in items {
        match first.entry(value) {
            Entry::Occupied(entry) => repeats.push((value, span, entry.get().clone())),
            Entry::Vacant(entry) => {
                entry.insert(span);
            }
        }
    }
    repeats
}
