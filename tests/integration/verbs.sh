#!/bin/bash
# lunctl's verbs against the real daemon: what they make, print, refuse, and with which exit code;
# tables for people, JSON for programs, data on standard output and talk on standard error.
. "$(dirname "$0")/lib.sh"
need mke2fs qemu-img python3

daemon_begin
daemon_start
make_ext4 "$daemon_dir/base.img" 64M
cd "$daemon_dir" || fail "cd"

# --- usage ---
expect "help" 0 'usage: lunctl' 'import' 'clone' 'stats' -- "$lunctl" --help
for verb in import create clone ls show url stats rename rm undo check jobs snapshot rollback reset resize promote flatten export assign auth; do
	expect "help of $verb" 0 "usage: lunctl $verb" -- "$lunctl" $verb --help
done
expect "version" 0 'lunctl [0-9]' -- "$lunctl" --version
expect "nothing at all" 2 'usage: lunctl' -- "$lunctl"
expect "a verb that is none" 2 'snap: no such verb' -- "$lunctl" snap
expect_ctl "an operand too few" 2 'usage: lunctl clone' -- clone base
expect_ctl "an operand too many" 2 -- clone base a b
expect_ctl "a size that is none" 2 '512M' -- create x --size 12Q
expect_ctl "a size too large" 2 -- create x --size 9999999999T
expect_ctl "a name that is none" 1 'Bad_Name' -- import base.img Bad_Name
expect_ctl "ls of nothing" 0 'IMAGE' 'NODE' 'lunctl import' -- ls

# --- import, in every packing; the file is named from here ---
expect_ctl "import" 0 'image base: ext4 "root"' 'next: lunctl clone base' -- import base.img base
for packer in gzip xz zstd bzip2; do
	command -v $packer >/dev/null || { say "($packer is not installed)"; continue; }
	$packer -c base.img >packed || fail "$packer"
	expect_ctl "import of $packer" 0 "image by-$packer: ext4" -- import packed by-$packer
	cmp base.img "state/images/by-$packer.img" || fail "$packer: not what was packed"
done
# A disk with a partition table.
truncate -s 48M disk.img
if command -v sfdisk >/dev/null; then
	printf 'label: dos\n2048,32768,c\n34816,,83\n' | sfdisk -q disk.img || fail "sfdisk"
	expect_ctl "import of a partitioned disk" 0 'image disk: (dos|mbr)' -- import disk.img disk
fi
[ "$(stat -c %a state/images/base.img)" = 440 ] || [ "$(stat -c %a state/images/base.img)" = 444 ] ||
	fail "the image can be written: $(stat -c %a state/images/base.img)"
blocks() { echo $(($(stat -c %b "$1") * $(stat -c %B "$1"))); }
[ "$(blocks state/images/base.img)" -lt $((16 << 20)) ] || fail "the image is not sparse"

# --- create ---
expect_ctl "create" 0 'image empty' -- create empty --size 64M
expect_ctl "create --ext4" 0 'image data: ext4' -- create data --size 128M --ext4
e2fsck -fn state/images/data.img >/dev/null 2>&1 || fail "e2fsck of what create --ext4 made"
expect_ctl "create without a size" 2 '--size' -- create huge

# --- clone ---
expect_ctl "clone" 0 'node pi-01: iqn.2026-11.local.lunroot:pi-01' 'next: ' -- clone base pi-01
expect_ctl "clone with all options" 0 -- clone base pi-02 --serial 10000000abcdef01 --mac DC-A6-32-01-02-03 \
	--size 96M --data 32M --hostname kitchen --shared --removable --durability scratch
expect_ctl "show tells them" 0 'dc:a6:32:01:02:03' 'kitchen' 'scratch: flushes do nothing' '10000000abcdef01' 'several' 'removable' \
	'96\.0 MiB' '32\.0 MiB' -- show pi-02
expect_ctl "strict if nothing is said" 0 'durability +strict: what the node flushes survives' -- show pi-01
expect_ctl "a node of that name" 1 'pi-01' 'cure:' -- clone base pi-01
expect_ctl "an image that is not there" 1 'nothing' 'cure:' -- clone nothing pi-03
expect_ctl "smaller than its image" 1 'small' -- clone base pi-03 --size 32M
expect_ctl "a MAC that is none" 1 'mac' -- clone base pi-03 --mac hello
expect_ctl "a durability that is none" 1 'durability' -- clone base pi-03 --durability maybe

