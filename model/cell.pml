/* cell.pml - the rules of engine/cell.h for the model checker SPIN: every order of promotions, crashes and messages, up to
 * a number of terms, records and nodes. docs/replication.md has the rules; model/check has the runs.
 *
 * What an action here is there:
 *
 *     PROMOTE      stand (cell_gate.c); the probe before it only keeps terms low
 *     VOTE         cell_on_ask and cell_on_promised; VOTELOST: its answer is lost
 *     FETCH        a session with the donor (cell_follow.c), one record at a time
 *     BECOME       become_primary
 *     WRITE        cell_write
 *     JOIN         cell_on_continue, with its handshake
 *     PULL         append; LEARN: cell_commit_to
 *     COMMIT       cell_commit_advance
 *     ROLL         cell_rollback_tick and what follows
 *     RSTART ...   cell_read, confirm_reads
 *     HURT, LOSE   what happens to disks; MEET: cell_ask_around
 *
 * Abstraction
 *  - one d_step is one node handling one event.
 *  - a record is (LSN, term): equal chains at an LSN are equal prefixes.
 *  - a message, once sent, is processed at any later time or never, also after its sender crashed or was deposed:
 *      asking     started[t][c] stays set; the answer is delivered or lost
 *      stream     tlog[t] is all that the primary of t ever sent; a replica takes it in order, as late as it likes,
 *                 over any number of sessions
 *      acks       ackd[t][j], seen by the primary of t at any later moment, or never
 *  - a node that is down takes no step; a partition delivers nothing; both for ever, if they like.
 *    A crash loses volatile state only, and each use of that is optional; so a crash and a restart add no behaviour.
 *    -DCRASHES has them as steps all the same, and the mutants need it.
 *  - replicas learn the commit LSN at once, the strongest form of "applied is never taken back"; -DLAZY: later.
 *  - PROMOTE is enabled at any node at any time; several may believe themselves primary, as long as they like.
 *  - the first node ever promoted is node 0, without loss of generality.
 * Not modelled: snapshots (one is several PULLs at once), clocks (no rule has one), other lists of voters, rot that is not
 * detected (the chain makes it detected).
 *
 * Checked in every state: at most one primary a term; what two terms acknowledged agrees; once a term's barrier is
 * committed its log has all that an earlier term ever acknowledged, or acknowledges later; what is applied is not cut; a
 * confirmed read has all that was acknowledged when it began; with -DLIVE every state of rest is healthy.
 *
 * -DN -DMAXT -DMAXL   nodes (3 or 5), terms, records
 * -DPARTCUT    a crash in the middle of a cut
 * -DASYNCSELF  the primary streams before its own fsync; a crash loses its unsynced tail (with -DCRASHES)
 * -DDAMAGE     once, a node loses any end of its log, applied records too, and knows it
 * -DLOSE       once, a node loses its disk, voting file and all (with -DDAMAGE, instead of that)
 * -DROLLBACK   R9.  -DREADS  R10, one read at a time.  -DLIVE  at last peace, and one promotion
 * -DMUTANT_x   one rule broken: SPIN must find an error
 */
#ifndef N
#define N 3
#endif
#ifndef MAXT
#define MAXT 3
#endif
#ifndef MAXL
#define MAXL 4
#endif
#ifdef LIVE
#define RESERVE 1               /* one term and one log slot kept for the last promotion */
#else
#define RESERVE 0
#endif
#define MAJ      (N/2+1)
#define IX(i,l)  ((i)*MAXL+(l)-1)
#define TX(t,l)  (((t)-1)*MAXL+(l)-1)
#define SX(t,j)  (((t)-1)*N+(j))
#define TERM(e)  ((e)&15)
#define BIT(i)   (1<<(i))
#define POP(m)   (((m)&1)+(((m)>>1)&1)+(((m)>>2)&1)+(((m)>>3)&1)+(((m)>>4)&1))
#define REPL 0
#define CAND 1
#define PRIM 2

