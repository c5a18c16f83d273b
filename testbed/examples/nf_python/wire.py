"""Flow ids and chunks as bytes, in network order.

The formats are those of `state-transfer/src/flow_id/codec.rs` and
`state-transfer/src/chunk/codec.rs`, which say which value goes where. Whatever is not exactly in
that form is refused, and for which reason: the tests of a chunk are made in this order so that
every implementation gives the same one.
"""

import ipaddress
import struct
from dataclasses import dataclass

import crc32c

PER_FLOW, MULTI_FLOW, ALL_FLOWS = 1, 2, 3
PORTS = (6, 17, 132)
"""Protocols with ports: TCP, UDP and SCTP."""

BODY_MAX = 1 << 20
EXTRAS_MAX, NAME_MAX, VALUE_MAX = 4, 32, 1024
ID_MAX = 2 + 2 * 18 + 2 * 2 + 1 + 2 + 1 + EXTRAS_MAX * (3 + NAME_MAX + VALUE_MAX)

# magic, format, scope, stage, zero, kind, revision, version, age, time left, and three lengths.
HEADER = struct.Struct(">4sBBBBHHQQQHHI")
MAGIC, FORMAT, COPY, FOREVER = b"WEIR", 1, 1, (1 << 64) - 1
HOST, PAIR, SRC, DST, SPORT, DPORT, PROTOCOL, SERVICE, EXTRAS = (1 << bit for bit in range(9))


