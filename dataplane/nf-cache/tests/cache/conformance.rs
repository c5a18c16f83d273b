//! The conformance kit passes the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weir_nf_api::client::Client as Api;
use weir_nf_api::conformance::{Line, Options, Outcome, run};

use crate::client::{Client, LONG};
use crate::origin::Origin;
use crate::running::Running;

/// Asks for what was not asked for yet, each time over a connection of its own, until it is stopped.
fn traffic(proxy: std::net::SocketAddr, origin: &Origin) -> Traffic {
    let stop = Arc::<AtomicBool>::default();
    let (stopped, address) = (Arc::clone(&stop), origin.address);
    let thread = thread::spawn(move || {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            let mut client = Client::from([127, 0, 0, 2 + number as u8 % 40], proxy);
            let url = format!("http://{address}/{}/{}", number % 400, 10 + number % 90);
            let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            // A request that is dropped has no answer.
            let _written = std::io::Write::write_all(client.0.get_mut(), request.as_bytes());
            let _answer = client.answer(false);
            number += 1;
        }
    });
    Traffic { stop, thread: Some(thread) }
}

/// Requests until this is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What comes of all rules.
fn judged(proxy: &Running) -> Vec<Line> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Api::unix(&proxy.place.socket(), LONG).expect("an address");
        let options = Options { rules: String::new(), patience: Duration::from_secs(20) };
        run(&client, &options, |line| println!("{line}")).await
    })
}

fn others(lines: &[Line]) -> Vec<&Line> {
    lines.iter().filter(|line| line.outcome != Outcome::Pass).collect()
}

#[test]
fn the_proxy_keeps_every_rule() {
    let (origin, proxy) = (Origin::plain(), Running::plain(1));
    proxy.client().get(&origin.url("/first/10"));
    // Connections that stay, and are not asked anything.
    let mut idle: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    idle.iter_mut().for_each(|client| drop(client.get(&origin.url("/first/10"))));
    let _traffic = traffic(proxy.address, &origin);
    let lines = judged(&proxy);
    // Who may not take connections over has no per-flow state, and nothing else is skipped.
    let may =
        lines.iter().any(|line| line.rule == "per-flow-get-kinds" && line.outcome == Outcome::Pass);
    let is_of_flows = |line: &&Line| line.rule.starts_with("per-flow-");
    let skipped =
        |line: &&Line| matches!(line.outcome, Outcome::Skip(_)) && is_of_flows(line) && !may;
    let others: Vec<&Line> = others(&lines).into_iter().filter(|line| !skipped(line)).collect();
    println!("per-flow state: {may}");
    assert_eq!((lines.len(), others), (65, Vec::new()));
}
