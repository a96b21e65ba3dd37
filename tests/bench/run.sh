#!/bin/bash
# All benchmarks, short: about a minute. usage: run.sh [quick|long]
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-quick}" = long ]; then
	"$here/chain.sh" 5
	"$here/chain_memory.sh" 1024 16
	ROUNDS=3 "$here/io.sh" 5
	"$here/clone.sh" 200
	"$here/login.sh" 3000
	"$here/idle.sh" 500
	"$here/snapshot.sh" 10
	"$here/tftp.sh" 256
else
	ROUNDS=1 "$here/chain.sh" 1
	"$here/chain_memory.sh" 1024 4
	"$here/io.sh" 1
	"$here/clone.sh" 20
	"$here/login.sh" 500
	IDLE_SECONDS=5 "$here/idle.sh" 200
	"$here/snapshot.sh" 1
	"$here/tftp.sh" 32
fi
