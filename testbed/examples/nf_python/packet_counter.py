"""A network function in a process of its own: it counts packets by flow, by host and in all.

It gets Ethernet frames, one a datagram, by a Unix socket, and serves `weir.nf.v1` on another, so
that what it has counted can be moved and copied.

    python3 packet_counter.py --serve /run/counter.sock --feed /run/feed.sock
"""

import argparse
import ipaddress
import os
import secrets
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from events import Events, Packet
from service import MESSAGE_MAX, Service
from sockets import make_room
from stubs import nf_pb2 as api
from stubs import nf_pb2_grpc
from wire import ALL_FLOWS, MULTI_FLOW, PER_FLOW, PORTS, Chunk, FlowId, Refused

FLOWS_MAX, HOSTS_MAX, REPLICAS_MAX = 100_000, 100_000, 1024
RAISE_MAX = 1 << 52
"""How far beyond what is counted here a version may be: more than there are updates in ten years."""
NUMBER_MAX = 1 << 63
"""The greatest version and count that is taken in: chunks have 64 bits, and counting goes on."""
PART = struct.Struct(">IQQ")


class PacketCounter:
    """What is counted. A version is the number of the update, of all that there were."""

    name, version = "packet-counter", "1.0"
    # {scope: (schema kind, revision, name, by which rules it is merged)}
    kinds = {PER_FLOW: (0x8001, 1, "packets and bytes of a flow", [api.MERGE_RULE_NEWER]),
             MULTI_FLOW: (0x8002, 1, "packets of a host", [api.MERGE_RULE_COUNTER]),
             ALL_FLOWS: (0x8003, 1, "packets", [api.MERGE_RULE_COUNTER])}
    # The same of earlier versions, which it takes in too.
    earlier = {}
    flow_body = struct.Struct(">QQ")

    def __init__(self, instance):
        self.lock = threading.Condition()
        self.events = Events()
        self.replica = (instance, secrets.randbits(64))
        self.updates = 0
        # FlowId -> (version, (packets, bytes)), and FlowId -> (version, {replica: packets}).
        self.flows, self.hosts, self.total = {}, {}, {FlowId(): (0, {})}

    def packet(self, frame, at_ns):
        """A frame has come."""
        packet = parse(frame, at_ns)
        if packet is None:
            return
        with self.lock:
            if self.events.arrive(packet):
                self._process(packet)
            self.lock.notify_all()

    def process_kept(self):
        for packet in self.events.release():
            self._process(packet)

    def _process(self, packet):
        self.updates += 1
        flow = packet.key
        _, seen = self.flows.get(flow, (0, None))
        if seen or len(self.flows) < FLOWS_MAX:
            self.flows[flow] = (self.updates, self.seen_more(seen, len(packet.data)))
        for host in (flow.src, flow.dst):
            self._count(self.hosts, FlowId(host=host, service=flow.service))
        self._count(self.total, FlowId())
        self.events.tell(packet, api.CAUSE_PROCESSED, self.updates)

    @staticmethod
    def seen_more(seen, size):
        """What is known of a flow after another packet of it."""
        packets, total = seen or (0, 0)
        return packets + 1, total + size

    def _count(self, counters, id_):
        if id_ in counters or len(counters) < HOSTS_MAX:
            parts = counters.get(id_, (0, {}))[1]
            parts[self.replica] = parts.get(self.replica, 0) + 1
            counters[id_] = (self.updates, parts)

    def _counters(self, scope):
        return {PER_FLOW: self.flows, MULTI_FLOW: self.hosts, ALL_FLOWS: self.total}[scope]

    def counters(self):
        """For people: its own packets, and what it knows of, whoever has counted that."""
        packets = self.total[FlowId()][1].get(self.replica, 0)
        return {"packets": packets, "flows": len(self.flows), "hosts": len(self.hosts)}

    def ids(self, scope):
        return list(self._counters(scope))

    def chunk(self, scope, id_):
        found = self._counters(scope).get(id_)
        if found is None:
            return None
        if scope == PER_FLOW:
            body = self.flow_body.pack(*found[1])
        else:
            parts = sorted(found[1].items())
            body = struct.pack(">I", len(parts)) + b"".join(
                PART.pack(*replica, count) for replica, count in parts)
        return Chunk(id_, scope, self.kinds[scope][:2], found[0], body)

    def put(self, chunk):
        # One of version 0 would be in no get, and a wrong one leave none for what is counted later.
        most = min(self.updates + RAISE_MAX, NUMBER_MAX)
        if not 1 <= chunk.version <= most:
            raise Refused("BAD_FIELD", f"the version is {chunk.version}: 1 to {most} are taken in")
        if chunk.scope == PER_FLOW:
            self._put_flow(chunk)
        else:
            self._merge(chunk)
        self.updates = max(self.updates, chunk.version)

    def _put_flow(self, chunk):
        if not chunk.id.is_flow:
            raise Refused("WRONG_ID", "per-flow state is about one flow")
        seen = self.read_flow(chunk)
        flow = chunk.id.both_ways()
        known, _ = self.flows.get(flow, (0, None))
        if chunk.version < known:
            raise Refused("OLDER", f"the flow is of version {known} here")
        if flow not in self.flows and len(self.flows) == FLOWS_MAX:
            raise Refused("FULL", f"{FLOWS_MAX} flows are the most")
        self.flows[flow] = (chunk.version, seen)

    def read_flow(self, chunk):
        """What a chunk says of a flow, which is all that it says."""
        return read_body(self.flow_body, chunk.body)

    def _merge(self, chunk):
        """Of each replica's part the greater one: so a copy may come twice, late, or back again."""
        body = chunk.body
        count = struct.unpack(">I", body[:4])[0] if len(body) >= 4 else -1
        if len(body) != 4 + count * PART.size or count > REPLICAS_MAX:
            raise Refused("BAD_BODY", "the parts of a counter are not as many as it says")
        counters = self._counters(chunk.scope)
        is_total = chunk.scope == ALL_FLOWS
        if chunk.id != FlowId() if is_total else chunk.id.host is None:
            raise Refused("WRONG_ID", "multi-flow state is about a host, all-flows state about all")
        if chunk.id not in counters and len(counters) == HOSTS_MAX:
            raise Refused("FULL", f"{HOSTS_MAX} hosts are the most")
        version, own = counters.get(chunk.id, (0, {}))
        merged = dict(own)
        for instance, incarnation, counted in PART.iter_unpack(body[4:]):
            replica = (instance, incarnation)
            check_counts(counted)
            merged[replica] = max(merged.get(replica, 0), counted)
        if len(merged) > REPLICAS_MAX:
            raise Refused("FULL", f"{REPLICAS_MAX} replicas are the most")
        counters[chunk.id] = (max(version, chunk.version), merged)

    def delete(self, scope, id_):
        key = id_.both_ways() if scope == PER_FLOW and id_.is_flow else id_
        return self._counters(scope).pop(key, None) is not None


