#!/usr/bin/env python3
"""What forgetfs promises to the crash tests, through the kernel: what is synced stays, what is not
goes, tears or stays by chance, faults come when they are due. A disk that forgot too little would
make every other test pass."""
import ctypes
import ctypes.util
import errno
import fcntl
import mmap
import os
import sqlite3
import sys
import threading

from forget import Forget

PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)
fs = None


def at(name):
    return os.path.join(fs.path, "d", name)


def put(name, data, sync=None, offset=0):
    """Writes, and syncs with os.fsync or os.fdatasync."""
    fd = os.open(at(name), os.O_RDWR | os.O_CREAT, 0o640)
    assert os.pwrite(fd, data, offset) == len(data)
    if sync:
        sync(fd)
    os.close(fd)


def get(name):
    with open(at(name), "rb") as file:
        return file.read()


def sync_dir(name=""):
    fd = os.open(at(name), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def fails(error, function, *args):
    try:
        function(*args)
    except OSError as e:
        assert e.errno == error, f"{e} instead of {errno.errorcode[error]}"
        return
    raise AssertionError(f"no {errno.errorcode[error]}")


def page(byte):
    return bytes([byte]) * PAGE


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def unsynced_data_is_dropped():
    put("f", page(1) * 3, os.fsync)
    sync_dir()
    put("f", page(2), offset=PAGE)
    put("f", page(3), offset=5 * PAGE)
    assert get("f")[PAGE:2 * PAGE] == page(2)
    fs("cut", 1, 0, "drop")
    assert get("f") == page(1) * 3


def synced_data_stays():
    for sync in os.fsync, os.fdatasync:
        put("f", page(4) * 2, sync)
        sync_dir()
        put("f", page(5) * 3, sync)  # fdatasync brings the size along
        fs("cut", 1, 0, "drop")
        assert get("f") == page(5) * 3


def each_page_has_its_own_fate():
    fates = set()
    for seed in range(60):
        put("f", page(1) * 8, os.fsync)
        sync_dir()
        for byte in 2, 3, 4:
            put("f", page(byte) * 8)
        fs("cut", seed, 0)
        data = get("f")
        pages = tuple(data[i * PAGE] for i in range(8))
        assert all(data[i * PAGE:(i + 1) * PAGE] == page(pages[i]) for i in range(8)), "torn"
        assert set(pages) <= {1, 2, 3, 4}
        fates.add(pages)
    assert len(fates) > 20
    assert {byte for fate in fates for byte in fate} == {1, 2, 3, 4}


def pages_tear_at_sectors():
    torn = 0
    for seed in range(40):
        put("f", page(1) * 8, os.fsync)
        sync_dir()
        put("f", page(2) * 8)
        fs("cut", seed, 4 * PAGE)
        data = get("f")
        for i in range(8):
            found = {data[j] for j in range(i * PAGE, (i + 1) * PAGE, 512)}
            torn += len(found) > 1
            assert len(found) == 1 or i < 4
    assert torn > 10


def same_seed_same_loss():
    seen = set()
    for _ in range(5):
        fs("load", "empty", 1)
        put("f", page(1) * 8, os.fsync)
        sync_dir()
        put("f", page(2) * 8)
        fs("cut", 77, 8 * PAGE)
        seen.add(get("f"))
    assert len(seen) == 1


def size_is_torn_without_sync():
    sizes = set()
    for seed in range(20):
        put("f", page(1), os.fsync)
        sync_dir()
        put("f", page(2), offset=PAGE)
        fs("cut", seed, 0)
        data = get("f")
        sizes.add(len(data))
        assert data[:PAGE] == page(1) and data[PAGE:] in (b"", page(0), page(2))
        os.unlink(at("f"))
    assert sizes == {PAGE, 2 * PAGE}


def names_need_the_directory_synced():
    put("f", page(1), os.fsync)
    fs("cut", 1, 0, "drop")
    assert os.listdir(at("")) == []
    put("f", page(1), os.fsync)
    sync_dir()
    os.rename(at("f"), at("g"))
    fs("cut", 1, 0, "drop")
    assert os.listdir(at("")) == ["f"]
    os.unlink(at("f"))
    fs("cut", 1, 0, "drop")
    assert get("f") == page(1)
    os.link(at("f"), at("g"))
    os.rename(at("f"), at("h"))
    os.mkdir(at("e"))
    sync_dir()
    os.rename(at("h"), at("e/h"))
    sync_dir("e")  # of a move both sides are durable
    fs("cut", 1, 0, "drop")
    assert sorted(os.listdir(at(""))) == ["e", "g"] and os.listdir(at("e")) == ["h"]


def first_part_of_the_names_survives():
    seen = set()
    for seed in range(60):
        fs("load", "empty", 1)
        for i in range(6):
            os.mkdir(at(str(i)))
        fs("cut", seed, 0)
        names = sorted(os.listdir(at("")))
        assert names == [str(i) for i in range(len(names))]
        seen.add(len(names))
    assert seen == set(range(7))


def removed_files_content_comes_back_with_the_name():
    put("f", page(1), os.fsync)
    sync_dir()
    os.truncate(at("f"), 10)
    os.unlink(at("f"))
    put("f", page(2), os.fsync)
    fs("cut", 1, 0, "drop")
    assert get("f") == page(1)


def time_and_mode_need_fsync():
    put("f", page(1), os.fsync)
    sync_dir()
    before = os.stat(at("f"))
    put("f", page(2), os.fdatasync)
    os.chmod(at("f"), 0o400)
    assert os.stat(at("f")).st_mtime_ns > before.st_mtime_ns
    fs("cut", 1, 0, "drop")
    after = os.stat(at("f"))
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    assert get("f") == page(2)


def holes_are_holes():
    keep, punch = 1, 2
    put("f", page(1) * 4, os.fsync)
    sync_dir()
    fd = os.open(at("f"), os.O_RDWR)
    fallocate(fd, keep | punch, PAGE, 2 * PAGE + 100)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == PAGE
    assert os.lseek(fd, PAGE, os.SEEK_DATA) == 3 * PAGE
    fails(errno.ENXIO, os.lseek, fd, 4 * PAGE, os.SEEK_DATA)
    assert os.pread(fd, 4 * PAGE, 0) == page(1) + page(0) * 2 + bytes(100) + page(1)[100:]
    os.ftruncate(fd, 1 << 36)
    assert os.fstat(fd).st_blocks == 16
    assert os.lseek(fd, 4 * PAGE, os.SEEK_HOLE) == 4 * PAGE
    fallocate(fd, keep, 1 << 30, PAGE)
    assert os.fstat(fd).st_blocks == 24
    fails(errno.ENXIO, os.lseek, fd, 4 * PAGE, os.SEEK_DATA)
    os.close(fd)
    fs("cut", 1, 0, "drop")
    assert get("f") == page(1) * 4


def full_disk():
    fs("space", 4)
    fd = os.open(at("f"), os.O_RDWR | os.O_CREAT)
    assert os.pwrite(fd, page(1) * 6, 0) == 4 * PAGE
    fails(errno.ENOSPC, os.pwrite, fd, page(1), 5 * PAGE)
    assert os.pwrite(fd, page(2), 0) == PAGE  # in place
    assert os.statvfs(fs.path).f_bavail == 0
    fallocate(fd, 3, 0, PAGE)
    fallocate(fd, 1, PAGE * 9, PAGE)
    fails(errno.ENOSPC, os.pwrite, fd, page(1), 0)
    assert os.pwrite(fd, page(1), PAGE * 9) == PAGE  # reserved
    os.unlink(at("f"))
    assert os.statvfs(fs.path).f_bavail == 0
    os.close(fd)
    os.stat(fs.path)
    put("f", page(1) * 4)
    fs("space", 0)


def faults_are_due():
    fd = os.open(at("f"), os.O_RDWR | os.O_CREAT)
    fs("at", "write:f", 2, "EIO")
    put("other", page(1))
    os.pwrite(fd, page(1), 0)
    fails(errno.EIO, os.pwrite, fd, page(1), 0)
    os.pwrite(fd, page(1), 0)
    fs("clear")
    fs("at", "any", 1, "ENOSPC", 0)
    for _ in range(3):
        fails(errno.ENOSPC, os.pwrite, fd, page(1), 0)
        fails(errno.ENOSPC, os.mkdir, at("e"))
    assert os.pread(fd, PAGE, 0) == page(1)
    fs("clear")
    fs("at", "write", 1, "short")
    fs("at", "read", 1, "short")
    assert os.pwrite(fd, page(2), 0) == PAGE // 2
    assert os.pread(fd, PAGE, 0) == page(2)[:PAGE // 2]
    assert os.pread(fd, PAGE, 0) == page(2)[:PAGE // 2] + page(1)[:PAGE // 2]
    os.close(fd)


def failed_sync_reports_once_and_forgets():
    fs("drop", "f")
    lost = stayed = gone = 0
    for seed in range(30):
        fs("load", "empty", seed)
        put("f", page(1), os.fsync)
        sync_dir()
        fd = os.open(at("f"), os.O_RDWR)
        os.pwrite(fd, page(3), 0)
        fs("at", "sync", 1, "EIO")
        fails(errno.EIO, os.fsync, fd)
        os.fsync(fd)
        visible = os.pread(fd, PAGE, 0)
        if seed % 2:
            os.close(fd)
            seen = get("f")
        fs("cut", seed, 0, "keep")
        if seed % 2:
            assert seen == get("f")
        else:
            os.close(fd)
        data = get("f")
        assert data in (page(1), page(3)) and visible in (page(1), page(3))
        stayed += data == page(3)
        lost += data == page(1) and visible == page(3)
        gone += visible == page(1)
    assert lost and stayed and gone


def frozen_disk_answers_nobody():
    put("f", page(1), os.fsync)
    sync_dir()
    fd = os.open(at("f"), os.O_RDWR)
    fs("clear")
    fs("at", "any", 3, "freeze")
    done = []

    def work():
        try:
            for i in range(10):
                os.pwrite(fd, page(10 + i), 0)
                done.append(i)
        except OSError as e:
            done.append(e.errno)

    thread = threading.Thread(target=work)
    thread.start()
    assert fs.frozen(5000) == "3 write f"
    thread.join(0.05)
    assert done == [0, 1]
    fs("cut", 1, 0, "keep")
    thread.join()
    assert done == [0, 1, errno.EIO]
    assert get("f") == page(11)
    fails(errno.ESTALE, os.pwrite, fd, page(1), 0)
    os.close(fd)
    assert fs.frozen(0) is None


def maps_and_locks_work():
    db = sqlite3.connect(at("db"), isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t(x)")
    other = sqlite3.connect(at("db"), isolation_level=None)
    for i in range(20):
        db.execute("INSERT INTO t VALUES(?)", (i,))
        assert other.execute("SELECT count(*) FROM t").fetchone() == (i + 1,)
    sync_dir()
    fs("cut", 3, 1 << 20)
    for closing in db, other:
        closing.close()
    again = sqlite3.connect(at("db"))
    assert again.execute("SELECT count(*) FROM t").fetchone() == (20,)
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again.close()
    a = os.open(at("db"), os.O_RDONLY)
    b = os.open(at("db"), os.O_RDONLY)
    fcntl.flock(a, fcntl.LOCK_EX)
    fails(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(b)


def kernel_copies():
    put("f", page(1) + page(2))
    a, b = os.open(at("f"), os.O_RDONLY), os.open(at("g"), os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(a, b, 2 * PAGE, 100, 0) == 2 * PAGE - 100
    os.close(a)
    os.close(b)
    assert get("g") == (page(1) + page(2))[100:]
    rename = libc.renameat2
    assert rename(-100, at("f").encode(), -100, at("g").encode(), 1) < 0
    assert ctypes.get_errno() == errno.EEXIST
    assert rename(-100, at("f").encode(), -100, at("h").encode(), 1) == 0


TESTS = [unsynced_data_is_dropped, synced_data_stays, each_page_has_its_own_fate,
         pages_tear_at_sectors, same_seed_same_loss, size_is_torn_without_sync,
         names_need_the_directory_synced, first_part_of_the_names_survives,
         removed_files_content_comes_back_with_the_name, time_and_mode_need_fsync, holes_are_holes,
         full_disk, faults_are_due, failed_sync_reports_once_and_forgets,
         frozen_disk_answers_nobody, maps_and_locks_work, kernel_copies]


def main():
    global fs
    fs = Forget(1)
    try:
        os.mkdir(os.path.join(fs.path, "d"))
        fs("save", "empty")
        for test in TESTS:
            fs("load", "empty", 1)
            fs("clear")
            test()
            print(f"ok: {test.__name__}")
    finally:
        fs.close()


main()