/* ---- durable node state */
byte promised[N];     /* highest term promised, voted for or followed (fsynced first) */
byte lg[N*MAXL];      /* WBL: term of the record at each LSN */
byte ln[N];           /* last LSN */
byte cm[N];           /* applied LSN (<= known commit LSN) */
#ifdef DAMAGE
byte wm[N];           /* !=0: damaged; target LSN (255 = no session since the damage) */
bit  hurt;            /* fault budget used */
#define SANE(i) (wm[i]==0)
#ifdef MUTANT_DAMAGED_VOTES
#define MAYVOTE(i) 1
#else
#define MAYVOTE(i) (wm[i]==0)
#endif
#define WMRESET(i)    if :: wm[i]!=0 -> wm[i]=255 :: else fi
#define TARGET(j,t)   if :: (wm[j]!=0 && KNOWS(j)) -> wm[j]=tlen[(t)-1] :: else fi
#define HEALED_LOG(j) if :: (wm[j]!=0 && KNOWS(j) && ln[j]>=wm[j]) -> wm[j]=0 :: else fi
#ifdef LOSE              /* by who != 0: 1 + who lost its voting file and does not know what it promised */
byte who; byte met; byte most;
#define KNOWS(j) (who!=(j)+1)
#else
#define KNOWS(j) 1
#endif
#else
#define SANE(i) 1
#define MAYVOTE(i) 1
#define WMRESET(i)    skip
#define TARGET(j,t)   skip
#define HEALED_LOG(j) skip
#endif
#ifdef ASYNCSELF
byte dur[N];          /* primary: locally durable LSN */
#endif
/* ---- volatile node state */
byte role[N];
byte sess[N];         /* term of the verified session with a primary, 0 = none */
byte votes[N];        /* candidate: who promised */
byte bT[N]; byte bL[N]; byte bN[N];   /* candidate: best tail (last term, last LSN), holder */
/* ---- wire */
bit  started[MAXT*N];
byte tprim[MAXT];     /* 1+id of the primary of the term */
byte tlog[MAXT*MAXL]; byte tlen[MAXT]; byte tbar[MAXT];
byte tcm[MAXT];       /* acknowledged (committed) by the primary of the term, up to here */
byte ackd[MAXT*N];
#ifdef READS
byte rdT; byte rdNeed; byte rdIdx; byte rdMask;
#endif
#ifdef MUTANT_SAMETERM_ROLLBACK
byte gen;
#define NEWREC(t) ((t)+16*gen)
#else
#define NEWREC(t) (t)
#endif
#ifdef LIVE
bit healed; byte dead; bit lastprom;
#define FAULTS   (!healed)
#define LCAP     (healed->MAXL:MAXL-RESERVE)
#define ALIVE(i) (!healed || dead!=(i)+1)
#else
#define FAULTS   1
#define LCAP     MAXL
#define ALIVE(i) 1
#endif

#ifdef BREADTH   /* pan -DBFS refuses hidden variables; all scratch is reset to 0 anyway */
byte x; byte y; byte z; byte u; byte w; byte mn;
#else
hidden byte x; hidden byte y; hidden byte z; hidden byte u; hidden byte w; hidden byte mn;
#endif

inline lcp_wire(i,tt) { x=0; do :: (x<ln[i] && x<tlen[(tt)-1] && lg[IX(i,x+1)]==tlog[TX(tt,x+1)]) -> x++ :: else -> break od }
inline lcp_node(i,d)  { x=0; do :: (x<ln[i] && x<ln[d] && lg[IX(i,x+1)]==lg[IX(d,x+1)]) -> x++ :: else -> break od }
inline truncate(i,to) { assert(to>=cm[i]);       /* what was applied is never taken back */
  do :: (ln[i]>to) -> lg[IX(i,ln[i])]=0; ln[i]-- :: else -> break od }

#define LISTENS(t) (role[tprim[(t)-1]-1]==PRIM && promised[tprim[(t)-1]-1]==(t))
#define ACK(t,j,v) if :: (LISTENS(t) && SANE(j) && (v)>tcm[(t)-1] && (v)>ackd[SX(t,j)]) -> ackd[SX(t,j)]=(v) :: else fi
#ifdef LAZY
#define KNOW(j,t) skip
#else
#define KNOW(j,t) if :: (ln[j]<tcm[(t)-1] && ln[j]>cm[j]) -> cm[j]=ln[j] :: (ln[j]>=tcm[(t)-1] && tcm[(t)-1]>cm[j]) -> cm[j]=tcm[(t)-1] :: else fi
#endif
#ifdef READS
#define RDABORT(i) if :: (role[i]==PRIM && rdT==promised[i]) -> rdT=0; rdNeed=0; rdIdx=0; rdMask=0 :: else fi
#else
#define RDABORT(i) skip
#endif
#ifdef ASYNCSELF
#define DURCLEAR(i) dur[i]=0
#else
#define DURCLEAR(i) skip
#endif
/* leave whatever role: all volatile state goes; acks of a term without primary are dead */
inline stepdown(i) {
  RDABORT(i);
  if :: role[i]==PRIM -> y=0; do :: y<N -> ackd[SX(promised[i],y)]=0; y++ :: else -> break od; y=0 :: else fi;
  WMRESET(i); DURCLEAR(i); role[i]=REPL; votes[i]=0; bT[i]=0; bL[i]=0; bN[i]=0; sess[i]=0 }
