/*
 * See test_peer.h.
 */
#include "session/test_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "ring/ring.h"

/* --- a disk whose writes and flushes take time --- */

atomic_uint test_write_delay_ms, test_flush_delay_ms, test_writes_begun, test_writes_done;
atomic_int test_disks;

#define SLOW_MAX 64

struct slow_disk {
	struct store_disk disk;
	uint8_t *data;
	atomic_uint fail_flush; /* how many more until one fails; 0: none does */
	struct slow_io {
		struct slow_disk *owner;
		struct store_io *io;
		struct ring_timer timer;
	} slow[SLOW_MAX];
	struct list done;
	struct ring_task run, closing;
	void (*closed)(void *arg, int res);
	void *closed_arg;
};

static int apply(struct slow_disk *slow, struct store_io *io)
{
	uint8_t *at = slow->data + io->offset_bytes;

	switch (io->op) {
	case STORE_READ: memcpy(io->data, at, io->length_bytes); break;
	case STORE_WRITE:
		memcpy(at, io->data, io->length_bytes);
		atomic_fetch_add(&test_writes_done, 1);
		break;
	case STORE_DISCARD: memset(at, 0, io->length_bytes); break;
	case STORE_FLUSH:
		if (atomic_load(&slow->fail_flush) && atomic_fetch_sub(&slow->fail_flush, 1) == 1)
			return -EIO;
		break;
	}
	return 0;
}

static void slow_run(struct ring_task *task)
{
	struct slow_disk *slow = CONTAINER_OF(task, struct slow_disk, run);
	struct list done;

	list_init(&done);
	list_splice(&done, &slow->done);
	while (!list_empty(&done)) {
		struct store_io *io = LIST_ENTRY(done.next, struct store_io, node);

		list_remove(&io->node);
		io->done(io, apply(slow, io));
	}
}

static void slow_fire(struct ring_timer *timer)
{
	struct slow_io *slow = CONTAINER_OF(timer, struct slow_io, timer);
	struct store_io *io = TAKE_PTR(slow->io);

	io->done(io, apply(slow->owner, io));
}

static void slow_submit(struct store_disk *disk, struct store_io *io)
{
	struct slow_disk *slow = CONTAINER_OF(disk, struct slow_disk, disk);
	unsigned delay_ms = 0;

	assert_true(io->op == STORE_FLUSH ||
		    io->offset_bytes + io->length_bytes <= disk->size_bytes);
	if (io->op == STORE_WRITE) {
		atomic_fetch_add(&test_writes_begun, 1);
		delay_ms = atomic_load(&test_write_delay_ms);
	} else if (io->op == STORE_FLUSH) {
		delay_ms = atomic_load(&test_flush_delay_ms);
	}
	for (unsigned i = 0; i < SLOW_MAX && delay_ms; i++) {
		if (slow->slow[i].io)
			continue;
		slow->slow[i].io = io;
		slow->slow[i].owner = slow;
		ring_timer_init(&slow->slow[i].timer, slow_fire);
		assert_int_equal(ring_timer_arm(ring_current(), &slow->slow[i].timer, delay_ms), 0);
		return;
	}
	list_append(&slow->done, &io->node);
	ring_defer(ring_current(), &slow->run);
}

static void slow_cancel(struct store_disk *disk, struct store_io *io)
{
	(void)disk;
	(void)io; /* like file I/O: it can't be called back */
}

static int slow_extent(struct store_disk *disk, uint64_t offset_bytes, uint64_t length_bytes,
		       bool *ret_mapped, uint64_t *ret_bytes)
{
	(void)disk;
	(void)offset_bytes;
	*ret_mapped = true;
	*ret_bytes = length_bytes;
	return 0;
}

static void slow_stats(struct store_disk *disk, struct store_stats *ret_stats)
{
	(void)disk;
	memset(ret_stats, 0, sizeof(*ret_stats));
}

static void slow_closing(struct ring_task *task)
{
	struct slow_disk *slow = CONTAINER_OF(task, struct slow_disk, closing);

	slow->closed(slow->closed_arg, 0);
}

static void slow_detach(struct store_disk *disk, void (*closed)(void *arg, int res), void *arg)
{
	struct slow_disk *slow = CONTAINER_OF(disk, struct slow_disk, disk);

	for (unsigned i = 0; i < SLOW_MAX; i++)
		assert_null(slow->slow[i].io);
	slow->closed = closed;
	slow->closed_arg = arg;
	ring_defer(ring_current(), &slow->closing);
}

