/*
 * The kernel's command line: our words, and of the kernel's own those that say what root is.
 */
#include "initramfs/settings_internal.h"

#include <stdio.h>
#include <string.h>

/* A word with its quotes as they stood, and the two parts of it without. */
struct word {
	const char *name, *value; /* no value: NULL */
	size_t name_bytes, value_bytes;
};

/*
 * The kernel's rules: blanks end a word unless within quotes; a quote at its beginning, or right
 * after =, is dropped together with one at the end; others stay. False at the end or at a quote
 * that is never closed (*ret_open): all that follows it would be swallowed.
 */
static bool word_next(const char **text, size_t *bytes, struct word *ret_word, bool *ret_open)
{
	struct word word = {0};
	bool open = false, quoted;
	size_t i = 0, equals = 0, end;

	while (*bytes > 0 && settings_is_blank(**text)) {
		(*text)++;
		(*bytes)--;
	}
	if (*bytes == 0)
		return false;
	quoted = **text == '"';
	for (; i < *bytes && (open || !settings_is_blank((*text)[i])); i++) {
		if ((*text)[i] == '"')
			open = !open;
		else if ((*text)[i] == '=' && equals == 0)
			equals = i;
	}
	end = i;
	if (open) {
		*ret_open = true;
		return false;
	}
	if (end > 1 && (*text)[end - 1] == '"' &&
	    (quoted || (equals > 0 && equals + 1 < end - 1 && (*text)[equals + 1] == '"')))
		end--;
	word.name = *text + quoted;
	word.name_bytes = (equals > 0 ? equals : end) - quoted;
	if (equals > 0) {
		size_t start = equals + 1;

		if (start < end && (*text)[start] == '"')
			start++;
		word.value = *text + start;
		word.value_bytes = end - start;
	}
	*text += i;
	*bytes -= i;
	*ret_word = word;
	return true;
}

/* The kernel's own words; of several the last counts, as in the kernel. */
enum { OWN_ROOT, OWN_ROOTFLAGS, OWN_ROOTFSTYPE, OWN_INIT, OWN_IP, OWN_RO, OWN_COUNT };

static const struct {
	const char *name;
	enum settings_key key;
} own_words[OWN_COUNT] = {
	[OWN_ROOT] = {"root", KEY_ROOT},
	[OWN_ROOTFLAGS] = {"rootflags", KEY_ROOTFLAGS},
	[OWN_ROOTFSTYPE] = {"rootfstype", KEY_ROOTFSTYPE},
	[OWN_INIT] = {"init", KEY_INIT},
	[OWN_IP] = {"ip", KEY_IP},
	[OWN_RO] = {"ro", KEY_RO},
};

static bool word_is(const struct word *word, const char *name)
{
	return word->name_bytes == strlen(name) && memcmp(word->name, name, word->name_bytes) == 0;
}

static bool value_is(const struct word *word, const char *value)
{
	return word->value_bytes == strlen(value) &&
	       memcmp(word->value, value, word->value_bytes) == 0;
}

/* Keeps a word of the kernel's for later; empty ones say nothing. */
static void keep_own_word(const struct word *word, struct word own[OWN_COUNT])
{
	if (!word->value && (word_is(word, "ro") || word_is(word, "rw"))) {
		const char *value = word_is(word, "ro") ? "yes" : "no";

		own[OWN_RO] = (struct word){"ro", value, 2, strlen(value)};
		return;
	}
	for (unsigned i = 0; i < OWN_RO && word->value; i++) {
		if (word_is(word, own_words[i].name))
			own[i] = *word;
	}
}

static int take_place_word(struct settings_reader *reader, const struct word *word)
{
	int res;

	(void)snprintf(reader->where, sizeof(reader->where), "kernel command line, %.*s",
		       (int)word->name_bytes, word->name);
	reader->prefix = "";
	res = settings_take_place(reader, word->value, word->value_bytes, "");
	(void)snprintf(reader->where, sizeof(reader->where), "kernel command line");
	reader->prefix = "lunroot.";
	return res;
}

static int take_lunroot_word(struct settings_reader *reader, const struct word *word)
{
	reader->after_secret = false;
	if (settings_begins(word->name, word->name_bytes, "lunroot."))
		return settings_take_setting(reader, word->name + 8, word->name_bytes - 8,
					     word->value, word->value_bytes);
	if (!word_is(word, "lunroot"))
		return 0;
	if (!word->value || word->value_bytes == 0)
		return settings_fail(reader, "lunroot: an address, a root path or dhcp is wanted");
	/* To say that root is ours and DHCP knows the rest. */
	return value_is(word, "dhcp") ? 0 : take_place_word(reader, word);
}

/* What the kernel's words say, where no lunroot.KEY of the same meaning stands. */
static int take_own_words(struct settings_reader *reader, const struct word own[OWN_COUNT])
{
	uint64_t lunroot = reader->settings.given[SETTINGS_CMDLINE];
	const struct word *root = &own[OWN_ROOT];
	int res = 0;

	reader->prefix = "";
	reader->after_secret = false;
	for (unsigned i = 0; i < OWN_COUNT && !res; i++) {
		const struct word *word = &own[i];

		if (!word->value || word->value_bytes == 0 ||
		    (lunroot & settings_bit(own_words[i].key)))
			continue;
		/* The boot loader's defaults, a netboot server's, and what the hooks call our own
		 * disk. */
		if (word == root && (value_is(root, "/dev/nfs") || value_is(root, "/dev/ram0") ||
				     value_is(root, "/dev/lunroot/root")))
			continue;
		if (word == root && settings_begins(root->value, root->value_bytes, "iscsi:"))
			res = take_place_word(reader, root);
		else
			res = settings_take_key(reader, own_words[i].key, word->value,
						word->value_bytes);
		reader->prefix = "";
	}
	return res;
}

int settings_take_cmdline(struct settings *settings, const char *text, size_t bytes,
			  struct settings_error *ret_error)
{
	struct word word, own[OWN_COUNT] = {0};
	struct settings_reader reader;
	bool open = false;
	int res = 0;

	settings_reader_init(&reader, SETTINGS_CMDLINE, "kernel command line", "lunroot.",
			     ret_error);
	while (bytes > 0 && text[bytes - 1] == '\0')
		bytes--;
	/* The rest after -- is for init. */
	while (!res && word_next(&text, &bytes, &word, &open) &&
	       (word.value || !word_is(&word, "--"))) {
		keep_own_word(&word, own);
		res = take_lunroot_word(&reader, &word);
	}
	if (!res && open)
		res = settings_fail(&reader, "a quotation mark is not closed");
	if (!res)
		res = take_own_words(&reader, own);
	if (!res)
		settings_merge(&reader, settings);
	settings_reader_done(&reader);
	return res;
}
