#!/bin/bash
# A disk through the control API: what it reads as is what the initiator has written, acknowledged
# by acknowledged, while the node runs and its layers are exchanged beneath it; and the names of
# content change whenever the content does.
. "$(dirname "$0")/lib.sh"
need curl qemu-io python3

daemon_begin
daemon_start
head -c 8M /dev/urandom >"$daemon_dir/base.img"
truncate -s 32M "$daemon_dir/base.img"
ctl import "$daemon_dir/base.img" base --force >/dev/null 2>&1 || fail "import"
for node in one two; do ctl clone base $node >/dev/null 2>&1 || fail "clone"; done
ctl clone base large --size 64M --data 16M >/dev/null 2>&1 || fail "clone"

get() { curl -sf --unix-socket "$daemon_dir/run/control.sock" "http://localhost$1"; }
text() { get "/v1/nodes/$1/luns/${3:-0}" | member "$2" || fail "GET lun of $1"; }
identity() { text "$1" identity "${2:-0}"; }

# --- what an image and a fresh clone read as ---
whole() { # PATH
	local at
	for ((at = 0; at < 32; at += 4)); do get "$1?offset=$((at << 20))&length=4194304" || fail "$1 at $at MiB"; done
}
whole /v1/images/base/data | cmp - "$daemon_dir/base.img" || fail "the image reads as something else"
whole /v1/nodes/one/luns/0/data | cmp - "$daemon_dir/base.img" || fail "a fresh clone is not its image"
get "/v1/images/base/data?offset=1234567&length=654321" | cmp - <(tail -c +1234568 "$daemon_dir/base.img" | head -c 654321) ||
	fail "an odd part of the image"
get "/v1/nodes/large/luns/0/data?offset=33554432&length=4194304" | cmp -n 4194304 - /dev/zero || fail "beyond the image"
get "/v1/nodes/large/luns/1/data?offset=0&length=4194304" | cmp -n 4194304 - /dev/zero || fail "an empty data disk"
get "/v1/nodes/one/luns/0/data?offset=33554432&length=1" >/dev/null && fail "beyond the end"
say "ok: images and fresh clones"

# --- names of content ---
[[ $(identity one) == image:*:33554432 ]] || fail "identity: $(identity one)"
[ "$(identity one)" = "$(identity two)" ] || fail "two fresh clones differ"
[[ $(identity large) == image:*:67108864 ]] || fail "identity: $(identity large)"
[ "$(identity large 1)" = zeros:16777216 ] || fail "identity: $(identity large 1)"
fresh=$(identity one)
declare -A seen
seen["$fresh"]=1
changed() { # WHAT
	local now again
	now=$(identity one)
	again=$(identity one)
	[ "$now" = "$again" ] || fail "$1: the identity changes by itself: $now, $again"
	[ -z "${seen["$now"]:-}" ] || fail "$1: the identity was there before: $now"
	seen["$now"]=1
	say "ok: another identity after $1"
}
disk=$(url one)
write() { qemu-io -f raw -c "$1" "$disk" >"$daemon_dir/output" 2>&1 || fail "$1: $(cat "$daemon_dir/output")"; }
write 'write -P 0x5a 10M 64k'
changed "a write"
write 'write -P 0x5a 10M 64k'
changed "the same write again"
write 'discard 10M 64k'
changed "a discard"
write 'write -z 12M 64k'
changed "WRITE SAME"
write 'write -z -u 14M 64k'
changed "WRITE SAME with UNMAP"
write 'flush'
ctl snapshot one s >/dev/null 2>&1 || fail "snapshot"
changed "a snapshot"
write 'write -P 1 0 4k'
changed "a write over it"
ctl rollback one s >/dev/null 2>&1 || fail "rollback"
changed "a rollback"
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_start
changed "a restart"
daemon_kill KILL
daemon_start
changed "kill -9"
ctl resize one 48M >/dev/null 2>&1 || fail "resize"
changed "a resize"
[ "$(identity two)" = "$fresh" ] || fail "a fresh clone has another identity after a restart"
ctl reset two >/dev/null 2>&1 || fail "reset"
[ "$(identity two)" = "$fresh" ] || fail "a clone that was reset is not fresh: $(identity two)"
ctl reset one --force >/dev/null 2>&1 || fail "reset"
[ "$(identity one)" = "${fresh%:*}:50331648" ] || fail "reset, and larger: $(identity one)"
get "/v1/nodes/one/luns/0/data?offset=0&length=4194304" | cmp -n 4194304 - "$daemon_dir/base.img" || fail "reset"
ctl flatten two >/dev/null 2>&1 || fail "flatten"
[ "$(identity two)" != "$fresh" ] || fail "flattened, but called as its image"
say "ok: fresh clones keep theirs, and what is reset has it again"

# --- read while it is written and exchanged ---
# A writer fills blocks, and notes each write before it begins and when it is acknowledged; readers
# must see in each block the last that was acknowledged before they asked, or one that began later.
cat >"$daemon_dir/watch.py" <<'PY'
import http.client, os, random, socket, struct, subprocess, sys, threading, time

path, url, seconds, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
BLOCKS, BLOCK = 64, 4096
# What each block was filled with, from the beginning on; how many of these are acknowledged.
begun, acked = [[None] for _ in range(BLOCKS)], [0] * BLOCKS
lock, stop = threading.Lock(), time.monotonic() + seconds
count = {"writes": 0, "reads": 0, "busy": 0, "steady": 0}
failed = []


class Api(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)


def ask(api, target):
    api.request("GET", target)
    answer = api.getresponse()
    return answer.status, answer.read()


