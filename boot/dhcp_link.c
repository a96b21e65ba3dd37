/* One interface's packet sockets, and the kernel's tables of links and neighbours. */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "dhcp_link.h"

/* After a power cut every Pi asks in the same second: thousands of packets, each some 1.3 to 2.3
 * KiB to the kernel. */
#define RECEIVE_BYTES (16 << 20)

/* --- sockets of one link --- */

/* UDP, whole, to port 67, 68 or 4011. The socket's data begins with the IPv4 header. */
static struct sock_filter dhcp_code[] = {
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 8),
	BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 6, 0),
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
	BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DHCP_PORT_SERVER, 2, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DHCP_PORT_CLIENT, 1, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DHCP_PORT_PXE, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, 0xffff),
	BPF_STMT(BPF_RET | BPF_K, 0),
};
/* UDP, whole, to a port that is written over the 0. */
static const struct sock_filter tap_code[] = {
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
	BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 4, 0),
	BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
	BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, 0xffff),
	BPF_STMT(BPF_RET | BPF_K, 0),
};
#define TAP_CODE_PORT 6
/* The spanning tree's LLC address. */
static struct sock_filter stp_code[] = {
	BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x4242, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, 128),
	BPF_STMT(BPF_RET | BPF_K, 0),
};
/* A port that is only held: what comes to it is read from the packet socket. */
static struct sock_filter nothing_code[] = {
	BPF_STMT(BPF_RET | BPF_K, 0),
};

static int attach(int fd, struct sock_filter *code, size_t count)
{
	struct sock_fprog program = {.len = (unsigned short)count, .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

static int packet_open(const struct dhcp_link *link, uint16_t protocol, struct sock_filter *code,
		       size_t count, int *ret_fd)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = link->at.ifindex,
	};
	/* Protocol 0: nothing arrives before the filter is there. */
	int room = RECEIVE_BYTES;
	int AUTO_CLOSE fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int res;

	if (fd < 0)
		return -errno;
	res = attach(fd, code, count);
	if (res)
		return res;
	/* As far as the system lets us. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int stp_open(struct dhcp_link *link)
{
	struct packet_mreq group = {
		.mr_ifindex = link->at.ifindex,
		.mr_type = PACKET_MR_MULTICAST,
		.mr_alen = 6,
		.mr_address = {0x01, 0x80, 0xc2, 0, 0, 0},
	};
	int res = packet_open(link, ETH_P_802_2, stp_code, ARRAY_COUNT(stp_code), &link->stp_fd);

	if (res)
		return res;
	/* Without it most cards keep the frames back; some let them through all the same. */
	(void)setsockopt(link->stp_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &group, sizeof(group));
	return 0;
}

static int udp_open(const struct dhcp_link *link, uint16_t port, int *ret_fd)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int res;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, link->at.name,
		       (socklen_t)strlen(link->at.name)))
		return -errno;
	res = attach(fd, nothing_code, ARRAY_COUNT(nothing_code));
	if (res)
		return res;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void dhcp_link_init(struct dhcp_link *link, const struct dhcp_iface *at)
{
	link->at = *at;
	link->packet_fd = link->stp_fd = link->server_fd = link->pxe_fd = link->tap_fd = -1;
}

int dhcp_link_open(struct dhcp_link *link, bool hold_server, int *ret_pxe_res)
{
	int res;

	res = packet_open(link, ETH_P_IP, dhcp_code, ARRAY_COUNT(dhcp_code), &link->packet_fd);
	if (!res && hold_server)
		res = udp_open(link, DHCP_PORT_SERVER, &link->server_fd);
	if (res) {
		dhcp_link_close(link);
		return res;
	}
	*ret_pxe_res = udp_open(link, DHCP_PORT_PXE, &link->pxe_fd);
	(void)stp_open(link); /* only for a warning */
	return 0;
}

