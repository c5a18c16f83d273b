//! `weir doctor`: what this machine lacks, with the command that mends it.

use std::fs;

use rustix::{
    net::{AddressFamily, SocketType, socket},
    process::{Resource, getrlimit},
};
use weir_api::{
    dataplane::v1::Worker,
    v1::{DoctorReport, Finding, GetStatusRequest, status_service_client::StatusServiceClient},
};

use super::{
    client::{Client, Options, service},
    failure::Failure,
    output::{columns, show},
    status::restarts,
};

/// The oldest kernel with what the ports need: batched AF_XDP wake-ups and shared umems.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// Locked memory that the default pool needs, in bytes, on kernels that still charge it.
const MEMLOCK_MIN: u64 = 256 << 20;
const WORKERS: &str = "workers";
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let mut findings = vec![
        kernel(&read("/proc/sys/kernel/osrelease")),
        af_xdp(),
        capabilities(&read("/proc/self/status")),
        memlock(),
        jit(&read("/proc/sys/net/core/bpf_jit_enable")),
        namespaces(),
        tool("ip", "apt-get install iproute2"),
        tool("ethtool", "apt-get install ethtool"),
        cores(&read("/proc/cpuinfo")),
        huge_pages(&read("/proc/meminfo")),
    ];
    findings.extend(sockets(options).await);
    let report = DoctorReport { findings };
    show(options.output, &report, table)?;
    let sound = report.findings.iter().all(|finding| finding.ok || finding.optional);
    if sound { Ok(()) } else { Err(Failure::Problems) }
}

fn table(report: &DoctorReport) -> String {
    let row = |finding: &Finding| {
        let verdict = match (finding.ok, finding.optional) {
            (true, _) => "ok",
            (false, true) => "optional",
            (false, false) => "missing",
        };
        let cells = [finding.check.as_str(), verdict, &finding.detail, &finding.fix];
        cells.map(str::to_owned).to_vec()
    };
    columns(&["CHECK", "", "FOUND", "FIX"], report.findings.iter().map(row).collect())
}

fn finding(check: &str, ok: bool, detail: impl Into<String>, fix: &str) -> Finding {
    Finding {
        check: check.to_owned(),
        ok,
        optional: false,
        detail: detail.into(),
        fix: if ok { String::new() } else { fix.to_owned() },
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let fix = "apt-get install linux-image-amd64, then reboot";
    finding("kernel 5.10 or newer", version >= KERNEL_MIN, release.trim(), fix)
}

fn af_xdp() -> Finding {
    const AF_XDP: u16 = 44;
    let opened = socket(AddressFamily::from_raw(AF_XDP), SocketType::RAW, None);
    match opened {
        Ok(_) => finding("AF_XDP sockets", true, "can be opened", ""),
        Err(rustix::io::Errno::PERM) => {
            finding("AF_XDP sockets", false, "not permitted", "run as root")
        }
        Err(error) => {
            let fix = "boot a kernel built with CONFIG_XDP_SOCKETS=y";
            finding("AF_XDP sockets", false, error.to_string(), fix)
        }
    }
}

fn capabilities(status: &str) -> Finding {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    let bpf = has(CAP_BPF) || has(CAP_SYS_ADMIN);
    let lacking: Vec<&str> = [
        (has(CAP_NET_ADMIN), "CAP_NET_ADMIN"),
        (has(CAP_NET_RAW), "CAP_NET_RAW"),
        (bpf, "CAP_BPF"),
    ]
    .iter()
    .filter(|(held, _)| !held)
    .map(|(_, name)| *name)
    .collect();
    let detail =
        if lacking.is_empty() { "held".to_owned() } else { format!("lacks {}", lacking.join(" ")) };
    let fix = "run weir-dataplane as root, or: setcap cap_net_admin,cap_net_raw,cap_bpf+ep \
               $(command -v weir-dataplane)";
    finding("capabilities", lacking.is_empty(), detail, fix)
}

fn memlock() -> Finding {
    let limit = getrlimit(Resource::Memlock).current;
    let enough = limit.is_none_or(|bytes| bytes >= MEMLOCK_MIN);
    let detail = limit.map_or("unlimited".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let fix = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit";
    // Kernels from 5.11 charge BPF memory to the cgroup instead.
    Finding { optional: true, ..finding("locked memory", enough, detail, fix) }
}

fn jit(enabled: &str) -> Finding {
    let on = enabled.trim() != "0";
    let detail = if enabled.is_empty() { "always on" } else { enabled.trim() };
    finding("BPF compiler", on, detail, "sysctl -w net.core.bpf_jit_enable=1")
}

fn namespaces() -> Finding {
    let there = fs::exists("/proc/self/ns/net").unwrap_or(false);
    let detail = if there { "supported" } else { "not supported" };
    finding("network namespaces", there, detail, "boot a kernel built with CONFIG_NET_NS=y")
}

fn tool(name: &str, fix: &str) -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file());
    let detail = found.as_ref().map_or("not found".to_owned(), |at| at.display().to_string());
    finding(&format!("the command {name}"), found.is_some(), detail, fix)
}

