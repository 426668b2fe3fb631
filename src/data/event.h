/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_EVENT_H
#define IOTGW_EVENT_H
/*
 * One converted item of one device while it is being made, and its encoding as records. One thread; the memory is
 * reused from event to event, so that steady state allocates nothing.
 *
 * Order of a key's values and merging follow core.md 6.1 and platform-api.md 6: entries of equal time are merged at the place of
 * the first, a later value of a key wins; values without time take the time given to event_encode. Encoding splits at
 * limits: a part repeats its time; a single value above the limit travels alone (uplink decides about it).
 */
#include "base/arena.h"
#include "base/buf.h"
#include "data/batch.h"
#include "data/device.h"

#define EVENT_NO_TS INT64_MIN

struct report_strategy; /* conf/common.h; here only carried */

/* A key, prepared at load or once a message: bytes are "key": with quotes and colon, JSON-escaped. */
struct event_item {
    struct str key;                       /* prepared */
    struct str text;                      /* the value as JSON text in its final form */
    int64_t ts;                           /* ms; EVENT_NO_TS: time of reception */
    enum record_kind kind;                /* TELEMETRY or ATTRIBUTES */
    const struct report_strategy *report; /* the point's own; NULL: the event's */
};

struct event {
    struct device *dev;
    struct str profile;       /* empty or not valid: the one the device is known by, else "default" */
    struct event_item *items; /* in the order added */
    size_t n, cap;
    const struct report_strategy *report; /* the device's own; NULL: the connector's */
    bool has_report;                      /* that, or one of an item, is there */
    struct str meta;                      /* a JSON object for each record of telemetry (latency mode); empty: none */
    bool time_unsure;                     /* what has no time is given one that is ms since boot (RECORD_TIME_UNSURE) */
    bool keys_unique;                     /* the maker knows that no (kind, ts, key) repeats: no search for doubles */
    struct arena arena;                   /* for keys and texts made for this event; reset by event_begin */
    struct buf scratch;
};

/* Texts that may hold an escape: what begins no container and no string has none. */
static inline bool event_item_has_escape(const struct event_item *item)
{
    char c = item->text.n ? item->text.p[0] : '0';

    return (c == '"' || c == '[' || c == '{') && memchr(item->text.p, '\\', item->text.n) != NULL;
}
/* U+0000 becomes U+FFFD: the platform acknowledges a text with it and then loses it (platform-behaviour.md 11). How many items
 * were changed. */
unsigned event_replace_nul(struct event *event);

struct event_limits {
    size_t max_bytes;    /* of a record's body; 0: none */
    unsigned max_values; /* of a record; 0: 65535 */
};

void event_init(struct event *event);
void event_fini(struct event *event);
void event_begin(struct event *event, struct device *dev, struct str profile);
/* key and text must live until event_encode (payload, configuration or event->arena). */
void event_add(struct event *event, enum record_kind kind, struct str key, struct str text, int64_t ts);
/* The same with a report strategy of the point's own (NULL allowed), and the device's own. Both live as long as the
 * configuration. */
void event_add_reported(struct event *event, enum record_kind kind, struct str key, struct str text, int64_t ts,
                        const struct report_strategy *report);
void event_set_report(struct event *event, const struct report_strategy *report);
/* Prepares a key in the arena: "key": ; ERR_RANGE with a reason for a key the platform would lose (platform-behaviour.md 11). */
/* That is: 1–255 characters, not blank, no control characters, no '<' before a letter, valid UTF-8. */
NODISCARD enum err event_key(struct arena *arena, struct str name, struct str *out, struct why *why);

/*
 * Encodes all items: attributes as one record, before telemetry, one record a time; gives the number of values written
 * (doubles count once). ts_ms: for items without time (device_assign_ts); EVENT_NO_TS: the platform stamps them
 * (RECORD_NO_TS). With time_unsure records of ts_ms are RECORD_TIME_UNSURE; no item's own time may be equal to it. All records are written by one sink->room(), so an error (ERR_NOMEM: no room, ERR_LIMIT: too large)
 * leaves nothing behind. No items: ERR_OK and nothing written. The last record gets RECORD_END. May be called again.
 */
NODISCARD enum err event_encode(struct event *event, int64_t ts_ms, const struct event_limits *limits,
                                struct record_sink *sink, unsigned *n_values);
#endif
