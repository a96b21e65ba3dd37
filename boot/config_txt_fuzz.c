/*
 * Any text as config.txt of any board, and as cmdline.txt. What is served is short enough, says
 * what was chosen to whoever reads it as the firmware does, and what was taken out stays out.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "boot/cmdline.h"
#include "boot/config_txt.h"
#include "boot/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const char *text;
	size_t bytes;
};

/* The second half of the input, which may include itself. */
static int include(void *arg, const char *name, char *ret_text, size_t capacity, size_t *ret_bytes)
{
	const struct input *input = arg;
	size_t bytes = input->bytes / 2;

	if (*name != 'u')
		return -ENOENT;
	if (bytes > capacity)
		return -EFBIG;
	memcpy(ret_text, input->text + input->bytes - bytes, bytes);
	*ret_bytes = bytes;
	return 0;
}

static void check_served(const struct config_txt *config, const struct pi_identity *pi)
{
	char served[LIMIT_CONFIG_TXT_BYTES + 1];
	struct boot_error error = {""};
	struct config_txt *again;
	int res = config_txt_serve(config, "kernel8.img", true, "lunroot.img", served, &error);

	if (res) {
		assert(res == -EINVAL && *error.text);
		return;
	}
	assert(strlen(served) <= LIMIT_CONFIG_TXT_BYTES);
	res = config_txt_parse(served, strlen(served), pi, NULL, NULL, &again, &error);
	assert(res == 0);
	assert(strcmp(config_txt_settings(again)->kernel, "kernel8.img") == 0);
	assert(config_txt_settings(again)->arm_64bit == 1);
	assert(!*config_txt_settings(again)->os_prefix && !*config_txt_settings(again)->cmdline);
	assert(strcmp(config_txt_settings(again)->device_tree,
		      config_txt_settings(config)->device_tree) == 0);
	config_txt_free(again);
}

static void check_cmdline(const char *text, size_t bytes)
{
	struct boot_error error = {""};
	struct cmdline cmdline, again;

	if (cmdline_make(text, bytes, "", &cmdline, &error)) {
		assert(*error.text);
		return;
	}
	assert(strlen(cmdline.text) <= LIMIT_CMDLINE_BYTES && !strchr(cmdline.text, '\n'));
	assert(cmdline_make(cmdline.text, strlen(cmdline.text), "", &again, &error) == 0);
	assert(strcmp(cmdline.text, again.text) == 0 && strcmp(cmdline.root, again.root) == 0);
	assert(!*again.dropped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pi_identity pi = {.model = PI_NONE, .serial = 0xb66c4c16};
	struct input input;
	struct config_txt *config;
	struct boot_error error = {""};

	if (size < 1)
		return 0;
	pi.model = (enum pi_model)(data[0] % 7);
	pi.has_serial = data[0] & 0x80;
	pi.revision = data[0] & 0x40 ? 0xa03140 : 0;
	input = (struct input){(const char *)data + 1, size - 1};
	check_cmdline(input.text, input.bytes);
	if (config_txt_parse(input.text, input.bytes, &pi, include, &input, &config, &error)) {
		assert(*error.text);
		return 0;
	}
	check_served(config, &pi);
	config_txt_free(config);
	return 0;
}
