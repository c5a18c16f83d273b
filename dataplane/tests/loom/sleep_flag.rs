//! A worker that goes to sleep and those that give it work.

#[path = "../../src/driver/sleep_flag.rs"]
mod flag;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use crate::check;
use crate::sync::{Weakness, weakened};
use flag::SleepFlag;

#[derive(Default)]
struct World {
    flag: SleepFlag,
    /// Stands for a hand-over ring.
    ring: AtomicU32,
    /// Stands for the eventfd.
    event: AtomicU32,
}

impl World {
    /// Gives work as a producer does, and wakes the worker.
    fn produce(&self) {
        self.ring.fetch_add(1, Ordering::Release);
        if self.flag.claim() {
            self.event.fetch_add(1, Ordering::Release);
        }
    }

    /// Goes to sleep as a worker does; says whether it sleeps.
    fn go_to_sleep(&self) -> bool {
        self.flag.announce();
        let found_work = self.ring.load(Ordering::Acquire) > 0;
        if found_work {
            self.wake_up();
        }
        !found_work
    }

    /// Wakes up as a worker does, for whatever reason.
    fn wake_up(&self) {
        self.flag.retract();
        self.event.swap(0, Ordering::Acquire);
    }

    fn is_rung(&self) -> u32 {
        self.event.load(Ordering::Acquire)
    }
}

fn producer(world: &Arc<World>) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || world.produce())
}

fn a_sleeper_and_a_producer() {
    loom::model(|| {
        let world = Arc::new(World::default());
        let producer = producer(&world);
        let sleeps = world.go_to_sleep();
        producer.join().unwrap();
        assert!(!sleeps || world.is_rung() > 0, "asleep with work and nobody rang");
    });
}

#[test]
fn a_sleeper_that_missed_the_work_is_woken() {
    a_sleeper_and_a_producer();
}

#[test]
#[should_panic(expected = "asleep with work and nobody rang")]
fn control_a_sleeper_and_a_producer_without_fences() {
    weakened(Weakness::Fences, a_sleeper_and_a_producer);
}

#[test]
fn two_producers_wake_a_sleeper_at_most_once() {
    check(|| {
        let world = Arc::new(World::default());
        let producers = [producer(&world), producer(&world)];
        let sleeps = world.go_to_sleep();
        for producer in producers {
            producer.join().unwrap();
        }
        let rung = world.is_rung();
        assert!(rung <= 1, "woken twice for one sleep");
        assert!(!sleeps || rung == 1, "asleep with work and nobody rang");
    });
}

/// The first sleep ends by itself while the work comes, and the worker goes to sleep again.
fn a_sleep_ends_while_work_comes() {
    check(|| {
        let world = Arc::new(World::default());
        let producer = producer(&world);
        let mut sleeps = world.go_to_sleep();
        if sleeps {
            world.wake_up();
            sleeps = world.go_to_sleep();
        }
        producer.join().unwrap();
        assert!(!sleeps || world.is_rung() > 0, "asleep with work and nobody rang");
    });
}

#[test]
fn a_wake_up_that_crosses_the_end_of_a_sleep_is_not_lost() {
    a_sleep_ends_while_work_comes();
}

#[test]
#[should_panic(expected = "asleep with work and nobody rang")]
fn control_a_sleep_that_ends_while_work_comes_without_fences() {
    weakened(Weakness::Fences, a_sleep_ends_while_work_comes);
}
