/*
 * The raw initiator: see speaker.h. Blocking calls with timeouts over a non-blocking socket; one
 * thread a speaker.
 */
#include "speaker.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOGIN_ROUNDS_MAX 16
#define TEXT_BYTES_MAX   8192

void speaker_put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

void speaker_put24(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 3; i++)
		p[i] = (uint8_t)(v >> (16 - 8 * i));
}

uint32_t speaker_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t get24(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

uint64_t speaker_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* RFC 7143, 13.1: the reflected Castagnoli polynomial, bit by bit into a table. */
uint32_t speaker_crc32c(uint32_t crc, const uint8_t *data, size_t bytes)
{
	static uint32_t table[256];

	/* Racing threads write the same values. */
	if (!__atomic_load_n(&table[255], __ATOMIC_ACQUIRE)) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t r = i;

			for (int bit = 0; bit < 8; bit++)
				r = r >> 1 ^ (r & 1 ? 0x82f63b78u : 0);
			__atomic_store_n(&table[i], r, __ATOMIC_RELEASE);
		}
	}
	crc = ~crc;
	for (size_t i = 0; i < bytes; i++)
		crc = crc >> 8 ^ __atomic_load_n(&table[(crc ^ data[i]) & 0xff], __ATOMIC_RELAXED);
	return ~crc;
}

static void put_digest(uint8_t *p, uint32_t crc, bool wrong)
{
	if (wrong)
		crc ^= 0x10000;
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(crc >> (8 * i));
}

static uint32_t get_digest(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

bool speaker_parse_portal(const char *text, struct sockaddr_storage *ret_address)
{
	char host[80];
	const char *colon = strrchr(text, ':');
	size_t bytes;
	long port;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return false;
	port = strtol(colon + 1, NULL, 10);
	if (port < 1 || port > 65535)
		return false;
	bytes = (size_t)(colon - text);
	memset(ret_address, 0, sizeof(*ret_address));
	if (text[0] == '[' && bytes > 2 && text[bytes - 1] == ']') {
		struct sockaddr_in6 *in6 = (void *)ret_address;

		memcpy(host, text + 1, bytes - 2);
		host[bytes - 2] = 0;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
	}
	struct sockaddr_in *in4 = (void *)ret_address;

	memcpy(host, text, bytes);
	host[bytes] = 0;
	in4->sin_family = AF_INET;
	in4->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &in4->sin_addr) == 1;
}

void speaker_init(struct speaker *s)
{
	memset(s, 0, sizeof(*s));
	s->fd = -1;
	s->mrdsl = 8192;
	s->peer_mrdsl = 8192;
	s->rx = malloc(SPEAKER_RX_BYTES);
	assert(s->rx);
}

void speaker_done(struct speaker *s, bool reset)
{
	if (s->fd >= 0) {
		struct linger linger = {.l_onoff = 1, .l_linger = 0};

		if (reset)
			setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(s->fd);
	}
	s->fd = -1;
	free(s->rx);
	s->rx = NULL;
}

enum speaker_result speaker_connect(struct speaker *s, const struct sockaddr_storage *address,
				    int rcvbuf_bytes)
{
	socklen_t bytes = address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
							 : sizeof(struct sockaddr_in);
	int one = 1;

	s->fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return SPEAKER_CLOSED;
	if (rcvbuf_bytes)
		setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes));
	if (connect(s->fd, (const struct sockaddr *)address, bytes) < 0)
		return SPEAKER_CLOSED;
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	return SPEAKER_OK;
}

__attribute__((format(printf, 2, 3))) static enum speaker_result complain(struct speaker *s,
									  const char *format, ...)
{
	va_list args;

	if (!s->complaint[0]) {
		va_start(args, format);
		vsnprintf(s->complaint, sizeof(s->complaint), format, args);
		va_end(args);
	}
	return SPEAKER_COMPLAINT;
}

/* Does this PDU of the target consume a StatSN (RFC 7143, 4.2.2.2)? */
static bool consumes_statsn(const uint8_t *bhs)
{
	switch (bhs[0] & 0x3f) {
	case TOP_SCSI:
	case TOP_TMF:
	case TOP_LOGIN:
	case TOP_TEXT:
	case TOP_LOGOUT:
	case TOP_ASYNC:
	case TOP_REJECT: return true;
	case TOP_DATA: return bhs[1] & 1;
	case TOP_NOP: return speaker_get32(bhs + 16) != SPEAKER_NO_TAG;
	}
	return false;
}

