/*
 * The store: snapshots, chains of versions, sweeps, reuse of blocks and writing behind.
 * What is modelled, and what is not, is in README.md.  Names follow lib/coord and lib/store.
 *
 * Sizes: -DREADERS=1 -DCOMMITS=3 -DBLOCKS=4.  Options: -DDEATHS, -DWORKER_READ_FIRST, -DSHARE (reader 1 takes its
 * snapshots over from other slots).
 * Mutants: one -D each, see prove.sh.
 */
#ifndef READERS
#define READERS 1
#endif
#ifndef COMMITS
#define COMMITS 3
#endif
#ifndef BLOCKS
#define BLOCKS 4
#endif

#define PAGES 2
#define SLOTS (READERS + 1) /* slot 0 is the worker's */
#define LAST (1 + COMMITS)  /* commit 1 is in the file from the start */
#define NEVER 14            /* more than any id */
#define TORN 15             /* a page of the file while it is written */

/* Sets of ids are bits; ids are 1 to 5. */
#define BIT(id) (1 << (id))
#define BELOW(id) (BIT(id) - 1)
#define LOWEST(set, none) \
	((set) & 2 -> 1 : ((set) & 4 -> 2 : ((set) & 8 -> 3 : ((set) & 16 -> 4 : ((set) & 32 -> 5 : (none))))))
#define HIGHEST(set) \
	((set) >= 32 -> 5 : ((set) >= 16 -> 4 : ((set) >= 8 -> 3 : ((set) >= 4 -> 2 : 1))))
/* A page's version as of a snapshot, from the record of what was committed. */
#define VERSION(p, s) HIGHEST(wrote[p] & BELOW((s) + 1))

#define FREE 0
#define CLAIMING 1
#define ACTIVE 2
#define SLOT_WORD(snapshot, state) ((snapshot) * 4 + (state))
#define STATE_OF(w) ((w) & 3)
#define SNAPSHOT_OF(w) ((w) >> 2)

/* ------------------------------------------------------------------------------------------------
 * Memory.  A store sits in a buffer until `memory` lets it out; a fence waits for that.  Loads are made at
 * once, so that a load can overtake a store, as on every processor there is.
 */
byte committed = 1;
byte flushed = 1;
byte next_id = 1;
byte word[SLOTS];
byte walk[SLOTS];
byte head;
byte next[BLOCKS + 1];
byte file[PAGES] = 1;

#define OF_WORD 0
#define OF_WALK 1
chan slot_stores[SLOTS] = [1] of { bit, byte };
/* Of the owner of WRITER: 0 is head, a block's number its next, OF_COMMITTED committed. */
#define OF_COMMITTED 15
#ifndef BUFFER
#define BUFFER 2
#endif
chan chain_stores = [BUFFER] of { byte, byte };

/* Chains and committed as the owner of WRITER sees them, his own stores included. */
byte my_committed = 1;
byte my_head;
byte my_next[BLOCKS + 1];

/* Written before a block is linked, read while it is; and the freelist, which only owners of WRITER see. */
byte id[BLOCKS + 1];
bit page[BLOCKS + 1];
byte data[BLOCKS + 1];
byte gate[BLOCKS + 1]; /* 0: in use, or beyond `fresh` */
byte fresh = 1;        /* the lowest block that was never used */

bit writer_owned;

#ifdef SHARE
/* state.shares: has it been added to since the process of that number has looked?  A counter would never end. */
bit moved[8];
#endif

/* For the properties only. */
byte wrote[PAGES] = 2;  /* which commits wrote a page */
byte stands_on[SLOTS];  /* the block that a walk has come to */

#define SLOT_FENCE(me) empty(slot_stores[me])
#define CHAIN_FENCE empty(chain_stores)

active proctype memory()
{
	byte where, what;
	bit field;
end:
	do
	:: d_step {
		chain_stores?where,what ->
		if
		:: where == 0 -> head = what
		:: where == OF_COMMITTED -> committed = what
		:: else -> next[where] = what
		fi;
		where = 0;
		what = 0
	   }
#define LET_OUT(slot) \
	:: d_step { \
		slot_stores[slot]?field,what -> \
		if \
		:: field == OF_WORD -> word[slot] = what \
		:: else -> walk[slot] = what \
		fi; \
		field = 0; \
		what = 0 \
	   }
	LET_OUT(0)
	LET_OUT(1)
#if READERS > 1
	LET_OUT(2)
#endif
	od
}

