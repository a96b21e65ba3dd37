/*
 * The mutator: many misbehaving iSCSI peers at once, from a seed. It throws garbage before login,
 * bends login requests, and, after a good login, sends commands whose fields, lengths, digests,
 * numbers and order lie; it opens connections and says nothing, stops reading, drips, and goes
 * away in the middle. A witness (witness.h) works beside it, and the daemon's process is watched:
 * it must live, give its descriptors back and not grow.
 *
 * What the peers receive is judged by speaker.h. Each worker has its own generator, so a run with
 * --workers 1 repeats as far as the target's timing allows.
 */
#include "speaker.h"
#include "watch.h"
#include "witness.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX      16
#define TARGETS_MAX      8
#define DATA_BYTES_MAX   (320u * 1024) /* beyond the largest segment the target takes */
#define STORM_SOCKETS    48
#define LOGIN_WAIT_MS    20000
#define PING_WAIT_MS     20000
#define SEND_WAIT_MS     3000
#define TRACE_PDUS       6
#define COMPLAINTS_SHOWN 5

enum kind {
	KIND_GARBAGE,
	KIND_LOGIN,
	KIND_STORM,
	KIND_SCSI_RANDOM,
	KIND_READ,
	KIND_WRITE,
	KIND_DATA_OUT,
	KIND_TMF,
	KIND_NOP,
	KIND_TEXT,
	KIND_LOGOUT,
	KIND_SNACK,
	KIND_FFP_LOGIN,
	KIND_OPCODE,
	KIND_AHS,
	KIND_DUPLICATE,
	KIND_CMDSN,
	KIND_DIGEST,
	KIND_CUT,
	KIND_HOARD,
	KIND_UNREAD,
	KIND_DRIP,
	KIND_SCSI_SANE,
	KIND_COUNT
};

static const char *const kind_names[KIND_COUNT] = {
	"garbage",      "login",  "storm",  "scsi-random", "read",      "write",
	"data-out",     "tmf",    "nop",    "text",        "logout",    "snack",
	"login-in-ffp", "opcode", "ahs",    "duplicate",   "cmdsn",     "digest",
	"cut",          "hoard",  "unread", "drip",        "scsi-sane",
};

static struct {
	struct sockaddr_storage portal;
	struct speaker_target targets[TARGETS_MAX], greedy;
	unsigned target_count, worker_count, seconds_max, stall_ms_max;
	uint64_t count, seed;
	bool only_set, mild;
	char only[32];
} options = {.worker_count = 6, .seconds_max = 600, .stall_ms_max = 10000, .count = 10000};

static atomic_ullong pdus_sent, connections, logins, logins_failed, pings, target_closed;
static atomic_ullong kind_counts[KIND_COUNT];
static atomic_uint complaint_count, unanswered_count, login_stall_count, refused_in_a_row;
static atomic_bool stop, nuisances_done; /* each of the slow ones had its turn */

struct worker {
	pthread_t thread;
	unsigned index;
	uint64_t random;
	uint8_t *data; /* random bytes, DATA_BYTES_MAX */
	uint8_t *out;
	uint8_t trace[TRACE_PDUS][SPEAKER_BHS_BYTES];
	unsigned trace_next;
	struct speaker speaker;
	uint16_t tsih; /* of the last good login */
	bool framed;   /* what was sent on this connection has sane lengths so far */
};

/* --- randomness --- */