static enum speaker_result judge_numbers(struct speaker *s, const uint8_t *bhs)
{
	uint8_t opcode = bhs[0] & 0x3f;
	uint32_t statsn = speaker_get32(bhs + 24);
	uint32_t expcmdsn = speaker_get32(bhs + 28), maxcmdsn = speaker_get32(bhs + 32);

	/* A login response that refuses has no valid numbers but StatSN. */
	if (opcode == TOP_LOGIN && bhs[36])
		return SPEAKER_OK;
	if (consumes_statsn(bhs)) {
		if (s->stat_known && statsn != s->expstatsn)
			return complain(s, "opcode %02x has StatSN %u, expected %u", opcode, statsn,
					s->expstatsn);
		s->stat_known = true;
		s->expstatsn = statsn + 1;
	} else if ((opcode == TOP_R2T || opcode == TOP_NOP) && s->stat_known &&
		   statsn != s->expstatsn) {
		return complain(s, "opcode %02x shows next StatSN %u, expected %u", opcode, statsn,
				s->expstatsn);
	}
	if ((int32_t)(maxcmdsn - (expcmdsn - 1)) < 0)
		return complain(s, "opcode %02x: MaxCmdSN %u is below ExpCmdSN %u - 1", opcode,
				maxcmdsn, expcmdsn);
	if (s->window_known &&
	    ((int32_t)(maxcmdsn - s->maxcmdsn) < 0 || (int32_t)(expcmdsn - s->expcmdsn) < 0))
		return complain(s, "opcode %02x: the command window moved back, %u-%u to %u-%u",
				opcode, s->expcmdsn, s->maxcmdsn, expcmdsn, maxcmdsn);
	s->window_known = true;
	s->expcmdsn = expcmdsn;
	s->maxcmdsn = maxcmdsn;
	return SPEAKER_OK;
}

static void remember_r2t(struct speaker *s, const uint8_t *bhs)
{
	struct speaker_r2t *r2t = &s->r2ts[s->r2t_count % SPEAKER_R2T_COUNT_MAX];

	if (s->r2t_count < SPEAKER_R2T_COUNT_MAX)
		s->r2t_count++;
	r2t->itt = speaker_get32(bhs + 16);
	r2t->ttt = speaker_get32(bhs + 20);
	r2t->offset = speaker_get32(bhs + 40);
	r2t->bytes = speaker_get32(bhs + 44);
	memcpy(r2t->lun, bhs + 8, 8);
}

/* Takes one PDU off the buffer: 1 = done, 0 = incomplete, -1 = complaint. */
static int take_pdu(struct speaker *s)
{
	const uint8_t *bhs = s->rx;
	uint8_t opcode = bhs[0] & 0x3f;
	uint32_t data_bytes, padded;
	size_t at = SPEAKER_BHS_BYTES, need;

	if (s->blind) {
		s->rx_bytes = 0;
		return 0;
	}
	if (s->rx_bytes < SPEAKER_BHS_BYTES)
		return 0;
	data_bytes = get24(bhs + 5);
	padded = (data_bytes + 3) & ~3u;
	if (opcode < 0x20 || (opcode > TOP_LOGOUT && opcode != TOP_R2T && opcode != TOP_ASYNC &&
			      opcode != TOP_REJECT))
		return complain(s, "opcode %02x is none of a target", bhs[0]), -1;
	if (bhs[4])
		return complain(s, "opcode %02x comes with AHS", opcode), -1;
	if (data_bytes > (s->logged_in ? s->mrdsl : 8192))
		return complain(s, "opcode %02x has %u data bytes, we said at most %u", opcode,
				data_bytes, s->mrdsl),
		       -1;
	if ((opcode == TOP_R2T || opcode == TOP_TMF || opcode == TOP_LOGOUT) && data_bytes)
		return complain(s, "opcode %02x has data", opcode), -1;
	need = at + (s->header_digest ? 4 : 0) + padded + (s->data_digest && padded ? 4 : 0);
	assert(need <= SPEAKER_RX_BYTES);
	if (s->rx_bytes < need)
		return 0;
	if (s->header_digest) {
		if (get_digest(s->rx + at) != speaker_crc32c(0, s->rx, at))
			return complain(s, "opcode %02x: header digest is wrong", opcode), -1;
		at += 4;
	}
	if (s->data_digest && padded &&
	    get_digest(s->rx + at + padded) != speaker_crc32c(0, s->rx + at, padded))
		return complain(s, "opcode %02x: data digest is wrong", opcode), -1;
	for (uint32_t i = data_bytes; i < padded; i++)
		if (s->rx[at + i])
			return complain(s, "opcode %02x: padding is not zero", opcode), -1;
	if (judge_numbers(s, bhs) != SPEAKER_OK)
		return -1;
	if (opcode == TOP_R2T) {
		if (!speaker_get32(bhs + 44) || speaker_get32(bhs + 20) == SPEAKER_NO_TAG)
			return complain(s, "R2T without length or tag"), -1;
		remember_r2t(s, bhs);
	}
	if (opcode == TOP_LOGIN && !s->honest && !bhs[36] && (bhs[1] & 0x83) == 0x83)
		s->blind = true;
	if (opcode == TOP_TEXT) {
		s->text_itt = speaker_get32(bhs + 16);
		s->text_ttt = speaker_get32(bhs + 20);
	}
	if (opcode == TOP_NOP && speaker_get32(bhs + 20) != SPEAKER_NO_TAG) {
		s->ping_ttt = speaker_get32(bhs + 20);
		memcpy(s->ping_lun, bhs + 8, 8);
	}
	s->last_opcode = opcode;
	s->last_itt = speaker_get32(bhs + 16);
	s->received++;
	s->rx_bytes -= need;
	memmove(s->rx, s->rx + need, s->rx_bytes);
	return 1;
}

