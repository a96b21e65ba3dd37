"""The real lunrootd with its state on forgetfs and its runtime directory on tmpfs, and what can be
seen of it from outside."""
import hashlib
import http.client
import json
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time

from forget import BUILD, Forget, skip

LUNROOTD = os.environ.get("LUNROOTD", os.path.join(BUILD, "target/lunrootd"))
LUNCTL = os.environ.get("LUNCTL", os.path.join(BUILD, "tools/lunctl"))
CLIENT = os.path.join(BUILD, "tests/crash/verify_client")
TORN_END = 1 << 20  # headers, maps and the catalogue may tear; data blocks are written whole
BLOCK = 4096
START_S = 30
COMMAND_S = 60
# What differs between two lives of the same disk and means nothing.
PASSING = {"uuid", "created", "used_bytes", "sessions", "message", "reads", "read_bytes", "writes",
           "written_bytes", "discards", "discarded_bytes", "flushes", "flush_rounds",
           "flush_us_total", "flush_us_max", "copy_ups", "owned_blocks", "no_space", "failed",
           "layers"}  # promote leaves one more behind, also when it is cut off
# What may lie in the state directory beside images and layers.
STATE_FILES = {"boots.db", "boots.db-wal", "boots.db-shm", "catalog.db", "catalog.db-wal", "catalog.db-shm", "lock", "images", "layers"}


class Broken(Exception):
    """A promise that was not kept."""


def plain(value):
    """JSON without what is passing."""
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items() if key not in PASSING}
    if isinstance(value, list):
        return [plain(member) for member in value]
    return value


def free_port():
    """Below those that the kernel gives to connections: it must stay free while lunrootd is away. Another test's ports have
    links (tests/hostile/daemon.sh)."""
    while True:
        port = random.randrange(20000, 30000)
        if os.path.islink(f"/dev/shm/lunroot-port-{port}"):
            continue
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) != 0:
                return port


