#!/bin/bash
# Cuts the power of a machine that runs lunrootd, and looks what its disk holds.
#
# A machine (machine.sh) serves two nodes from a state directory on ext4 (then xfs, btrfs). Clients outside write,
# discard and flush; meanwhile nodes, snapshots and images are made, renamed, changed and removed. QEMU records the machine's disk
# writes (write_log.py). Then the power goes for real: kill -9 of QEMU. After that:
#
#  - the machine is switched on again with the disk that it had;
#  - the log is replayed to many other cuts, at flushes and between them, where what was not flushed is there in
#    parts, and lunrootd is started here on what that disk holds.
#
# Each time: the file system is clean after its own recovery; every flush that was acknowledged is there, every block is
# that or one of what was written later (journal.h); the catalogue is that of the last operation acknowledged or the
# next; every image is whole; snapshots, and images made of a node, have all that was flushed before they were taken; a new
# clone can be made.
#
# Why a cut at position X of the log must show what was acknowledged by then: a client reads the log's length L after
# it received an acknowledgement. The target had acknowledged after its fdatasync, that after the disk's
# flush was completed to the guest, and QEMU completes a flush after its entry, and those of all writes
# completed before it, are in the log. So they lie before L, and any cut at X >= L has that flush behind it.
# lunctl's operations run one after the other; the next begins after L of the one before was read, so at most one is uncertain.
#
# usage: machine_cuts.sh [RECORDINGS [CUTS]]    CUTS of each recording; there is one for each file system
#        machine_cuts.sh --again FOLDER SEED    one cut of a recording that was kept because something was lost
# environment: LUNROOT_BUILD, SEED, FS ("ext4 xfs"), LOAD_S, LIE=--lie (write_log.py), IN_MACHINE
#
# Without root, or with IN_MACHINE, the machine itself is switched on with each cut, which takes longer.

# In a name space of its own nobody else's can hold what is mounted here.
if [ -z "${MACHINE_CUTS_UNSHARED:-}${IN_MACHINE:-}" ] && unshare --mount true 2>/dev/null; then
	MACHINE_CUTS_UNSHARED=yes exec unshare --mount "$0" "$@"
fi
. "$(dirname "$0")/machine.sh"

again=
if [ "${1:-}" = --again ]; then
	again=$2 again_seed=$3
	set --
fi
recordings=${1:-$(by_mode 1 1 8)}
cuts=${2:-$(by_mode 5 14 30)}
client=${VERIFY_CLIENT:-$LUNROOT_BUILD/tests/crash/verify_client}
[ -x "$client" ] || skip "no $client"
write_log=$(dirname "$0")/write_log.py
seed=${SEED:-$$}
RANDOM=$seed
read -ra file_systems <<<"${FS:-ext4 xfs}"
tried=0 lost=0

# What happens while the nodes write: stories, each beginning anywhere in the time, of lines
# COMMAND|words that leave the catalogue|words that come. # is the turn; "kill": lunrootd is killed and started again, and a
# flush has to cover what was acknowledged before.
stories=(
	"clone base c# --no-auth||node:c#
	rename c# d#|node:c#|node:d#
	snapshot d# x#||snapshot:d#@x#
	resize d# 16M||size:d#=16777216
	rollback d# x#|size:d#=16777216|
	rm d#@x#|snapshot:d#@x#|
	reset d#||
	rm d#|node:d#|trash:d#"

	"import /programs/base.img i# --force||image:i#
	rename i# j#|image:i#|image:j#
	clone j# e# --no-auth||node:e#
	flatten e#||flat:e#
	rm e#|node:e# flat:e#|trash:e#
	undo e#|trash:e#|node:e# flat:e#
	rm e# --now|node:e# flat:e#|"

	"import /programs/base.img j# --force||image:j#
	rm j#|image:j#|trash:j#
	undo j#|trash:j#|image:j#
	rm j#|image:j#|trash:j#
	rm j# --trash|trash:j#|
	import /programs/base.img j# --force||image:j#
	rm j# --now|image:j#|"

	"snapshot a s#||snapshot:a@s#
	promote a p#||image:p#
	rm a@s#|snapshot:a@s#|
	kill||
	rm p# --now|image:p#|"

	"snapshot b t#||snapshot:b@t#
	create k# --size 4M||image:k#
	rm k# --now|image:k#|
	kill||"
)

