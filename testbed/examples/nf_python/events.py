"""Subscriptions to packets: what becomes of packets, and what their subscribers are told."""

from collections import Counter, deque
from dataclasses import dataclass, field

from stubs import nf_pb2 as api

SUBSCRIPTIONS_MAX = 16
KEPT_MAX = 4096
"""Packets that are kept at most; what finds no room is dropped."""
QUEUE_MAX = 256
"""Events of one subscription that wait for their subscriber at most."""

PROCESS, KEEP, DROP = api.ACTION_PROCESS, api.ACTION_BUFFER, api.ACTION_DROP


@dataclass
class Packet:
    """A packet, with what filters compare; `key` is one name for both directions of its flow."""

    flow: object
    key: object
    tcp_flags: int | None
    data: bytes
    at_ns: int


@dataclass
class Subscription:
    """One subscription and the notes that its subscriber has not taken."""

    filter: object
    action: int
    snap: int
    notes: deque = field(default_factory=deque)
    waiting: int = 0
    lost: int = 0
    sequence: int = 0
    ended: bool = False

    def raise_event(self, packet, cause, version):
        """Puts an event at the end, or counts it when there is no room."""
        sequence, self.sequence = self.sequence, self.sequence + 1
        if self.waiting == QUEUE_MAX:
            self.lost += 1
            return
        self._gap()
        self.waiting += 1
        event = api.Event(sequence=sequence, flow=packet.flow.encode(), at_ns=packet.at_ns,
                          cause=cause, version=version, packet=packet.data[:self.snap],
                          length=len(packet.data))
        self.notes.append(api.EnableEventsResponse(event=event))

    def take(self):
        """The oldest note, or None."""
        if not self.notes:
            self._gap()
        if not self.notes:
            return None
        note = self.notes.popleft()
        self.waiting -= note.WhichOneof("note") == "event"
        return note

    def _gap(self):
        if self.lost:
            self.notes.append(api.EnableEventsResponse(gap=api.Gap(lost=self.lost)))
            self.lost = 0


class Events:
    """All subscriptions, and the packets that they keep. One that drops outweighs one that keeps,
    and no packet overtakes another of its flow that is kept."""

    def __init__(self):
        self.subscriptions = {}
        self.kept = deque()
        self.kept_of = Counter()

    def enable(self, number, subscription):
        """Adds a subscription; KeyError when there is one, OverflowError when there are too many."""
        if number in self.subscriptions:
            raise KeyError(number)
        if len(self.subscriptions) == SUBSCRIPTIONS_MAX:
            raise OverflowError
        self.subscriptions[number] = subscription

    def disable(self, number):
        """Ends a subscription; KeyError when there is none."""
        self.subscriptions.pop(number).ended = True

    def arrive(self, packet):
        """Whether a packet is to be processed."""
        if self._by(packet, DROP):
            self.tell(packet, api.CAUSE_DROPPED, 0)
            return False
        if packet.key not in self.kept_of and not self._by(packet, KEEP):
            return True
        if len(self.kept) < KEPT_MAX:
            self.kept.append(packet)
            self.kept_of[packet.key] += 1
        return False

    def release(self):
        """The packets that nobody keeps any more, oldest first."""
        left, behind, free = deque(), Counter(), []
        for packet in self.kept:
            if packet.key in behind or self._by(packet, KEEP):
                behind[packet.key] += 1
                left.append(packet)
            else:
                free.append(packet)
        self.kept, self.kept_of = left, behind
        return free

    def tell(self, packet, cause, version):
        """Raises the events of a packet."""
        for subscription in self.subscriptions.values():
            if subscription.filter.matches(packet.flow, packet.tcp_flags):
                subscription.raise_event(packet, cause, version)

    def _by(self, packet, action):
        return any(by.action == action and by.filter.matches(packet.flow, packet.tcp_flags)
                   for by in self.subscriptions.values())
