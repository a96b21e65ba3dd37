# A disk that simulated Pis boot from: sourced, not run.
#
#   base_image TREE OUT.img    MBR, a FAT partition with TREE's firmware folder (net_tree), an ext4
#                              root with the module folder of its kernels, which have all built in.
#                              What the boot service makes itself is taken out of TREE, so that the
#                              rest is what a Pi must get.

base_image_version=6.1.0-lunroot-test

# What the boot service needs to see of an arm64 kernel: its magic number and its version.
base_image_kernel() { # FILE BYTES FLAVOUR
	python3 - "$1" "$2" "$base_image_version$3" <<-'END'
		import sys
		path, size, version = sys.argv[1], int(sys.argv[2]), sys.argv[3]
		head = bytes(56) + b"ARM\x64" + bytes(4)
		text = b"Linux version " + version.encode() + b" (test@test) #1 SMP\0"
		body = head + bytes(1024) + text
		seed = hash(version) & 0xff
		body += bytes((i * 131 + (i >> 8) * 17 + seed) & 0xff for i in range(size - len(body)))
		open(path, "wb").write(body)
	END
}

base_image() {
	local tree=$1 out=$2 work name size fat ext
	work=$(mktemp -d "${out%/*}/base.XXXXXX")
	mkdir "$work/boot"
	cp -rL "$tree/firmware/." "$work/boot/"
	cp "$tree/bootcode.bin" "$work/boot/"
	for name in kernel8.img kernel_2712.img; do
		size=$(stat -c %s "$tree/firmware/$name")
		case $name in *2712*) base_image_kernel "$work/boot/$name" "$size" -2712 ;; *) base_image_kernel "$work/boot/$name" "$size" -v8 ;; esac
		cp "$work/boot/$name" "$tree/firmware/$name"
	done
	rm -f "$tree"/firmware/{config.txt,cmdline.txt,initramfs8,initramfs_2712}
	for name in -v8 -2712; do
		mkdir -p "$work/root/usr/lib/modules/$base_image_version$name"
		(
			cd "$work/root/usr/lib/modules/$base_image_version$name" || exit
			printf 'kernel/%s.ko\n' drivers/scsi/libiscsi_tcp drivers/scsi/libiscsi drivers/scsi/iscsi_tcp \
				drivers/scsi/scsi_transport_iscsi drivers/scsi/sd_mod fs/ext4/ext4 >modules.builtin
			: >modules.dep && : >modules.order && : >modules.alias && : >modules.softdep
		)
	done
	mkdir -p "$work/root/etc" "$work/root/sbin" "$work/root/boot/firmware"
	size=$(($(du -sm "$work/boot" | cut -f1) + 34))
	fat=$work/fat.img ext=$work/ext.img
	truncate -s "${size}M" "$fat"
	mkfs.fat -F 32 -n bootfs "$fat" >/dev/null 2>&1
	mcopy -s -i "$fat" "$work"/boot/* ::
	mke2fs -q -F -t ext4 -L rootfs -d "$work/root" "$ext" 32M >/dev/null
	truncate -s "$((size + 40))M" "$out"
	sfdisk -q "$out" <<-END
		label: dos
		start=2048, size=$((size * 2048)), type=c
		start=$((2048 + size * 2048)), size=65536, type=83
	END
	dd if="$fat" of="$out" bs=1M seek=1 conv=notrunc,sparse status=none
	dd if="$ext" of="$out" bs=1M seek=$((1 + size)) conv=notrunc,sparse status=none
	rm -rf "$work"
}
