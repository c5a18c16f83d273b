//! The planner: balanced, minimal, and the same for the same input.

use weir_control::scaling::plan::{
    Direction, Lifecycle, Plan, PlanError, Running, RunningInstance, plan,
};
use weir_state_transfer::BUCKETS;

fn random_running(random: &mut fastrand::Rng) -> Running {
    let count = random.u32(1..=6);
    let mut ids: Vec<u32> = (1..=20).collect();
    random.shuffle(&mut ids);
    let active: Vec<u32> = ids.drain(..count as usize).collect();
    let mut instances: Vec<RunningInstance> = active
        .iter()
        .map(|id| RunningInstance { id: *id, name: format!("sw{id}"), state: Lifecycle::Active })
        .collect();
    if random.bool() {
        let (id, state) = (ids[0], Lifecycle::Ready);
        instances.push(RunningInstance { id, name: format!("sw{id}"), state });
    }
    let owners = (0..BUCKETS).map(|_| active[random.usize(0..active.len())] as u8).collect();
    Running { instances, owners, steers_beyond_buckets: random.bool() }
}

/// The owners by name after the plan, checking that each move takes only what its source owns.
fn apply(running: &Running, plan: &Plan) -> Vec<String> {
    let name = |id: u8| {
        let found = running.instances.iter().find(|instance| instance.id == u32::from(id));
        found.unwrap().name.clone()
    };
    let mut owners: Vec<String> = running.owners.iter().map(|id| name(*id)).collect();
    for planned in plan.moves.iter().filter(|planned| !planned.sweep) {
        for bucket in planned.buckets.iter().map(|bucket| bucket.index()) {
            assert_eq!(owners[bucket], planned.source);
            owners[bucket].clone_from(&planned.destination);
        }
    }
    owners
}

#[test]
fn plans_are_balanced_minimal_and_deterministic() {
    let mut random = weir_seed::rng();
    for _ in 0..300 {
        let running = random_running(&mut random);
        let wanted = random.u32(1..=8);
        let plan = plan(&running, wanted).unwrap();
        assert_eq!(plan, weir_control::scaling::plan::plan(&running, wanted).unwrap());
        let owners = apply(&running, &plan);
        let mut counts = std::collections::BTreeMap::new();
        owners.iter().for_each(|owner| *counts.entry(owner.clone()).or_insert(0_usize) += 1);
        assert_eq!(counts.len(), wanted as usize);
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
        assert!(plan.retire.iter().all(|name| !counts.contains_key(name)));
        // Nobody both gives and takes, and so no bucket moves without need.
        for planned in plan.moves.iter().filter(|planned| !planned.sweep) {
            assert!(
                plan.moves.iter().all(|other| other.sweep || other.destination != planned.source)
            );
        }
        let givers_and_takers = running.instances.len() + wanted as usize;
        assert!(plan.moves.iter().filter(|m| !m.sweep).count() < givers_and_takers);
    }
}

#[test]
fn sweeps_cover_what_rules_gave_to_those_that_go_and_nothing_of_those_that_stay() {
    let mut random = weir_seed::rng();
    let mut swept = 0;
    for _ in 0..100 {
        let mut running = random_running(&mut random);
        running.steers_beyond_buckets = true;
        let plan = plan(&running, 1).unwrap();
        for retiring in &plan.retire {
            let buckets: u32 = plan
                .moves
                .iter()
                .filter(|planned| planned.source == *retiring)
                .map(|planned| planned.buckets.len() as u32)
                .sum();
            assert_eq!(buckets, BUCKETS as u32, "{retiring} may own flows in any bucket");
            swept += 1;
        }
        assert!(plan.moves.iter().filter(|m| m.sweep).all(|m| plan.retire.contains(&m.source)));
    }
    assert!(swept > 0);
}

#[test]
fn one_to_four_moves_three_quarters_in_three_ranges_and_back() {
    let instance =
        |id: u32| RunningInstance { id, name: format!("sw{id}"), state: Lifecycle::Active };
    let one =
        Running { instances: vec![instance(1)], owners: vec![1; BUCKETS], ..Running::default() };
    let out = plan(&one, 4).unwrap();
    assert_eq!((out.direction, out.from, out.to), (Direction::Out, 1, 4));
    assert_eq!(out.create, ["sw2", "sw3", "sw4"]);
    let moves: Vec<(String, String)> =
        out.moves.iter().map(|m| (m.destination.clone(), m.buckets.to_string())).collect();
    let expected = [("sw2", "1024-2047"), ("sw3", "2048-3071"), ("sw4", "3072-4095")];
    assert_eq!(moves, expected.map(|(name, set)| (name.to_owned(), set.to_owned())));

    let four = Running {
        instances: (1..=4).map(instance).collect(),
        owners: (0..BUCKETS).map(|bucket| (bucket / 1024 + 1) as u8).collect(),
        ..Running::default()
    };
    let mut named = one.clone();
    named.instances[0].name = "r1".to_owned();
    assert_eq!(plan(&named, 3).unwrap().create, ["r2", "r3"], "names go on as they began");
    let back = plan(&four, 1).unwrap();
    assert_eq!(back.direction, Direction::In);
    assert_eq!(back.retire, ["sw4", "sw3", "sw2"]);
    assert!(plan(&four, 4).unwrap().is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let running = Running { owners: vec![1; BUCKETS], ..Running::default() };
    assert_eq!(plan(&running, 0), Err(PlanError::Count(0)));
    assert_eq!(plan(&running, 65), Err(PlanError::Count(65)));
    let small = Running { owners: vec![1; 16], ..Running::default() };
    assert_eq!(plan(&small, 1), Err(PlanError::Buckets(16)));
}
