/* lockstep run -- COMMAND: runs an unchanged program with Lockstep as its default VFS. */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/commands.h"
#include "tools/render.h"

#define MODULE "lockstep-run.so"

/* As env(1) and the shells have it. */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127

static void
print_help(void)
{
    printf("Usage: lockstep run [--] COMMAND [ARGUMENT...]\n\n"
           "Runs COMMAND with Lockstep as the default VFS of its SQLite, and so all that COMMAND starts.\n"
           "It takes effect in programs that use the shared library of SQLite and choose no VFS of their\n"
           "own. A program that has SQLite built in, and one that gains privileges (setuid), runs as ever.\n"
           "\nThe exit status is COMMAND's; 127 if it is not found, 126 if it cannot be run.\n"
           "\nOptions:\n"
           "  -h, --help           print this and exit\n"
           "  -V, --version        print the version and exit\n");
}

/* Beside the library that this program uses (before it is installed), else where it was installed. */
static char *
find_module(void)
{
    void *symbol = dlsym(RTLD_DEFAULT, "lockstep_initialize");
    const char *slash;
    Dl_info info;
    char *path;
    if (symbol != NULL && dladdr(symbol, &info) != 0 && (slash = strrchr(info.dli_fname, '/')) != NULL) {
        int length = (int)(slash - info.dli_fname);
        static const char *const places[] = {"/lockstep/" MODULE, "/" MODULE};
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            if (asprintf(&path, "%.*s%s", length, info.dli_fname, places[i]) < 0)
                return NULL;
            if (access(path, R_OK) == 0)
                return path;
            free(path);
        }
    }
    if (asprintf(&path, "%s/lockstep/%s", LOCKSTEP_LIBDIR, MODULE) < 0)
        return NULL;
    if (access(path, R_OK) == 0)
        return path;
    lks_complain("run: %s: %s; is Lockstep installed whole?", path, strerror(errno));
    free(path);
    return NULL;
}

static bool
preload(const char *module)
{
    const char *others = getenv("LD_PRELOAD");
    char *value;
    bool ok;
    if (strpbrk(module, " :\t\n") != NULL) {
        lks_complain("run: %s: a name with blanks or colons cannot be preloaded; install Lockstep "
                     "elsewhere", module);
        return false;
    }
    if (asprintf(&value, "%s%s%s", module, others != NULL && *others != '\0' ? ":" : "",
                 others != NULL ? others : "") < 0)
        return false;
    ok = setenv("LD_PRELOAD", value, 1) == 0;
    free(value);
    return ok;
}

int
lks_cmd_run(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    char *module;
    int c;
    while ((c = getopt_long(argc, argv, "+hV", longs, NULL)) != -1)
        switch (c) {
        case 'h': print_help(); return lks_close_stdout();
        case 'V': return lks_print_version();
        default: return lks_usage_error("run");
        }
    if (optind == argc) {
        lks_complain("run: which command?");
        return lks_usage_error("run");
    }
    module = find_module();
    if (module == NULL)
        return LKS_EXIT_FAILURE;
    if (!preload(module)) {
        free(module);
        return LKS_EXIT_FAILURE;
    }
    free(module);
    execvp(argv[optind], argv + optind);
    lks_complain("run: %s: %s", argv[optind], strerror(errno));
    return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
