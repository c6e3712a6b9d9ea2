/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The directions of a connection between TCP and a ring, there and back, as often as anybody likes; the rings, lent and
 * given back; the channel, which ends and begins again: PROTOCOL.md, "Streams", "Rings on a channel", "Suspend". Guest 0
 * writes direction 0 and reads direction 1, if there is one.
 *
 * Nothing is counted that could run out: bytes, offers, ring lives, closes and channels are without number. Bounded is
 * what there can be at one time: bytes in TCP (TSIZE) and in a ring (RSIZE), rings (RINGS), offers without an answer
 * (OFFERS). For that, sequence numbers are relative to the reader's copied_seq, and bytes are numbered from the one that
 * has to be delivered next. A queue of bytes is a number in hexadecimal, the oldest byte its lowest digit: 1 is the one
 * that has to be delivered next, 2 the one after it. Delivery takes the lowest digit off, which has to be 1, and makes
 * all others one less. So a byte that is lost, repeated or out of order is found, whatever was sent before.
 *
 * At any moment it may become calm: from then on nobody closes, offers, withdraws or ends anything of his own accord,
 * and the writer has REST more bytes and the end to send. When nobody can go on (`timeout`), everything has to be as it
 * should: all delivered, the end, too; all rings back with their owner. With ENDS it is shown that it does come to that.
 * So whatever was disturbed, and in which state: when disturbance ceases, nothing is stuck.
 *
 * With FAULTS one of the guests may stop for good, paused or crashed; after a crash TCP may be reset. With EVENTS, which
 * makes two directions small enough, it is calm from the start but for so many things that are done by choice. COARSE:
 * the reader's steps are one.
 *
 * An atomic step is one instruction on the ring's word, or what is done under a lock of all who could see it half done.
 * The reader's steps (note rcv_nxt; note whether that is the end; look at the word; act) are apart; it has rx_mutex from
 * the first to the last. A look that finds nothing changes nothing, so the reader waits with what it noted, or notes
 * again, and who tries the mutex meanwhile gets it. A commit copies its bytes in the same step: nobody looks behind the
 * position.
 *
 * Left out: proofs and lies; wake-ups (whoever can go on does); the ring's positions, which the unit tests check; sizes;
 * RING_ADD and RING_DEL; peeks and urgent data; calls that began before the driver, but for one that appends to TCP
 * behind a boundary; detaching; vmcd, but that it orders the other end of a channel; packets.
 *
 * MUTANT_*: mistakes that have to be found, see `run`.
 */
#ifndef DIRS
#define DIRS	1	/* directions */
#endif
#ifndef RINGS
#define RINGS	1	/* in each direction; 2 at most */
#endif
#ifndef RSIZE
#define RSIZE	2	/* bytes that a ring holds */
#endif
#ifndef TSIZE
#define TSIZE	2	/* bytes on their way in TCP, or unread there, with which the writer waits */
#endif
#ifndef OFFERS
#define OFFERS	2	/* without an answer; all but one of them withdrawn */
#endif
#ifndef REST
#define REST	1	/* bytes to be sent when it has become calm */
#endif
#ifndef EVENTS
#define EVENTS	0
#endif
#ifndef COARSE
#define COARSE	0
#endif

#define QUEUE	(TSIZE + RSIZE)	/* with what is moved there: no memory for more */
#if QUEUE > 6
#error too many bytes for an int
#endif
#define NONE	7		/* no ring */
#define UNSET	100		/* no boundary */
#define PASSED	101		/* TCP was read beyond it */

mtype = { OFFER, DONE, ACCEPT, REJECT };			/* messages */
mtype = { TCP, OFFERED, READY, LOCAL };				/* states of a writer */
mtype = { NOTHING, READ_TCP, READ_ON, READ_RING, RELEASE };	/* what a reader is about to do */

typedef Ring {
	/* the word: CLOSED; position > 0; position - what was read */
	bool closed = true;
	bool started;
	byte unread;
	int data;
	byte boundary = UNSET;
	/* its owner's */
	bool in_use;
	bool done = true;	/* DONE has come, or is not needed */
	/* its writer's */
	bool mapped;
	bool owes_done;
}

