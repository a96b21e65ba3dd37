#!/usr/bin/env python3
"""lunrootd on a disk that loses power, fails and fills up (forgetfs): the real daemon, real
initiators, and what was promised to them.

Each point is one small story that begins with a prepared disk and has a seed:

  cut OPERATION N     the power fails at the N-th file-system operation of a control operation
  done OPERATION N    ... right after it was told as done (N only makes another seed)
  die OPERATION N     kill -9 at the N-th file-system operation of a control operation
  twice OPERATION N   the power fails at the N-th, and once more while the daemon starts again
  eio OPERATION N, enospc OPERATION N, broken OPERATION N
                      the N-th file-system operation fails; broken: and all that follow, with EIO
  commit OPERATION N  a sync of the catalogue's log fails (N only makes another seed)
  unsure OPERATION N  ... and all that follow, so that none can take its place
  folder OPERATION N  the N-th sync of a folder fails, then the power
  first N             the power fails at the N-th operation of the very first start; 0: each sync of
                      a folder fails in it
  writes N            under mixed writes of two nodes the power fails at the N-th operation
  kill N              under mixed writes: kill -9 after N ms; the power stays
  fault KIND N        under mixed writes the N-th operation of a kind fails or is cut short
  sync N              the N-th sync of a node's layer fails, then the daemon starts again
  error WHAT          a single read, write or flush fails
  login N             who logs in while the daemon starts finds its target
  full N              the disk is full under mixed writes, for a while; or the power fails then

After each the daemon must start; a control operation has happened or has not, with no file left
over, and nothing of that depends on what the start itself has not synced; every disk is read and
compared with what its initiator was promised (docs/durability.md).

usage: power_cuts.py [--seed N] [--only STORY]... [--quick|--full|--long]
       power_cuts.py --replay 'STORY:SEED'     one point again, as a failure names it
       --keep-going: all points, whatever fails
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile
import time

from target import CLIENT, Broken, Target

MODE = os.environ.get("LUNROOT_CHECK", "full")
SMALL = 2 << 20  # images and disks for control operations
LOADED = 8 << 20  # and for writing
POINTS_MAX = 400  # file-system operations in one control operation

# Control operations: a name, what prepares the state (run once), and the operation; {dir} holds
# small.img. A verb more is a line more: "snapshot-x": ([["clone", ...]], ["x", ...]).
OPERATIONS = {
    "import": ([], ["import", "--force", "{dir}/small.img", "new"]),
    "create": ([], ["create", "new", "--size", "2M"]),
    "create-ext4": ([], ["create", "new", "--size", "2M", "--ext4"]),
    "clone": ([], ["clone", "base", "new", "--data", "1M"]),
    "rename-node": ([], ["rename", "pi-01", "pi-99"]),
    "rename-image": ([], ["rename", "base", "other"]),
    "rm-node": ([], ["rm", "--now", "pi-01"]),
    "rm-image": ([], ["rm", "--now", "unused"]),
    "trash-node": ([], ["rm", "pi-01"]),
    "trash-image": ([], ["rm", "unused"]),
    "undo-node": ([["rm", "pi-01"]], ["undo", "pi-01"]),
    "undo-image": ([["rm", "unused"]], ["undo", "unused", "used"]),
    "snapshot": ([], ["snapshot", "pi-01", "one"]),
    "rm-snapshot": ([["snapshot", "pi-01", "one"], ["snapshot", "pi-01", "two"]], ["rm", "pi-01@one"]),
    "rollback": ([["snapshot", "pi-01", "one"]], ["rollback", "pi-01", "one"]),
    "reset": ([], ["reset", "pi-01"]),
    "resize": ([], ["resize", "pi-01", "4M"]),
    "promote": ([], ["promote", "pi-01", "gold"]),
    "flatten": ([], ["flatten", "pi-01"]),
}
# No short reads: of those, with direct I/O on FUSE, io_uring goes on at the old place (Linux 6.18).
FAULT_KINDS = ["write:.cow EIO", "write:.cow ENOSPC", "write:.cow short", "write:.cow EINTR",
               "read:.cow EIO", "read:.img EIO", "read:.cow EINTR",
               "space:.cow EIO", "space:.cow ENOSPC", "space:.cow EINTR"]
HARMLESS = ("short", "EINTR", "ENOSPC")  # a node must notice nothing


class Stories:
    def __init__(self, target):
        self.target = target
        self.forget = target.forget
        self.tried = {"points": 0, "cuts": 0, "kills": 0, "faults": 0}
        self.prepared, self.old = {}, {}
        self.clients = []
        self.where = None
        self.prepare()

    # --- prepared disks ---

    def prepare(self):
        t = self.target
        t.client("fill", f"{t.dir}/small.img", SMALL)
        t.client("fill", f"{t.dir}/loaded.img", LOADED)
        self.forget("save", "empty")
        t.start()
        for name, file in ("base", "small"), ("unused", "small"), ("loaded", "loaded"):
            t.ctl_good("import", "--force", f"{t.dir}/{file}.img", name)
        t.ctl_good("rm", "--now", "loaded")  # so that its place was used once
        t.ctl_good("clone", "base", "pi-01", "--data", "1M")
        t.ctl_good("clone", "base", "pi-02")
        for node, generation in ("pi-01", 1), ("pi-02", 2):
            for lba in 0, 37, 1000:
                t.one(node, "fua", lba, 20, generation)
        t.stop()
        self.forget("save", "small")
        t.start()
        for node in "pi-01", "pi-02":
            t.ctl_good("rm", node)
        t.ctl_good("import", "--force", f"{t.dir}/loaded.img", "loaded")
        for node in "a", "b":
            t.ctl_good("clone", "loaded", node)
        for lba in range(0, LOADED // 512, 512):  # b owns all of its blocks, each as it was
            t.one("b", "write", lba, 512, 0)
        self.urls = [t.url(node) for node in ("a", "b")]
        t.stop()
        self.forget("save", "loaded")

    def operation(self, name):
        """The saved state before it, its words, and how all looks before and after."""
        if name in self.prepared:
            return self.prepared[name]
        t = self.target
        before, words = OPERATIONS[name]
        words = [word.format(dir=t.dir) for word in words]
        saved = "small"
        if before:
            saved = name
            t.load("small")
            t.start()
            for more in before:
                t.ctl_good(*[word.format(dir=t.dir) for word in more])
            t.stop()
            self.forget("save", saved)
        if saved not in self.old:
            t.load(saved)
            t.start()
            self.old[saved] = t.describe()
            t.kill()
        t.load(saved)
        t.start()
        self.forget("clear")
        t.ctl_good(*words)
        t.settle()
        count = self.forget.operations()[0]
        new = t.describe()
        t.kill()
        self.prepared[name] = saved, words, self.old[saved], new, count
        return self.prepared[name]

    # --- control operations ---

    def run_frozen(self, words, n):
        """Runs until the n-th operation of the file system, which never ends: where that was; or
        None if it is done without."""
        self.forget("clear")
        self.forget("at", "any", n, "freeze")
        process = self.target.ctl_begin(*words)
        where = None
        while not where and process.poll() is None:
            where = self.forget.frozen(20)
        while not where and self.target.busy():
            where = self.forget.frozen(20)
        where = where or self.forget.frozen(0)  # after the answer: still a place to die
        return process, where

    def lose_power(self, seed, *way):
        self.target.lose_power(seed, *way)
        self.tried["cuts"] += 1

    def start_and_judge(self, *allowed):
        t = self.target
        t.start()
        now = t.describe()
        if now not in allowed:
            raise Broken(f"neither the old state nor the new one: {differences(now, allowed)}")
        self.lose_power(0, "drop")
        t.start()
        again = t.describe()
        if again != now:
            raise Broken(f"after the next cut: {differences(again, [now])}")
        t.kill()

    def story_cut(self, chance, name, n, again=False):
        t = self.target
        saved, words, old, new, _ = self.operation(name)
        t.load(saved, chance.getrandbits(32))
        t.start()
        process, where = self.run_frozen(words, n)
        done = not where and process.wait() == 0
        self.lose_power(chance.getrandbits(32))
        process.communicate()
        if again:
            self.forget("at", "any", 1 + chance.randrange(40), "freeze")
            t.spawn()
            if self.forget.frozen(50 + chance.randrange(50)):
                where = f"{where}, and {self.forget.last()}"
            self.lose_power(chance.getrandbits(32))
        self.where = where
        self.start_and_judge(*([new] if done else [old, new]))

    def story_die(self, chance, name, n):
        t = self.target
        saved, words, old, new, _ = self.operation(name)
        t.load(saved, chance.getrandbits(32))
        t.start()
        process, where = self.run_frozen(words, n)
        done = not where and process.wait() == 0
        t.kill()
        self.tried["kills"] += 1
        process.communicate()
        self.forget("clear")
        self.where = where
        self.start_and_judge(*([new] if done else [old, new]))

    def story_twice(self, chance, name, n):
        self.story_cut(chance, name, n, again=True)

    def story_done(self, chance, name, n):
        """What was told as done is done."""
        t = self.target
        saved, words, _, new, _ = self.operation(name)
        t.load(saved, chance.getrandbits(32))
        t.start()
        t.ctl_good(*words)
        self.lose_power(chance.getrandbits(32), *(["drop"] if n == 1 else []))
        self.start_and_judge(new)

    def story_fails(self, chance, name, n, error, count, kind="any", end=None):
        t = self.target
        saved, words, old, new, _ = self.operation(name)
        t.load(saved, chance.getrandbits(32))
        t.start()
        self.forget("clear")
        self.forget("at", kind, n, error, count)
        status, _, said = t.ctl(*words)
        self.where = self.forget.last()
        faults = self.forget.operations()[1]
        self.forget("clear")
        self.tried["faults"] += faults
        if not t.alive():
            raise Broken("the daemon is dead")
        if status != 0 and len(said.strip()) < 20:
            raise Broken(f"no clear error: status {status}, {said!r}")
        if status != 0 and not faults:
            raise Broken(f"it fails without a fault: {said}")
        # The other node notices nothing.
        if t.one("pi-02", "fua", 0, 20, 2)[0] != "good" or t.one("pi-02", "read", 0, 8)[0] != "good":
            raise Broken("the other node notices it")
        t.ls()
        # Done in spite of a fault must mean done.
        end = end or chance.choice(("stop", "kill", "kill", "cut"))
        if status == 0 and faults:
            end = "drop"
        if end == "drop":
            self.lose_power(0, "drop")
        elif end == "stop":
            t.stop()
        elif end == "kill":
            t.kill()
            self.tried["kills"] += 1
        else:
            self.lose_power(chance.getrandbits(32))
        self.start_and_judge(*([new] if status == 0 else [old, new]))

    def story_eio(self, chance, name, n):
        self.story_fails(chance, name, n, "EIO", 1)

    def story_enospc(self, chance, name, n):
        # mke2fs goes on after a few errors, and is silent about it.
        self.story_fails(chance, name, n, "ENOSPC", chance.choice((1, 0)))

    def story_commit(self, chance, name, n):
        # The first sync is of the log's header, the second of what is committed.
        self.story_fails(chance, name, 1 + n % 2, "EIO", 1, "sync:-wal")

    def story_unsure(self, chance, name, n):
        self.story_fails(chance, name, 1 + n % 2, "EIO", 0, "sync:-wal")

    def story_folder(self, chance, name, n):
        self.story_fails(chance, name, n, "EIO", 1, "namesync", end="cut")

    def story_broken(self, chance, name, n):
        self.story_fails(chance, name, n, "EIO", 0)

    def story_first(self, chance, n):
        t = self.target
        t.load("empty", chance.getrandbits(32))
        if n == 0:
            self.forget("at", "namesync", 1, "EIO", 0)
        else:
            self.forget("at", "any", n, "freeze")
        t.spawn()
        while t.alive() and not self.forget.frozen(10) and not t.answers():
            pass
        self.where = self.forget.last()
        self.tried["faults"] += self.forget.operations()[1]
        self.forget("clear")
        if n > 0:
            self.lose_power(chance.getrandbits(32))
            t.start()
        elif not t.alive():
            t.reap()
            t.start()
        t.ctl_good("create", "new", "--size", "2M")
        self.lose_power(0, "drop")
        t.start()
        if [image["name"] for image in t.describe()["listing"]["images"]] != ["new"]:
            raise Broken("the image is gone")
        t.kill()

    # --- writing nodes ---

    def clients_begin(self, chance, records, *more):
        self.clients = []
        for node in "a", "b":
            log = tempfile.TemporaryFile("w+")
            words = ["--seconds", 30, "--depth", 1 + chance.randrange(24),
                     "--flush-percent", chance.choice((0, 2, 10, 30)),
                     "--discard-percent", chance.choice((0, 4, 30)),
                     "--fua-percent", chance.choice((0, 3, 10)), "--seed", chance.getrandbits(32)]
            self.clients.append((subprocess.Popen(
                [CLIENT, "run", "--url", self.target.url(node), "--record", f"{records}/{node}"] +
                [str(word) for word in (*words, *more)], stdout=log, stderr=log), log))

    def clients_end(self, *statuses):
        for process, log in self.clients:
            status = process.wait()
            log.seek(0)
            said = log.read()
            log.close()
            if status not in statuses:
                raise Broken(f"a client ended with status {status}: {said[-1000:]}")

    def clients_run(self):
        return all(process.poll() is None for process, _ in self.clients)

    def clients_verify(self, records, *more):
        for node in "a", "b":
            self.target.client("verify", "--url", self.target.url(node), "--record",
                               f"{records}/{node}", *more)

    def begin_writing(self, chance):
        self.target.load("loaded", chance.getrandbits(32))
        self.target.start()
        return tempfile.TemporaryDirectory(dir=self.target.dir)

    def await_frozen(self, seconds):
        deadline = time.monotonic() + seconds
        where = None
        while not where and time.monotonic() < deadline and self.clients_run():
            where = self.forget.frozen(20)
        return where

    def story_writes(self, chance, n):
        """Three cuts, one after the other, on the same disks."""
        t = self.target
        with self.begin_writing(chance) as records:
            for more in 0, 0, 1:
                self.forget("clear")
                self.forget("at", "any", n + more * chance.randrange(300), "freeze")
                self.clients_begin(chance, records)
                self.where = self.await_frozen(3)
                self.lose_power(chance.getrandbits(32))
                self.clients_end(7)
                t.start()
                self.clients_verify(records, "--power-loss")
            t.kill()

    def story_kill(self, chance, n):
        """Kills, an orderly end among them; in the end the power."""
        t = self.target
        with self.begin_writing(chance) as records:
            for _ in range(3):
                self.clients_begin(chance, records)
                time.sleep(n / 1000 * (0.5 + chance.random()))
                if chance.randrange(4) == 0:
                    t.stop()
                    t.wipe_run()
                else:
                    t.kill()
                    self.tried["kills"] += 1
                self.clients_end(7)
                t.start()
                self.clients_verify(records)
            self.lose_power(chance.getrandbits(32))
            t.start()
            self.clients_verify(records, "--power-loss")
            t.kill()

    def story_fault(self, chance, kind, n):
        """One operation under load fails: at most its command fails. With power or without."""
        t = self.target
        which, what = kind.split()
        with self.begin_writing(chance) as records:
            self.forget("clear")
            self.forget("at", which, n, what)
            self.clients_begin(chance, records, "--seconds", 1, "--errors-allowed",
                               0 if what in HARMLESS else 1000000)
            self.clients_end(0)
            self.tried["faults"] += self.forget.operations()[1]
            self.where = self.forget.last()
            failed = [node["name"] for node in t.ls()["nodes"] if node["luns"][0]["failed"]]
            if len(failed) > 1 or (failed and what in HARMLESS):
                raise Broken(f"{failed} failed")
            if failed or chance.randrange(2):
                self.lose_power(chance.getrandbits(32))
                t.start()
                self.clients_verify(records, "--power-loss")
            else:
                self.clients_verify(records)
            t.kill()

    def story_sync(self, chance, n):
        """A sync fails: from then on the disk takes nothing, and never says that it has. Opened
        anew it has what was flushed before; of the rest each block is old or new."""
        t = self.target
        with self.begin_writing(chance) as records:
            self.forget("clear")
            self.forget("at", "sync:.cow", n, "EIO")
            self.clients_begin(chance, records, "--seconds", 1, "--flush-percent", 10,
                               "--errors-allowed", 1000000)
            self.clients_end(0)
            self.tried["faults"] += self.forget.operations()[1]
            failed = [node["name"] for node in t.ls()["nodes"] if node["luns"][0]["failed"]]
            if len(failed) != self.forget.operations()[1]:
                raise Broken(f"{failed} failed")
            for node in failed:
                t.client("look", "--url", t.url(node), "--record", f"{records}/{node}")
                for what in "flush", "write", "fua", "flush":
                    if not t.one(node, what, 0, 8, 0xffff)[0].startswith("error 4"):
                        raise Broken(f"{what} after the sync that failed")
            for end in (chance.choice(("stop", "kill", "cut")), "cut"):
                if end == "stop":
                    t.process.terminate()
                    t.reap()
                elif end == "kill":
                    t.kill()
                    self.tried["kills"] += 1
                else:
                    self.lose_power(chance.getrandbits(32))
                t.start()
                self.clients_verify(records, "--failed-sync")
                if end != "cut":
                    self.clients_begin(chance, records, "--seconds", 1)
                    self.clients_end(0)
            t.kill()

    def story_error(self, chance, what):
        """One command fails, with the block that it was about; the next one does not."""
        t = self.target
        with self.begin_writing(chance):
            lba, own = 8 * chance.randrange(100), 8 * chance.randrange(200, 300)
            t.one("a", "write", own, 16, 1)
            self.forget("clear")
            kind, at = {"read": ("read:.img", lba), "read-own": ("read:.cow", own),
                        "write": ("write:.cow", lba), "write-own": ("write:.cow", own)}[what]
            self.forget("at", kind, 1, "EIO")
            command = what.split("-")[0]
            key = 3 if command == "read" else 4
            answer = t.one("a", command, at, 16, 2)[0]
            if answer != f"error {key} {at}":
                raise Broken(f"{command} of {at} ends with {answer!r}")
            answer, found = t.one("a", "read", at, 16)
            if answer != "good" or any(f"sector {at + 8 * i} " not in text or "torn" in text
                                       for i, text in enumerate(found)):
                raise Broken(f"then a read of {at} ends with {answer!r}: {found}")
            for command in "write", "flush", "read":
                if t.one("a", command, at, 16, 3)[0] != "good":
                    raise Broken(f"then a {command} fails")
            self.tried["faults"] += self.forget.operations()[1]
            t.kill()

    def story_login(self, _chance, n):
        """As reconnecting initiators do: again and again, until somebody listens."""
        t = self.target
        t.load("loaded")
        t.spawn()
        time.sleep(n / 1000)
        waiting = self.urls
        deadline = time.monotonic() + 20
        while waiting and time.monotonic() < deadline:
            tried = [(url, subprocess.Popen([CLIENT, "sum", url], text=True,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
                     for url in waiting]
            waiting = []
            for url, process in tried:
                said = process.communicate()[1]
                if process.returncode and "refused" not in said and "connect" not in said.lower():
                    raise Broken(f"a login hears: {said}")
                waiting += [url] if process.returncode else []
        if waiting:
            raise Broken("nobody listens")
        t.kill()

    def story_full(self, chance, n):
        """No error for anybody; it goes on when there is space; and flushes don't lie meanwhile."""
        t = self.target
        with self.begin_writing(chance) as records:
            stat = os.statvfs(t.state)
            self.forget("space", stat.f_blocks - stat.f_bfree + n)
            cut = chance.randrange(2)
            # Who is cut off is still writing then, however slow the machine.
            self.clients_begin(chance, records, "--seconds", 60 if cut else 10, "--discard-percent", 0)
            deadline = time.monotonic() + 50
            while not any(node["luns"][0]["no_space"] for node in t.ls()["nodes"]):
                if not self.clients_run() or time.monotonic() > deadline:
                    raise Broken("no alarm, or a client gave up")
                time.sleep(0.05)
            if cut:
                time.sleep(chance.random())
                self.lose_power(chance.getrandbits(32))
                self.clients_end(7)
                self.forget("space", 0)
                t.start()
                self.clients_verify(records, "--power-loss")
            else:
                self.forget("space", 0)
                self.clients_end(0)
                self.clients_verify(records)
            t.kill()
            self.forget("space", 0)

    # --- points ---

    def run(self, story, seed):
        """One point; its words are `story`."""
        name, *words = story.split(" ", 1)
        chance = random.Random(f"{story}:{seed}")
        self.where = None
        words = words[0].rsplit(" ", 1) if words else []
        words = [int(word) if word.isdigit() else word for word in words]
        try:
            getattr(self, f"story_{name}")(chance, *words)
        except (Broken, OSError) as e:
            print(f"FAILED: {e}\n  at {self.where}\n  again: power_cuts.py --replay '{story}:{seed}'")
            print(self.target.log_tail())
            return False
        self.tried["points"] += 1
        return True

    def reset(self):
        """After a point that failed in its middle."""
        for process, _ in self.clients:
            process.kill()
            process.wait()
        self.target.lose_power(0)
        self.forget("space", 0)


