//! Busy connections go from one kernel to another and back while Weir leads their packets.

use std::net::SocketAddr;

use weir_api::dataplane::v1::Guarantee;
use weir_api::v1::{StateOperation, StateOperationState};

use crate::conversations::Conversations;
use crate::figures::{Host, Kernel, devices};
use crate::switch::{
    SERVICE, Switch, asked, begin_move, cancel, find, make_move, wait_until_ended,
};

/// Connections, a third of them over IPv6, a third to a service whose address is translated too.
const CONNECTIONS: usize = 60;
/// Bytes that every direction of every connection has to have before and after a move.
pub(crate) const BYTES: u64 = 20_000;
/// Packets that each worker may hold: those of seconds.
pub(crate) const HOLD: u32 = 32_768;

fn talk(switch: &Switch, seed: u64) -> Conversations {
    let kinds = ["203.0.113.2:5001", "[fd02::2]:5001", SERVICE];
    let kinds = kinds.map(|address| address.parse::<SocketAddr>().unwrap());
    let targets: Vec<_> = kinds.into_iter().cycle().take(CONNECTIONS).collect();
    let talk = Conversations::start(&switch.client, &switch.server, &targets, seed);
    talk.let_flow(BYTES).unwrap();
    talk
}

fn print(switch: &Switch, when: &str) {
    for (name, kernel) in ["A", "B"].iter().zip(&switch.kernels) {
        println!("{when}: kernel {name}: {:?}", Kernel::of(kernel));
    }
    for (name, host) in [("client", &switch.client), ("server", &switch.server)] {
        println!("{when}: {name}: {:?}", Host::of(host));
    }
}

/// All that a move promises: no packet met a kernel that did not know its connection, and none was
/// dropped anywhere.
pub(crate) fn assert_nothing_lost(switch: &Switch) {
    for kernel in &switch.kernels {
        let figures = Kernel::of(kernel);
        assert_eq!((figures.strangers, figures.invalid, figures.resets), (0, 0, 0), "{figures:?}");
    }
    for host in [&switch.client, &switch.server] {
        let figures = Host::of(host);
        assert_eq!((figures.resets_sent, figures.resets_received), (0, 0), "{figures:?}");
    }
    for namespace in switch.namespaces() {
        assert_eq!(devices(namespace).0, 0, "frames dropped in {}", namespace.name());
    }
    assert_eq!(switch.drops(), []);
    let balance = switch.dataplane.balance_at_rest().unwrap();
    println!("{balance:?}");
}

fn moved(switch: &Switch, from: usize, operation: &StateOperation) {
    println!(
        "{:?} in {} ms, {} chunks: {}",
        operation.state(),
        operation.elapsed_ns / 1_000_000,
        operation.chunks,
        operation.reason
    );
    assert_eq!(operation.state(), StateOperationState::Done, "{operation:?}");
    assert_eq!(operation.chunks, CONNECTIONS as u64);
    assert_eq!(Kernel::of(&switch.kernels[from]).entries, 0);
    assert_eq!(Kernel::of(&switch.kernels[1 - from]).entries, CONNECTIONS);
}

#[test]
#[ignore = "needs root"]
fn weir_leads_busy_connections_to_another_kernel_and_back_without_a_lost_packet() {
    let mut switch = Switch::new(HOLD);
    let sidecar = switch.start_sidecar(None);
    sidecar.scale_to(2).unwrap();
    let talk = talk(&switch, weir_seed::seed());
    print(&switch, "before");
    for (from, guarantee) in
        [(0, Guarantee::Ordered), (1, Guarantee::LossFree), (0, Guarantee::Ordered)]
    {
        let operation = make_move(&sidecar, asked(from, "proto=tcp", guarantee));
        moved(&switch, from, &operation);
        talk.let_flow(BYTES).unwrap();
        print(&switch, &format!("moved from {from}"));
    }
    let ended = talk.finish().unwrap();
    let bytes = ended.bytes;
    print(&switch, "in the end");
    println!("{bytes} bytes arrived as they were sent");
    assert_nothing_lost(&switch);
}