typedef Dir {
	/* TCP: write_seq, rcv_nxt, and the bytes */
	byte sent;
	byte rcvd;
	int tcp;
	byte fin;		/* 1: sent; 2: counted in rcv_nxt; 3: SOCK_DONE */
	bool fin_taken;		/* copied_seq is behind it */
	/* the writer */
	byte next = 1;		/* the next byte's number */
	mtype state = TCP;
	byte tx = NONE;
	bit offer;
	byte offers;		/* without an answer */
	bool overtaken;		/* write_seq is not the boundary any more */
	byte rest = REST;
	/* the reader */
	byte rx = NONE;
	bool segment;
	byte noted;		/* 1: rcv_nxt; 2: whether that is the end; 3: the ring was looked at */
	byte limit;
	bool final;
	mtype act = NOTHING;
	bool ended;
#if defined(MUTANT_LOOK_FIRST) || defined(MUTANT_END_LATE)
	bool saw_started;
	bool saw_closed;
	byte saw_unread;
#endif
#if defined(MUTANT_COMMIT_IN_TWO) || defined(MUTANT_NO_LOCK) || defined(MUTANT_BOUNDARY_LATE)
	byte held = NONE;	/* the ring of a commit that is under way */
#endif
#ifdef MUTANT_TOUCHED_FIRST
	byte kept = NONE;	/* bytes of the ring that will go along */
#endif
}

Dir dir[DIRS];
Ring ring[DIRS * RINGS];
bool up[2];			/* this guest's side of the channel */
bool calm = EVENTS > 0;
byte events = EVENTS;
#ifdef FAULTS
bool stopped[2];		/* for good */
bool crashed;			/* it does not come back */
bool reset;			/* TCP knows that the writer is gone */
#define WHILE_IT_RUNS(g)	provided (!stopped[g])
#else
#define crashed			false
#define reset			false
#define WHILE_IT_RUNS(g)
#endif
chan inbox[2] = [2 * OFFERS + RINGS] of { mtype, byte, byte };

#define ring_of(d, i)	ring[(d) * RINGS + (i)]
#define tx_ring(d)	ring_of(d, dir[d].tx)
#define rx_ring(d)	ring_of(d, dir[d].rx)
#define has_ring(d)	(dir[d].rx != NONE)
#define writes(g)	((g) < DIRS)		/* direction g */
#define reads(g)	(1 - (g) < DIRS)	/* direction 1 - g */

/* What somebody does by choice. */
#define by_choice	(!calm || events > 0)
inline chosen()
{
	if
	:: calm -> events--
	:: else
	fi
}

/* A side that has ended reads no more. */
inline send(to, what, arg1, arg2)
{
	if
	:: up[to] -> assert(nfull(inbox[to])); inbox[to]!what(arg1, arg2)
	:: else
	fi
}

inline clear(box)
{
	do
	:: box?_, _, _
	:: empty(box) -> break
	od
}

/* ------------------------------------------------------------------ bytes */

#define low(n)		((1 << 4 * (n)) - 1)	/* n digits */
#define ones(n)		(low(n) / 15)	/* 1 in each of them */

inline append_tcp(d)
{
	assert(dir[d].next < 15);
	dir[d].tcp = dir[d].tcp | (dir[d].next << 4 * dir[d].sent);
	dir[d].sent++;
	dir[d].next++
}

inline append_ring(d, i)
{
	ring_of(d, i).data = ring_of(d, i).data | (dir[d].next << 4 * ring_of(d, i).unread);
	ring_of(d, i).unread++;
	ring_of(d, i).started = true;
	dir[d].next++
}

#define one_less(d, i)	ring_of(d, i).data = ring_of(d, i).data - ones(ring_of(d, i).unread)
#define come_nearer(d, i) ring_of(d, i).boundary = (ring_of(d, i).boundary >= UNSET -> ring_of(d, i).boundary : \
	(ring_of(d, i).boundary -> ring_of(d, i).boundary - 1 : PASSED))

inline deliver_tcp(d)
{
	assert((dir[d].tcp & 15) == 1);
	dir[d].sent--;
	dir[d].rcvd--;
	dir[d].next--;
	dir[d].tcp = (dir[d].tcp >> 4) - ones(dir[d].sent);
	one_less(d, 0);
	come_nearer(d, 0);
#if RINGS > 1
	one_less(d, 1);
	come_nearer(d, 1)
#endif
}

