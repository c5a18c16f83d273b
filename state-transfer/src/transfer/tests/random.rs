//! Random schedules over a stream that loses, repeats, spoils and breaks.

use fastrand::Rng;
use weir_seed::{each, given, seeds};

use super::model::{Faults, World};
use crate::transfer::{Ended, Outcome};

#[test]
fn without_faults_everything_is_moved() {
    each(seeds(60), |seed| {
        let mut world = World::new(seed, Faults::default());
        world.run();
        assert_eq!(world.ended(), (Some(Ended::Moved), Some(Outcome::Kept)));
        assert!(world.source.is_empty());
        assert_eq!(world.destination, world.all());
    });
}

/// Each fault is there or not, and more or less likely.
fn some(rng: &mut Rng) -> Faults {
    let mut rate = || if rng.bool() { 0 } else { rng.u32(0..60) };
    Faults {
        lose: rate(),
        repeat: rate(),
        spoil: rate(),
        replace: rate(),
        break_off: rate(),
        refuse: rate(),
        stick: rate() * 8,
        give_up: rate() / 4,
        unreached: rate() * 14,
        crash: 0,
        forget: 0,
    }
}

#[test]
fn whatever_fails_a_transfer_is_done_or_undone_or_says_that_it_does_not_know() {
    let mut seen = [0; 3];
    each(seeds(1_000), |seed| {
        let mut world = World::new(seed, some(&mut Rng::with_seed(!seed)));
        world.run();
        let (leaving, arriving) = world.ended();
        match leaving.expect("it lives") {
            Ended::Moved => {
                seen[0] += 1;
                assert!(world.source.is_empty());
                assert_eq!(world.destination, world.all(), "what was sent came");
                assert_eq!(arriving, Some(Outcome::Kept));
            }
            Ended::Undone => {
                seen[1] += 1;
                assert_eq!((&world.source, &world.destination), (&world.first.0, &world.first.1));
                assert_eq!(arriving, Some(Outcome::Undone));
            }
            Ended::Unknown => {
                seen[2] += 1;
                assert_eq!(world.source, world.first.0, "nothing is deleted");
            }
            Ended::WordBroken => panic!("a receipt is not gone back upon"),
        }
        if arriving == Some(Outcome::Undone) {
            assert_eq!(world.destination, world.first.1);
            assert!(!world.stuck);
        }
    });
    println!("moved, undone, unknown: {seen:?}");
    let all = seen.iter().all(|count| *count > 20);
    assert!(all || given().is_some(), "{seen:?}: the faults are not those meant");
}

#[test]
fn nothing_is_lost_when_a_sidecar_dies() {
    let mut died = [0; 2];
    each(seeds(500), |seed| {
        let mut rng = Rng::with_seed(!seed);
        let mut world = World::new(seed, Faults { crash: rng.u32(1..40), ..some(&mut rng) });
        world.run();
        world.check_losses();
        let (leaving, arriving) = world.ended();
        died[0] += u32::from(leaving.is_none());
        died[1] += u32::from(arriving.is_none());
        match (leaving, arriving) {
            (Some(Ended::Undone), None) => assert_eq!(world.source, world.first.0),
            (Some(Ended::Moved), _) => {
                assert!(world.source.is_empty());
                assert_eq!(world.destination, world.all());
            }
            (None, Some(Outcome::Undone)) => assert_eq!(world.destination, world.first.1),
            (None, Some(Outcome::Kept)) => assert_eq!(world.destination, world.all()),
            _ => {}
        }
    });
    assert!(died.iter().all(|count| *count > 20) || given().is_some(), "{died:?}");
}

#[test]
fn nothing_is_lost_when_the_end_that_it_is_put_into_is_started_again() {
    let mut seen = [0; 2];
    each(seeds(500), |seed| {
        let mut rng = Rng::with_seed(!seed);
        let mut world = World::new(seed, Faults { forget: rng.u32(1..40), ..some(&mut rng) });
        world.run();
        world.check_losses();
        let (leaving, arriving) = world.ended();
        seen[0] += u32::from(world.forgot());
        seen[1] += u32::from(leaving == Some(Ended::Moved));
        match leaving {
            Some(Ended::Moved) => assert!(!world.forgot() && arriving == Some(Outcome::Kept)),
            _ => assert_eq!(world.source, world.first.0),
        }
    });
    assert!(seen.iter().all(|count| *count > 20) || given().is_some(), "{seen:?}");
}
