/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_FORMULA_TREE_H
#define IOTGW_FORMULA_TREE_H
/*
 * What the parts of the formula evaluator share: the tree that formula_parse.c builds and formula_eval.c walks, and the
 * evaluation in progress, for the functions in formula_functions.c and formula_methods.c. Not for others.
 *
 * Bounds: the parser nests at most FORMULA_DEPTH deep and the tree is no deeper, so recursion over either is bounded.
 * Each node and each 64 bytes or each element touched is a step. No value exceeds FORMULA_BYTES (value_measure).
 */
#include "data/formula.h"

enum {
    FORMULA_TEXT = 4096,
    FORMULA_DEPTH = 64,
    FORMULA_STEPS = 10000,
    FORMULA_BYTES = 65536,
    FORMULA_BYTES_A_STEP = 64
};

enum formula_token {
    TOKEN_END,
    TOKEN_BAD,
    TOKEN_NUMBER,
    TOKEN_TEXT,
    TOKEN_FTEXT,
    TOKEN_NAME,
    TOKEN_AND,
    TOKEN_OR,
    TOKEN_NOT,
    TOKEN_IN,
    TOKEN_IS,
    TOKEN_IF,
    TOKEN_ELSE,
    TOKEN_FOR,
    TOKEN_NOT_IN,
    TOKEN_IS_NOT,
    TOKEN_LPAREN,
    TOKEN_RPAREN,
    TOKEN_LBRACKET,
    TOKEN_RBRACKET,
    TOKEN_LBRACE,
    TOKEN_RBRACE,
    TOKEN_COMMA,
    TOKEN_COLON,
    TOKEN_DOT,
    TOKEN_ASSIGN,
    TOKEN_EQ,
    TOKEN_NE,
    TOKEN_LT,
    TOKEN_LE,
    TOKEN_GT,
    TOKEN_GE,
    TOKEN_PIPE,
    TOKEN_CARET,
    TOKEN_AMP,
    TOKEN_SHL,
    TOKEN_SHR,
    TOKEN_PLUS,
    TOKEN_MINUS,
    TOKEN_STAR,
    TOKEN_SLASH,
    TOKEN_FLOORDIV,
    TOKEN_PERCENT,
    TOKEN_POWER,
    TOKEN_TILDE
};

enum expr_kind {
    EXPR_CONST,
    EXPR_NAME,
    EXPR_IF, /* a if b else c */
    EXPR_OR,
    EXPR_AND,           /* children */
    EXPR_NOT,           /* a */
    EXPR_COMPARE,       /* children, from the second on with link */
    EXPR_BINARY,        /* left-associative operators of one level: children with link */
    EXPR_UNARY,         /* op a */
    EXPR_POWER,         /* a ** b */
    EXPR_INDEX,         /* a[b] */
    EXPR_SLICE,         /* a[b:c:d], each of them may be NULL */
    EXPR_CALL,          /* function(children) */
    EXPR_METHOD,        /* a.method(children) */
    EXPR_LIST,          /* children */
    EXPR_COMPREHENSION, /* [a for name in b if c], c may be NULL */
    EXPR_OBJECT,        /* children: key, value, key, value */
    EXPR_FTEXT          /* children: constant texts and expressions */
};

struct expr {
    enum expr_kind kind;
    enum formula_token op;   /* EXPR_UNARY */
    enum formula_token link; /* operator between the sibling before and this one */
    unsigned depth;          /* 1: no children */
    uint32_t offset;         /* in the text: what an error points at */
    uint32_t link_offset;
    struct expr *next;  /* sibling */
    struct str name;    /* EXPR_NAME, EXPR_COMPREHENSION */
    struct str keyword; /* of an argument of format(); p NULL: none */
    struct expr *a, *b, *c, *d;
    struct expr *children;
    unsigned n;
    union {
        const struct formula_function *function;
        const struct formula_method *method;
        struct value constant;
    };
};

struct formula {
    const struct expr *root;
};

/* A comprehension's variable. */
struct formula_scope {
    const struct formula_scope *outer;
    struct str name;
    const struct value *value;
};

struct formula_run {
    formula_lookup_fn *lookup;
    void *arg;
    struct arena *arena;
    struct why *why;
    unsigned n_steps;
    uint32_t offset; /* of the node being evaluated */
    const struct formula_scope *scope;
};

