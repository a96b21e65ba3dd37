/*
 * The TFTP server on the loopback interface, with clients that do what clients should not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/cleanup.h"
#include "boot/fake_serve.h"
#include "boot/tftp.h"
#include "boot/tftp_packet.h"

#define SOON_MS   30000
#define NEVER_MS  60
#define RRQ(text) "\0\1" text "\0octet\0"

static struct fake fake;
static struct tftp *server;

struct client {
	int fd;
	struct sockaddr_in from; /* of the last packet */
	uint8_t packet[2000];
	ssize_t bytes;
};

static void begin(struct tftp_config config)
{
	if (config.address.s_addr == 0)
		config.address.s_addr = htonl(INADDR_LOOPBACK);
	fake_begin(&fake);
	assert_int_equal(tftp_new(fake.base, &config, &fake_ops, &fake, &server), 0);
}

static int end(void **state)
{
	(void)state;
	tftp_free(server);
	server = NULL;
	fake_end(&fake);
	return 0;
}

static struct sockaddr_in loopback(uint32_t host, uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(0x7f000000 | host)};
}

static struct client client_from(uint32_t host)
{
	struct client client = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)};
	struct sockaddr_in local = loopback(host, 0);

	assert_true(client.fd >= 0);
	assert_int_equal(bind(client.fd, (struct sockaddr *)&local, sizeof(local)), 0);
	return client;
}

static void say_to(struct client *client, struct sockaddr_in to, const void *packet, size_t bytes)
{
	assert_int_equal(sendto(client->fd, packet, bytes, 0, (struct sockaddr *)&to, sizeof(to)),
			 bytes);
}

static void ask_bytes(struct client *client, const void *packet, size_t bytes)
{
	say_to(client, loopback(1, tftp_port(server)), packet, bytes);
}
#define ASK(client, text) ask_bytes(client, text, sizeof(text) - 1)

static void acknowledge(struct client *client, uint16_t block)
{
	uint8_t packet[4] = {0, TFTP_ACK};

	put_be16(packet + 2, block);
	say_to(client, client->from, packet, sizeof(packet));
}

static bool hears(struct client *client, unsigned ms)
{
	socklen_t bytes = sizeof(client->from);

	if (!fake_readable(&fake, client->fd, ms))
		return false;
	client->bytes = recvfrom(client->fd, client->packet, sizeof(client->packet), 0,
				 (struct sockaddr *)&client->from, &bytes);
	assert_true(client->bytes >= 4);
	return true;
}

static void hears_data(struct client *client, uint16_t block, size_t bytes)
{
	do /* not what was sent again meanwhile */
		assert_true(hears(client, SOON_MS));
	while ((int16_t)(get_be16(client->packet + 2) - block) < 0);
	assert_int_equal(get_be16(client->packet), TFTP_DATA);
	assert_int_equal(get_be16(client->packet + 2), block);
	assert_int_equal(client->bytes, TFTP_HEADER_BYTES + bytes);
}

static void hears_error(struct client *client, uint16_t code)
{
	assert_true(hears(client, SOON_MS));
	assert_int_equal(get_be16(client->packet), TFTP_ERROR);
	assert_int_equal(get_be16(client->packet + 2), code);
	assert_int_equal(client->packet[client->bytes - 1], 0);
	assert_int_equal(strlen((char *)client->packet + 4), client->bytes - 5);
}

/* --- */