static void slow_free(struct store_disk *disk)
{
	struct slow_disk *slow = CONTAINER_OF(disk, struct slow_disk, disk);

	free(slow->data);
	free(slow);
	atomic_fetch_sub(&test_disks, 1);
}

static const struct store_disk_ops slow_ops = {
	.submit = slow_submit,
	.cancel = slow_cancel,
	.extent = slow_extent,
	.stats = slow_stats,
	.detach = slow_detach,
	.free = slow_free,
};

struct store_disk *test_disk_new(uint64_t size_bytes)
{
	struct slow_disk *slow = calloc(1, sizeof(*slow));

	assert_non_null(slow);
	slow->data = calloc(1, size_bytes);
	assert_non_null(slow->data);
	slow->disk = (struct store_disk){
		.ops = &slow_ops, .size_bytes = size_bytes, .volatile_cache = true};
	list_init(&slow->done);
	ring_task_init(&slow->run, slow_run);
	ring_task_init(&slow->closing, slow_closing);
	atomic_fetch_add(&test_disks, 1);
	return &slow->disk;
}

void test_disk_fail_flush(struct store_disk *disk, unsigned nth)
{
	atomic_store(&CONTAINER_OF(disk, struct slow_disk, disk)->fail_flush, nth);
}

/* --- the server --- */

void test_sleep_ms(unsigned ms)
{
	const struct timespec ts_sleep = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&ts_sleep, NULL);
}

void test_server_cb(void *arg, int res)
{
	struct test_server *t = arg;

	t->res = res;
	t->done = true;
}

static void stopped(void *arg)
{
	test_server_cb(arg, 0);
}

void test_server_wait(struct test_server *t)
{
	struct pollfd poll_fd = {.fd = t->mailbox.eventfd, .events = POLLIN};

	for (unsigned i = 0; i < 6000 && !t->done; i++) {
		if (poll(&poll_fd, 1, 10) > 0)
			mailbox_run(&t->mailbox);
	}
	assert_true(t->done);
	t->done = false;
}

void test_uuid(uint8_t uuid, uint8_t ret_uuid[16])
{
	memset(ret_uuid, uuid, 16);
}

static int add(struct test_server *t, struct target_conf *conf, const struct server_unit *units,
	       unsigned unit_count)
{
	server_target_add(t->server, conf, units, unit_count, test_server_cb, t);
	test_server_wait(t);
	return t->res;
}

int test_target_add_units(struct test_server *t, const char *name, uint8_t uuid, bool shared,
			  const struct server_unit *units, unsigned unit_count)
{
	struct target_conf *conf = target_conf_new();

	assert_non_null(conf);
	test_uuid(uuid, conf->uuid);
	snprintf(conf->name, sizeof(conf->name), "%s", name);
	conf->shared = shared;
	return add(t, conf, units, unit_count);
}

struct server_unit test_unit(uint8_t uuid)
{
	struct server_unit unit = {.disk = test_disk_new(TEST_DISK_BYTES)};

	test_uuid(uuid, unit.uuid.b);
	return unit;
}

int test_target_add(struct test_server *t, const char *name, uint8_t uuid, bool shared)
{
	const struct server_unit unit = test_unit(uuid);

	return test_target_add_units(t, name, uuid, shared, &unit, 1);
}