def content_hash(path):
    """As docs/format.md has it."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        for index, block in enumerate(iter(lambda: file.read(BLOCK), b"")):
            if any(block):
                sha256.update(index.to_bytes(8, "little") + block.ljust(BLOCK, b"\0"))
    return sha256.hexdigest()


class Target:
    def __init__(self, seed):
        for program in LUNROOTD, LUNCTL, CLIENT:
            if not os.access(program, os.X_OK):
                skip(f"no {program}")
        self.forget = Forget(seed)
        self.dir = tempfile.mkdtemp(prefix="lunroot-cuts.", dir="/dev/shm")
        self.run = os.path.join(self.dir, "run")
        for suffix in ".cow", "-wal":  # as lunrootd asks for it after a failed sync
            self.forget("drop", suffix)
        self.state = os.path.join(self.forget.path, "state")
        self.log_path = os.path.join(self.dir, "log")
        self.socket = os.path.join(self.run, "control.sock")
        self.portal = f"127.0.0.1:{free_port()}"
        self.process = None
        os.mkdir(self.state)
        os.mkdir(self.run)

    def close(self):
        if self.process:
            self.process.kill()
        self.forget.close()  # answers what still waits for the disk
        if self.process:
            self.process.wait()
        shutil.rmtree(self.dir)

    # --- lives and deaths ---

    def spawn(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [LUNROOTD, "--state", self.state, "--run", self.run, "--portal", self.portal,
                 "--foreground"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self):
        self.spawn()
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self.process.poll() is not None:
                raise Broken(f"lunrootd ends at its start with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise Broken("lunrootd does not come up")
            time.sleep(0.002)

    def answers(self):
        try:
            return self.get("/v1/version")
        except OSError:
            return None

    def busy(self):
        """Whether a job runs; so it may be, too, if nobody answers."""
        try:
            return any(job["state"] == "running" for job in self.get("/v1/jobs", 0.5)["jobs"])
        except OSError:
            return True

    def settle(self):
        """Work in the background is done."""
        deadline = time.monotonic() + COMMAND_S
        while self.busy():
            if time.monotonic() > deadline:
                raise Broken("a job does not end")
            time.sleep(0.01)

    def get(self, path, timeout_s=COMMAND_S):
        """What the API answers."""
        connection = http.client.HTTPConnection("lunrootd")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout_s)
        try:
            connection.sock.connect(self.socket)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise Broken(f"GET {path}: {answer.status} {body}")
        return body

    def alive(self):
        return self.process.poll() is None

    def reap(self):
        status = self.process.wait()
        self.process = None
        return status

    def kill(self):
        self.process.kill()
        self.forget("release")
        self.reap()

    def stop(self):
        """An orderly end."""
        self.process.terminate()
        status = self.reap()
        if status != 0:
            raise Broken(f"SIGTERM ended it with status {status}")

    def lose_power(self, seed, *way):
        """Kills it, if it lives, and the machine with it."""
        if self.process:
            self.process.kill()
        self.forget("cut", seed, TORN_END, *way)
        if self.process:
            self.reap()
        self.wipe_run()

    def wipe_run(self):
        shutil.rmtree(self.run)
        os.mkdir(self.run)

    def load(self, name, seed=0):
        """A state that was saved before, and a machine just switched on."""
        assert not self.process
        self.forget("load", name, seed)
        self.forget("clear")
        self.wipe_run()

    def log_tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-12:])

    # --- commands ---

    def ctl_begin(self, *words):
        return subprocess.Popen([LUNCTL, "--socket", self.socket, *words],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def ctl(self, *words):
        """Status, standard output, standard error."""
        process = self.ctl_begin(*words)
        try:
            out, err = process.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired as e:
            process.kill()
            raise Broken(f"lunctl {' '.join(words)} does not end") from e
        return process.returncode, out, err

    def ctl_good(self, *words):
        status, out, err = self.ctl(*words)
        if status != 0:
            raise Broken(f"lunctl {' '.join(words)}: {err.strip()}")
        return out

    def ls(self):
        return {"images": self.get("/v1/images")["images"], "nodes": self.get("/v1/nodes")["nodes"]}

    def url(self, node, lun=0):
        return self.get(f"/v1/nodes/{node}/url?lun={lun}")["url"]

    def client(self, *words):
        """The verifying client's standard output."""
        done = subprocess.run([CLIENT, *(str(word) for word in words)], text=True, timeout=COMMAND_S,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise Broken(f"verify_client {words[0]}: status {done.returncode}: "
                         f"{(done.stdout + done.stderr)[-1500:].strip()}")
        return done.stdout.strip()

    def one(self, node, what, lba, sectors, generation=0):
        """One command; its words, and what a read found."""
        lines = self.client("one", "--url", self.url(node), what, lba, sectors,
                            format(generation, "x")).splitlines()
        return lines[0], lines[1:]

    # --- what is there ---

    def describe(self):
        """All that a user could tell apart, and that all of it is whole."""
        self.settle()
        listing = self.ls()
        self.check_files(listing)
        self.check_catalogue()
        luns, sums = [], {}
        for image in listing["images"]:
            sums[image["name"]] = self.image_sum(image)
        for node in listing["nodes"]:
            if node["state"] not in ("ready", "in use"):
                raise Broken(f"node {node['name']} is {node['state']}: {node['message']}")
            luns += [(node["name"], lun["lun"]) for lun in node["luns"]]
        found = self.client("sum", *(self.url(*lun) for lun in luns)).split()
        sums.update({f"{node} {lun}": one for (node, lun), one in zip(luns, found, strict=True)})
        trash = sorted((item["kind"], item["name"]) for item in self.get("/v1/trash")["trash"])
        return {"listing": plain(listing), "trash": trash, "sums": sums}

    def image_sum(self, image):
        path = f"{self.state}/images/{image['name']}.img"
        found = content_hash(path)
        with open(f"{path}.json", "rb") as file:
            sidecar = json.loads(file.read() or "{}")
        if sidecar.get("sha256") != found or sidecar.get("uuid") != image["uuid"]:
            raise Broken(f"{path} is not what its sidecar says: {sidecar}")
        if image["content"].startswith("ext4"):  # made anew it differs each time
            if subprocess.run(["e2fsck", "-fn", path], capture_output=True, check=False).returncode:
                raise Broken(f"{path} is no whole file system")
            return "ext4"
        return found

    def check_files(self, listing):
        images = {image["name"] + end for image in listing["images"] for end in (".img", ".img.json")}
        layers = sum(lun["layers"] for node in listing["nodes"] for lun in node["luns"])
        trash = [item["kind"] for item in self.get("/v1/trash")["trash"]]
        found = self.without_trash("layers", "node" in trash)
        if set(self.without_trash("images", "image" in trash)) != images:
            raise Broken(f"in images/ lie {sorted(os.listdir(self.state + '/images'))}, known are "
                         f"{sorted(images)}")
        if len(found) != layers or any(name.startswith(".") for name in found):
            raise Broken(f"in layers/ lie {sorted(found)}, known are {layers}")
        if set(os.listdir(self.state)) - STATE_FILES:
            raise Broken(f"left over: {set(os.listdir(self.state)) - STATE_FILES}")

    def without_trash(self, folder, full):
        found = os.listdir(f"{self.state}/{folder}")
        kept = [name for name in found if not name.startswith(".trash-")]
        if (len(kept) < len(found)) != full:
            raise Broken(f"in {folder}/ lie {sorted(found)}, the trash is {'' if full else 'not '}full")
        return kept

    def check_catalogue(self):
        db = sqlite3.connect(f"file:{self.state}/catalog.db?mode=ro", uri=True)
        try:
            found = db.execute("PRAGMA integrity_check").fetchall()
        finally:
            db.close()
        if found != [("ok",)]:
            raise Broken(f"the catalogue is damaged: {found}")
