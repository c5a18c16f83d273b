//! What the kernels themselves count: independent of the agents.

use weir_testbed::namespace::Namespace;

/// Figures of a kernel that passes packets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Entries of TCP.
    pub(crate) entries: usize,
    /// What the entries have counted.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// Packets that belonged to no connection, by a rule that sees those that pass or are for it.
    pub(crate) strangers: u64,
    /// The same by the connection tracking itself.
    pub(crate) invalid: u64,
    /// Resets that it sent by itself.
    pub(crate) resets: u64,
}

/// Figures of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// Segments that were sent again.
    pub(crate) retransmits: u64,
    /// Of these, for want of an answer in time, and to ask whether the end of a flight is lost.
    pub(crate) timeouts: u64,
    pub(crate) probes: u64,
    /// Segments that came in front of one that was sent before them.
    pub(crate) out_of_order: u64,
    pub(crate) resets_sent: u64,
    /// Connections that ended by a reset.
    pub(crate) resets_received: u64,
}

impl Kernel {
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let lines = entries(namespace);
        let tcp = lines.iter().filter(|line| line.split_whitespace().nth(2) == Some("tcp"));
        let tcp: Vec<_> = tcp.collect();
        let sum = |name: &str| tcp.iter().flat_map(|line| numbers(line, name)).sum();
        Self {
            entries: tcp.len(),
            packets: sum("packets="),
            bytes: sum("bytes="),
            strangers: counted(namespace, "strangers"),
            invalid: of_cores(namespace, "invalid"),
            resets: of_tcp(namespace, "OutRsts"),
        }
    }
}

impl Host {
    pub(crate) fn of(namespace: &Namespace) -> Self {
        Self {
            retransmits: of_tcp(namespace, "RetransSegs"),
            timeouts: count(namespace, ("netstat", "TcpExt: "), "TCPTimeouts"),
            probes: count(namespace, ("netstat", "TcpExt: "), "TCPLossProbes"),
            out_of_order: count(namespace, ("netstat", "TcpExt: "), "TCPOFOQueue"),
            resets_sent: of_tcp(namespace, "OutRsts"),
            resets_received: of_tcp(namespace, "EstabResets"),
        }
    }
}

/// Packets that a counter of the kernel's rules has counted.
pub(crate) fn counted(namespace: &Namespace, name: &str) -> u64 {
    let counter = namespace.run(&format!("nft list counter inet weir {name}")).unwrap();
    let words: Vec<_> = counter.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "packets").unwrap();
    words[place + 1].parse().unwrap()
}

/// The kernel's own listing of its connection tracking.
pub(crate) fn entries(namespace: &Namespace) -> Vec<String> {
    let text = read(namespace, "/proc/thread-self/net/nf_conntrack");
    text.lines().map(str::to_owned).collect()
}

/// Frames that devices of a namespace have dropped, and all that they have received.
pub(crate) fn devices(namespace: &Namespace) -> (u64, u64) {
    let text = read(namespace, "/proc/thread-self/net/dev");
    let (mut dropped, mut received) = (0, 0);
    for line in text.lines().filter_map(|line| line.split_once(':')) {
        let counts: Vec<u64> =
            line.1.split_whitespace().map(|count| count.parse().unwrap()).collect();
        received += counts[1];
        dropped += counts[2] + counts[3] + counts[10] + counts[11];
    }
    (dropped, received)
}

/// A line of the kernel's listing without what time and packets change, and without how often it is
/// in use.
pub(crate) fn lasting(line: &str) -> String {
    let words = line.split_whitespace().enumerate();
    let changes = |(place, word): &(usize, &str)| {
        *place == 4 || ["packets=", "bytes=", "use="].iter().any(|name| word.starts_with(name))
    };
    let words: Vec<_> = words.filter(|word| !changes(word)).map(|(_, word)| word).collect();
    words.join(" ")
}

fn of_tcp(namespace: &Namespace, name: &str) -> u64 {
    count(namespace, ("snmp", "Tcp: "), name)
}

/// A count of a file with two lines of each kind: the names and the values.
fn count(namespace: &Namespace, (file, kind): (&str, &str), name: &str) -> u64 {
    let text = read(namespace, &format!("/proc/thread-self/net/{file}"));
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(kind));
    let (names, values) = lines.next().zip(lines.next()).unwrap();
    let mut counters = names.split(' ').zip(values.split(' '));
    counters.find(|(known, _)| *known == name).unwrap().1.parse().unwrap()
}

/// A count of the connection tracking, of all cores.
fn of_cores(namespace: &Namespace, name: &str) -> u64 {
    let text = read(namespace, "/proc/thread-self/net/stat/nf_conntrack");
    let (names, cores) = text.split_once('\n').unwrap();
    let place = names.split_whitespace().position(|known| known == name).unwrap();
    let of_core = |line: &str| {
        let number = line.split_whitespace().nth(place).unwrap();
        u64::from_str_radix(number, 16).unwrap()
    };
    cores.lines().map(of_core).sum()
}

fn numbers(line: &str, name: &str) -> Vec<u64> {
    let words = line.split_whitespace().filter_map(|word| word.strip_prefix(name));
    words.map(|number| number.parse().unwrap()).collect()
}

fn read(namespace: &Namespace, path: &str) -> String {
    namespace.enter(|| std::fs::read_to_string(path)).unwrap().unwrap()
}