inline deliver_ring(d)
{
	assert((rx_ring(d).data & 15) == 1);
	rx_ring(d).unread--;
	rx_ring(d).data = rx_ring(d).data >> 4;
	dir[d].next--;
	dir[d].tcp = dir[d].tcp - ones(dir[d].sent);
	one_less(d, 0);
#if RINGS > 1
	one_less(d, 1)
#endif
}

/* A boundary that will never count is forgotten. */
inline close_ring(d, i)
{
	ring_of(d, i).closed = true;
	if
	:: !ring_of(d, i).started -> ring_of(d, i).boundary = UNSET
	:: else
	fi
}

/* ----------------------------------------------------------------- writer */

/* vmc_tx_drop() as far as it has the lock: DONE goes out a moment later. */
inline drop(d)
{
	assert(tx_ring(d).mapped);
	close_ring(d, dir[d].tx);
#ifndef MUTANT_NO_DONE
	tx_ring(d).owes_done = true;
#endif
	dir[d].tx = NONE;
	dir[d].state = TCP;
	dir[d].overtaken = false
}

inline tell_done(d, i)
{
	ring_of(d, i).owes_done = false;
	send(1 - d, DONE, i, 0)
}

#define may_send(d)	(!dir[d].fin && (!calm || dir[d].rest > 0))
inline counted(d)
{
	if
	:: calm -> dir[d].rest--
	:: else
	fi
}

#ifdef MUTANT_NOT_COMPARED
#define compared(d)	true
#else
#define compared(d)	(!dir[d].overtaken)
#endif
#if defined(MUTANT_COMMIT_IN_TWO) || defined(MUTANT_NO_LOCK) || defined(MUTANT_BOUNDARY_LATE)
#define unlocked(d)	(dir[d].held == NONE)
#else
#define unlocked(d)	true
#endif

proctype sender(byte d) WHILE_IT_RUNS(d)
{
	do
	/* over TCP; in READY, too, if somebody is inside TCP's own send path */
	:: atomic { dir[d].state != LOCAL && may_send(d) && dir[d].sent < TSIZE ->
		append_tcp(d); counted(d) }
	:: atomic { dir[d].state == TCP && by_choice && !dir[d].fin && up[d] && dir[d].offers < OFFERS ->
		chosen();
		dir[d].state = OFFERED; dir[d].offer = 1 - dir[d].offer; dir[d].offers++;
		send(1 - d, OFFER, dir[d].offer, 0) }
	/* withdrawn */
	:: atomic { dir[d].state == OFFERED && by_choice -> chosen(); dir[d].state = TCP }
	/* vmc_tx_open() */
	:: atomic { dir[d].state == READY && may_send(d) ->
		dir[d].state = LOCAL;
		if
#ifndef MUTANT_BOUNDARY_LATE
		:: !tx_ring(d).closed -> tx_ring(d).boundary = dir[d].sent
#endif
		:: else
		fi }
	/* vmc_tx_put() */
	:: atomic { dir[d].state == LOCAL && may_send(d) && compared(d) && unlocked(d) &&
		(tx_ring(d).closed || tx_ring(d).unread < RSIZE) ->
		assert(tx_ring(d).mapped);
		if
		:: tx_ring(d).closed ->		/* the commit fails */
#ifdef MUTANT_FAILED_COUNTS
			dir[d].next++;
#endif
			drop(d)
		:: else ->
#if defined(MUTANT_COMMIT_IN_TWO) || defined(MUTANT_NO_LOCK)
			dir[d].held = dir[d].tx
#else
			append_ring(d, dir[d].tx);
			counted(d);
#ifdef MUTANT_BOUNDARY_LATE
			dir[d].held = dir[d].tx
#endif
#endif
		fi }
#ifdef MUTANT_COMMIT_IN_TWO
	:: atomic { dir[d].held != NONE -> append_ring(d, dir[d].held); counted(d); dir[d].held = NONE }
#endif
#ifdef MUTANT_NO_LOCK
	:: atomic { dir[d].held != NONE ->
		assert(ring_of(d, dir[d].held).mapped);
		if
		:: !ring_of(d, dir[d].held).closed -> append_ring(d, dir[d].held); counted(d)
		:: else
		fi;
		dir[d].held = NONE }
#endif
#ifdef MUTANT_BOUNDARY_LATE
	:: atomic { dir[d].held != NONE -> ring_of(d, dir[d].held).boundary = dir[d].sent; dir[d].held = NONE }
#endif
#if !COARSE
	/* a call of TCP's own, which began before all others came through the driver */
	:: atomic { dir[d].state == LOCAL && !calm && !dir[d].fin && !dir[d].overtaken && dir[d].sent < TSIZE ->
		append_tcp(d); dir[d].overtaken = true }
#endif
	/* shutdown() */
	:: atomic { !dir[d].fin && (!calm || !dir[d].rest) && unlocked(d) ->
		if
		:: dir[d].tx != NONE -> drop(d)
		:: else -> dir[d].state = TCP
		fi;
		dir[d].fin = 1 }
	od
}

