/* SPDX-License-Identifier: Apache-2.0 */
#include "data/formula_tree.h"

#include <math.h>

/* Operators between two values, as Python has them. Integers are exact in 128 bits; what is beyond becomes a double. */

#define I128_MIN ((__int128)((unsigned __int128)1 << 127))

static enum err only_finite(struct formula_run *run, double d, struct value *out)
{
    if (!isfinite(d))
        return formula_fail(run, ERR_RANGE, "the number is too large");
    *out = value_of_double(d);
    return ERR_OK;
}

static enum err by_zero(struct formula_run *run)
{
    return formula_fail(run, ERR_RANGE, "division by zero");
}

/* --- integers ------------------------------------------------------------------------------------------------------- */
static unsigned __int128 magnitude(__int128 v)
{
    return v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
}

static int bits(unsigned __int128 v)
{
    uint64_t high = (uint64_t)(v >> 64), low = (uint64_t)v;

    return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

/* Rounded once, also where the integers are not exact as doubles: a quotient of at least 55 bits whose last bit stands for the rest. */
static double divide_exactly(__int128 a, __int128 b)
{
    unsigned __int128 n = magnitude(a), d = magnitude(b), q, r;
    int shift = 0;
    double result;

    if (bits(n) <= 53 && bits(d) <= 53)
        return (double)a / (double)b;
    q = n / d;
    r = n % d;
    while (bits(q) < 55 && (q || r)) {
        r <<= 1;
        q <<= 1;
        shift++;
        if (r >= d) {
            r -= d;
            q |= 1;
        }
    }
    result = ldexp((double)(q | (r != 0)), -shift);
    return (a < 0) != (b < 0) ? -result : result;
}

static __int128 floor_mod(__int128 a, __int128 b)
{
    __int128 r;

    if (b == -1)
        return 0; /* the least integer cannot be divided by it */
    r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

static enum err power_int(struct formula_run *run, __int128 base, __int128 exponent, struct value *out)
{
    __int128 result = 1, square = base;
    bool overflow = false;

    if (exponent < 0) {
        if (base == 0)
            return by_zero(run);
        return only_finite(run, pow((double)base, (double)exponent), out);
    }
    for (__int128 left = exponent; left && !overflow; left >>= 1) {
        if (left & 1)
            overflow = __builtin_mul_overflow(result, square, &result);
        if (left > 1 && !overflow)
            overflow = __builtin_mul_overflow(square, square, &square);
    }
    if (overflow)
        return only_finite(run, pow((double)base, (double)exponent), out);
    *out = value_of_int(result);
    return ERR_OK;
}

static enum err shift(struct formula_run *run, enum formula_token op, __int128 a, __int128 n, struct value *out)
{
    if (n < 0)
        return formula_fail(run, ERR_RANGE, "the number of bits to shift by is negative");
    if (op == TOKEN_SHR) {
        *out = value_of_int(a >> (n > 127 ? 127 : (int)n));
        return ERR_OK;
    }
    if (a == 0 || bits(magnitude(a)) + (n > 1000 ? 1000 : (int)n) <= 127) {
        *out = value_of_int(a == 0 ? 0 : a * ((__int128)1 << (int)n)); /* a is small enough, and 2^n is positive */
        return ERR_OK;
    }
    return only_finite(run, ldexp((double)a, n > 10000 ? 10000 : (int)n), out);
}

static enum err binary_int(struct formula_run *run, enum formula_token op, __int128 a, __int128 b, struct value *out)
{
    __int128 i = 0;
    bool overflow = false;
    double d = 0;

    switch ((int)op) {
    case TOKEN_PLUS:
        overflow = __builtin_add_overflow(a, b, &i);
        d = (double)a + (double)b;
        break;
    case TOKEN_MINUS:
        overflow = __builtin_sub_overflow(a, b, &i);
        d = (double)a - (double)b;
        break;
    case TOKEN_STAR:
        overflow = __builtin_mul_overflow(a, b, &i);
        d = (double)a * (double)b;
        break;
    case TOKEN_SLASH:
        return b == 0 ? by_zero(run) : only_finite(run, divide_exactly(a, b), out);
    case TOKEN_FLOORDIV:
        if (b == 0)
            return by_zero(run);
        overflow = a == I128_MIN && b == -1;
        d = 0x1p127;
        if (!overflow)
            i = a / b - (floor_mod(a, b) != 0 && (a < 0) != (b < 0));
        break;
    case TOKEN_PERCENT:
        if (b == 0)
            return by_zero(run);
        i = floor_mod(a, b);
        break;
    case TOKEN_POWER:
        return power_int(run, a, b, out);
    case TOKEN_SHL:
    case TOKEN_SHR:
        return shift(run, op, a, b, out);
    case TOKEN_AMP:
        i = a & b;
        break;
    case TOKEN_PIPE:
        i = a | b;
        break;
    case TOKEN_CARET:
        i = a ^ b;
        break;
    }
    if (overflow)
        return only_finite(run, d, out);
    *out = value_of_int(i);
    return ERR_OK;
}

/* --- doubles -------------------------------------------------------------------------------------------------------- */
/* As CPython's float_divmod: the remainder has the divisor's sign, and the quotient is the whole number nearest to it. */
static void floor_divide(double a, double b, double *quotient, double *remainder)
{
    double mod = fmod(a, b), div = (a - mod) / b, whole;

    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    if (div != 0) {
        whole = floor(div);
        if (div - whole > 0.5)
            whole += 1;
    } else {
        whole = copysign(0, a / b);
    }
    *quotient = whole;
    *remainder = mod;
}

static enum err power_double(struct formula_run *run, double a, double b, struct value *out)
{
    double d;

    if (a == 0 && b < 0)
        return by_zero(run);
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return formula_fail(run, ERR_RANGE, "a root of a negative number");
    d = pow(a, b);
    if (isfinite(a) && isfinite(b))
        return only_finite(run, d, out);
    *out = value_of_double(d);
    return ERR_OK;
}

static enum err binary_double(struct formula_run *run, enum formula_token op, double a, double b, struct value *out)
{
    double d = 0, other;

    switch ((int)op) {
    case TOKEN_PLUS:
        d = a + b;
        break;
    case TOKEN_MINUS:
        d = a - b;
        break;
    case TOKEN_STAR:
        d = a * b;
        break;
    case TOKEN_SLASH:
        if (b == 0)
            return by_zero(run);
        d = a / b;
        break;
    case TOKEN_FLOORDIV:
        if (b == 0)
            return by_zero(run);
        floor_divide(a, b, &d, &other);
        break;
    case TOKEN_PERCENT:
        if (b == 0)
            return by_zero(run);
        floor_divide(a, b, &other, &d);
        break;
    case TOKEN_POWER:
        return power_double(run, a, b, out);
    }
    *out = value_of_double(d);
    return ERR_OK;
}

/* --- sequences ------------------------------------------------------------------------------------------------------ */
static enum err join(struct formula_run *run, const struct value *a, const struct value *b, struct value *out)
{
    size_t n;
    enum err err;

    if (a->kind == VALUE_LIST) {
        n = a->list.n + b->list.n;
        err = formula_steps(run, n);
        if (err)
            return err;
        *out = value_of_list(arena_alloc(run->arena, (n + 1) * sizeof *out), n);
        if (a->list.n)
            memcpy(out->list.items, a->list.items, a->list.n * sizeof *out);
        if (b->list.n)
            memcpy(out->list.items + a->list.n, b->list.items, b->list.n * sizeof *out);
    } else {
        char *p;

        n = a->text.n + b->text.n;
        err = formula_work(run, n);
        if (err)
            return err;
        p = arena_chars(run->arena, n + 1);
        if (a->text.n)
            memcpy(p, a->text.p, a->text.n);
        if (b->text.n)
            memcpy(p + a->text.n, b->text.p, b->text.n);
        *out = (struct value){.kind = a->kind, .text = {p, n}};
    }
    return formula_made(run, out);
}

static bool is_sequence(const struct value *value)
{
    return value->kind == VALUE_TEXT || value->kind == VALUE_BYTES || value->kind == VALUE_LIST;
}

static enum err repeat(struct formula_run *run, const struct value *value, __int128 times, struct value *out)
{
    size_t n = value->kind == VALUE_LIST ? value->list.n : value->text.n, total;
    enum err err;

    if (times < 0 || n == 0)
        times = 0;
    if (times > (__int128)(FORMULA_BYTES / (n ? n : 1)))
        return formula_fail(run, ERR_LIMIT, "a %s is larger than 64 KiB", value_kind_name(value->kind));
    total = n * (size_t)times;
    err = value->kind == VALUE_LIST ? formula_steps(run, total) : formula_work(run, total);
    if (err)
        return err;
    if (value->kind == VALUE_LIST) {
        *out = value_of_list(arena_alloc(run->arena, (total + 1) * sizeof *out), total);
        for (size_t i = 0; i < total; i++)
            out->list.items[i] = value->list.items[i % n];
    } else {
        char *p = arena_chars(run->arena, total + 1);

        for (size_t i = 0; i < total; i += n)
            memcpy(p + i, value->text.p, n);
        *out = (struct value){.kind = value->kind, .text = {p, total}};
    }
    return formula_made(run, out);
}

static const char *op_text(enum formula_token op)
{
    switch ((int)op) {
    case TOKEN_PLUS:
        return "+";
    case TOKEN_MINUS:
        return "-";
    case TOKEN_STAR:
        return "*";
    case TOKEN_SLASH:
        return "/";
    case TOKEN_FLOORDIV:
        return "//";
    case TOKEN_PERCENT:
        return "%";
    case TOKEN_POWER:
        return "**";
    case TOKEN_SHL:
        return "<<";
    case TOKEN_SHR:
        return ">>";
    case TOKEN_AMP:
        return "&";
    case TOKEN_PIPE:
        return "|";
    default:
        return "^";
    }
}

static bool needs_integers(enum formula_token op)
{
    return op == TOKEN_SHL || op == TOKEN_SHR || op == TOKEN_AMP || op == TOKEN_PIPE || op == TOKEN_CARET;
}

static bool keeps_booleans(enum formula_token op)
{
    return op == TOKEN_AMP || op == TOKEN_PIPE || op == TOKEN_CARET;
}

enum err formula_binary(struct formula_run *run, enum formula_token op, const struct value *a, const struct value *b,
                        struct value *out)
{
    enum err err;

    if (value_is_integer(a) && value_is_integer(b)) {
        bool are_booleans = a->kind == VALUE_BOOL && b->kind == VALUE_BOOL;

        err = binary_int(run, op, value_integer(a), value_integer(b), out);
        if (!err && are_booleans && keeps_booleans(op))
            *out = value_of_bool(out->i != 0);
        return err;
    }
    if (value_is_number(a) && value_is_number(b) && !needs_integers(op))
        return binary_double(run, op, value_double(a), value_double(b), out);
    if (op == TOKEN_PLUS && a->kind == b->kind && is_sequence(a))
        return join(run, a, b, out);
    if (op == TOKEN_STAR && is_sequence(a) && value_is_integer(b))
        return repeat(run, a, value_integer(b), out);
    if (op == TOKEN_STAR && is_sequence(b) && value_is_integer(a))
        return repeat(run, b, value_integer(a), out);
    return formula_fail(run, ERR_TYPE, "%s %s %s is not possible", value_kind_name(a->kind), op_text(op),
                        value_kind_name(b->kind));
}