position() { stat -c %s "$machine_dir/log"; }

# The catalogue as words, from lunctl's two lists, in JSON, on standard input.
catalogue() {
	python3 -c '
import json, sys
text = sys.stdin.read()
top, end = json.JSONDecoder().raw_decode(text)
words = ["image:" + image["name"] for image in top["images"]]
words += ["trash:" + item["name"] for item in json.loads(text[end:])["trash"]]
for node in top["nodes"]:
    name, size = node["name"], node["luns"][0]["size_bytes"]
    words.append("node:" + name)
    words += [f"snapshot:{name}@" + snapshot["name"] for snapshot in node["snapshots"]]
    words += [f"size:{name}={size}"] * (size != int(sys.argv[1]))
    words += [f"flat:{name}"] * node["flat"]
print(*sorted(words))' "$machine_base_bytes"
}

# --- recording ---

# One operation in the machine; notes what the catalogue must be then, and the position: $machine_dir/operations. And
# from which position on nothing needs to be in what was made: $machine_dir/taken.
operate() { # COMMAND GONE COME
	local words
	[ -z "$3" ] || printf '%s %s\n' "$3" "$(position)" >>"$machine_dir/taken"
	case $1 in
	kill) machine_do 'killall -9 lunrootd; start' ;;
	*) machine_do "ctl $1 >/dev/null" ;;
	esac || machine_fail "$1: status $?"
	# shellcheck disable=SC2086
	words=$(printf '%s\n' $catalogue_now $3 | grep -vxF "$(printf '%s\n' ${2:-nothing})" | sort | xargs)
	catalogue_now=$words
	printf '%s %s\n' "$(position)" "$words" >>"$machine_dir/operations"
}

record() {
	local node pids='' turn=0 line end
	machine_fresh
	machine_start "$machine_dir/log"
	echo "0" >"$machine_dir/operations"
	catalogue_now=
	operate "import /programs/base.img base --force" "" image:base
	for node in a b; do
		operate "clone base $node --no-auth" "" node:$node
		"$client" run --url "$(machine_url $node)" --record "$machine_dir/$node.record" --seconds 600 \
			--journal "$machine_dir/$node.journal" --log "$machine_dir/log" --depth $((1 + RANDOM % 12)) \
			--flush-percent $((1 + RANDOM % 12)) --discard-percent $((RANDOM % 8)) --fua-percent $((RANDOM % 8)) \
			--reconnect --seed $RANDOM >>"$daemon_dir/client.log" 2>&1 &
		pids+=" $!"
	done
	position >"$machine_dir/load_begin"
	end=$((SECONDS + ${LOAD_S:-$(by_mode 6 14 30)}))
	while [ $SECONDS -lt $end ]; do
		turn=$((turn + 1))
		while read -r line; do
			IFS='|' read -r command gone come <<<"$line"
			operate "$command" "$gone" "$come"
			sleep 0.$((RANDOM % 4))
			[ $SECONDS -lt $end ] || break
		done <<<"${stories[RANDOM % ${#stories[@]}]//#/$turn}"
	done
	for pid in $pids; do kill -0 "$pid" || fail "a client ended before the power did: $(tail "$daemon_dir/client.log")"; done
	machine_cut
	# shellcheck disable=SC2086
	kill -KILL $pids # or they would wait for it to come back
	for pid in $pids; do
		wait "$pid" 2>/dev/null
		[ $? -ne 1 ] || fail "a client saw an error: $(tail "$daemon_dir/client.log")"
	done
}

# --- judging ---

