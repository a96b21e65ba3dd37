"""Drives forgetfs (forgetfs.c): a mounted file system that loses power on command."""
import os
import subprocess
import sys
import tempfile

BUILD = os.environ.get("LUNROOT_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))


def skip(why):
    print(f"skipped: {why}", file=sys.stderr)
    sys.exit(77)


class Forget:
    """A mount of forgetfs at `self.path`; gone with close(), or with this process."""

    def __init__(self, seed):
        program = os.path.join(BUILD, "tests/crash/forgetfs")
        if not os.access(program, os.X_OK):
            skip(f"no {program}")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            skip("/dev/fuse can't be used here")
        self.path = tempfile.mkdtemp(prefix="lunroot-forget.", dir="/dev/shm")
        self.process = subprocess.Popen([program, self.path, str(seed)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "mounted\n":
            why = self.process.stderr.read().strip()
            self.process.wait()
            os.rmdir(self.path)
            skip(f"no FUSE file system can be mounted here: {why}")

    def __call__(self, *words):
        """Sends a command; its answer."""
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise RuntimeError(f"forgetfs {words}: {answer or 'gone'}")
        return answer

    def frozen(self, ms):
        """The operation that it stopped at within this time, or None."""
        answer = self("wait", ms)
        return answer[len("frozen "):] if answer.startswith("frozen") else None

    def operations(self):
        """How many there were since clear, and how many of them failed."""
        words = self("count").split()
        return int(words[0]), int(words[1])

    def last(self):
        """The last operation: number, kind, file."""
        return " ".join(self("count").split()[2:])

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            os.rmdir(self.path)
            self.process = None