def write():
    rng = random.Random(seed)
    io = subprocess.Popen(["qemu-io", "-f", "raw", "-t", "none", url], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    number = 0
    while time.monotonic() < stop and not failed:
        number = number % 250 + 1
        block = rng.randrange(BLOCKS)
        with lock:
            begun[block].append(number)
        io.stdin.write(b"write -P %d %d 4096\n" % (number, block * BLOCK))
        io.stdin.flush()
        while True:
            line = io.stdout.readline()
            if not line or b"rror" in line or b"ailed" in line:
                failed.append("write: %r" % line)
                break
            if line.startswith(b"wrote") or b"wrote" in line:
                break
        with lock:
            acked[block] = len(begun[block]) - 1
        count["writes"] += 1
        if count["writes"] % 100 == 0:
            time.sleep(0.05)
    io.stdin.close()
    io.wait()


def read(which):
    rng = random.Random(seed + which)
    api = Api("localhost")
    while time.monotonic() < stop and not failed:
        first = rng.randrange(BLOCKS)
        blocks = rng.randrange(1, BLOCKS - first + 1)
        with lock:
            before = list(acked)
        status, data = ask(api, "/v1/nodes/one/luns/0/data?offset=%d&length=%d" % (first * BLOCK, blocks * BLOCK))
        if status == 409:
            count["busy"] += 1
            continue
        if status != 200 or len(data) != blocks * BLOCK:
            failed.append("read: %d, %d bytes" % (status, len(data)))
            return
        with lock:
            known = [begun[first + i][before[first + i]:] for i in range(blocks)]
        for i in range(blocks):
            block = data[i * BLOCK:(i + 1) * BLOCK]
            have = block[0] if block.count(block[0]) == BLOCK else "a mix"
            # None: nothing was written there yet, it is the image's. A mix: while it is written.
            if have in known[i] or known[i][0] is None or (have == "a mix" and len(known[i]) > 1):
                continue
            failed.append("block %d reads %s, but %s was acknowledged" % (first + i, have, known[i][0]))
        count["reads"] += 1


def compare():
    """Two equal generations: what was read between them is the same, read again."""
    api = Api("localhost")
    lun, data = "/v1/nodes/one/luns/0", "/v1/nodes/one/luns/0/data?offset=0&length=%d" % (BLOCKS * BLOCK)
    import json
    # On a slow machine there is seldom a time without a write or a snapshot: until there was one.
    while not failed and (time.monotonic() < stop or (not count["steady"] and time.monotonic() < stop + 60)):
        told = []
        status, text = ask(api, lun)
        api.close()
        if status != 200:
            continue
        _, one = ask(api, data)
        _, two = ask(api, data)
        status, again = ask(api, lun)
        api.close()
        if status != 200:
            continue
        told = [json.loads(t)["generation"] for t in (text, again)]
        if told[0] == told[1]:
            count["steady"] += 1
            if one != two:
                failed.append("the same generation, other content")
        time.sleep(0.002)


threads = [threading.Thread(target=write)] + [threading.Thread(target=read, args=(i,)) for i in range(2)]
threads.append(threading.Thread(target=compare))
for t in threads:
    t.start()
for t in threads:
    t.join()
if failed:
    sys.exit("FAILED: " + failed[0])
print("%(writes)d writes, %(reads)d reads (%(busy)d busy), %(steady)d times nothing changed meanwhile" % count)
if not (count["writes"] and count["reads"] and count["steady"]):
    sys.exit("FAILED: too little happened")
PY
seconds=$(by_mode 3 10 120)
python3 "$daemon_dir/watch.py" "$daemon_dir/run/control.sock" "$disk" "$seconds" "${SEED:-$$}" >"$daemon_dir/watched" 2>&1 &
watcher=$!
i=0
while kill -0 "$watcher" 2>/dev/null; do
	i=$((i + 1))
	ctl snapshot one "s$i" >/dev/null 2>&1 || { sleep 0.1; continue; }
	[ $((i % 3)) = 0 ] && ctl rm "one@s$((i - 1))" >/dev/null 2>&1
	[ $i -gt 20 ] && ctl rm "one@s$((i - 20))" >/dev/null 2>&1
	[ $((i % 5)) = 0 ] && ctl resize one "$((48 + i))M" >/dev/null 2>&1
	sleep 0.05
done
wait "$watcher" || fail "seed ${SEED:-$$}: $(cat "$daemon_dir/watched")"
say "ok: $(cat "$daemon_dir/watched"), $i snapshots"

# --- what is taken away while it is read ---
(for ((k = 0; k < 60; k++)); do get "/v1/nodes/one/luns/0/data?length=4194304" >/dev/null; done) &
reader=$!
for name in uno one uno; do
	ctl rename "$([ $name = uno ] && echo one || echo uno)" $name >/dev/null 2>&1 || fail "rename while it is read"
done
ctl rm uno >/dev/null 2>&1 || fail "rm while it is read"
wait "$reader"
say "ok: renamed and removed while it is read"

# --- clients that ask and go away, or do not take their answer ---
python3 - "$daemon_dir/run/control.sock" <<'PY' || fail "clients that do not take their answers"
import socket, sys, time
clients = []
for i in range(40):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(b"GET /v1/images/base/data?length=4194304 HTTP/1.1\r\nHost: x\r\n\r\n")
    clients.append(s)
time.sleep(0.5)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
s.settimeout(20)
assert s.recv(4096).startswith(b"HTTP/1.1 200"), "others are not served"
for c in clients[:30]:
    c.close()
s = clients[-1]
s.settimeout(10)
have = 0
while have < 4194304:
    n = len(s.recv(1 << 20))
    assert n, "an answer ends early"
    have += n
PY
expect_ctl "it serves others" 0 'base' -- ls
say "ok: clients that go away"

daemon_ends_well
say "good"
