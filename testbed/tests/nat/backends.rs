//! Services with several backends.
//!
//! Each NAT chooses a backend by a hash of its own. So the kernel is taught by a map which one ours
//! gives to each client, as one asks that has seen nothing yet; and all else has to be the same: each
//! connection goes to one of the backends, stays there in both directions, and is rewritten, with
//! errors about it, byte for byte.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use weir_dataplane::nf::nat::{Rules, Service};
use weir_state_transfer::{FlowKey, protocol};

use crate::both::Both;
use crate::frames;
use crate::kernel::Map;
use crate::ours::Ours;
use crate::{SOURCES, clients, external, sources};

/// A service: what the kernel calls its map, its protocol and external ports, and its backends.
struct Shared {
    map: &'static str,
    protocol: u8,
    ports: Range<u16>,
    backends: &'static [&'static str],
}

static SERVICES: [Shared; 4] = [
    Shared {
        map: "web",
        protocol: protocol::TCP,
        ports: 80..81,
        backends: &["10.9.1.1:8080", "10.9.1.2:8081", "10.9.1.3:8080"],
    },
    Shared {
        map: "calls",
        protocol: protocol::UDP,
        ports: 5_060..5_070,
        backends: &["10.9.1.1:6000", "10.9.1.4:7000", "10.9.1.4:6000", "10.9.1.5:5060"],
    },
    Shared {
        map: "web6",
        protocol: protocol::TCP,
        ports: 443..453,
        backends: &["[fd00::91]:8443", "[fd00::92]:443"],
    },
    Shared {
        map: "calls6",
        protocol: protocol::UDP,
        ports: 5_060..5_061,
        backends: &["[fd00::91]:5060", "[fd00::93]:5060", "[fd00::94]:5061"],
    },
];
/// From these ports clients ask, each once.
const CLIENT_PORTS: Range<u16> = 2_000..2_100;

impl Shared {
    fn address(&self) -> IpAddr {
        external(&self.backends()[0])
    }

    fn backends(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(|backend| backend.parse().unwrap()).collect()
    }

    fn service(&self) -> Service {
        let (address, ports) = (self.address(), self.ports.start..=self.ports.end - 1);
        Service { address, protocol: self.protocol, ports, backends: self.backends() }
    }

    fn map(&self) -> Map {
        let protocol = if self.protocol == protocol::TCP { "tcp" } else { "udp" };
        let (first, last) = (self.ports.start, self.ports.end - 1);
        Map { name: self.map, protocol, address: self.address(), first, last }
    }

    /// The clients, outside and inside, each with a port of the service.
    fn talks(&self) -> impl Iterator<Item = Talk> + '_ {
        let hosts = clients(&self.backends()[0]);
        CLIENT_PORTS.flat_map(move |port| {
            let asked = self.ports.start + port % (self.ports.end - self.ports.start);
            let service = (self.address(), asked);
            hosts.map(|host| Talk { protocol: self.protocol, client: (host, port), service })
        })
    }

    /// Where a flow to a port of the service may go.
    fn may_become(&self, asked: u16) -> Vec<SocketAddr> {
        let further = asked - self.ports.start;
        let at = |backend: SocketAddr| SocketAddr::new(backend.ip(), backend.port() + further);
        self.backends().into_iter().map(at).collect()
    }
}

/// At this port of an external address is no service.
const NO_SERVICE: u16 = 79;

/// A conversation of a client with a service.
struct Talk {
    protocol: u8,
    client: (IpAddr, u16),
    service: (IpAddr, u16),
}

impl Talk {
    fn packets(&self) -> Vec<Vec<u8>> {
        let tcp = [(true, "S", 0), (false, "SA", 0), (true, "A", 1), (false, "A", 1)];
        let udp = [(true, "", 0), (false, "", 0), (true, "", 0), (false, "", 0)];
        let packets = if self.protocol == protocol::TCP { tcp } else { udp };
        let packet = |(there, flags, seq): &(bool, &str, u32)| {
            let [src, dst] =
                if *there { [self.client, self.service] } else { [self.service, self.client] };
            frames::packet(src, dst, flags, *seq)
        };
        packets.iter().map(packet).collect()
    }

    fn first(&self) -> Vec<u8> {
        self.packets().swap_remove(0)
    }

    fn flow(&self) -> FlowKey {
        frames::flow(&self.first())
    }
}

fn rules() -> Rules {
    Rules::new(sources(), SERVICES.iter().map(Shared::service).collect()).unwrap()
}

/// Where ours leads the conversations with a service.
fn choices(service: &Shared) -> Vec<(FlowKey, SocketAddr)> {
    let mut ours = Ours::new(false, rules());
    let choice = |talk: Talk| {
        let chosen = frames::flow(&ours.pass(&talk.first()).unwrap());
        (talk.flow(), SocketAddr::new(chosen.dst(), chosen.dst_port()))
    };
    service.talks().map(choice).collect()
}

/// Both, of which the kernel is taught these choices for each service.
fn taught(choices: impl Fn(&Shared) -> Vec<(FlowKey, SocketAddr)>) -> Both {
    let both = Both::new(false, &SOURCES, rules());
    for service in &SERVICES {
        both.kernel.map(&service.map()).unwrap();
        both.kernel.teach(&service.map(), &choices(service)).unwrap();
    }
    both
}

