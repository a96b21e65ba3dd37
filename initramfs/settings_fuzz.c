/*
 * Any bytes as node.conf, command line and root path, cut at zero bytes into up to three sources in
 * the order that the first byte says. Whatever comes, texts end, numbers are in range, a refused
 * source changes nothing, and no error repeats a secret.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "initramfs/settings.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t capacity)
{
	assert(strnlen(text, capacity) < capacity);
	assert(utf8_clean(text, strlen(text)));
}

#define CHECK(field) check_text(settings->field, sizeof(settings->field))

static void check(const struct settings *settings)
{
	CHECK(target);
	CHECK(initiator);
	CHECK(user);
	CHECK(secret);
	CHECK(mutual_user);
	CHECK(mutual_secret);
	CHECK(root);
	CHECK(rootflags);
	CHECK(rootfstype);
	CHECK(init);
	CHECK(interface);
	CHECK(ip);
	CHECK(hostname);
	CHECK(report.to.host);
	assert(strlen(settings->report.token) == (*settings->report.to.host ? 32 : 0) &&
	       strspn(settings->report.token, "0123456789abcdef") ==
		       strlen(settings->report.token));
	assert(settings->portal_count <= SETTINGS_PORTALS_MAX);
	for (unsigned i = 0; i < settings->portal_count; i++) {
		CHECK(portals[i].host);
		assert(settings->portals[i].host[0] && settings->portals[i].port > 0);
	}
	assert(settings->lun <= 16383 && settings->reboot_after_s <= 31536000);
	assert(settings->read_only <= SETTINGS_YES && settings->fsck <= SETTINGS_YES &&
	       settings->rescue <= SETTINGS_YES);
	assert(!strchr(settings->interface, '/') && (!*settings->init || *settings->init == '/'));
}

static void check_error(const struct settings_error *error)
{
	check_text(error->text, sizeof(error->text));
	assert(*error->text);
}

static int take(struct settings *settings, unsigned source, const char *text, size_t bytes,
		struct settings_error *error)
{
	switch (source) {
	case 0: return settings_take_node_conf(settings, text, bytes, error);
	case 1: return settings_take_cmdline(settings, text, bytes, error);
	default: return settings_take_root_path(settings, text, bytes, "10.0.0.1", error);
	}
}

/* The same source with a secret at its end, wherever that then lies: no error may repeat it. */
static void hide_secret(unsigned source, const char *text, size_t bytes)
{
	static const char *const phrases[] = {"\nsecret=xyzzyxyzzyxyzzy",
					      " lunroot.secret=xyzzyxyzzyxyzzy",
					      ";mutual_secret=xyzzyxyzzyxyzzy;lun=x"};
	size_t phrase_bytes = strlen(phrases[source]);
	struct settings_error error = {""};
	struct settings settings;
	char *whole = malloc(bytes + phrase_bytes);

	if (!whole)
		return;
	memcpy(whole, text, bytes);
	memcpy(whole + bytes, phrases[source], phrase_bytes);
	settings_init(&settings);
	if (!memmem(text, bytes, "xyzzy", 5) &&
	    take(&settings, source, whole, bytes + phrase_bytes, &error))
		assert(!strstr(error.text, "xyzzy"));
	settings_done(&settings);
	free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings settings;
	struct settings_error error = {""};
	struct settings_portal portal;
	unsigned source;

	if (size == 0)
		return 0;
	source = data[0] % 3;
	data++;
	size--;
	settings_init(&settings);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *end = memchr(data, 0, size);
		size_t bytes = end && i < 2 ? (size_t)(end - data) : size;
		struct settings before = settings;
		/* Of its own size, so that a read behind it is seen. */
		char *text = malloc(bytes ? bytes : 1),
		     *portal_text = strndup((const char *)data, bytes);

		if (!text || !portal_text)
			abort();
		memcpy(text, data, bytes);
		if (settings_portal_parse(portal_text, 3260, &portal) == 0)
			check_text(portal.host, sizeof(portal.host));
		free(portal_text);
		if (take(&settings, (source + i) % 3, text, bytes, &error)) {
			check_error(&error);
			assert(memcmp(&before, &settings, sizeof(before)) == 0);
		}
		check(&settings);
		hide_secret((source + i) % 3, text, bytes);
		free(text);
		data += bytes;
		size -= bytes;
		if (size > 0) {
			data++;
			size--;
		}
	}
	if (settings_finish(&settings, "b8-27-eb-00-11-22", &error) == 0)
		assert(settings.portal_count > 0 && *settings.target && *settings.initiator);
	else
		check_text(error.text, sizeof(error.text));
	check(&settings);
	settings_done(&settings);
	return 0;
}
