#!/usr/bin/env python3
"""Types commands into a boot loader's serial console: console.py SOCKET PROMPT SECONDS COMMAND...

Waits for "Hit any key" and stops the automatic boot; then each command when the prompt is there. All that the machine says goes to
standard output. Ends with 1 when there is no prompt within that time after the last one.
"""
import socket
import sys
import time


class Console:
    def __init__(self, path, seconds):
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.link = socket.socket(socket.AF_UNIX)
        self.unread = ""
        while True:
            try:
                return self.link.connect(path)
            except OSError:
                if time.monotonic() > self.deadline:
                    sys.exit("no console at %s" % path)
                time.sleep(0.05)

    def until(self, text):
        self.deadline = time.monotonic() + self.seconds
        while text not in self.unread:
            self.link.settimeout(max(0.01, self.deadline - time.monotonic()))
            try:
                more = self.link.recv(4096).decode("latin-1")
            except TimeoutError:
                sys.exit("the console never says: %s" % text)
            if not more:
                sys.exit("the machine ended before it said: %s" % text)
            sys.stdout.write(more.replace("\r", ""))
            sys.stdout.flush()
            self.unread += more
        self.unread = self.unread.split(text, 1)[1]

    def type(self, line):
        self.link.sendall(line.encode() + b"\n")


console = Console(sys.argv[1], float(sys.argv[3]))
console.until("Hit any key")
console.type("")
for command in sys.argv[4:]:
    console.until(sys.argv[2])
    console.type(command)
console.until(sys.argv[2])