static void a_file_is_sent_from_a_port_of_its_own(void **state)
{
	struct client client;
	const struct fake_event *event;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(9);
	ASK(&client, RRQ("/small"));
	hears_data(&client, 1, 5);
	assert_memory_equal(client.packet + 4, "hello", 5);
	assert_int_not_equal(ntohs(client.from.sin_port), tftp_port(server));
	assert_int_equal(tftp_stats(server).sessions, 1);
	event = fake_await_event(&fake, 1);
	assert_int_equal(event->event, SERVE_ASKED);
	assert_string_equal(event->path, "small");
	assert_int_equal(event->progress.file_bytes, 5);
	assert_int_equal(ntohl(event->request.peer.sin_addr.s_addr), 0x7f000009);
	assert_int_equal(ntohl(event->request.local.sin_addr.s_addr), 0x7f000001);
	assert_int_equal(event->request.ifindex, if_nametoindex("lo"));
	assert_false(event->request.http);
	acknowledge(&client, 1);
	event = fake_await_event(&fake, 2);
	assert_int_equal(event->event, SERVE_SENT);
	assert_int_equal(event->progress.bytes, 5);
	assert_int_equal(event->progress.block_bytes, 512);
	assert_int_equal(tftp_stats(server).sessions, 0);
	assert_int_equal(tftp_stats(server).sent, 1);
	close(client.fd);
}

static void a_big_file_arrives_in_windows(void **state)
{
	struct client client;
	uint64_t got = 0;
	uint16_t block = 0;

	(void)state;
	begin((struct tftp_config){.confirm = true});
	client = client_from(1);
	ASK(&client, RRQ("big") "blksize\0"
				"9000\0windowsize\0"
				"5\0tsize\0"
				"0\0");
	assert_true(hears(&client, SOON_MS));
	assert_int_equal(client.bytes, 2 + 13 + 13 + 13);
	assert_memory_equal(client.packet,
			    "\0\6tsize\0"
			    "300007\0blksize\0"
			    "1468\0windowsize\0"
			    "5\0",
			    41);
	acknowledge(&client, 0);
	while (got < FAKE_BIG_BYTES) {
		size_t want = FAKE_BIG_BYTES - got < 1468 ? FAKE_BIG_BYTES - got : 1468;

		block++;
		hears_data(&client, block, want);
		for (size_t i = 0; i < want; i++) {
			if (client.packet[4 + i] != fake_byte(got + i))
				fail_msg("wrong byte at %zu", (size_t)got + i);
		}
		got += want;
		if (block % 5 == 0 || got == FAKE_BIG_BYTES)
			acknowledge(&client, block);
	}
	assert_int_equal(fake_await_event(&fake, 2)->event, SERVE_SENT);
	close(client.fd);
}

static void the_address_that_was_asked_answers(void **state)
{
	struct client client;

	(void)state;
	fake_begin(&fake);
	assert_int_equal(tftp_new(fake.base, &(struct tftp_config){0}, &fake_ops, &fake, &server),
			 0);
	client = client_from(9);
	say_to(&client, loopback(77, tftp_port(server)), RRQ("small"), sizeof(RRQ("small")) - 1);
	hears_data(&client, 1, 5);
	assert_int_equal(ntohl(client.from.sin_addr.s_addr), 0x7f00004d);
	say_to(&client, loopback(78, tftp_port(server)), RRQ("none"), sizeof(RRQ("none")) - 1);
	hears_error(&client, 1);
	assert_int_equal(ntohl(client.from.sin_addr.s_addr), 0x7f00004e);
	close(client.fd);
}

static void refusals(void **state)
{
	static const struct {
		const char *packet;
		size_t bytes;
		int code; /* -1: silence */
	} cases[] = {
#define CASE(packet, code) {packet, sizeof(packet) - 1, code}
		CASE(RRQ("none"), 1),
		CASE(RRQ(""), 1),
		CASE(RRQ("denied"), 2),
		CASE(RRQ("../small"), 2),
		CASE(RRQ("a\nb"), 2),
		CASE(RRQ("busy"), -1),
		CASE(RRQ("broken"), -1),
		CASE("\0\2small\0octet\0", 2),
		CASE("\0\1small\0mail\0", 4),
		CASE("\0\1small\0", 4),
		CASE("\0\1small", 4),
		/* What is no request may be an answer, and is never answered. */
		CASE("\0\3\0\1data", -1),
		CASE("\0\4\0\0", -1),
		CASE("\0\5\0\0no\0", -1),
		CASE("\0\6tsize\0"
		     "0\0",
		     -1),
		CASE("\0\7small\0octet\0", -1),
		CASE("\1\1small\0octet\0", -1),
		CASE("", -1),
		CASE("\0", -1),
#undef CASE
	};
	struct client client;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(1);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		ask_bytes(&client, cases[i].packet, cases[i].bytes);
		if (cases[i].code < 0) {
			assert_false(hears(&client, NEVER_MS));
			continue;
		}
		hears_error(&client, (uint16_t)cases[i].code);
	}
	assert_int_equal(tftp_stats(server).sessions, 0);
	assert_int_equal(fake.event_count, 2); /* of "none" and "denied" */
	assert_int_equal(fake.events[0].event, SERVE_MISSING);
	assert_string_equal(fake.events[0].path, "none");
	assert_int_equal(fake.events[1].event, SERVE_MISSING);
	assert_string_equal(fake.events[1].text, "not for this client");
	close(client.fd);
}

