/*
 * config.txt as far as it decides which files are asked for (doc: config_txt, boot options and
 * conditional filters). os_prefix is left out: no server here uses it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pisim.h"

/* Whether a [section] lets the lines after it through; filters that are not about the model or the
 * serial number are taken as passed over. */
static bool section_applies(const char *name, const struct identity *who)
{
	static const struct {
		const char *name;
		unsigned models;
	} sections[] = {
		{"all", ~0u},
		{"pi3", 1u << MODEL_3B | 1u << MODEL_3B_PLUS | 1u << MODEL_3B_SD},
		{"pi3+", 1u << MODEL_3B_PLUS},
		{"pi4", 1u << MODEL_4},
		{"pi5", 1u << MODEL_5},
	};

	if (!strncasecmp(name, "0x", 2))
		return strtoul(name, NULL, 16) == who->serial;
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++)
		if (!strcasecmp(name, sections[i].name))
			return sections[i].models >> who->model & 1;
	return false;
}

static void keep(char *to, size_t room, const char *value)
{
	size_t bytes = strcspn(value, " \t\r");

	if (bytes >= room)
		bytes = room - 1;
	memcpy(to, value, bytes);
	to[bytes] = 0;
}

static void take_overlay(struct config *config, const char *value)
{
	size_t bytes = strcspn(value, ",: \t\r");

	if (!bytes || config->overlay_count == OVERLAYS_MAX || bytes >= sizeof(config->overlays[0]))
		return;
	memcpy(config->overlays[config->overlay_count], value, bytes);
	config->overlays[config->overlay_count++][bytes] = 0;
}

static void take_line(struct config *config, char *line)
{
	char *value;

	/* "initramfs NAME followkernel" is the one line without "=". */
	if (!strncmp(line, "initramfs ", 10)) {
		keep(config->initramfs, sizeof(config->initramfs),
		     line + 10 + strspn(line + 10, " \t"));
		return;
	}
	value = strchr(line, '=');
	if (!value)
		return;
	*value++ = 0;
	if (!strcmp(line, "kernel"))
		keep(config->kernel, sizeof(config->kernel), value);
	else if (!strcmp(line, "ramfsfile"))
		keep(config->initramfs, sizeof(config->initramfs), value);
	else if (!strcmp(line, "cmdline"))
		keep(config->cmdline, sizeof(config->cmdline), value);
	else if (!strcmp(line, "device_tree"))
		keep(config->tree, sizeof(config->tree), value);
	else if (!strcmp(line, "dtoverlay"))
		take_overlay(config, value);
	else if (!strcmp(line, "auto_initramfs"))
		config->auto_initramfs = strtol(value, NULL, 10) != 0;
	else if (!strcmp(line, "arm_64bit")) {
		config->arm_64bit = strtol(value, NULL, 10) != 0;
		config->arm_64bit_said = true;
	}
}

void config_parse(struct config *ret_config, const char *text, size_t bytes,
		  const struct identity *who)
{
	struct config config = {0};
	const char *end = text + bytes;
	bool applies = true;
	char line[512];

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((newline ? newline : end) - text);
		const char *from = text;

		text += length + 1;
		if (length >= sizeof(line))
			continue;
		memcpy(line, from, length);
		line[length] = 0;
		line[strcspn(line, "\r")] = 0;
		if (line[0] == '[') {
			line[strcspn(line, "]")] = 0;
			applies = section_applies(line + 1, who);
		} else if (applies && line[0] != '#') {
			take_line(&config, line);
		}
	}
	if (!config.arm_64bit_said) /* doc: the default since the Pi 4 */
		config.arm_64bit = models[who->model].first == LEVEL_EEPROM;
	*ret_config = config;
}
