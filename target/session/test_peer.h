/*
 * For tests: a server on loopback with disks in memory, and an initiator that says exactly what
 * it is told, right or wrong. Failures end the test through cmocka.
 */
#ifndef LUNROOT_SESSION_TEST_PEER_H
#define LUNROOT_SESSION_TEST_PEER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "session/server.h"
#include "wire/pdu.h"

#define TEST_DISK_BYTES (16u << 20)
#define TEST_TARGETS    3
#define TEST_PRIVATE    0 /* one session */
#define TEST_SHARED     1
#define TEST_SECRET     2 /* CHAP: user "node", secret "correct-horse" */

struct test_server {
	struct mailbox mailbox;
	struct server *server;
	char address[LIMIT_ADDRESS_TEXT_BYTES];
	uint16_t port;
	char names[TEST_TARGETS][LIMIT_ISCSI_NAME_BYTES + 1];
	bool done;
	int res;
};

/* Of the disks of all test servers. */
extern atomic_uint test_write_delay_ms, test_flush_delay_ms; /* how long one takes */
extern atomic_uint test_writes_begun, test_writes_done;
extern atomic_int test_disks; /* how many there are */

struct store_disk *test_disk_new(uint64_t size_bytes);
/* The nth flush from now on fails with -EIO; 0: none. Any thread. */
void test_disk_fail_flush(struct store_disk *disk, unsigned nth);

void test_server_start(struct test_server *t, const struct server_config *config);
void test_server_stop(struct test_server *t);
/* Runs the control thread's side until t->done. */
void test_server_wait(struct test_server *t);
void test_server_cb(void *arg, int res);
int test_target_add(struct test_server *t, const char *name, uint8_t uuid, bool shared);
int test_target_add_units(struct test_server *t, const char *name, uint8_t uuid, bool shared,
			  const struct server_unit *units, unsigned unit_count);
/* LUN 0 with a new disk. */
struct server_unit test_unit(uint8_t uuid);
void test_uuid(uint8_t uuid, uint8_t ret_uuid[16]);
void test_sleep_ms(unsigned ms);

struct peer {
	int fd;
	uint32_t cmdsn, expstatsn, itt;
	bool header_digest, data_digest;
	uint16_t tsih;
};

struct pdu {
	union {
		struct wire_bhs bhs;
		struct wire_login_rsp login;
		struct wire_scsi_rsp rsp;
		struct wire_data_in data_in;
		struct wire_r2t r2t;
		struct wire_nop_in nop;
		struct wire_text_rsp text;
		struct wire_tmf_rsp tmf;
		struct wire_logout_rsp logout;
		struct wire_async async;
		struct wire_reject reject;
	};
	uint8_t data[1u << 18];
	uint32_t data_bytes;
};

int peer_connect(struct peer *peer, uint16_t port);
void peer_close(struct peer *peer);
void peer_send_bytes(struct peer *peer, const void *data, size_t bytes);
/* Fills in data_bytes, digests and padding. */
void peer_send(struct peer *peer, void *bhs, const void *data, uint32_t data_bytes);
/* false: the connection is closed. */
bool peer_recv(struct peer *peer, struct pdu *ret_pdu);
bool peer_is_closed(struct peer *peer);

struct peer_login {
	const char *initiator, *target; /* target NULL: discovery */
	uint8_t isid;                   /* its last byte */
	uint16_t tsih;
	const char *keys; /* more of them, each with its NUL, ended by an empty one; NULL: none */
};

/* One request from the operational stage to full feature; the login status. */
uint16_t peer_login(struct peer *peer, uint16_t port, const struct peer_login *login);
/* READ(10) or WRITE(10) with its tags and numbers filled in. */
void peer_command(struct peer *peer, struct wire_scsi_cmd *ret_cmd, uint8_t opcode, uint8_t flags,
		  uint32_t lba, uint16_t blocks);
void peer_data_out(struct peer *peer, uint32_t itt, uint32_t ttt, uint32_t datasn, uint32_t offset,
		   bool final, const void *data, uint32_t bytes);
/* What a new nexus is told first. */
void peer_clear_attention(struct peer *peer);
/* The next PDU is a SCSI response of this status and, if not zero, key and ASC/ASCQ. */
void peer_expect_status(struct peer *peer, uint32_t itt, uint8_t status, uint8_t key, uint16_t asc);
/* The next PDU is of this kind. */
void peer_expect(struct peer *peer, uint8_t opcode, struct pdu *ret_pdu);
/* READ(10), through Data-In with the right numbers. */
void peer_read(struct peer *peer, uint32_t lba, uint16_t blocks, uint8_t *to);
/* A task management function for LUN 0, and its answer. */
void peer_tmf(struct peer *peer, uint8_t function, uint32_t ref_itt, uint32_t refcmdsn);
void peer_expect_tmf(struct peer *peer, uint8_t response);

#endif