static void it_sends_again_when_nothing_comes(void **state)
{
	struct client client;
	uint64_t began;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(1);
	/* From before it is sent: who is told of it late doesn't take the wait for a short one. */
	began = fake_now_ms();
	ASK(&client, RRQ("big"));
	hears_data(&client, 1, 512);
	hears_data(&client, 1, 512);
	assert_in_range(fake_now_ms() - began, 90, 4000);
	acknowledge(&client, 1);
	hears_data(&client, 2, 512);
	for (unsigned i = 0; i < 20; i++)
		acknowledge(&client, 1);
	hears_data(&client, 2, 512); /* by the timer, not for the ACKs */
	assert_in_range(fake_now_ms() - began, 240, 8000);
	close(client.fd);
}

static void a_stranger_gets_error_5_and_disturbs_nothing(void **state)
{
	struct client client, stranger;
	struct sockaddr_in transfer;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(1);
	stranger = client_from(1);
	ASK(&client, RRQ("big"));
	hears_data(&client, 1, 512);
	transfer = client.from;
	say_to(&stranger, transfer, "\0\4\0\1", 4);
	hears_error(&stranger, 5);
	say_to(&stranger, transfer, "\0\5\0\0stop\0", 9);
	assert_false(hears(&stranger, NEVER_MS));
	say_to(&stranger, transfer, "\0\4\0\1", 4);
	close(stranger.fd); /* so that ERROR 5 comes back as ICMP */
	fake_run(&fake, 50);
	acknowledge(&client, 1);
	hears_data(&client, 2, 512);
	assert_int_equal(tftp_stats(server).strangers, 3);
	assert_int_equal(tftp_stats(server).sessions, 1);
	close(client.fd);
}

static void early_terminate_is_no_trouble(void **state)
{
	struct client client;
	const struct fake_event *event;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(1);
	ASK(&client, RRQ("big") "tsize\0"
				"0\0");
	assert_true(hears(&client, SOON_MS));
	say_to(&client, client.from, "\0\5\0\0Early terminate\0", 20);
	event = fake_await_event(&fake, 2);
	assert_int_equal(event->event, SERVE_ENDED);
	assert_string_equal(event->text, "Early terminate");
	assert_int_equal(event->progress.bytes, 0);
	assert_int_equal(event->progress.file_bytes, FAKE_BIG_BYTES);
	assert_int_equal(tftp_stats(server).sessions, 0);
	close(client.fd);
}