/* forgets what nobody can take off the wire any more: fewer states. Not where promises are forgotten */
inline canon() {
#if !defined(MUTANT_NOFENCE) && !defined(MUTANT_AMNESIA) && !defined(MUTANT_VOLATILE_PROMISE) && !defined(LOSE)
  mn=promised[0]; y=1; do :: y<N -> if :: promised[y]<mn -> mn=promised[y] :: else fi; y++ :: else -> break od;
  u=1; do :: (u<=MAXT && u<=mn) -> y=0; do :: y<N -> started[SX(u,y)]=0; y++ :: else -> break od;
            if :: (u<mn && tprim[u-1]!=0) -> tprim[u-1]=1;
                  do :: (tlen[u-1]>tcm[u-1]) -> tlog[TX(u,tlen[u-1])]=0; tlen[u-1]-- :: else -> break od;
                  w=u+1; do :: (w<=MAXT && !(tprim[w-1]!=0 && tcm[w-1]>=tcm[u-1])) -> w++ :: else -> break od;
                  if :: w<=MAXT -> do :: (tlen[u-1]>0) -> tlog[TX(u,tlen[u-1])]=0; tlen[u-1]-- :: else -> break od; tcm[u-1]=0; tbar[u-1]=0; tprim[u-1]=0 :: else fi
               :: else fi;
            u++
          :: else -> break od;
  y=0; do :: y<N ->      /* candidates that can no longer win */
            if :: role[y]==CAND -> u=POP(votes[y]); w=0;
                  do :: w<N -> if :: (promised[w]<promised[y]) -> u++ :: else fi; w++ :: else -> break od;
                  if :: u<MAJ -> role[y]=REPL; votes[y]=0; bT[y]=0; bL[y]=0; bN[y]=0 :: else fi
               :: else fi; y++ :: else -> break od;
  mn=0; y=0; u=0; w=0
#else
  skip
#endif
}
inline start_term(i) {
  promised[i]++; role[i]=CAND; sess[i]=0; votes[i]=BIT(i); bN[i]=i; bL[i]=ln[i];
  if :: ln[i]==0 -> bT[i]=0 :: else -> bT[i]=TERM(lg[IX(i,ln[i])]) fi;
  started[SX(promised[i],i)]=1; canon() }

#ifdef ASYNCSELF
#define SELFACK(i) skip
#define SYNCED(i) dur[i]=ln[i]
#define LOSETAIL(i) if :: (role[i]==PRIM && dur[i]<ln[i]) -> x=dur[i]; truncate(i,x); x=0 :: else fi
#define SELFSYNC(i) :: d_step { (role[i]==PRIM && dur[i]<ln[i]) -> dur[i]=ln[i]; ackd[SX(promised[i],i)]=ln[i] }
#ifdef MUTANT_COMMIT_UNSYNCED
#define OWN(t,l) 1
#else
#define OWN(t,l) (dur[tprim[(t)-1]-1]>=(l))
#endif
#else
#define SELFACK(i) ackd[SX(z,i)]=ln[i]
#define SYNCED(i) skip
#define LOSETAIL(i) skip
#define SELFSYNC(i)
#define OWN(t,l) 1
#endif
inline become(i) {                       /* R5: the barrier opens the term */
  z=promised[i]; SYNCED(i);
  assert(tprim[z-1]==0);                 /* S1: at most one primary per term */
  tprim[z-1]=i+1; ln[i]++; lg[IX(i,ln[i])]=z;
  x=1; do :: x<=ln[i] -> tlog[TX(z,x)]=lg[IX(i,x)]; x++ :: else -> break od;
  tlen[z-1]=ln[i]; tbar[z-1]=ln[i]; tcm[z-1]=cm[i]; SELFACK(i);
  role[i]=PRIM; votes[i]=0; bT[i]=0; bL[i]=0; bN[i]=0; sess[i]=0; x=0; z=0 }