static int wait_for(struct speaker *s, short events, uint64_t deadline_ms)
{
	struct pollfd poll_fd = {.fd = s->fd, .events = events};
	uint64_t now = speaker_now_ms();

	return poll(&poll_fd, 1, deadline_ms > now ? (int)(deadline_ms - now) : 0) > 0
		       ? poll_fd.revents
		       : 0;
}

/* One recv; SPEAKER_TIMEOUT if there is nothing. */
static enum speaker_result fill(struct speaker *s)
{
	ssize_t got = recv(s->fd, s->rx + s->rx_bytes, SPEAKER_RX_BYTES - s->rx_bytes, 0);

	if (got > 0) {
		s->rx_bytes += (size_t)got;
		return SPEAKER_OK;
	}
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return SPEAKER_TIMEOUT;
	return SPEAKER_CLOSED;
}

enum speaker_result speaker_receive(struct speaker *s, int timeout_ms)
{
	uint64_t deadline_ms = speaker_now_ms() + (uint64_t)timeout_ms;
	bool any = false;

	for (;;) {
		enum speaker_result result;
		int taken;

		while ((taken = take_pdu(s)) > 0)
			any = true;
		if (taken < 0)
			return SPEAKER_COMPLAINT;
		result = fill(s);
		if (result == SPEAKER_OK)
			continue;
		if (result == SPEAKER_CLOSED)
			return result;
		if (any || !timeout_ms)
			return SPEAKER_OK;
		if (speaker_now_ms() >= deadline_ms)
			return SPEAKER_TIMEOUT;
		wait_for(s, POLLIN, deadline_ms);
	}
}

enum speaker_result speaker_send(struct speaker *s, const void *bytes, size_t count, int timeout_ms)
{
	uint64_t deadline_ms = speaker_now_ms() + (uint64_t)timeout_ms;
	size_t sent = 0;

	while (sent < count) {
		ssize_t put =
			send(s->fd, (const uint8_t *)bytes + sent, count - sent, MSG_NOSIGNAL);
		int ready;

		if (put > 0) {
			sent += (size_t)put;
			continue;
		}
		if (put < 0 && errno != EAGAIN && errno != EINTR)
			return SPEAKER_CLOSED;
		if (speaker_now_ms() >= deadline_ms)
			return SPEAKER_TIMEOUT;
		ready = wait_for(s, POLLIN | POLLOUT, deadline_ms);
		if (ready & POLLIN) {
			enum speaker_result result = speaker_receive(s, 0);

			if (result != SPEAKER_OK)
				return result;
		}
	}
	return SPEAKER_OK;
}