fn cores(cpuinfo: &str) -> Finding {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let fix = "give the machine a second core: one for packets, one for everything else";
    Finding { optional: true, ..finding("two cores", count >= 2, count.to_string(), fix) }
}

fn huge_pages(meminfo: &str) -> Finding {
    let free = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"))
        .and_then(|count| count.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let fix = "sysctl -w vm.nr_hugepages=64";
    Finding { optional: true, ..finding("free huge pages", free > 0, free.to_string(), fix) }
}

async fn sockets(options: &Options) -> Vec<Finding> {
    let client = match Client::connect(options).await {
        Ok(client) => client,
        Err(failure) => {
            let Failure::Fault(fault) = failure else {
                return vec![unknown("sidecar"), unknown("data plane"), unknown(WORKERS)];
            };
            let sidecar = finding("sidecar", false, fault.message, &fault.fix);
            return vec![sidecar, unknown("data plane"), unknown(WORKERS)];
        }
    };
    let mut service = service!(StatusServiceClient, client);
    let status = client.call(service.get_status(client.request(GetStatusRequest {}))).await;
    let Ok(status) = status else {
        let fix = "stop weir-control and start it again: the data plane forwards on meanwhile";
        let sidecar = finding("sidecar", false, "does not answer", fix);
        return vec![sidecar, unknown("data plane"), unknown(WORKERS)];
    };
    let dataplane = status.dataplane.unwrap_or_default();
    let detail = if dataplane.connected { "reached".to_owned() } else { dataplane.error };
    let workers = match dataplane.connected {
        true => workers(&status.restarted_workers),
        false => Finding { detail: "not known without the data plane".into(), ..unknown(WORKERS) },
    };
    vec![
        finding("sidecar", true, "reached", ""),
        finding("data plane", dataplane.connected, detail, &dataplane.fix),
        workers,
    ]
}

/// A worker that has panicked forwards again, so this is nothing that the node lacks.
fn workers(restarted: &[Worker]) -> Finding {
    let found = restarts(restarted);
    let ok = found.is_empty();
    let detail = if ok { "none has panicked".to_owned() } else { found };
    let fix = "the standard error of weir-dataplane has the panic: report it";
    Finding { optional: true, ..finding(WORKERS, ok, detail, fix) }
}

/// What cannot be asked without the sidecar.
fn unknown(check: &str) -> Finding {
    Finding { optional: true, ..finding(check, false, "not known without the sidecar", "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_the_command_that_mends_it() {
        assert!(kernel("6.1.0-37-amd64\n").ok && kernel("5.10").ok);
        for missing in [
            kernel("4.19.0-1"),
            kernel(""),
            capabilities("CapEff:\t0000000000000000\n"),
            jit("0\n"),
            tool("no-such-tool-anywhere", "apt-get install it"),
            huge_pages("HugePages_Free:        0\n"),
        ] {
            assert!(!missing.ok && !missing.fix.is_empty(), "{missing:?}");
        }
        let lacking = capabilities("CapEff:\t0000000000001000\n");
        assert_eq!(lacking.detail, "lacks CAP_NET_RAW CAP_BPF");
        assert!(capabilities("CapEff:\t000001ffffffffff\n").ok);
        assert!(huge_pages("HugePages_Free:        3\n").ok && jit("1\n").ok && jit("").ok);
    }
}
