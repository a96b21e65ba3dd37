#!/usr/bin/env python3
"""A relay between a node and lunrootd that spoils connections.

usage: unreliable_relay.py LISTEN_PORT TARGET_PORT SEED

The first connections are spoilt in the ways of PLAN, one each; then every second one lives for a random time (between
them nobody seems to listen, as when a target restarts), until "calm" is read from standard input: from then on all is relayed as it should be. How a connection was ended is
said on standard output.
"""
import random
import socket
import struct
import sys
import threading
import time

listen_port, target_port, seed = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
calm = threading.Event()
# What is done to the first connections; "final N" resets N ms after the final login response was passed on.
PLAN = ["at once", "after a request", "garbage", "slowly", "final 0", "final 0", "final 1", "final 2", "final 5",
        "final 10", "final 20", "final 50", "final 100"]


def reset(link):
    """As a machine that lost its power and came back: RST, not FIN."""
    try:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.shutdown(socket.SHUT_RD)  # whoever reads from it would keep it open
        link.close()
    except OSError:
        pass


def read_exactly(link, count):
    data = b""
    while len(data) < count:
        piece = link.recv(count - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def read_pdu(link):
    header = read_exactly(link, 48)
    data = int.from_bytes(header[5:8], "big")
    return header + read_exactly(link, header[4] * 4 + (data + 3) // 4 * 4)


def relay(node, target, lives_s):
    """Bytes both ways until one ends, or the time is over."""
    until = time.monotonic() + lives_s if lives_s is not None else None

    def pass_on(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        reset(source)
        reset(sink)

    threads = [threading.Thread(target=pass_on, args=pair, daemon=True) for pair in ((node, target), (target, node))]
    for thread in threads:
        thread.start()
    while threads[0].is_alive() and threads[1].is_alive():
        if until is not None and time.monotonic() >= until and not calm.is_set():
            print(f"reset after {lives_s:.3f} s", flush=True)
            break
        time.sleep(0.002)
    reset(node)
    reset(target)


def serve(node, what):
    node.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if what == "at once":
        return reset(node)
    if what == "garbage":
        node.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64))
        return node.close()
    if what == "after a request":
        read_pdu(node)
        return reset(node)
    target = socket.create_connection(("127.0.0.1", target_port))
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The login, PDU by PDU.
    while True:
        target.sendall(read_pdu(node))
        answer = read_pdu(target)
        if what == "slowly":
            for byte in answer:
                node.sendall(bytes([byte]))
                time.sleep(0.001)
        else:
            node.sendall(answer)
        if answer[0] != 0x23 or answer[36] != 0 or answer[1] & 0x83 == 0x83:
            break
    if what.startswith("final"):
        time.sleep(int(what.split()[1]) / 1000)
        reset(node)
        return reset(target)
    relay(node, target, None if calm.is_set() else chance.uniform(0.05, 1.5))


def guarded(node, what):
    print(what, flush=True)
    try:
        serve(node, what)
    except (OSError, ConnectionError):
        reset(node)


def listen():
    server = socket.create_server(("127.0.0.1", listen_port))
    count = 0
    while True:
        node, _ = server.accept()
        what = PLAN[count] if count < len(PLAN) else "lives" if count % 2 or calm.is_set() else "at once"
        count += 1
        threading.Thread(target=guarded, args=(node, what), daemon=True).start()


threading.Thread(target=listen, daemon=True).start()
for line in sys.stdin:
    if line.strip() == "calm":
        calm.set()
