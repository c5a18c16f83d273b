//! The sidecar killed at each step of a scale-out: traffic goes on, and a restart ends it.

use weir_api::v1::scale_service_client::ScaleServiceClient;
use weir_api::v1::{Operation, OperationState, StepState, UndoScaleRequest};
use weir_testbed::node::Shape;
use weir_testbed::rpc::change;
use weir_testbed::sidecar::Sidecar;

use super::{Setup, let_flow};

const INSTANCES: u32 = 4;

#[test]
#[ignore = "needs root"]
fn killed_before_a_creation_or_an_activation_it_is_undone_after_a_restart() {
    let steps = ["create:1", "create:2", "create:3", "activate:1", "activate:2", "activate:3"];
    kill_at_each(&steps, OperationState::Undone);
}

#[test]
#[ignore = "needs root"]
fn killed_before_the_first_move_it_is_undone_after_a_restart() {
    kill_at_each(&["move:1"], OperationState::Undone);
}

#[test]
#[ignore = "needs root"]
fn killed_after_the_first_move_it_is_finished_after_a_restart() {
    kill_at_each(&["move:2", "move:3"], OperationState::Done);
}

#[test]
#[ignore = "needs root"]
fn killed_between_two_moves_it_is_undone_after_a_restart_when_asked() {
    let mut setup = Setup::new(&Shape::default());
    let traffic = setup.traffic(600, 20_000);
    let sidecar = setup.node.start_sidecar(Some("move:2")).unwrap();
    let operation = scale_until(&sidecar, "move:2");
    setup.node.kill_sidecar().unwrap();
    let_flow(&traffic, 5_000);
    // It comes up to the same step again, and is turned back there.
    let sidecar = setup.node.start_sidecar(Some("move:2")).unwrap();
    let ask = UndoScaleRequest { change: change(), id: operation.id };
    sidecar.rpc.call(async |c| ScaleServiceClient::new(c).undo_scale(ask).await).unwrap();
    let ended = sidecar.wait_until_ended(operation.id).unwrap();
    assert_eq!(ended.state(), OperationState::Undone, "{ended:?}");
    assert_owners(&setup, 1);
    let_flow(&traffic, 5_000);
    setup.assert_exact(&traffic.stop().unwrap());
}

#[test]
#[ignore = "needs root"]
fn killed_while_scaling_in_it_is_finished_after_a_restart() {
    let mut setup = Setup::new(&Shape::default());
    let traffic = setup.traffic(600, 20_000);
    let sidecar = setup.node.start_sidecar(Some("pause:2")).unwrap();
    sidecar.scale_to(INSTANCES).unwrap();
    let_flow(&traffic, 5_000);
    let operation = scale_in_until(&sidecar, "pause:2");
    setup.node.kill_sidecar().unwrap();
    let_flow(&traffic, 5_000);
    let sidecar = setup.node.start_sidecar(None).unwrap();
    let ended = sidecar.wait_until_ended(operation.id).unwrap();
    assert_eq!(ended.state(), OperationState::Done, "{ended:?}");
    assert_owners(&setup, 1);
    setup.assert_exact(&traffic.stop().unwrap());
}

/// Scales out, kills the sidecar before the step, starts it again, and sees how the scale-out ends;
/// all of that for each step under the same traffic.
fn kill_at_each(steps: &[&str], outcome: OperationState) {
    let mut setup = Setup::new(&Shape::default());
    let traffic = setup.traffic(600, 20_000);
    for step in steps {
        let sidecar = setup.node.start_sidecar(Some(step)).unwrap();
        let_flow(&traffic, 1_000);
        let operation = scale_until(&sidecar, step);
        setup.node.kill_sidecar().unwrap();
        let_flow(&traffic, 5_000);
        let sidecar = setup.node.start_sidecar(None).unwrap();
        let ended = sidecar.wait_until_ended(operation.id).unwrap();
        assert_eq!(ended.state(), outcome, "{step}: {ended:?}");
        let is_done = outcome == OperationState::Done;
        assert_owners(&setup, if is_done { INSTANCES as usize } else { 1 });
        let_flow(&traffic, 1_000);
        sidecar.scale_to(1).unwrap();
        assert_owners(&setup, 1);
        setup.node.stop_sidecar().unwrap();
    }
    setup.assert_exact(&traffic.stop().unwrap());
}

/// Scales out until everything before the step is done.
fn scale_until(sidecar: &Sidecar, step: &str) -> Operation {
    scale(sidecar, INSTANCES, step)
}

fn scale_in_until(sidecar: &Sidecar, step: &str) -> Operation {
    scale(sidecar, 1, step)
}

fn scale(sidecar: &Sidecar, instances: u32, step: &str) -> Operation {
    let stands_still = |operation: &Operation| {
        let place = operation.steps.iter().position(|other| other.name == step);
        place.is_some_and(|place| {
            let before = &operation.steps[..place];
            before.iter().all(|other| other.state() == StepState::Done)
        })
    };
    let operation = sidecar.scale(instances, stands_still).unwrap();
    assert!(stands_still(&operation), "{operation:?}");
    let next = operation.steps.iter().find(|other| other.name == step).unwrap();
    assert_eq!(next.state(), StepState::Planned, "{operation:?}");
    operation
}

/// Asserts that the buckets are spread evenly over so many instances, and no others are there.
fn assert_owners(setup: &Setup, count: usize) {
    let instances = setup.dataplane.instances().unwrap();
    assert_eq!(instances.len(), count, "{instances:?}");
    let owners = setup.dataplane.steering().unwrap().owners;
    for instance in &instances {
        let owned = owners.iter().filter(|owner| u32::from(**owner) == instance.id).count();
        assert!(owned.abs_diff(owners.len() / count) <= 1, "{owned} buckets: {instances:?}");
    }
}
