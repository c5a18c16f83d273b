//! Every interleaving of a worker that goes to sleep and those that give it work.

#[path = "../src/driver/sleep_flag.rs"]
mod sleep_flag;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use sleep_flag::SleepFlag;

#[derive(Default)]
struct World {
    flag: SleepFlag,
    /// Stands for a hand-over ring.
    ring: AtomicU32,
    /// Stands for the eventfd.
    event: AtomicU32,
}

/// Gives work as a producer does, and wakes the worker.
fn produce(world: &World) {
    world.ring.fetch_add(1, Ordering::Release);
    if world.flag.claim() {
        world.event.fetch_add(1, Ordering::Release);
    }
}

/// Goes to sleep as a worker does; says whether it sleeps.
fn go_to_sleep(world: &World) -> bool {
    world.flag.announce();
    let found_work = world.ring.load(Ordering::Acquire) > 0;
    if found_work {
        world.flag.retract();
    }
    !found_work
}

#[test]
fn a_sleeper_that_missed_the_work_is_woken() {
    loom::model(|| {
        let world = Arc::new(World::default());
        let producer = {
            let world = Arc::clone(&world);
            thread::spawn(move || produce(&world))
        };
        let sleeps = go_to_sleep(&world);
        producer.join().unwrap();
        let rung = world.event.load(Ordering::Acquire) > 0;
        assert!(!sleeps || rung, "asleep with work and nobody rang");
    });
}

#[test]
fn two_producers_wake_a_sleeper_at_most_once() {
    // All interleavings with at most three preemptions: without the bound it takes 20 s.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let world = Arc::new(World::default());
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || produce(&world))
            })
            .collect();
        let sleeps = go_to_sleep(&world);
        for producer in producers {
            producer.join().unwrap();
        }
        let rung = world.event.load(Ordering::Acquire);
        assert!(rung <= 1, "woken twice for one sleep");
        assert!(!sleeps || rung == 1, "asleep with work and nobody rang");
    });
}