def differences(now, allowed):
    """Where it differs from the state that is most like it."""
    def flat(value, path=""):
        if isinstance(value, dict):
            return {k: v for key in value for k, v in flat(value[key], f"{path}/{key}").items()}
        if isinstance(value, list):
            return {k: v for i, member in enumerate(value)
                    for k, v in flat(member, f"{path}/{i}").items()}
        return {path: value}

    def between(a, b):
        a, b = flat(a), flat(b)
        return {key: (a.get(key), b.get(key)) for key in {*a, *b} if a.get(key) != b.get(key)}

    return min((between(now, other) for other in allowed), key=len)


def plan(stories, chance, mode):
    """The points to try, each a story; interleaved so that a short run sees some of everything."""
    def some(count, wanted):
        """All of 1..count and one more, or so many of them."""
        every = range(1, count + 2)
        return every if wanted is None else sorted(chance.sample(every, min(wanted, count + 1)))

    quick, full, long = (mode == name for name in ("quick", "full", "long"))
    points = []
    for name in OPERATIONS:
        count = stories.operation(name)[4]
        points += [f"cut {name} {n}" for n in some(count, 1 if quick else None if long else 15)]
        points += [f"done {name} {n}" for n in range(1, 2 if quick or full else 4)]
        points += [f"die {name} {n}" for n in some(count, 1 if quick else None if long else 5)]
        points += [f"twice {name} {n}" for n in some(count, 0 if quick else None if long else 2)]
        points += [f"eio {name} {n}" for n in some(count, 1 if quick else None if long else 8)]
        points += [f"enospc {name} {n}" for n in some(count, 0 if quick else None if long else 2)]
        points += [f"commit {name} {n}" for n in range(1, 1 if quick else 3 if full else 16)]
        points += [f"unsure {name} {n}" for n in range(1, 1 if quick else 3 if full else 16)]
        points += [f"folder {name} {n}" for n in range(1, 1 if quick else 3 if full else 4)]
        points += [f"broken {name} {n}" for n in some(count, 0 if quick else None if long else 2)]
    points += [f"first {n}" for n in (0, *some(60, 0 if quick else 6 if full else None))]
    points += [f"writes {n}" for n in some(400, 3 if quick else 24 if full else None)]
    points += [f"kill {20 + 40 * n}" for n in range(1 if quick else 6 if full else 40)]
    points += [f"error {what}" for what in ("read", "read-own", "write", "write-own")]
    for kind in chance.sample(FAULT_KINDS, 1 if quick else len(FAULT_KINDS)):
        points += [f"fault {kind} {n}" for n in some(60, 1 if quick or full else 20)]
    points += [f"sync {n}" for n in some(20, 1 if quick else 6 if full else None)]
    points += [f"login {n}" for n in ((2,) if quick else range(0, 20, 2))]
    points += [f"full {n}" for n in some(300, 1 if quick else 3 if full else 40)]
    return points


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--replay")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_const", dest="mode", const="quick", default=MODE)
    parser.add_argument("--full", action="store_const", dest="mode", const="full")
    parser.add_argument("--long", action="store_const", dest="mode", const="long")
    parser.add_argument("--keep-going", action="store_true")
    args = parser.parse_args()
    lost = 0
    began = time.monotonic()
    target = Target(args.seed)
    try:
        stories = Stories(target)
        if args.replay:
            story, seed = args.replay.rsplit(":", 1)
            points = [(story, int(seed))]
        else:
            print(f"power_cuts: seed {args.seed}, {args.mode}", flush=True)
            rounds = args.rounds or (10 if args.mode == "long" else 1)
            points = []
            for i in range(rounds):
                chance = random.Random(f"plan {args.seed + i}")
                points += [(story, args.seed + i) for story in plan(stories, chance, args.mode)
                           if not args.only or any(f"{story} ".startswith(only + " ")
                                                   for only in args.only)]
        for story, seed in points:
            if stories.run(story, seed):
                continue
            lost += 1
            if not args.keep_going:
                break
            stories.reset()
    finally:
        target.close()
    print(f"power_cuts: {', '.join(f'{count} {what}' for what, count in stories.tried.items())}; "
          f"{lost} lost, {time.monotonic() - began:.0f} s")
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
