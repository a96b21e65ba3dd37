/*
 * A list of lines, each with what is known of its section: for this board, for another one, or
 * perhaps (sections that hang on GPIO lines, monitors and the like). Filters of one kind replace
 * each other, those of different kinds must all hold, [all] forgets them.
 */
#include "boot/config_txt.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "boot/model.h"

enum match { MATCH_YES, MATCH_NO, MATCH_PERHAPS };

struct line {
	char *text; /* without blanks around it */
	enum match match;
};

struct config_txt {
	struct config_settings settings;
	struct line *lines;
	size_t count, capacity;
};

/* --- which board --- */

/* The type of board in a revision code (bits 4 to 11 of the new style); the usual one of the model
 * where the code is unknown. */
static unsigned board_type(const struct pi_identity *pi)
{
	if (pi->revision & 0x800000)
		return pi->revision >> 4 & 0xff;
	switch (pi->model) {
	case PI_3B:
	case PI_OLD_UNKNOWN: return 0x08;
	case PI_3B_PLUS: return 0x0d;
	case PI_4:
	case PI_NEW_UNKNOWN: return 0x11;
	case PI_5: return 0x17;
	case PI_NONE: break;
	}
	return 0xff;
}

/* The sections that each type of board reads; the documentation's table. */
static const struct {
	const char *filter;
	uint8_t types[8];
} board_filters[] = {
	{"pi0", {0x09, 0x0c, 0x12}},
	{"pi0w", {0x0c, 0x12}},
	{"pi02", {0x12}},
	{"pi1", {0x01, 0x02, 0x03, 0x06}},
	{"pi2", {0x04}},
	{"pi3", {0x08, 0x0a, 0x0d, 0x0e, 0x10}},
	{"pi3+", {0x0d, 0x0e}},
	{"pi4", {0x11, 0x13, 0x14, 0x15}},
	{"pi400", {0x13}},
	{"pi5", {0x17, 0x18, 0x19, 0x1a}},
	{"pi500", {0x19}},
	{"cm1", {0x06}},
	{"cm3", {0x0a, 0x10}},
	{"cm3+", {0x10}},
	{"cm4", {0x14}},
	{"cm4s", {0x15}},
	{"cm5", {0x18, 0x1a}},
};

static bool board_reads(const char *filter, unsigned type, enum match *ret_match)
{
	for (size_t i = 0; i < sizeof(board_filters) / sizeof(board_filters[0]); i++) {
		const uint8_t *types = board_filters[i].types;

		if (strcmp(filter, board_filters[i].filter) != 0)
			continue;
		*ret_match = MATCH_NO;
		for (size_t j = 0; j < sizeof(board_filters[i].types) && types[j]; j++) {
			if (types[j] == type)
				*ret_match = MATCH_YES;
		}
		return true;
	}
	return false;
}

/* --- sections --- */

struct section {
	enum match board, serial, other;
	bool none;
};

static enum match section_match(const struct section *section)
{
	if (section->none || section->board == MATCH_NO || section->serial == MATCH_NO)
		return MATCH_NO;
	return section->other == MATCH_PERHAPS || section->serial == MATCH_PERHAPS ? MATCH_PERHAPS
										   : MATCH_YES;
}

static bool number_parse(const char *text, unsigned long *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoul(text, &end, 0);
	return errno == 0 && end != text && *end == '\0' && *text != '-';
}

/* A line in brackets; `filter` is what is between them. */
static void section_enter(struct config_txt *config, struct section *section, const char *filter,
			  const struct pi_identity *pi)
{
	unsigned long number;

	if (strcmp(filter, "all") == 0) {
		*section = (struct section){MATCH_YES, MATCH_YES, MATCH_YES, false};
	} else if (strcmp(filter, "none") == 0) {
		section->none = true;
	} else if (board_reads(filter, board_type(pi), &section->board)) {
		return;
	} else if (strncmp(filter, "board-type=", 11) == 0) {
		section->board = number_parse(filter + 11, &number) && number == board_type(pi)
					 ? MATCH_YES
					 : MATCH_NO;
	} else if (strncmp(filter, "0x", 2) == 0 && number_parse(filter, &number)) {
		config->settings.by_serial = true;
		section->serial = !pi->has_serial                  ? MATCH_PERHAPS
				  : (uint32_t)number == pi->serial ? MATCH_YES
								   : MATCH_NO;
	} else if (strncmp(filter, "HDMI:", 5) == 0) {
		section->other = MATCH_YES; /* says which monitor is meant, not whether */
	} else {
		config->settings.unsure = true;
		section->other = MATCH_PERHAPS;
	}
}

/* --- settings --- */

