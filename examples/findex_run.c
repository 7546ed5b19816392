#include "findex_run.h"

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "findex_crew.h"
#include "findex_locks.h"

#define TICK_NS 20000000u
#define SECOND_NS 1000000000u
#define STUCK_NS (60u * (uint64_t)SECOND_NS) /* from the order to stop, or between two phases */
#define INTERRUPTED_NS (3u * (uint64_t)SECOND_NS)

struct run {
    const struct findex_setting *setting;
    struct findex_job *job;
    struct findex_result *result;
    struct findex_crew crew;
    const char *path;
    const char *title;

    bool working;               /* between start and DONE */
    uint64_t start_ns, kill_ns; /* kill_ns: whoever is left then is killed; 0: no such time yet */
    uint64_t shown_ns;
    uint32_t shown_committed;

    struct findex_locks locks;
    bool locks_wanted, locks_shown, locks_late;
};

static uint64_t
limit_ns(const struct run *run)
{
    return (uint64_t)(run->setting->options->limit_s * 1e9);
}

static void
stop(struct run *run, uint64_t grace_ns)
{
    atomic_store_explicit(&run->job->stop, 1, memory_order_relaxed);
    run->kill_ns = findex_now_ns() + grace_ns;
}

static void
clear_line(const struct findex_options *options)
{
    if (options->terminal)
        fputs("\r\033[K", options->say);
}

static void
show_progress(struct run *run, uint64_t now_ns, uint32_t committed)
{
    const struct findex_options *options = run->setting->options;
    const uint64_t pause_ns = options->terminal ? SECOND_NS / 5 : 3u * (uint64_t)SECOND_NS;
    const uint64_t since_ns = now_ns - run->shown_ns;

    if (since_ns < pause_ns)
        return;
    clear_line(options);
    fprintf(options->say, "%-14s %9u of %u files  %7.0f/s  refused %u  %5.1f s%s", run->title,
            committed, run->job->n_files,
            (committed - run->shown_committed) * 1e9 / (double)since_ns,
            atomic_load_explicit(&run->job->refused, memory_order_relaxed),
            (now_ns - run->start_ns) / 1e9, options->terminal ? "" : "\n");
    fflush(options->say);
    run->shown_ns = now_ns;
    run->shown_committed = committed;
}

static void
sample(struct run *run, uint64_t now_ns, uint32_t committed)
{
    struct findex_result *result = run->result;

    if (result->n_samples == result->samples_room) {
        size_t room = result->samples_room != 0 ? result->samples_room * 2 : 1024;
        struct findex_sample *more = reallocarray(result->samples, room, sizeof *more);
        if (more == NULL)
            return; /* the interpolation gets coarser */
        result->samples = more;
        result->samples_room = room;
    }
    result->samples[result->n_samples++] =
        (struct findex_sample){now_ns - run->start_ns, committed};
}