# The recording is kept, and how to have the cut again is said.
lose() {
	local keep
	say "LOST: $machine_fs, cut at $cut: $*"
	cut_lost=1
	[ -z "$again" ] || return
	keep=$LUNROOT_BUILD/tests/crash/lost-$seed-$recording-$machine_fs
	[ -e "$keep" ] || {
		mkdir "$keep" && echo "$machine_fs" >"$keep/fs"
		cp --sparse=always "$machine_dir"/{empty.img,base.img,log,operations,taken,load_begin,*.journal} "$keep"
	}
	say "again: $0 --again $keep $cut_seed"
}

# The catalogue of the last operation acknowledged by the position, or that of the next.
judge_catalogue() { # POSITION WORDS
	local allowed
	allowed=$(awk -v x="$1" '
		{ at = $1; sub(/^[0-9]+ ?/, "") }
		at <= x + 0 { now = $0; next_one = $0; want = 1; next }
		want { next_one = $0; want = 0 }
		END { print now; print next_one }' "$machine_dir/operations")
	grep -qxF -e "$2" <<<"$allowed" || lose "the catalogue has: $2; allowed: $(tr '\n' ';' <<<"$allowed")"
}

# Every node, by the journal it has; those without one are clones that nobody wrote to.
judge_nodes() { # POSITION TORN WORDS URL-FUNCTION
	local word node journal
	for word in $3; do
		case $word in node:*) node=${word#node:} ;; *) continue ;; esac
		journal=$machine_dir/$node.journal
		if [ -e "$journal" ]; then
			"$client" verify --url "$("$4" "$node")" --journal "$journal" --cut "$1" ${2:+--torn}
		else # it may be larger, with zeros at the end
			qemu-img compare -f raw -F raw "$machine_dir/base.img" "$("$4" "$node")"
		fi >"$daemon_dir/verify" 2>&1 || {
			cat "$daemon_dir/verify"
			lose "node $node"
		}
	done
}

judge_images() { # FOLDER
	local image
	for image in "$1"/*.img; do
		case $image in
		*/[kp]*.img | */\*.img) ;; # not of the base
		*) cmp "$image" "$machine_dir/base.img" || lose "image ${image##*/}" ;;
		esac
	done
}

# What was taken of a node while it wrote, a snapshot or an image: all that had been flushed before is in it.
judge_taken() { # WORDS
	local word file at node
	for word in $1; do
		at=$(awk -v word="$word" '$1 == word { print $2 }' "$machine_dir/taken")
		case $word in
		image:p*)
			node=a file=$daemon_dir/state/images/${word#image:}.img
			;;
		snapshot:[ab]@*)
			node=${word#snapshot:} node=${node%@*} file=$daemon_dir/taken.img
			rm -f "$file"
			ctl export "$node" "$file" --snapshot "${word#*@}" >/dev/null || lose "export of $word"
			;;
		*) continue ;;
		esac
		"$client" verify --file "$file" --journal "$machine_dir/$node.journal" --cut "$at" >"$daemon_dir/verify" 2>&1 || {
			cat "$daemon_dir/verify"
			lose "$word"
		}
	done
}

judge_file_system() { # IMAGE
	case $machine_fs in
	ext4) e2fsck -fn "$1" ;;
	xfs) xfs_repair -n "$1" ;;
	btrfs) btrfs check --force "$1" ;;
	esac >"$daemon_dir/fsck" 2>&1 || {
		cat "$daemon_dir/fsck"
		lose "the file system"
	}
}

host_url() { ctl url "$1"; }

judge_here() { # IMAGE POSITION TORN
	local words
	mount -o "loop$([ "$machine_fs" != xfs ] || echo ,nouuid)" "$1" "$daemon_dir/mount" || {
		lose "it can't be mounted"
		return
	}
	machine_mounted=$daemon_dir/mount
	mkdir -p "$daemon_dir/mount/lunroot"
	rm -rf "$daemon_dir/run"
	mkdir "$daemon_dir/run"
	daemon_try || {
		tail -n 5 "$daemon_dir/log"
		lose "lunrootd does not come up"
		umount "$machine_mounted"
		machine_mounted=
		return
	}
	words=$({ ctl --json ls && ctl --json ls --trash; } | catalogue)
	judge_catalogue "$2" "$words"
	judge_nodes "$2" "${3:-}" "$words" host_url
	judge_images "$daemon_dir/state/images"
	judge_taken "$words"
	[[ " $words " != *" image:base "* ]] || ctl clone base after >/dev/null || lose "no new clone can be made"
	daemon_kill TERM || lose "SIGTERM ended it with status $?"
	daemon_log_is_clean || lose "the log tells of a bug"
	umount "$machine_mounted"
	machine_mounted=
	judge_file_system "$1"
}

