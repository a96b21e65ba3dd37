#!/bin/bash
# All benchmarks, short: about a minute. usage: run.sh [quick|long]
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-quick}" = long ]; then
	ROUNDS=3 "$here/io.sh" 5
	"$here/clone.sh" 200
	"$here/login.sh" 3000
	"$here/idle.sh" 500
else
	"$here/io.sh" 1
	"$here/clone.sh" 20
	"$here/login.sh" 500
	IDLE_SECONDS=5 "$here/idle.sh" 200
fi
