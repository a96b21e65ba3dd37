/*
 * Every bound on what a peer, a file or a person can make us hold, with its reason. Nothing
 * read from outside is allocated, queued or looped over without one of these.
 */
#ifndef LUNROOT_BASE_LIMITS_H
#define LUNROOT_BASE_LIMITS_H

/* A table, kept in columns by hand. */
/* clang-format off */

/* --- names --- */
#define LIMIT_ISCSI_NAME_BYTES          223    /* RFC 7143, 4.2.7.2: iSCSI names, without the NUL */
/* images and nodes; a DNS label, so that it can be a hostname */
#define LIMIT_OBJECT_NAME_BYTES         63
#define LIMIT_ADDRESS_TEXT_BYTES        64     /* "[ipv6%scope]:port" */
#define LIMIT_PATH_BYTES                1024

/* --- reactors --- */
#define LIMIT_REACTORS                  4      /* design: one per core, at most 4 */
/* SQEs batched between two submits; a full SQ just submits */
#define LIMIT_RING_ENTRIES              1024
/* provided buffers a reactor; consumed and returned at once */
#define LIMIT_RECV_BUFFERS              256
#define LIMIT_RECV_BUFFER_BYTES         16384
/* one command's data; VPD B0 MAXIMUM TRANSFER LENGTH */
#define LIMIT_IO_BUFFER_BYTES           (4u << 20)
/* data of all commands of a reactor at one time */
#define LIMIT_IO_POOL_BYTES             (64u << 20)

/* --- portals, connections, sessions --- */
#define LIMIT_PORTALS                   16
/* all reactors; 3,000 nodes, their replacements and discovery */
#define LIMIT_CONNECTIONS               8192
/* connections that have not logged in; others wait in backlog */
#define LIMIT_HALF_OPEN_LOGINS          512
#define LIMIT_LOGIN_TIMEOUT_MS          15000  /* open-iscsi gives up after 15 s too */
/* requests in one login phase, empty C-bit rounds included */
#define LIMIT_LOGIN_PDUS                64
/* one negotiation step (RFC 7143, 6.2: at least 8 KiB; 64 KiB with large keys) */
#define LIMIT_LOGIN_TEXT_BYTES          65536
#define LIMIT_TEXT_KEYS                 128    /* keys in one step */
#define LIMIT_TEXT_KEY_BYTES            63     /* RFC 7143, 6.1 */
#define LIMIT_CHAP_BINARY_BYTES         1024   /* RFC 7143, 12.1.3 */
#define LIMIT_CHAP_NAME_BYTES           255
#define LIMIT_CHAP_SECRET_BYTES_MIN     12     /* RFC 7143, 9.2.1: 96 bits */
#define LIMIT_CHAP_SECRET_BYTES         128
#define LIMIT_AHS_BYTES                 1020   /* TotalAHSLength is one byte of 4-byte words */
/* our MaxRecvDataSegmentLength in full-feature phase */
#define LIMIT_SEGMENT_BYTES             262144
#define LIMIT_LOGIN_SEGMENT_BYTES       8192   /* before it (RFC 7143, 13.12) */
#define LIMIT_FIRST_BURST_BYTES         262144
#define LIMIT_MAX_BURST_BYTES           1048576
#define LIMIT_OUTSTANDING_R2T           8
/* command window; Linux keeps at most 128 in flight */
#define LIMIT_SESSION_COMMANDS          128
/* immediate ones that wait, beyond which Reject 06 (RFC 7143, 4.2.2.1) */
#define LIMIT_IMMEDIATE_COMMANDS        16
/* queued to a peer that does not read; then its commands wait */
#define LIMIT_SESSION_TX_BYTES          (8u << 20)
#define LIMIT_SESSIONS_PER_NODE         64     /* of a --shared LUN */
/* a silent peer is asked with a NOP-In after this, */
#define LIMIT_PING_IDLE_MS              60000
/* and dropped after this; iPXE and EDK2 never answer, see session */
#define LIMIT_PING_ANSWER_MS            60000
#define LIMIT_DATA_OUT_MS               60000  /* an R2T that gets no data */
/* buffers of writes that wait for data; further R2Ts wait */
#define LIMIT_SESSION_WRITE_BYTES       (16u << 20)
/* While others wait for memory: a silent peer's writes give theirs back, */
#define LIMIT_HOARD_MS                  1000
#define LIMIT_UNREAD_MS                 2000   /* and one that takes none of our answers is dropped */
#define LIMIT_HELD_PDUS                 64     /* commands that came before their turn (CmdSN), */
#define LIMIT_HELD_BYTES                (1u << 20) /* and their immediate data */
/* received, not taken yet: twice all of the shared buffers */
#define LIMIT_HOLD_BYTES                (8u << 20)
#define LIMIT_DISCOVERY_IDLE_MS         60000  /* a discovery session that says nothing */
/* our end is closed; the last answer shall arrive before a reset */
#define LIMIT_LINGER_MS                 2000
/* TCP_USER_TIMEOUT: sent and not acknowledged, or window shut */
#define LIMIT_UNSENT_MS                 120000
#define LIMIT_STOP_MS                   5000   /* SIGTERM: flush, tell, go */

/* --- SCSI --- */
#define LIMIT_LUNS_PER_NODE             16
#define LIMIT_SENSE_BYTES               96
#define LIMIT_UNMAP_DESCRIPTORS         256
#define LIMIT_NEXUS_UNIT_ATTENTIONS     8

/* --- store --- */
#define LIMIT_CHAIN_LAYERS              32
#define LIMIT_DISK_BYTES                (64ull << 40)
/* below 1 MiB there is no file system worth booting */
#define LIMIT_DISK_BYTES_MIN            (1ull << 20)

/* --- control --- */
#define LIMIT_CONTROL_BODY_BYTES        (1u << 20)
#define LIMIT_CONTROL_CLIENTS           64
#define LIMIT_JOBS                      256    /* finished ones are forgotten, oldest first */
#define LIMIT_IMAGES                    4096
#define LIMIT_NODES                     4096
/* clang-format on */

#endif
