/* SPDX-License-Identifier: Apache-2.0 */
/* Lines: the first is a topic, the others are filters. The trie must agree with matching each filter alone. */
#include "mqtt/topic.h"
#include "fuzz.h"

#include <assert.h>

enum { MAX_FILTERS = 64 };

static void count(void *arg, void *value)
{
    unsigned *n_found = arg;

    n_found[(uintptr_t)value]++;
}

static void compare(const struct topic_trie *trie, const struct str *filters, size_t n, struct str topic)
{
    unsigned n_found[MAX_FILTERS] = {0};

    topic_trie_match(trie, topic, count, n_found);
    for (size_t i = 0; i < n; i++)
        assert(n_found[i] == topic_matches(filters[i], topic));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of(data, size), topic, filters[MAX_FILTERS];
    struct topic_trie *trie = topic_trie_new();
    struct why why = {0};
    size_t n = 0;

    if (!str_split(&rest, '\n', &topic))
        topic = STR_NONE;
    if (topic_name_check(topic, &why) == ERR_OK)
        assert(topic_filter_check(topic, NULL) == ERR_OK || str_starts(topic, STR("$share/")));
    while (n < MAX_FILTERS && str_split(&rest, '\n', &filters[n])) {
        if (topic_filter_check(filters[n], &why))
            continue;
        topic_trie_add(trie, filters[n], (void *)(uintptr_t)n);
        n++;
    }
    compare(trie, filters, n, topic);
    topic_trie_free(trie);
    return 0;
}
