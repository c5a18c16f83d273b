"""Feeds the frames of a capture file (pcap) to a Unix socket, one a datagram.

    python3 feed.py capture.pcap /run/feed.sock --rate 1000 --loop
"""

import argparse
import socket
import struct
import time


def frames(path):
    """The frames of a pcap file of either byte order."""
    with open(path, "rb") as file:
        magic = file.read(24)[:4]
        order = "<" if magic[0] in (0xd4, 0x4d) else ">"
        while header := file.read(16):
            yield file.read(struct.unpack(order + "IIII", header)[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture")
    parser.add_argument("feed")
    parser.add_argument("--rate", type=float, default=1000, help="frames a second")
    parser.add_argument("--loop", action="store_true", help="begin again at the end")
    arguments = parser.parse_args()
    feed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    feed.connect(arguments.feed)
    start, sent = time.monotonic(), 0
    while True:
        for frame in frames(arguments.capture):
            feed.send(frame)
            sent += 1
            time.sleep(max(0.0, start + sent / arguments.rate - time.monotonic()))
        if not arguments.loop:
            return


if __name__ == "__main__":
    main()
