/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One direction of a connection that changes between TCP and a ring, and back, as PROTOCOL.md
 * ("Streams") has it: every interleaving of the writer, the reader, TCP's delivery, and an
 * end of the channel that each side makes for itself, at a moment of its own.
 *
 * Bytes are numbers; the reader asserts that each comes in its turn, and that the end comes
 * after the last. With LIVENESS it is also asked that the end does come.
 *
 * An atomic or d_step block is what the code does under a lock or in one instruction. The
 * ring's word (position and CLOSED) is one; the boundary is another, stored before it.
 * Offers carry their number. Left out: proofs, sizes and wrap-around of the ring, peeks,
 * urgent data, wake-ups (the reader looks again and again), and the other direction, which
 * shares nothing with this one but the channel.
 *
 * MUTANT: 0, or the number of a mistake that has to be found (see `run`).
 */
#ifndef BYTES
#define BYTES	4
#endif
#ifndef OFFERS
#define OFFERS	2	/* times that the ring may be given out */
#endif
#ifndef CLOSES
#define CLOSES	1	/* by the reader, of its own accord */
#endif
#ifndef ENDS
#define ENDS	1	/* of the channel */
#endif
#ifndef MUTANT
#define MUTANT	0
#endif
#define BASE	BYTES	/* first sequence number: what is moved into TCP's queue goes before it */

mtype = { OFFER, DONE, ACCEPT, REJECT };
chan to_reader = [2 * OFFERS] of { mtype, byte };
chan to_writer = [2 * OFFERS] of { mtype, byte };

/* TCP: sequence numbers, and what stands there */
byte tcp[2 * BYTES];
byte write_seq = BASE, rcv_nxt = BASE;
bool fin_sent, fin_seen;

/* the ring, in the reader's memory */
byte ring[BYTES];
byte pos;		/* of the word: committed */
bool closed;		/* of the word */
byte boundary;

/* the writer's guest */
mtype = { W_TCP, W_OFFERED, W_READY, W_LOCAL };
mtype writer_state = W_TCP;
bool mapped;		/* the reader's page, in the writer's guest */
bool writer_parted;	/* it has ended the channel: nothing may be mapped until there is another */
byte next, offers, offer;

/* the reader's guest */
byte copied = BASE;	/* TCP's copied_seq */
byte cons, expected;
bool has_ring, segment, done = true;	/* done: the writer won't touch the ring any more */
bool lent;		/* the ring is another connection's now */
bool ended;

/* what each side does when the channel ends */
byte ends;
bool reader_to_part;

inline writer_goes_back()
{
	writer_state = W_TCP;
	mapped = (MUTANT == 7 -> mapped : false);
}

/* The promise not to touch the ring again; on a channel that ends nobody needs it. */
inline tell_done(id)
{
	if
	:: !writer_parted -> to_reader!DONE(id)
	:: else
	fi
}

proctype writer()
{
	byte id;
	bool was_closed;

	do
	/* TCP carries what is sent while no ring is ready */
	:: atomic { (writer_state == W_TCP || writer_state == W_OFFERED) && next < BYTES ->
		tcp[write_seq] = next; write_seq++; next++ }
	:: atomic { writer_state == W_TCP && offers < OFFERS && next < BYTES && !writer_parted ->
		offers++; offer = offers; writer_state = W_OFFERED; to_reader!OFFER(offer) }
	/* withdrawn: the answer finds nobody */
	:: atomic { writer_state == W_OFFERED -> writer_state = W_TCP }
	:: atomic { to_writer?ACCEPT(id) ->
		if
		:: writer_state == W_OFFERED && id == offer -> writer_state = W_READY; mapped = true
		:: else -> tell_done(id)
		fi }
	:: atomic { to_writer?REJECT(id) ->
		if
		:: writer_state == W_OFFERED && id == offer -> writer_state = W_TCP
		:: else
		fi }
	/* the first commit of a segment, and later ones: data and boundary, then the word */
	:: (writer_state == W_READY || writer_state == W_LOCAL) && next < BYTES ->
		atomic {
			if	/* the channel may have ended since */
			:: writer_state == W_READY || writer_state == W_LOCAL ->
				was_closed = closed;
				ring[pos] = next;
				if
				:: writer_state == W_READY && MUTANT != 3 -> boundary = write_seq
				:: else
				fi
			:: else -> goto again
			fi
		}
		atomic {
			if
			:: !mapped	/* goes on in TCP with its next call */
			:: mapped && (MUTANT == 2 -> !was_closed : !closed) ->
				assert(!lent);
				pos++; next++; writer_state = W_LOCAL
			:: else ->	/* those bytes never went in */
				if
				:: MUTANT == 8 -> next++
				:: else
				fi;
				writer_goes_back(); tell_done(offer)
			fi
		}
		if
		:: MUTANT == 3 -> boundary = write_seq
		:: else
		fi;
again:		skip
	/* goes back by itself: to close, because it is idle, because it was told to */
	:: atomic { writer_state == W_READY || writer_state == W_LOCAL ->
		closed = true; writer_goes_back(); tell_done(offer) }
	:: atomic { writer_state == W_TCP && next == BYTES && !fin_sent -> fin_sent = true }
	/* its side of the channel's end */
	:: atomic { ends < ENDS && !writer_parted && !fin_sent ->
		ends++;
		if
		:: writer_state == W_READY || writer_state == W_LOCAL -> closed = true
		:: else
		fi;
		writer_goes_back();
		writer_parted = true; reader_to_part = true;
		assert(!mapped) }
	:: fin_sent && writer_state == W_TCP && nempty(to_writer) -> skip
	:: atomic { fin_sent && ended && empty(to_writer) -> break }
	od
}

