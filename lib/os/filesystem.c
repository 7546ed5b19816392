#include "os/filesystem.h"

#include <stddef.h>
#include <sys/vfs.h>

/* Numbers from statfs(2) and linux/magic.h. */
static const struct {
    unsigned long magic;
    const char *name;
} refused[] = {
    {0x6969, "NFS"},          {0xff534d42, "CIFS"},      {0xfe534d42, "SMB2"}, {0x517b, "SMB"},
    {0x01021997, "9p"},       {0x6a656a63, "virtiofs"},  {0x65735546, "FUSE"}, {0x5346414f, "AFS"},
    {0x73757245, "Coda"},     {0x00c36400, "Ceph"},      {0x0bd00bd0, "Lustre"},
    {0x47504653, "GPFS"},     {0x564c, "NCP"},
};

const char *
lks_filesystem_refused_magic(unsigned long magic)
{
    size_t i;
    for (i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (refused[i].magic == (magic & 0xffffffffUL))
            return refused[i].name;
    return NULL;
}

const char *
lks_filesystem_refused(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return NULL;
    return lks_filesystem_refused_magic((unsigned long)fs.f_type);
}
