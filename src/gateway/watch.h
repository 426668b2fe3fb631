/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_WATCH_H
#define IOTGW_WATCH_H
/*
 * Hot reload: asks apply for a reload when the content of a file of the configuration has changed, however it was written
 * (in place, by a new file of its name, through a link). Told by the kernel, 200 ms after the last of several writes and at most
 * 1 s after the first; and every checkConnectorsConfigurationInSeconds by looking, for file systems that do not tell.
 *
 * Owner thread: main; files are read on a helper thread. Reading a file, or writing the same again, changes nothing.
 */
#include "gateway/apply.h"

struct watch;
struct watch *watch_new(struct runner *main, struct apply *apply, struct log *log);
void watch_stop(struct watch *watch); /* before the main loop ends; NULL allowed */
void watch_free(struct watch *watch); /* after the main loop has ended; NULL allowed */
#endif
