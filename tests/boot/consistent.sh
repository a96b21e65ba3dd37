#!/bin/bash
# A boot has its files from one moment, from the first to the last: the node's partition is written between two requests, and while
# boots begin.
# shellcheck source=tests/boot/simulated.sh
. "$(dirname "$0")/simulated.sh"

# What a worker did in the last moment nobody takes back.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

"$pisim" --list --model 4=1 >"$net_folder/nodes"
net_tree "$net_folder/tree" small "$net_folder/nodes" && net_begin v || fail "no network"
start_lunbootd v "$net_folder/tree" "$net_folder/nodes" || fail "lunbootd"
read -r node _ _ mac <"$net_folder/nodes"
net_run v other ip link set eth0 address "$mac"
ctl() { "$LUNROOT_BUILD/tools/lunctl" "$@" 2>>"$net_folder/ctl.log"; }

# Two disks that differ in two files and in nothing else: the one that the node was cloned from, and another.
files=(start4.elf fixup4.dat)
fat_sectors=$(sfdisk -d "$net_folder/tree.img" | sed -n 's/.*size= *\([0-9]*\), type=c.*/\1/p')
mkdir "$net_folder/1" "$net_folder/2"
cp --sparse=always "$net_folder/tree.img" "$net_folder/1/disk"
for file in "${files[@]}"; do
	cp "$net_folder/tree/firmware/$file" "$net_folder/1/$file"
	tr '\0-\377' '\1-\377\0' <"$net_folder/1/$file" >"$net_folder/2/$file"
done
cp --sparse=always "$net_folder/1/disk" "$net_folder/2/disk"
dd if="$net_folder/1/disk" of="$net_folder/fat" bs=512 skip=2048 count="$fat_sectors" status=none
mcopy -o -i "$net_folder/fat" "$net_folder/2/start4.elf" "$net_folder/2/fixup4.dat" :: || fail "mcopy"
dd if="$net_folder/fat" of="$net_folder/2/disk" bs=512 seek=2048 conv=notrunc status=none
rm "$net_folder/fat"
url=$(ctl url "$node") || fail "url"
becomes() { # 1|2
	net_run v server qemu-img convert -n -f raw -O raw "$net_folder/$1/disk" "$url" 2>>"$net_folder/qemu.log" || return
}

asks() { net_run v other python3 "$here/dhcp_board.py" eth0 eeprom 1 | grep ' boot' >/dev/null; }
get() { net_run v other curl -sf --max-time 20 "tftp://10.77.0.2/$1" -o "$net_folder/$1"; }
loaded() { get lunroot.img || fail "no settings"; } # it has all: who asks after that boots anew
version() { # FILE: 1, 2, or neither
	local i
	for i in 1 2; do cmp -s "$net_folder/$1" "$net_folder/$i/$1" && echo $i && return; done
	echo neither
}

await "the Pi is not offered its boot" asks
get start4.elf && [ "$(version start4.elf)" = 1 ] || fail "the first file"
becomes 2 || fail "the disk can't be written"
get fixup4.dat || fail "no second file"
[ "$(version fixup4.dat)" = 1 ] || fail "the boot goes on with files of another moment"
loaded
echo "ok: a boot that has begun keeps its files"
sleep 4 # else it is the same question once more
await "the Pi is not offered its next boot" asks
get start4.elf && get fixup4.dat || fail "the next boot has no files"
[ "$(version start4.elf) $(version fixup4.dat)" = "2 2" ] || fail "the next boot has the old files"
loaded
echo "ok: the next one has those that were written"

# Boots that begin while the disk is written.
seen=()
(
	while [ ! -e "$net_folder/enough" ]; do
		for i in 1 2; do
			becomes $i || exit 1
			sleep 0.$((1 + RANDOM % 4))
		done
	done
) &
writer=$!
rounds=4
[ "${LUNROOT_CHECK:-full}" != long ] || rounds=40
for ((round = 0; round < rounds; round++)); do
	sleep 3.$((RANDOM % 10))
	await "the Pi is not offered its boot" asks
	get start4.elf && get fixup4.dat || fail "no files"
	loaded
	both="$(version start4.elf) $(version fixup4.dat)"
	[ "$both" = "1 1" ] || [ "$both" = "2 2" ] || fail "files of two moments: $both"
	seen+=("${both% *}")
done
touch "$net_folder/enough"
wait $writer || fail "the disk could not be written"
echo "ok: $rounds boots begun while the disk was written: versions ${seen[*]}"