/* S2 no divergence, S3 no acknowledged record lost: for terms u<w
 *   acknowledged prefixes agree; once the barrier of w is committed, the log of w
 *   contains everything u acknowledged (also if u acknowledges later). */
inline check_acked() {
  u=1; do :: u<MAXT -> w=u+1;
    do :: w<=MAXT ->
      if :: (tprim[u-1]!=0 && tprim[w-1]!=0) ->
         if :: (tcm[w-1]>=tbar[w-1]) -> assert(tcm[u-1]<=tlen[w-1]) :: else fi;
         x=1; do :: (x<=tcm[u-1] && (x<=tcm[w-1] || tcm[w-1]>=tbar[w-1])) -> assert(tlog[TX(u,x)]==tlog[TX(w,x)]); x++ :: else -> break od
      :: else fi; w++
    :: else -> break od; u++
  :: else -> break od; u=0; w=0; x=0 }

/* ------------------------------------------------------------------ actions */
#define ANYPROM(i) ((i)==0 || promised[0]!=0 || promised[1]!=0 || promised[2]!=0)
#ifdef CRASHES
#define PROMOTABLE(i) (role[i]!=PRIM)
#else
#define PROMOTABLE(i) 1     /* PRIM: restarted, then promoted */
#endif
#ifdef MUTANT_NOGATE   /* plain Sentinel semantics: promoted == primary at once */
#define PROMOTE(i) :: d_step { (FAULTS && ANYPROM(i) && role[i]!=PRIM && promised[i]<MAXT && ln[i]<MAXL && tprim[promised[i]]==0) -> promised[i]++; stepdown(i); become(i) }
#else
#define PROMOTE(i) :: d_step { (FAULTS && ANYPROM(i) && PROMOTABLE(i) && MAYVOTE(i) && promised[i]<MAXT-RESERVE) -> stepdown(i); start_term(i) }
#endif

#if defined(MUTANT_NOCATCHUP)
#define BETTER(at,al,bt,bl) (0)
#elif defined(MUTANT_LENONLY)
#define BETTER(at,al,bt,bl) ((al)>(bl))
#else
#define BETTER(at,al,bt,bl) ((at)>(bt) || ((at)==(bt) && (al)>(bl)))
#endif
/* R4: promise (durable) + report tail; one promise per term */
#define VOTE(c,j,t) \
 :: d_step { (ALIVE(c) && ALIVE(j) && MAYVOTE(j) && started[SX(t,c)] && promised[j]<t) -> \
      stepdown(j); promised[j]=t; \
      if :: (role[c]==CAND && promised[c]==t) -> votes[c]=votes[c]|BIT(j); \
            if :: ln[j]==0 -> x=0 :: else -> x=TERM(lg[IX(j,ln[j])]) fi; \
            if :: BETTER(x,ln[j],bT[c],bL[c]) -> bT[c]=x; bL[c]=ln[j]; bN[c]=j :: else fi; x=0 \
         :: else fi; canon() }
#define VOTELOST(c,j,t) \
 :: d_step { (FAULTS && started[SX(t,c)] && promised[j]<t && role[c]==CAND && promised[c]==t) -> \
      stepdown(j); promised[j]=t; canon() }

/* R4: catch up from the best promiser while it is still bound to our term AND still shows
 * exactly the tail it promised (hash at tail); record by record */
#ifdef MUTANT_FETCH_UNCHECKED
#define DONOR(i,d) 1
#else
#define DONOR(i,d) (ln[d]==bL[i] && (bL[i]==0 || TERM(lg[IX(d,bL[i])])==bT[i]))
#endif
#define FETCH(i) \
 :: d_step { (ALIVE(i) && role[i]==CAND && POP(votes[i])>=MAJ && bN[i]!=i && promised[bN[i]]==promised[i] && ALIVE(bN[i]) && DONOR(i,bN[i])) -> \
      z=bN[i]; lcp_node(i,z); \
      if :: x<ln[i] -> truncate(i,x) \
         :: (x==ln[i] && ln[i]<bL[i]) -> ln[i]++; lg[IX(i,ln[i])]=lg[IX(z,ln[i])] \
         :: else fi; x=0; z=0; \
      if :: (ln[i]==bL[i] && TERM(lg[IX(i,ln[i])])==bT[i]) -> bN[i]=i :: else fi }
