//! What an instance sends: to others, and to itself, which needs no ring.

use std::collections::VecDeque;

use super::message::Message;
use crate::id::InstanceId;

/// Messages on their way out, in their order.
#[derive(Clone, Debug, Hash)]
pub(super) struct Sent<O, A, C> {
    me: InstanceId,
    own: VecDeque<Message<O, A, C>>,
    out: VecDeque<(InstanceId, Message<O, A, C>)>,
}

impl<O, A, C> Sent<O, A, C> {
    pub(super) fn new(me: InstanceId) -> Self {
        Self { me, own: VecDeque::new(), out: VecDeque::new() }
    }

    pub(super) fn push(&mut self, to: InstanceId, message: Message<O, A, C>) {
        if to == self.me {
            self.own.push_back(message);
        } else {
            self.out.push_back((to, message));
        }
    }

    /// The next for this instance itself.
    pub(super) fn pop_own(&mut self) -> Option<Message<O, A, C>> {
        self.own.pop_front()
    }

    /// The next for another.
    pub(super) fn pop(&mut self) -> Option<(InstanceId, Message<O, A, C>)> {
        self.out.pop_front()
    }
}
