/* SPDX-License-Identifier: Apache-2.0 */
#include "data/timestamp.h"
#include "base/clock.h"
#include "data/number.h"

#include <math.h>
#include <time.h>

/*
 * A text is: [weekday ,] date [T or blank or comma] [time] [zone], or a time alone. Date and time are read with a cursor
 * that only goes forward; whatever is left over at the end makes the text no time stamp.
 */
struct reader {
    const char *p, *end;
};

struct moment {
    int64_t year;
    int month, day, hour, minute, second, ms;
    bool has_date, has_zone;
    bool iso; /* the zone may follow without a blank; hours may be basic: 030405 */
    int zone_minutes;
};

struct number {
    int64_t v;
    int n_digits; /* 0: there was none */
};

enum { MAX_TEXT = 64 };

/* --- cursor ------------------------------------------------------------------------------------------------------- */

static char peek(const struct reader *r)
{
    return r->p < r->end ? *r->p : 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool skip_blanks(struct reader *r)
{
    const char *start = r->p;

    while (peek(r) == ' ' || peek(r) == '\t')
        r->p++;
    return r->p > start;
}

static bool take(struct reader *r, char c)
{
    if (peek(r) != c || r->p == r->end)
        return false;
    r->p++;
    return true;
}

static struct number take_number(struct reader *r, int max_digits)
{
    struct number number = {0};

    while (is_digit(peek(r)) && number.n_digits < max_digits) {
        number.v = number.v * 10 + (*r->p++ - '0');
        number.n_digits++;
    }
    return number;
}

static struct str take_word(struct reader *r)
{
    const char *start = r->p;

    while (is_letter(peek(r)))
        r->p++;
    return (struct str){start, (size_t)(r->p - start)};
}

/* 1 to n for one of the names or its first three letters (four for "Sept"), else 0. */
static int name_index(struct str word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++) {
        struct str name = str_from(names[i]);

        if (word.n >= 3 && word.n <= name.n && (word.n <= 4 || word.n == name.n) &&
            str_eq_nocase(word, str_cut(name, word.n)))
            return i + 1;
    }
    return 0;
}

static int month_of(struct str word)
{
    static const char *const names[] = {"January", "February", "March",     "April",   "May",      "June",
                                        "July",    "August",   "September", "October", "November", "December"};

    return name_index(word, names, 12);
}

