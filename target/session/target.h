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
	bool shared;                 /* several sessions at once */
};

/*
 * Whether these credentials may stand in a conf: a name that text keys can carry and a secret of
 * LIMIT_CHAP_SECRET_BYTES_MIN or more. Others never let anybody in. Any thread.
 */
bool target_chap_valid(const struct target_chap *chap);

/* A zeroed one with one reference; NULL without memory. Any thread. */
struct target_conf *target_conf_new(void);
struct target_conf *target_conf_ref(struct target_conf *conf);
/* Wipes the secrets with the last reference. Accepts NULL. Any thread. */
void target_conf_unref(struct target_conf *conf);

#endif
