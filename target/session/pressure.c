/*
 * Memory back from those who sit on it. The buffers of a reactor serve all its sessions; a peer
 * that asks for much and then neither sends nor reads would let everybody else wait for as long
 * as it is given time. So while somebody waits for a buffer, and only then, the connections are
 * looked at several times a second:
 *
 *  - a peer that has been silent for LIMIT_HOARD_MS while its writes wait for data: these give
 *    their buffers back. Should the data come after all, it is thrown away, and the command ends
 *    with BUSY, which initiators repeat;
 *  - a peer that has taken nothing of what is queued for it for LIMIT_UNREAD_MS: it is dropped. The
 *    data is its already, so there is nothing else to take.
 */
#include "session/session_internal.h"

#define LOOK_MS 250

static void look_at(struct conn *conn, uint64_t now_ms)
{
	const struct session *session = conn->session;

	if (conn->state != CONN_FULL || session->discovery)
		return;
	if (conn->tx_bytes > 0 && session->read_bytes + session->write_bytes > 0 &&
	    now_ms >= conn->tx_ms + LIMIT_UNREAD_MS)
		conn_kick(conn, "it does not read its answers, and others wait for the memory");
	else if (!conn->stalled && now_ms >= conn->last_rx_ms + LIMIT_HOARD_MS)
		session_reclaim(conn->session);
}

void pressure_watch(struct reactor *reactor)
{
	/* Without memory for the timer the time-outs of the connections remain. */
	if (!reactor->pressure_timer.armed)
		(void)ring_timer_arm(reactor->ring, &reactor->pressure_timer, LOOK_MS);
}

static void pressure_fire(struct ring_timer *timer)
{
	struct reactor *reactor = CONTAINER_OF(timer, struct reactor, pressure_timer);
	uint64_t now_ms = ring_now_ms(reactor->ring);

	if (!ring_buf_wanted(reactor->ring))
		return;
	/* Nothing is freed from inside: the end of a connection comes from the loop. */
	list_for_each (node, &reactor->conns)
		look_at(LIST_ENTRY(node, struct conn, node), now_ms);
	pressure_watch(reactor);
}

void pressure_init(struct reactor *reactor)
{
	ring_timer_init(&reactor->pressure_timer, pressure_fire);
}
