/*
 * Parsing and writing of text keys. Everything here sees bytes of a peer that has not proved who
 * it is, so each loop is bounded by the length of its input and each copy by its destination.
 */
#include "wire/text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* --- reading --- */

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* 6.1: a letter first, capital but for iSCSIProtocolLevel; # only for the old X# keys. */
static bool key_valid(const char *key, size_t bytes)
{
	if (bytes == 0 || bytes > LIMIT_TEXT_KEY_BYTES || (!is_upper(key[0]) && !is_lower(key[0])))
		return false;
	for (size_t i = 0; i < bytes; i++) {
		char c = key[i];

		if (!is_upper(c) && !is_lower(c) && !is_digit(c) && !memchr(".-+@_#", c, 6))
			return false;
	}
	return true;
}

static int pair_parse(const char *text, size_t bytes, struct wire_text_pair *ret_pair)
{
	const char *equals = memchr(text, '=', bytes);
	size_t key_bytes;

	if (!equals)
		return -EBADMSG;
	key_bytes = (size_t)(equals - text);
	if (!key_valid(text, key_bytes) || !utf8_clean(equals + 1, bytes - key_bytes - 1))
		return -EBADMSG;
	memcpy(ret_pair->key, text, key_bytes);
	ret_pair->key[key_bytes] = '\0';
	ret_pair->value = equals + 1;
	ret_pair->value_bytes = bytes - key_bytes - 1;
	return 0;
}

int wire_text_parse(const uint8_t *text, size_t bytes, struct wire_text_list *ret_list)
{
	const char *p = (const char *)text;

	ret_list->count = 0;
	/* Up to three NULs at the end: a peer that counts its padding as data is understood. */
	for (int i = 0; i < 3 && bytes >= 2 && p[bytes - 1] == '\0' && p[bytes - 2] == '\0'; i++)
		bytes--;
	if (bytes == 1 && p[0] == '\0')
		return 0;
	while (bytes > 0) {
		const char *end = memchr(p, '\0', bytes);
		struct wire_text_pair *pair = &ret_list->pairs[ret_list->count];
		int res;

		if (!end)
			return -EBADMSG;
		if (ret_list->count == LIMIT_TEXT_KEYS)
			return -E2BIG;
		res = pair_parse(p, (size_t)(end - p), pair);
		if (res)
			return res;
		if (wire_text_find(ret_list, pair->key))
			return -EEXIST;
		ret_list->count++;
		bytes -= (size_t)(end - p) + 1;
		p = end + 1;
	}
	return 0;
}

const struct wire_text_pair *wire_text_find(const struct wire_text_list *list, const char *key)
{
	for (unsigned i = 0; i < list->count; i++) {
		if (strcmp(list->pairs[i].key, key) == 0)
			return &list->pairs[i];
	}
	return NULL;
}

/* --- values --- */

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool has_prefix(const char *value, char letter)
{
	return value[0] == '0' && (value[1] == letter || value[1] == letter - 'a' + 'A');
}

int wire_text_number(const char *value, uint64_t min, uint64_t max, uint64_t *ret_number)
{
	bool hex = has_prefix(value, 'x');
	const char *digits = hex ? value + 2 : value;
	unsigned base = hex ? 16 : 10;
	uint64_t number = 0;
	bool too_big = false;

	if (*digits == '\0' || (!hex && digits[0] == '0' && digits[1] != '\0'))
		return -EINVAL;
	for (const char *p = digits; *p; p++) {
		int digit = hex_digit(*p);

		if (digit < 0 || (unsigned)digit >= base)
			return -EINVAL;
		too_big |= __builtin_mul_overflow(number, (uint64_t)base, &number);
		too_big |= __builtin_add_overflow(number, (uint64_t)digit, &number);
	}
	if (too_big || number < min || number > max)
		return -ERANGE;
	*ret_number = number;
	return 0;
}

int wire_text_boolean(const char *value, bool *ret_boolean)
{
	if (strcmp(value, "Yes") == 0)
		*ret_boolean = true;
	else if (strcmp(value, "No") == 0)
		*ret_boolean = false;
	else
		return -EINVAL;
	return 0;
}