size_t speaker_pack(const struct speaker *s, const struct speaker_pdu *pdu, uint8_t *out)
{
	size_t at = SPEAKER_BHS_BYTES;
	uint32_t padded = (pdu->data_bytes + 3) & ~3u;

	assert(pdu->ahs_bytes % 4 == 0 && pdu->ahs_bytes <= SPEAKER_AHS_BYTES_MAX);
	memcpy(out, pdu->bhs, SPEAKER_BHS_BYTES);
	if (!pdu->lengths_lie) {
		out[4] = (uint8_t)(pdu->ahs_bytes / 4);
		speaker_put24(out + 5, pdu->data_bytes);
	}
	memcpy(out + at, pdu->ahs, pdu->ahs_bytes);
	at += pdu->ahs_bytes;
	if (s->header_digest && !pdu->digests_absent) {
		put_digest(out + at, speaker_crc32c(0, out, at), pdu->header_digest_wrong);
		at += 4;
	}
	if (!pdu->data_bytes)
		return at;
	memcpy(out + at, pdu->data, pdu->data_bytes);
	memset(out + at + pdu->data_bytes, 0, padded - pdu->data_bytes);
	if (s->data_digest && !pdu->digests_absent) {
		put_digest(out + at + padded, speaker_crc32c(0, out + at, padded),
			   pdu->data_digest_wrong);
		at += 4;
	}
	return at + padded;
}

void speaker_command(struct speaker *s, struct speaker_pdu *pdu, uint8_t opcode)
{
	memset(pdu->bhs, 0, sizeof(pdu->bhs));
	pdu->ahs_bytes = 0;
	pdu->data = NULL;
	pdu->data_bytes = 0;
	pdu->lengths_lie = pdu->digests_absent = false;
	pdu->header_digest_wrong = pdu->data_digest_wrong = false;
	pdu->bhs[0] = opcode;
	pdu->bhs[1] = 0x80;
	speaker_put32(pdu->bhs + 16, s->next_itt++);
	if (s->next_itt == SPEAKER_NO_TAG)
		s->next_itt = 1;
	speaker_put32(pdu->bhs + 24, s->cmdsn);
	speaker_put32(pdu->bhs + 28, s->expstatsn);
	if (!(opcode & IOP_IMMEDIATE))
		s->cmdsn++;
}

enum speaker_result speaker_ping(struct speaker *s, int timeout_ms)
{
	uint64_t deadline_ms = speaker_now_ms() + (uint64_t)timeout_ms;
	struct speaker_pdu pdu;
	uint8_t out[SPEAKER_PACK_BYTES(8)];
	uint32_t itt = s->next_itt;
	enum speaker_result result;

	speaker_command(s, &pdu, IOP_NOP | IOP_IMMEDIATE);
	speaker_put32(pdu.bhs + 20, SPEAKER_NO_TAG);
	s->last_opcode = 0;
	result = speaker_send(s, out, speaker_pack(s, &pdu, out), timeout_ms);
	while (result == SPEAKER_OK && speaker_now_ms() < deadline_ms) {
		if ((s->last_opcode == TOP_NOP && s->last_itt == itt) ||
		    s->last_opcode == TOP_REJECT)
			return SPEAKER_OK;
		/* One PDU at a time, so that none hides the answer. */
		int taken = take_pdu(s);

		if (taken < 0)
			return SPEAKER_COMPLAINT;
		if (taken)
			continue;
		result = fill(s);
		if (result == SPEAKER_TIMEOUT) {
			wait_for(s, POLLIN, deadline_ms);
			result = SPEAKER_OK;
		}
	}
	return result == SPEAKER_OK ? SPEAKER_TIMEOUT : result;
}

/* --- login --- */

struct text {
	char bytes[TEXT_BYTES_MAX];
	size_t count;
};

__attribute__((format(printf, 2, 3))) static void add_key(struct text *text, const char *format,
							  ...)
{
	va_list args;
	int added;

	va_start(args, format);
	added = vsnprintf(text->bytes + text->count, sizeof(text->bytes) - text->count, format,
			  args);
	va_end(args);
	assert(added >= 0 && text->count + (size_t)added + 1 < sizeof(text->bytes));
	text->count += (size_t)added + 1; /* each pair ends with a NUL */
}

static const char *find_key(const struct text *text, const char *key)
{
	size_t key_bytes = strlen(key);

	for (size_t at = 0; at < text->count; at += strlen(text->bytes + at) + 1)
		if (!strncmp(text->bytes + at, key, key_bytes) &&
		    text->bytes[at + key_bytes] == '=')
			return text->bytes + at + key_bytes + 1;
	return NULL;
}

