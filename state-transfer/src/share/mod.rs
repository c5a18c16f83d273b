//! Sharing: several instances of one process act on the same state (OpenNF, section 5.2.2).

mod asking;
mod coordinator;
mod done;
mod handover;
mod home;
mod lanes;
mod limits;
mod member;
mod message;
mod order;
mod request;
mod sent;
mod slot;
mod stamper;
mod store;
mod turn;
mod view;

pub use coordinator::{Command, Coordinator, Event, Phase, Share};
pub use home::Counters;
pub use limits::Limits;
pub use member::Member;
pub use message::{Answer, Cause, Ledger, Message, Operation, OperationId, Outcome, Passed, Stamp};
pub use request::{MEMBERS_MAX, Mode, Refused, Request, Surroundings, Unknown};
pub use slot::{SLOTS_MAX, Slot, SlotSet};
pub use stamper::Stamper;
pub use store::Store;
pub use turn::{Arrival, Need, Next, Turn};
pub use view::View;