static uint64_t next_random(struct worker *w)
{
	uint64_t z = (w->random += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint32_t below(struct worker *w, uint32_t bound)
{
	return (uint32_t)((next_random(w) >> 32) * bound >> 32);
}

static bool percent(struct worker *w, unsigned chance)
{
	return below(w, 100) < chance;
}

/* A number that tends to sit on an edge. */
static uint32_t edgy(struct worker *w)
{
	static const uint32_t edges[] = {
		0,       1,        2,         3,          4,          7,          8,         47,
		48,      255,      256,       511,        512,        513,        4095,      4096,
		4097,    8191,     8192,      65535,      65536,      262143,     262144,    262145,
		1048576, 0xffffff, 0x1000000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

	switch (below(w, 4)) {
	case 0: return (uint32_t)next_random(w);
	case 1: return below(w, 1024);
	default: return edges[below(w, sizeof(edges) / sizeof(edges[0]))];
	}
}

static void random_bytes(struct worker *w, uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)next_random(w);
}

/* --- sending --- */

static void note(struct worker *w, enum kind kind, const uint8_t *bytes, size_t count)
{
	uint8_t *trace = w->trace[w->trace_next++ % TRACE_PDUS];

	memset(trace, 0, SPEAKER_BHS_BYTES);
	memcpy(trace, bytes, count < SPEAKER_BHS_BYTES ? count : SPEAKER_BHS_BYTES);
	atomic_fetch_add(&kind_counts[kind], 1);
	if (atomic_fetch_add(&pdus_sent, 1) + 1 >= options.count && atomic_load(&nuisances_done))
		atomic_store(&stop, true);
}

static void judge(struct worker *w, enum speaker_result result)
{
	if (result == SPEAKER_CLOSED)
		atomic_fetch_add(&target_closed, 1);
	if (result == SPEAKER_COMPLAINT && atomic_fetch_add(&complaint_count, 1) < COMPLAINTS_SHOWN)
		fprintf(stderr, "mutator: worker %u: the target is wrong: %s\n", w->index,
			w->speaker.complaint);
}

/* Sends the PDU in one of several manners; false when the connection is over. */
static bool deliver(struct worker *w, const struct speaker_pdu *pdu, enum kind kind)
{
	struct speaker *s = &w->speaker;
	size_t bytes = speaker_pack(s, pdu, w->out), cut;
	enum speaker_result result;
	uint32_t manner = below(w, 1000);

	/* A text that changes our own limit in the middle: what comes then can't be judged. */
	if (s->logged_in && (pdu->bhs[0] & 0x3f) == IOP_TEXT && pdu->data_bytes &&
	    memmem(pdu->data, pdu->data_bytes, "MaxRecvData", 11)) {
		s->blind = true;
		w->framed = false;
	}
	if (manner < 4) { /* cut off, then gone */
		cut = below(w, (uint32_t)bytes);
		note(w, KIND_CUT, w->out, cut);
		w->framed = false;
		judge(w, speaker_send(s, w->out, cut, SEND_WAIT_MS));
		return false;
	}
	note(w, kind, w->out, bytes);
	if (manner < 8) { /* half-closed: answers may still come */
		judge(w, speaker_send(s, w->out, bytes, SEND_WAIT_MS));
		shutdown(s->fd, SHUT_WR);
		judge(w, speaker_receive(s, 20));
		return false;
	}
	if (manner < 30) { /* in two segments, the border anywhere */
		cut = below(w, (uint32_t)bytes);
		result = speaker_send(s, w->out, cut, SEND_WAIT_MS);
		usleep(below(w, 300));
		if (result == SPEAKER_OK)
			result = speaker_send(s, w->out + cut, bytes - cut, SEND_WAIT_MS);
	} else {
		result = speaker_send(s, w->out, bytes, SEND_WAIT_MS);
	}
	if (result == SPEAKER_OK)
		result = speaker_receive(s, 0);
	judge(w, result);
	return result == SPEAKER_OK;
}

/* Connects; false (after a pause) when nobody listens. */
static bool begin(struct worker *w, int rcvbuf_bytes)
{
	speaker_init(&w->speaker);
	w->framed = true;
	if (speaker_connect(&w->speaker, &options.portal, rcvbuf_bytes) == SPEAKER_OK) {
		atomic_fetch_add(&connections, 1);
		atomic_store(&refused_in_a_row, 0);
		return true;
	}
	speaker_done(&w->speaker, true);
	if (atomic_fetch_add(&refused_in_a_row, 1) > 200)
		atomic_store(&stop, true);
	usleep(5000);
	return false;
}

static void end(struct worker *w)
{
	/* Mostly resets: what the Linux initiator does, and it leaves no TIME_WAIT behind. */
	speaker_done(&w->speaker, percent(w, 90));
}

static bool log_in(struct worker *w, struct speaker_offer *ret_offer, bool greedy)
{
	static const uint32_t segments[] = {512, 1024, 8192, 65536, 262144};
	struct speaker_target target =
		greedy ? options.greedy : options.targets[below(w, options.target_count)];
	struct speaker_offer offer = {.isid = {0x80, 0, (uint8_t)w->index}};
	enum speaker_result result;
	uint16_t status = 0;

	/* Few ISIDs, so that sessions are reinstated; the greedy ones are to stay. */
	offer.isid[5] = (uint8_t)below(w, greedy ? 256 : 4);
	offer.header_digest = percent(w, 25);
	offer.data_digest = percent(w, 25);
	offer.immediate_data = percent(w, 70);
	offer.initial_r2t = percent(w, 50);
	offer.mrdsl = segments[below(w, 5)];
	offer.max_burst = segments[below(w, 5)] * (1 + below(w, 4));
	offer.first_burst =
		percent(w, 50) ? offer.max_burst : 512 + below(w, offer.max_burst - 511);
	offer.outstanding_r2t = 1 + below(w, 8);
	if (!greedy) {
		offer.discovery = percent(w, 8);
		/* Somebody else; and connections that want to join a session or bring it back. */
		if (percent(w, 5))
			strcat(target.initiator, "-other");
		if (percent(w, 8))
			offer.tsih = percent(w, 80) ? w->tsih : (uint16_t)next_random(w);
		if (percent(w, 8))
			offer.cid = (uint16_t)below(w, 3);
		/* Discovery needs no proof: half of the time it gives one all the same. */
		if (offer.discovery && percent(w, 50))
			target.user[0] = 0;
	}
	result = speaker_login(&w->speaker, &target, &offer, LOGIN_WAIT_MS, &status);
	*ret_offer = offer;
	if (result == SPEAKER_OK) {
		atomic_fetch_add(&logins, 1);
		w->tsih = w->speaker.tsih;
		return true;
	}
	atomic_fetch_add(&logins_failed, 1);
	if (result == SPEAKER_TIMEOUT)
		atomic_fetch_add(&login_stall_count, 1);
	else
		judge(w, result);
	return false;
}

/* --- before login --- */

static void run_garbage(struct worker *w)
{
	unsigned count = 1 + below(w, 12);

	if (!begin(w, 0))
		return;
	for (unsigned i = 0; i < count && !atomic_load(&stop); i++) {
		uint32_t bytes = 1 + below(w, percent(w, 10) ? 20000 : 600);

		random_bytes(w, w->out, bytes < 600 ? bytes : 600);
		/* Often with an opcode that gets past the first look. */
		if (percent(w, 60))
			w->out[0] = (uint8_t)(percent(w, 50) ? 0x43 : below(w, 0x11));
		note(w, KIND_GARBAGE, w->out, bytes);
		/* The answer to garbage may be anything but must be well-formed. */
		if (speaker_send(&w->speaker, w->out, bytes, 200) != SPEAKER_OK)
			break;
		enum speaker_result result = speaker_receive(&w->speaker, 0);

		judge(w, result);
		if (result != SPEAKER_OK)
			break;
	}
	end(w);
}

static const char *const login_keys[] = {
	"InitiatorName",
	"InitiatorAlias",
	"TargetName",
	"SessionType",
	"AuthMethod",
	"CHAP_A",
	"CHAP_I",
	"CHAP_C",
	"CHAP_N",
	"CHAP_R",
	"HeaderDigest",
	"DataDigest",
	"MaxConnections",
	"SendTargets",
	"TargetAlias",
	"TargetAddress",
	"TargetPortalGroupTag",
	"InitialR2T",
	"ImmediateData",
	"MaxRecvDataSegmentLength",
	"MaxBurstLength",
	"FirstBurstLength",
	"DefaultTime2Wait",
	"DefaultTime2Retain",
	"MaxOutstandingR2T",
	"DataPDUInOrder",
	"DataSequenceInOrder",
	"ErrorRecoveryLevel",
	"OFMarker",
	"IFMarker",
	"OFMarkInt",
	"IFMarkInt",
	"TaskReporting",
	"iSCSIProtocolLevel",
	"X-com.example.key",
	"Unknown",
	"",
	"initiatorname",
	"X#digest",
	"Y-org.example.auth",
	"Z-org.example.digest",
	"KRB_AP_REQ",
	"SRP_U",
	"SPKM_REQ",
};

static const char *const login_values[] = {
	"Yes",
	"No",
	"None",
	"CRC32C",
	"CRC32C,None",
	"None,CRC32C",
	"CHAP",
	"CHAP,None",
	"KRB5,SPKM1,SRP,CHAP,None",
	"Normal",
	"Discovery",
	"5",
	"5,6,7,8",
	"7",
	"0",
	"1",
	"-1",
	"+1",
	"512",
	"511",
	"8192",
	"0x2000",
	"0X10000",
	"16777215",
	"16777216",
	"4294967295",
	"4294967296",
	"18446744073709551616",
	"0xffffffffffffffffffffffff",
	"1~10",
	"Reject",
	"NotUnderstood",
	"Irrelevant",
	"",
	"0b",
	"0x",
	"0x0",
	"0bAAAA",
	"0bA===",
	"%00",
	"\x7f",
	",",
	",,,,",
	"None,None,None",
	"yes",
	"NONE",
	"All",
	"2048~8192,4096~16384",
};

static size_t add_pair(struct worker *w, uint8_t *text, size_t at, size_t room)
{
	const char *key = login_keys[below(w, sizeof(login_keys) / sizeof(login_keys[0]))];
	const char *value = login_values[below(w, sizeof(login_values) / sizeof(login_values[0]))];
	uint32_t how = below(w, 100);
	size_t begin_at = at;

	if (room - at < 600)
		return at;
	at += (size_t)sprintf((char *)text + at, "%s", key);
	if (how < 4) { /* a key without end */
		memset(text + at, 'K', 300);
		at += 300;
	}
	if (how < 90)
		text[at++] = '=';
	if (how >= 90 && how < 94) { /* binary */
		random_bytes(w, text + at, 60);
		at += 60;
	} else if (how >= 94 && how < 97) { /* long */
		memset(text + at, percent(w, 50) ? '7' : ',', 240);
		at += 240;
	} else {
		at += (size_t)sprintf((char *)text + at, "%s", value);
	}
	if (how != 50)
		text[at++] = 0;
	/* Twice the same. */
	if (how > 97 && at - begin_at < room - at) {
		memcpy(text + at, text + begin_at, at - begin_at);
		at += at - begin_at;
	}
	return at;
}

static size_t login_text(struct worker *w, uint8_t *text, size_t room, bool first)
{
	const struct speaker_target *target = &options.targets[below(w, options.target_count)];
	size_t at = 0;
	unsigned pairs = percent(w, 5) ? below(w, 200) : below(w, 12);

	if (first && percent(w, 85)) {
		at += (size_t)sprintf((char *)text + at, "InitiatorName=%s", target->initiator) + 1;
		if (percent(w, 90))
			at += (size_t)sprintf((char *)text + at, "TargetName=%s", target->name) + 1;
		at += (size_t)sprintf((char *)text + at, "SessionType=%s",
				      percent(w, 70) ? "Normal" : "Discovery") +
		      1;
		if (percent(w, 30))
			at += (size_t)sprintf((char *)text + at, "AuthMethod=CHAP,None") + 1;
	}
	if (percent(w, 15))
		at += (size_t)sprintf((char *)text + at, "CHAP_A=5") + 1;
	if (percent(w, 10))
		at += (size_t)sprintf((char *)text + at, "CHAP_N=%s%cCHAP_R=0x%032x", target->user,
				      0, (unsigned)next_random(w)) +
		      1;
	for (unsigned i = 0; i < pairs; i++)
		at = add_pair(w, text, at, room);
	if (percent(w, 3) && at) /* the last NUL is missing */
		at--;
	if (percent(w, 5) && at)
		text[below(w, (uint32_t)at)] = (uint8_t)next_random(w);
	return at;
}

static void login_header(struct worker *w, struct speaker_pdu *pdu, unsigned round)
{
	static const uint8_t flags[] = {0x87, 0x87, 0x87, 0x81, 0x81, 0x00, 0x04, 0x40,
					0x44, 0xc7, 0x83, 0x80, 0x8c, 0x0c, 0x86, 0x84};

	pdu->bhs[0] = IOP_LOGIN | IOP_IMMEDIATE;
	pdu->bhs[1] = percent(w, 90) ? flags[below(w, sizeof(flags))] : (uint8_t)next_random(w);
	pdu->bhs[8] = 0x80;
	pdu->bhs[10] = (uint8_t)w->index;
	speaker_put32(pdu->bhs + 16, 7);
	speaker_put32(pdu->bhs + 24, 1);
	if (percent(w, 6))
		pdu->bhs[2] = pdu->bhs[3] = (uint8_t)next_random(w); /* version */
	if (percent(w, 6))
		random_bytes(w, pdu->bhs + 8, 8); /* ISID, TSIH */
	if (percent(w, 6))
		pdu->bhs[14 + below(w, 2)] = (uint8_t)next_random(w);
	if (round && percent(w, 6))
		speaker_put32(pdu->bhs + 16 + 4 * below(w, 4), edgy(w)); /* tags, CID, numbers */
	if (percent(w, 3)) {
		pdu->ahs_bytes = 4 * below(w, percent(w, 80) ? 8 : 256);
		random_bytes(w, pdu->ahs, pdu->ahs_bytes);
	}
	if (percent(w, 4)) {
		pdu->lengths_lie = true;
		pdu->bhs[4] = percent(w, 30) ? (uint8_t)next_random(w) : 0;
		speaker_put24(pdu->bhs + 5, edgy(w) & 0xffffff);
	}
	if (percent(w, 3))
		pdu->bhs[0] = (uint8_t)next_random(w);
}

static void run_login(struct worker *w)
{
	/* Some go on with text that never ends, in PDUs with the C bit. */
	bool endless = percent(w, 4);
	unsigned rounds = endless ? 80 : 1 + below(w, 6);

	if (!begin(w, 0))
		return;
	for (unsigned i = 0; i < rounds && !atomic_load(&stop); i++) {
		struct speaker_pdu pdu = {.ahs_bytes = 0};
		size_t room = percent(w, 4) ? 70000 : 8192;
		bool wait = percent(w, 60);

		login_header(w, &pdu, i);
		pdu.data = w->data;
		pdu.data_bytes = (uint32_t)login_text(w, w->data, room, i == 0);
		if (endless) {
			pdu.bhs[1] = 0x40;
			if (percent(w, 50)) { /* one key over all PDUs */
				memset(w->data, 'a', 8192);
				pdu.data_bytes = i ? 8192 : pdu.data_bytes;
			}
		}
		if (!deliver(w, &pdu, KIND_LOGIN))
			break;
		if (w->speaker.blind && percent(w, 80)) {
			/* It came through after all: now nonsense with whatever was agreed. */
			random_bytes(w, w->out, 480);
			note(w, KIND_GARBAGE, w->out, 480);
			speaker_send(&w->speaker, w->out, 480, 200);
			break;
		}
		if (wait) {
			enum speaker_result result = speaker_receive(&w->speaker, 25);

			judge(w, result);
			if (result != SPEAKER_OK && result != SPEAKER_TIMEOUT)
				break;
		}
	}
	end(w);
}

static void run_storm(struct worker *w)
{
	int fds[STORM_SOCKETS];
	unsigned count = 4 + below(w, STORM_SOCKETS - 3);

	for (unsigned i = 0; i < count; i++) {
		fds[i] = -1;
		if (!begin(w, 0))
			continue;
		fds[i] = w->speaker.fd;
		w->speaker.fd = -1;
		speaker_done(&w->speaker, false);
		if (percent(w, 50)) {
			uint8_t part[SPEAKER_BHS_BYTES] = {IOP_LOGIN | IOP_IMMEDIATE, 0x87};
			size_t bytes = 1 + below(w, SPEAKER_BHS_BYTES);

			note(w, KIND_STORM, part, bytes);
			send(fds[i], part, bytes, MSG_NOSIGNAL);
		}
	}
	usleep(below(w, 20000));
	for (unsigned i = 0; i < count; i++) {
		struct linger linger = {.l_onoff = 1, .l_linger = 0};

		if (fds[i] < 0)
			continue;
		if (percent(w, 90))
			setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(fds[i]);
	}
}

/* --- after a good login --- */

static void set_lun(struct worker *w, struct speaker_pdu *pdu)
{
	if (percent(w, 92))
		return; /* LUN 0 */
	if (percent(w, 50))
		pdu->bhs[9] = (uint8_t)below(w, 20);
	else
		random_bytes(w, pdu->bhs + 8, 8);
}

static void put_data(struct worker *w, struct speaker_pdu *pdu, uint32_t bytes)
{
	pdu->data = w->data;
	pdu->data_bytes = bytes < DATA_BYTES_MAX ? bytes : DATA_BYTES_MAX;
}

/* A length for data that comes with a PDU: small, at the segment limit, or beyond it. */
static uint32_t some_bytes(struct worker *w)
{
	uint32_t bytes;

	switch (below(w, 20)) {
	case 0: return w->speaker.peer_mrdsl;
	case 1: return w->speaker.peer_mrdsl + 1 + below(w, 5);
	case 2: return below(w, DATA_BYTES_MAX);
	case 3: bytes = edgy(w); return bytes < 70000 ? bytes : 0;
	case 4:
	case 5: return below(w, 700);
	default: return 512 * below(w, 17);
	}
}

static const uint8_t known_commands[] = {
	0x00, 0x03, 0x04, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x1d, 0x1e, 0x25,
	0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x37, 0x3b, 0x3c, 0x41, 0x42, 0x48, 0x4d, 0x55,
	0x5a, 0x5e, 0x5f, 0x7f, 0x83, 0x84, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91,
	0x93, 0x9b, 0x9c, 0x9e, 0x9f, 0xa0, 0xa3, 0xa4, 0xa8, 0xaa, 0xae, 0xaf, 0xb7,
};

/* A CDB of a known command with fields on their edges, or of no command at all. */
static void random_cdb(struct worker *w, uint8_t *cdb)
{
	random_bytes(w, cdb, 16);
	if (percent(w, 10))
		return;
	cdb[0] = known_commands[below(w, sizeof(known_commands))];
	if (percent(w, 70)) { /* sparse: most bits zero, as real ones are */
		for (int i = 1; i < 16; i++)
			if (percent(w, 75))
				cdb[i] = 0;
	}
	if (percent(w, 40)) {
		speaker_put32(cdb + 2 + 4 * below(w, 3), edgy(w));
	}
	switch (cdb[0]) {
	case 0x12:
		cdb[1] &= percent(w, 80) ? 1 : 0xff;
		if (percent(w, 70))
			cdb[2] =
				(uint8_t)(percent(w, 50) ? 0x80 + below(w, 8) : 0xb0 + below(w, 8));
		break;
	case 0x9e: cdb[1] = (uint8_t)(percent(w, 50) ? 0x10 : 0x12); break;
	case 0xa3: cdb[1] = (uint8_t)(percent(w, 80) ? 0x0c : below(w, 32)); break;
	case 0x1b: /* an ejected disk would make all else dull */ cdb[4] &= 0xf1; break;
	}
}

static enum kind build_scsi_random(struct worker *w, struct speaker_pdu *pdu)
{
	speaker_command(&w->speaker, pdu, IOP_SCSI | (percent(w, 10) ? IOP_IMMEDIATE : 0));
	pdu->bhs[1] = percent(w, 80) ? (uint8_t)(0x80 | (below(w, 4) << 5) | below(w, 6))
				     : (uint8_t)next_random(w);
	set_lun(w, pdu);
	speaker_put32(pdu->bhs + 20, edgy(w)); /* EDTL */
	random_cdb(w, pdu->bhs + 32);
	if (percent(w, 30))
		put_data(w, pdu, some_bytes(w));
	return KIND_SCSI_RANDOM;
}

/* Commands whose CDB, lengths and data fit together, or nearly, so that they get past the first
 * checks: one row a command, with where its length stands and in what unit. */
static const struct {
	uint8_t opcode, byte1, length_at, length_size;
	enum { UNIT_BYTES, UNIT_BLOCKS, UNIT_TWO, UNIT_ONE, UNIT_NONE } unit;
	bool out;
	uint8_t lba_at, lba_size;
} sane_commands[] = {
	{0x41, 0x00, 7, 2, UNIT_ONE, true, 2, 4},     {0x41, 0x08, 7, 2, UNIT_ONE, true, 2, 4},
	{0x93, 0x00, 10, 4, UNIT_ONE, true, 2, 8},    {0x93, 0x08, 10, 4, UNIT_ONE, true, 2, 8},
	{0x93, 0x01, 10, 4, UNIT_NONE, false, 2, 8},  {0x93, 0x09, 10, 4, UNIT_NONE, false, 2, 8},
	{0x42, 0x00, 7, 2, UNIT_BYTES, true, 0, 0},   {0x89, 0x00, 13, 1, UNIT_TWO, true, 2, 8},
	{0x8b, 0x00, 10, 4, UNIT_BLOCKS, true, 2, 8}, {0x2f, 0x02, 7, 2, UNIT_BLOCKS, true, 2, 4},
	{0x2f, 0x00, 7, 2, UNIT_NONE, false, 2, 4},   {0x8f, 0x02, 10, 4, UNIT_BLOCKS, true, 2, 8},
	{0xaf, 0x00, 6, 4, UNIT_NONE, false, 2, 4},   {0x2e, 0x02, 7, 2, UNIT_BLOCKS, true, 2, 4},
	{0x8e, 0x00, 10, 4, UNIT_BLOCKS, true, 2, 8}, {0xae, 0x00, 6, 4, UNIT_BLOCKS, true, 2, 4},
	{0x15, 0x10, 4, 1, UNIT_BYTES, true, 0, 0},   {0x55, 0x10, 7, 2, UNIT_BYTES, true, 0, 0},
	{0x1a, 0x00, 4, 1, UNIT_BYTES, false, 0, 0},  {0x5a, 0x00, 7, 2, UNIT_BYTES, false, 0, 0},
	{0x8a, 0x00, 10, 4, UNIT_BLOCKS, true, 2, 8}, {0x88, 0x00, 10, 4, UNIT_BLOCKS, false, 2, 8},
	{0xaa, 0x08, 6, 4, UNIT_BLOCKS, true, 2, 4},  {0xa8, 0x00, 6, 4, UNIT_BLOCKS, false, 2, 4},
	{0x35, 0x00, 7, 2, UNIT_NONE, false, 2, 4},   {0x91, 0x00, 10, 4, UNIT_NONE, false, 2, 8},
	{0x9e, 0x12, 10, 4, UNIT_BYTES, false, 2, 8}, {0x9e, 0x10, 10, 4, UNIT_BYTES, false, 0, 0},
	{0xa3, 0x0c, 6, 4, UNIT_BYTES, false, 0, 0},  {0xa0, 0x00, 6, 4, UNIT_BYTES, false, 0, 0},
	{0x16, 0x00, 4, 1, UNIT_NONE, false, 0, 0},   {0x17, 0x00, 4, 1, UNIT_NONE, false, 0, 0},
	{0x34, 0x00, 7, 2, UNIT_NONE, false, 2, 4},   {0x5e, 0x00, 7, 2, UNIT_BYTES, false, 0, 0},
	{0x5f, 0x00, 5, 4, UNIT_BYTES, true, 0, 0},   {0x03, 0x00, 4, 1, UNIT_BYTES, false, 0, 0},
};

static void put_number(uint8_t *p, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size; i++)
		p[i] = (uint8_t)(size - i > 4 ? 0 : value >> (8 * (size - i - 1)));
}

/* What UNMAP and MODE SELECT find in their data, now and then rightly. */
static void fill_parameters(struct worker *w, uint8_t opcode, uint32_t bytes)
{
	static const uint8_t caching[24] = {0, 0, 0, 0, 0x08, 0x12, 0x04};

	random_bytes(w, w->data, 64);
	if (percent(w, 20))
		return;
	memset(w->data, 0, bytes < 512 ? 512 : bytes);
	if (opcode == 0x42) {
		speaker_put32(w->data, (bytes - 2) << 16 | ((bytes - 8) & 0xffff));
		for (uint32_t at = 8; at + 16 <= bytes; at += 16) {
			speaker_put32(w->data + at + 4, below(w, 131072 + 100));
			speaker_put32(w->data + at + 8, percent(w, 90) ? below(w, 300) : edgy(w));
		}
	} else if (opcode == 0x15) {
		memcpy(w->data, caching, sizeof(caching));
	} else if (opcode == 0x55) {
		memcpy(w->data + 4, caching, sizeof(caching));
		w->data[below(w, 32)] ^= percent(w, 50) ? (uint8_t)next_random(w) : 0;
	}
}

static enum kind build_scsi_sane(struct worker *w, struct speaker_pdu *pdu)
{
	uint32_t row = below(w, sizeof(sane_commands) / sizeof(sane_commands[0]));
	uint32_t count = percent(w, 90) ? below(w, 33) : edgy(w), bytes = 0;
	uint8_t opcode = sane_commands[row].opcode, *cdb = pdu->bhs + 32;
	bool out = sane_commands[row].out;

	speaker_command(&w->speaker, pdu, IOP_SCSI);
	switch (sane_commands[row].unit) {
	case UNIT_BYTES:
		count = opcode == 0x15 || opcode == 0x55 ? 24 + below(w, 9)
			: opcode == 0x42                 ? 8 + 16 * below(w, 20) + below(w, 2)
							 : below(w, 600);
		bytes = count;
		break;
	case UNIT_BLOCKS: bytes = count * 512; break;
	case UNIT_TWO:
		count &= 0xff;
		bytes = count * 1024;
		break;
	case UNIT_ONE: bytes = 512; break;
	case UNIT_NONE: break;
	}
	cdb[0] = opcode;
	cdb[1] = sane_commands[row].byte1;
	if (sane_commands[row].lba_at)
		put_number(cdb + sane_commands[row].lba_at, sane_commands[row].lba_size,
			   percent(w, 95) ? below(w, 131072) : edgy(w));
	put_number(cdb + sane_commands[row].length_at, sane_commands[row].length_size, count);
	if (opcode == 0x1a || opcode == 0x5a)
		cdb[2] = percent(w, 50) ? 0x3f : (uint8_t)next_random(w);
	if (percent(w, 5))
		cdb[below(w, 16)] ^= (uint8_t)(1u << below(w, 8));
	pdu->bhs[1] = (uint8_t)(0x80 |
				(out     ? 0x20
				 : bytes ? 0x40
					 : 0) |
				(percent(w, 80) ? 1 : below(w, 4)));
	speaker_put32(pdu->bhs + 20, percent(w, 92) ? bytes : edgy(w));
	if (out)
		fill_parameters(w, opcode, bytes < 4096 ? bytes : 4096);
	if (out && bytes <= w->speaker.peer_mrdsl && bytes <= 65536 && percent(w, 60))
		put_data(w, pdu, bytes);
	return KIND_SCSI_SANE;
}

static enum kind build_read(struct worker *w, struct speaker_pdu *pdu)
{
	uint32_t blocks = percent(w, 90) ? below(w, 65) : edgy(w) & 0xffff;

	speaker_command(&w->speaker, pdu, IOP_SCSI);
	pdu->bhs[1] = 0xc1; /* F, R, simple */
	set_lun(w, pdu);
	speaker_put32(pdu->bhs + 20, percent(w, 70) ? blocks * 512 : edgy(w));
	pdu->bhs[32] = 0x28;
	speaker_put32(pdu->bhs + 34, percent(w, 90) ? below(w, 60000) : edgy(w));
	pdu->bhs[39] = (uint8_t)(blocks >> 8);
	pdu->bhs[40] = (uint8_t)blocks;
	return KIND_READ;
}

static enum kind build_write(struct worker *w, struct speaker_pdu *pdu)
{
	uint32_t blocks = percent(w, 90) ? below(w, 129) : edgy(w) & 0xffff;

	speaker_command(&w->speaker, pdu, IOP_SCSI);
	pdu->bhs[1] = percent(w, 60) ? 0xa1 : 0x21; /* with F, or more unsolicited to come */
	set_lun(w, pdu);
	speaker_put32(pdu->bhs + 20, percent(w, 75) ? blocks * 512 : edgy(w));
	pdu->bhs[32] = percent(w, 80) ? 0x2a : 0x2e;
	pdu->bhs[33] = percent(w, 10) ? 0x08 : 0; /* FUA */
	speaker_put32(pdu->bhs + 34, percent(w, 90) ? below(w, 60000) : edgy(w));
	pdu->bhs[39] = (uint8_t)(blocks >> 8);
	pdu->bhs[40] = (uint8_t)blocks;
	if (percent(w, 50)) {
		uint32_t bytes = percent(w, 70) ? blocks * 512 : some_bytes(w);

		put_data(w, pdu, bytes > w->speaker.peer_mrdsl && percent(w, 95) ? 0 : bytes);
	}
	return KIND_WRITE;
}

/* Answers an R2T, rightly or nearly, or sends what nobody asked for. */
static enum kind build_data_out(struct worker *w, struct speaker_pdu *pdu)
{
	struct speaker *s = &w->speaker;

	speaker_command(s, pdu, IOP_DATA | IOP_IMMEDIATE);
	pdu->bhs[0] = IOP_DATA;
	pdu->bhs[1] = percent(w, 70) ? 0x80 : 0;
	if (s->r2t_count && percent(w, 85)) {
		struct speaker_r2t *r2t = &s->r2ts[below(w, s->r2t_count)];
		uint32_t bytes = r2t->bytes < s->peer_mrdsl ? r2t->bytes : s->peer_mrdsl;

		memcpy(pdu->bhs + 8, r2t->lun, 8);
		speaker_put32(pdu->bhs + 16, r2t->itt);
		speaker_put32(pdu->bhs + 20, r2t->ttt);
		speaker_put32(pdu->bhs + 40, r2t->offset);
		put_data(w, pdu, bytes);
		pdu->bhs[1] = bytes == r2t->bytes ? 0x80 : 0;
		*r2t = s->r2ts[--s->r2t_count];
		if (percent(w, 60))
			return KIND_DATA_OUT;
	} else {
		speaker_put32(pdu->bhs + 16, s->next_itt - below(w, 8));
		speaker_put32(pdu->bhs + 20, percent(w, 70) ? SPEAKER_NO_TAG : edgy(w));
		put_data(w, pdu, some_bytes(w));
	}
	switch (below(w, 8)) {
	case 0: speaker_put32(pdu->bhs + 36, edgy(w)); break; /* DataSN */
	case 1: speaker_put32(pdu->bhs + 40, edgy(w)); break; /* offset */
	case 2: speaker_put32(pdu->bhs + 20, edgy(w)); break; /* TTT */
	case 3: speaker_put32(pdu->bhs + 16, edgy(w)); break; /* ITT */
	case 4: random_bytes(w, pdu->bhs + 8, 8); break;      /* LUN */
	case 5: put_data(w, pdu, some_bytes(w)); break;
	case 6: pdu->bhs[1] ^= 0x80; break;
	case 7: pdu->data_bytes = 0; break;
	}
	return KIND_DATA_OUT;
}

static enum kind build_tmf(struct worker *w, struct speaker_pdu *pdu)
{
	struct speaker *s = &w->speaker;

	speaker_command(s, pdu, IOP_TMF | (percent(w, 70) ? IOP_IMMEDIATE : 0));
	pdu->bhs[1] = (uint8_t)(0x80 | (percent(w, 90) ? below(w, 13) : below(w, 128)));
	set_lun(w, pdu);
	speaker_put32(pdu->bhs + 20, percent(w, 80) ? s->next_itt - below(w, 40) : edgy(w));
	speaker_put32(pdu->bhs + 32,
		      percent(w, 80) ? s->cmdsn - below(w, 20) : edgy(w)); /* RefCmdSN */
	speaker_put32(pdu->bhs + 36, percent(w, 80) ? 0 : edgy(w));
	if (percent(w, 5))
		put_data(w, pdu, some_bytes(w));
	return KIND_TMF;
}

static enum kind build_nop(struct worker *w, struct speaker_pdu *pdu)
{
	speaker_command(&w->speaker, pdu, IOP_NOP | (percent(w, 60) ? IOP_IMMEDIATE : 0));
	speaker_put32(pdu->bhs + 20, percent(w, 80) ? SPEAKER_NO_TAG : edgy(w));
	if (percent(w, 20))
		speaker_put32(pdu->bhs + 16, SPEAKER_NO_TAG);
	set_lun(w, pdu);
	put_data(w, pdu, percent(w, 50) ? below(w, 5000) : some_bytes(w));
	if (w->speaker.ping_ttt && percent(w, 70)) { /* an answer */
		speaker_put32(pdu->bhs + 16, SPEAKER_NO_TAG);
		speaker_put32(pdu->bhs + 20, w->speaker.ping_ttt);
		memcpy(pdu->bhs + 8, w->speaker.ping_lun, 8);
		pdu->data_bytes = 0;
		w->speaker.ping_ttt = 0;
	}
	return KIND_NOP;
}

static enum kind build_text(struct worker *w, struct speaker_pdu *pdu)
{
	size_t bytes = 0;

	speaker_command(&w->speaker, pdu, IOP_TEXT | (percent(w, 50) ? IOP_IMMEDIATE : 0));
	pdu->bhs[1] = percent(w, 70) ? 0x80 : (uint8_t)(below(w, 4) << 6);
	speaker_put32(pdu->bhs + 20, percent(w, 80) ? SPEAKER_NO_TAG : edgy(w));
	if (percent(w, 50))
		bytes = (size_t)sprintf((char *)w->data, "SendTargets=%s",
					percent(w, 50) ? "" : options.targets[0].name) +
			1;
	for (unsigned i = below(w, 5); i; i--)
		bytes = add_pair(w, w->data, bytes, 8192);
	put_data(w, pdu, (uint32_t)bytes);
	if (percent(w, 5))
		put_data(w, pdu, some_bytes(w));
	if (percent(w, 30)) { /* going on where it was */
		speaker_put32(pdu->bhs + 16, w->speaker.text_itt);
		speaker_put32(pdu->bhs + 20, w->speaker.text_ttt);
	}
	return KIND_TEXT;
}

static enum kind build_logout(struct worker *w, struct speaker_pdu *pdu)
{
	speaker_command(&w->speaker, pdu, IOP_LOGOUT | (percent(w, 50) ? IOP_IMMEDIATE : 0));
	pdu->bhs[1] = (uint8_t)(0x80 | (percent(w, 30) ? below(w, 3) : 2 + below(w, 126)));
	pdu->bhs[20] = (uint8_t)(percent(w, 50) ? 0 : next_random(w));
	pdu->bhs[21] = (uint8_t)(percent(w, 50) ? 0 : next_random(w));
	if (percent(w, 5))
		put_data(w, pdu, some_bytes(w));
	return KIND_LOGOUT;
}

static enum kind build_snack(struct worker *w, struct speaker_pdu *pdu)
{
	speaker_command(&w->speaker, pdu, IOP_SNACK | IOP_IMMEDIATE);
	pdu->bhs[0] = IOP_SNACK;
	pdu->bhs[1] = (uint8_t)(0x80 | below(w, 16));
	speaker_put32(pdu->bhs + 16, edgy(w));
	speaker_put32(pdu->bhs + 20, edgy(w));
	speaker_put32(pdu->bhs + 40, edgy(w));
	speaker_put32(pdu->bhs + 44, edgy(w));
	return KIND_SNACK;
}

static enum kind build_ffp_login(struct worker *w, struct speaker_pdu *pdu)
{
	speaker_command(&w->speaker, pdu, IOP_LOGIN | IOP_IMMEDIATE);
	login_header(w, pdu, 1);
	pdu->lengths_lie = false;
	put_data(w, pdu, (uint32_t)login_text(w, w->data, 8192, percent(w, 50)));
	return KIND_FFP_LOGIN;
}

static enum kind build_opcode(struct worker *w, struct speaker_pdu *pdu)
{
	speaker_command(&w->speaker, pdu, IOP_IMMEDIATE);
	random_bytes(w, pdu->bhs, SPEAKER_BHS_BYTES);
	if (percent(w, 30))
		put_data(w, pdu, some_bytes(w));
	return KIND_OPCODE;
}

static enum kind build_ahs(struct worker *w, struct speaker_pdu *pdu)
{
	if (percent(w, 50))
		build_write(w, pdu);
	else
		build_scsi_random(w, pdu);
	pdu->ahs_bytes = 4 * (percent(w, 80) ? 1 + below(w, 6) : below(w, 256));
	random_bytes(w, pdu->ahs, pdu->ahs_bytes);
	if (percent(w, 70) && pdu->ahs_bytes) { /* an AHS length that fits, or nearly */
		pdu->ahs[0] = 0;
		pdu->ahs[1] = (uint8_t)(pdu->ahs_bytes - 3 + below(w, 3) - 1);
		pdu->ahs[2] = (uint8_t)(percent(w, 80) ? 1 + below(w, 2) : below(w, 64));
	}
	return KIND_AHS;
}

static enum kind build_duplicate(struct worker *w, struct speaker_pdu *pdu)
{
	struct speaker *s = &w->speaker;

	if (percent(w, 50))
		build_write(w, pdu);
	else
		build_read(w, pdu);
	speaker_put32(pdu->bhs + 16, s->next_itt - 1 - below(w, 8));
	if (percent(w, 30)) /* the CmdSN too */
		speaker_put32(pdu->bhs + 24, s->cmdsn - 1 - below(w, 4));
	return KIND_DUPLICATE;
}

/* Out of the window, behind it, at its edge, or with a gap that is filled later. */
static enum kind build_cmdsn(struct worker *w, struct speaker_pdu *pdu)
{
	struct speaker *s = &w->speaker;
	uint32_t cmdsn;

	build_read(w, pdu);
	switch (below(w, 5)) {
	case 0: cmdsn = s->maxcmdsn + 1 + below(w, 3); break;
	case 1: cmdsn = s->expcmdsn - 1 - below(w, 3); break;
	case 2: cmdsn = s->maxcmdsn; break;
	case 3: cmdsn = s->cmdsn + below(w, 5); break;
	default: cmdsn = edgy(w); break;
	}
	speaker_put32(pdu->bhs + 24, cmdsn);
	s->cmdsn--; /* honest commands go on where they were */
	return KIND_CMDSN;
}

static enum kind build_digest(struct worker *w, struct speaker_pdu *pdu)
{
	build_write(w, pdu);
	switch (below(w, 6)) {
	case 0: pdu->header_digest_wrong = true; break;
	case 1:
		pdu->digests_absent = true;
		w->framed = false;
		break;
	default: pdu->data_digest_wrong = true; break;
	}
	return KIND_DIGEST;
}

static const struct {
	enum kind (*build)(struct worker *w, struct speaker_pdu *pdu);
	unsigned weight;
} builders[] = {
	{build_scsi_random, 12}, {build_scsi_sane, 12}, {build_read, 10},     {build_write, 16},
	{build_data_out, 16},    {build_tmf, 6},        {build_nop, 6},       {build_text, 4},
	{build_logout, 1},       {build_snack, 2},      {build_ffp_login, 1}, {build_opcode, 2},
	{build_ahs, 3},          {build_duplicate, 4},  {build_cmdsn, 4},     {build_digest, 1},
};

static enum kind build_any(struct worker *w, struct speaker_pdu *pdu)
{
	uint32_t pick = below(w, 100);

	for (size_t i = 0; i < sizeof(builders) / sizeof(builders[0]); i++) {
		if (pick < builders[i].weight)
			return builders[i].build(w, pdu);
		pick -= builders[i].weight;
	}
	return build_scsi_random(w, pdu);
}

static void mutate_header(struct worker *w, struct speaker_pdu *pdu)
{
	for (unsigned i = 1 + below(w, 4); i; i--) {
		uint32_t at = below(w, SPEAKER_BHS_BYTES - 4);

		/* Bytes 4 to 7 are the lengths: those lie elsewhere, and seldom. */
		if (at >= 4)
			at += 4;
		if (percent(w, 50))
			pdu->bhs[at] ^= (uint8_t)(1u << below(w, 8));
		else
			pdu->bhs[at] = (uint8_t)next_random(w);
	}
}

static void run_session(struct worker *w)
{
	unsigned count = 1 + below(w, 150);
	/* Among them sessions of mere near-misses, which the target does not close. */
	unsigned mutated = percent(w, 50) ? 0 : 15;
	struct speaker_offer offer;

	if (!begin(w, 0))
		return;
	if (!log_in(w, &offer, false)) {
		end(w);
		return;
	}
	for (unsigned i = 0; i < count && !atomic_load(&stop); i++) {
		struct speaker_pdu pdu;
		enum kind kind = build_any(w, &pdu);

		if (options.only_set && strcmp(options.only, kind_names[kind]))
			continue;
		if (percent(w, mutated))
			mutate_header(w, &pdu);
		if (below(w, 1000) < 5) {
			pdu.lengths_lie = true;
			pdu.bhs[4] = percent(w, 30) ? (uint8_t)next_random(w) : 0;
			speaker_put24(pdu.bhs + 5, edgy(w));
			w->framed = false;
		}
		if (!deliver(w, &pdu, kind))
			goto out;
	}
	/* Whatever came before: as long as PDUs were framed, an immediate ping is answered or the
	 * connection is closed. */
	if (w->framed && percent(w, 60) && !atomic_load(&stop)) {
		enum speaker_result result = speaker_ping(&w->speaker, PING_WAIT_MS);

		atomic_fetch_add(&pings, 1);
		judge(w, result);
		if (result == SPEAKER_TIMEOUT && !atomic_fetch_add(&unanswered_count, 1)) {
			fprintf(stderr, "mutator: worker %u: a ping got no answer in %d ms\n",
				w->index, PING_WAIT_MS);
		}
	}
out:
	end(w);
}

/* --- the slow ones, on a thread of their own --- */

/* Sends without ever reading; false when the target takes no more. */
static bool push(int fd, const uint8_t *bytes, size_t count)
{
	for (unsigned tries = 0; count && tries < 100; tries++) {
		ssize_t put = send(fd, bytes, count, MSG_NOSIGNAL);

		if (put < 0 && errno != EAGAIN)
			return false;
		if (put < 0) {
			usleep(1000);
			continue;
		}
		bytes += put;
		count -= (size_t)put;
	}
	return !count;
}

/* Sessions that take what they can get and give nothing: writes without data, or reads whose
 * answers nobody takes, or pings with much to echo. */
static void run_greedy(struct worker *w, enum kind kind)
{
	enum { SESSIONS = 12, COMMANDS = 64 };
	struct speaker *sessions = calloc(SESSIONS, sizeof(*sessions));
	unsigned open_count = 0;

	if (!sessions)
		return;
	while (open_count < SESSIONS && !atomic_load(&stop)) {
		struct speaker_offer offer;

		if (!begin(w, kind == KIND_HOARD ? 0 : 4096))
			break;
		if (!log_in(w, &offer, true)) {
			end(w);
			break;
		}
		for (unsigned i = 0; i < COMMANDS; i++) {
			struct speaker_pdu pdu;
			size_t bytes;

			bool reads = kind == KIND_UNREAD;

			build_read(w, &pdu);
			memset(pdu.bhs + 8, 0, 8);
			pdu.bhs[1] = reads ? 0xc1 : 0xa1;
			pdu.bhs[32] = reads ? 0x28 : 0x2a;
			speaker_put32(pdu.bhs + 20, 1u << 20);
			speaker_put32(pdu.bhs + 34, below(w, 60000));
			pdu.bhs[39] = 2048 >> 8;
			pdu.bhs[40] = 0;
			if (kind == KIND_NOP) {
				build_nop(w, &pdu);
				put_data(w, &pdu, w->speaker.peer_mrdsl);
			}
			bytes = speaker_pack(&w->speaker, &pdu, w->out);
			note(w, kind, w->out, bytes);
			if (!push(w->speaker.fd, w->out, bytes))
				break;
		}
		sessions[open_count++] = w->speaker;
	}
	/* Longer than the witness may wait. */
	for (unsigned i = 0; i < 115 && !atomic_load(&stop); i++)
		usleep(100000);
	for (unsigned i = 0; i < open_count; i++)
		speaker_done(&sessions[i], percent(w, 70));
	free(sessions);
}

static void run_drip(struct worker *w)
{
	struct speaker_offer offer;
	bool logged_in = percent(w, 50);
	struct speaker_pdu pdu = {.ahs_bytes = 0};
	size_t bytes;

	if (!begin(w, 0))
		return;
	if (logged_in && !log_in(w, &offer, true)) {
		end(w);
		return;
	}
	if (logged_in) {
		build_any(w, &pdu);
	} else {
		login_header(w, &pdu, 0);
		pdu.data = w->data;
		pdu.data_bytes = (uint32_t)login_text(w, w->data, 8192, true);
	}
	bytes = speaker_pack(&w->speaker, &pdu, w->out);
	note(w, KIND_DRIP, w->out, bytes);
	for (size_t i = 0; i < bytes && i < 400 && !atomic_load(&stop); i++) {
		if (speaker_send(&w->speaker, w->out + i, 1, 1000) != SPEAKER_OK)
			break;
		usleep(4000);
	}
	end(w);
}

static void *nuisance_run(void *arg)
{
	struct worker *w = arg;

	if (options.only_set || options.mild)
		atomic_store(&nuisances_done, true);
	while (!options.only_set && !options.mild && !atomic_load(&stop)) {
		run_greedy(w, KIND_HOARD);
		run_drip(w);
		run_greedy(w, KIND_UNREAD);
		run_greedy(w, KIND_NOP);
		run_drip(w);
		atomic_store(&nuisances_done, true);
	}
	return NULL;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop)) {
		uint32_t pick = below(w, 100);

		if (options.only_set && strcmp(options.only, "login"))
			run_session(w);
		else if (options.only_set || pick < 40)
			run_login(w);
		else if (pick < 86)
			run_session(w);
		else if (pick < 97)
			run_garbage(w);
		else
			run_storm(w);
	}
	return NULL;
}