proctype network(byte d)
{
	do
	:: atomic { dir[d].rcvd < dir[d].sent && !reset -> dir[d].rcvd++ }
	:: atomic { dir[d].fin == 1 && dir[d].rcvd == dir[d].sent && !reset -> dir[d].fin = (COARSE -> 3 : 2) }
	:: atomic { dir[d].fin == 2 -> dir[d].fin = 3 }
	od
}

/* ----------------------------------------------------------------- reader */

/* vmc_rx_end(): the ring is closed and read to its end, or given up. */
inline release(d)
{
	assert(rx_ring(d).closed);
	rx_ring(d).started = false;
	rx_ring(d).boundary = UNSET;
	rx_ring(d).data = 0;
	rx_ring(d).unread = 0;
	rx_ring(d).in_use = false;
	dir[d].rx = NONE;
	dir[d].segment = false
}

/* vmc_rx_begin(): TCP was not read beyond the boundary; a FIN that was taken with the last bytes does not count. */
inline begin(d)
{
	assert(dir[d].segment || rx_ring(d).boundary < UNSET);
#ifdef MUTANT_FIN_COUNTS
	assert(dir[d].segment || rx_ring(d).boundary > 0 || !dir[d].fin_taken);
#endif
	dir[d].segment = true
}

#define tcp_is_next(d)	(rx_ring(d).boundary > 0 && rx_ring(d).boundary < UNSET)

/* vmc_rx_to_tcp(): bytes go in at the boundary, and copied_seq goes back as far. */
inline to_tcp(d)
{
	close_ring(d, dir[d].rx);
	if
	:: rx_ring(d).unread ->
		begin(d);
		if
#ifdef MUTANT_MOVE_EARLY
		:: dir[d].sent + rx_ring(d).unread <= QUEUE ->
			if
			:: rx_ring(d).boundary > dir[d].rcvd -> rx_ring(d).boundary = dir[d].rcvd
			:: else
			fi;
#else
		:: rx_ring(d).boundary <= dir[d].rcvd && dir[d].sent + rx_ring(d).unread <= QUEUE ->
#endif
			dir[d].tcp = dir[d].tcp & low(rx_ring(d).boundary) |
				rx_ring(d).data << 4 * rx_ring(d).boundary |
				dir[d].tcp >> 4 * rx_ring(d).boundary << 4 * (rx_ring(d).boundary + rx_ring(d).unread);
			dir[d].sent = dir[d].sent + rx_ring(d).unread;
			dir[d].rcvd = dir[d].rcvd + rx_ring(d).unread;
#ifdef MUTANT_FIN_STAYS
			if	/* and copied_seq is one too far */
			:: dir[d].fin_taken -> dir[d].tcp = dir[d].tcp & ~15
			:: else
			fi;
#endif
			dir[d].fin_taken = false;	/* vmc_rx_fin_back() */
			rx_ring(d).unread = 0
		/* what comes before it never will */
		:: reset && rx_ring(d).boundary > dir[d].rcvd -> rx_ring(d).unread = 0
		:: else
		fi
	:: else
	fi;
	if
	:: !rx_ring(d).unread -> release(d)
	:: else
	fi
}