#define BECOME(i) :: d_step { (ALIVE(i) && role[i]==CAND && POP(votes[i])>=MAJ && bN[i]==i && ln[i]<LCAP) -> become(i) }

#ifdef MUTANT_READ_NOBARRIER
#define SERVING(i) (role[i]==PRIM)
#else
#define SERVING(i) (role[i]==PRIM && tcm[promised[i]-1]>=tbar[promised[i]-1])
#endif
#ifdef MUTANT_APPLY_EARLY     /* primary applies to LevelDB before the quorum has it */
#define EARLY(i) cm[i]=ln[i]
#else
#define EARLY(i) skip
#endif
#define WRITE(i) \
 :: d_step { (FAULTS && SERVING(i) && ln[i]<MAXL-RESERVE) -> z=promised[i]; ln[i]++; lg[IX(i,ln[i])]=NEWREC(z); \
      tlen[z-1]=ln[i]; tlog[TX(z,ln[i])]=NEWREC(z); SELFACK(i); EARLY(i); z=0 }

#ifdef MUTANT_NOFENCE   /* replica listens to whoever claims to be primary */
#define MAYJOIN(j,t) 1
#define MAYPULL(j)   1
#define ADOPT(j,t)   if :: promised[j]<(t) -> promised[j]=(t) :: else fi
#else
#define MAYJOIN(j,t) (promised[j]<=(t))
#define MAYPULL(j)   (promised[j]==sess[j])
#define ADOPT(j,t)   promised[j]=(t)
#endif
#ifdef MUTANT_TRUNC_HW  /* Kafka before KIP-101: truncate to own high watermark */
#define CUT(j) if :: x>cm[j] -> x=cm[j] :: else fi
#else
#define CUT(j) skip
#endif
#ifdef LIVE
#define LJ(t) (!healed || (role[tprim[(t)-1]-1]==PRIM && promised[tprim[(t)-1]-1]==(t) && ALIVE(tprim[(t)-1]-1)))
#else
#define LJ(t) 1
#endif
/* R6: PSYNC handshake: adopt the term, cut to the common prefix, that prefix counts as acked */
#define JOIN(j,t) \
 :: d_step { (ALIVE(j) && tprim[(t)-1]!=0 && tprim[(t)-1]!=j+1 && sess[j]!=(t) && MAYJOIN(j,t) && LJ(t)) -> \
      stepdown(j); ADOPT(j,t); sess[j]=t; lcp_wire(j,t); CUT(j); truncate(j,x); TARGET(j,t); HEALED_LOG(j); \
      ACK(t,j,x); KNOW(j,t); x=0; canon() }
#ifdef MUTANT_RESYNC_REGRESS  /* full resync discards the local log first */
#define RESYNC(j,t) \
 :: d_step { (tprim[(t)-1]!=0 && tprim[(t)-1]!=j+1 && promised[j]<=(t)) -> \
      stepdown(j); promised[j]=t; sess[j]=t; lcp_wire(j,t); if :: x>cm[j] -> x=cm[j] :: else fi; truncate(j,x); x=0; canon() }
#else
#define RESYNC(j,t)
#endif
#define PULL(j) \
 :: d_step { (ALIVE(j) && sess[j]!=0 && MAYPULL(j) && ln[j]<tlen[sess[j]-1]) -> \
      z=sess[j]; ln[j]++; lg[IX(j,ln[j])]=tlog[TX(z,ln[j])]; HEALED_LOG(j); ACK(z,j,ln[j]); KNOW(j,z); z=0 }
#define VISIBLE(j) (ln[j]<tcm[sess[j]-1] -> ln[j] : tcm[sess[j]-1])
#ifndef LAZY
#define LEARN(j)
#else
#define LEARN(j) :: d_step { (ALIVE(j) && sess[j]!=0 && VISIBLE(j)>cm[j]) -> cm[j]=VISIBLE(j) }
#endif