static int weekday_of(struct str word)
{
    static const char *const names[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

    return name_index(word, names, 7);
}

/* --- calendar ----------------------------------------------------------------------------------------------------- */

/* Days since 1970-01-01 of the proleptic Gregorian calendar; years begin in March here, so that leap days come last. */
static int64_t days_of(int64_t year, int month, int day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, in_era = y - era * 400;
    int64_t in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static int days_in_month(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

/*
 * Seconds to add to local clock time to get UTC. The C library takes a lock for it; rules of zones change at full quarters of
 * an hour, so the last quarter that was asked for is kept by each thread.
 */
static int64_t local_offset(int64_t local_s)
{
    static _Thread_local struct {
        int64_t quarter, offset_s;
        bool is_set;
    } last;
    int64_t quarter = local_s / 900;
    time_t as_utc = (time_t)local_s, t;
    struct tm tm;

    if (last.is_set && last.quarter == quarter)
        return last.offset_s;
    if (!gmtime_r(&as_utc, &tm))
        return 0;
    tm.tm_isdst = -1;
    t = mktime(&tm);
    last.quarter = quarter;
    last.offset_s = (int64_t)t - local_s;
    last.is_set = true;
    return last.offset_s;
}

static int64_t local_year(int64_t now_ms)
{
    time_t t = (time_t)(now_ms / 1000);
    struct tm tm;

    return localtime_r(&t, &tm) ? 1900 + tm.tm_year : 1970;
}

static bool set_date(struct moment *m, int64_t year, int64_t month, int64_t day)
{
    if (month < 1 || month > 12 || day < 1 || year < 1 || year > 9999 || day > days_in_month(year, (int)month))
        return false;
    m->year = year;
    m->month = (int)month;
    m->day = (int)day;
    m->has_date = true;
    return true;
}

/* --- dates -------------------------------------------------------------------------------------------------------- */

/* Two digits: the year within 50 years of now. */
static int64_t full_year(struct number year, int64_t now_ms)
{
    int64_t now, v;

    if (year.n_digits > 2)
        return year.v;
    now = local_year(now_ms == TIMESTAMP_NO_NOW ? clock_build_ms : now_ms);
    v = now / 100 * 100 + year.v;
    return v >= now + 50 ? v - 100 : v < now - 50 ? v + 100 : v;
}

/* Month and day in either order: a number above 12 is the day, else the one that the format says. */
static bool set_month_day(struct moment *m, int64_t year, struct number a, struct number b, bool dayfirst)
{
    bool a_is_day = a.v > 12 || (dayfirst && b.v <= 12);

    return a_is_day ? set_date(m, year, b.v, a.v) : set_date(m, year, a.v, b.v);
}

static bool set_numeric_date(struct moment *m, struct number a, struct number b, struct number c,
                             struct timestamp_format format, int64_t now_ms)
{
    if (a.n_digits > 2)
        return a.n_digits == 4 && set_date(m, a.v, b.v, c.v);
    if (c.n_digits > 2)
        return c.n_digits == 4 && set_month_day(m, c.v, a, b, format.dayfirst);
    if (format.yearfirst || a.v > 31)
        return set_month_day(m, full_year(a, now_ms), b, c, format.dayfirst && format.yearfirst);
    return set_month_day(m, full_year(c, now_ms), a, b, format.dayfirst);
}

/* Behind a day (d Mon yyyy, d-Mon-yyyy). */
static bool read_month_year(struct reader *r, struct moment *m, struct number day, int64_t now_ms)
{
    char separator = peek(r) == '-' ? '-' : 0;
    struct number year;
    int month;

    if (separator)
        r->p++;
    else
        skip_blanks(r);
    month = month_of(take_word(r));
    take(r, '.');
    if (separator ? !take(r, '-') : (take(r, ','), !skip_blanks(r)))
        return false;
    year = take_number(r, 4);
    return month && (year.n_digits == 2 || year.n_digits == 4) && set_date(m, full_year(year, now_ms), month, day.v);
}

/* Behind a month's name (Mon d, yyyy). */
static bool read_day_year(struct reader *r, struct moment *m, int month, int64_t now_ms)
{
    struct number day, year;

    take(r, '.');
    skip_blanks(r);
    day = take_number(r, 2);
    if (!take(r, ',') && peek(r) != ' ')
        return false;
    skip_blanks(r);
    year = take_number(r, 4);
    return day.n_digits && (year.n_digits == 2 || year.n_digits == 4) &&
           set_date(m, full_year(year, now_ms), month, day.v);
}

static bool read_date(struct reader *r, struct moment *m, struct timestamp_format format, int64_t now_ms)
{
    struct number a, b, c;
    char separator;

    if (is_letter(peek(r)))
        return read_day_year(r, m, month_of(take_word(r)), now_ms) && m->month;
    a = take_number(r, 8);
    separator = peek(r);
    if (a.n_digits == 8) {
        m->iso = true;
        return set_date(m, a.v / 10000, a.v / 100 % 100, a.v % 100);
    }
    if (a.n_digits && a.n_digits <= 2 &&
        (separator == ' ' || is_letter(r->p + 1 < r->end ? r->p[separator == '-'] : 0)))
        return read_month_year(r, m, a, now_ms);
    if (a.n_digits == 0 || (separator != '-' && separator != '/' && separator != '.'))
        return false;
    r->p++;
    b = take_number(r, 2);
    if (b.n_digits == 0 || !take(r, separator))
        return false;
    c = take_number(r, 4);
    m->iso = a.n_digits == 4;
    return c.n_digits && set_numeric_date(m, a, b, c, format, now_ms);
}

/* --- times and zones ---------------------------------------------------------------------------------------------- */

static bool read_am_pm(struct reader *r, struct moment *m)
{
    struct reader ahead = *r;
    struct str word;
    bool pm;

    skip_blanks(&ahead);
    word = take_word(&ahead);
    pm = str_eq_nocase(word, STR("pm"));
    if (!pm && !str_eq_nocase(word, STR("am")))
        return true;
    *r = ahead;
    if (m->hour < 1 || m->hour > 12)
        return false;
    m->hour = m->hour % 12 + (pm ? 12 : 0);
    return true;
}

static bool read_fraction(struct reader *r, struct moment *m)
{
    int scale = 100;

    if (!take(r, '.') && !take(r, ','))
        return true;
    if (!is_digit(peek(r)))
        return false;
    for (; is_digit(peek(r)); r->p++, scale /= 10)
        m->ms += (*r->p - '0') * scale;
    return true;
}

static bool read_time(struct reader *r, struct moment *m)
{
    struct number hour, minute = {0}, second = {0};
    bool basic;

    hour = take_number(r, 2);
    if (hour.n_digits == 0)
        return false;
    basic = hour.n_digits == 2 && is_digit(peek(r));
    if (basic || take(r, ':')) {
        if (basic && !m->iso)
            return false;
        minute = take_number(r, 2);
        if (minute.n_digits != 2)
            return false;
        if (basic ? is_digit(peek(r)) : take(r, ':')) {
            second = take_number(r, 2);
            if (second.n_digits == 0 || (basic && second.n_digits != 2) || !read_fraction(r, m))
                return false;
        }
    }
    m->hour = (int)hour.v;
    m->minute = (int)minute.v;
    m->second = (int)second.v;
    return read_am_pm(r, m) && m->hour < 24 && m->minute < 60 && m->second < 60;
}

/* Z, UTC, GMT, ±hh:mm, ±hhmm, ±hh, or a name, which is taken for the local zone. */
static bool read_zone(struct reader *r, struct moment *m, bool *foreign)
{
    struct number hours, minutes = {0};
    bool negative = peek(r) == '-';
    struct str name;

    if (is_letter(peek(r))) {
        name = take_word(r);
        while (is_letter(peek(r)) || peek(r) == '/' || peek(r) == '_')
            r->p++;
        m->has_zone =
            str_eq_nocase(name, STR("Z")) || str_eq_nocase(name, STR("UTC")) || str_eq_nocase(name, STR("GMT"));
        *foreign = !m->has_zone;
        return r->p == name.p + name.n || *foreign;
    }
    if (!take(r, '+') && !take(r, '-'))
        return false;
    hours = take_number(r, 2);
    if (take(r, ':') || is_digit(peek(r))) {
        minutes = take_number(r, 2);
        if (minutes.n_digits != 2)
            return false;
    }
    m->has_zone = true;
    m->zone_minutes = (int)(hours.v * 60 + minutes.v) * (negative ? -1 : 1);
    return hours.n_digits == 2 && hours.v < 24 && minutes.v < 60;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

/* A time alone begins with a number and ":" or with a number and AM or PM. */
static bool is_time_alone(struct reader r)
{
    struct number hour = take_number(&r, 2);
    struct str word;

    if (hour.n_digits && peek(&r) == ':')
        return true;
    skip_blanks(&r);
    word = take_word(&r);
    return hour.n_digits && (str_eq_nocase(word, STR("am")) || str_eq_nocase(word, STR("pm")));
}

static bool read_moment(struct reader *r, struct moment *m, struct timestamp_format format, int64_t now_ms,
                        bool *foreign)
{
    struct reader ahead = *r;
    bool separated;

    if (weekday_of(take_word(&ahead))) {
        take(&ahead, '.');
        take(&ahead, ',');
        skip_blanks(&ahead);
        *r = ahead;
    }
    if (!is_time_alone(*r)) {
        if (!read_date(r, m, format, now_ms))
            return false;
        separated = take(r, 'T') || take(r, 't') || take(r, ',');
        separated |= skip_blanks(r);
        if (r->p == r->end)
            return !separated;
        if (!separated)
            return false;
    }
    if (is_digit(peek(r)) && !read_time(r, m))
        return false;
    skip_blanks(r);
    return r->p == r->end || (read_zone(r, m, foreign) && r->p == r->end);
}

static int64_t moment_ms(const struct moment *m, int64_t now_ms)
{
    int64_t in_day = m->hour * 3600 + m->minute * 60 + m->second, s;

    if (m->has_date) {
        s = days_of(m->year, m->month, m->day) * 86400 + in_day;
    } else {
        time_t t = (time_t)(now_ms / 1000);
        struct tm tm = {0};

        localtime_r(&t, &tm);
        s = days_of(1900 + tm.tm_year, tm.tm_mon + 1, tm.tm_mday) * 86400 + in_day;
    }
    s += m->has_zone ? -(int64_t)m->zone_minutes * 60 : local_offset(s);
    return s * 1000 + m->ms;
}

/* A number: milliseconds from 10^11 on, else seconds with their fraction. */
static NODISCARD enum err parse_number(struct str text, int64_t *out_ms)
{
    bool integral;
    double v;
    int64_t i;

    if (number_truncate(text, &i, &integral))
        return ERR_RANGE;
    if (i >= 100000000000 || i <= -100000000000) {
        *out_ms = i;
        return ERR_OK;
    }
    if (integral) {
        *out_ms = i * 1000;
        return ERR_OK;
    }
    if (number_read(text, &v))
        return ERR_RANGE;
    *out_ms = llround(v * 1000);
    return ERR_OK;
}

static bool is_number(struct str text)
{
    double ignored;

    return text.n && number_read(text, &ignored) != ERR_SYNTAX;
}

enum err timestamp_parse(struct str text, struct timestamp_format format, int64_t now_ms, int64_t *out_ms,
                         bool *foreign_zone)
{
    struct moment moment = {0};
    struct reader reader;
    bool foreign = false;

    text = str_trim(text);
    if (text.n == 0 || text.n > MAX_TEXT)
        return ERR_SYNTAX;
    if (is_number(text))
        return parse_number(text, out_ms);
    reader = (struct reader){text.p, text.p + text.n};
    if (!read_moment(&reader, &moment, format, now_ms, &foreign))
        return ERR_SYNTAX;
    if (!moment.has_date && now_ms == TIMESTAMP_NO_NOW)
        return ERR_RANGE;
    *out_ms = moment_ms(&moment, now_ms);
    if (foreign_zone)
        *foreign_zone = foreign;
    return ERR_OK;
}

/* --- in data ------------------------------------------------------------------------------------------------------ */

/* "..["name"]" */
static NODISCARD enum err compile_anywhere(struct path **out, struct arena *arena, struct str name, struct why *why)
{
    autobuf struct buf text = {0};

    buf_add_z(&text, "..[\"");
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '"' || name.p[i] == '\\')
            buf_add_u8(&text, '\\');
        buf_add_u8(&text, (uint8_t)name.p[i]);
    }
    buf_add_z(&text, "\"]");
    return path_compile(out, arena, buf_str(&text), why);
}

enum err ts_field_compile(struct ts_field *out, struct arena *arena, struct str text, bool dayfirst, bool yearfirst,
                          struct why *why)
{
    struct str expression = str_trim(text);
    struct str last;
    enum err err;

    *out = (struct ts_field){.dayfirst = dayfirst, .yearfirst = yearfirst};
    if (expression.n == 0)
        return why_set(why, ERR_SYNTAX, "the time expression is empty");
    if (str_find(expression, STR("${"), 0) == SIZE_MAX)
        expression = arena_printf(arena, "${%.*s}", (int)str_cut(expression, 4096).n, expression.p);
    err = template_compile(&out->template, arena, expression, why);
    if (err)
        return err;
    if (template_n_tags(out->template) != 1 || !template_path(out->template, 0))
        return why_set(why, ERR_SYNTAX, "a time expression is one ${tag} or the name of a member");
    last = path_last_name(template_path(out->template, 0));
    return last.n ? compile_anywhere(&out->anywhere, arena, last, why) : ERR_OK;
}

/* Text or number of a value; p NULL: neither. */
static struct str time_text(yyjson_val *val, char *stack)
{
    if (yyjson_is_str(val))
        return json_str(val);
    return json_is_number(val) ? json_number_in_template(val, stack) : STR_NONE;
}

enum ts_result ts_field_eval(const struct ts_field *field, yyjson_val *data, int64_t now_ms, struct arena *arena,
                             int64_t *out_ms)
{
    struct timestamp_format format = {field->dayfirst, field->yearfirst};
    char stack[NUMBER_MAX];
    struct str text, ignored;
    bool foreign = false;

    if (template_kind(field->template) == TEMPLATE_PURE) {
        yyjson_val *val = template_resolve(field->template, 0, data, arena, &text);

        if (!val && !text.p && field->anywhere)
            val = path_first(field->anywhere, data, arena, &ignored);
        if (val)
            text = time_text(val, stack);
    } else if (!template_text(field->template, data, TEMPLATE_SKIP, arena, &text)) {
        return TS_NONE;
    }
    if (!text.p || timestamp_parse(text, format, now_ms, out_ms, &foreign))
        return TS_NONE;
    return foreign ? TS_FOUND_FOREIGN_ZONE : TS_FOUND;
}

static bool all_digits(struct str text)
{
    return text.n && text.n <= 19 && number_is_integer(text);
}

/* Numbers and digits are milliseconds as they are. */
static bool member_time(yyjson_val *val, int64_t now_ms, int64_t *out_ms)
{
    char stack[NUMBER_MAX];
    struct str text = time_text(val, stack);
    bool integral;

    if (!text.p)
        return false;
    if (!yyjson_is_str(val) || all_digits(str_trim(text)))
        return number_truncate(str_trim(text), out_ms, &integral) == ERR_OK;
    return timestamp_parse(text, (struct timestamp_format){0}, now_ms, out_ms, NULL) == ERR_OK;
}

bool timestamp_of_data(yyjson_val *data, int64_t now_ms, int64_t *out_ms)
{
    return member_time(json_get(data, STR("ts")), now_ms, out_ms) ||
           member_time(json_get(data, STR("timestamp")), now_ms, out_ms);
}
