#!/bin/bash
# Kills lunrootd while a node's disks are snapshotted, merged, promoted, flattened and rolled back
# under a verifying client's writes, ROUNDS times (default 10), with and without the loss of what
# dies with the power. After each death: every acknowledged write of the client is there (each
# flushed one, if the power went), every snapshot that was acknowledged holds what it held, none
# that was removed is back, and no file is left over.
#
# usage: life_kill9.sh [ROUNDS]     environment: LUNROOT_BUILD, SEED (of the moments)
. "$(dirname "$0")/../hostile/daemon.sh"

rounds=${1:-$(by_mode 3 10 200)}
client=${VERIFY_CLIENT:-$LUNROOT_BUILD/tests/crash/verify_client}
[ -x "$client" ] || skip "no $client"
RANDOM=${SEED:-$$}
say "life_kill9: seed ${SEED:-$$}, $rounds rounds"

sum() { # [SNAPSHOT]
	ctl export "$node" - ${1:+--snapshot "$1"} | md5sum
	[ "${PIPESTATUS[0]}" = 0 ] || fail "round $round: export of $node $*"
}
names() { ctl --json show "$node" | python3 -c 'import json, sys; print(*[s["name"] for s in json.load(sys.stdin)["snapshots"]])'; }

# What a person might do, again and again, as fast as it goes; each thing that was acknowledged is
# noted before the next begins. A snapshot's sum is taken at once: it can't change any more.
live() {
	local i=0 s
	while :; do
		# A disk has room for 32 layers; some are left for what looks at it afterwards.
		if [ $(($(grep -c ^made "$notes") - $(grep -c ^removed "$notes"))) -ge 16 ]; then
			s=$(awk '$1 == "removing" { gone[$2] } $1 == "made" { made[n++] = $2 }
				END { for (i = 0; i < n; i++) if (!(made[i] in gone)) { print made[i]; exit } }' "$notes")
			printf 'removing %s\n' "$s" >>"$notes"
			ctl rm "$node@$s" >/dev/null 2>&1 || return
			printf 'removed %s\n' "$s" >>"$notes"
			continue
		fi
		i=$((i + 1))
		s=s$i
		printf 'try %s\n' "$s" >>"$notes"
		ctl snapshot "$node" "$s" >/dev/null 2>&1 || return
		printf 'made %s\n' "$s" >>"$notes"
		if [ $((RANDOM % 3)) = 0 ]; then
			s="s$((1 + RANDOM % i))"
			grep -q "removing $s\$" "$notes" && continue
			printf 'removing %s\n' "$s" >>"$notes"
			ctl rm "$node@$s" >/dev/null 2>&1 || return
			printf 'removed %s\n' "$s" >>"$notes"
		elif [ $((RANDOM % 4)) = 0 ]; then
			ctl export "$node" - --snapshot "$s" 2>/dev/null >"$daemon_dir/export" || return
			printf 'sum %s %s\n' "$s" "$(md5sum <"$daemon_dir/export")" >>"$notes"
		elif [ $((RANDOM % 6)) = 0 ]; then
			ctl promote "$node" "gold$round-$i" >/dev/null 2>&1 || return
		fi
	done
}

check_notes() {
	local s what rest have
	have=" $(names) "
	while read -r what s rest; do
		case $what in
		made)
			grep -q "^removing $s\$" "$notes" && continue
			[[ $have == *" $s "* ]] || fail "round $round: snapshot $s is lost: $have"
			;;
		removed) [[ $have != *" $s "* ]] || fail "round $round: snapshot $s is back: $have" ;;
		sum)
			[[ $have == *" $s "* ]] || continue
			[ "$(sum "$s")" = "$rest" ] || fail "round $round: snapshot $s holds something else"
			;;
		esac
	done <"$notes"
}

check_files() {
	local _ wanted
	for _ in $(seq 300); do # merges go on
		wanted=$(ctl --json ls | python3 -c 'import json, sys; print(sum(l["layers"] for n in json.load(sys.stdin)["nodes"] for l in n["luns"]))')
		[ "$(ls -A "$daemon_dir/state/layers" | wc -l)" = "$wanted" ] && return
		sleep 0.1
	done
	fail "round $round: $wanted layers, but files: $(ls -A "$daemon_dir/state/layers")"
}

die() { # whether the power goes with it
	daemon_kill KILL
	if [ "$1" = power ]; then
		rm -rf "${daemon_dir:?}/run"
		mkdir "$daemon_dir/run"
	fi
}

daemon_begin
"$client" fill "$daemon_dir/base.img" $((16 << 20)) || fail "fill"
daemon_start --merge-rate 20M
ctl import "$daemon_dir/base.img" base --force >/dev/null || fail "import"
notes=$daemon_dir/notes
kinds=(process power process)

for ((round = 1; round <= rounds; round++)); do
	kind=${kinds[round % ${#kinds[@]}]}
	node=n$round
	: >"$notes"
	ctl clone base "$node" >/dev/null || fail "clone"
	url=$(ctl url "$node") || fail "url"
	"$client" run --url "$url" --record "$daemon_dir/$node.record" --seconds 60 \
		--depth $((1 + RANDOM % 20)) --flush-percent $((RANDOM % 20)) --discard-percent 5 --seed "$RANDOM" \
		>>"$daemon_dir/client.log" 2>&1 &
	writer=$!
	live 2>>"$daemon_dir/live.log" &
	living=$!
	sleep "$((RANDOM % 2)).$((100 + RANDOM % 899))"
	daemon_alive || fail "round $round: it died by itself"
	die "$kind"
	wait "$writer"
	status=$?
	[ $status -eq 7 ] || { tail -n 20 "$daemon_dir/client.log" >&2; fail "round $round: the client ended with status $status"; }
	wait "$living"
	daemon_start --merge-rate 0
	if [ "$kind" = power ]; then
		"$client" verify --url "$(ctl url "$node")" --record "$daemon_dir/$node.record" --power-loss
	else
		"$client" verify --url "$(ctl url "$node")" --record "$daemon_dir/$node.record"
	fi || fail "round $round ($kind): the node lost data"
	check_notes
	check_files

	# Back to a snapshot, or on its own feet: before or after, nothing between.
	before=$(sum) old=$(names) && old=${old%% *}
	if [ -n "$old" ] && [ $((round % 2)) = 1 ]; then
		what="rollback $node $old --force" after=$(sum "$old")
	else
		for s in $(names); do ctl rm "$node@$s" >/dev/null || fail "rm"; done
		what="flatten $node" after=$before
	fi
	# shellcheck disable=SC2086
	ctl $what >/dev/null 2>&1 &
	living=$!
	sleep "0.$(printf %03d $((RANDOM % 60)))"
	die "$kind"
	wait $living
	daemon_start --merge-rate 0
	now=$(sum)
	[ "$now" = "$before" ] || [ "$now" = "$after" ] || fail "round $round: $what left neither the old state nor the new one"
	check_files
	say "round $round ($kind, $(grep -c ^made "$notes") snapshots, $(grep -c ^removed "$notes") removed, $what): good"
	ctl rm --now "$node" >/dev/null || fail "rm $node"
done
daemon_kill TERM || fail "SIGTERM ended it with status $?"
daemon_log_is_clean || fail "the log tells of a bug"
say "life_kill9: $((2 * rounds)) deaths, nothing that was acknowledged is lost"
