"""Unix sockets: the place for one, and the way to one that is not there yet."""

import os
import socket
import stat
import sys
import time

AGAIN = 0.05
"""How long to wait before a socket is tried again, in seconds."""


def make_room(path, kind):
    """Removes the socket that a process has left which is gone; ends this one when the place is
    taken, as by a process that listens there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        sys.exit(f"{path} is there already, and is no socket: name another place")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            sys.exit(f"{path} is in use ({error.strerror}): name another place")
    sys.exit(f"{path} is served already: end that process, or name another place")


def connect(path, kind, wait):
    """Connects to a socket, which may take so many seconds to be there."""
    connected, until = socket.socket(socket.AF_UNIX, kind), time.monotonic() + wait
    while True:
        try:
            connected.connect(path)
            return connected
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() >= until:
                sys.exit(f"{path}: {error.strerror}: nobody listens there after {wait:g} s")
        except OSError as error:
            sys.exit(f"{path}: {error.strerror}")
        time.sleep(AGAIN)