/* An odd number of digits means a leading zero, as in the number it writes. */
static int hex_decode(const char *digits, uint8_t *ret_data, size_t capacity, size_t *ret_bytes)
{
	size_t count = strlen(digits), bytes = (count + 1) / 2;
	size_t shift = count % 2;

	for (size_t i = 0; i < count; i++) {
		if (hex_digit(digits[i]) < 0)
			return -EINVAL;
	}
	if (count == 0)
		return -EINVAL;
	if (bytes > capacity)
		return -ERANGE;
	memset(ret_data, 0, bytes);
	for (size_t i = 0; i < count; i++) {
		size_t nibble = i + shift;

		ret_data[nibble / 2] =
			(uint8_t)(ret_data[nibble / 2] << 4 | (uint8_t)hex_digit(digits[i]));
	}
	*ret_bytes = bytes;
	return 0;
}

static int base64_digit(char c)
{
	if (is_upper(c))
		return c - 'A';
	if (is_lower(c))
		return c - 'a' + 26;
	if (is_digit(c))
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648, section 4: whole quartets, padded; bits that encode nothing must be zero. */
static int base64_decode(const char *text, uint8_t *ret_data, size_t capacity, size_t *ret_bytes)
{
	size_t count = strlen(text), digits = count, bytes;
	uint32_t held = 0;
	unsigned held_bits = 0;
	size_t n = 0;

	if (count == 0 || count % 4 != 0)
		return -EINVAL;
	while (digits > count - 2 && text[digits - 1] == '=')
		digits--;
	for (size_t i = 0; i < digits; i++) {
		if (base64_digit(text[i]) < 0)
			return -EINVAL;
	}
	bytes = count / 4 * 3 - (count - digits);
	if (bytes > capacity)
		return -ERANGE;
	for (size_t i = 0; i < digits; i++) {
		held = (held << 6 | (uint32_t)base64_digit(text[i])) & 0xffff;
		held_bits += 6;
		if (held_bits >= 8) {
			held_bits -= 8;
			ret_data[n++] = (uint8_t)(held >> held_bits);
		}
	}
	assert(n == bytes);
	if (held & ((1u << held_bits) - 1))
		return -EINVAL;
	*ret_bytes = bytes;
	return 0;
}

int wire_text_binary(const char *value, uint8_t *ret_data, size_t capacity, size_t *ret_bytes)
{
	if (has_prefix(value, 'x'))
		return hex_decode(value + 2, ret_data, capacity, ret_bytes);
	if (has_prefix(value, 'b'))
		return base64_decode(value + 2, ret_data, capacity, ret_bytes);
	return -EINVAL;
}

bool wire_text_list_next(const char *value, size_t *position, const char **ret_item,
			 size_t *ret_item_bytes)
{
	size_t bytes;

	/* One past the end of the text says that its last item was given. */
	if (*position > strlen(value))
		return false;
	bytes = strcspn(value + *position, ",");
	*ret_item = value + *position;
	*ret_item_bytes = bytes;
	*position += bytes + 1;
	return true;
}

bool wire_text_list_has(const char *value, const char *word)
{
	size_t position = 0, bytes, word_bytes = strlen(word);
	const char *item;

	while (wire_text_list_next(value, &position, &item, &bytes)) {
		if (bytes == word_bytes && memcmp(item, word, bytes) == 0)
			return true;
	}
	return false;
}

static char fold(char c)
{
	if (is_upper(c))
		return (char)(c - 'A' + 'a');
	return c;
}

static bool fold_prefix(const char *text, const char *prefix)
{
	for (; *prefix; text++, prefix++) {
		if (fold(*text) != *prefix)
			return false;
	}
	return true;
}

/* 4.2.7.2: after stringprep only letters, digits, - . : and characters beyond ASCII remain. */
static bool name_characters_valid(const char *name)
{
	for (const char *p = name; *p; p++) {
		char c = fold(*p);

		if (!is_lower(c) && !is_digit(c) && !memchr("-.:", c, 3) && (uint8_t)c < 0x80)
			return false;
	}
	return utf8_clean(name, strlen(name));
}

static bool hex_only(const char *text)
{
	for (; *text; text++) {
		if (hex_digit(*text) < 0)
			return false;
	}
	return true;
}

/* "yyyy-mm." and a reversed domain name */
static bool iqn_valid(const char *rest)
{
	for (int i = 0; i < 7; i++) {
		if (i == 4 ? rest[i] != '-' : !is_digit(rest[i]))
			return false;
	}
	return rest[7] == '.' && rest[8] != '\0' && rest[8] != '.' && rest[8] != ':';
}

bool wire_iscsi_name_valid(const char *name)
{
	size_t bytes = strlen(name);

	if (bytes > LIMIT_ISCSI_NAME_BYTES || !name_characters_valid(name))
		return false;
	if (fold_prefix(name, "iqn."))
		return iqn_valid(name + 4);
	if (fold_prefix(name, "eui."))
		return bytes == 4 + 16 && hex_only(name + 4);
	if (fold_prefix(name, "naa."))
		return (bytes == 4 + 16 || bytes == 4 + 32) && hex_only(name + 4);
	return false;
}

bool wire_iscsi_name_equal(const char *a, const char *b)
{
	while (*a && fold(*a) == fold(*b)) {
		a++;
		b++;
	}
	return *a == '\0' && *b == '\0';
}

/* --- writing --- */

void wire_text_writer_init(struct wire_text_writer *writer, void *text, size_t capacity)
{
	*writer = (struct wire_text_writer){.text = text, .capacity = capacity};
}

/* Makes room for a whole pair; NULL, with the overflow noted, if there is none. */
static char *pair_reserve(struct wire_text_writer *writer, size_t bytes)
{
	char *at = (char *)writer->text + writer->bytes;

	assert(writer->bytes <= writer->capacity);
	if (writer->overflow || bytes > writer->capacity - writer->bytes) {
		writer->overflow = true;
		return NULL;
	}
	writer->bytes += bytes;
	return at;
}

void wire_text_put(struct wire_text_writer *writer, const char *key, const char *value)
{
	size_t key_bytes = strlen(key), value_bytes = strlen(value);
	char *at = pair_reserve(writer, key_bytes + 1 + value_bytes + 1);

	if (!at)
		return;
	memcpy(at, key, key_bytes);
	at[key_bytes] = '=';
	memcpy(at + key_bytes + 1, value, value_bytes + 1);
}

void wire_text_put_number(struct wire_text_writer *writer, const char *key, uint64_t number)
{
	char value[24];

	snprintf(value, sizeof(value), "%" PRIu64, number);
	wire_text_put(writer, key, value);
}

void wire_text_put_boolean(struct wire_text_writer *writer, const char *key, bool boolean)
{
	wire_text_put(writer, key, boolean ? "Yes" : "No");
}

void wire_text_put_binary(struct wire_text_writer *writer, const char *key, const uint8_t *data,
			  size_t bytes)
{
	static const char digits[] = "0123456789abcdef";
	size_t key_bytes = strlen(key);
	char *at = pair_reserve(writer, key_bytes + 3 + bytes * 2 + 1);

	if (!at)
		return;
	memcpy(at, key, key_bytes);
	memcpy(at + key_bytes, "=0x", 3);
	at += key_bytes + 3;
	for (size_t i = 0; i < bytes; i++) {
		*at++ = digits[data[i] >> 4];
		*at++ = digits[data[i] & 0x0f];
	}
	*at = '\0';
}

/* --- collecting --- */

int wire_text_buffer_add(struct wire_text_buffer *buffer, const uint8_t *text, size_t bytes)
{
	if (bytes > LIMIT_LOGIN_TEXT_BYTES - buffer->bytes)
		return -E2BIG;
	if (buffer->bytes + bytes > buffer->capacity) {
		size_t capacity = buffer->bytes + bytes;
		uint8_t *grown = malloc(capacity);

		if (!grown)
			return -ENOMEM;
		/* Not realloc: it would leave an unwiped copy behind. */
		if (buffer->bytes)
			memcpy(grown, buffer->text, buffer->bytes);
		if (buffer->text)
			explicit_bzero(buffer->text, buffer->capacity);
		free(buffer->text);
		buffer->text = grown;
		buffer->capacity = capacity;
	}
	if (bytes)
		memcpy(buffer->text + buffer->bytes, text, bytes);
	buffer->bytes += bytes;
	return 0;
}

void wire_text_buffer_done(struct wire_text_buffer *buffer)
{
	if (buffer->text)
		explicit_bzero(buffer->text, buffer->capacity);
	free(buffer->text);
	*buffer = (struct wire_text_buffer){0};
}
