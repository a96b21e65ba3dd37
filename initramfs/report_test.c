/*
 * Reports as the boot service gets them, over loopback: what is in a datagram, that each comes
 * three times, that they wait for their address, and that a keeper goes on with what its parent
 * said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "initramfs/arrival.h"
#include "initramfs/console.h"
#include "initramfs/report.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define BEGIN "lunroot-report 1 " TOKEN " "

#define SEQUENCES 64

static int listener = -1;
static unsigned copies[SEQUENCES]; /* of each sequence number that came */
static struct settings_report here = {.to = {.host = "127.0.0.1"}, .token = TOKEN};

static int listen_here(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t bytes = sizeof(address);

	(void)state;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(listener, (struct sockaddr *)&address, &bytes))
		return -1;
	here.to.port = ntohs(address.sin_port);
	memset(copies, 0, sizeof(copies));
	report_init();
	return 0;
}

static int listen_no_more(void **state)
{
	(void)state;
	report_none();
	close(listener);
	return 0;
}

/* The next datagram that is no copy of one before, waited for; false for none. A kernel may bring
 * one a little after it was sent. */
static bool heard(char *ret_text, size_t bytes, int wait_ms)
{
	struct pollfd wait = {.fd = listener, .events = POLLIN};

	while (poll(&wait, 1, wait_ms) > 0) {
		ssize_t got = recv(listener, ret_text, bytes - 1, 0);
		unsigned sequence = 0;

		assert_true(got > 0 && (size_t)got <= LIMIT_REPORT_BYTES);
		ret_text[got] = '\0';
		assert_int_equal(sscanf(ret_text, BEGIN "%u", &sequence), 1);
		assert_in_range(sequence, 1, SEQUENCES - 1);
		if (++copies[sequence] == 1)
			return true;
	}
	return false;
}

static void assert_heard(const char *wanted)
{
	char text[1024];

	if (!heard(text, sizeof(text), 5000))
		fail_msg("nothing instead of: %s", wanted);
	assert_string_equal(text, wanted);
}

static void assert_silence(void)
{
	char text[1024];

	if (heard(text, sizeof(text), 20))
		fail_msg("unexpected: %s", text);
}

/* Each as often as it is to be sent. */
static void send_all(void)
{
	while (report_tick() != -1)
		report_sleep_ms(20);
}

static void each_is_sent_three_times(void **state)
{
	long long begun_ms = now_ms();

	(void)state;
	report_to(&here);
	report(REPORT_ROOT, "%s %s", "ext4", "/dev/sda2");
	assert_heard(BEGIN "1 root ext4 /dev/sda2");
	assert_in_range(report_tick(), 0, 700);
	send_all();
	assert_silence();
	assert_int_equal(copies[1], REPORT_SENDS);
	assert_true(now_ms() >= begun_ms + 1000);
	report(REPORT_BACK, "%s", "");
	assert_heard(BEGIN "2 back");
}

static void all_events_have_names(void **state)
{
	static const char *const names[REPORT_EVENT_COUNT] = {"start",      "network", "login",
							      "disk",       "root",    "switch",
							      "multi-user", "waiting", "back"};

	(void)state;
	report_to(&here);
	for (unsigned i = 0; i < REPORT_EVENT_COUNT; i++) {
		char wanted[100];

		report((enum report_event)i, "x");
		(void)snprintf(wanted, sizeof(wanted), BEGIN "%u %s x", i + 1, names[i]);
		assert_heard(wanted);
	}
}

static void kept_until_the_address_is_known(void **state)
{
	char wanted[100];

	(void)state;
	for (int i = 1; i <= REPORT_KEPT + 3; i++)
		report(REPORT_WAITING, "event %d", i);
	assert_true(report_tick() > 0);
	assert_silence();
	report_to(&here);
	/* The oldest are forgotten, the others come in their order. */
	for (int i = 4; i <= REPORT_KEPT + 3; i++) {
		(void)snprintf(wanted, sizeof(wanted), BEGIN "%d waiting event %d", i, i);
		assert_heard(wanted);
	}
	assert_silence();
	send_all();
	assert_silence();
	for (int i = 1; i <= REPORT_KEPT + 3; i++)
		assert_int_equal(copies[i], i <= 3 ? 0 : REPORT_SENDS);
}

static void kept_while_there_is_no_network(void **state)
{
	struct settings_report nowhere = here;

	(void)state;
	/* Broadcast is not allowed to this socket: the kernel refuses at once, as without a route.
	 */
	(void)snprintf(nowhere.to.host, sizeof(nowhere.to.host), "255.255.255.255");
	report_to(&nowhere);
	report(REPORT_START, "1");
	assert_true(report_tick() > 0);
	report_sleep_ms(50);
	assert_silence();
	report_to(&here);
	/* A new event sends what had to wait, whenever its own turn would have been. */
	report(REPORT_NETWORK, "2");
	assert_heard(BEGIN "1 start 1");
	assert_heard(BEGIN "2 network 2");
}

