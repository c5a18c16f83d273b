//! The thin layer of threads, clocks and sleep around the workers, which themselves do no I/O but
//! their ports'.

mod clock;
mod cores;
mod idle;
mod sleep_flag;
mod threads;
mod waker;

pub use clock::Clock;
pub use cores::Cores;
pub use idle::{Idle, Idler, Pause, Poll};
pub use threads::Threads;
pub use waker::{Sleeper, Waker};
