/* The subcommands of lockstep: each takes argv[0], its own name, and returns the exit status. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

struct lockstep_inspection;
struct lks_render_options;

enum lks_exit { LKS_EXIT_OK = 0, LKS_EXIT_FAILURE = 1, LKS_EXIT_USAGE = 2 };

int lks_cmd_locks(int argc, char **argv);
int lks_cmd_status(int argc, char **argv);
int lks_cmd_flush(int argc, char **argv);
int lks_cmd_recover(int argc, char **argv);
int lks_cmd_run(int argc, char **argv);
int lks_cmd_top(int argc, char **argv);

/* What locks and status print of an inspection. */
int lks_locks_print(const struct lockstep_inspection *inspection,
                    const struct lks_render_options *options);
int lks_status_print(const struct lockstep_inspection *inspection,
                     const struct lks_render_options *options);

int lks_print_version(void);
/* Flushes standard output; a full disk or a broken pipe is a failure, said on stderr. */
int lks_close_stdout(void);

#endif