static const struct {
	const char *key;
	size_t place;
} names[] = {
	{"kernel", offsetof(struct config_settings, kernel)},
	{"cmdline", offsetof(struct config_settings, cmdline)},
	{"os_prefix", offsetof(struct config_settings, os_prefix)},
	{"overlay_prefix", offsetof(struct config_settings, overlay_prefix)},
	{"device_tree", offsetof(struct config_settings, device_tree)},
	{"armstub", offsetof(struct config_settings, armstub)},
	{"start_file", offsetof(struct config_settings, start_file)},
	{"fixup_file", offsetof(struct config_settings, fixup_file)},
};

/* The value behind KEY=; NULL: another key. */
static const char *value_of(const char *line, const char *key)
{
	size_t bytes = strlen(key);

	return strncmp(line, key, bytes) == 0 && line[bytes] == '=' ? line + bytes + 1 : NULL;
}

static void setting_take(struct config_settings *settings, const char *line)
{
	const char *value;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		value = value_of(line, names[i].key);
		if (value && strlen(value) < CONFIG_NAME_BYTES)
			memcpy((char *)settings + names[i].place, value, strlen(value) + 1);
	}
	value = value_of(line, "arm_64bit");
	if (value)
		settings->arm_64bit = strcmp(value, "0") != 0;
	value = value_of(line, "boot_ramdisk");
	if (value)
		settings->boot_ramdisk = strcmp(value, "0") != 0;
}

/* --- lines --- */

struct reader {
	struct config_txt *config;
	const struct pi_identity *pi;
	struct section section;
	config_include_fn include;
	void *arg;
	struct boot_error *error;
	size_t bytes_left;
	unsigned includes_left;
};

static int read_text(struct reader *reader, const char *text, size_t bytes, unsigned depth);

static int line_keep(struct reader *reader, const char *text, size_t bytes)
{
	struct config_txt *config = reader->config;
	struct line *line;

	if (config->count == config->capacity) {
		size_t capacity = config->capacity ? 2 * config->capacity : 64;
		struct line *lines = realloc(config->lines, capacity * sizeof(*lines));

		if (!lines)
			return -ENOMEM;
		config->lines = lines;
		config->capacity = capacity;
	}
	line = &config->lines[config->count];
	line->text = strndup(text, bytes);
	if (!line->text)
		return -ENOMEM;
	line->match = section_match(&reader->section);
	config->count++;
	return 0;
}

static int read_include(struct reader *reader, const char *name, unsigned depth)
{
	char *text;
	size_t bytes;
	int res;

	if (reader->includes_left-- == 0 || depth >= LIMIT_CONFIG_TXT_INCLUDES)
		return boot_fail(reader->error, -EINVAL, "config.txt includes more than %d files",
				 LIMIT_CONFIG_TXT_INCLUDES);
	if (!reader->include)
		return 0;
	text = malloc(LIMIT_CONFIG_TXT_SOURCE_BYTES);
	if (!text)
		return -ENOMEM;
	res = reader->include(reader->arg, name, text, LIMIT_CONFIG_TXT_SOURCE_BYTES, &bytes);
	/* The firmware goes on without a file that is missing. */
	if (res == -ENOMEM || res == -EFBIG)
		res = boot_fail(reader->error, -EINVAL,
				"config.txt includes %.64s, which can't be read: %s", name,
				strerror(-res));
	else if (res)
		res = 0;
	else
		res = read_text(reader, text, bytes, depth + 1);
	free(text);
	return res;
}

static int read_line(struct reader *reader, const char *text, size_t bytes, unsigned depth)
{
	struct config_txt *config = reader->config;
	char *line;
	int res = line_keep(reader, text, bytes);

	if (res)
		return boot_fail(reader->error, res, "out of memory");
	line = config->lines[config->count - 1].text;
	bytes = strlen(line);
	if (bytes > 2 && line[0] == '[' && line[bytes - 1] == ']') {
		line[bytes - 1] = '\0';
		section_enter(config, &reader->section, line + 1, reader->pi);
		line[bytes - 1] = ']';
		/* A section's head is needed for what stands below it. */
		config->lines[config->count - 1].match = section_match(&reader->section);
		return 0;
	}
	if (config->lines[config->count - 1].match != MATCH_YES)
		return 0;
	if (strncmp(line, "include ", 8) == 0)
		return read_include(reader, line + 8 + strspn(line + 8, " \t"), depth);
	setting_take(&config->settings, line);
	return 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\0';
}

/* What is no text, the firmware can't make sense of either. */
static bool is_text(const char *line, size_t bytes)
{
	for (size_t i = 0; i < bytes;) {
		size_t step = line[i] == '\t' ? 1 : utf8_sequence(line + i, bytes - i);

		if (step == 0)
			return false;
		i += step;
	}
	return true;
}