static void the_same_request_again_gets_the_first_packet_again(void **state)
{
	struct client client;
	struct sockaddr_in transfer;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(1);
	ASK(&client, RRQ("big"));
	hears_data(&client, 1, 512);
	transfer = client.from;
	ASK(&client, RRQ("big"));
	hears_data(&client, 1, 512);
	assert_int_equal(client.from.sin_port, transfer.sin_port);
	acknowledge(&client, 1);
	hears_data(&client, 2, 512);
	ASK(&client, RRQ("big")); /* a packet that was late */
	fake_run(&fake, NEVER_MS);
	assert_int_equal(tftp_stats(server).sessions, 1);
	assert_int_equal(fake.opened, 1);
	/* A machine that began anew, with the same port: it disowns the old transfer. */
	fake_run(&fake, 1100);
	while (hears(&client, 0))
		;
	ASK(&client, RRQ("big"));
	do
		assert_true(hears(&client, SOON_MS));
	while (client.from.sin_port == transfer.sin_port);
	assert_int_equal(get_be16(client.packet + 2), 1);
	assert_int_equal(tftp_stats(server).sessions, 2);
	say_to(&client, transfer, "\0\5\0\5no\0", 7);
	(void)fake_await_event(&fake, 3);
	while (hears(&client, 0))
		;
	assert_int_equal(tftp_stats(server).sessions, 1);
	/* Another file from the same port, at once. */
	ASK(&client, RRQ("small"));
	hears_data(&client, 1, 5);
	assert_int_equal(tftp_stats(server).sessions, 1);
	/* And with other options. */
	ASK(&client, RRQ("small") "tsize\0"
				  "0\0");
	assert_true(hears(&client, SOON_MS));
	assert_int_equal(get_be16(client.packet), TFTP_OACK);
	assert_int_equal(tftp_stats(server).sessions, 1);
	for (unsigned i = 0; i < fake.event_count; i++)
		assert_int_not_equal(fake.events[i].event, SERVE_LOST);
	close(client.fd);
}

static void a_new_port_is_a_new_transfer(void **state)
{
	struct client first, second;

	(void)state;
	begin((struct tftp_config){0});
	first = client_from(1);
	second = client_from(1);
	ASK(&first, RRQ("big"));
	hears_data(&first, 1, 512);
	ASK(&second, RRQ("big"));
	hears_data(&second, 1, 512);
	assert_int_not_equal(first.from.sin_port, second.from.sin_port);
	assert_int_equal(tftp_stats(server).sessions, 2);
	acknowledge(&first, 1); /* it may go on */
	hears_data(&first, 2, 512);
	close(first.fd); /* and nobody hears of its end */
	FAKE_AWAIT(&fake, tftp_stats(server).sessions == 1);
	assert_int_equal(tftp_stats(server).lost, 1);
	assert_int_equal(fake.event_count, 2);
	close(second.fd);
}

static void a_client_that_has_gone_ends_its_transfer(void **state)
{
	struct client client;
	const struct fake_event *event;

	(void)state;
	begin((struct tftp_config){0});
	client = client_from(1);
	ASK(&client, RRQ("big"));
	hears_data(&client, 1, 512);
	close(client.fd);
	event = fake_await_event(&fake, 2);
	assert_int_equal(event->event, SERVE_LOST);
	assert_string_equal(event->text, "the client has gone");
	assert_true(event->progress.retries >= 1);
	assert_int_equal(tftp_stats(server).sessions, 0);
	/* One that had the last block wanted nothing more. */
	client = client_from(1);
	ASK(&client, RRQ("small"));
	hears_data(&client, 1, 5);
	close(client.fd);
	(void)fake_await_event(&fake, 3);
	assert_int_equal(fake_await_event(&fake, 4)->event, SERVE_SENT);
}

static void one_peer_cannot_take_all(void **state)
{
	struct client peer[3], other;
	uint64_t began = fake_now_ms();
	bool heard;

	(void)state;
	begin((struct tftp_config){.sessions_max = 4, .sessions_per_peer_max = 2});
	for (unsigned i = 0; i < 3; i++) {
		peer[i] = client_from(9);
		ASK(&peer[i], RRQ("big"));
		if (i < 2)
			hears_data(&peer[i], 1, 512);
	}
	heard = hears(&peer[2], 20);
	if (fake_now_ms() - began < 100) { /* else the first had to make room already */
		assert_false(heard);
		assert_int_equal(tftp_stats(server).no_room, 1);
	}
	other = client_from(8);
	ASK(&other, RRQ("big"));
	hears_data(&other, 1, 512);
	/* Its own oldest makes room, once it was silent for a while. */
	fake_run(&fake, 150);
	if (!heard) {
		ASK(&peer[2], RRQ("big"));
		hears_data(&peer[2], 1, 512);
	}
	assert_int_equal(tftp_stats(server).evicted, 1);
	assert_int_equal(tftp_stats(server).sessions, 3);
	acknowledge(&other, 1);
	hears_data(&other, 2, 512);
	for (unsigned i = 0; i < 3; i++)
		close(peer[i].fd);
	close(other.fd);
}

