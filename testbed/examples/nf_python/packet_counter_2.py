"""Version 2 of the packet counter: of each flow it knows the largest packet since it has it, too.

Its state of flows has another layout, and it takes in that of version 1 as well: so it can take
over from version 1 while packets come. Nothing is the other way round: version 1 refuses what
version 2 gives.

    python3 packet_counter_2.py --serve /run/counter2.sock --feed /run/feed2.sock --instance 2
"""

import struct

from packet_counter import PacketCounter, main, read_body
from stubs import nf_pb2 as api
from wire import PER_FLOW

UNKNOWN = 0
"""What is known of the largest packet where version 1 has seen all: it kept none."""


class PacketCounter2(PacketCounter):
    """Packets and bytes of flows, and their largest packet since version 2 has them; all else as
    version 1 has it."""

    version = "2.0"
    kinds = PacketCounter.kinds | {
        PER_FLOW: (0x8001, 2, "packets, bytes, and largest packet since version 2, of a flow",
                   [api.MERGE_RULE_NEWER])}
    earlier = {PER_FLOW: PacketCounter.kinds[PER_FLOW]}
    flow_body = struct.Struct(">QQI")

    @staticmethod
    def seen_more(seen, size):
        packets, total, largest = seen or (0, 0, UNKNOWN)
        return packets + 1, total + size, max(largest, size)

    def read_flow(self, chunk):
        if chunk.schema == self.earlier[PER_FLOW][:2]:
            return *read_body(PacketCounter.flow_body, chunk.body), UNKNOWN
        return read_body(self.flow_body, chunk.body)


if __name__ == "__main__":
    main(PacketCounter2)