#define at_end(d)	(dir[d].fin == 3 || reset)
/* Would a look at the ring's word lead to anything, with this noted? */
#define useful(d, bytes, end) (has_ring(d) && \
	(!rx_ring(d).started && (rx_ring(d).closed || (bytes) || (end)) || \
	 rx_ring(d).started && tcp_is_next(d) && (dir[d].rcvd || reset) || \
	 rx_ring(d).started && !tcp_is_next(d) && (rx_ring(d).unread || rx_ring(d).closed || (end))))
#define useful_as_noted(d)	useful(d, dir[d].limit, dir[d].final)
#define useful_now(d)		useful(d, dir[d].rcvd, at_end(d))
/* rx_mutex can't be had */
#define busy(d)		(dir[d].noted == 3 || dir[d].noted && useful_as_noted(d))

inline forget(d)
{
	dir[d].noted = 0;
	dir[d].limit = 0;
	dir[d].final = false;
	dir[d].act = NOTHING
}

#define note_bytes(d)	dir[d].limit = dir[d].rcvd
#define note_end(d)	dir[d].final = at_end(d)

#if defined(MUTANT_LOOK_FIRST) || defined(MUTANT_END_LATE)
inline look(d)
{
	dir[d].saw_started = rx_ring(d).started;
	dir[d].saw_closed = rx_ring(d).closed;
	dir[d].saw_unread = rx_ring(d).unread
}
#define started(d)	dir[d].saw_started
#define closed(d)	dir[d].saw_closed
#define unread(d)	dir[d].saw_unread
#else
#define started(d)	rx_ring(d).started
#define closed(d)	rx_ring(d).closed
#define unread(d)	rx_ring(d).unread
#endif

/* vmc_rx_step(), from where it has the ring's word: as far as @limit, READ_ON without */
inline decide(d)
{
	if
	:: !started(d) && closed(d) -> dir[d].act = RELEASE
	:: !started(d) && !closed(d) && dir[d].limit -> dir[d].act = READ_TCP
	:: !started(d) && !closed(d) && !dir[d].limit && dir[d].final -> dir[d].act = READ_ON
	:: started(d) ->
		begin(d);
		if
		:: tcp_is_next(d) -> dir[d].act = READ_TCP; dir[d].limit = rx_ring(d).boundary
		:: !tcp_is_next(d) && unread(d) -> dir[d].act = READ_RING; dir[d].limit = unread(d)
		:: !tcp_is_next(d) && !unread(d) && closed(d) -> dir[d].act = RELEASE
		:: !tcp_is_next(d) && !unread(d) && !closed(d) && dir[d].final -> dir[d].act = READ_ON
		:: else
		fi
	:: else
	fi;
#ifdef MUTANT_ERROR_FIRST
	if
	:: reset && !dir[d].rcvd -> dir[d].act = READ_ON
	:: else
	fi;
#endif
	dir[d].final = false;
	dir[d].noted = 3;
	if
#ifdef MUTANT_NO_LIMIT
	:: dir[d].act == READ_ON || dir[d].act == READ_TCP && !dir[d].segment -> dir[d].limit = QUEUE
#else
	:: dir[d].act == READ_ON -> dir[d].limit = QUEUE
#endif
	:: dir[d].act == RELEASE -> dir[d].limit = 0
	:: else
	fi
}

/* Reads some of it, or all. TCP: its own recvmsg(), under the socket's lock. */
inline act_so(d)
{
	if
	:: (dir[d].act == READ_TCP || dir[d].act == READ_ON) && dir[d].rcvd ->
		do
		:: dir[d].limit && dir[d].rcvd ->
			deliver_tcp(d);
			dir[d].limit--;
			if	/* a FIN that TCP has merged into this segment */
			:: dir[d].fin == 3 && !dir[d].sent -> dir[d].fin_taken = true
			:: true
			fi;
			if
			:: true -> break
			:: true
			fi
		:: else -> break
		od
	:: (dir[d].act == READ_TCP || dir[d].act == READ_ON) && !dir[d].rcvd && dir[d].fin == 3 ->
		assert(dir[d].next == 1);
		dir[d].ended = true
	:: (dir[d].act == READ_TCP || dir[d].act == READ_ON) && !dir[d].rcvd && dir[d].fin != 3 && reset ->
		assert(!has_ring(d) || !rx_ring(d).unread || tcp_is_next(d));
		dir[d].ended = true
	:: dir[d].act == READ_RING ->
		do
		:: dir[d].limit ->
			deliver_ring(d);
			dir[d].limit--;
			if
			:: true -> break
			:: true
			fi
		:: else -> break
		od
	:: dir[d].act == RELEASE -> release(d)
	:: else
	fi;
	forget(d)
}