def read_body(layout, body):
    """The values of a body that is whole."""
    if len(body) != layout.size:
        raise Refused("BAD_BODY", f"the state of a flow has {layout.size} bytes")
    values = layout.unpack(body)
    check_counts(*values)
    return values


def check_counts(*counts):
    """Refuses what could not be counted on."""
    if max(counts) > NUMBER_MAX:
        raise Refused("BAD_BODY", f"a count is {max(counts)}: {NUMBER_MAX} is the most")


def parse(frame, at_ns):
    """The packet of a frame, or None when it is not of IP."""
    kind, ip = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and len(ip) >= 20:
        header, protocol, ends = (ip[0] & 15) * 4, ip[9], (ip[12:16], ip[16:20])
        later = struct.unpack(">H", ip[6:8])[0] & 0x1fff
    elif kind == b"\x86\xdd" and len(ip) >= 40:
        header, protocol, ends, later = 40, ip[6], (ip[8:24], ip[24:40]), 0
    else:
        return None
    src, dst = map(ipaddress.ip_address, ends)
    rest = ip[header:]
    has_ports = protocol in PORTS and not later and len(rest) >= 4
    if protocol in PORTS and not has_ports:
        return None  # the ports of a later fragment are not known here
    ports = struct.unpack(">HH", rest[:4]) if has_ports else (0, 0)
    flags = rest[13] if protocol == 6 and len(rest) >= 14 else None
    flow = FlowId.flow(src, dst, *ports, protocol)
    return Packet(flow, flow.both_ways(), flags, frame, at_ns)


def main(kind=PacketCounter):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", required=True, help="the Unix socket of the southbound API")
    parser.add_argument("--feed", required=True, help="the Unix socket that frames come by")
    parser.add_argument("--instance", type=int, default=1, help="one that no other has")
    arguments = parser.parse_args()
    function = kind(arguments.instance)
    make_room(arguments.serve, socket.SOCK_STREAM)
    make_room(arguments.feed, socket.SOCK_DGRAM)
    # The sockets are for this user only.
    os.umask(0o077)
    bounds = [("grpc.max_receive_message_length", MESSAGE_MAX),
              ("grpc.max_send_message_length", MESSAGE_MAX)]
    server = grpc.server(ThreadPoolExecutor(32), options=bounds, maximum_concurrent_rpcs=32)
    nf_pb2_grpc.add_NetworkFunctionServiceServicer_to_server(Service(function), server)
    server.add_insecure_port(f"unix:{arguments.serve}")
    feed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    feed.bind(arguments.feed)
    server.start()
    print("ready", flush=True)
    while True:
        function.packet(feed.recv(65536), time.monotonic_ns())


if __name__ == "__main__":
    main()