#ifdef MUTANT_COUNT_OLDTERM   /* Raft figure 8 */
#define COUNTABLE(t,l) 1
#else
#define COUNTABLE(t,l) (TERM(tlog[TX(t,l)])==(t))
#endif
#ifdef MUTANT_MINORITY        /* ack on N/2 instead of a majority */
#define QUO (N/2)
#else
#define QUO MAJ
#endif
#if N==3
#define ACKS(t,l) ((ackd[SX(t,0)]>=(l))+(ackd[SX(t,1)]>=(l))+(ackd[SX(t,2)]>=(l)))
#else
#define ACKS(t,l) ((ackd[SX(t,0)]>=(l))+(ackd[SX(t,1)]>=(l))+(ackd[SX(t,2)]>=(l))+(ackd[SX(t,3)]>=(l))+(ackd[SX(t,4)]>=(l)))
#endif
#define CANL(t,l) (OWN(t,l) && tcm[(t)-1]<(l) && tlen[(t)-1]>=(l) && COUNTABLE(t,l) && ACKS(t,l)>=QUO)
#if MAXL==3
#define CANCOMMIT(t) (CANL(t,1)||CANL(t,2)||CANL(t,3))
#elif MAXL==4
#define CANCOMMIT(t) (CANL(t,1)||CANL(t,2)||CANL(t,3)||CANL(t,4))
#elif MAXL==5
#define CANCOMMIT(t) (CANL(t,1)||CANL(t,2)||CANL(t,3)||CANL(t,4)||CANL(t,5))
#elif MAXL==6
#define CANCOMMIT(t) (CANL(t,1)||CANL(t,2)||CANL(t,3)||CANL(t,4)||CANL(t,5)||CANL(t,6))
#else
#define CANCOMMIT(t) (CANL(t,1)||CANL(t,2)||CANL(t,3)||CANL(t,4)||CANL(t,5)||CANL(t,6)||CANL(t,7))
#endif
/* R7: acknowledge the highest own-term LSN that a majority holds durably */
#define COMMIT(i) \
 :: d_step { (ALIVE(i) && role[i]==PRIM && CANCOMMIT(promised[i])) -> \
      z=promised[i]; y=tlen[z-1]; \
      do :: (y>tcm[z-1] && !(COUNTABLE(z,y) && OWN(z,y) && ACKS(z,y)>=QUO)) -> y-- :: else -> break od; \
      tcm[z-1]=y; cm[i]=y; if :: y>=tbar[z-1] -> tbar[z-1]=0 :: else fi; \
      y=0; do :: y<N -> if :: ackd[SX(z,y)]<=tcm[z-1] -> ackd[SX(z,y)]=0 :: else fi; \
                        if :: sess[y]==z -> KNOW(y,z) :: else fi; y++ :: else -> break od; \
      z=0; y=0; check_acked() }

#if defined(MUTANT_VOLATILE_PROMISE)
#define CRASHDISK(i) if :: ln[i]==0 -> promised[i]=0 :: else -> promised[i]=TERM(lg[IX(i,ln[i])]) fi
#define CRASHABLE(i) 1
#elif defined(MUTANT_ACK_BEFORE_FSYNC)
#define CRASHDISK(i) if :: ln[i]>cm[i] -> x=ln[i]-1; truncate(i,x); x=0 :: else fi
#define CRASHABLE(i) 1
#elif defined(MUTANT_AMNESIA)
#define CRASHDISK(i) cm[i]=0; truncate(i,0); promised[i]=0
#define CRASHABLE(i) (ln[i]>0)
#else
#define CRASHDISK(i) skip
#define CRASHABLE(i) 0
#endif
#ifndef CRASHES
#define CRASH(i)
#else
#define CRASH(i) :: d_step { (FAULTS && (role[i]!=REPL || sess[i]!=0 || CRASHABLE(i))) -> LOSETAIL(i); stepdown(i); CRASHDISK(i) }
#endif

#if defined(ROLLBACK)
#ifdef MUTANT_ROLLBACK_UNSERVING
#define MAYROLL(i) (role[i]==PRIM)
#else
#define MAYROLL(i) SERVING(i)
#endif
/* R9: write timeout: drop the unacknowledged tail, then the ordinary gate in term+1 */
#define ROLL(i) \
 :: d_step { (FAULTS && MAYROLL(i) && tcm[promised[i]-1]<ln[i] && promised[i]<MAXT-RESERVE) -> \
      stepdown(i); truncate(i,cm[i]); start_term(i) }
