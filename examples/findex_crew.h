/* The parent's view of its children: start them, hear them, end them. */
#ifndef FINDEX_CREW_H
#define FINDEX_CREW_H

#include <sys/types.h>

#include "findex_child.h"

struct findex_member {
    enum findex_role role;
    unsigned number; /* from 1 within its role */
    pid_t pid;
    int channel; /* -1: closed */
    enum findex_state state;
    struct findex_message *message; /* the last one with a tally */
    uint64_t closed_ns;
    int status; /* of waitpid(), once it is GONE */
};

struct findex_crew {
    struct findex_member *members;
    size_t n_members, n_room;
};

/* Room for so many; false after a message. */
bool findex_crew_init(struct findex_crew *crew, size_t n_members);
/* One more child.  False after a message. */
bool findex_crew_start(struct findex_crew *crew, enum findex_role role, unsigned number,
                       int job_fd);
/*
 * Waits until `until_ns` at most, for messages and for other_fd (-1: none), and takes in those that
 * came. True when other_fd can be read.  Interruptible: returns early on a signal.
 */
bool findex_crew_listen(struct findex_crew *crew, uint64_t until_ns, int other_fd);
/* The byte that lets a member go on, or all of a role. */
void findex_crew_release_one(struct findex_member *member);
void findex_crew_release(struct findex_crew *crew, enum findex_role role);
/* Whether all members of the role are in this state or a later one. */
bool findex_crew_reached(const struct findex_crew *crew, enum findex_role role,
                         enum findex_state state);
/* What is wrong with a member: it died, failed, or had an error.  False: nothing. */
bool findex_crew_complaint(const struct findex_member *member, char *text, size_t room);
/* SIGKILL to those that are left, and waits for them. */
void findex_crew_kill(struct findex_crew *crew);
void findex_crew_free(struct findex_crew *crew);

#endif