static int read_text(struct reader *reader, const char *text, size_t bytes, unsigned depth)
{
	if (bytes > reader->bytes_left)
		return boot_fail(reader->error, -EINVAL,
				 "config.txt and what it includes have more than %d bytes",
				 LIMIT_CONFIG_TXT_SOURCE_BYTES);
	reader->bytes_left -= bytes;
	while (bytes > 0) {
		const char *end = memchr(text, '\n', bytes);
		size_t step = end ? (size_t)(end - text) + 1 : bytes;
		const char *first = text, *last = end ? end : text + bytes;
		int res;

		while (first < last && is_space(*first))
			first++;
		while (first < last && is_space(last[-1]))
			last--;
		res = is_text(first, (size_t)(last - first))
			      ? read_line(reader, first, (size_t)(last - first), depth)
			      : 0;
		if (res)
			return res;
		text += step;
		bytes -= step;
	}
	return 0;
}

int config_txt_parse(const char *text, size_t bytes, const struct pi_identity *pi,
		     config_include_fn include, void *arg, struct config_txt **ret_config,
		     struct boot_error *ret_error)
{
	struct reader reader = {
		.pi = pi,
		.section = {MATCH_YES, MATCH_YES, MATCH_YES, false},
		.include = include,
		.arg = arg,
		.error = ret_error,
		.bytes_left = LIMIT_CONFIG_TXT_SOURCE_BYTES,
		.includes_left = LIMIT_CONFIG_TXT_INCLUDES,
	};
	int res;

	reader.config = calloc(1, sizeof(*reader.config));
	if (!reader.config)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	reader.config->settings.arm_64bit = -1;
	res = read_text(&reader, text, bytes, 0);
	if (res) {
		config_txt_free(reader.config);
		return res;
	}
	*ret_config = reader.config;
	return 0;
}

void config_txt_free(struct config_txt *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->count; i++)
		free(config->lines[i].text);
	free(config->lines);
	free(config);
}

const struct config_settings *config_txt_settings(const struct config_txt *config)
{
	return &config->settings;
}

/* --- what is served --- */

/* Lines that we answer ourselves, in whatever section. */
static bool is_ours(const char *line)
{
	static const char *const keys[] = {"kernel",  "initramfs",      "ramfsfile", "ramfsaddr",
					   "cmdline", "auto_initramfs", "os_prefix", "arm_64bit",
					   "include", "boot_ramdisk"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		size_t bytes = strlen(keys[i]);

		if (strncmp(line, keys[i], bytes) == 0 &&
		    (line[bytes] == '=' || line[bytes] == ' ' || line[bytes] == '\t' ||
		     line[bytes] == '\0'))
			return true;
	}
	return false;
}

enum thrift { KEEP_ALL, NO_COMMENTS, NO_OTHERS, THRIFT_COUNT };

static bool line_served(const struct line *line, enum thrift thrift)
{
	if (is_ours(line->text))
		return false;
	if (thrift >= NO_COMMENTS && (*line->text == '#' || *line->text == '\0'))
		return false;
	return thrift < NO_OTHERS || line->match != MATCH_NO || *line->text == '[';
}

/* Appends a line; false: no room for it. */
static bool put(char *text, size_t *used, const char *line)
{
	size_t bytes = strlen(line);

	if (*used + bytes + 1 > LIMIT_CONFIG_TXT_BYTES)
		return false;
	memcpy(text + *used, line, bytes);
	text[*used + bytes] = '\n';
	*used += bytes + 1;
	text[*used] = '\0';
	return true;
}

static bool put_all(const struct config_txt *config, enum thrift thrift, const char *const *ours,
		    char *text)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < config->count; i++) {
		if (line_served(&config->lines[i], thrift) &&
		    !put(text, &used, config->lines[i].text))
			return false;
	}
	for (; *ours; ours++) {
		if (!put(text, &used, *ours))
			return false;
	}
	return true;
}

int config_txt_serve(const struct config_txt *config, const char *kernel, bool arm64,
		     const char *initramfs, char ret_text[LIMIT_CONFIG_TXT_BYTES + 1],
		     struct boot_error *ret_error)
{
	char kernel_line[CONFIG_NAME_BYTES + 16], initramfs_line[CONFIG_NAME_BYTES + 32];
	const char *ours[] = {"[all]",
			      "auto_initramfs=0",
			      arm64 ? "arm_64bit=1" : "arm_64bit=0",
			      kernel_line,
			      initramfs ? initramfs_line : NULL,
			      NULL};

	(void)snprintf(kernel_line, sizeof(kernel_line), "kernel=%s", kernel);
	(void)snprintf(initramfs_line, sizeof(initramfs_line), "initramfs %s followkernel",
		       initramfs ? initramfs : "");
	if (strlen(kernel_line) > LIMIT_CONFIG_TXT_LINE_BYTES)
		return boot_fail(ret_error, -EINVAL,
				 "the kernel's name %.64s... is too long for config.txt", kernel);
	for (enum thrift thrift = KEEP_ALL; thrift < THRIFT_COUNT; thrift++) {
		if (put_all(config, thrift, ours, ret_text))
			return 0;
	}
	return boot_fail(
		ret_error, -EINVAL,
		"config.txt has more than %d bytes even without its comments, and the Pi's "
		"firmware ignores such a one: shorten it",
		LIMIT_CONFIG_TXT_BYTES);
}