static void text_is_clean_and_bounded(void **state)
{
	char text[1024], long_text[700];

	(void)state;
	report_to(&here);
	report(REPORT_WAITING, "a\nb\x1b[2J\xff\xc3 \xc3\xa4");
	assert_heard(BEGIN "1 waiting a?b?[2J?? \xc3\xa4");
	memset(long_text, 'a', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	/* The limit would cut it in half. */
	memcpy(long_text + LIMIT_REPORT_TEXT_BYTES - 1, "\xc3\xa4", 2);
	report(REPORT_WAITING, "%s", long_text);
	assert_true(heard(text, sizeof(text), 5000));
	assert_int_equal(strlen(text), strlen(BEGIN "2 waiting ") + LIMIT_REPORT_TEXT_BYTES - 1);
}

static void complaints_are_told_but_not_over_and_over(void **state)
{
	struct complaint one = {{0}, 0}, two = {{0}, 0};

	(void)state;
	report_to(&here);
	complain_again(&one, "no %s yet", "disk");
	assert_heard(BEGIN "1 waiting no disk yet");
	complain_again(&two, "no network");
	assert_heard(BEGIN "2 waiting no network");
	/* The console hears it again, since another one came between. */
	complaint_clear(&one);
	complain_again(&one, "no disk yet");
	assert_silence();
	/* Other events may be the same. */
	report(REPORT_SWITCH, "init runs");
	report(REPORT_SWITCH, "init runs");
	assert_heard(BEGIN "3 switch init runs");
	assert_heard(BEGIN "4 switch init runs");
}

static void nobody_is_told_without_the_setting(void **state)
{
	(void)state;
	report(REPORT_START, "x");
	assert_true(report_wanted());
	report_none();
	assert_false(report_wanted());
	report(REPORT_NETWORK, "x");
	report_to(&here);
	assert_int_equal(report_tick(), -1);
	assert_silence();
}

static void a_child_goes_on_with_its_parents_events(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	report_to(&here);
	report(REPORT_START, "parent");
	assert_heard(BEGIN "1 start parent");
	pid = fork();
	if (pid == 0) {
		report(REPORT_LOGIN, "child");
		send_all();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_heard(BEGIN "2 login child");
	assert_silence();
	assert_int_equal(copies[1], REPORT_SENDS);
	assert_int_equal(copies[2], REPORT_SENDS);
	report(REPORT_DISK, "parent");
	assert_heard(BEGIN "3 disk parent");
}

/* --- arrival --- */

static void arrival_sees_init_and_its_users(void **state)
{
	char folder[] = "/tmp/lunroot-arrival.XXXXXX", nologin[64], text[1024];
	struct arrival arrival;
	int pipe_fds[2], folder_fd;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(nologin, sizeof(nologin), "%s/nologin", folder);
	folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder_fd >= 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	report_to(&here);
	arrival_init(&arrival, pipe_fds[1], folder_fd, true);
	arrival_look(&arrival);
	assert_true(arrival_due(&arrival) > 0);
	assert_silence();
	close(pipe_fds[0]);
	arrival_look(&arrival);
	assert_heard(BEGIN "1 switch init runs");
	/* As long as systemd has not said that nobody may log in, its absence means nothing. */
	arrival_look(&arrival);
	assert_silence();
	file = fopen(nologin, "w");
	assert_non_null(file);
	(void)fclose(file);
	arrival_look(&arrival);
	assert_silence();
	assert_int_equal(unlink(nologin), 0);
	arrival_look(&arrival);
	assert_true(heard(text, sizeof(text), 5000));
	assert_memory_equal(text, BEGIN "2 multi-user ", strlen(BEGIN "2 multi-user "));
	assert_int_equal(arrival_due(&arrival), -1);
	arrival_look(&arrival);
	assert_silence();
	assert_int_equal(rmdir(folder), 0);
}

static void arrival_looks_for_minutes_only(void **state)
{
	struct arrival arrival;
	int pipe_fds[2];

	(void)state;
	report_to(&here);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	close(pipe_fds[0]);
	arrival_init(&arrival, pipe_fds[1], open("/run", O_PATH | O_CLOEXEC), false);
	arrival_look(&arrival);
	/* The parent was no first process: its end is no switch. */
	assert_silence();
	assert_true(arrival_due(&arrival) > 0);
	arrival.until_ms = now_ms() - 1;
	arrival_look(&arrival);
	assert_int_equal(arrival_due(&arrival), -1);
	report_none();
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	arrival_init(&arrival, pipe_fds[1], -1, true);
	assert_int_equal(arrival_due(&arrival), -1);
	close(pipe_fds[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, listen_here, listen_no_more)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_is_sent_three_times),
		TEST(all_events_have_names),
		TEST(kept_until_the_address_is_known),
		TEST(kept_while_there_is_no_network),
		TEST(text_is_clean_and_bounded),
		TEST(complaints_are_told_but_not_over_and_over),
		TEST(nobody_is_told_without_the_setting),
		TEST(a_child_goes_on_with_its_parents_events),
		TEST(arrival_sees_init_and_its_users),
		TEST(arrival_looks_for_minutes_only),
	};

	return cmocka_run_group_tests_name("reports", tests, NULL, NULL);
}