struct formula_function {
    const char *name;
    unsigned min, max; /* arguments */
    enum err (*call)(struct formula_run *run, const struct value *args, size_t n, struct value *out);
};

/* A method of texts. Keywords: format() only; names[i].p is NULL for an argument without one. */
struct formula_method {
    const char *name;
    unsigned min, max;
    enum err (*call)(struct formula_run *run, struct str self, const struct value *args, const struct str *names,
                     size_t n, struct value *out);
    bool takes_names;
};

const struct formula_function *formula_function_find(struct str name);
const struct formula_method *formula_method_find(struct str name);

/* Fills why with "… at offset N" of the present node; returns err. */
enum err formula_fail(struct formula_run *run, enum err err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Counts work: n units of one step each. */
NODISCARD enum err formula_steps(struct formula_run *run, size_t n);
NODISCARD enum err formula_work(struct formula_run *run, size_t n_bytes); /* one step and one for each 64 bytes */
/* Checks the size of a value that was made or looked up, and counts its steps. */
NODISCARD enum err formula_made(struct formula_run *run, const struct value *value);

/* a op b for the operators of EXPR_BINARY and EXPR_POWER. */
NODISCARD enum err formula_binary(struct formula_run *run, enum formula_token op, const struct value *a,
                                  const struct value *b, struct value *out);
/* Elements of a list, characters of a text, integers of bytes, keys of an object. The list may be the value's own. */
NODISCARD enum err formula_iterate(struct formula_run *run, const struct value *value, struct value *list);
/* Order of numbers, texts, bytes, lists; anything else is an error. unordered: a NaN is among them. */
NODISCARD enum err formula_order(struct formula_run *run, const struct value *a, const struct value *b, int *out,
                                 bool *unordered);
NODISCARD enum err formula_equal(struct formula_run *run, const struct value *a, const struct value *b, bool *out);
NODISCARD enum err formula_slice(struct formula_run *run, const struct value *value, const struct value *from,
                                 const struct value *to, const struct value *step,
                                 struct value *out); /* None: absent */
NODISCARD enum err formula_text_of(struct formula_run *run, const struct value *value, struct str *out); /* str() */

/* --- values without an evaluation (value.c) ------------------------------------------------------------------------- */
const char *value_kind_name(enum value_kind kind); /* "integer" */
bool value_is_true(const struct value *value);
bool value_is_number(const struct value *value);   /* booleans too */
bool value_is_integer(const struct value *value);  /* booleans too */
__int128 value_integer(const struct value *value); /* of a boolean or integer */
double value_double(const struct value *value);    /* of a number */
/* Size of a value as limits see it: 8 for what is no text or container; stops counting beyond limit. */
size_t value_measure(const struct value *value, size_t limit);
/* Last member of that name, or NULL. */
const struct value *value_member(const struct value *object, struct str key);
/* The name under which an object keeps a key that is no text (1, True, 1.0 → "1"; None → "None"). false: cannot be a key. */
bool value_key(const struct value *value, struct arena *arena, struct str *out);
/* -1, 0, 1 for exact comparison of an integer and a finite or infinite double. */
int value_compare_mixed(__int128 i, double d);
enum { VALUE_I128_MAX = 40 };
size_t value_put_i128(char *out, __int128 v); /* at most VALUE_I128_MAX */
/* Digits in base with single underscores between them; false: no such number. *overflow: beyond 128 bits; then *d has it. */
bool value_read_digits(struct str digits, unsigned base, __int128 *i, bool *overflow, double *d);
/* Decimal fraction or exponent, underscores between digits; no inf or nan. */
bool value_read_double(struct str text, double *out);
static inline struct value value_none(void)
{
    return (struct value){.kind = VALUE_NONE};
}
static inline struct value value_of_bool(bool b)
{
    return (struct value){.kind = VALUE_BOOL, .b = b};
}
static inline struct value value_of_int(__int128 i)
{
    return (struct value){.kind = VALUE_INT, .i = i};
}
static inline struct value value_of_double(double d)
{
    return (struct value){.kind = VALUE_DOUBLE, .d = d};
}
static inline struct value value_of_text(struct str text)
{
    return (struct value){.kind = VALUE_TEXT, .text = text};
}
static inline struct value value_of_list(struct value *items, size_t n)
{
    return (struct value){.kind = VALUE_LIST, .list = {items, n}};
}
#endif