/// The control of the test above: state that goes without its packets is missed.
#[test]
#[ignore = "needs root"]
fn connections_whose_state_goes_without_their_packets_meet_a_kernel_that_knows_nothing() {
    let mut switch = Switch::new(HOLD);
    let sidecar = switch.start_sidecar(None);
    let talk = talk(&switch, 1);
    let operation = make_move(&sidecar, asked(0, "proto=tcp", Guarantee::None));
    assert_eq!(operation.state(), StateOperationState::Done, "{operation:?}");
    assert!(talk.finish().is_err());
    // It drops them, or translates them anew, and the server knows no such connection.
    let (kernel, server) = (Kernel::of(&switch.kernels[0]), Host::of(&switch.server));
    println!("kernel A: {kernel:?}, server: {server:?}");
    assert!(kernel.strangers + kernel.resets + server.resets_sent > 0);
}

#[test]
#[ignore = "needs root"]
fn a_sidecar_that_is_killed_at_any_stage_ends_the_move_when_it_is_started_again() {
    let mut switch = Switch::new(HOLD);
    let talk = talk(&switch, weir_seed::seed());
    for stage in ["hold", "held", "probe", "carry", "lead", "led", "delete", "end"] {
        let sidecar = switch.start_sidecar(Some(stage));
        let begun = begin_move(&sidecar, asked(0, "proto=tcp", Guarantee::Ordered));
        switch.kill_where_it_pauses();
        let sidecar = switch.start_sidecar(None);
        let is_led = ["led", "delete", "end"].contains(&stage);
        if stage == "hold" {
            // Nothing was written down of what it does.
            let state = find(&sidecar, begun.id).map(|found| found.state());
            assert_eq!(state, Some(StateOperationState::Left));
        } else {
            let ended = wait_until_ended(&sidecar, begun.id);
            println!("killed before {stage}: {:?}, {}", ended.state(), ended.reason);
            use StateOperationState::{Done, Undone};
            assert_eq!(ended.state(), if is_led { Done } else { Undone }, "{stage}: {ended:?}");
        }
        let [there, elsewhere] = if is_led { [1, 0] } else { [0, 1] };
        assert_eq!(Kernel::of(&switch.kernels[there]).entries, CONNECTIONS, "{stage}");
        assert_eq!(Kernel::of(&switch.kernels[elsewhere]).entries, 0, "{stage}");
        talk.let_flow(BYTES).unwrap();
        if is_led {
            let back = make_move(&sidecar, asked(1, "proto=tcp", Guarantee::Ordered));
            moved(&switch, 1, &back);
            talk.let_flow(BYTES).unwrap();
        }
    }
    let ended = talk.finish().unwrap();
    let bytes = ended.bytes;
    print(&switch, "in the end");
    println!("{bytes} bytes arrived as they were sent");
    assert_nothing_lost(&switch);
}

#[test]
#[ignore = "needs root"]
fn a_move_that_is_cancelled_before_it_leads_goes_back_with_its_packets() {
    let mut switch = Switch::new(HOLD);
    let talk = talk(&switch, 5);
    for stage in ["held", "probe", "carry"] {
        let sidecar = switch.start_sidecar(Some(stage));
        let begun = begin_move(&sidecar, asked(0, "proto=tcp", Guarantee::Ordered));
        switch.wait_for_pause();
        cancel(&sidecar, begun.id);
        let ended = wait_until_ended(&sidecar, begun.id);
        println!("cancelled before {stage}: {:?}, {}", ended.state(), ended.reason);
        assert_eq!(ended.state(), StateOperationState::Undone, "{stage}: {ended:?}");
        talk.let_flow(BYTES).unwrap();
    }
    let _ended = talk.finish().unwrap();
    assert_nothing_lost(&switch);
}

#[test]
#[ignore = "needs root"]
fn a_hold_that_is_full_has_the_move_undone_which_tells_that_packets_are_lost() {
    let mut switch = Switch::new(16);
    let sidecar = switch.start_sidecar(None);
    let talk = talk(&switch, 6);
    let operation = make_move(&sidecar, asked(0, "proto=tcp", Guarantee::Ordered));
    println!("{:?}: {}", operation.state(), operation.reason);
    let drops = switch.drops();
    println!("{drops:?}");
    assert_eq!(operation.state(), StateOperationState::Undone, "{operation:?}");
    assert!(operation.reason.contains("found no room to be held"), "{operation:?}");
    assert!(drops.iter().any(|(reason, count)| reason == "policy_hold_full" && *count > 0));
    assert_eq!(Kernel::of(&switch.kernels[1]).entries, 0);
    // TCP sends again what was lost.
    talk.let_flow(BYTES).unwrap();
    let _ended = talk.finish().unwrap();
}