/* Delivery, whenever it likes, in order; the end may come with the last bytes. */
proctype network()
{
	do
	:: atomic { rcv_nxt < write_seq -> rcv_nxt++ }
	:: atomic { rcv_nxt < write_seq && fin_sent -> rcv_nxt = write_seq; fin_seen = true }
	:: atomic { rcv_nxt == write_seq && fin_sent && !fin_seen -> fin_seen = true }
	:: fin_seen -> break
	od
}

/* Reads TCP's queue as far as @limit. */
inline take_tcp(limit)
{
	d_step {
		do
		:: copied < limit -> assert(tcp[copied] == expected); expected++; copied++
		:: else -> break
		od
	}
}

/* Closed and read to its end, or given up. */
inline release()
{
	has_ring = false; segment = false
}

inline the_end()
{
	if
	:: MUTANT == 5 -> noted_fin = fin_seen
	:: else
	fi;
	if
	:: noted_fin && copied == noted -> assert(expected == BYTES); ended = true
	:: else
	fi
}

/* vmc_rx_to_tcp(): what the ring still has goes to its place in TCP's queue. */
inline leftovers_to_tcp()
{
	atomic {
		has_ring && closed ->
		if
		:: pos == 0 || cons == pos -> release()
		:: else ->
			assert(boundary >= copied);
			if
			:: rcv_nxt >= boundary || MUTANT == 4 ->
				d_step {
					i = copied;
					do
					:: i < boundary && i < rcv_nxt -> tcp[i - (pos - cons)] = tcp[i]; i++
					:: else -> break
					od;
					copied = copied - (pos - cons);
					i = cons;
					do
					:: i < pos -> tcp[boundary - (pos - i)] = ring[i]; i++
					:: else -> break
					od;
					i = 0
				}
				release()
			:: else
			fi
		fi
	}
}

proctype reader()
{
	byte noted, p, id, closes, lends, i;
	bool c, noted_fin;

	do
	:: ended -> break
	/* an offer; a ring whose writer has not said DONE is no free one */
	:: atomic { to_reader?OFFER(id) ->
		if
		:: !has_ring && done && !lent && !reader_to_part && !ended ->
			pos = 0; closed = false; cons = 0; has_ring = true; segment = false; done = false;
			to_writer!ACCEPT(id)
		:: to_writer!REJECT(id)
		fi }
	/* another connection may have it, and leaves it closed and read */
	:: atomic { !has_ring && (done || MUTANT == 6) && !lent && !reader_to_part && lends < 1 ->
		lends++; lent = true; pos = 0; closed = false }
	:: atomic { lent -> lent = false; closed = true }
	:: atomic { to_reader?DONE(id) -> done = true; closed = true }
	/* one call's look: TCP first, then the ring's word */
	:: !ended ->
		if
		:: MUTANT == 1 -> atomic { p = pos; c = closed }
		:: else
		fi;
		atomic { noted = rcv_nxt; noted_fin = fin_seen }
		if
		:: !has_ring -> take_tcp(noted); the_end()
		:: else ->
			if
			:: MUTANT != 1 -> atomic { p = pos; c = closed }
			:: else
			fi;
			if
			:: p == 0 && c -> release()
			:: p == 0 && !c -> take_tcp(noted); the_end()
			:: else ->
				atomic {
					if
					:: !segment -> assert(boundary >= copied); segment = true
					:: else
					fi
				}
				if
				:: noted > boundary -> noted = boundary
				:: else
				fi;
				take_tcp(noted);
				if
				:: copied == boundary && cons < p ->
					d_step {
						do
						:: cons < p -> assert(ring[cons] == expected); expected++; cons++
						:: else -> break
						od
					}
				:: copied == boundary && cons == p && c -> release()
				:: else
				fi
			fi
		fi;
		noted = 0; p = 0; c = false; noted_fin = false
	:: leftovers_to_tcp()
	/* closes the ring at any time, in one instruction */
	:: atomic { has_ring && !closed && closes < CLOSES -> closes++; closed = true }
	/* its side of the channel's end; the memory stays its own until it has read it */
	:: atomic { reader_to_part ->
		closed = true; done = true; reader_to_part = false;
		do
		:: to_reader?_,_
		:: to_writer?_,_
		:: empty(to_reader) && empty(to_writer) -> break
		od;
		/* and another channel, unless it is read first */
		writer_parted = false;
		if
		:: writer_state == W_OFFERED -> writer_state = W_TCP
		:: else
		fi }
	od
}

init
{
	atomic { run writer(); run network(); run reader() }
}

#ifdef LIVENESS
ltl comes_to_its_end { <> ended }
#endif