#[test]
#[ignore = "needs root"]
fn connections_to_several_backends_are_translated_as_the_kernel_does_that_is_told_which() {
    let mut both = taught(choices);
    for service in &SERVICES {
        let mut chosen = BTreeMap::<SocketAddr, usize>::new();
        for talk in service.talks() {
            talk.packets().iter().for_each(|packet| both.see(packet));
            let Some([_, ours]) = both.names.get(&talk.flow()) else { continue };
            let to = SocketAddr::new(ours.dst(), ours.dst_port());
            let may = service.may_become(talk.service.1);
            assert!(may.contains(&to), "{ours} is to none of {may:?}");
            let place = may.iter().position(|backend| *backend == to).unwrap();
            *chosen.entry(service.backends()[place]).or_default() += 1;
            probe(&mut both, &talk, &may, to);
        }
        println!("{}: {chosen:?}", service.map);
        let (all, fair) = (chosen.values().sum::<usize>(), service.backends.len());
        assert_eq!((all, chosen.len()), (service.talks().count(), fair), "{chosen:?}");
        assert!(chosen.values().all(|count| 3 * fair * count > all), "{chosen:?}");
    }
    println!("{:?}", both.tally);
    assert!(both.differences.is_empty(), "{}", both.differences[..1].join("\n\n"));
    // Of each talk: two packets there, two answers and an error about each; a probe next to the
    // service and an error about nothing, both dropped. From outside: straight to the backend and
    // back. From another backend: a datagram that passes, or a segment that does not.
    let talks = 2 * SERVICES.len() * CLIENT_PORTS.len();
    let (packets, answers) = (2 * talks + talks / 2 + talks / 2, 2 * talks + talks / 2);
    let expected = [
        ("answer", answers),
        ("dropped", 2 * talks + talks / 2),
        ("error", packets + answers),
        ("packet", packets),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(what, count)| (what.to_owned(), count)).collect();
    assert_eq!(both.tally, expected);
}

/// What is near a connection and not of it, both have to judge alike: from backends that were not
/// chosen, errors about what was not sent, next to the ports of the service, and past it.
fn probe(both: &mut Both, talk: &Talk, may: &[SocketAddr], chosen: SocketAddr) {
    let end = |backend: &SocketAddr| (backend.ip(), backend.port());
    let is_tcp = talk.protocol == protocol::TCP;
    let (first, answer) = if is_tcp { ("S", "SA") } else { ("", "") };
    let other = may.iter().find(|backend| **backend != chosen).unwrap();
    let nobody = (talk.client.0, talk.client.1 + 1_000);
    let not_sent = frames::packet(end(other), nobody, answer, 0);
    let mut packets = vec![
        // Of a datagram it begins a flow of its own, of a connection nothing.
        frames::packet(end(other), talk.client, answer, 0),
        frames::error_about(&not_sent, false),
        frames::packet(talk.client, (talk.service.0, NO_SERVICE), first, 0),
    ];
    let is_outside = clients(&chosen)[0] == talk.client.0;
    if is_outside {
        // Straight to the backend, from another port.
        let past = (talk.client.0, talk.client.1 + 10_000);
        packets.push(frames::packet(past, end(&chosen), first, 0));
        packets.push(frames::packet(end(&chosen), past, answer, 0));
    }
    packets.iter().for_each(|packet| both.see(packet));
}

/// The comparison has to notice each of these.
#[test]
#[ignore = "needs root"]
fn another_backend_there_here_or_later_is_noticed() {
    let web = || SERVICES[0].talks();
    // The kernel is told of another backend for one connection.
    let wrong = web().nth(7).unwrap().flow();
    let mut both = taught(|service| {
        let mut choices = choices(service);
        if let Some((flow, to)) = choices.iter_mut().find(|(flow, _)| *flow == wrong) {
            let may = service.may_become(flow.dst_port());
            *to = *may.iter().find(|backend| **backend != *to).unwrap();
        }
        choices
    });
    web().take(10).for_each(|talk| both.see(&talk.first()));
    assert_eq!(both.differences.len(), 1, "told otherwise: {:?}", both.differences);
    assert!(both.differences[0].contains(&wrong.to_string()));

    // The kernel leads all to one backend.
    let mut both = Both::new(false, &SOURCES, rules());
    both.kernel.map(&SERVICES[0].map()).unwrap();
    let first = SERVICES[0].backends()[0];
    let told: Vec<_> = web().map(|talk| (talk.flow(), first)).collect();
    both.kernel.teach(&SERVICES[0].map(), &told).unwrap();
    web().for_each(|talk| both.see(&talk.first()));
    let elsewhere = choices(&SERVICES[0]).iter().filter(|(_, to)| *to != first).count();
    assert_eq!(both.differences.len(), elsewhere, "one for all");
    assert!(elsewhere > CLIENT_PORTS.len(), "{elsewhere}");

    // Ours leads connections that have begun to other backends.
    let calls = || SERVICES[1].talks();
    let mut both = taught(choices);
    calls().take(20).for_each(|talk| both.see(&talk.first()));
    assert_eq!(both.differences, [""; 0]);
    let turned = SERVICES.iter().map(|service| {
        let mut service = service.service();
        service.backends.rotate_left(1);
        service
    });
    both.ours = Ours::new(false, Rules::new(sources(), turned.collect()).unwrap());
    calls().take(20).for_each(|talk| both.see(&talk.first()));
    let moved = both.differences.iter().filter(|line| line.contains("was ")).count();
    assert_eq!(moved, 20, "led elsewhere: {:?}", both.differences);

    // A backend answers by its own name, as without a translation back.
    let mut both = taught(choices);
    let talk = calls().next().unwrap();
    both.see(&talk.first());
    let [theirs, ours] = both.names[&talk.flow()];
    both.ours = Ours::new(false, Rules::default());
    both.see(&talk.packets()[1]);
    assert_eq!(theirs, ours);
    assert!(!both.differences.is_empty(), "it is seen as {ours}");
}
