"""Filters as text, and which packets and which state they pick: see `state_filter.rs`."""

import ipaddress
import re

from wire import PORTS

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
ANYTHING = "any"
EXTRA = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


class Filter:
    """`src=10.0.0.0/8,proto=tcp,dport=80`, or `any`; ValueError for what is no filter."""

    def __init__(self, text):
        self.fields = {}
        self.extras = {}
        if text.strip() != ANYTHING:
            # A value in double quotes may have commas in it.
            for item in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', text):
                self._set(*(part.strip() for part in item.partition("=")))
        self._check()

    def _set(self, name, equals, value):
        known = self.extras if EXTRA.fullmatch(name) else self.fields
        if not equals or name in known:
            raise ValueError(f"{name!r} is no field, or given twice")
        if known is self.extras:
            quoted = len(value) > 1 and value[0] == value[-1] == '"'
            known[name] = value[1:-1] if quoted else value
        elif name in ("src", "dst"):
            known[name] = ipaddress.ip_network(value)
        elif name in ("sport", "dport"):
            first, dash, last = value.partition("-")
            known[name] = (number(first, 65535), number(last if dash else first, 65535))
            if known[name][0] > known[name][1]:
                raise ValueError(f"{name}: {value} is an empty range")
        elif name in ("proto", "service", "in_port"):
            named = PROTOCOLS.get(value) if name == "proto" else None
            most = 65535 if name == "service" else 255
            known[name] = number(value, most) if named is None else named
        elif name == "symmetric":
            if value not in ("true", "false"):
                raise ValueError(f"symmetric: {value!r}")
            known[name] = value == "true"
        elif name == "tcp_flags":
            wanted, slash, mask = value.partition("/")
            wanted, mask = flags(wanted), flags(mask if slash else wanted)
            if wanted & ~mask or not mask:
                raise ValueError(f"tcp_flags: {value}")
            known[name] = (wanted, mask)
        else:
            raise ValueError(f"unknown field {name!r}")

    def _check(self):
        src, dst = self.fields.get("src"), self.fields.get("dst")
        if src and dst and src.version != dst.version:
            raise ValueError("src and dst are of different families")
        if self._names_ports() and self.fields.get("proto", 6) not in PORTS:
            raise ValueError("the protocol has no ports")
        if len(self.extras) > 4:
            raise ValueError("at most 4 fields with a dot in their names")

    def _names_ports(self):
        return "sport" in self.fields or "dport" in self.fields

    def matches(self, flow, tcp_flags=None, in_port=0):
        """Whether a packet of a flow matches."""
        wanted = self.fields.get("tcp_flags")
        if wanted and (tcp_flags is None or tcp_flags & wanted[1] != wanted[0]):
            return False
        return self.fields.get("in_port", in_port) == in_port and self.picks(flow, True)

    def picks(self, id_, contains):
        """Whether it picks state. Only the fields that both have are compared, but state of one
        flow is picked when its packets match."""
        for name, own in (("proto", id_.protocol), ("service", id_.service)):
            if own is not None and self.fields.get(name, own) != own:
                return False
        if any(self.extras.get(name, value) != value for name, value in id_.extras):
            return False
        if id_.host is not None:
            named = [net for net in map(self.fields.get, ("src", "dst")) if net]
            return not named or any(holds(net, id_.host, contains) for net in named)
        if not id_.pair:
            return True
        if id_.is_flow and self._names_ports() and id_.protocol not in PORTS:
            return False
        src, dst = (id_.src, id_.sport), (id_.dst, id_.dport)
        crossed = self.fields.get("symmetric", True) and self._ends(dst, src, contains)
        return self._ends(src, dst, contains) or crossed

    def _ends(self, src, dst, contains):
        return (self._end("src", "sport", *src, contains)
                and self._end("dst", "dport", *dst, contains))

    def _end(self, net_name, port_name, net, port, contains):
        named, ports = self.fields.get(net_name), self.fields.get(port_name)
        if named and net is not None and not holds(named, net, contains):
            return False
        return not ports or port is None or ports[0] <= port <= ports[1]


def holds(named, own, contains):
    """Whether a network that is named holds one that state is about, or some of it."""
    if named.version != own.version:
        return False
    return own.subnet_of(named) or (not contains and named.subnet_of(own))


def number(text, most):
    """A plain decimal number."""
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise ValueError(f"{text!r} is no number up to {most}")
    return int(text)


def flags(text):
    """TCP flags such as `syn+ack`."""
    if text.strip() == "none":
        return 0
    try:
        return sum({FLAGS[word.strip()] for word in text.split("+")})
    except KeyError as error:
        raise ValueError(f"tcp_flags: {text!r}") from error