int dhcp_link_tap(struct dhcp_link *link, uint16_t port)
{
	struct sock_filter code[ARRAY_COUNT(tap_code)];

	memcpy(code, tap_code, sizeof(code));
	code[TAP_CODE_PORT].k = port;
	return packet_open(link, ETH_P_IP, code, ARRAY_COUNT(code), &link->tap_fd);
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void dhcp_link_close(struct dhcp_link *link)
{
	close_one(&link->packet_fd);
	close_one(&link->stp_fd);
	close_one(&link->server_fd);
	close_one(&link->pxe_fd);
	close_one(&link->tap_fd);
}

static int frame_receive(int fd, uint8_t *buffer, size_t room, struct dhcp_datagram *ret_datagram,
			 struct sockaddr_ll *ret_from)
{
	socklen_t from_bytes = sizeof(*ret_from);
	ssize_t n = recvfrom(fd, buffer, room, MSG_TRUNC, (struct sockaddr *)ret_from, &from_bytes);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if ((size_t)n > room || ret_from->sll_pkttype == PACKET_OUTGOING)
		return 0;
	return dhcp_frame_parse(buffer, (size_t)n, ret_datagram) == 0;
}

int dhcp_link_receive(struct dhcp_link *link, uint8_t *buffer, size_t room,
		      struct dhcp_datagram *ret_datagram)
{
	struct sockaddr_ll from = {0};
	int res = frame_receive(link->packet_fd, buffer, room, ret_datagram, &from);

	/* Other hosts' frames: of a VLAN nobody has here, or seen because somebody sniffs. */
	return res == 1 && from.sll_pkttype == PACKET_OTHERHOST ? 0 : res;
}

int dhcp_link_receive_tap(struct dhcp_link *link, uint8_t *buffer, size_t room,
			  struct dhcp_datagram *ret_datagram, uint8_t ret_mac[6])
{
	struct sockaddr_ll from = {0};
	int res = frame_receive(link->tap_fd, buffer, room, ret_datagram, &from);

	/* What belongs to an interface above (a VLAN's, say) is shown to the one beneath, too. */
	if (res != 1 || from.sll_halen != 6 || from.sll_ifindex != link->at.ifindex)
		return res < 0 ? res : 0;
	memcpy(ret_mac, from.sll_addr, 6);
	return 1;
}

static int frame_send(struct dhcp_link *link, uint16_t protocol, const uint8_t mac[6],
		      const uint8_t *data, size_t bytes)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = link->at.ifindex,
		.sll_halen = 6,
	};

	memcpy(to.sll_addr, mac, 6);
	if (sendto(link->packet_fd, data, bytes, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}

static int udp_send(int fd, const struct dhcp_out *out)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(out->datagram.to_port),
		.sin_addr = out->datagram.to,
	};
	struct in_pktinfo by = {.ipi_ifindex = out->ifindex, .ipi_spec_dst = out->datagram.from};
	struct iovec data = {(void *)out->datagram.data, out->datagram.bytes};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(by))];
	} control = {0};
	struct msghdr message = {
		.msg_name = &to,
		.msg_namelen = sizeof(to),
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = IPPROTO_IP;
	header->cmsg_type = IP_PKTINFO;
	header->cmsg_len = CMSG_LEN(sizeof(by));
	memcpy(CMSG_DATA(header), &by, sizeof(by));
	return sendmsg(fd, &message, 0) < 0 ? -errno : 0;
}

int dhcp_link_send(struct dhcp_link *link, const struct dhcp_out *out)
{
	uint8_t frame[DHCP_FRAME_HEADER_BYTES + LIMIT_DHCP_REPLY_BYTES];
	int fd = out->datagram.from_port == DHCP_PORT_PXE ? link->pxe_fd : link->server_fd;
	int AUTO_CLOSE once = -1;
	int res;

	if (out->frame) {
		size_t bytes = dhcp_frame_build(&out->datagram, frame, sizeof(frame));

		return bytes ? frame_send(link, ETH_P_IP, out->to_mac, frame, bytes) : -EMSGSIZE;
	}
	if (fd < 0) { /* it was another's when the link was opened, and is perhaps free now */
		res = udp_open(link, out->datagram.from_port, &once);
		if (res)
			return res;
		fd = once;
	}
	return udp_send(fd, out);
}

int dhcp_link_nudge(struct dhcp_link *link, struct in_addr local)
{
	static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	/* RFC 3927, 2.1: the last 256 link-local addresses are nobody's. */
	static const uint8_t nobody[4] = {169, 254, 255, 253};
	uint8_t arp[28] = {0, 1, 8, 0, 6, 4, 0, ARPOP_REQUEST};

	memcpy(arp + 8, link->at.mac, 6);
	memcpy(arp + 14, &local, 4);
	memcpy(arp + 24, nobody, 4);
	return frame_send(link, ETH_P_ARP, all, arp, sizeof(arp));
}

/* --- which links there are --- */

static bool is_wanted(const char *name, const char (*names)[IF_NAMESIZE], unsigned name_count)
{
	for (unsigned i = 0; i < name_count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return name_count == 0;
}

static struct dhcp_iface *iface_by_name(struct dhcp_iface *ifaces, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(ifaces[i].name, name) == 0)
			return &ifaces[i];
	return NULL;
}