#define reads_tcp_alone(d)	(!dir[d].noted && !has_ring(d) && (dir[d].rcvd || at_end(d)))

proctype reader(byte d) WHILE_IT_RUNS(1 - d)
{
	do
#if COARSE
	:: atomic { !dir[d].ended && (useful_now(d) || reads_tcp_alone(d)) ->
		if
		:: has_ring(d) -> note_bytes(d); note_end(d); decide(d)
		:: else -> dir[d].act = READ_ON; dir[d].limit = QUEUE
		fi;
		act_so(d) }
#else
#ifdef MUTANT_LOOK_FIRST
	:: atomic { !dir[d].ended && !dir[d].noted && has_ring(d) -> look(d); dir[d].noted = 4 }
	:: atomic { dir[d].noted == 4 -> note_bytes(d); dir[d].noted = 1 }
	:: atomic { dir[d].noted == 1 -> note_end(d); dir[d].noted = 2 }
#elif defined(MUTANT_END_LATE)
	:: atomic { !dir[d].ended && !dir[d].noted && has_ring(d) -> note_bytes(d); dir[d].noted = 1 }
	:: atomic { dir[d].noted == 1 -> look(d); dir[d].noted = 4 }
	:: atomic { dir[d].noted == 4 -> note_end(d); dir[d].noted = 2 }
#else
	:: atomic { !dir[d].ended && !dir[d].noted && has_ring(d) -> note_bytes(d); dir[d].noted = 1 }
	:: atomic { dir[d].noted == 1 -> note_end(d); dir[d].noted = 2 }
#endif
	:: atomic { dir[d].noted == 2 && useful_as_noted(d) -> decide(d) }
	/* nothing there: looks again when there may be */
	:: atomic { dir[d].noted == 2 && !useful_as_noted(d) &&
		(dir[d].limit != dir[d].rcvd || dir[d].final != at_end(d)) -> forget(d) }
	:: atomic { !dir[d].ended && dir[d].fin != 2 && (dir[d].noted == 3 || reads_tcp_alone(d)) ->
		if
		:: !dir[d].noted -> dir[d].act = READ_ON; dir[d].limit = QUEUE
		:: else
		fi;
		act_so(d) }
	/* the two queues become one */
	:: atomic { !dir[d].ended && !dir[d].noted && has_ring(d) && by_choice && dir[d].fin != 2 ->
		chosen(); to_tcp(d) }
#endif
	/* after the end the application closes the socket */
	:: atomic { dir[d].ended && has_ring(d) -> close_ring(d, dir[d].rx); release(d) }
	od
}

/* --------------------------------------------------- workers of the channel */

/* vmc_chan_close_work(), which waits for nobody. What it writes goes back to TCP, what it reads is closed. */
inline end_channel(g)
{
	up[g] = false;
#ifndef MUTANT_MAPS_LATE
	clear(inbox[g]);
#endif
	if
	:: writes(g) ->
		if
		:: dir[g].tx != NONE -> drop(g)
#ifndef MUTANT_MAPS_LATE
		:: else -> dir[g].state = TCP
#else
		:: else
#endif
		fi;
#ifndef MUTANT_MAPS_LATE
		dir[g].offers = 0;
		dir[g].offer = 0;
#endif
		i = 0;
		do
		:: i < RINGS ->
			if
			:: ring_of(g, i).owes_done -> tell_done(g, i)
			:: else
			fi;
#ifndef MUTANT_STAYS_MAPPED
			ring_of(g, i).mapped = false;
#endif
			assert(!ring_of(g, i).mapped);
			i++
		:: else -> break
		od
	:: else
	fi;
	if
	:: reads(g) ->
		i = 0;
		do
		:: i < RINGS ->
			if
#ifndef MUTANT_PEER_CLOSES
			:: ring_of(1 - g, i).in_use -> close_ring(1 - g, i)
#endif
			:: else
			fi;
			ring_of(1 - g, i).done = true;	/* from now on it is not needed */
			i++
		:: else -> break
		od
	:: else
	fi;
	i = 0
}