static void
print_locks(struct run *run)
{
    FILE *say = run->setting->options->say;
    const char *line = run->locks.text != NULL ? run->locks.text : "";

    clear_line(run->setting->options);
    if (run->locks_late) {
        fprintf(say, "%s: over before `lockstep locks` could look\n", run->title);
        return;
    }
    fprintf(say, "\nHalf-way, `lockstep locks %s`:\n", run->path);
    while (*line != '\0') {
        int length = (int)strcspn(line, "\n");
        fprintf(say, "    %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
    fputs(run->locks.ok ? "\n" : "    (it ended with an error)\n\n", say);
    fflush(say);
}

static void
tick(struct run *run)
{
    const uint64_t now_ns = findex_now_ns(), gone_ns = now_ns - run->start_ns;
    const uint32_t committed = atomic_load_explicit(&run->job->committed, memory_order_relaxed);

    if (findex_interrupted() != 0 && (run->kill_ns == 0 || run->kill_ns > now_ns + INTERRUPTED_NS))
        stop(run, INTERRUPTED_NS);
    if (!run->working)
        return;
    sample(run, now_ns, committed);
    show_progress(run, now_ns, committed);
    if (run->locks_wanted && (committed >= run->job->n_files / 2 || gone_ns >= limit_ns(run) / 2)) {
        run->locks_wanted = false;
        findex_locks_start(&run->locks, run->setting->lockstep, run->path);
    }
    if (gone_ns >= limit_ns(run) && !findex_job_stopped(run->job)) {
        run->result->limited = true;
        stop(run, STUCK_NS);
    }
}

/* Hears the crew for a while.  False: somebody had to be killed. */
static bool
attend(struct run *run)
{
    const bool readable = findex_crew_listen(&run->crew, findex_now_ns() + TICK_NS, run->locks.fd);

    if (readable && findex_locks_read(&run->locks) && run->locks_shown)
        print_locks(run);
    tick(run);
    if (run->kill_ns == 0 || findex_now_ns() <= run->kill_ns)
        return true;
    if (findex_interrupted() == 0)
        warnx("%s: some processes did not stop and are killed", run->title);
    findex_crew_kill(&run->crew);
    return false;
}

/* Until all of the role are in the state.  False: interrupted, or somebody had to be killed. */
static bool
await(struct run *run, enum findex_role role, enum findex_state state)
{
    while (!findex_crew_reached(&run->crew, role, state)) {
        if (!attend(run))
            return false;
    }
    return findex_interrupted() == 0;
}

static bool
start(struct run *run, enum findex_role role, unsigned n)
{
    for (unsigned i = 1; i <= n; i++) {
        if (!findex_crew_start(&run->crew, role, i, run->setting->job_fd))
            return false;
    }
    return true;
}

static bool
connected(struct run *run)
{
    char text[400];

    run->kill_ns = findex_now_ns() + STUCK_NS;
    if (!await(run, FINDEX_WORKER, FINDEX_READY) || !await(run, FINDEX_READER, FINDEX_READY))
        return false;
    run->kill_ns = 0;
    for (size_t i = 0; i < run->crew.n_members; i++) {
        if (findex_crew_complaint(&run->crew.members[i], text, sizeof text)) {
            warnx("%s: %s", run->title, text);
            return false;
        }
    }
    return true;
}

/*
 * After DONE: the readers first, so that it is the workers who have to finish everything; then
 * these, one after the other.  (When all leave stock SQLite at the same instant, each may take
 * another one for somebody who stays, and nobody empties the WAL.)
 */
static bool
close_all(struct run *run, uint64_t *out_go_ns)
{
    run->working = false;
    run->locks_late = run->locks.pid != 0;
    run->kill_ns = findex_now_ns() + STUCK_NS;
    findex_crew_release(&run->crew, FINDEX_READER);
    if (!await(run, FINDEX_READER, FINDEX_GONE))
        return false;
    *out_go_ns = findex_now_ns();
    run->kill_ns = *out_go_ns + STUCK_NS;
    for (size_t i = 0; i < run->crew.n_members; i++) {
        findex_crew_release_one(&run->crew.members[i]);
        while (run->crew.members[i].state < FINDEX_CLOSED) {
            if (!attend(run))
                return false;
        }
    }
    return await(run, FINDEX_WORKER, FINDEX_GONE);
}

static void
add_up(struct run *run, uint64_t go_ns)
{
    struct findex_result *result = run->result;
    uint64_t last_ns = run->start_ns, closed_ns = go_ns;

    result->committed = atomic_load_explicit(&run->job->committed, memory_order_relaxed);
    result->slowest_worker = UINT64_MAX;
    for (size_t i = 0; i < run->crew.n_members; i++) {
        const struct findex_member *member = &run->crew.members[i];
        const struct findex_tally *tally = &member->message->tally;

        if (result->complaint[0] == '\0')
            findex_crew_complaint(member, result->complaint, sizeof result->complaint);
        result->wrong += tally->wrong;
        if (member->role == FINDEX_READER) {
            result->reads += tally->transactions;
            result->queries += tally->queries;
            result->refused_reads += tally->refused;
            bench_histogram_merge(&result->read, &tally->latency);
            continue;
        }
        if (WIFSIGNALED(member->status)) {
            result->died++;
            continue;
        }
        result->refused += tally->refused;
        result->unhashed += tally->unhashed;
        result->vanished += tally->vanished;
        bench_histogram_merge(&result->commit, &tally->latency);
        if (tally->transactions < result->slowest_worker)
            result->slowest_worker = tally->transactions;
        if (tally->transactions > result->fastest_worker)
            result->fastest_worker = tally->transactions;
        if (tally->last_ns > last_ns)
            last_ns = tally->last_ns;
        if (member->closed_ns > closed_ns)
            closed_ns = member->closed_ns;
    }
    if (result->slowest_worker == UINT64_MAX)
        result->slowest_worker = 0;
    sample(run, last_ns, result->committed);
    result->close_seconds = (closed_ns - go_ns) / 1e9;
    result->seconds = (last_ns - run->start_ns) / 1e9 + result->close_seconds;
}

/* A killed worker may have committed one file more than it could acknowledge. */
static bool
is_good(const struct findex_result *result)
{
    const struct findex_verdict *verdict = &result->verdict;

    return strcmp(verdict->integrity, "ok") == 0 && verdict->missing == 0 && verdict->sums_fit
           && verdict->writable && verdict->left_behind[0] == '\0'
           && verdict->rows >= result->committed
           && verdict->rows <= result->committed + result->died && result->wrong == 0
           && result->complaint[0] == '\0';
}

/* What earlier runs have left to be written does not slow this one down. */
static void
settle(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        syncfs(fd);
        close(fd);
    }
}

static void
finish_locks(struct run *run)
{
    const uint64_t until_ns = findex_now_ns() + INTERRUPTED_NS;

    while (run->locks.pid != 0 && findex_now_ns() < until_ns && findex_interrupted() == 0) {
        if (findex_crew_listen(&run->crew, until_ns, run->locks.fd)
            && findex_locks_read(&run->locks) && run->locks_shown)
            print_locks(run);
    }
    if (run->locks.pid != 0 && findex_interrupted() == 0)
        warnx("%s: did not end, and is killed", run->setting->lockstep);
    findex_locks_free(&run->locks);
}

static bool
work(struct run *run)
{
    const struct findex_options *options = run->setting->options;
    uint64_t go_ns;

    if (!start(run, FINDEX_WORKER, options->workers) || !start(run, FINDEX_READER, options->readers)
        || !connected(run))
        return false;
    run->working = true;
    run->start_ns = run->shown_ns = findex_now_ns();
    findex_crew_release(&run->crew, FINDEX_READER);
    findex_crew_release(&run->crew, FINDEX_WORKER);
    if (!await(run, FINDEX_WORKER, FINDEX_DONE) || !close_all(run, &go_ns))
        return false;
    add_up(run, go_ns);
    return true;
}

bool
findex_run_side(const struct findex_setting *setting, const struct findex_side *side,
                const char *path, bool show_locks, struct findex_result *out_result)
{
    const struct findex_options *options = setting->options;
    struct run run = {
        .setting = setting,
        .job = setting->job,
        .result = out_result,
        .path = path,
        .title = side->title,
        .locks = {.fd = -1},
        .locks_wanted = setting->lockstep != NULL,
        .locks_shown = show_locks,
    };

    *out_result = (struct findex_result){.side = side};
    snprintf(out_result->vfs, sizeof out_result->vfs, "%s",
             side->vfs != NULL      ? side->vfs
             : options->vfs != NULL ? options->vfs
                                    : FINDEX_STOCK);
    run.job->use_lockstep = strcmp(out_result->vfs, FINDEX_LOCKSTEP) == 0;
    snprintf(run.job->synchronous, sizeof run.job->synchronous, "%s", side->synchronous);
    if (!findex_database_create(path, side)
        || !findex_database_uri(path, out_result->vfs, side->parameters, run.job->uri,
                                sizeof run.job->uri)
        || !findex_crew_init(&run.crew, options->workers + options->readers))
        return false;
    findex_job_reset(run.job);
    settle(path);

    bool ok = work(&run);
    finish_locks(&run);
    clear_line(options);
    findex_crew_free(&run.crew);
    if (ok) {
        ok = findex_database_verify(path, run.job, &out_result->verdict);
        out_result->ran = ok;
        out_result->good = ok && is_good(out_result);
    }
    return ok;
}

double
findex_result_seconds_for(const struct findex_result *result, uint32_t files)
{
    struct findex_sample before = {0};

    for (size_t i = 0; i < result->n_samples; i++) {
        const struct findex_sample after = result->samples[i];
        if (after.committed >= files && after.committed > before.committed) {
            const double part =
                (double)(files - before.committed) / (after.committed - before.committed);
            return (before.at_ns + part * (double)(after.at_ns - before.at_ns)) / 1e9
                   + result->close_seconds;
        }
        before = after;
    }
    return result->seconds;
}

void
findex_result_free(struct findex_result *result)
{
    free(result->samples);
    result->samples = NULL;
}

bool
findex_read_ahead(const struct findex_setting *setting, double limit_s, uint64_t limit_bytes,
                  struct findex_reading *out_reading)
{
    const struct findex_options *options = setting->options;
    struct findex_job *job = setting->job;
    struct findex_reading now = {0};
    struct run run = {.setting = setting, .job = job, .locks = {.fd = -1}};
    uint64_t start_ns;

    findex_job_reset(job);
    if (!findex_crew_init(&run.crew, options->workers))
        return false;
    bool ok = start(&run, FINDEX_WARMER, options->workers)
              && await(&run, FINDEX_WARMER, FINDEX_READY);
    start_ns = findex_now_ns();
    findex_crew_release(&run.crew, FINDEX_WARMER);
    while (ok && !findex_crew_reached(&run.crew, FINDEX_WARMER, FINDEX_DONE)) {
        findex_crew_listen(&run.crew, findex_now_ns() + TICK_NS, -1);
        now.files = atomic_load_explicit(&job->next, memory_order_relaxed);
        now.bytes = atomic_load_explicit(&job->read_bytes, memory_order_relaxed);
        now.seconds = (findex_now_ns() - start_ns) / 1e9;
        if (now.seconds > limit_s || now.bytes > limit_bytes)
            atomic_store_explicit(&job->stop, 1, memory_order_relaxed);
        if (options->terminal) {
            fprintf(options->say, "\r\033[Kreading: %u of %u files", now.files, job->n_files);
            fflush(options->say);
        }
        ok = findex_interrupted() == 0;
    }
    clear_line(options);
    findex_crew_free(&run.crew);
    if (now.files > job->n_files) /* each reader found once that there is no more */
        now.files = job->n_files;
    *out_reading = now;
    return ok;
}