/* ------------------------------------------------------------------------------------------------
 * lib/coord/reader.c.  Stores of 0 are visible at once: while they are not, scans see too much, which harms
 * nobody.
 */
#ifdef NO_READER_FENCE
#define CLAIM_FENCE(me) true
#else
#define CLAIM_FENCE(me) SLOT_FENCE(me)
#endif
#ifdef NO_WALK_FENCE
#define WALK_FENCE(me) true
#else
#define WALK_FENCE(me) SLOT_FENCE(me)
#endif

inline claim(me, s)
{
	atomic {
		s = committed;
		slot_stores[me]!OF_WORD,SLOT_WORD(s, CLAIMING)
	};
	do
#ifdef NO_SECOND_LOOK
	:: atomic { SLOT_FENCE(me) -> slot_stores[me]!OF_WORD,SLOT_WORD(s, ACTIVE) }; break
#else
	:: atomic { CLAIM_FENCE(me) && committed == s -> skip };
	   slot_stores[me]!OF_WORD,SLOT_WORD(s, ACTIVE);
	   break
	:: atomic { CLAIM_FENCE(me) && committed != s -> s = committed };
	   slot_stores[me]!OF_WORD,SLOT_WORD(s, CLAIMING)
#endif
	od
}

inline begin_walk(me)
{
#ifndef NO_WALK
	atomic { nfull(slot_stores[me]) -> slot_stores[me]!OF_WALK,committed };
#endif
	atomic { WALK_FENCE(me) -> stands_on[me] = head }
}

inline end_walk(me)
{
	atomic { SLOT_FENCE(me) -> stands_on[me] = 0; walk[me] = 0 }
}

/* ------------------------------------------------------------------------------------------------
 * lib/coord/horizon.c: used[] as a set; lowest is derived.
 */
inline look_at(slot, h_floor, h_used, h_walking)
{
	d_step {
		if
#ifdef CLAIMING_IGNORED
		:: STATE_OF(word[slot]) == ACTIVE && SNAPSHOT_OF(word[slot]) < h_floor ->
#else
		:: STATE_OF(word[slot]) != FREE && SNAPSHOT_OF(word[slot]) < h_floor ->
#endif
			h_used = h_used | BIT(SNAPSHOT_OF(word[slot]))
		:: else
		fi
	};
	d_step {
		if
		:: walk[slot] != 0 && walk[slot] < h_walking -> h_walking = walk[slot]
		:: else
		fi
	}
}

inline scan(as_committed, h_floor, h_used, h_walking)
{
#ifdef SHARE
	do
	:: moved[_pid] = 0;
#endif
	d_step {
		h_floor = as_committed;
		h_used = 0;
		h_walking = h_floor
	};
#ifndef NO_SWEEP_FENCE
	CHAIN_FENCE;
#endif
#ifdef WORKER_READ_FIRST
	look_at(0, h_floor, h_used, h_walking);
#endif
	look_at(1, h_floor, h_used, h_walking);
#if READERS > 1
	look_at(2, h_floor, h_used, h_walking);
#endif
#ifndef WORKER_READ_FIRST
	look_at(0, h_floor, h_used, h_walking)
#endif
#ifdef SHARE
#ifndef NO_SHARE_COUNT
	;
	if
	:: moved[_pid] == 0 -> break
	:: else -> skip
	fi
#else
	;
	break
#endif
	od;
	moved[_pid] = 0
#endif
}

#define IN_USE(h_used, from, below) (((h_used) & BELOW(below) & ~BELOW(from)) != 0)

/* ------------------------------------------------------------------------------------------------
 * lib/coord/freelist.c.  Which of the blocks that may go out does is left open.
 */
#ifdef GATE_NOT_BELOW_FLOOR
#define MAY_GO_OUT(b, h_walking) (gate[b] != 0 && gate[b] <= (h_walking))
#else
#define MAY_GO_OUT(b, h_walking) (gate[b] != 0 && gate[b] < (h_walking))
#endif
#if READERS > 1
#define NOBODY_ON(b) (stands_on[0] != (b) && stands_on[1] != (b) && stands_on[2] != (b))
#else
#define NOBODY_ON(b) (stands_on[0] != (b) && stands_on[1] != (b))
#endif

