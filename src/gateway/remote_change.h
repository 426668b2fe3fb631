/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_REMOTE_CHANGE_H
#define IOTGW_REMOTE_CHANGE_H
/*
 * From an attribute of the platform to the files that would hold it (remote-config.md 1 to 4): pure but for new identities.
 * What the value says is judged by the loader afterwards; here only what must hold for it to have a place in the files.
 */
#include "gateway/remote_form.h"

/* What lies on the disk, looked at before; copies. */
struct remote_file {
    const char *path;
    bool is_there;
    int64_t mtime_ms;
    struct buf text; /* of those that are asked for */
};
struct remote_files {
    struct arena arena;
    struct remote_file *items;
    size_t n;
};
/* What has to be looked at for any attribute and for publishing; blocks not. */
void remote_files_init(struct remote_files *files, const struct gateway_conf *running);
void remote_files_look(struct remote_files *files); /* blocks; any thread */
void remote_files_fini(struct remote_files *files);
const struct remote_file *remote_file_of(const struct remote_files *files, const char *path); /* NULL: not looked at */
/* Content of the custom commands' file; empty: none. */
struct str remote_commands(const struct remote_files *files, const struct gateway_conf *running);

enum remote_kind { REMOTE_GENERAL, REMOTE_STORAGE, REMOTE_GRPC, REMOTE_LOGS, REMOTE_ACTIVE, REMOTE_CONNECTOR };
extern const char *const remote_names[]; /* of the first five */

struct remote_change {
    struct arena arena;
    struct conf_text *texts; /* for apply_change; none: what runs is the same already */
    size_t n;
    const char **backups; /* files to be copied to the backups first */
    size_t n_backups;
    const char *connector; /* CONNECTOR: its name afterwards */
    const char *pem_path;  /* the platform's CA, to be written before; NULL: none */
    struct str pem, former_pem;
    struct str *unknown; /* ACTIVE: names that no connector has */
    size_t n_unknown;
    bool is_older;       /* a local edit is newer and stays */
    const char *warning; /* for the log; NULL: none */
    char path[200];      /* of what is wrong, with an error */
};
/* is_pushed: else it was asked for, and may be older than what was edited here. */
NODISCARD enum err remote_change_make(struct remote_change *change, const struct gateway_conf *running,
                                      const struct remote_files *files, enum remote_kind kind, yyjson_val *value,
                                      bool is_pushed, struct why *why);
void remote_change_fini(struct remote_change *change);
#endif
