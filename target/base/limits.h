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
#define LIMIT_TRASH                     1024   /* things in the trash; then the oldest goes */

/* --- boot --- */
#define LIMIT_BOOT_INTERFACES           16     /* as DHCP's */
/* remembered at a time: one for each node, and strangers; the longest silent one goes */
#define LIMIT_BOOTS                     4096
/* what a node tells of its boot: one datagram, which no link has to fragment */
#define LIMIT_REPORT_BYTES              512
/* of them: "lunroot-report 1 ", token, sequence and event take less than the rest */
#define LIMIT_REPORT_TEXT_BYTES         400
/* what one request may read of a disk: as much as an initiator may */
#define LIMIT_DATA_BYTES                LIMIT_IO_BUFFER_BYTES
/* such buffers at one time, until a client has taken its own: 64 MiB; further requests wait */
#define LIMIT_DATA_READS                16
/* a reactor reads so much at once for them; in between it is there for its initiators. A copy of
 * it from the page cache takes less than 0.1 ms */
#define LIMIT_DATA_PIECE_BYTES          (256u << 10)
#define LIMIT_BOOT_ID_BYTES             8      /* 16 hexadecimal digits: no two boots share one */
/* credentials of a node's boots that nobody has used: a Pi asks for its settings anew when it
 * starts again, and may do so a few times before it gets as far as a login */
#define LIMIT_BOOT_UNUSED               4
/* and for how long they are good: a slow Pi on a slow network takes 3 minutes from its settings to
 * the login, and five times that leaves nobody out */
#define LIMIT_BOOT_UNUSED_MS            (15u * 60 * 1000)
/* logins and ends of sessions that the control thread has not heard of yet; beyond that, in a
 * storm, they are only counted */
#define LIMIT_SESSION_NOTICES           1024
/* one boot's timeline: a boot has some 60; then its middle goes */
#define LIMIT_BOOT_EVENTS               512
#define LIMIT_BOOT_TEXT_BYTES           500    /* of one event; a log line of the EEPROM fits */
#define LIMIT_BOOT_FILE_BYTES           200    /* names as the Pis ask for them have below 60 */
#define LIMIT_BOOT_MODEL_BYTES          63
#define LIMIT_BOOTS_PER_NODE            16     /* the newest; enough to compare today's with last week's */
/* Pis that belong to no node: all of them, */
#define LIMIT_BOOTS_UNKNOWN             256
/* and one that tries again and again, so that it does not push out the others */
#define LIMIT_BOOTS_PER_UNKNOWN         4
/* events of all boots, in memory: 3,000 nodes with seven boots each */
#define LIMIT_BOOT_RECORDS_BYTES        (64u << 20)
/* of lunbootd: one a node, and as many visitors */
#define LIMIT_LEASES                    8192
#define LIMIT_BOOTD_INTERFACES          64     /* that lunbootd tells of */
#define LIMIT_BOOTD_TROUBLES            16     /* the same; then the one seen longest ago is forgotten */
#define LIMIT_DHCP_PACKET_BYTES         1500   /* one Ethernet frame; DHCP is never fragmented here */
/* boards and PCs that asked lately, as many as nodes; then the one unheard of longest is forgotten */
#define LIMIT_DHCP_CLIENTS              4096
#define LIMIT_DHCP_INTERFACES           16
#define LIMIT_DHCP_ADDRESSES            8      /* of one interface */
#define LIMIT_DHCP_TROUBLES             256    /* remembered as told; then the oldest is told again */
#define LIMIT_DHCP_BOOT_FILE_BYTES      127    /* BOOTP's field, without the NUL */
#define LIMIT_DHCP_DOMAIN_BYTES         63
#define LIMIT_DHCP_NAME_SERVERS         3
/* an answer; what every client takes unless it says more (RFC 2132, 9.10): 576 with IP and UDP */
#define LIMIT_DHCP_REPLY_BYTES_MIN      548
#define LIMIT_DHCP_REPLY_BYTES          1472
/* a file's path as asked for; the longest of a Pi's overlays has 60 */
#define LIMIT_BOOT_PATH_BYTES           255
#define LIMIT_TFTP_REQUEST_BYTES        512    /* RFC 2347: a request with all its options */
/* what Ethernet's 1500 carry; the Pis' EEPROMs ask for that */
#define LIMIT_TFTP_BLOCK_BYTES          1468
/* in flight to one client; more only fills the queues of switches */
#define LIMIT_TFTP_WINDOW_BLOCKS        64
/* transfers at once, each with a socket of its own: 3,000 nodes and their probes */
#define LIMIT_TFTP_SESSIONS             4096
#define LIMIT_TFTP_SESSIONS_PER_PEER    64     /* an address; boot loaders have one or two */
/* a client that is silent for so long has gone; a Pi's own patience is 1 s to 30 s */
#define LIMIT_TFTP_SILENCE_MS           15000
/* HTTP: */
#define LIMIT_BOOT_HTTP_CLIENTS         512    /* connections, */
#define LIMIT_BOOT_HTTP_CLIENTS_PER_PEER 16    /* and those of one address */
#define LIMIT_BOOT_HTTP_HEADER_BYTES    8192   /* a request line and its headers */
/* no byte moves, or the request is not whole yet */
#define LIMIT_BOOT_HTTP_IDLE_MS         20000
/* one answer; 1 GiB at 2 MB/s */
#define LIMIT_BOOT_HTTP_ANSWER_MS       600000
/* files of a boot partition or a kernel's modules (Debian's arm64: 4,000), folders deep, its names */
#define LIMIT_TREE_FILES                16384
#define LIMIT_TREE_DEPTH                16
#define LIMIT_TREE_PATH_BYTES           255    /* without the NUL */
#define LIMIT_TREE_FOLDERS              2048
#define LIMIT_FAT_FOLDER_BYTES          (2u << 20) /* 65,536 entries, Microsoft's own bound */
#define LIMIT_FAT_FOLDERS_BYTES         (32u << 20) /* all of one file system */
#define LIMIT_EXT_GROUPS                (1u << 19) /* 64 TiB of the usual groups: 32 MiB of descriptors */
/* what a Pi can fetch in one boot; Raspberry Pi OS has 40 MiB for one model */
#define LIMIT_VIEW_BYTES                (256u << 20)
#define LIMIT_VIEW_NOTES                64
/* above it the Pi's firmware drops the whole file */
#define LIMIT_CONFIG_TXT_BYTES          4096
#define LIMIT_CONFIG_TXT_LINE_BYTES     98     /* the firmware ignores the rest of a line */
/* the disk's own, with comments and included files */
#define LIMIT_CONFIG_TXT_SOURCE_BYTES   65536
#define LIMIT_CONFIG_TXT_INCLUDES       16
#define LIMIT_CMDLINE_BYTES             2047   /* COMMAND_LINE_SIZE of arm64 */
/* a kernel unpacked, looked through for its version */
#define LIMIT_KERNEL_BYTES              (256u << 20)
#define LIMIT_KERNEL_VERSION_BYTES      64     /* utsname's release */
#define LIMIT_INITRAMFS_BYTES           (128u << 20)
/* modules copied out of a root file system; all of Debian's arm64 are 300 MiB */
#define LIMIT_INITRAMFS_MODULES_BYTES   (512u << 20)
#define LIMIT_INITRAMFS_MAKE_MS         120000 /* 2 s on a PC, 20 on a Pi */
#define LIMIT_INITRAMFS_CACHED          64     /* kernels whose initramfs is kept */
#define LIMIT_NODE_CONF_BYTES           16383  /* lunroot-init reads no more */
/* clang-format on */

#endif
