//! The conformance kit as a program that is ended before it has judged everything.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use weir_nf_api::client::{Client, Query};
use weir_state_transfer::chunk::{Chunk, Scope};

use crate::conformance::running;
use crate::faulty::Fault;
use crate::running::{LONG, Running, Traffic};

/// The exit status of a run that was ended.
const INTERRUPTED: Option<i32> = Some(5);

/// The program at work. It is killed at the end, if it has not ended.
struct Kit {
    child: Child,
    said: Option<Lines<BufReader<ChildStdout>>>,
}

impl Kit {
    fn start(running: &Running, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-nf-conformance"));
        command.arg(format!("unix://{}", running.place.socket().display())).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let said = child.stdout.take().map(|output| BufReader::new(output).lines());
        Self { child, said }
    }

    /// The next line that it says, if it says any more.
    fn line(&mut self) -> Option<String> {
        self.said.as_mut()?.next().map(|line| line.expect("text"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it has not ended");
    }

    /// What it says until it ends, its status and what it complains of.
    fn ends(mut self) -> (Vec<String>, Option<i32>, String) {
        let lines = std::iter::from_fn(|| self.line()).collect();
        let status = self.child.wait().expect("it ends");
        let mut complaint = String::new();
        let mut output = self.child.stderr.take().expect("it is piped");
        output.read_to_string(&mut complaint).expect("text");
        (lines, status.code(), complaint)
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// All state of flows.
async fn flows(client: &Client) -> Vec<Chunk> {
    let got = client.get(Scope::PerFlow, &Query::new(Default::default())).await.expect("a get");
    let mut flows = got.all(100_000).await.expect("all of it");
    flows.sort_by_key(|chunk| chunk.id.clone());
    flows
}

#[test]
fn what_a_rule_has_deleted_is_put_back_before_the_program_ends() {
    for signal in [Signal::INT, Signal::TERM] {
        let running = running(Fault::TakesLate, Traffic::None);
        let runtime = runtime();
        let client = runtime.block_on(async { running.client() });
        let before = runtime.block_on(flows(&client));
        let arguments = ["--disturb", "--rules", "per-flow-", "--patience", "50ms"];
        let mut kit = Kit::start(&running, &arguments);
        while kit.line().is_some_and(|line| !line.contains("per-flow-put-idempotent")) {}
        runtime.block_on(async {
            let lacks = async { while flows(&client).await.len() == before.len() {} };
            timeout(LONG, lacks).await.expect("a rule deletes state");
        });
        kit.signal(signal);
        // As where a signal comes from a terminal and from who waits there, too.
        kit.signal(signal);
        let (said, code, complaint) = kit.ends();
        let is_whole = runtime.block_on(flows(&client)) == before;
        assert!(is_whole, "state is lost: {said:?}");
        assert_eq!(said[0], "pass per-flow-put-stops");
        // The rule in hand ends; on a machine that is busy it may have been the next.
        let (last, ended) = said.split_last().unwrap();
        assert!(ended.iter().all(|line| line.starts_with("pass ")), "{said:?}");
        assert!(last.ends_with(": interrupted"), "{said:?}");
        assert_eq!(code, INTERRUPTED, "{said:?}");
        assert!(complaint.starts_with("interrupted: "), "{complaint}");
    }
}

#[test]
fn a_rule_that_waits_for_packets_is_cut_off_and_leaves_no_subscription() {
    // Rules, and the last of them before one that waits.
    for (rules, before) in
        [("events-", "pass events-disable"), ("multi-flow-", "pass multi-flow-put-restores")]
    {
        let mut running = running(Fault::None, Traffic::None);
        let arguments = ["--disturb", "--rules", rules, "--patience", "60s"];
        let mut kit = Kit::start(&running, &arguments);
        while kit.line().is_some_and(|line| line != before) {}
        kit.signal(Signal::INT);
        let (said, code, _) = kit.ends();
        assert_eq!(code, INTERRUPTED, "{said:?}");
        // It may have been in hand by then, or not.
        let [rule @ .., last] = &said[..] else { panic!("it says nothing") };
        let is_cut_off = rule.iter().all(|line| line.ends_with(": it was interrupted"));
        assert!(is_cut_off && rule.len() <= 1, "{said:?}");
        assert!(last.ends_with(": interrupted"), "{last}");
        assert!(running.stop_thread().is_free(), "a subscription is left");
    }
}

#[test]
fn who_reads_no_further_ends_it_quietly() {
    let running = running(Fault::None, Traffic::None);
    let mut kit = Kit::start(&running, &[]);
    assert_eq!(kit.line().as_deref(), Some("pass describe"));
    kit.said = None;
    let (_, code, complaint) = kit.ends();
    assert_eq!((code, &*complaint), (INTERRUPTED, ""));
}