static enum speaker_result login_round(struct speaker *s, const struct speaker_offer *offer,
				       uint8_t flags, const struct text *request,
				       struct text *ret_reply, uint8_t ret_bhs[SPEAKER_BHS_BYTES],
				       uint64_t deadline_ms)
{
	struct speaker_pdu pdu = {.bhs = {IOP_LOGIN | IOP_IMMEDIATE}};
	uint8_t out[SPEAKER_PACK_BYTES(TEXT_BYTES_MAX)];
	enum speaker_result result;
	uint32_t data_bytes;

	pdu.bhs[1] = flags;
	memcpy(pdu.bhs + 8, offer->isid, 6);
	pdu.bhs[14] = (uint8_t)(offer->tsih >> 8);
	pdu.bhs[15] = (uint8_t)offer->tsih;
	pdu.bhs[20] = (uint8_t)(offer->cid >> 8);
	pdu.bhs[21] = (uint8_t)offer->cid;
	speaker_put32(pdu.bhs + 16, 0x1091);
	speaker_put32(pdu.bhs + 24, s->cmdsn);
	speaker_put32(pdu.bhs + 28, s->expstatsn);
	pdu.data = (const uint8_t *)request->bytes;
	pdu.data_bytes = (uint32_t)request->count;
	result = speaker_send(s, out, speaker_pack(s, &pdu, out), 5000);
	if (result != SPEAKER_OK)
		return result;
	/* Not by speaker_receive: the text must be looked at before it goes. */
	while (s->rx_bytes < SPEAKER_BHS_BYTES ||
	       s->rx_bytes < SPEAKER_BHS_BYTES + ((get24(s->rx + 5) + 3) & ~3u)) {
		result = fill(s);
		if (result == SPEAKER_CLOSED)
			return result;
		if (result == SPEAKER_OK)
			continue;
		if (speaker_now_ms() >= deadline_ms)
			return SPEAKER_TIMEOUT;
		wait_for(s, POLLIN, deadline_ms);
	}
	memcpy(ret_bhs, s->rx, SPEAKER_BHS_BYTES);
	data_bytes = get24(s->rx + 5);
	if (data_bytes >= TEXT_BYTES_MAX)
		return complain(s, "login response with %u data bytes", data_bytes);
	memcpy(ret_reply->bytes, s->rx + SPEAKER_BHS_BYTES, data_bytes);
	ret_reply->bytes[data_bytes] = 0;
	ret_reply->count = data_bytes;
	if (take_pdu(s) < 0)
		return SPEAKER_COMPLAINT;
	if ((ret_bhs[0] & 0x3f) != TOP_LOGIN)
		return complain(s, "login answered by opcode %02x", ret_bhs[0]);
	return ret_bhs[36] ? SPEAKER_REFUSED : SPEAKER_OK;
}

static size_t hex_decode(const char *text, uint8_t *out, size_t room)
{
	size_t count = 0;
	unsigned value;

	if (strncmp(text, "0x", 2) && strncmp(text, "0X", 2))
		return 0;
	for (text += 2; count < room && sscanf(text, "%2x", &value) == 1 && text[0] && text[1];
	     text += 2)
		out[count++] = (uint8_t)value;
	return count;
}

/* The response: MD5 over identifier, secret and challenge (RFC 7143, 12.1.3; RFC 1994). */
static bool chap_answer(const struct text *reply, const struct speaker_target *target,
			struct text *request)
{
	const char *id = find_key(reply, "CHAP_I"), *challenge = find_key(reply, "CHAP_C");
	uint8_t message[1 + 256 + 1024], digest[16];
	size_t bytes = 0;
	char hex[33];

	if (!id || !challenge)
		return false;
	message[bytes++] = (uint8_t)strtoul(id, NULL, 0);
	memcpy(message + bytes, target->secret, strlen(target->secret));
	bytes += strlen(target->secret);
	bytes += hex_decode(challenge, message + bytes, sizeof(message) - bytes);
	if (!EVP_Digest(message, bytes, digest, NULL, EVP_md5(), NULL))
		return false;
	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	add_key(request, "CHAP_N=%s", target->user);
	add_key(request, "CHAP_R=0x%s", hex);
	return true;
}