static void those_that_answered_stay_when_all_is_full(void **state)
{
	struct client good, forged[3], late;
	uint64_t began;
	bool heard;

	(void)state;
	begin((struct tftp_config){.sessions_max = 4});
	good = client_from(1);
	ASK(&good, RRQ("big"));
	hears_data(&good, 1, 512);
	acknowledge(&good, 1);
	hears_data(&good, 2, 512);
	began = fake_now_ms();
	for (unsigned i = 0; i < 3; i++) {
		forged[i] = client_from(10 + i);
		ASK(&forged[i], RRQ("big"));
		hears_data(&forged[i], 1, 512);
	}
	late = client_from(50);
	ASK(&late, RRQ("small"));
	heard = hears(&late, 20);
	if (fake_now_ms() - began < 100)
		assert_false(heard); /* all are busy */
	fake_run(&fake, 120);
	if (!heard) {
		ASK(&late, RRQ("small"));
		hears_data(&late, 1, 5);
	}
	assert_int_equal(tftp_stats(server).sessions, 4);
	assert_int_equal(tftp_stats(server).evicted, 1);
	acknowledge(&good, 2);
	hears_data(&good, 3, 512);
	for (unsigned i = 0; i < 3; i++)
		close(forged[i].fd);
	close(good.fd);
	close(late.fd);
}

static void interfaces_that_are_not_named_are_not_heard(void **state)
{
	static const char *const none[] = {"eth77", "lo7"}, *const lo[] = {"eth77", "lo"};
	struct client client;

	(void)state;
	begin((struct tftp_config){.interfaces = none, .interface_count = 2});
	client = client_from(1);
	ASK(&client, RRQ("small"));
	assert_false(hears(&client, NEVER_MS));
	assert_int_equal(fake.opened, 0);
	end(NULL);
	begin((struct tftp_config){.interfaces = lo, .interface_count = 2});
	ASK(&client, RRQ("small"));
	hears_data(&client, 1, 5);
	close(client.fd);
}

static void a_port_that_is_taken_is_an_error(void **state)
{
	struct tftp_config config = {.address.s_addr = htonl(INADDR_LOOPBACK)};
	struct tftp *second = NULL;

	(void)state;
	begin(config);
	config.port = tftp_port(server);
	assert_int_equal(tftp_new(fake.base, &config, &fake_ops, &fake, &second), -EADDRINUSE);
	assert_null(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_file_is_sent_from_a_port_of_its_own, end),
		cmocka_unit_test_teardown(a_big_file_arrives_in_windows, end),
		cmocka_unit_test_teardown(the_address_that_was_asked_answers, end),
		cmocka_unit_test_teardown(refusals, end),
		cmocka_unit_test_teardown(it_sends_again_when_nothing_comes, end),
		cmocka_unit_test_teardown(a_stranger_gets_error_5_and_disturbs_nothing, end),
		cmocka_unit_test_teardown(early_terminate_is_no_trouble, end),
		cmocka_unit_test_teardown(the_same_request_again_gets_the_first_packet_again, end),
		cmocka_unit_test_teardown(a_new_port_is_a_new_transfer, end),
		cmocka_unit_test_teardown(a_client_that_has_gone_ends_its_transfer, end),
		cmocka_unit_test_teardown(one_peer_cannot_take_all, end),
		cmocka_unit_test_teardown(those_that_answered_stay_when_all_is_full, end),
		cmocka_unit_test_teardown(interfaces_that_are_not_named_are_not_heard, end),
		cmocka_unit_test_teardown(a_port_that_is_taken_is_an_error, end),
	};

	return cmocka_run_group_tests_name("tftp", tests, NULL, NULL);
}
