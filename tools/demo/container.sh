#!/bin/sh
# What runs in the container: writes files, reads them back, and counts the runs in /data, which
# outlives it.
[ ! -f /etc/demo.conf ] || . /etc/demo.conf
data=/data
echo "container: hello from $(uname -m), Linux $(uname -r), processes that I see: $(ls /proc | grep -c '^[0-9]')"
echo "container: my root is $(grep ' / ' /proc/mounts | cut -d ' ' -f 1,3)"
runs=$(cat $data/runs 2>/dev/null || echo 0)
if [ -f $data/sums ]; then
	(cd $data && sha256sum -c sums >/dev/null) || { echo "container: what the last run wrote is damaged" && exit 1; }
	echo "container: what the last run wrote is all there"
fi
runs=$((runs + 1))
echo "$runs" >$data/runs
files=${FILES:-4}
rm -f $data/file-* $data/sums
i=0
while [ "$i" -lt "$files" ]; do
	i=$((i + 1))
	dd if=/dev/urandom of=$data/file-$i bs=16k count=4 conv=fsync 2>/dev/null || { echo "container: cannot write file $i" && exit 1; }
	(cd $data && sha256sum file-$i >>sums) || exit 1
	[ "$files" -le 4 ] || { echo "container: wrote $i" && sleep 1; }
done
sync
(cd $data && sha256sum -c sums >/dev/null) || { echo "container: wrote one thing, reads another" && exit 1; }
echo "container: wrote and read $files files; run $runs"
