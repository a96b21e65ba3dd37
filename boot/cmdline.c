/*
 * Words are cut as the kernel cuts them (blanks outside of quotes) and kept as they stand.
 *
 * Taken out: the first-boot steps of Raspberry Pi OS that grow the partition or give the disk a new
 * identifier and fstab (the server grows disks), addresses and NFS roots of another way of booting,
 * and a root= that lunroot-init does not understand.
 */
#include "boot/cmdline.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "boot/partition.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The length of the word at `text`; 0: a quote without its end. */
static size_t word_length(const char *text, size_t bytes)
{
	bool open = false;
	size_t i = 0;

	for (; i < bytes && (open || !is_blank(text[i])); i++) {
		if (text[i] == '"')
			open = !open;
	}
	return open ? 0 : i;
}

static bool begins(const char *word, size_t bytes, const char *with)
{
	return bytes >= strlen(with) && memcmp(word, with, strlen(with)) == 0;
}

static bool ends(const char *word, size_t bytes, const char *with)
{
	return bytes >= strlen(with) &&
	       memcmp(word + bytes - strlen(with), with, strlen(with)) == 0;
}

/* The value of a word without its quotes; false if it has no room. */
static bool value_copy(const char *word, size_t bytes, size_t name_bytes, char *ret_value,
		       size_t capacity)
{
	word += name_bytes;
	bytes -= name_bytes;
	if (bytes > 1 && word[0] == '"' && word[bytes - 1] == '"') {
		word++;
		bytes -= 2;
	}
	if (bytes >= capacity)
		return false;
	memcpy(ret_value, word, bytes);
	ret_value[bytes] = '\0';
	return true;
}

/* Whether the word stays. A root= that does is noted; of several the last one counts. */
static bool word_stays(const char *word, size_t bytes, struct cmdline *cmdline)
{
	static const char *const elsewhere[] = {
		"ip=",      "nfsroot=",       "nfsaddrs=", "nfsrootdebug",
		"netroot=", "rootfstype=nfs", "lunroot=",  "root=iscsi:"};
	char root[sizeof(cmdline->root)];

	if (bytes == 6 && memcmp(word, "resize", 6) == 0)
		return false;
	if (begins(word, bytes, "init=") &&
	    (ends(word, bytes, "/firstboot") || ends(word, bytes, "/init_resize.sh")))
		return false;
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
		if (begins(word, bytes, elsewhere[i]))
			return false;
	}
	if (!begins(word, bytes, "root="))
		return true;
	if (!value_copy(word, bytes, strlen("root="), root, sizeof(root)) ||
	    !partition_root_understood(root))
		return false;
	memcpy(cmdline->root, root, sizeof(root));
	return true;
}

static void note_dropped(struct cmdline *cmdline, const char *word, size_t bytes)
{
	size_t used = strlen(cmdline->dropped);

	if (used + 1 + bytes >= sizeof(cmdline->dropped))
		return;
	if (used > 0)
		cmdline->dropped[used++] = ' ';
	memcpy(cmdline->dropped + used, word, bytes);
	cmdline->dropped[used + bytes] = '\0';
}

static int too_long(struct boot_error *ret_error)
{
	return boot_fail(ret_error, -EINVAL,
			 "the kernel's command line would have more than %d bytes: shorten "
			 "cmdline.txt",
			 LIMIT_CMDLINE_BYTES);
}

static int take_words(struct cmdline *cmdline, const char *text, size_t bytes, bool filter,
		      struct boot_error *ret_error)
{
	size_t used = strlen(cmdline->text);

	while (bytes > 0) {
		size_t length;

		if (is_blank(*text)) {
			text++;
			bytes--;
			continue;
		}
		length = word_length(text, bytes);
		if (length == 0)
			return boot_fail(ret_error, -EINVAL,
					 "cmdline.txt has a quote (\") without its end");
		if (filter && !word_stays(text, length, cmdline)) {
			note_dropped(cmdline, text, length);
		} else {
			if (used + (used > 0) + length > LIMIT_CMDLINE_BYTES)
				return too_long(ret_error);
			if (used > 0)
				cmdline->text[used++] = ' ';
			memcpy(cmdline->text + used, text, length);
			used += length;
			cmdline->text[used] = '\0';
		}
		text += length;
		bytes -= length;
	}
	return 0;
}

/* The line is cut out of a file that may have others, and CR LF. */
int cmdline_make(const char *text, size_t bytes, const char *extra, struct cmdline *ret_cmdline,
		 struct boot_error *ret_error)
{
	struct cmdline cmdline = {.text = ""};
	size_t length = 0;
	int res;

	while (bytes > 0 && (is_blank(*text) || *text == '\r' || *text == '\n')) {
		text++;
		bytes--;
	}
	while (length < bytes && text[length] != '\n' && text[length] != '\r' &&
	       text[length] != '\0')
		length++;
	for (size_t i = 0; i < length; i++) {
		size_t step = text[i] == '\t' ? 1 : utf8_sequence(text + i, length - i);

		if (step == 0)
			return boot_fail(ret_error, -EINVAL,
					 "cmdline.txt is no text (byte %zu of its line)", i + 1);
		i += step - 1;
	}
	res = take_words(&cmdline, text, length, true, ret_error);
	if (!res)
		res = take_words(&cmdline, extra, strlen(extra), false, ret_error);
	if (!res)
		*ret_cmdline = cmdline;
	return res;
}
