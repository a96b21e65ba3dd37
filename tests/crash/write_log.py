#!/usr/bin/env python3
"""Cuts the power of a disk whose writes QEMU's blklogwrites driver recorded.

usage: write_log.py size LOG             how many entries, flushes and MiB
       write_log.py cut EMPTY LOG OUT --seed N [--from POSITION] [--lie]

`cut` makes OUT: the disk as it was when the recording began (EMPTY), and on it what a disk with a volatile cache may
hold after a power cut at a random point of the log. Everything up to the last flush before the cut is there; each
later write is there or not, in pieces of its own. Prints "POSITION KIND what": the position is the log's length at the cut, and
KIND is "torn" if pieces were sectors and not blocks. The same seed makes the same cut. With --lie the disk forgets what
the last flush wrote, too: a test that does not notice is worth nothing.

The log (little-endian, in units of sectorsize): a superblock {u64 magic, version, nr_entries; u32 sectorsize}, then
entries {u64 sector, nr_sectors, flags, data_len}, each a unit of its own and followed by its data (a discard has none). The superblock
counts entries only at flushes, so the entries beyond are read until there is no whole one any more.

Where this is kinder than a real disk may be: QEMU logs a write when it has ended. A write that was under way while a flush
began, and ended before the flush did, counts as flushed.
"""
import argparse
import mmap
import os
import random
import struct
import sys

MAGIC, VERSION = 0x6A736677736872, 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
BLOCK, SECTOR = 4096, 512


class Entry:
    def __init__(self, offset, length, flags, data_at, end):
        self.offset, self.length, self.flags, self.data_at, self.end = offset, length, flags, data_at, end


def read_log(path):
    """The log's bytes and its entries; Entry.end is the log's length once the entry is in it."""
    with open(path, "rb") as file:
        log = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    magic, version, counted, unit = struct.unpack_from("<QQQI", log)
    if magic != MAGIC or version != VERSION or unit < 512 or unit & (unit - 1):
        sys.exit(f"write_log: {path}: not a write log of version {VERSION}")
    entries, at = [], unit
    while at + unit <= len(log):
        sector, sectors, flags, data_len = struct.unpack_from("<QQQQ", log, at)
        data_at = at + unit
        end = data_at + (0 if flags & DISCARD else sectors * unit + data_len)
        # A hole, or a last entry that the end of QEMU cut off.
        if end > len(log) or flags & ~(FLUSH | FUA | DISCARD | MARK) or not (sectors or flags):
            break
        entries.append(Entry(sector * unit, sectors * unit, flags, data_at, end))
        at = end
    if len(entries) < counted:
        sys.exit(f"write_log: {path}: {len(entries)} entries where {counted} were counted")
    return log, entries


def apply(out, log, entry, start=0, length=None):
    length = entry.length - start if length is None else length
    out.seek(entry.offset + start)
    if entry.flags & DISCARD:
        out.write(bytes(length))
    elif length:
        out.write(log[entry.data_at + start:entry.data_at + start + length])


def copy_sparse(path, out):
    with open(path, "rb") as source:
        size, at = os.fstat(source.fileno()).st_size, 0
        out.truncate(size)
        while at < size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:  # no more data
                return
            hole = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            out.seek(at)
            out.write(os.pread(source.fileno(), hole - at, at))
            at = hole


def pieces(entry, size):
    """(start, length) of what the disk writes at once."""
    at = 0
    while at < entry.length:
        length = min(size - (entry.offset + at) % size, entry.length - at)
        yield at, length
        at += length


def last_flush(entries, count):
    """How many entries the last flush among the first `count` made durable."""
    while count and not entries[count - 1].flags & FLUSH:
        count -= 1
    return count


KINDS = {  # the part of the pieces since the last flush that is kept
    "flush": None,  # the cut is right after a flush
    "none": lambda rnd: 0.0,
    "few": lambda rnd: 0.1,
    "half": lambda rnd: 0.5,
    "most": lambda rnd: 0.9,
    "all": lambda rnd: 1.0,
    "torn": lambda rnd: rnd.random(),
}


def choose_point(rnd, entries, kind, begin):
    first = next((i for i, e in enumerate(entries) if e.end >= begin), len(entries) - 1)
    count = rnd.randint(first + 1, len(entries))
    if kind == "flush":
        return last_flush(entries, count)
    if kind == "none":  # as much to lose as there can be
        while count < len(entries) and not entries[count].flags & FLUSH:
            count += 1
    return count


def cut(empty, log_path, out_path, seed, begin, lie):
    log, entries = read_log(log_path)
    rnd = random.Random(seed)
    kind = rnd.choice(list(KINDS))
    count = choose_point(rnd, entries, kind, begin)
    durable = last_flush(entries, count)
    if lie:
        durable = last_flush(entries, max(durable - 1, 0))
    kept = lost = 0
    with open(out_path, "wb") as out:
        copy_sparse(empty, out)
        for entry in entries[:durable]:
            apply(out, log, entry)
        chance = KINDS[kind](rnd) if KINDS[kind] else 0.0
        for entry in entries[durable:count]:
            for start, length in pieces(entry, SECTOR if kind == "torn" else BLOCK):
                if rnd.random() < chance:
                    apply(out, log, entry, start, length)
                    kept += 1
                else:
                    lost += 1
    position = entries[count - 1].end if count else 0
    print(position, kind, f"entry {count} of {len(entries)}, {count - durable} since the flush:"
          f" {kept} pieces kept, {lost} lost")


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    size = verbs.add_parser("size")
    size.add_argument("log")
    one = verbs.add_parser("cut")
    for name in ("empty", "log", "out"):
        one.add_argument(name)
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--from", dest="begin", type=int, default=0)
    one.add_argument("--lie", action="store_true")
    args = parser.parse_args()
    if args.verb == "size":
        _, entries = read_log(args.log)
        print(f"{len(entries)} writes and flushes, {sum(bool(e.flags & FLUSH) for e in entries)} flushes, "
              f"{entries[-1].end >> 20} MiB")
    else:
        cut(args.empty, args.log, args.out, args.seed, args.begin, args.lie)


main()