inline take(b, h_walking)
{
	atomic {
		b = 0;
		if
		:: MAY_GO_OUT(1, h_walking) -> b = 1
		:: MAY_GO_OUT(2, h_walking) -> b = 2
#if BLOCKS > 2
		:: MAY_GO_OUT(3, h_walking) -> b = 3
#endif
#if BLOCKS > 3
		:: MAY_GO_OUT(4, h_walking) -> b = 4
#endif
#if BLOCKS > 4
		:: MAY_GO_OUT(5, h_walking) -> b = 5
#endif
		:: else ->
			if
			:: fresh <= BLOCKS -> b = fresh; fresh++
			:: else
			fi
		fi;
		if
		:: b != 0 ->
			/* No block is overwritten while somebody stands on it. */
			assert(NOBODY_ON(b));
			gate[b] = 0
		:: else
		fi
	}
}

/* ------------------------------------------------------------------------------------------------
 * lib/store/sweep.c.  One block a step, the oldest of the chain first.
 */
byte at, before, newer, older, place;
byte go;

inline unlink(b, pred)
{
	/* pred 0 is the head. */
	if
	:: pred == 0 -> my_head = my_next[b]
	:: else -> my_next[pred] = my_next[b]
	fi;
	chain_stores!pred,my_next[b];
	gate[b] = my_committed
}

#ifdef USERS_IGNORED
#define UNWRITTEN_USE(h_used, v, N) false
#else
#define UNWRITTEN_USE(h_used, v, N) IN_USE(h_used, v, N)
#endif
#ifdef NO_OLDEST_FIRST
#define IS_OLDEST(older) true
#else
#define IS_OLDEST(older) ((older) == 0)
#endif

/* Looks at the block at depth `left`, counted from the head, from 1. */
inline sweep_block(left, F, N, h_floor, h_used)
{
	before = 0;
	at = my_head;
	place = 1;
	do
	:: place < left -> before = at; at = my_next[at]; place++
	:: else -> break
	od;
	/* The next newer version of the same page. */
	newer = NEVER;
	older = my_head;
	do
	:: older == at -> break
	:: else ->
		if
		:: page[older] == page[at] -> newer = id[older]
		:: else
		fi;
		older = my_next[older]
	od;
	if
	:: newer != NEVER && newer > h_floor -> newer = NEVER
	:: else
	fi;
	/* Has the page an older version that stays? */
	older = my_next[at];
	do
	:: older == 0 -> break
	:: older != 0 && page[older] == page[at] -> break
	:: else -> older = my_next[older]
	od;
	go = 0;
	if
	:: id[at] > h_floor
	:: else ->
		if
		:: newer != NEVER && !IN_USE(h_used, id[at], newer) -> go = 1
		:: else
		fi;
		if
		:: id[at] <= F && newer > N && IS_OLDEST(older) &&
			(newer == NEVER || !UNWRITTEN_USE(h_used, id[at], N)) -> go = 1
		:: else
		fi
	fi;
	if
	:: go -> unlink(at, before)
	:: else
	fi;
	left--;
	at = 0; before = 0; newer = 0; older = 0; place = 0; go = 0
}

inline sweep(F, N, left, as_committed, h_floor, h_used, h_walking)
{
	F = flushed;
#ifdef SWEEP_IGNORES_NEXT
	N = F;
#else
	N = next_id;
#endif
	scan(as_committed, h_floor, h_used, h_walking);
	d_step {
		at = my_head;
		left = 0;
		do
		:: at == 0 -> break
		:: else -> left++; at = my_next[at]
		od
	};
	do
	:: d_step { left != 0 && nfull(chain_stores) -> sweep_block(left, F, N, h_floor, h_used) }
	:: left == 0 -> break
	od;
	atomic {
		F = 0;
		N = 0
	}
}

