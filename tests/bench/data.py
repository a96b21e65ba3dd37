#!/usr/bin/env python3
"""How fast a LUN is read through the control API.

data.py SOCKET PATH DISK_BYTES REQUEST_BYTES CLIENTS SECONDS {keep|close}

CLIENTS threads read the disk from end to end, each request on the same connection or on one of
its own. Prints requests/s, MB/s and the time of one request: median, 99th of 100, longest.
"""
import socket, sys, threading, time

path_of_socket, path, disk, size, clients, seconds, how = sys.argv[1:8]
disk, size, clients, seconds = int(disk), int(size), int(clients), float(seconds)
keep = how == "keep"
times, lock = [], threading.Lock()
room = disk // size


def connect():
    s = socket.socket(socket.AF_UNIX)
    while True:
        try:
            s.connect(path_of_socket)
            return s
        except BlockingIOError:  # the backlog is full
            time.sleep(0.001)


def answer(s, buffer):
    have = s.recv_into(buffer)
    while True:
        end = bytes(buffer[:min(have, 4096)]).find(b"\r\n\r\n")
        if end >= 0:
            break
        n = s.recv_into(memoryview(buffer)[have:])
        if n == 0:
            sys.exit("the connection ended")
        have += n
    head = bytes(buffer[:end]).decode()
    if not head.startswith("HTTP/1.1 200"):
        sys.exit(head)
    length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    have -= end + 4
    view = memoryview(buffer)
    while have < length:
        n = s.recv_into(view)
        if n == 0:
            sys.exit("the connection ended")
        have += n


def run(first, until):
    buffer, mine, s, at = bytearray(1 << 20), [], None, first
    while time.monotonic() < until:
        begun = time.monotonic()
        if not s:
            s = connect()
        query = "GET %s?offset=%d&length=%d HTTP/1.1\r\nHost: x\r\n%s\r\n" % (
            path, at % room * size, size, "" if keep else "Connection: close\r\n")
        s.sendall(query.encode())
        answer(s, buffer)
        if not keep:
            s.close()
            s = None
        mine.append(time.monotonic() - begun)
        at += 1
    with lock:
        times.extend(mine)


begun = time.monotonic()
threads = [threading.Thread(target=run, args=(i * room // clients, begun + seconds)) for i in range(clients)]
for t in threads:
    t.start()
for t in threads:
    t.join()
took = time.monotonic() - begun
times.sort()
if not times:
    sys.exit("nothing was read")
print("%8d bytes, %3d clients, %-5s %7.0f requests/s %7.0f MB/s   %.2f / %.2f / %.2f ms" % (
    size, clients, how, len(times) / took, len(times) * size / took / 1e6, times[len(times) // 2] * 1e3,
    times[len(times) * 99 // 100] * 1e3, times[-1] * 1e3))
