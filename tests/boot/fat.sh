#!/bin/bash
# boot/fat.c against mtools: file systems of each kind made by mkfs.fat, filled by mcopy (long names,
# deep folders, fragments), and every file compared with what mtools reads.
#
# environment: FAT_WRITE, the program that writes all files of an image into a folder
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../integration/lib.sh"

need mkfs.fat mcopy mmd mdel
fat_write=${FAT_WRITE:?FAT_WRITE names the program under test}
# Names are UTF-8; mtools would look at ~/.mtoolsrc.
export LC_ALL=C.UTF-8 MTOOLSRC=/dev/null MTOOLS_SKIP_CHECK=1
dir=$(mktemp -d /dev/shm/lunroot-fat.XXXXXX)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# A tree of some hundred files, of which MAX bytes is the largest.
make_tree() { # MAX FILES
	local i
	rm -rf tree
	mkdir -p tree/overlays tree/deep/er/and/deep/er/than/that "tree/Folder with blanks and capitals"
	echo 'arm_64bit=1' >tree/config.txt
	: >tree/EMPTY
	echo x >"tree/UPPER.TXT"
	echo x >"tree/a name of many words, signs (+;=[]) and $(printf 'n%.0s' {1..150}).dtbo"
	echo x >"tree/ünïcödé ↯ 字.txt"
	echo x >"tree/Folder with blanks and capitals/Mixed.Case.Name"
	echo x >tree/deep/er/and/deep/er/than/that/bottom
	for ((i = 0; i < $2; i++)); do
		head -c $((RANDOM * 32768 % $1 + i)) /dev/urandom >"tree/overlays/overlay-number-$i.dtbo"
	done
	head -c "$1" /dev/urandom >tree/kernel8.img
}

# Names in small letters with the content's sum: FAT has no case.
sums() { (cd "$1" && find . -type f -exec sha256sum {} +) | awk '{ s = $1; sub(/^[^ ]* +/, ""); print tolower($0), s }' | sort; }

compare() { # WHAT
	rm -rf ours theirs
	mkdir ours theirs
	"$fat_write" img ours >counts 2>&1 || fail "$1: $(cat counts)"
	mcopy -s -n -Q -i img '::/*' theirs/ || fail "$1: mcopy"
	sums ours >ours.sums
	sums theirs >theirs.sums
	[ "$(wc -l <theirs.sums)" -gt 20 ] || fail "$1: mtools finds only $(wc -l <theirs.sums) files"
	diff theirs.sums ours.sums >differences || {
		head -5 differences >&2
		fail "$1: not what mtools reads"
	}
	say "ok: $1: $(cat counts)"
}

fill() { mcopy -s -i img tree/* ::/ || fail "$1: mcopy to it"; }

# Holes of many sizes, filled by one large file and others.
fragment() {
	local i
	for ((i = 0; i < 20; i++)); do head -c $((i * 3000 + 100)) /dev/urandom >"gap-$i" && mcopy -i img "gap-$i" ::/; done
	for ((i = 0; i < 20; i += 2)); do mdel -i img "::/gap-$i"; done
	head -c "$1" /dev/urandom >fragments.bin
	mcopy -i img fragments.bin ::/ || fail "no room for the fragments"
	for ((i = 1; i < 20; i += 4)); do mdel -i img "::/gap-$i" && mcopy -i img tree/config.txt "::/after the gap $i"; done
	rm -f gap-*
}

one() { # BITS SECTORS-A-CLUSTER KIB MAX FILES [MKFS-OPTION]...
	local what="FAT$1, $2 sectors a cluster, $3 KiB${6:+, ${*:6}}"
	rm -f img
	truncate -s "$3K" img
	make_tree "$4" "$5"
	mkfs.fat -F "$1" -s "$2" "${@:6}" img >/dev/null 2>mkfs.log || fail "$what: $(cat mkfs.log)"
	fill "$what"
	fragment "$4"
	compare "$what"
}

one 12 1 1600 40000 20
one 12 128 60000 100000 30
one 16 8 40000 300000 30 -r 1024
one 32 1 40000 300000 60
if [ "${LUNROOT_CHECK:-full}" != quick ]; then
	one 12 4 6000 100000 40
	one 16 1 6000 100000 60
	one 32 8 300000 2000000 80
	one 32 2 262144 2000000 100
	one 32 64 2200000 1000000 100
	one 32 1 300000 1000000 60 -S 4096
	one 16 2 60000 500000 60 -S 1024
	one 32 1 40000 500000 60 -f 1
	one 12 2 2000 30000 20 -f 1 -R 1
fi