/* --- the run --- */

static void usage(void)
{
	fputs("usage: mutator --portal ADDR:PORT --target IQN [--user U --secret S] [--initiator "
	      "I]\n"
	      "         [--target ...] [--count PDUS] [--seed N] [--workers N] [--seconds MAX]\n"
	      "         [--greedy IQN] [--pid DAEMON] [--witness-url URL] [--stall-ms MAX] "
	      "[--rss-slack-mib N]\n"
	      "         [--only KIND] [--mild]          (mild: without the slow peers)\n"
	      "User, secret and initiator belong to the target named before them. The first "
	      "target\n"
	      "should take several sessions at once, and so must the one for --greedy, which only "
	      "those\n"
	      "peers use that take and never give (default: the first).\n",
	      stderr);
	exit(2);
}

struct run {
	pid_t pid;
	const char *witness_url;
	unsigned rss_slack_mib;
};

static uint64_t number(const char *text)
{
	char *rest;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &rest, 0);
	if (errno || *rest || rest == text)
		usage();
	return value;
}

static void copy_text(char *to, size_t room, const char *from)
{
	if (strlen(from) >= room)
		usage();
	strcpy(to, from);
}

static void parse_options(int argc, char **argv, struct run *ret_run)
{
	static const struct option names[] = {
		{"portal", 1, NULL, 'p'},
		{"target", 1, NULL, 't'},
		{"user", 1, NULL, 'u'},
		{"secret", 1, NULL, 's'},
		{"initiator", 1, NULL, 'i'},
		{"count", 1, NULL, 'c'},
		{"seed", 1, NULL, 'r'},
		{"workers", 1, NULL, 'w'},
		{"seconds", 1, NULL, 'm'},
		{"pid", 1, NULL, 'd'},
		{"witness-url", 1, NULL, 'W'},
		{"stall-ms", 1, NULL, 'S'},
		{"rss-slack-mib", 1, NULL, 'R'},
		{"only", 1, NULL, 'o'},
		{"greedy", 1, NULL, 'g'},
		{"mild", 0, NULL, 'M'},
		{NULL, 0, NULL, 0},
	};
	struct speaker_target *target = NULL;
	bool portal = false;
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (strchr("usi", option) && !target)
			usage();
		switch (option) {
		case 'p': portal = speaker_parse_portal(optarg, &options.portal); break;
		case 't':
			if (options.target_count == TARGETS_MAX)
				usage();
			target = &options.targets[options.target_count++];
			copy_text(target->name, sizeof(target->name), optarg);
			copy_text(target->initiator, sizeof(target->initiator),
				  "iqn.2026-11.local.lunroot.test:hostile");
			break;
		case 'M': options.mild = true; break;
		case 'g':
			copy_text(options.greedy.name, sizeof(options.greedy.name), optarg);
			copy_text(options.greedy.initiator, sizeof(options.greedy.initiator),
				  "iqn.2026-11.local.lunroot.test:greedy");
			break;
		case 'u': copy_text(target->user, sizeof(target->user), optarg); break;
		case 's': copy_text(target->secret, sizeof(target->secret), optarg); break;
		case 'i': copy_text(target->initiator, sizeof(target->initiator), optarg); break;
		case 'c': options.count = number(optarg); break;
		case 'r': options.seed = number(optarg); break;
		case 'w': options.worker_count = (unsigned)number(optarg); break;
		case 'm': options.seconds_max = (unsigned)number(optarg); break;
		case 'd': ret_run->pid = (pid_t)number(optarg); break;
		case 'W': ret_run->witness_url = optarg; break;
		case 'S': options.stall_ms_max = (unsigned)number(optarg); break;
		case 'R': ret_run->rss_slack_mib = (unsigned)number(optarg); break;
		case 'o':
			copy_text(options.only, sizeof(options.only), optarg);
			options.only_set = true;
			break;
		default: usage();
		}
	}
	if (!options.greedy.name[0])
		options.greedy = options.targets[0];
	if (!portal || !options.target_count || !options.worker_count ||
	    options.worker_count > WORKERS_MAX || !options.count)
		usage();
}