/* A free ring begins a new life: its last writer has let go. */
#ifdef MUTANT_NOT_DONE_YET
#define is_free(d, i)	(!ring_of(d, i).in_use)
#else
#define is_free(d, i)	(!ring_of(d, i).in_use && ring_of(d, i).done)
#endif
inline lend(d, id)
{
	i = 0;
	do
	:: i < RINGS && !is_free(d, i) -> i++
	:: else -> break
	od;
	if
	:: i < RINGS ->
		assert(dir[d].tx != i && !ring_of(d, i).owes_done && ring_of(d, i).closed);
		ring_of(d, i).closed = false;
		ring_of(d, i).in_use = true;
		ring_of(d, i).done = false;
		dir[d].rx = i;
		send(d, ACCEPT, id, i)
	:: else -> send(d, REJECT, id, 0)
	fi;
	i = 0
}

#define R		(1 - g)		/* the direction that this guest reads */
#define awaits(g, id)	(dir[g].state == OFFERED && dir[g].offer == id)
#ifdef MUTANT_NO_LOCK
#define may_unmap(g)	true
#else
#define may_unmap(g)	(!writes(g) || unlocked(g))
#endif

proctype worker(byte g) WHILE_IT_RUNS(g)
{
	byte id, i;

	do
	/* vmc_rx_offer() */
	:: atomic { inbox[g]?[OFFER, _, _] ->
		inbox[g]?OFFER(id, _);
		if
		:: send(R, REJECT, id, 0)
#ifdef MUTANT_NO_MUTEX
		:: !dir[R].ended && dir[R].fin != 2 ->
#else
		:: !busy(R) && !dir[R].ended && dir[R].fin != 2 ->
			forget(R);
#endif
			if
			:: has_ring(R) && rx_ring(R).closed -> to_tcp(R)
			:: else
			fi;
			if
			:: !has_ring(R) -> lend(R, id)
			:: else -> send(R, REJECT, id, 0)
			fi
		fi;
		id = 0 }
	/* vmc_pool_rx_done() */
	:: atomic { inbox[g]?[DONE, _, _] ->
		inbox[g]?DONE(id, _);
		assert(!ring_of(R, id).done && dir[R].tx != id);
		ring_of(R, id).done = true;
		if
		:: ring_of(R, id).in_use ->
			close_ring(R, id);
			if
#ifdef MUTANT_NOT_READ
			:: !dir[R].noted -> release(R)
#else
			:: !dir[R].noted && !rx_ring(R).unread -> release(R)
#endif
			:: else
			fi
		:: else
		fi;
		id = 0 }
	/* vmc_tx_accept() */
	:: atomic { inbox[g]?[ACCEPT, _, _] ->
		inbox[g]?ACCEPT(id, i);
		dir[g].offers--;
		assert(dir[g].tx != i && !ring_of(g, i).owes_done);
		if
		/* without the other side there is nothing that could be mapped */
		:: awaits(g, id) && (ring_of(g, i).mapped || up[1 - g]) ->
			ring_of(g, i).mapped = true;
			dir[g].tx = i;
			dir[g].state = READY;
			assert(up[g])	/* nothing foreign stays in a guest that has ended its side */
		/* withdrawn; or the map, the lock or the proof could not be had */
		:: true ->
			if
			:: awaits(g, id) -> dir[g].state = TCP
			:: else
			fi;
			if
			:: ring_of(g, i).mapped && !ring_of(g, i).closed -> close_ring(g, i)
			:: true
			fi;
#ifndef MUTANT_KEEPS_RING
			send(1 - g, DONE, i, 0)
#endif
		fi;
		id = 0; i = 0 }
	/* vmc_tx_reject() */
	:: atomic { inbox[g]?[REJECT, _, _] ->
		inbox[g]?REJECT(id, _);
		dir[g].offers--;
		if
		:: awaits(g, id) -> dir[g].state = TCP
		:: else
		fi;
		id = 0 }
	/* told by the bell, or overtaken */
	:: atomic { writes(g) && dir[g].tx != NONE && (tx_ring(g).closed || dir[g].overtaken) && unlocked(g) -> drop(g) }
	/* idle, stalled, small, an operator */
	:: atomic { writes(g) && dir[g].tx != NONE && by_choice && unlocked(g) -> chosen(); drop(g) }
	:: atomic { writes(g) && ring_of(g, 0).owes_done -> tell_done(g, 0) }
#if RINGS > 1
	:: atomic { writes(g) && ring_of(g, 1).owes_done -> tell_done(g, 1) }
#endif
	/* vmc_rx_close(), whoever calls it */
	:: atomic { reads(g) && has_ring(R) && !rx_ring(R).closed && by_choice -> chosen(); close_ring(R, dir[R].rx) }
	/* suspended, about to be moved, unloaded */
#ifdef MUTANT_TOUCHED_FIRST
	:: atomic { reads(g) && up[g] && has_ring(R) && by_choice && dir[R].kept == NONE ->
		chosen(); dir[R].kept = rx_ring(R).unread }
	:: atomic { reads(g) && up[g] && dir[R].kept != NONE && !dir[R].noted ->
		if
		:: has_ring(R) && rx_ring(R).unread > dir[R].kept ->
			rx_ring(R).data = rx_ring(R).data & low(dir[R].kept)
		:: else
		fi;
		dir[R].kept = NONE;
		end_channel(g) }
#endif
	:: atomic { up[g] && by_choice && may_unmap(g) -> chosen(); end_channel(g) }
	/* as vmcd orders */
	:: atomic { up[g] && !up[1 - g] && may_unmap(g) -> end_channel(g) }
	od
}