static void add_parameters(struct text *text, const struct speaker_offer *offer)
{
	add_key(text, "HeaderDigest=%s", offer->header_digest ? "CRC32C" : "None");
	add_key(text, "DataDigest=%s", offer->data_digest ? "CRC32C" : "None");
	add_key(text, "InitialR2T=%s", offer->initial_r2t ? "Yes" : "No");
	add_key(text, "ImmediateData=%s", offer->immediate_data ? "Yes" : "No");
	add_key(text, "MaxRecvDataSegmentLength=%u", offer->mrdsl);
	add_key(text, "MaxBurstLength=%u", offer->max_burst);
	add_key(text, "FirstBurstLength=%u", offer->first_burst);
	add_key(text, "MaxOutstandingR2T=%u", offer->outstanding_r2t);
	add_key(text, "MaxConnections=1");
	add_key(text, "ErrorRecoveryLevel=0");
	add_key(text, "DefaultTime2Wait=2");
	add_key(text, "DefaultTime2Retain=0");
	add_key(text, "DataPDUInOrder=Yes");
	add_key(text, "DataSequenceInOrder=Yes");
}

static void adopt_keys(struct speaker *s, const struct text *reply)
{
	const char *value = find_key(reply, "MaxRecvDataSegmentLength");

	if (value)
		s->peer_mrdsl = (uint32_t)strtoul(value, NULL, 0);
	value = find_key(reply, "HeaderDigest");
	if (value && !strcmp(value, "CRC32C"))
		s->header_digest = true;
	value = find_key(reply, "DataDigest");
	if (value && !strcmp(value, "CRC32C"))
		s->data_digest = true;
}

enum { SECURITY_HELLO, SECURITY_ALGORITHM, SECURITY_RESPONSE, OPERATIONAL, WAIT_FFP };

enum speaker_result speaker_login(struct speaker *s, const struct speaker_target *target,
				  const struct speaker_offer *offer, int timeout_ms,
				  uint16_t *ret_status)
{
	uint64_t deadline_ms = speaker_now_ms() + (uint64_t)timeout_ms;
	int step = target->user[0] ? SECURITY_HELLO : OPERATIONAL;
	struct text request, reply = {.count = 0};
	uint8_t bhs[SPEAKER_BHS_BYTES] = {0}, flags;
	bool header_digest = false, data_digest = false;

	s->next_itt = 0x2000;
	s->cmdsn = 1;
	s->honest = true;
	for (int round = 0; round < LOGIN_ROUNDS_MAX; round++) {
		enum speaker_result result;

		request.count = 0;
		flags = 0;
		if (round == 0) {
			add_key(&request, "InitiatorName=%s", target->initiator);
			if (!offer->discovery)
				add_key(&request, "TargetName=%s", target->name);
			add_key(&request, "SessionType=%s",
				offer->discovery ? "Discovery" : "Normal");
		}
		if (step == SECURITY_HELLO) {
			add_key(&request, "AuthMethod=CHAP");
		} else if (step == SECURITY_ALGORITHM) {
			add_key(&request, "CHAP_A=5");
		} else if (step == SECURITY_RESPONSE) {
			if (!chap_answer(&reply, target, &request))
				return complain(s, "no CHAP challenge where one is due");
			flags = 0x81; /* T, security to operational */
		} else {
			if (step == OPERATIONAL)
				add_parameters(&request, offer);
			flags = 0x87; /* T, operational to full feature */
		}
		result = login_round(s, offer, flags, &request, &reply, bhs, deadline_ms);
		*ret_status = (uint16_t)(bhs[36] << 8 | bhs[37]);
		if (result != SPEAKER_OK)
			return result;
		/* Digests begin only with full feature phase, so the agreement waits. */
		adopt_keys(s, &reply);
		header_digest |= s->header_digest;
		data_digest |= s->data_digest;
		s->header_digest = s->data_digest = false;
		if ((bhs[1] & 0x83) == 0x83) {
			s->header_digest = header_digest;
			s->data_digest = data_digest;
			s->mrdsl = offer->mrdsl;
			s->tsih = (uint16_t)(bhs[14] << 8 | bhs[15]);
			s->logged_in = true;
			s->honest = false;
			return SPEAKER_OK;
		}
		if (step < OPERATIONAL || (step == OPERATIONAL && !(bhs[1] & 0x40)))
			step++;
	}
	return complain(s, "login does not end");
}