static void start_worker(struct worker *w, unsigned index, void *(*run)(void *))
{
	w->index = index;
	w->random = options.seed * 1000003 + index;
	w->data = malloc(DATA_BYTES_MAX);
	w->out = calloc(1, SPEAKER_PACK_BYTES(DATA_BYTES_MAX));
	if (!w->data || !w->out)
		abort();
	random_bytes(w, w->data, DATA_BYTES_MAX);
	if (pthread_create(&w->thread, NULL, run, w))
		abort();
}

static void end_worker(struct worker *w)
{
	pthread_join(w->thread, NULL);
	free(w->data);
	free(w->out);
}

/* The last headers of each worker: one of them was too much. */
static void print_traces(const struct worker *workers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned j = 0; j < TRACE_PDUS; j++) {
			const uint8_t *trace =
				workers[i].trace[(workers[i].trace_next + j) % TRACE_PDUS];

			fprintf(stderr, "mutator: worker %u:", i);
			for (unsigned k = 0; k < SPEAKER_BHS_BYTES; k++)
				fprintf(stderr, "%s%02x", k % 4 ? "" : " ", trace[k]);
			fputc('\n', stderr);
		}
	}
}

/* Runs the workers until enough was sent; returns the seconds it took. */
static double run_workers(struct worker *workers, unsigned count, struct watch *watch,
			  struct witness *witness)
{
	uint64_t begin_ms = speaker_now_ms(), end_ms = begin_ms + options.seconds_max * 1000ull;
	double seconds;

