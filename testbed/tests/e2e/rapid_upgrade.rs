//! Version 2 of a network function takes over from version 1 under traffic of the router.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use tokio::time::{interval, timeout};
use weir_nf_api::client::{Client as Nf, Query};
use weir_state_transfer::southbound::{Action, SubscriptionId};
use weir_state_transfer::{FlowKey, ServiceId, StateFilter};
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::process::{Process, sibling};
use weir_testbed::traffic::{Report, Traffic};
use weir_testbed::wait::LIMIT;

use super::Setup;
use super::northbound::client;
use super::southbound::asking;

#[path = "../../../control/client/examples/rapid_upgrade.rs"]
mod application;
use application::{Feeder, Function, Upgraded};

const FILTER: &str = "proto=udp";
const UDP: u8 = 17;
/// A subscription that keeps packets.
const KEEPER: SubscriptionId = SubscriptionId(7);
/// Longer than an upgrade takes that does not wait.
const AWHILE: Duration = Duration::from_secs(1);
const FLOWS: usize = 200;
const RATE: u64 = 1_500;

/// A packet counter in Python, and its sockets.
pub(super) struct Counter {
    _process: Process,
    serve: PathBuf,
    pub(super) feed: PathBuf,
}

impl Counter {
    pub(super) fn start(script: &str, version: u32, folder: &Path) -> Self {
        let python = sibling("weir-dataplane").unwrap();
        let python = python.ancestors().nth(2).unwrap().join("python/bin/python");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nf_python");
        let (serve, feed) = sockets(folder, version);
        let mut command = Command::new(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(scripts.join(script));
        command.arg("--serve").arg(&serve).arg("--feed").arg(&feed);
        command.args(["--instance", &version.to_string()]);
        let log = folder.join(format!("counter-{version}.log"));
        let mut process = Process::spawn(script, &command, &log).unwrap();
        process.wait_for_line("ready", LIMIT).unwrap();
        Self { _process: process, serve, feed }
    }

    fn function<'a>(&'a self, name: &'a str) -> Function<'a> {
        Function { name, feed: &self.feed }
    }

    /// Packets of each flow that it knows, and the bytes of its state of one.
    pub(super) async fn flows(&self) -> BTreeMap<FlowKey, (u64, usize)> {
        let query = Query::new(StateFilter::default());
        let chunks = Nf::unix(&self.serve, LIMIT).get_per_flow(&query).await.unwrap();
        let chunks = chunks.all(10 * FLOWS).await.unwrap().into_iter();
        let flows = chunks.map(|chunk| {
            let packets = u64::from_be_bytes(chunk.body[..8].try_into().unwrap());
            (chunk.id.key().unwrap().both_ways(), (packets, chunk.body.len()))
        });
        flows.collect()
    }
}

/// Where a version serves, and where frames come to it.
pub(super) fn sockets(folder: &Path, version: u32) -> (PathBuf, PathBuf) {
    let path = |what: &str| folder.join(format!("counter-{version}.{what}"));
    (path("serve"), path("feed"))
}

/// Waits until so many more packets have arrived, and lets others go on.
async fn let_flow(traffic: &Traffic, packets: u64) {
    let target = traffic.received() + packets;
    let mut look = interval(Duration::from_millis(10));
    while traffic.received() < target {
        look.tick().await;
    }
}

/// What a function has to know when it has been shown every packet once.
fn expected(report: &Report) -> BTreeMap<FlowKey, u64> {
    let mut packets = BTreeMap::new();
    for (flow, state) in &report.states {
        let ports = (flow.source.port(), flow.destination.port());
        let (from, to) = (flow.source.ip(), flow.destination.ip());
        let key = FlowKey::new(from, to, ports, UDP, ServiceId::default()).unwrap();
        *packets.entry(key.both_ways()).or_default() += state.packets;
    }
    packets
}

#[test]
#[ignore = "needs root, and Python packages: testbed/install.sh --python"]
fn version_2_takes_over_from_version_1_under_traffic_and_has_seen_every_packet_once() {
    let folder = Folder::new().unwrap();
    let tables = [1, 2].map(|version| {
        let serve = sockets(folder.path(), version).0;
        format!("[[control.nf]]\nname = \"v{version}\"\nsocket = \"{}\"\n", serve.display())
    });
    let mut setup = Setup::new(&Shape { tables: tables.concat(), ..Shape::default() });
    setup.node.start_sidecar(None).unwrap();
    let old = Counter::start("packet_counter.py", 1, folder.path());
    let asking = asking();
    let mut feeder = asking.block_on(async {
        let client = client(&setup).await;
        Feeder::start(client, ("r1", FILTER), old.function("v1")).await.unwrap()
    });
    let traffic = setup.traffic(FLOWS, RATE);
    let fed = |feeder: &mut Feeder, packets| {
        asking.block_on(async {
            let fed = feeder.feed_until(let_flow(&traffic, packets));
            timeout(LIMIT, fed).await.unwrap().unwrap();
        });
    };
    fed(&mut feeder, 2 * RATE);

    let new = Counter::start("packet_counter_2.py", 2, folder.path());
    // Version 1 is behind: it keeps packets that it was shown, and must process them first.
    let nf = asking.block_on(async { Nf::unix(&old.serve, LIMIT) });
    let any = StateFilter::default();
    let keeping = asking.block_on(nf.enable_events(KEEPER, &any, Action::Buffer, 0)).unwrap();
    fed(&mut feeder, 20);
    let moved = asking.block_on(async {
        let mut upgrade = pin!(feeder.upgrade(new.function("v2"), LIMIT));
        timeout(AWHILE, &mut upgrade).await.expect_err("it waits for them");
        nf.disable_events(KEEPER).await.unwrap();
        drop(keeping);
        upgrade.await.unwrap()
    });
    let Upgraded::Done(moved) = moved else { panic!("{moved:?}") };
    println!("{} pieces of state in {:?}", moved.chunks, moved.took);
    assert!(moved.chunks > FLOWS as u64, "{moved:?}");
    assert!(asking.block_on(old.flows()).is_empty());
    fed(&mut feeder, 2 * RATE);
    // It does not go back: version 1 does not know the layout of version 2, and nothing changes.
    let back = asking.block_on(feeder.upgrade(old.function("v1"), LIMIT)).unwrap();
    let Upgraded::Undone(back) = back else { panic!("{back:?}") };
    assert!(format!("{back:#}").contains("v1 has no per-flow state"), "{back:#}");
    fed(&mut feeder, RATE);

    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
    let expected = expected(&report);
    let packets: u64 = expected.values().sum();
    let counted = async {
        let mut look = interval(Duration::from_millis(50));
        while new.flows().await.values().map(|(packets, _)| packets).sum::<u64>() < packets {
            look.tick().await;
        }
    };
    let all = async { timeout(LIMIT, feeder.feed_until(counted)).await };
    asking.block_on(all).expect("all are counted").unwrap();
    assert_eq!(feeder.missed, 0);
    let flows = asking.block_on(new.flows());
    assert!(flows.values().all(|(_, size)| *size == 20), "version 2 has another layout");
    let packets: BTreeMap<_, _> =
        flows.into_iter().map(|(flow, (packets, _))| (flow, packets)).collect();
    assert_eq!(packets, expected);
    drop(old);
}