struct dhcp_net dhcp_net_of(const struct ifaddrs *at)
{
	struct sockaddr_in address, mask = {0};

	memcpy(&address, at->ifa_addr, sizeof(address));
	if (at->ifa_netmask)
		memcpy(&mask, at->ifa_netmask, sizeof(mask));
	return (struct dhcp_net){address.sin_addr, mask.sin_addr};
}

static bool has_address(const struct ifaddrs *all, const char *name)
{
	for (const struct ifaddrs *at = all; at; at = at->ifa_next)
		if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET &&
		    strcmp(at->ifa_name, name) == 0)
			return true;
	return false;
}

static bool is_ethernet(const struct ifaddrs *at, struct dhcp_iface *ret_iface)
{
	struct sockaddr_ll link;

	if (!at->ifa_addr || at->ifa_addr->sa_family != AF_PACKET ||
	    (at->ifa_flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK)) != (IFF_UP | IFF_RUNNING))
		return false;
	memcpy(&link, at->ifa_addr, sizeof(link));
	if (link.sll_hatype != ARPHRD_ETHER || link.sll_halen != 6)
		return false;
	*ret_iface = (struct dhcp_iface){.ifindex = link.sll_ifindex};
	memcpy(ret_iface->name, at->ifa_name, strnlen(at->ifa_name, IF_NAMESIZE - 1));
	memcpy(ret_iface->mac, link.sll_addr, 6);
	return true;
}

int dhcp_links_scan(const char (*names)[IF_NAMESIZE], unsigned name_count,
		    struct dhcp_iface *ret_ifaces, unsigned max, bool *ret_more)
{
	struct ifaddrs *all;
	unsigned count = 0;

	*ret_more = false;
	if (getifaddrs(&all))
		return -errno;
	for (const struct ifaddrs *at = all; at && !*ret_more; at = at->ifa_next) {
		struct dhcp_iface iface;

		/* Unnamed interfaces without an address are none of ours, and there may be many: a
		 * bridge's ports, containers' ends. */
		if (!is_ethernet(at, &iface) || !is_wanted(at->ifa_name, names, name_count) ||
		    (name_count == 0 && !has_address(all, at->ifa_name)))
			continue;
		if (count < max)
			ret_ifaces[count++] = iface;
		else
			*ret_more = true;
	}
	for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
		struct dhcp_iface *iface = iface_by_name(ret_ifaces, count, at->ifa_name);

		if (iface && at->ifa_addr && at->ifa_addr->sa_family == AF_INET &&
		    iface->net_count < LIMIT_DHCP_ADDRESSES)
			iface->nets[iface->net_count++] = dhcp_net_of(at);
	}
	freeifaddrs(all);
	return (int)count;
}

/* --- rtnetlink --- */

static int route_open(unsigned groups)
{
	struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int AUTO_CLOSE fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	return TAKE_FD(fd);
}

int dhcp_links_watch_open(void)
{
	return route_open(RTMGRP_LINK | RTMGRP_IPV4_IFADDR);
}

void dhcp_links_watch_clear(int fd)
{
	char buffer[8192];

	/* ENOBUFS (some were lost) is as good as any: everything is looked at anew. */
	while (recv(fd, buffer, sizeof(buffer), 0) > 0 || errno == EINTR || errno == ENOBUFS)
		;
}

int dhcp_neighbour_open(void)
{
	return route_open(0);
}

struct neighbour_request {
	struct nlmsghdr header;
	struct ndmsg body;
	struct rtattr address_attr;
	struct in_addr address;
	struct rtattr mac_attr;
	uint8_t mac[8];
};

int dhcp_neighbour_set(int fd, int ifindex, struct in_addr address, const uint8_t mac[6])
{
	struct neighbour_request request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = RTM_NEWNEIGH,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK},
		.body = {.ndm_family = AF_INET,
			 .ndm_ifindex = ifindex,
			 /* Not permanent: nothing stays behind, whatever becomes of us. */
			 .ndm_state = NUD_REACHABLE},
		.address_attr = {.rta_len = RTA_LENGTH(sizeof(address)), .rta_type = NDA_DST},
		.address = address,
		.mac_attr = {.rta_len = RTA_LENGTH(6), .rta_type = NDA_LLADDR},
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	ssize_t n;

	memcpy(request.mac, mac, 6);
	if (send(fd, &request, sizeof(request), 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0); /* the kernel has answered within send() */
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.header) + sizeof(answer.error) ||
	    answer.header.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return answer.error.error;
}