#elif defined(MUTANT_SAMETERM_ROLLBACK)  /* naive rollback: forget the tail and carry on */
#define ROLL(i) \
 :: d_step { (SERVING(i) && gen==0 && tcm[promised[i]-1]<ln[i]) -> \
      z=promised[i]; truncate(i,cm[i]); gen=1; \
      do :: (tlen[z-1]>ln[i]) -> tlog[TX(z,tlen[z-1])]=0; tlen[z-1]-- :: else -> break od; ackd[SX(z,i)]=ln[i]; z=0 }
#else
#define ROLL(i)
#endif

#ifdef PARTCUT   /* crash in the middle of a truncation: promise durable, one record gone */
#define CUTJOIN(j,t) \
 :: d_step { (tprim[(t)-1]!=0 && tprim[(t)-1]!=j+1 && promised[j]<=(t) && ln[j]>0 && (ln[j]>tlen[(t)-1] || lg[IX(j,ln[j])]!=tlog[TX(t,ln[j])])) -> \
      stepdown(j); promised[j]=t; x=ln[j]-1; truncate(j,x); x=0; canon() }
#define CUTFETCH(i) \
 :: d_step { (role[i]==CAND && POP(votes[i])>=MAJ && bN[i]!=i && promised[bN[i]]==promised[i] && DONOR(i,bN[i])) -> \
      z=bN[i]; lcp_node(i,z); if :: x<ln[i] -> x=ln[i]-1; truncate(i,x); stepdown(i) :: else fi; x=0; z=0 }
#else
#define CUTJOIN(j,t)
#define CUTFETCH(i)
#endif
#ifdef LOSE
#ifdef MUTANT_FORGIVEN
#define FORGET(j) skip
#else
#define FORGET(j) who=(j)+1; met=BIT(j)
#endif
/* the disk is new; then it hears what everybody has promised, one by one, and promises one term more (R1) */
#define LOSE_(j) \
 :: d_step { (!hurt && (ln[j]>0 || promised[j]>0)) -> hurt=1; LOSETAIL(j); stepdown(j); \
      cm[j]=0; x=0; truncate(j,x); promised[j]=0; wm[j]=255; FORGET(j) }
#define MEET(k) \
 :: d_step { (who!=0 && !(met&BIT(k)) && POP(met)<N) -> met=met|BIT(k); if :: promised[k]>most -> most=promised[k] :: else fi }
#define MET \
 :: d_step { (who!=0 && POP(met)==N && most<MAXT) -> x=who-1; who=0; met=0; stepdown(x); \
      if :: promised[x]<=most -> promised[x]=most+1 :: else fi; x=0; most=0; canon() }
#else
#define LOSE_(j)
#define MEET(k)
#define MET
#endif
#ifdef DAMAGE
#define HURT(j,d) \
 :: d_step { (!hurt && ln[j]>(d)) -> hurt=1; LOSETAIL(j); stepdown(j); \
      if :: ln[j]>(d) -> wm[j]=255; if :: cm[j]>(d) -> cm[j]=(d) :: else fi; x=(d); truncate(j,x); x=0 :: else fi }
#else
#define HURT(j,d)
#endif
#ifdef READS
inline max_acked() { rdNeed=0; y=0; do :: y<MAXT -> if :: (tprim[y]!=0 && tcm[y]>rdNeed) -> rdNeed=tcm[y] :: else fi; y++ :: else -> break od; y=0 }
#define RSTART(i) :: d_step { (rdT==0 && SERVING(i)) -> rdT=promised[i]; rdIdx=tcm[rdT-1]; rdMask=BIT(i); max_acked() }
#define RCONF(j)  :: d_step { (rdT!=0 && !(rdMask&BIT(j)) && promised[j]==rdT) -> rdMask=rdMask|BIT(j) }
#ifdef MUTANT_READLOCAL
#define RQUO 1
#else
#define RQUO MAJ
#endif
#define RFIN :: d_step { (rdT!=0 && POP(rdMask)>=RQUO) -> assert(rdIdx>=rdNeed); rdT=0; rdNeed=0; rdIdx=0; rdMask=0 }
#else
#define RSTART(i)
#define RCONF(j)
#define RFIN
#endif

