/* The entries and the packing by libarchive. */
#include "boot/node_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/secret.h"
#include "boot/blob.h"

#define HEADS_BYTES 4096 /* heads of three entries and the trailer, gzip's own, rounding */

static bool add_entry(struct archive *archive, const char *path, mode_t type, mode_t mode,
		      const char *text, size_t bytes)
{
	struct archive_entry *entry = archive_entry_new();
	bool good;

	if (!entry)
		return false;
	archive_entry_set_pathname(entry, path);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, mode);
	archive_entry_set_nlink(entry, type == AE_IFDIR ? 2 : 1);
	archive_entry_set_size(entry, (la_int64_t)bytes);
	archive_entry_set_mtime(entry, 0, 0);
	good = archive_write_header(archive, entry) == ARCHIVE_OK &&
	       archive_write_data(archive, text, bytes) == (la_ssize_t)bytes;
	archive_entry_free(entry);
	return good;
}

static bool write_all(struct archive *archive, const char *text, void *data, size_t capacity,
		      size_t *used)
{
	return archive_write_set_format_cpio_newc(archive) == ARCHIVE_OK &&
	       archive_write_add_filter_gzip(archive) == ARCHIVE_OK &&
	       archive_write_set_filter_option(archive, "gzip", "timestamp", NULL) == ARCHIVE_OK &&
	       archive_write_set_bytes_in_last_block(archive, 1) == ARCHIVE_OK &&
	       archive_write_open_memory(archive, data, capacity, used) == ARCHIVE_OK &&
	       add_entry(archive, "etc", AE_IFDIR, 0755, "", 0) &&
	       add_entry(archive, "etc/lunroot", AE_IFDIR, 0755, "", 0) &&
	       add_entry(archive, "etc/lunroot/node.conf", AE_IFREG, 0600, text, strlen(text)) &&
	       archive_write_close(archive) == ARCHIVE_OK;
}

int node_archive(const char *text, struct blob **ret_blob)
{
	size_t bytes = strlen(text), used = 0;
	struct archive *archive;
	void *data;
	bool good;

	if (bytes == 0 || bytes > LIMIT_NODE_CONF_BYTES)
		return -EINVAL;
	data = malloc(bytes + bytes / 8 + HEADS_BYTES);
	archive = data ? archive_write_new() : NULL;
	good = archive && write_all(archive, text, data, bytes + bytes / 8 + HEADS_BYTES, &used);
	archive_write_free(archive);
	if (!good) {
		secret_free(data);
		return -ENOMEM;
	}
	*ret_blob = blob_new_secret(data, used);
	return *ret_blob ? 0 : -ENOMEM;
}
