# Holds every frame between two network interfaces for a while, in both directions: a long cable, for kernels that have
# no netem. Run in the namespace that has both, whose own IP stack must not use either of them.
#
#   relay.py INTERFACE INTERFACE     reads the delay from its input, a line of milliseconds each time that it changes,
#                                    and answers each line when it holds; ends with its input
#
# Invariants: frames keep their order, whatever the delay becomes; they stay as the kernel gave them, with checksums and
# segments that are still to be made (PACKET_VNET_HDR); what an interface that is down cannot take is lost, as on a cable.
import collections
import select
import socket
import sys
import time

# linux/if_packet.h and asm-generic/socket.h; Python's socket module has none of them.
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
ETH_P_ALL = 0x0003

LARGEST_FRAME_BYTES = 128 * 1024
SOCKET_BUFFER_BYTES = 16 * 1024 * 1024
# A cable holds so much at a time; more is lost, as it would be at a switch.
QUEUE_BYTES = 64 * 1024 * 1024
# Between looks at the other direction and at the clock.
FRAMES_AT_A_TIME = 64


def open_interface(name):
    # Bound before it hears of any protocol, or it would hear of every interface in between.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)
    opened.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES)
    opened.setblocking(False)
    opened.bind((name, ETH_P_ALL))
    return opened


class Direction:
    def __init__(self, source, target):
        self.source = source
        self.target = target
        self.queue = collections.deque()
        self.queued_bytes = 0

    def take(self, delay):
        for _ in range(FRAMES_AT_A_TIME):
            try:
                frame = self.source.recv(LARGEST_FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError:
                return  # the interface is down; it may come back
            if self.queued_bytes + len(frame) > QUEUE_BYTES:
                continue
            due = time.monotonic() + delay
            if self.queue:
                due = max(due, self.queue[-1][0])
            self.queue.append((due, frame))
            self.queued_bytes += len(frame)

    def give(self):
        now = time.monotonic()
        while self.queue and self.queue[0][0] <= now:
            _, frame = self.queue.popleft()
            self.queued_bytes -= len(frame)
            try:
                self.target.send(frame)
            except OSError:
                pass  # the interface is down or full


def main():
    one, other = (open_interface(name) for name in sys.argv[1:3])
    there, back = Direction(one, other), Direction(other, one)
    by_socket = {one.fileno(): there, other.fileno(): back}
    delay = 0.0
    text = b""
    poller = select.epoll()
    for each in (sys.stdin.fileno(), *by_socket):
        poller.register(each, select.EPOLLIN)
    while True:
        due = min((each.queue[0][0] for each in (there, back) if each.queue), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for ready, _ in poller.poll(timeout):
            if ready in by_socket:
                by_socket[ready].take(delay)
                continue
            read = sys.stdin.buffer.raw.read(4096)
            if not read:
                return
            *lines, text = (text + read).split(b"\n")
            for line in lines:
                delay = float(line) / 1000
                print(line.decode(), flush=True)
        there.give()
        back.give()


main()