judge_in_machine() { # POSITION TORN     with the machine's own disk
	local words
	machine_start
	machine_do 'ctl --json ls && ctl --json ls --trash' || machine_fail "lunctl ls"
	words=$(catalogue <<<"$machine_said")
	judge_catalogue "$1" "$words"
	judge_nodes "$1" "${2:-}" "$words" machine_url
	machine_do 'for i in /state/lunroot/images/[!kp]*.img; do [ ! -e "$i" ] || cmp "$i" /programs/base.img || exit_status=1; done; [ -z "$exit_status" ]' ||
		lose "images: $machine_said"
	machine_stop
	judge_file_system "$machine_dir/disk.img"
}

replay() { # SEED
	local from torn='' at kind rest
	cut_seed=$1 cut_lost=0 from=$(cat "$machine_dir/load_begin")
	[ $((cut_seed % 8)) -ne 0 ] || from=0 # before there was anything, too
	# shellcheck disable=SC2086
	cut=$("$write_log" cut "$machine_dir/empty.img" "$machine_dir/log" "$daemon_dir/cut.img" --seed "$cut_seed" \
		--from "$from" ${LIE:-}) || fail "write_log.py"
	read -r at kind rest <<<"$cut"
	[ "$kind" != torn ] || torn=torn
	if [ -n "$may_mount" ]; then
		judge_here "$daemon_dir/cut.img" "$at" $torn
	else
		mv "$daemon_dir/cut.img" "$machine_dir/disk.img"
		judge_in_machine "$at" $torn
	fi
	count "$kind"
}

# The disk that QEMU left: what was under way is lost with it.
switch_on_again() {
	cut_seed=none cut="the real end" cut_lost=0
	judge_in_machine "$(position)" ""
	count real
}

count() { # KIND
	tried=$((tried + 1)) lost=$((lost + cut_lost))
	kinds[$1]=$((${kinds[$1]:-0} + 1))
}

# lunrootd's state directory here is that on the cut's disk.
begin_here() {
	rmdir "$daemon_dir/state"
	ln -s "$daemon_dir/mount/lunroot" "$daemon_dir/state"
	mkdir "$daemon_dir/mount"
	may_mount=
	[ -n "${MACHINE_CUTS_UNSHARED:-}" ] && mount -o loop "$machine_dir/empty.img" "$daemon_dir/mount" 2>/dev/null || return
	umount "$daemon_dir/mount"
	may_mount=yes
}

declare -A kinds

if [ -n "$again" ]; then
	daemon_begin
	trap machine_cleanup EXIT
	machine_dir=$again machine_fs=$(cat "$again/fs")
	begin_here
	[ -n "$may_mount" ] || skip "this needs root"
	replay "$again_seed"
	say "cut at $cut"
	exit "$cut_lost"
fi

say "machine_cuts: seed $seed, $recordings recordings of each of: ${file_systems[*]}; $cuts cuts of each"
for ((recording = 0; recording < recordings; recording++)); do
	for fs in "${file_systems[@]}"; do
		machine_begin "$fs"
		begin_here
		record
		say "$fs, recording $recording: $("$write_log" size "$machine_dir/log"), $(wc -l <"$machine_dir/operations") operations, $(
			grep -h '^a' "$machine_dir"/*.journal | wc -l) writes and flushes of clients acknowledged"
		switch_on_again
		for ((i = 0; i < cuts; i++)); do replay $((seed * 1000 + recording * 100 + i)); done
		machine_cleanup
	done
done
for kind in "${!kinds[@]}"; do say "  ${kinds[$kind]} $kind"; done
say "machine_cuts: $tried power cuts tried, $lost lost"
[ $lost -eq 0 ]