/* lks_sweep_unit(): superseded versions behind the new block b, with the scan that there is. */
inline prune(b, pred, newer_one, h_floor, h_used)
{
	d_step {
		pred = b;
		newer_one = b
	};
	do
	:: my_next[pred] == 0 -> break
	:: d_step {
		my_next[pred] != 0 && nfull(chain_stores) ->
		at = my_next[pred];
		if
		:: page[at] != page[b] -> pred = at
		:: else ->
			if
			:: id[newer_one] <= h_floor && !IN_USE(h_used, id[at], id[newer_one]) ->
				unlink(at, pred)
			:: else ->
				newer_one = at;
				pred = at
			fi
		fi;
		at = 0
	   }
	od;
	atomic {
		pred = 0;
		newer_one = 0
	}
}

#define LOCK_WRITER d_step { writer_owned == 0 -> writer_owned = 1 }
/* A compare and swap, seq_cst: nothing is left in the buffer. */
#define UNLOCK_WRITER d_step { CHAIN_FENCE -> writer_owned = 0 }

/* ------------------------------------------------------------------------------------------------
 * Writers, by turns in one process: a commit writes one page.
 */
#ifdef RENEW_LAST
#define RENEW true
#else
#define RENEW my_committed < LAST
#endif

active proctype writer()
{
	byte h_floor, h_used, h_walking; /* kept from one transaction to the next, as lib does */
	byte b, F, N, n;
	bit p;

	do
	:: my_committed == LAST -> break
	:: my_committed < LAST ->
		LOCK_WRITER;
again:		skip; /* WRITER is held; the last scan may be old. */
		do
		:: scan(my_committed, h_floor, h_used, h_walking)
		:: sweep(F, N, n, my_committed, h_floor, h_used, h_walking)
		:: h_floor != 0 -> break
		od;
		if
		:: my_committed == LAST -> goto done
		:: else
		fi;
		take(b, h_walking);
		if
		:: b == 0 -> goto done
		:: else
		fi;
		if
		:: p = 0
#ifndef ONE_PAGE
		:: my_committed > 1 -> p = 1 /* pages are alike: the first commit writes page 0 */
#endif
		fi;
		atomic {
			nfull(chain_stores) ->
			id[b] = my_committed + 1;
			page[b] = p;
			data[b] = my_committed + 1;
			my_next[b] = my_head;
			next[b] = my_head;
			my_head = b;
			chain_stores!0,b
		};
		prune(b, F, N, h_floor, h_used);
		d_step {
			nfull(chain_stores) ->
			my_committed++;
			wrote[p] = wrote[p] | BIT(my_committed);
			chain_stores!OF_COMMITTED,my_committed;
			b = 0;
			p = 0
		};
		if
		:: RENEW -> goto again /* lks_conn_renew() */
		:: skip
		fi;
done:		skip;
		UNLOCK_WRITER
	od;
	atomic {
		h_floor = 0;
		h_used = 0;
		h_walking = 0
	};
	/* Owners of WRITER that do not commit: sweeps. */
end:
	do
	:: LOCK_WRITER;
	   sweep(F, N, n, my_committed, h_floor, h_used, h_walking);
	   d_step {
		CHAIN_FENCE ->
		writer_owned = 0;
		h_floor = 0;
		h_used = 0;
		h_walking = 0
	   }
	od
}

/* ------------------------------------------------------------------------------------------------
 * lib/store/transaction.c, the reading half.
 */
inline copy_version(me, p, s, found)
{
	begin_walk(me);
	do
	:: d_step {
		stands_on[me] != 0 && !(page[stands_on[me]] == p && id[stands_on[me]] <= s) ->
		stands_on[me] = next[stands_on[me]]
	   }
	:: atomic {
		SLOT_FENCE(me) &&
		(stands_on[me] == 0 || (page[stands_on[me]] == p && id[stands_on[me]] <= s)) ->
		/* Copies.  Between the last step and this nobody has overwritten it: see take(). */
		found = (stands_on[me] -> data[stands_on[me]] : 0);
		stands_on[me] = 0;
		walk[me] = 0
	   };
	   break
	od
}