	for (unsigned i = 0; i + 1 < count; i++)
		start_worker(&workers[i], i, worker_run);
	start_worker(&workers[count - 1], count - 1, nuisance_run);
	while (!atomic_load(&stop) && speaker_now_ms() < end_ms) {
		usleep(100000);
		if (watch)
			watch_sample(watch);
		if ((watch && !watch_alive(watch)) || (witness && witness_failed(witness)))
			break;
	}
	atomic_store(&stop, true);
	seconds = (double)(speaker_now_ms() - begin_ms) / 1000;
	for (unsigned i = 0; i < count; i++)
		end_worker(&workers[i]);
	return seconds;
}

static void print_counts(double seconds)
{
	unsigned long long sent = atomic_load(&pdus_sent);

	printf("%llu PDUs in %.1f s (%.0f/s), %llu connections, %llu good logins, %llu refused, "
	       "%llu closed by the target, %llu pings answered\n ",
	       sent, seconds, (double)sent / seconds, atomic_load(&connections),
	       atomic_load(&logins), atomic_load(&logins_failed), atomic_load(&target_closed),
	       atomic_load(&pings));
	for (int i = 0; i < KIND_COUNT; i++)
		printf(" %s %llu", kind_names[i], atomic_load(&kind_counts[i]));
	putchar('\n');
}