# --- url, JSON ---
[ "$(ctl url pi-01 2>/dev/null | wc -l)" = 1 ] || fail "url prints more than a line"
[[ $(url pi-01) == iscsi://*%*@"$daemon_portal"/iqn.2026-11.local.lunroot:pi-01/0 ]] || fail "url: $(url pi-01)"
[[ $(url pi-02 1) == */1 ]] || fail "url of LUN 1: $(url pi-02 1)"
expect_ctl "url of a LUN that is not there" 1 -- url pi-01 1
expect_ctl "url of a node that is not there" 1 'pi-09' 'cure:' -- url pi-09
for call in ls jobs "show pi-01" "show base" "url pi-01" stats "show pi-01 --secrets" "rm --dry-run pi-01" "clone base pi-03"; do
	# shellcheck disable=SC2086
	ctl --json $call 2>said | python3 -c 'import json, sys; assert isinstance(json.load(sys.stdin), dict)' ||
		fail "--json $call: no JSON object"
	[ ! -s said ] || fail "--json $call talks: $(cat said)"
done
ctl show pi-01 2>/dev/null | grep -q secret && fail "show tells secrets without being asked"
ctl --json show pi-01 | grep -q '"secret"' && fail "show --json tells secrets without being asked"
ctl show pi-01 --secrets 2>/dev/null | grep -Eq '^secret +.{12}' || fail "show --secrets tells none"
ctl --json clone base pi-01 >out 2>/dev/null && fail "it takes a name twice"
[ "$(member error.code <out)" = exists ] || fail "--json of an error: $(cat out)"

# --- rename, rm ---
expect_ctl "rename a node" 0 'pi-03 is now pi-04' -- rename pi-03 pi-04
expect_ctl "rename to a name that is taken" 1 'pi-01' -- rename pi-04 pi-01
expect_ctl "rename an image" 0 'empty is now void' -- rename empty void
ctl clone void void >/dev/null 2>&1 || fail "a node may have an image's name"
expect_ctl "which one?" 1 '--node or --image' -- show void
expect_ctl "the node" 0 '^target' -- show --node void
expect_ctl "an image that others need" 1 'pi-01' 'pi-02' 'cure:' -- rm base
expect_ctl "a dry run" 0 'would remove node pi-04' 'would keep .* in the trash for 7 days' -- rm --dry-run pi-04
expect_ctl "a dry run of --now" 0 'would remove node pi-04' 'would remove .*[.]cow' 'would free' 'lunctl rm --now pi-04' -- rm --dry-run --now pi-04
expect_ctl "it is still there" 0 '^node *pi-04' -- show pi-04
layer=state/layers/$(ctl --json show pi-04 | member luns.0.uuid).cow
[ -f "$layer" ] || fail "no $layer"
expect_ctl "nothing in the trash" 0 'NAME +KIND' -- ls --trash
expect_ctl "rm" 0 'removed node pi-04' 'kept .* in the trash for 7 days' 'next: lunctl undo pi-04' -- rm pi-04
[ ! -e "$layer" ] || fail "the removed node's layer is where it was"
expect_ctl "rm again" 1 'pi-04' 'cure:' -- rm pi-04
expect_ctl "ls does not show it" 0 -- ls
! grep -q pi-04 output || fail "ls shows what was removed"
expect_ctl "ls --trash does" 0 '^pi-04 +node +64[.]0 MiB .* [67] days' -- ls --trash
[ "$(ctl --json ls --trash | member trash.0.kind)" = node ] || fail "--json ls --trash"
expect_ctl "undo" 0 'node pi-04 is back' 'next: lunctl show pi-04' -- undo pi-04
[ -f "$layer" ] || fail "undo did not bring $layer back"
expect_ctl "undo of nothing" 1 'nothing named pi-04 is in the trash' 'cure: .*ls --trash' -- undo pi-04
expect_ctl "rm --now" 0 'removed node pi-04' 'freed' -- rm --now pi-04
[ ! -e "$layer" ] || fail "rm --now left the layer behind"
expect_ctl "rm of a node with an image's name" 0 'removed node void' -- rm --node void
expect_ctl "rm --now of an image that trash needs" 1 '1 node in the trash' 'cure:' -- rm --now void
expect_ctl "rm of the image" 0 'removed image void' 'kept' -- rm void
expect_ctl "undo of which one?" 1 '--node or --image' -- undo void
expect_ctl "undo of a node without its image" 1 'void, is in the trash too' 'cure:' -- undo --node void
expect_ctl "undo of the image, with another name" 0 'image emptiness is back' -- undo --image void emptiness
expect_ctl "undo of the node" 0 'node void is back' -- undo void
expect_ctl "it stands on its image" 0 '^base +emptiness' -- show void
ctl rm void >/dev/null && ctl rm emptiness >/dev/null || fail "rm"
expect_ctl "rm --trash, as a dry run" 0 'would remove node void' 'would remove .*/[.]trash-.*[.]cow' -- rm --trash --dry-run void
expect_ctl "rm --trash" 0 'removed node void' 'freed' -- rm --trash void
expect_ctl "rm --trash of the image" 0 'removed image emptiness' -- rm --trash emptiness
! find state/images state/layers -name '*void*' -o -name '*empt*' -o -name '.*' -type f | grep . || fail "something is left behind"
expect "the target is gone" '!0' -- qemu-img info "iscsi://$daemon_portal/iqn.2026-11.local.lunroot:pi-04/0"

# --- Ctrl-C cancels the job, and nothing stays behind ---
head -c 400M /dev/urandom >big.img
mke2fs -q -t ext4 -E nodiscard -F big.img >/dev/null || fail "mke2fs"
# A shell without job control starts its background with SIGINT ignored; TERM cancels as well.
"$lunctl" --socket run/control.sock import big.img big >out 2>&1 &
importer=$!
for _ in $(seq 500); do
	ls -A state/images | grep -q new && break
	kill -0 $importer 2>/dev/null || break
	sleep 0.01
done
kill -TERM $importer 2>/dev/null
wait $importer
status=$?
if [ $status -eq 0 ]; then
	say "(the import was faster than its cancelling)"
else
	[ $status -eq 1 ] || fail "a cancelled import ends with status $status: $(cat out)"
	grep -q 'cancelled' out || fail "it does not say that it was cancelled: $(cat out)"
	ctl show big >/dev/null 2>&1 && fail "a cancelled import left an image"
	ls state/images | grep -q '^big' && fail "a cancelled import left files: $(ls state/images)"
	say "ok: a cancelled import leaves nothing behind"
fi
cd / && daemon_ends_well