inline read_pages(me, s, p, got, again)
{
	   do
	   :: if
	      :: p = 0
	      :: p = 1
	      fi;
	      copy_version(me, p, s, got);
	      if
	      :: got == 0 ->
		got = file[p];
#ifndef NO_RELOOK
		if
		:: next_id > s ->
			copy_version(me, p, s, again);
			if
			:: again != 0 -> got = again
			:: else
			fi
		:: else
		fi
#endif
	      :: else
	      fi;
	      atomic {
		/* What a reader gets is the page as of its snapshot. */
		assert(got == VERSION(p, s));
		got = 0;
		again = 0;
		p = 0
	      }
	   :: break
	   od;
	   atomic {
		SLOT_FENCE(me) -> word[me] = 0;
		s = 0
	   }
}

proctype reader(byte me)
{
	byte s, got, again;
	bit p;
end:
	do
	:: claim(me, s);
	   read_pages(me, s, p, got, again)
	od
}

#ifdef SHARE
/* lks_reader_share().  Somebody has told it of a snapshot that slot `from` shows. */
#ifdef SHARE_CLAIMING
#define HOLDS(from, s) (STATE_OF(word[from]) != FREE && SNAPSHOT_OF(word[from]) == s)
#else
#define HOLDS(from, s) (word[from] == SLOT_WORD(s, ACTIVE))
#endif
#ifdef NO_SHARE_FENCE
#define SHARE_FENCE(me) true
#else
#define SHARE_FENCE(me) SLOT_FENCE(me)
#endif

proctype sharer(byte me)
{
	byte s, got, again, from, i;
	bit p;
end:
	do
#ifdef USABLE_SLOT
	/* LSM1's third choice: no slot of its own, but one that shows an older snapshot. */
	:: d_step { STATE_OF(word[2]) == ACTIVE && SNAPSHOT_OF(word[2]) <= committed -> s = committed; from = 2 };
	   if
	   :: d_step { STATE_OF(word[2]) == ACTIVE && SNAPSHOT_OF(word[2]) <= s && committed == s -> skip };
	      read_pages(me, s, p, got, again)
	   :: else -> s = 0
	   fi
#else
	:: atomic {
		if
		:: STATE_OF(word[0]) != FREE -> from = 0
		:: STATE_OF(word[2]) != FREE -> from = 2
		fi;
		s = SNAPSHOT_OF(word[from]);
		slot_stores[me]!OF_WORD,SLOT_WORD(s, CLAIMING)
	   };
	   d_step {
		SHARE_FENCE(me) ->
		i = 0;
		do
		:: i < 8 -> moved[i] = 1; i++
		:: else -> break
		od;
		i = 0
	   };
	   if
#ifdef NO_SHARE_LOOK
	   :: true ->
#else
	   :: atomic { HOLDS(from, s) || committed == s -> skip };
#endif
	      from = 0;
	      slot_stores[me]!OF_WORD,SLOT_WORD(s, ACTIVE);
	      read_pages(me, s, p, got, again)
#ifndef NO_SHARE_LOOK
	   :: atomic {
		!HOLDS(from, s) && committed != s && SLOT_FENCE(me) ->
		word[me] = 0;
		from = 0;
		s = 0
	      }
#endif
	   fi
#endif
	od
}
#endif

/* ------------------------------------------------------------------------------------------------
 * lib/store/batch.c and announce.c
 */
inline write_page(p, what)
{
	file[p] = TORN;
	file[p] = what
}

#ifdef DEATHS
#define MAY_DIE :: !died -> goto dies
#else
#define MAY_DIE
#endif

