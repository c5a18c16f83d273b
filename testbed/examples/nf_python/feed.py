"""Feeds frames to a Unix socket, one a datagram: those of a capture file (pcap), or its own.

    python3 feed.py /run/feed.sock --loop
    python3 feed.py /run/feed.sock capture.pcap --rate 1000 --loop
"""

import argparse
import ipaddress
import socket
import struct
import sys
import time
from functools import partial

from sockets import connect

OWN = 240
"""Frames that are made where there is no capture."""


def captured(path):
    """The frames of a pcap file of either byte order."""
    try:
        file = open(path, "rb")
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    with file:
        magic = file.read(24)[:4]
        if magic not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1",
                         b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d"):
            sys.exit(f"{path} is no pcap file (pcapng is none: editcap -F pcap makes one of it)")
        order = "<" if magic[0] in (0xd4, 0x4d) else ">"
        while len(header := file.read(16)) == 16:
            yield file.read(struct.unpack(order + "IIII", header)[2])


def made():
    """Frames of TCP, UDP and ICMP between some hosts, of both families."""
    for number in range(OWN):
        protocol, payload = (6, 17, 1)[number % 3], bytes(40 + number)
        client, server = number % 5 + 1, number % 2 + 100
        ports = struct.pack(">HH", 1000 + number % 7, 80)
        # What else a TCP header has; the checksums are left out, as nobody here looks at them.
        segment = ports + struct.pack(">IIHHHH", 1, 1, 0x5010, 65535, 0, 0) + payload
        if number % 4 == 3:
            ends = [ipaddress.ip_address(f"2001:db8::{last}").packed for last in (client, server)]
            header = struct.pack(">IHBB", 6 << 28, len(segment), protocol, 64)
            kind = b"\x86\xdd"
        else:
            ends = [bytes([10, 7, 0, client]), bytes([10, 7, 1, server])]
            length = 20 + len(segment)
            header = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 64, protocol, 0)
            kind = b"\x08\x00"
        yield bytes([2] * 12) + kind + header + b"".join(ends) + segment


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("feed", help="the socket that frames are sent to")
    parser.add_argument("capture", nargs="?", help="a pcap file; without it frames are made")
    parser.add_argument("--rate", type=float, default=1000, help="frames a second")
    parser.add_argument("--loop", action="store_true", help="begin again at the end")
    parser.add_argument("--wait", type=float, default=60, metavar="SECONDS",
                        help="how long to wait for the socket to be there")
    arguments = parser.parse_args()
    if arguments.rate <= 0:
        parser.error("--rate must be above 0")
    frames = partial(captured, arguments.capture) if arguments.capture else made
    if next(frames(), None) is None:
        sys.exit(f"{arguments.capture} has no frames")
    feed = connect(arguments.feed, socket.SOCK_DGRAM, arguments.wait)
    start, sent = time.monotonic(), 0
    while True:
        for frame in frames():
            try:
                feed.send(frame)
            except OSError as error:
                sys.exit(f"{arguments.feed}: frame {sent + 1}: {error.strerror}")
            sent += 1
            time.sleep(max(0.0, start + sent / arguments.rate - time.monotonic()))
        if not arguments.loop:
            return


if __name__ == "__main__":
    main()