#if N==3
#define ALLN(M)   M(0) M(1) M(2)
#define NT(M,t)   M(0,t) M(1,t) M(2,t)
#define NNT(M,t)  M(0,1,t) M(0,2,t) M(1,0,t) M(1,2,t) M(2,0,t) M(2,1,t)
#else
#define ALLN(M)   M(0) M(1) M(2) M(3) M(4)
#define NT(M,t)   M(0,t) M(1,t) M(2,t) M(3,t) M(4,t)
#define NNT(M,t)  M(0,1,t) M(0,2,t) M(0,3,t) M(0,4,t) M(1,0,t) M(1,2,t) M(1,3,t) M(1,4,t) M(2,0,t) M(2,1,t) M(2,3,t) M(2,4,t) M(3,0,t) M(3,1,t) M(3,2,t) M(3,4,t) M(4,0,t) M(4,1,t) M(4,2,t) M(4,3,t)
#endif
#if MAXT==2
#define ALLT(Q,M) Q(M,1) Q(M,2)
#elif MAXT==3
#define ALLT(Q,M) Q(M,1) Q(M,2) Q(M,3)
#elif MAXT==4
#define ALLT(Q,M) Q(M,1) Q(M,2) Q(M,3) Q(M,4)
#elif MAXT==5
#define ALLT(Q,M) Q(M,1) Q(M,2) Q(M,3) Q(M,4) Q(M,5)
#else
#define ALLT(Q,M) Q(M,1) Q(M,2) Q(M,3) Q(M,4) Q(M,5) Q(M,6)
#endif

#ifdef LIVE  /* N==3 only */
#define MX(p,q) ((p)>(q)->(p):(q))
#define PR(i)   (dead==(i)+1->0:promised[i])
/* faults stop at an arbitrary moment; dead=0 none, else node dead-1 stays down for ever */
#define HEAL(d) \
 :: d_step { (!healed) -> healed=1; dead=d; z=0; do :: z<N -> if :: (dead==z+1 || role[z]==CAND) -> stepdown(z) :: else -> sess[z]=0 fi; z++ :: else -> break od; z=0 }
/* Sentinel promotes one live node; probe: term above everything the live nodes promised */
#define LIVEPROMOTE(i) \
 :: d_step { (healed && !lastprom && ALIVE(i)) -> lastprom=1; stepdown(i); \
      promised[i]=MX(PR(0),MX(PR(1),PR(2))); start_term(i) }
#define SRV(i) (dead!=(i)+1 && SERVING(i))
#define OKN(i) (dead==(i)+1 || (sess[i]!=0 && ln[i]==tlen[sess[i]-1] && cm[i]==ln[i]) || (SERVING(i) && cm[i]==ln[i]))
#define GOAL   (healed && lastprom && OKN(0) && OKN(1) && OKN(2) && (SRV(0)||SRV(1)||SRV(2)))
#endif

init {
  do
  ALLN(PROMOTE)
  ALLT(NNT,VOTE)
  ALLT(NNT,VOTELOST)
  ALLN(FETCH)
  ALLN(BECOME)
  ALLN(WRITE)
  ALLT(NT,JOIN)
  ALLT(NT,RESYNC)
  ALLN(PULL)
  ALLN(LEARN)
  ALLN(COMMIT)
  ALLN(CRASH)
  ALLN(ROLL)
  ALLN(SELFSYNC)
  ALLT(NT,CUTJOIN)
  ALLN(CUTFETCH)
  ALLN(LOSE_)
  ALLN(MEET)
  MET
#if defined(DAMAGE) && !defined(LOSE)
  HURT(0,0) HURT(0,1) HURT(0,2) HURT(0,3) HURT(1,0) HURT(1,1) HURT(1,2) HURT(1,3) HURT(2,0) HURT(2,1) HURT(2,2) HURT(2,3)
#endif
  ALLN(RSTART)
  ALLN(RCONF)
  RFIN
#ifdef LIVE
  HEAL(0) HEAL(1) HEAL(2) HEAL(3)
  ALLN(LIVEPROMOTE)
  :: atomic { GOAL -> goto done }
#endif
  od;
#ifdef LIVE
done: skip
#endif
}
