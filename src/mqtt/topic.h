/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MQTT_TOPIC_H
#define IOTGW_MQTT_TOPIC_H
/*
 * Topic names and filters (MQTT 5, 4.7; expressions.md 11) and a trie from filters to values. One thread.
 * $share/<group>/<filter> matches like <filter>.
 */
#include "base/str.h"

NODISCARD enum err topic_name_check(struct str topic,
                                    struct why *why); /* no wildcard, no NUL, 1–65535 bytes of UTF-8 */
NODISCARD enum err topic_filter_check(struct str filter, struct why *why);
bool topic_matches(struct str filter, struct str topic);

struct topic_trie;
struct topic_trie *topic_trie_new(void);
void topic_trie_free(struct topic_trie *trie);
/* Values of one filter are kept in the order added (added twice, given twice). filter has passed topic_filter_check; it is
 * copied. */
void topic_trie_add(struct topic_trie *trie, struct str filter, void *value);
/* Calls fn for each value whose filter matches. Order between filters is not defined. Allocates nothing; fn may match
 * again, but not add. */
typedef void topic_match_fn(void *arg, void *value);
void topic_trie_match(const struct topic_trie *trie, struct str topic, topic_match_fn *fn, void *arg);
#endif
