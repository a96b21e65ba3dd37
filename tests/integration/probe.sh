#!/bin/bash
# What lunroot-init finds on disks that the usual programs made, line by line beside what partx and
# blkid say of the same bytes. A file system whose mkfs is not here is left out.
#
# usage: probe.sh          PROBE_PRINT: the test's own program, from the build directory
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

probe=${PROBE_PRINT:-$LUNROOT_BUILD/initramfs/probe_print}
export LC_ALL=C.UTF-8
need sfdisk partx blkid mke2fs mkfs.vfat mkswap
[ -x "$probe" ] || skip "$probe is not built"
daemon_dir=$(mktemp -d)
trap 'rm -rf "$daemon_dir"' EXIT
cd "$daemon_dir" || exit 1
compared=0

# A line as probe_print makes it: line IMAGE PARTITION START SECTORS PARTUUID PARTLABEL
line() {
	local image=$1 start=$3 sectors=$4
	blkid_says() {
		blkid -p --offset $((start * 512)) --size $((sectors * 512)) -o value -s "$1" "$image" || [ $? -eq 2 ]
	}
	printf '%s %s %s partuuid=%s partlabel=%s type=%s uuid=%s label=%s\n' "$2" $((start * 512)) \
		$((sectors * 512)) "$5" "$6" "$(blkid_says TYPE)" "$(blkid_says UUID)" "$(blkid_says LABEL)"
}

same() { # IMAGE: `expected` holds what must be found
	"$probe" "$1" | sort -n >found || fail "$1 can't be probed"
	sort -n expected | diff - found >difference || {
		cat difference >&2
		fail "$1: blkid (<) and lunroot-init (>) do not agree"
	}
	compared=$((compared + $(wc -l <expected)))
}

whole() { # IMAGE
	line "$1" 0 0 $(($(stat -c %s "$1") / 512)) '' '' >expected
	same "$1"
}

parts() { # IMAGE; an extended partition is a box, not a place
	local NR START SECTORS UUID NAME TYPE shown
	: >expected
	while IFS= read -r shown; do
		eval "$shown"
		case $TYPE in 0x5 | 0xf | 0x85) continue ;; esac
		line "$1" "$NR" "$START" "$SECTORS" "$UUID" "$(printf %b "$NAME")" >>expected
	done < <(partx -P -o NR,START,SECTORS,UUID,NAME,TYPE "$1")
	same "$1"
}

picks() { # IMAGE PARTITION ROOT...
	local image=$1 partition=$2 root
	shift 2
	for root in "$@"; do
		[ "$("$probe" "$image" "$root")" = "$partition" ] || fail "$image: root=$root is not $partition"
	done
}

mkdir tree
echo content >tree/file
made() { # IMAGE PROGRAM...: makes a file system on a new file, if the program is here
	local image=$1
	shift
	command -v "$1" >/dev/null || return 0
	rm -f "$image"
	truncate -s 320M "$image"
	"$@" >output 2>&1 || {
		cat output >&2
		fail "$*"
	}
	whole "$image"
	rm -f "$image"
}

made fs mke2fs -q -t ext2 fs
made fs mke2fs -q -t ext2 -O ^resize_inode,^dir_index -b 1024 -L small fs
made fs mke2fs -q -t ext3 -L 'sixteen bytes ok' fs
made fs mke2fs -q -t ext4 -L rootfs fs
made fs mke2fs -q -t ext4 -O ^has_journal -L plain fs
made fs mke2fs -q -t ext4 -O 64bit,metadata_csum,quota,casefold,inline_data fs
made fs mke2fs -q -O journal_dev -b 4096 fs
made fs mkfs.vfat -F 16 -n BOOT fs
made fs mkfs.vfat -F 16 fs
made fs mkfs.vfat -F 32 -n BOOTFS fs
made fs mkswap -L pages fs
made fs mkswap -p 16384 -L pages16 fs
made fs mkfs.btrfs -q -L 'the root' fs
made fs mkfs.xfs -q -L xroot fs
made fs mkfs.f2fs -q -l flash fs
made fs mkfs.erofs fs tree
made fs mksquashfs tree fs -noappend -quiet

# A Raspberry Pi's card, by MBR and by GPT.
truncate -s 320M dos gpt
printf 'label: dos\nlabel-id: 0x8a3b51c7\nsize=64M,type=c\ntype=83\n' | sfdisk -q dos
mkfs.vfat -F 32 -n bootfs --offset 2048 dos 65536 >/dev/null 2>&1
mke2fs -q -t ext4 -L rootfs -E offset=$((133120 * 512)) dos 200M
parts dos
picks dos 2 '' LABEL=rootfs PARTUUID=8A3B51C7-02 /dev/mmcblk0p2 /dev/sda2 PART=2
picks dos 1 LABEL=bootfs PARTUUID=8a3b51c7-01
printf 'label: gpt\nsize=64M,type=U,name=boot\nsize=50M,name="a b ü €"\nstart=400000,size=20M,type=S\n' |
	sfdisk -q gpt
mke2fs -q -t ext4 -L 'r o o t' -E offset=$((133120 * 512)) gpt 50M
parts gpt
picks gpt 2 '' 'LABEL="r o o t"' 'PARTLABEL=a b ü €'
cp gpt broken
dd if=/dev/zero of=broken bs=512 seek=1 count=33 conv=notrunc status=none
cp found intact
"$probe" broken | sort -n | diff intact - >&2 || fail "the backup GPT says something else"

# Numbers with gaps, and many of them.
sfdisk -q --delete gpt 1
parts gpt
rm -f gpt dos
truncate -s 320M gpt dos
{
	printf 'label: gpt\n'
	for ((i = 1; i <= 128; i++)); do printf 'size=1M,name=p%d\n' "$i"; done
} | sfdisk -q gpt
parts gpt
{
	printf 'label: dos\nsize=8M,type=83\nsize=8M,type=83\n,,E\n'
	for ((i = 5; i <= 40; i++)); do printf 'size=2M,type=83\n'; done
} | sfdisk -q dos
mke2fs -q -t ext2 -L ninth -E offset=$(($(partx -g -s -o START -n 9 dos) * 512)) dos 1M
parts dos
picks dos 9 '' LABEL=ninth
sfdisk -q --delete dos 7 1
parts dos
picks dos 8 ''

# New partitions over an old file system: sfdisk is told to leave its marks.
rm -f dos
truncate -s 64M dos
mke2fs -q -t ext4 -L old dos
printf 'label: dos\nstart=2048,type=83\n' | sfdisk -q --wipe never dos
mke2fs -q -t ext4 -L new -E offset=$((2048 * 512)) dos 62M
! "$probe" dos '' 2>message || fail "one of two file systems was guessed to be root"
grep -q 'several file systems fit.*PART=0 ext4 "old".*PART=1 ext4 "new"' message || fail "$(cat message)"
picks dos 1 LABEL=new

[ $compared -ge 200 ] || fail "only $compared volumes were compared"
say "probe: $compared volumes as partx and blkid see them"
