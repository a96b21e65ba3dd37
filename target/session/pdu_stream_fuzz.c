/*
 * Whatever comes over a connection, after a good login or before it, to a running server. The
 * first byte chooses: bit 0 log in first, bit 1 digests, bit 2 a stream of PDUs instead of raw
 * bytes. In such a stream each PDU is 48 bytes of header whose data length is cut to 12 bits,
 * and its data; CmdSN is put right (unless bit 3 is set), so that commands are taken and what
 * lies behind them is reached. What the target answers is read and thrown away, but the last
 * R2T's tag is put into each Data-Out.
 *
 * With a file as argument and without libFuzzer it replays that file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "session/test_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MODE_LOGIN   0x01
#define MODE_DIGESTS 0x02
#define MODE_PDUS    0x04
#define MODE_CMDSN   0x08

static struct test_server server;

struct stream {
	struct peer peer;
	uint8_t in[65536]; /* answers that are not whole PDUs yet */
	size_t in_bytes;
	uint32_t ttt;
	bool broken;
};

static void say(struct stream *s, const void *data, size_t bytes)
{
	const uint8_t *at = data;

	while (bytes > 0 && !s->broken) {
		ssize_t n = send(s->peer.fd, at, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			s->broken = true;
			return;
		}
		at += n;
		bytes -= (size_t)n;
	}
}

/* Takes what has been answered; only R2Ts are looked at. */
static void listen_to(struct stream *s, int flags)
{
	ssize_t n;

	while ((n = recv(s->peer.fd, s->in, sizeof(s->in), flags)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		/* Near enough: an R2T that comes alone. */
		if (s->in[0] == WIRE_OP_R2T)
			s->ttt = be32_get(((const struct wire_r2t *)s->in)->ttt);
	}
	s->broken = true;
}

static void say_pdu(struct stream *s, uint8_t mode, const uint8_t **data, size_t *size)
{
	uint8_t pdu[WIRE_BHS_BYTES + 4 + 4096 + 4 + 4] = {0};
	struct wire_scsi_cmd *cmd = (struct wire_scsi_cmd *)pdu;
	size_t at = WIRE_BHS_BYTES, start, bytes;
	uint8_t opcode;

	memcpy(pdu, *data, *size < WIRE_BHS_BYTES ? *size : WIRE_BHS_BYTES);
	bytes = *size < WIRE_BHS_BYTES ? *size : WIRE_BHS_BYTES;
	*data += bytes;
	*size -= bytes;
	bytes = be24_get(cmd->data_bytes) & 0xfff;
	if (bytes > *size)
		bytes = *size;
	be24_put(&cmd->data_bytes, (uint32_t)bytes);
	if (!(pdu[4] & 0x80))
		cmd->ahs_words = 0;
	opcode = pdu[0] & WIRE_OPCODE_MASK;
	if (opcode == WIRE_OP_DATA_OUT)
		be32_put(&((struct wire_data_out *)pdu)->ttt, s->ttt);
	else if (!(mode & MODE_CMDSN))
		be32_put(&cmd->cmdsn, s->peer.cmdsn);
	if (!(mode & MODE_CMDSN) && !(pdu[0] & WIRE_IMMEDIATE) &&
	    (opcode <= WIRE_OP_TMF_REQ || opcode == WIRE_OP_TEXT_REQ ||
	     opcode == WIRE_OP_LOGOUT_REQ))
		s->peer.cmdsn++;
	if (mode & MODE_DIGESTS) {
		le32_put((le32_t *)(pdu + at), crc32c(0, pdu, WIRE_BHS_BYTES));
		at += WIRE_DIGEST_BYTES;
	}
	start = at;
	memcpy(pdu + at, *data, bytes);
	at += wire_pad4((uint32_t)bytes);
	*data += bytes;
	*size -= bytes;
	if (mode & MODE_DIGESTS && bytes) {
		le32_put((le32_t *)(pdu + at), crc32c(0, pdu + start, at - start));
		at += WIRE_DIGEST_BYTES;
	}
	say(s, pdu, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stream s;
	struct peer_login login = {.initiator = "iqn.2026-11.l:fuzz", .isid = 1};
	const struct linger at_once = {.l_onoff = 1};
	uint8_t mode;

	if (size == 0)
		return 0;
	if (!server.server)
		test_server_start(&server, NULL);
	memset(&s, 0, sizeof(s));
	mode = *data++;
	size--;
	login.target = server.names[TEST_SHARED];
	login.keys = mode & MODE_DIGESTS ? "HeaderDigest=CRC32C\0DataDigest=CRC32C\0InitialR2T=No\0"
					 : "InitialR2T=No\0";
	if (mode & MODE_LOGIN) {
		if (peer_login(&s.peer, server.port, &login) != 0)
			abort();
	} else if (peer_connect(&s.peer, server.port) < 0) {
		abort();
	}
	if (!(mode & MODE_PDUS))
		say(&s, data, size);
	while (mode & MODE_PDUS && size > 0 && !s.broken) {
		say_pdu(&s, mode, &data, &size);
		listen_to(&s, MSG_DONTWAIT);
	}
	(void)shutdown(s.peer.fd, SHUT_WR);
	listen_to(&s, 0);
	/* Nothing stays behind, not even the port. */
	(void)setsockopt(s.peer.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	peer_close(&s.peer);
	return 0;
}

#ifdef REPLAY
int main(int argc, char **argv)
{
	static uint8_t data[1u << 20];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "re");
		size_t bytes = file ? fread(data, 1, sizeof(data), file) : 0;

		if (!file) {
			perror(argv[i]);
			return EXIT_FAILURE;
		}
		fclose(file);
		(void)LLVMFuzzerTestOneInput(data, bytes);
	}
	if (server.server)
		test_server_stop(&server);
	return EXIT_SUCCESS;
}
#endif