static bool check(bool good, const char *what)
{
	if (!good)
		printf("FAILED: %s\n", what);
	return good;
}

int main(int argc, char **argv)
{
	struct run run = {.rss_slack_mib = 16};
	static struct worker workers[WORKERS_MAX + 1];
	struct witness_report report = {.rounds = 0};
	struct witness *witness = NULL;
	struct watch watch;
	double seconds;
	bool good = true;

	options.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
	parse_options(argc, argv, &run);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	printf("mutator: seed %llu\n", (unsigned long long)options.seed);
	if (run.pid && !watch_begin(&watch, run.pid))
		return 2;
	if (run.witness_url) {
		witness = witness_start(run.witness_url, options.stall_ms_max);
		if (!witness)
			return 2;
	}
	seconds = run_workers(workers, options.worker_count + 1, run.pid ? &watch : NULL, witness);
	print_counts(seconds);
	if (witness) {
		witness_stop(witness, &report);
		printf("witness: %llu rounds of write, read and compare, slowest command %llu ms\n",
		       (unsigned long long)report.rounds, (unsigned long long)report.slowest_ms);
		good &= check(!report.failure[0], report.failure);
		good &= check(report.rounds > 0, "the witness did nothing");
	}
	if (run.pid) {
		bool alive = watch_alive(&watch);

		good &= check(alive, "the daemon is gone");
		if (!alive)
			print_traces(workers, options.worker_count + 1);
		else
			good &= check(watch_end(&watch, run.rss_slack_mib), watch.failure);
	}
	good &= check(!atomic_load(&complaint_count), "the target broke the protocol (see above)");
	good &= check(!atomic_load(&unanswered_count), "pings of framed sessions got no answer");
	good &= check(!atomic_load(&login_stall_count), "good logins got no answer");
	good &= check(atomic_load(&logins) > 0 || options.count < 1000, "no good login at all");
	good &= check(atomic_load(&pdus_sent) >= options.count,
		      "the count was not reached in time");
	puts(good ? "ok" : "not ok");
	return good ? 0 : 1;
}
