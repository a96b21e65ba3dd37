/*
 * The text of Login and Text PDUs (RFC 7143, section 6): key=value pairs that each end with a
 * NUL, the notations of values, and a bounded writer. Strict about form; what a key means is
 * left to others. Pure functions except for the buffer, which allocates; any thread.
 */
#ifndef LUNROOT_WIRE_TEXT_H
#define LUNROOT_WIRE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/* --- reading --- */

struct wire_text_pair {
	char key[LIMIT_TEXT_KEY_BYTES + 1];
	const char *value; /* in the parsed text, ends with NUL, valid UTF-8 without controls */
	size_t value_bytes;
};

struct wire_text_list {
	struct wire_text_pair pairs[LIMIT_TEXT_KEYS];
	unsigned count;
};

/*
 * A complete text (all PDUs of one step). 0; -EBADMSG if it breaks the form; -EEXIST if a key
 * comes twice; -E2BIG if there are more than LIMIT_TEXT_KEYS. The list points into `text`.
 */
int wire_text_parse(const uint8_t *text, size_t bytes, struct wire_text_list *ret_list);
/* The pair with that key, or NULL. */
const struct wire_text_pair *wire_text_find(const struct wire_text_list *list, const char *key);

/* --- values: 0, or -EINVAL for a wrong notation, -ERANGE outside the bounds --- */

/* Decimal without leading zeros, or 0x and hexadecimal digits. */
int wire_text_number(const char *value, uint64_t min, uint64_t max, uint64_t *ret_number);
/* "Yes" or "No". */
int wire_text_boolean(const char *value, bool *ret_boolean);
/*
 * 0x and hexadecimal digits, or 0b and base64. At most `capacity` bytes are written, longer is
 * -ERANGE; -EINVAL for no bytes at all.
 */
int wire_text_binary(const char *value, uint8_t *ret_data, size_t capacity, size_t *ret_bytes);
/*
 * Walks a list of values: true with the next item, whose text is `ret_item` for
 * `ret_item_bytes`; *position starts at 0. An empty item has 0 bytes.
 */
bool wire_text_list_next(const char *value, size_t *position, const char **ret_item,
			 size_t *ret_item_bytes);
/* Whether `word` is one of the comma-separated items. */
bool wire_text_list_has(const char *value, const char *word);

/* An iSCSI name: iqn., eui. or naa. with its form and length (4.2.7), any letter case. */
bool wire_iscsi_name_valid(const char *name);
/* Names are compared after case folding (RFC 3722); ASCII only, which all real names are. */
bool wire_iscsi_name_equal(const char *a, const char *b);

/* --- writing --- */

/* Appends to memory of the caller; what does not fit sets `overflow` and is left out whole. */
struct wire_text_writer {
	uint8_t *text;
	size_t bytes, capacity;
	bool overflow;
};

void wire_text_writer_init(struct wire_text_writer *writer, void *text, size_t capacity);
void wire_text_put(struct wire_text_writer *writer, const char *key, const char *value);
void wire_text_put_number(struct wire_text_writer *writer, const char *key, uint64_t number);
void wire_text_put_boolean(struct wire_text_writer *writer, const char *key, bool boolean);
/* As 0x and hexadecimal digits. */
void wire_text_put_binary(struct wire_text_writer *writer, const char *key, const uint8_t *data,
			  size_t bytes);

/* --- collecting one step that comes in several PDUs (the C bit) --- */

struct wire_text_buffer {
	uint8_t *text;
	size_t bytes, capacity;
};

/* 0, -E2BIG past LIMIT_LOGIN_TEXT_BYTES, -ENOMEM. */
int wire_text_buffer_add(struct wire_text_buffer *buffer, const uint8_t *text, size_t bytes);
/* Empties, wipes (it may have held CHAP responses) and frees. */
void wire_text_buffer_done(struct wire_text_buffer *buffer);

#endif