void test_server_start(struct test_server *t, const struct server_config *config)
{
	struct server_config own = {.reactor_count = 2};
	struct store_error err = {""};
	struct target_conf *conf = target_conf_new();
	struct server_unit unit;

	memset(t, 0, sizeof(*t));
	atomic_store(&test_write_delay_ms, 0);
	atomic_store(&test_flush_delay_ms, 0);
	atomic_store(&test_writes_begun, 0);
	atomic_store(&test_writes_done, 0);
	log_init("test", getenv("LUNROOT_TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	assert_int_equal(mailbox_init(&t->mailbox), 0);
	if (config)
		own = *config;
	own.control = &t->mailbox;
	assert_int_equal(server_new(&own, &t->server), 0);
	assert_int_equal(server_listen(t->server, "127.0.0.1:0", t->address, &err), 0);
	t->port = (uint16_t)atoi(strchr(t->address, ':') + 1);
	assert_int_equal(server_start(t->server), 0);
	for (unsigned i = 0; i < TEST_TARGETS; i++)
		snprintf(t->names[i], sizeof(t->names[i]), "iqn.2026-11.local.lunroot:t%u", i);
	assert_int_equal(test_target_add(t, t->names[TEST_PRIVATE], 1, false), 0);
	assert_int_equal(test_target_add(t, t->names[TEST_SHARED], 2, true), 0);
	assert_non_null(conf);
	test_uuid(3, conf->uuid);
	snprintf(conf->name, sizeof(conf->name), "%s", t->names[TEST_SECRET]);
	snprintf(conf->in.name, sizeof(conf->in.name), "node");
	memcpy(conf->in.secret, "correct-horse", 13);
	conf->in.secret_bytes = 13;
	unit = test_unit(3);
	assert_int_equal(add(t, conf, &unit, 1), 0);
}

void test_server_stop(struct test_server *t)
{
	server_stop(t->server, stopped, t);
	test_server_wait(t);
	server_free(t->server);
	mailbox_done(&t->mailbox);
}

/* --- the initiator --- */

int peer_connect(struct peer *peer, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct timeval timeout = {.tv_sec = 30};
	static unsigned count;
	const int later = 1;

	*peer = (struct peer){.cmdsn = 100, .itt = 0x1000};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->fd < 0)
		return -errno;
	setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	/* A fuzzer makes more connections than an address has ports: each minute's worth from an
	 * address of its own in 127/8. */
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (count++ / 1000 % 250));
	setsockopt(peer->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &later, sizeof(later));
	if (bind(peer->fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	    connect(peer->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}

void peer_close(struct peer *peer)
{
	close(peer->fd);
	peer->fd = -1;
}

void peer_send_bytes(struct peer *peer, const void *data, size_t bytes)
{
	const uint8_t *at = data;

	while (bytes > 0) {
		ssize_t n = send(peer->fd, at, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		assert_true(n > 0);
		at += n;
		bytes -= (size_t)n;
	}
}

void peer_send(struct peer *peer, void *bhs, const void *data, uint32_t data_bytes)
{
	uint8_t *AUTO_FREE stream = calloc(1, WIRE_BHS_BYTES + 8 + data_bytes + 4);
	size_t at = WIRE_BHS_BYTES, start;

	assert_non_null(stream);
	be24_put(&((struct wire_bhs *)bhs)->data_bytes, data_bytes);
	memcpy(stream, bhs, WIRE_BHS_BYTES);
	if (peer->header_digest) {
		le32_put((le32_t *)(stream + at), crc32c(0, stream, WIRE_BHS_BYTES));
		at += WIRE_DIGEST_BYTES;
	}
	start = at;
	if (data_bytes)
		memcpy(stream + at, data, data_bytes);
	at += wire_pad4(data_bytes);
	if (peer->data_digest && data_bytes) {
		le32_put((le32_t *)(stream + at), crc32c(0, stream + start, at - start));
		at += WIRE_DIGEST_BYTES;
	}
	peer_send_bytes(peer, stream, at);
}

static bool take(struct peer *peer, void *data, size_t bytes)
{
	uint8_t *at = data;

	while (bytes > 0) {
		ssize_t n = recv(peer->fd, at, bytes, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return false;
		if (n < 0)
			fail_msg("no answer: %s", strerror(errno));
		at += n;
		bytes -= (size_t)n;
	}
	return true;
}

static void check_digest(const uint8_t digest[WIRE_DIGEST_BYTES], uint32_t crc)
{
	assert_int_equal(le32_get(*(const le32_t *)digest), crc);
}

bool peer_recv(struct peer *peer, struct pdu *ret_pdu)
{
	uint8_t digest[WIRE_DIGEST_BYTES], padding[3];
	uint32_t bytes, pad, crc;

	if (!take(peer, &ret_pdu->bhs, WIRE_BHS_BYTES))
		return false;
	if (peer->header_digest) {
		assert_true(take(peer, digest, sizeof(digest)));
		check_digest(digest, crc32c(0, &ret_pdu->bhs, WIRE_BHS_BYTES));
	}
	bytes = wire_data_bytes(&ret_pdu->bhs);
	pad = wire_pad4(bytes) - bytes;
	assert_true(bytes <= sizeof(ret_pdu->data));
	ret_pdu->data_bytes = bytes;
	if (!take(peer, ret_pdu->data, bytes) || !take(peer, padding, pad))
		return false;
	if (peer->data_digest && bytes) {
		assert_true(take(peer, digest, sizeof(digest)));
		crc = crc32c(0, ret_pdu->data, bytes);
		check_digest(digest, crc32c(crc, padding, pad));
	}
	return true;
}

bool peer_is_closed(struct peer *peer)
{
	static struct pdu pdu;

	return !peer_recv(peer, &pdu);
}

static uint32_t put_key(char *text, uint32_t at, const char *pair)
{
	strcpy(text + at, pair);
	return at + (uint32_t)strlen(pair) + 1;
}

uint16_t peer_login(struct peer *peer, uint16_t port, const struct peer_login *login)
{
	struct wire_login_req req = {
		.opcode = WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE,
		.flags = WIRE_LOGIN_TRANSIT | WIRE_STAGE_OPERATIONAL << WIRE_LOGIN_CSG_SHIFT |
			 WIRE_STAGE_FULL_FEATURE,
		.isid = {0x80, 0, 0, 0, 0, login->isid},
	};
	char text[4096], pair[512];
	uint32_t bytes = 0;
	static struct pdu pdu;
	uint16_t status;

	assert_int_equal(peer_connect(peer, port), 0);
	be16_put(&req.tsih, login->tsih);
	be32_put(&req.itt, 1);
	be32_put(&req.cmdsn, peer->cmdsn);
	snprintf(pair, sizeof(pair), "InitiatorName=%s", login->initiator);
	bytes = put_key(text, bytes, pair);
	if (login->target) {
		snprintf(pair, sizeof(pair), "TargetName=%s", login->target);
		bytes = put_key(text, bytes, pair);
	} else {
		bytes = put_key(text, bytes, "SessionType=Discovery");
	}
	for (const char *key = login->keys; key && *key; key += strlen(key) + 1) {
		bytes = put_key(text, bytes, key);
		peer->header_digest = peer->header_digest || !strcmp(key, "HeaderDigest=CRC32C");
		peer->data_digest = peer->data_digest || !strcmp(key, "DataDigest=CRC32C");
	}
	{
		bool header_digest = peer->header_digest, data_digest = peer->data_digest;

		peer->header_digest = peer->data_digest = false;
		peer_send(peer, &req, text, bytes);
		assert_true(peer_recv(peer, &pdu));
		peer->header_digest = header_digest;
		peer->data_digest = data_digest;
	}
	assert_int_equal(pdu.bhs.opcode, WIRE_OP_LOGIN_RSP);
	status = be16_get(pdu.login.status);
	if (status)
		return status;
	assert_int_equal(pdu.login.flags & WIRE_LOGIN_TRANSIT, WIRE_LOGIN_TRANSIT);
	peer->expstatsn = be32_get(pdu.login.statsn) + 1;
	peer->tsih = be16_get(pdu.login.tsih);
	assert_int_not_equal(peer->tsih, 0);
	return 0;
}

void peer_command(struct peer *peer, struct wire_scsi_cmd *ret_cmd, uint8_t opcode, uint8_t flags,
		  uint32_t lba, uint16_t blocks)
{
	*ret_cmd = (struct wire_scsi_cmd){.opcode = WIRE_OP_SCSI_CMD, .flags = flags};
	be32_put(&ret_cmd->itt, ++peer->itt);
	be32_put(&ret_cmd->edtl_bytes, (uint32_t)blocks * 512);
	be32_put(&ret_cmd->cmdsn, peer->cmdsn++);
	be32_put(&ret_cmd->expstatsn, peer->expstatsn);
	ret_cmd->cdb[0] = opcode;
	put_be32(ret_cmd->cdb + 2, lba);
	put_be16(ret_cmd->cdb + 7, blocks);
}

void peer_data_out(struct peer *peer, uint32_t itt, uint32_t ttt, uint32_t datasn, uint32_t offset,
		   bool final, const void *data, uint32_t bytes)
{
	struct wire_data_out out = {.opcode = WIRE_OP_DATA_OUT, .flags = final ? WIRE_FINAL : 0};

	be32_put(&out.itt, itt);
	be32_put(&out.ttt, ttt);
	be32_put(&out.datasn, datasn);
	be32_put(&out.offset_bytes, offset);
	be32_put(&out.expstatsn, peer->expstatsn);
	peer_send(peer, &out, data, bytes);
}

void peer_clear_attention(struct peer *peer)
{
	struct wire_scsi_cmd cmd;
	static struct pdu pdu;

	peer_command(peer, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_send(peer, &cmd, NULL, 0);
	assert_true(peer_recv(peer, &pdu));
	assert_int_equal(pdu.bhs.opcode, WIRE_OP_SCSI_RSP);
	assert_int_equal(pdu.rsp.status, 2);
	assert_int_equal(be32_get(pdu.rsp.statsn), peer->expstatsn++);
}

void peer_expect_status(struct peer *peer, uint32_t itt, uint8_t status, uint8_t key, uint16_t asc)
{
	static struct pdu pdu;

	assert_true(peer_recv(peer, &pdu));
	assert_int_equal(pdu.bhs.opcode, WIRE_OP_SCSI_RSP);
	assert_int_equal(be32_get(pdu.rsp.itt), itt);
	assert_int_equal(pdu.rsp.status, status);
	assert_int_equal(be32_get(pdu.rsp.statsn), peer->expstatsn++);
	if (!key)
		return;
	assert_true(pdu.data_bytes >= 2 + 14);
	assert_int_equal(get_be16(pdu.data), pdu.data_bytes - 2);
	assert_int_equal(pdu.data[2 + 2] & 0x0f, key);
	assert_int_equal(get_be16(pdu.data + 2 + 12), asc);
}

void peer_expect(struct peer *peer, uint8_t opcode, struct pdu *ret_pdu)
{
	assert_true(peer_recv(peer, ret_pdu));
	if (ret_pdu->bhs.opcode != opcode)
		fail_msg("got opcode %02x, not %02x", ret_pdu->bhs.opcode, opcode);
}

void peer_read(struct peer *peer, uint32_t lba, uint16_t blocks, uint8_t *to)
{
	uint32_t bytes = (uint32_t)blocks * 512, at = 0, datasn = 0;
	struct wire_scsi_cmd cmd;
	static struct pdu pdu;

	peer_command(peer, &cmd, 0x28, WIRE_CMD_FINAL | WIRE_CMD_READ, lba, blocks);
	peer_send(peer, &cmd, NULL, 0);
	while (at < bytes) {
		assert_true(peer_recv(peer, &pdu));
		assert_int_equal(pdu.bhs.opcode, WIRE_OP_DATA_IN);
		assert_int_equal(be32_get(pdu.data_in.itt), peer->itt);
		assert_int_equal(be32_get(pdu.data_in.datasn), datasn++);
		assert_int_equal(be32_get(pdu.data_in.offset_bytes), at);
		memcpy(to + at, pdu.data, pdu.data_bytes);
		at += pdu.data_bytes;
		assert_int_equal(!!(pdu.data_in.flags & WIRE_DATA_STATUS), at == bytes);
	}
	assert_true(pdu.data_in.flags & WIRE_FINAL);
	assert_int_equal(be32_get(pdu.data_in.statsn), peer->expstatsn++);
}

void peer_tmf(struct peer *peer, uint8_t function, uint32_t ref_itt, uint32_t refcmdsn)
{
	struct wire_tmf_req req = {.opcode = WIRE_OP_TMF_REQ | WIRE_IMMEDIATE,
				   .function = WIRE_FINAL | function};

	be32_put(&req.itt, 0x7777);
	be32_put(&req.ref_tag, ref_itt);
	be32_put(&req.cmdsn, peer->cmdsn);
	be32_put(&req.refcmdsn, refcmdsn);
	peer_send(peer, &req, NULL, 0);
}

void peer_expect_tmf(struct peer *peer, uint8_t response)
{
	static struct pdu pdu;

	peer_expect(peer, WIRE_OP_TMF_RSP, &pdu);
	assert_int_equal(pdu.tmf.response, response);
	assert_int_equal(be32_get(pdu.tmf.itt), 0x7777);
	assert_int_equal(be32_get(pdu.tmf.statsn), peer->expstatsn++);
}
