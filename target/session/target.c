/*
 * The life of a target's snapshot, and what makes its credentials acceptable.
 */
#include "session/target.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool target_chap_valid(const struct target_chap *chap)
{
	size_t name_bytes = strnlen(chap->name, sizeof(chap->name));

	if (name_bytes == 0 || name_bytes > LIMIT_CHAP_NAME_BYTES)
		return false;
	for (size_t i = 0; i < name_bytes; i++) {
		if ((uint8_t)chap->name[i] < 0x20 || chap->name[i] == 0x7f)
			return false;
	}
	return chap->secret_bytes >= LIMIT_CHAP_SECRET_BYTES_MIN &&
	       chap->secret_bytes <= LIMIT_CHAP_SECRET_BYTES;
}

struct target_conf *target_conf_new(void)
{
	struct target_conf *conf = calloc(1, sizeof(*conf));

	if (conf)
		atomic_init(&conf->refs, 1);
	return conf;
}

int target_conf_set_boots(struct target_conf *conf, const struct target_boot *boots, unsigned count)
{
	assert(count <= TARGET_BOOTS_MAX);
	assert(!conf->boots);
	if (count == 0)
		return 0;
	conf->boots = malloc(count * sizeof(*boots));
	if (!conf->boots)
		return -ENOMEM;
	memcpy(conf->boots, boots, count * sizeof(*boots));
	conf->boot_count = count;
	return 0;
}

const struct target_boot *target_conf_boot(const struct target_conf *conf,
					   const uint8_t id[LIMIT_BOOT_ID_BYTES])
{
	for (unsigned i = 0; i < conf->boot_count; i++) {
		if (memcmp(conf->boots[i].id, id, LIMIT_BOOT_ID_BYTES) == 0)
			return &conf->boots[i];
	}
	return NULL;
}

struct target_conf *target_conf_ref(struct target_conf *conf)
{
	unsigned before = atomic_fetch_add_explicit(&conf->refs, 1, memory_order_relaxed);

	assert(before > 0);
	return conf;
}

void target_conf_unref(struct target_conf *conf)
{
	unsigned before;

	if (!conf)
		return;
	/* Release, so that the last holder sees every use before it; acquire for that holder. */
	before = atomic_fetch_sub_explicit(&conf->refs, 1, memory_order_acq_rel);
	assert(before > 0);
	if (before > 1)
		return;
	if (conf->boots)
		explicit_bzero(conf->boots, conf->boot_count * sizeof(*conf->boots));
	free(conf->boots);
	explicit_bzero(conf, sizeof(*conf));
	free(conf);
}
