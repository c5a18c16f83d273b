//! The conformance kit passes the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weir_nf_api::client::Client as Api;
use weir_nf_api::conformance::{Line, Options, Outcome, run};

use crate::client::{Client, LONG};
use crate::origin::Origin;
use crate::running::Running;

/// Threads that ask, of which the second half keep their connections.
const THREADS: usize = 8;
/// How long each rests between two requests.
const REST: Duration = Duration::from_millis(1);
/// How much longer those rest that keep their connections, so that there are not too many.
const LONG_REST: Duration = Duration::from_millis(400);

/// Requests of many clients over connections of their own, until this is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(proxy: SocketAddr, origin: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let ask = |number: usize| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || ask(number, (proxy, origin), &stop))
        };
        let threads = (0..THREADS).map(ask).collect();
        Self { stop, threads }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

fn ask(thread: usize, (proxy, origin): (SocketAddr, SocketAddr), stop: &AtomicBool) {
    let keeps = thread >= THREADS / 2;
    let mut kept = Vec::new();
    let mut number = thread;
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::from([127, 0, 0, 2 + (number % 40) as u8], proxy);
        let connection = if keeps { "keep-alive" } else { "close" };
        let url = format!("http://{origin}/{}/{}", number % 400, 10 + number % 90);
        let head = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
        // A request that is dropped has no answer, and may end its connection before it is written.
        let _written = std::io::Write::write_all(client.0.get_mut(), head.as_bytes());
        if client.answer(false).is_some() && keeps {
            kept.push(client);
        }
        thread::park_timeout(if keeps { LONG_REST } else { REST });
        number += THREADS;
    }
}

/// What comes of all rules.
fn judged(proxy: &Running) -> Vec<Line> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Api::unix(&proxy.place.socket(), LONG);
        let patience = Duration::from_secs(20);
        let options = Options { rules: String::new(), patience, disturb: true };
        run(&client, &options, |line| eprintln!("{line}")).await.expect("it is served")
    })
}

fn others(lines: &[Line]) -> Vec<&Line> {
    lines.iter().filter(|line| line.outcome != Outcome::Pass).collect()
}

#[test]
fn the_proxy_keeps_every_rule() {
    let origin = Origin::plain();
    let proxy = Running::start(1, |settings| settings.limits.idle = Duration::from_secs(3_600));
    proxy.client().get(&origin.url("/first/10"));
    // Connections that stay, and are not asked anything.
    let mut idle: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    idle.iter_mut().for_each(|client| drop(client.get(&origin.url("/first/10"))));
    let _traffic = Traffic::start(proxy.address, origin.address);
    let lines = judged(&proxy);
    // Who may not take connections over has no per-flow state, and nothing else is skipped.
    let may =
        lines.iter().any(|line| line.rule == "per-flow-get-kinds" && line.outcome == Outcome::Pass);
    let is_of_flows =
        |line: &&Line| line.rule.starts_with("per-flow-") || line.rule == "events-buffer";
    let skipped =
        |line: &&Line| matches!(line.outcome, Outcome::Skip(_)) && is_of_flows(line) && !may;
    let others: Vec<&Line> = others(&lines).into_iter().filter(|line| !skipped(line)).collect();
    println!("per-flow state: {may}");
    assert_eq!((lines.len(), others), (69, Vec::new()));
}
