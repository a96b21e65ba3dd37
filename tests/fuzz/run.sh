#!/bin/bash
# Runs the libFuzzer targets of a build directory, each for some seconds from its seeds.
#
# usage: run.sh BUILD [SECONDS [NAME-PART]]     default 10 s, all targets
# Exit status: 0 nothing found, 1 something found, 77 no targets built.
set -u

here=$(cd "$(dirname "$0")" && pwd)
build=${1:?usage: run.sh BUILD [SECONDS [NAME-PART]]}
seconds=${2:-10}
part=${3:-}
findings=$build/fuzz-findings
work=$(mktemp -d /dev/shm/lunroot-fuzz.XXXXXX)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

while IFS= read -r target; do
	name=$(basename "$target")
	case $name in *"$part"*) ;; *) continue ;; esac
	mkdir -p "$work/$name" "$findings"
	[ -d "$here/corpus/$name" ] && cp -r "$here/corpus/$name/." "$work/$name/"
	printf '%-28s ' "$name"
	if "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
		-artifact_prefix="$findings/$name-" "$work/$name" >"$work/log" 2>&1; then
		awk '/stat::number_of_executed_units/ { n = $2 } /cov:/ { for (i = 1; i < NF; i++)
			if ($i == "cov:") c = $(i + 1) } END { printf "good, %d runs, coverage %d\n", n, c }' \
			"$work/log"
		passed=$((passed + 1))
	else
		echo FAILED
		tail -n 40 "$work/log"
		printf 'repeat: %s %s\n' "$target" "$(ls -t "$findings/$name-"* 2>/dev/null | head -1)"
		failed=$((failed + 1))
	fi
done < <(find "$build/target" "$build/initramfs" "$build/boot" "$build/tests" "$build/tools" -name '*_fuzz' -type f -perm -u+x 2>/dev/null | sort)

printf 'fuzz targets: %d good, %d failed\n' "$passed" "$failed"
[ $((passed + failed)) -gt 0 ] || exit 77
[ "$failed" -eq 0 ]
