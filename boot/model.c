/* Models by revision code, and their names. */
#include <stdio.h>

#include "base/cleanup.h"
#include "model.h"

/* New-style revision codes: bit 23 is set, bits 4-11 are the type of board. */
#define REVISION_NEW_STYLE 0x800000u

static const struct {
	uint8_t type;
	enum pi_model model;
	const char *text;
} boards[] = {
	{0x04, PI_OLD_UNKNOWN, "Raspberry Pi 2B"},
	{0x06, PI_OLD_UNKNOWN, "Compute Module 1"},
	{0x08, PI_3B, "Raspberry Pi 3B"},
	{0x0a, PI_OLD_UNKNOWN, "Compute Module 3"},
	{0x0d, PI_3B_PLUS, "Raspberry Pi 3B+"},
	{0x0e, PI_OLD_UNKNOWN, "Raspberry Pi 3A+"},
	{0x10, PI_OLD_UNKNOWN, "Compute Module 3+"},
	{0x11, PI_4, "Raspberry Pi 4"},
	{0x12, PI_OLD_UNKNOWN, "Raspberry Pi Zero 2 W"},
	{0x13, PI_4, "Raspberry Pi 400"},
	{0x14, PI_4, "Compute Module 4"},
	{0x15, PI_4, "Compute Module 4S"},
	{0x17, PI_5, "Raspberry Pi 5"},
	{0x18, PI_5, "Compute Module 5"},
	{0x19, PI_5, "Raspberry Pi 500"},
	{0x1a, PI_5, "Compute Module 5 Lite"},
};

const char *pi_model_text(enum pi_model model)
{
	switch (model) {
	case PI_NONE: return "PXE client";
	case PI_3B: return "Raspberry Pi 3B";
	case PI_3B_PLUS: return "Raspberry Pi 3B+";
	case PI_4: return "Raspberry Pi 4";
	case PI_5: return "Raspberry Pi 5";
	case PI_OLD_UNKNOWN: return "Raspberry Pi 3 or older";
	case PI_NEW_UNKNOWN: return "Raspberry Pi 4 or newer";
	}
	return "unknown";
}

static int board_find(uint32_t revision)
{
	if (revision & REVISION_NEW_STYLE)
		for (unsigned i = 0; i < ARRAY_COUNT(boards); i++)
			if (boards[i].type == (revision >> 4 & 0xff))
				return (int)i;
	return -1;
}

const char *pi_revision_text(uint32_t revision)
{
	int board = board_find(revision);

	return board < 0 ? NULL : boards[board].text;
}

enum pi_model pi_model_of_revision(uint32_t revision)
{
	int board = board_find(revision);

	return board < 0 ? PI_NONE : boards[board].model;
}

bool pi_model_is_new(enum pi_model model)
{
	return model == PI_4 || model == PI_5 || model == PI_NEW_UNKNOWN;
}

const char *pi_identity_text(const struct pi_identity *pi, char buffer[PI_IDENTITY_TEXT_BYTES])
{
	const char *board = pi_revision_text(pi->revision);
	int n = snprintf(buffer, PI_IDENTITY_TEXT_BYTES, "%s %02x:%02x:%02x:%02x:%02x:%02x",
			 board ? board : pi_model_text(pi->model), pi->mac[0], pi->mac[1],
			 pi->mac[2], pi->mac[3], pi->mac[4], pi->mac[5]);

	if (pi->has_serial && n > 0 && n < PI_IDENTITY_TEXT_BYTES)
		snprintf(buffer + n, (size_t)(PI_IDENTITY_TEXT_BYTES - n), ", serial %08x",
			 pi->serial);
	return buffer;
}
