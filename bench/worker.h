/* A worker process: one role on one connection. */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

/* Takes its job from standard input and reports on standard output; returns the exit status. */
int bench_worker_main(void);

#endif
