//! Sharing: several instances of one process act on the same state (OpenNF, section 5.2.2).
//!
//! ```text
//!   steerers      instance (Asking)                         home of the slot (Home)
//!      │ packet ──────► what does it need?                         │
//!      │                ├─ nothing, nobody waits: goes on          │
//!      │                ├─ operation, by the ring ───────────────► │ executes, in one order, once
//!      │                │  the packet waits here, and behind it    │
//!      │                │  all later ones of the slot              │
//!      │                └─ goes on ◄────────────── answer ─────────┤
//! ```
//!
//! A group of state, such as what is known of a source, is in a [`Slot`]; a slot has one home
//! among the members ([`View`]), and there its state is, alone. Every operation is executed there:
//! in the order in which they come ([`Mode::Strong`]), which keeps the order of each instance, as
//! messages between two instances do; or in the order of each steerer ([`Mode::Strict`]), for
//! which a [`Stamper`] numbers the packets of each slot.
//!
//! **What is promised.** Packets of a slot (strict: and of one steerer) go on at their instance in
//! the order in which they came. An operation is executed once, however often it is sent.
//! Operations whose packets wait ([`Need::Answer`]) are linearizable. Updates ([`Need::Update`])
//! do not let their packets wait: all instances see them in one order that keeps that of each
//! instance, which is what OpenNF calls strong, but another may see one only after its packet has
//! left. A network function that can not bear that asks for an answer.
//!
//! **Changes.** Before a share every instance is the home of its own copies, and after it of its
//! replicas. So its start and end, who joins and who leaves, and a home that moves are one thing:
//! the change from one view to the next. Who adopts a view sends every other participant a fence
//! behind all that it sent by the old view. The old home executes until it has all fences, and then
//! hands over, piece by piece; the next one lets operations wait until all who said in their fence
//! that they owe something of the slot have handed it over.
//!
//! Pieces are joined as they come, more than once maybe, as a handover may begin anew. Who has
//! handed over all of a slot keeps nothing of it; only then its parts of the state become the next
//! home's own ([`Store::given`]).
//!
//! **Failures.** If an instance fails, as when its worker panics while its end of the share is at
//! work, the coordinator tells a view without it. The state of its own slots is lost with it, and so
//! is what others have handed over to it. No operation of the others is lost: who adopts a view sends
//! those without an answer again to the homes by it, wherever they were, and they are not executed
//! again where what they did is still there. So no packet and no update of another waits for what
//! has failed, and the share still changes and ends. A panic elsewhere loses the packet in hand, with
//! its place in the order of its steerer; what is behind that place waits for half the patience.
//!
//! **Bounds** are in [`Limits`]. Nothing waits for ever: neither a packet for its answer nor an
//! operation for those in front of it.
//!
//! A driver has a [`Member`] for each instance of a share, which its worker drives, for a strict
//! share a [`Stamper`] for each steerer, and a [`Coordinator`] at the node. A packet of a strict
//! share that concerns groups of two slots is handed in twice, with a stamp of each.

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
mod places;
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
