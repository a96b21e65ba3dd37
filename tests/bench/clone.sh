#!/bin/bash
# How long `lunctl clone` takes, from the start of its process to its end, over an image of 1 MiB
# and over a sparse one of 1 TiB; and what an empty process costs here. Judges nothing.
#
# usage: clone.sh [CLONES]     of each (default 30)    environment: LUNROOT_BUILD
. "$(dirname "$0")/../hostile/daemon.sh"

clones=${1:-30}

quantiles() { # microseconds on standard input: median and 95th percentile in ms
	sort -n | awk '{ v[NR] = $1 } END { printf "%.1f ms median, %.1f ms 95th percentile\n",
		v[int((NR + 1) / 2)] / 1000, v[int(NR * 0.95 + 0.5)] / 1000 }'
}

# One command's time in microseconds.
timed() {
	local begin=${EPOCHREALTIME/[.,]/}
	"$@" >/dev/null || fail "$*"
	echo $((${EPOCHREALTIME/[.,]/} - begin))
}

daemon_begin
daemon_start
truncate -s 1M "$daemon_dir/small.img"
# 1 TiB of holes behind a small file system: hashing it must not take an hour either.
truncate -s 1T "$daemon_dir/large.img"
begin=$SECONDS
ctl import "$daemon_dir/small.img" small --force >/dev/null || fail "import small"
ctl import "$daemon_dir/large.img" large --force >/dev/null || fail "import large"
say "both imports: $((SECONDS - begin)) s"
for base in small large; do
	for ((i = 0; i < clones; i++)); do
		timed ctl clone $base $base-$i
	done >"$daemon_dir/$base.times"
	printf 'clone over %-6s %s' $base: "$(quantiles <"$daemon_dir/$base.times")"
	echo
done
for ((i = 0; i < clones; i++)); do
	timed /bin/true
done | { printf 'an empty process: '; quantiles; }
