#!/bin/bash
# Another program that has a session of its own and asks the kernel for its statistics all the time: what it is told goes
# to our keeper too, which must not take that session's numbers for those of the root disk.
. "$(dirname "$0")/node.sh"

need gcc
node_begin
gcc -static -Wall -Wextra -O2 -x c -o "$daemon_dir/root-tree/sbin/statistics" - <<-'END' || fail "gcc"
	#include <fcntl.h>
	#include <linux/netlink.h>
	#include <stdint.h>
	#include <stdio.h>
	#include <stdlib.h>
	#include <string.h>
	#include <sys/socket.h>
	#include <unistd.h>

	struct message {
		struct nlmsghdr head;
		uint32_t type, error;
		uint64_t transport;
		uint32_t request[6], reply[4];
		char rest[4096];
	};
	enum { WITHOUT_REST = sizeof(struct message) - 4096 };

	static int fd;
	static uint64_t transport;

	static struct message ask(uint32_t type, uint32_t a, uint32_t b)
	{
		struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
		struct message m = {{WITHOUT_REST, type, 0, 0, 0}, type, 0, transport, {a, b}, {0}, ""};

		if (sendto(fd, &m, WITHOUT_REST, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
			exit(1);
		do {
			if (recv(fd, &m, sizeof(m), 0) < 0)
				m.type = 0; /* some were lost */
		} while (m.type != type && type != 20);
		return m;
	}

	int main(void)
	{
		struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_pid = 1, .nl_groups = 1};
		struct message session, connection;
		char text[32] = "";
		int file = open("/sys/class/iscsi_transport/tcp/handle", O_RDONLY);

		fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ISCSI);
		if (read(file, text, 31) <= 0 || bind(fd, (struct sockaddr *)&self, sizeof(self)))
			return 1;
		transport = strtoull(text, NULL, 10);
		session = ask(11, 1, 0x200020);
		connection = ask(13, session.reply[0], 0);
		printf("STATISTICS of session %u\n", session.reply[0]);
		fflush(stdout);
		for (;;) {
			ask(20, session.reply[0], connection.reply[1]);
			usleep(20);
		}
	}
END
truncate -s 64M "$daemon_dir/statistics.img"
mke2fs -q -F -t ext4 -d "$daemon_dir/root-tree" "$daemon_dir/statistics.img" >/dev/null || fail "mke2fs"
ctl import "$daemon_dir/statistics.img" statistics >/dev/null && ctl clone statistics pi-01 >/dev/null || fail "clone"
node_conf pi-01
restarts=$(by_mode 3 6 20)
node_start pi-01 "t=statistics$((restarts * 6))"
node_await pi-01 'STATISTICS of session 2' 30
node_await pi-01 'STEP 2 ' 30
for ((i = 1; i <= restarts; i++)); do
	before=$(logins)
	daemon_kill KILL
	daemon_start
	await_login "$before" 60 || node_fail pi-01 "not back after restart $i"
	sleep 1
done
node_await pi-01 'RESULT' 180
node_shown pi-01 'RESULT ok' || node_fail pi-01 "it failed"
node_await_end pi-01 20
node_dmesg_is_clean pi-01
node_fsck pi-01
say "ok: $restarts restarts of the target while another session's statistics rush by"
daemon_ends_well
