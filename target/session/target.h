/*
 * What the iSCSI side knows of a target (a node): an immutable snapshot made by the control
 * plane and shared by reference between threads, never changed after it was handed over.
 */
#ifndef LUNROOT_SESSION_TARGET_H
#define LUNROOT_SESSION_TARGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct target_chap {
	char name[LIMIT_CHAP_NAME_BYTES + 1]; /* empty: not used in this direction */
	uint8_t secret[LIMIT_CHAP_SECRET_BYTES];
	uint8_t secret_bytes;
};

/*
 * Credentials that were given to one boot of a node, beside the node's own: the user's name is the
 * same, the secrets are not.
 */
struct target_boot {
	uint8_t id[LIMIT_BOOT_ID_BYTES];
	bool used; /* a login with them has been recorded */
	uint8_t secret_bytes, mutual_secret_bytes;
	uint8_t secret[LIMIT_CHAP_SECRET_BYTES], mutual_secret[LIMIT_CHAP_SECRET_BYTES];
};

/* Those nobody has used, and the ones in use. */
#define TARGET_BOOTS_MAX (LIMIT_BOOT_UNUSED + 1)

struct target_conf {
	atomic_uint refs;
	uint8_t uuid[16];                        /* the node's: stays when it is renamed */
	char name[LIMIT_ISCSI_NAME_BYTES + 1];   /* TargetName */
	char alias[LIMIT_OBJECT_NAME_BYTES + 1]; /* TargetAlias: the node's name */
	/*
	 * Who may log in and see it. The node's own credentials (`in`) serve only this initiator
	 * name; the operator's serve any name, so that qemu-img and other tools, whose URL can't
	 * carry an initiator name, get in with what `lunctl url` prints. Without `in.name` the
	 * target asks for no authentication; with an empty `initiator` any name will do.
	 */
	char initiator[LIMIT_ISCSI_NAME_BYTES + 1];
	struct target_chap in;       /* the node proves itself */
	struct target_chap operator; /* the owner's tools prove themselves */
	struct target_chap mutual;   /* we prove ourselves when asked */
	struct target_boot *boots;   /* ours; as good as `in`, with their own mutual secrets */
	unsigned boot_count;         /* at most TARGET_BOOTS_MAX */
	bool shared;                 /* several sessions at once */
};

/*
 * Whether these credentials may stand in a conf: a name that text keys can carry and a secret of
 * LIMIT_CHAP_SECRET_BYTES_MIN or more. Others never let anybody in. Any thread.
 */
bool target_chap_valid(const struct target_chap *chap);

/* A zeroed one with one reference; NULL without memory. Any thread. */
struct target_conf *target_conf_new(void);
/* Before it is handed over: copies TARGET_BOOTS_MAX boots or fewer into it. 0 or -ENOMEM. */
int target_conf_set_boots(struct target_conf *conf, const struct target_boot *boots,
			  unsigned count);
/* The boot of that id, or NULL. Any thread. */
const struct target_boot *target_conf_boot(const struct target_conf *conf,
					   const uint8_t id[LIMIT_BOOT_ID_BYTES]);
struct target_conf *target_conf_ref(struct target_conf *conf);
/* Wipes the secrets with the last reference. Accepts NULL. Any thread. */
void target_conf_unref(struct target_conf *conf);

#endif