class Refused(Exception):
    """Why a chunk is not taken in: the name of a RefusalReason, and the same for people."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class FlowId:
    """Which flows state is about. What is absent is None, and says nothing about them."""

    host: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    pair: bool = False
    src: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    dst: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    sport: int | None = None
    dport: int | None = None
    protocol: int | None = None
    service: int | None = None
    extras: tuple = ()

    @classmethod
    def flow(cls, src, dst, sport, dport, protocol, service=0):
        """The id of one flow; ports are left out of protocols without."""
        ports = (sport, dport) if protocol in PORTS else (None, None)
        src, dst = ipaddress.ip_network(src), ipaddress.ip_network(dst)
        return cls(None, True, src, dst, *ports, protocol, service)

    @property
    def is_flow(self):
        """Whether it is about one flow."""
        ends = (self.src, self.dst)
        if not self.pair or None in ends or None in (self.protocol, self.service):
            return False
        hosts = all(end.prefixlen == end.max_prefixlen for end in ends)
        ports = [port is not None for port in (self.sport, self.dport)]
        return (hosts and self.src.version == self.dst.version
                and ports == [self.protocol in PORTS] * 2)

    def both_ways(self):
        """One name for both directions of a flow."""
        ends = sorted([(self.src, self.sport), (self.dst, self.dport)],
                      key=lambda end: (end[0].network_address.packed, end[1] or 0))
        (src, sport), (dst, dport) = ends
        return FlowId(None, True, src, dst, sport, dport, self.protocol, self.service)

    def encode(self):
        """The id as bytes."""
        fields = [(HOST, self.host is not None), (PAIR, self.pair), (SRC, self.src is not None),
                  (DST, self.dst is not None), (SPORT, self.sport is not None),
                  (DPORT, self.dport is not None), (PROTOCOL, self.protocol is not None),
                  (SERVICE, self.service is not None), (EXTRAS, bool(self.extras))]
        out = struct.pack(">H", sum(bit for bit, there in fields if there))
        for net in (self.host, self.src, self.dst):
            if net is not None:
                out += bytes([net.prefixlen, net.version]) + net.network_address.packed
        for port in (self.sport, self.dport):
            out += b"" if port is None else struct.pack(">H", port)
        out += b"" if self.protocol is None else bytes([self.protocol])
        out += b"" if self.service is None else struct.pack(">H", self.service)
        if self.extras:
            out += bytes([len(self.extras)])
            for name, value in self.extras:
                name, value = name.encode(), value.encode()
                out += bytes([len(name)]) + name + struct.pack(">H", len(value)) + value
        return out

    @classmethod
    def decode(cls, data):
        """The id that bytes are; ValueError when they are none."""
        reader = Reader(data)
        present = reader.number(2)
        pair, of_pair = present & PAIR, present & (SRC | DST | SPORT | DPORT)
        if present >> 9 or (present & HOST and pair) or (of_pair and not pair):
            raise ValueError("fields that do not go together")
        host, src, dst = (reader.prefix() if present & bit else None for bit in (HOST, SRC, DST))
        sport, dport = (reader.number(2) if present & bit else None for bit in (SPORT, DPORT))
        protocol = reader.number(1) if present & PROTOCOL else None
        service = reader.number(2) if present & SERVICE else None
        extras = reader.extras() if present & EXTRAS else ()
        if reader.data:
            raise ValueError("bytes behind it")
        return cls(host, bool(pair), src, dst, sport, dport, protocol, service, extras)


class Reader:
    """Takes values off the front of bytes; ValueError when there are too few."""

    def __init__(self, data):
        self.data = data

    def raw(self, count):
        if len(self.data) < count:
            raise ValueError("it is cut off")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, count):
        return int.from_bytes(self.raw(count), "big")

    def prefix(self):
        length, family = self.number(1), self.number(1)
        if family not in (4, 6):
            raise ValueError("an address of no family")
        # Refuses bits beyond the length.
        return ipaddress.ip_network((self.raw(4 if family == 4 else 16), length))

    def extras(self):
        count = self.number(1)
        found = tuple((self.raw(self.number(1)).decode(), self.raw(self.number(2)).decode())
                      for _ in range(count))
        names = [name for name, _ in found]
        if not 1 <= count <= EXTRAS_MAX or names != sorted(set(names)):
            raise ValueError("too many fields, or not in order")
        if any(len(n.encode()) > NAME_MAX or len(v.encode()) > VALUE_MAX for n, v in found):
            raise ValueError("a field that is too long")
        return found


@dataclass
class Chunk:
    """State on its way. `schema` is its kind and its revision."""

    id: FlowId
    scope: int
    schema: tuple
    version: int
    body: bytes

    def encode(self):
        """The chunk as bytes."""
        id_ = self.id.encode()
        header = HEADER.pack(MAGIC, FORMAT, self.scope, COPY, 0, *self.schema, self.version, 0,
                             FOREVER, len(id_), 0, len(self.body))
        covered = header + id_ + self.body
        return covered + struct.pack(">I", crc32c.crc32c(covered))

    @classmethod
    def decode(cls, data):
        """The chunk that bytes are; Refused when they are none."""
        size = len(data)
        truncated = Refused("TRUNCATED", f"the chunk is cut off after {size} bytes")
        if size < 4:
            raise truncated
        if data[:4] != MAGIC:
            raise Refused("NOT_A_CHUNK", "the bytes do not begin like a chunk")
        if size > 4 and data[4] != FORMAT:
            raise Refused("UNKNOWN_FORMAT", f"the chunk is of format {data[4]}")
        if size < HEADER.size:
            raise truncated
        (_, _, scope, stage, zero, kind, revision, version, _, _, id_length, zeros,
         body_length) = HEADER.unpack_from(data)
        for what, length, most in (("bytes of flow id", id_length, ID_MAX),
                                   ("bytes of state", body_length, BODY_MAX)):
            if length > most:
                raise Refused("TOO_LARGE", f"the chunk has {length} {what}: {most} are the most")
        body_at = HEADER.size + id_length
        excess = size - (body_at + body_length + 4)
        if excess < 0:
            raise truncated
        if excess > 0:
            raise Refused("TOO_LONG", f"{excess} bytes follow the chunk")
        if crc32c.crc32c(data[:-4]) != int.from_bytes(data[-4:], "big"):
            raise Refused("CORRUPTED", "the checksum of the chunk is another")
        if scope not in (PER_FLOW, MULTI_FLOW, ALL_FLOWS) or stage != COPY or zero or zeros:
            raise Refused("BAD_FIELD", "the scope or stage of the chunk is none that there is")
        try:
            id_ = FlowId.decode(data[HEADER.size:HEADER.size + id_length])
        except ValueError as error:
            raise Refused("BAD_FIELD", f"the flow id of the chunk: {error}") from error
        return cls(id_, scope, (kind, revision), version, data[body_at:-4])