/* A new channel, when both have ended the last one. */
active proctype vmcd()
{
	do
	:: atomic { !up[0] && !up[1] && by_choice && !crashed -> chosen(); up[0] = true; up[1] = true }
	od
}

#ifdef FAULTS
active proctype fate()
{
	byte i;

	if
	:: true
	:: atomic { !calm -> stopped[0] = true }
	:: atomic { !calm -> stopped[1] = true }
	:: atomic { !calm -> stopped[1] = true; crashed = true; up[1] = false; clear(inbox[1]) }
	:: atomic { !calm ->
		stopped[0] = true; crashed = true; up[0] = false; clear(inbox[0]);
		do	/* Xen takes away what it had mapped */
		:: i < RINGS -> ring_of(0, i).mapped = false; ring_of(0, i).owes_done = false; i++
		:: else -> break
		od;
		i = 0;
		dir[0].tx = NONE; dir[0].state = TCP; dir[0].overtaken = false; dir[0].offers = 0; dir[0].offer = 0 }
		if
		:: reset = true
		:: true
		fi
	fi
}
#endif

/* ------------------------------------------------------------------- calm */

inline all_is_well()
{
	do
	:: d < DIRS ->
		assert(dir[d].ended && dir[d].next == 1 && dir[d].tx == NONE);
		i = 0;
		do
		:: i < RINGS ->
			assert(!ring_of(d, i).owes_done && !ring_of(d, i).in_use && ring_of(d, i).done);
			i++
		:: else -> break
		od;
		d++
	:: else -> break
	od;
	assert(empty(inbox[0]) && empty(inbox[1]) && up[0] == up[1])
}

active proctype watch()
{
	byte d, i;

	calm = true;
	atomic {
		timeout;
#ifdef FAULTS
		if
		/* whoever ended his side has got rid of his ring, unless TCP owes bytes from before it */
		:: stopped[0] -> assert(up[1] || !has_ring(0)); assert(!crashed || !up[1]); assert(!reset || dir[0].ended)
		:: stopped[1] -> assert(up[0] || dir[0].tx == NONE); assert(!crashed || !up[0])
		:: else -> all_is_well()
		fi
#else
		all_is_well()
#endif
	}
}

init
{
	atomic {
		run sender(0); run network(0); run reader(0);
#if DIRS > 1
		run sender(1); run network(1); run reader(1);
#endif
		run worker(0); run worker(1)
	}
}

#ifdef ENDS
ltl comes_to_an_end { [] (calm -> <> dir[0].ended) }
#endif