proctype worker()
{
	byte target, h_floor, h_used, h_walking;
	byte changes[PAGES]; /* blocks */
	byte b, F, N, n, i;
#ifdef DEATHS
	byte journal[PAGES];
	bit died;
#endif
end:
	do
	:: committed != flushed ->
#ifdef WORKER_NOT_PINNED
		target = committed;
#else
		claim(0, target);
#endif
		/* collect_changes() */
		begin_walk(0);
		do
		:: stands_on[0] == 0 -> break
		:: d_step {
			stands_on[0] != 0 ->
			if
			:: id[stands_on[0]] > flushed && id[stands_on[0]] <= target &&
			   (changes[page[stands_on[0]]] == 0 ||
			    id[changes[page[stands_on[0]]]] < id[stands_on[0]]) ->
				changes[page[stands_on[0]]] = stands_on[0]
			:: else
			fi;
			stands_on[0] = next[stands_on[0]]
		   }
		od;
		end_walk(0);

		/* announce() */
		scan(committed, h_floor, h_used, h_walking);
		if
		:: LOWEST(h_used, h_floor) >= target -> next_id = target
		:: else ->
			/* preserve() */
			LOCK_WRITER;
			scan(my_committed, h_floor, h_used, h_walking);
#ifndef NEXT_AFTER_UNLOCK
			next_id = target;
#endif
#ifndef NO_BASE_BLOCKS
			i = 0;
			do
			:: i == PAGES || LOWEST(h_used, h_floor) >= target -> break
			:: i < PAGES && LOWEST(h_used, h_floor) < target ->
				/* lks_pagetable_oldest() */
				d_step {
					n = NEVER;
					at = my_head;
					do
					:: at == 0 -> break
					:: else ->
						if
						:: page[at] == i -> n = id[at]
						:: else
						fi;
						at = my_next[at]
					od
				};
				if
				:: changes[i] != 0 && LOWEST(h_used, h_floor) < n ->
					n = 0;
					take(b, h_walking);
					if
					:: b == 0 ->
						sweep(F, N, n, my_committed, h_floor, h_used, h_walking);
						take(b, h_walking)
					:: else
					fi;
					if
					:: b == 0 ->
						UNLOCK_WRITER;
						goto gives_up
					:: else
					fi;
					atomic {
						nfull(chain_stores) ->
						id[b] = LOWEST(h_used, h_floor);
						page[b] = i;
						data[b] = file[i];
						my_next[b] = 0;
						next[b] = 0;
						/* lks_pagetable_append() */
						before = 0;
						at = my_head;
						do
						:: at == 0 -> break
						:: else -> before = at; at = my_next[at]
						od;
						if
						:: before == 0 -> my_head = b
						:: else -> my_next[before] = b
						fi;
						chain_stores!before,b;
						before = 0;
						b = 0
					}
				:: else -> n = 0
				fi;
				i++
			od;
			i = 0;
#endif
			UNLOCK_WRITER;
#ifdef NEXT_AFTER_UNLOCK
			next_id = target
#endif
		fi;
		atomic {
			h_floor = 0;
			h_used = 0;
			h_walking = 0
		};

		/* write_changes(), with the journal that a successor would roll back */
#ifdef DEATHS
		d_step {
			if
			:: changes[0] != 0 -> journal[0] = file[0]
			:: else
			fi;
			if
			:: changes[1] != 0 -> journal[1] = file[1]
			:: else
			fi
		};
#endif
		if
		:: changes[0] != 0 -> write_page(0, data[changes[0]])
		:: changes[0] == 0
		MAY_DIE
		fi;
		if
		:: changes[1] != 0 -> write_page(1, data[changes[1]])
		:: changes[1] == 0
		MAY_DIE
		fi;
#ifdef DEATHS
		if
		:: skip
		MAY_DIE
		fi;
		atomic {
			journal[0] = 0;
			journal[1] = 0
		};
		if
		:: skip
		MAY_DIE
		fi;
#endif
		d_step {
			/* The file is the state at target. */
			assert(file[0] == VERSION(0, target) && file[1] == VERSION(1, target));
			flushed = target
		};
gives_up:
		skip;
		d_step {
			SLOT_FENCE(0) -> word[0] = 0;
			target = 0;
			changes[0] = 0;
			changes[1] = 0;
			h_floor = 0;
			h_used = 0;
			h_walking = 0;
			b = 0;
			i = 0
		}
#ifdef DEATHS
		;
		goto lives;
dies:
		skip;
		/* Its slot is cleared by whoever reaps it.  The next worker rolls the journal back. */
		d_step {
			died = 1;
			target = 0;
			changes[0] = 0;
			changes[1] = 0
		};
		word[0] = 0;
		if
		:: journal[0] != 0 -> write_page(0, journal[0])
		:: else
		fi;
		if
		:: journal[1] != 0 -> write_page(1, journal[1])
		:: else
		fi;
		atomic {
			journal[0] = 0;
			journal[1] = 0
		};
lives:
#endif
		skip
	od
}

init {
	atomic {
		run worker();
#ifdef SHARE
		run sharer(1);
#else
		run reader(1);
#endif
#if READERS > 1
		run reader(2)
#endif
	}
}
