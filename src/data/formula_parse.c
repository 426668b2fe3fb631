/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "data/formula_tree.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

/*
 * Recursive descent with one token of look-ahead; the levels of binary operators are one loop. Text with f"…{x}…" is why
 * tokens are made on demand: what stands in braces is parsed in place.
 */
struct parser {
    struct str text;
    size_t at; /* behind the present token */
    enum formula_token token;
    size_t token_at;
    struct value number; /* TOKEN_NUMBER */
    struct str word;     /* TOKEN_NAME; TOKEN_TEXT: what it stands for */
    char quote;          /* TOKEN_FTEXT: at is behind the opening quote */
    struct arena *arena;
    struct why *why;
    enum err err;
    unsigned depth;    /* brackets, signs, "not", "**", "else": at most FORMULA_DEPTH open */
    unsigned n_chains; /* operators whose right side is being parsed: at most twice that, for the stack's sake */
    bool no_calls;
    const struct str *names; /* NULL: any */
    size_t n_names;
};

/* Levels of binary operators, loosest first. */
enum level {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_COMPARE,
    LEVEL_PIPE,
    LEVEL_CARET,
    LEVEL_AMP,
    LEVEL_SHIFT,
    LEVEL_SUM,
    LEVEL_TERM,
    LEVEL_NONE
};

static struct expr *parse_expr(struct parser *p);
static struct expr *parse_binary(struct parser *p, enum level least);

__attribute__((format(printf, 4, 5))) static void *fail(struct parser *p, enum err err, size_t offset, const char *fmt,
                                                        ...)
{
    char text[400];
    va_list args;

    if (p->err)
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->err = why_set(p->why, err, "%s at offset %zu", text, offset);
    p->token = TOKEN_BAD;
    return NULL;
}

/* --- tokens --------------------------------------------------------------------------------------------------------- */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_word(char c)
{
    return is_word_start(c) || is_digit(c);
}

static char peek(const struct parser *p, size_t ahead)
{
    return p->at + ahead < p->text.n ? p->text.p[p->at + ahead] : 0;
}

/* The characters of a word, shown in a message. */
static struct str word_at(const struct parser *p, size_t at)
{
    size_t end = at;

    while (end < p->text.n && end - at < 40 &&
           (is_word(p->text.p[end]) || (p->text.p[end] == '.' && is_digit(p->text.p[at]))))
        end++;
    return (struct str){p->text.p + at, end - at};
}

static void bad_number(struct parser *p)
{
    fail(p, ERR_SYNTAX, p->token_at, "\"" STR_FMT "\" is not a number", STR_ARG(word_at(p, p->token_at)));
}

static void set_integer(struct parser *p, struct str digits, unsigned base)
{
    bool overflow;
    __int128 i;
    double d;

    if (!value_read_digits(digits, base, &i, &overflow, &d)) {
        bad_number(p);
        return;
    }
    p->number = overflow ? value_of_double(d) : value_of_int(i);
}

static void read_number(struct parser *p)
{
    size_t start = p->at;
    char prefix = (char)(peek(p, 1) | 32);
    bool is_double = false;
    struct str text;
    double d;

    p->token = TOKEN_NUMBER;
    if (peek(p, 0) == '0' && (prefix == 'x' || prefix == 'o' || prefix == 'b')) {
        p->at += 2;
        if (peek(p, 0) == '_') /* 0x_ff */
            p->at++;
        start = p->at;
        while (is_word(peek(p, 0)))
            p->at++;
        set_integer(p, (struct str){p->text.p + start, p->at - start}, prefix == 'x' ? 16 : prefix == 'o' ? 8 : 2);
        return;
    }
    while (is_digit(peek(p, 0)) || peek(p, 0) == '_')
        p->at++;
    if (peek(p, 0) == '.') {
        is_double = true;
        p->at++;
        while (is_digit(peek(p, 0)) || peek(p, 0) == '_')
            p->at++;
    }
    if ((peek(p, 0) | 32) == 'e') {
        is_double = true;
        p->at += peek(p, 1) == '-' || peek(p, 1) == '+' ? 2 : 1;
        while (is_digit(peek(p, 0)) || peek(p, 0) == '_')
            p->at++;
    }
    text = (struct str){p->text.p + start, p->at - start};
    if (is_word(peek(p, 0))) {
        bad_number(p);
    } else if (is_double) {
        if (value_read_double(text, &d))
            p->number = value_of_double(d);
        else
            bad_number(p);
    } else {
        set_integer(p, text, 10);
        if (text.p[0] == '0' && p->number.kind == VALUE_INT && p->number.i != 0)
            bad_number(p); /* 010 */
    }
}

static int hex_digit(char c)
{
    return is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Behind a backslash. Gives the number of bytes written to out (up to 3), 0 after an error. */
static size_t read_escape(struct parser *p, char *out)
{
    static const char plain[][2] = {{'\\', '\\'}, {'\'', '\''}, {'"', '"'}, {'n', '\n'}, {'r', '\r'}, {'t', '\t'}};
    size_t start = p->at - 1, n_digits;
    uint32_t code = 0;
    char c = peek(p, 0);

    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (c == plain[i][0] && p->at < p->text.n) {
            p->at++;
            *out = plain[i][1];
            return 1;
        }
    n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    for (size_t i = 1; i <= n_digits; i++) {
        int digit = hex_digit(peek(p, i));

        if (digit < 0)
            n_digits = 0;
        else
            code = code << 4 | (uint32_t)digit;
    }
    if (n_digits == 0 || (code >= 0xd800 && code < 0xe000)) {
        fail(p, ERR_SYNTAX, start, "unknown escape in a text; known are \\\\ \\' \\\" \\n \\r \\t \\xHH \\uHHHH");
        return 0;
    }
    p->at += n_digits + 1;
    return utf8_put(out, code);
}

/* Where a text ends: at its quote or, in an f-text, at a single brace. SIZE_MAX: nowhere. */
static size_t text_end(const struct parser *p, char quote, bool is_ftext, bool *is_plain)
{
    *is_plain = true;
    for (size_t i = p->at; i < p->text.n && p->text.p[i] != '\n'; i++) {
        char c = p->text.p[i];

        if (c == quote)
            return i;
        if (c == '\\') {
            *is_plain = false;
            i++;
        } else if (is_ftext && (c == '{' || c == '}')) {
            if (i + 1 >= p->text.n || p->text.p[i + 1] != c)
                return i;
            *is_plain = false;
            i++;
        }
    }
    return SIZE_MAX;
}

/* Stands at what ended it afterwards. What a text stands for is never longer than its source. */
static struct str read_text(struct parser *p, char quote, bool is_ftext)
{
    bool is_plain;
    size_t end = text_end(p, quote, is_ftext, &is_plain), start = p->at;
    char *out, *to;

    if (end == SIZE_MAX) {
        fail(p, ERR_SYNTAX, p->token_at, "the text that begins here has no end");
        return STR_NONE;
    }
    if (is_plain) {
        p->at = end;
        return (struct str){p->text.p + start, end - start};
    }
    out = to = arena_chars(p->arena, end - start);
    while (p->at < end) {
        char c = p->text.p[p->at++];

        if (c == '\\') {
            size_t n = read_escape(p, to);

            if (n == 0)
                return STR_NONE;
            to += n;
        } else {
            *to++ = c;
            if (is_ftext && (c == '{' || c == '}'))
                p->at++;
        }
    }
    return (struct str){out, (size_t)(to - out)};
}

static enum formula_token keyword(struct str word)
{
    static const struct {
        struct str word;
        enum formula_token token;
    } words[] = {{STR("and"), TOKEN_AND}, {STR("or"), TOKEN_OR}, {STR("not"), TOKEN_NOT},   {STR("in"), TOKEN_IN},
                 {STR("is"), TOKEN_IS},   {STR("if"), TOKEN_IF}, {STR("else"), TOKEN_ELSE}, {STR("for"), TOKEN_FOR}};

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (str_eq(word, words[i].word))
            return words[i].token;
    return TOKEN_NAME;
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->text.n && (p->text.p[p->at] == ' ' || (p->text.p[p->at] >= '\t' && p->text.p[p->at] <= '\r')))
        p->at++;
}

/* The second word of "not in" and "is not". */
static bool take_word(struct parser *p, struct str word)
{
    size_t before = p->at, end;

    skip_blanks(p);
    end = p->at + word.n;
    if (end <= p->text.n && memcmp(p->text.p + p->at, word.p, word.n) == 0 &&
        (end == p->text.n || !is_word(p->text.p[end]))) {
        p->at = end;
        return true;
    }
    p->at = before;
    return false;
}

static void read_word(struct parser *p)
{
    size_t start = p->at;

    while (is_word(peek(p, 0)))
        p->at++;
    p->word = (struct str){p->text.p + start, p->at - start};
    p->token = keyword(p->word);
    if (p->token == TOKEN_NOT && take_word(p, STR("in")))
        p->token = TOKEN_NOT_IN;
    else if (p->token == TOKEN_IS && take_word(p, STR("not")))
        p->token = TOKEN_IS_NOT;
}

static void read_operator(struct parser *p)
{
    static const struct {
        char text[3];
        enum formula_token token;
    } operators[] = {
        /* longer ones first */
        {"**", TOKEN_POWER}, {"//", TOKEN_FLOORDIV}, {"<<", TOKEN_SHL},    {">>", TOKEN_SHR},     {"<=", TOKEN_LE},
        {">=", TOKEN_GE},    {"==", TOKEN_EQ},       {"!=", TOKEN_NE},     {"<", TOKEN_LT},       {">", TOKEN_GT},
        {"=", TOKEN_ASSIGN}, {"(", TOKEN_LPAREN},    {")", TOKEN_RPAREN},  {"[", TOKEN_LBRACKET}, {"]", TOKEN_RBRACKET},
        {"{", TOKEN_LBRACE}, {"}", TOKEN_RBRACE},    {",", TOKEN_COMMA},   {":", TOKEN_COLON},    {".", TOKEN_DOT},
        {"|", TOKEN_PIPE},   {"^", TOKEN_CARET},     {"&", TOKEN_AMP},     {"+", TOKEN_PLUS},     {"-", TOKEN_MINUS},
        {"*", TOKEN_STAR},   {"/", TOKEN_SLASH},     {"%", TOKEN_PERCENT}, {"~", TOKEN_TILDE}};

    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        size_t n = strlen(operators[i].text);

        if (p->text.n - p->at >= n && memcmp(p->text.p + p->at, operators[i].text, n) == 0) {
            p->token = operators[i].token;
            p->at += n;
            return;
        }
    }
    if ((unsigned char)p->text.p[p->at] < 0x20)
        fail(p, ERR_SYNTAX, p->at, "unexpected control character");
    else
        fail(p, ERR_SYNTAX, p->at, "unexpected '%c'", p->text.p[p->at]);
}

static void advance(struct parser *p)
{
    char c;

    if (p->err)
        return;
    skip_blanks(p);
    p->token_at = p->at;
    c = peek(p, 0);
    if (p->at >= p->text.n) {
        p->token = TOKEN_END;
    } else if (is_digit(c) || (c == '.' && is_digit(peek(p, 1)))) {
        read_number(p);
    } else if ((c == 'f' || c == 'F') && (peek(p, 1) == '\'' || peek(p, 1) == '"')) {
        p->token = TOKEN_FTEXT;
        p->quote = peek(p, 1);
        p->at += 2;
    } else if (is_word_start(c)) {
        read_word(p);
    } else if (c == '\'' || c == '"') {
        p->token = TOKEN_TEXT;
        p->at++;
        p->word = read_text(p, c, false);
        p->at++;
    } else {
        read_operator(p);
    }
}

static bool take(struct parser *p, enum formula_token token)
{
    if (p->token != token)
        return false;
    advance(p);
    return true;
}

static void *unexpected(struct parser *p, const char *wanted)
{
    struct str word;
    size_t i = p->token_at;

    if (p->err)
        return NULL;
    if (p->token == TOKEN_END)
        return fail(p, ERR_SYNTAX, p->token_at, "the formula ends where %s is expected", wanted);
    word = word_at(p, p->token_at);
    if (word.n == 0) {
        (void)utf8_next(p->text, &i);
        word = (struct str){p->text.p + p->token_at, p->at > i ? p->at - p->token_at : i - p->token_at};
        word = str_cut(word, 40);
    }
    return fail(p, ERR_SYNTAX, p->token_at, "unexpected \"" STR_FMT "\" where %s is expected", STR_ARG(word), wanted);
}

static bool need(struct parser *p, enum formula_token token, const char *wanted)
{
    if (take(p, token))
        return true;
    unexpected(p, wanted);
    return false;
}

/* --- nodes ---------------------------------------------------------------------------------------------------------- */
static struct expr *expr_new(struct parser *p, enum expr_kind kind, size_t offset)
{
    struct expr *expr = arena_zero(p->arena, sizeof *expr);

    expr->kind = kind;
    expr->offset = (uint32_t)offset;
    expr->depth = 1;
    return expr;
}

/* To be called for each part of a node when it is known. NULL: absent. */
static struct expr *grow(struct parser *p, struct expr *expr, const struct expr *part)
{
    if (part && part->depth >= expr->depth)
        expr->depth = part->depth + 1;
    if (expr->depth > FORMULA_DEPTH)
        return fail(p, ERR_LIMIT, expr->offset, "the formula is nested deeper than %d", FORMULA_DEPTH);
    return expr;
}

static struct expr *add_child(struct parser *p, struct expr *expr, struct expr ***tail, struct expr *child)
{
    **tail = child;
    *tail = &child->next;
    expr->n++;
    return grow(p, expr, child);
}

static bool too_deep(struct parser *p)
{
    fail(p, ERR_LIMIT, p->token_at, "the formula is nested deeper than %d", FORMULA_DEPTH);
    return false;
}

static bool enter(struct parser *p)
{
    return ++p->depth <= FORMULA_DEPTH || too_deep(p);
}

static void leave(struct parser *p)
{
    p->depth--;
}

static struct expr *constant(struct parser *p, struct value value)
{
    struct expr *expr = expr_new(p, EXPR_CONST, p->token_at);

    expr->constant = value;
    return expr;
}

/* --- the grammar ---------------------------------------------------------------------------------------------------- */
/* Behind an item that "for" follows: for name in b [if c]. */
static struct expr *parse_comprehension(struct parser *p, struct expr *item)
{
    struct expr *expr = expr_new(p, EXPR_COMPREHENSION, p->token_at);

    expr->a = item;
    if (!need(p, TOKEN_FOR, "\"for\""))
        return NULL;
    if (p->token != TOKEN_NAME)
        return unexpected(p, "a name");
    expr->name = p->word;
    advance(p);
    if (!need(p, TOKEN_IN, "\"in\""))
        return NULL;
    expr->b = parse_binary(p, LEVEL_OR);
    if (expr->b && take(p, TOKEN_IF)) {
        expr->c = parse_binary(p, LEVEL_OR);
        if (!expr->c)
            return NULL;
    }
    return expr->b && grow(p, expr, expr->a) && grow(p, expr, expr->b) ? grow(p, expr, expr->c) : NULL;
}

/* Expressions up to the closing token, which is taken; a comma may stand at the end. */
static struct expr *parse_items(struct parser *p, struct expr *expr, struct expr ***tail, enum formula_token close,
                                const char *wanted)
{
    while (p->token != close) {
        struct expr *item = parse_expr(p);

        if (!item || !add_child(p, expr, tail, item))
            return NULL;
        if (p->token != close && !need(p, TOKEN_COMMA, wanted))
            return NULL;
    }
    advance(p);
    return p->err ? NULL : expr;
}

static struct expr *parse_list(struct parser *p)
{
    struct expr *expr = expr_new(p, EXPR_LIST, p->token_at), **tail = &expr->children, *first;

    advance(p);
    if (take(p, TOKEN_RBRACKET))
        return expr;
    first = parse_expr(p);
    if (!first)
        return NULL;
    if (p->token == TOKEN_FOR) {
        first = parse_comprehension(p, first);
        return first && need(p, TOKEN_RBRACKET, "\"]\"") ? first : NULL;
    }
    if (!add_child(p, expr, &tail, first))
        return NULL;
    if (p->token != TOKEN_RBRACKET && !need(p, TOKEN_COMMA, "\",\" or \"]\""))
        return NULL;
    return parse_items(p, expr, &tail, TOKEN_RBRACKET, "\",\" or \"]\"");
}

/* One expression in parentheses is itself, several (or none, or one with a comma) are a list. */
static struct expr *parse_parentheses(struct parser *p)
{
    struct expr *expr = expr_new(p, EXPR_LIST, p->token_at), **tail = &expr->children, *first;

    advance(p);
    if (take(p, TOKEN_RPAREN))
        return expr;
    first = parse_expr(p);
    if (!first || take(p, TOKEN_RPAREN))
        return p->err ? NULL : first;
    if (!need(p, TOKEN_COMMA, "\",\" or \")\"") || !add_child(p, expr, &tail, first))
        return NULL;
    return parse_items(p, expr, &tail, TOKEN_RPAREN, "\",\" or \")\"");
}

static struct expr *parse_object(struct parser *p)
{
    struct expr *expr = expr_new(p, EXPR_OBJECT, p->token_at), **tail = &expr->children;

    advance(p);
    while (p->token != TOKEN_RBRACE) {
        struct expr *key = parse_expr(p), *item;

        if (!key || !need(p, TOKEN_COLON, "\":\""))
            return NULL;
        item = parse_expr(p);
        if (!item || !add_child(p, expr, &tail, key) || !add_child(p, expr, &tail, item))
            return NULL;
        if (p->token != TOKEN_RBRACE && !need(p, TOKEN_COMMA, "\",\" or \"}\""))
            return NULL;
    }
    advance(p);
    return p->err ? NULL : expr;
}

static struct expr *parse_ftext(struct parser *p)
{
    struct expr *expr = expr_new(p, EXPR_FTEXT, p->token_at), **tail = &expr->children;
    char quote = p->quote;

    for (;;) {
        struct str text = read_text(p, quote, true);
        struct expr *part;

        if (p->err)
            return NULL;
        if (text.n && !add_child(p, expr, &tail, constant(p, value_of_text(text))))
            return NULL;
        if (peek(p, 0) == quote)
            break;
        if (peek(p, 0) == '}')
            return fail(p, ERR_SYNTAX, p->at, "a single \"}\" in a text; write \"}}\"");
        p->at++;
        advance(p);
        part = parse_expr(p);
        if (!part || !add_child(p, expr, &tail, part))
            return NULL;
        if (p->token == TOKEN_COLON)
            return fail(p, ERR_SYNTAX, p->token_at, "a format behind \":\" is not supported");
        if (p->token != TOKEN_RBRACE)
            return unexpected(p, "\"}\"");
    }
    p->at++;
    advance(p);
    return p->err ? NULL : expr;
}

/* Behind the opening parenthesis. */
static struct expr *parse_args(struct parser *p, struct expr *call, bool takes_names)
{
    struct expr **tail = &call->children;

    while (p->token != TOKEN_RPAREN) {
        struct expr *arg;
        struct str name = STR_NONE;

        if (takes_names && p->token == TOKEN_NAME) {
            size_t before = p->at;

            skip_blanks(p);
            if (peek(p, 0) == '=' && peek(p, 1) != '=') {
                name = p->word;
                p->at++;
                advance(p);
            } else {
                p->at = before;
            }
        }
        arg = parse_expr(p);
        if (arg && call->n == 0 && !name.p && p->token == TOKEN_FOR) { /* sum(x for x in list) */
            arg = parse_comprehension(p, arg);
            if (!arg || !add_child(p, call, &tail, arg))
                return NULL;
            return need(p, TOKEN_RPAREN, "\")\"") ? call : NULL;
        }
        if (!arg)
            return NULL;
        arg->keyword = name;
        if (!add_child(p, call, &tail, arg))
            return NULL;
        if (p->token != TOKEN_RPAREN && !need(p, TOKEN_COMMA, "\",\" or \")\""))
            return NULL;
    }
    advance(p);
    return p->err ? NULL : call;
}

static bool check_count(struct parser *p, const struct expr *call, const char *name, unsigned min, unsigned max)
{
    if (call->n >= min && call->n <= max)
        return true;
    if (min == max)
        fail(p, ERR_SYNTAX, call->offset, "%s() takes %u argument%s, not %u", name, min, min == 1 ? "" : "s", call->n);
    else if (max == UINT_MAX)
        fail(p, ERR_SYNTAX, call->offset, "%s() takes at least %u argument%s, not %u", name, min, min == 1 ? "" : "s",
             call->n);
    else
        fail(p, ERR_SYNTAX, call->offset, "%s() takes %u to %u arguments, not %u", name, min, max, call->n);
    return false;
}

static struct expr *parse_call(struct parser *p, struct str name, size_t offset)
{
    struct expr *expr = expr_new(p, EXPR_CALL, offset);

    if (p->no_calls)
        return fail(p, ERR_DENIED, offset, "functions are not allowed here: \"" STR_FMT "\"",
                    STR_ARG(str_cut(name, 40)));
    expr->function = formula_function_find(name);
    if (!expr->function)
        return fail(p, ERR_NOTFOUND, offset, "unknown function \"" STR_FMT "\"", STR_ARG(str_cut(name, 40)));
    advance(p);
    if (!parse_args(p, expr, false))
        return NULL;
    return check_count(p, expr, expr->function->name, expr->function->min, expr->function->max) ? expr : NULL;
}

static struct expr *parse_name(struct parser *p)
{
    static const struct {
        struct str word;
        struct value value;
    } constants[] = {{STR("True"), {VALUE_BOOL, .b = true}},
                     {STR("true"), {VALUE_BOOL, .b = true}},
                     {STR("False"), {VALUE_BOOL, .b = false}},
                     {STR("false"), {VALUE_BOOL, .b = false}},
                     {STR("None"), {VALUE_NONE}},
                     {STR("null"), {VALUE_NONE}}};
    struct str name = p->word;
    size_t offset = p->token_at;
    struct expr *expr;

    for (size_t i = 0; i < COUNT_OF(constants); i++)
        if (str_eq(name, constants[i].word)) {
            expr = constant(p, constants[i].value);
            advance(p);
            return p->err ? NULL : expr;
        }
    advance(p);
    if (p->token == TOKEN_LPAREN)
        return parse_call(p, name, offset);
    expr = expr_new(p, EXPR_NAME, offset);
    expr->name = name;
    return p->err ? NULL : expr;
}

static struct expr *parse_atom(struct parser *p)
{
    struct expr *expr;

    switch (p->token) {
    case TOKEN_NUMBER:
    case TOKEN_TEXT:
        expr = constant(p, p->token == TOKEN_NUMBER ? p->number : value_of_text(p->word));
        advance(p);
        return p->err ? NULL : expr;
    case TOKEN_FTEXT:
        return parse_ftext(p);
    case TOKEN_NAME:
        return parse_name(p);
    case TOKEN_LPAREN:
        return parse_parentheses(p);
    case TOKEN_LBRACKET:
        return parse_list(p);
    case TOKEN_LBRACE:
        return parse_object(p);
    default:
        return unexpected(p, "a value");
    }
}

/* Behind "[": one index, or a slice. */
static struct expr *parse_subscript(struct parser *p, struct expr *base)
{
    struct expr *expr = expr_new(p, EXPR_INDEX, p->token_at), *parts[3] = {NULL};
    size_t n = 0;

    advance(p);
    for (;; n++) {
        if (p->token != TOKEN_COLON && !(n && p->token == TOKEN_RBRACKET)) {
            parts[n] = parse_expr(p);
            if (!parts[n])
                return NULL;
        }
        if (n == 2 || !take(p, TOKEN_COLON))
            break;
        expr->kind = EXPR_SLICE;
    }
    if (!need(p, TOKEN_RBRACKET, "\"]\""))
        return NULL;
    expr->a = base;
    expr->b = parts[0];
    expr->c = parts[1];
    expr->d = parts[2];
    return grow(p, expr, base) && grow(p, expr, expr->b) && grow(p, expr, expr->c) ? grow(p, expr, expr->d) : NULL;
}

static struct expr *parse_method(struct parser *p, struct expr *base)
{
    struct expr *expr;

    advance(p);
    expr = expr_new(p, EXPR_METHOD, p->token_at);
    if (p->token != TOKEN_NAME)
        return unexpected(p, "a method");
    expr->method = formula_method_find(p->word);
    if (p->no_calls)
        return fail(p, ERR_DENIED, p->token_at, "methods are not allowed here: \"" STR_FMT "\"",
                    STR_ARG(str_cut(p->word, 40)));
    if (!expr->method)
        return fail(p, ERR_NOTFOUND, p->token_at, "unknown method \"" STR_FMT "\"", STR_ARG(str_cut(p->word, 40)));
    advance(p);
    if (!need(p, TOKEN_LPAREN, "\"(\"") || !parse_args(p, expr, expr->method->takes_names) ||
        !check_count(p, expr, expr->method->name, expr->method->min, expr->method->max))
        return NULL;
    expr->a = base;
    return grow(p, expr, base);
}

static struct expr *parse_postfix(struct parser *p)
{
    struct expr *expr = parse_atom(p);

    for (;;) {
        if (!expr)
            return NULL;
        if (p->token == TOKEN_LBRACKET)
            expr = parse_subscript(p, expr);
        else if (p->token == TOKEN_DOT)
            expr = parse_method(p, expr);
        else if (p->token == TOKEN_LPAREN)
            return fail(p, ERR_SYNTAX, p->token_at, "only functions can be called");
        else
            return expr;
    }
}

static struct expr *parse_unary(struct parser *p)
{
    struct expr *expr, *base;

    if (p->token == TOKEN_MINUS || p->token == TOKEN_PLUS || p->token == TOKEN_TILDE) {
        expr = expr_new(p, EXPR_UNARY, p->token_at);
        expr->op = p->token;
        if (!enter(p))
            return NULL;
        advance(p);
        expr->a = parse_unary(p);
        leave(p);
        return expr->a ? grow(p, expr, expr->a) : NULL;
    }
    base = parse_postfix(p);
    if (!base || p->token != TOKEN_POWER)
        return base;
    expr = expr_new(p, EXPR_POWER, p->token_at);
    if (!enter(p))
        return NULL;
    advance(p);
    expr->a = base;
    expr->b = parse_unary(p);
    leave(p);
    return expr->b && grow(p, expr, expr->a) ? grow(p, expr, expr->b) : NULL;
}

static enum level level_of(enum formula_token token)
{
    switch ((int)token) {
    case TOKEN_OR:
        return LEVEL_OR;
    case TOKEN_AND:
        return LEVEL_AND;
    case TOKEN_EQ:
    case TOKEN_NE:
    case TOKEN_LT:
    case TOKEN_LE:
    case TOKEN_GT:
    case TOKEN_GE:
    case TOKEN_IN:
    case TOKEN_NOT_IN:
    case TOKEN_IS:
    case TOKEN_IS_NOT:
        return LEVEL_COMPARE;
    case TOKEN_PIPE:
        return LEVEL_PIPE;
    case TOKEN_CARET:
        return LEVEL_CARET;
    case TOKEN_AMP:
        return LEVEL_AMP;
    case TOKEN_SHL:
    case TOKEN_SHR:
        return LEVEL_SHIFT;
    case TOKEN_PLUS:
    case TOKEN_MINUS:
        return LEVEL_SUM;
    case TOKEN_STAR:
    case TOKEN_SLASH:
    case TOKEN_FLOORDIV:
    case TOKEN_PERCENT:
        return LEVEL_TERM;
    default:
        return LEVEL_NONE;
    }
}

static struct expr *parse_not(struct parser *p)
{
    struct expr *expr = expr_new(p, EXPR_NOT, p->token_at);

    if (!enter(p))
        return NULL;
    advance(p);
    expr->a = parse_binary(p, LEVEL_NOT);
    leave(p);
    return expr->a ? grow(p, expr, expr->a) : NULL;
}

/* What operators of one level hold together: as many operands as there are, in one node. */
static struct expr *parse_chain(struct parser *p, struct expr *first, enum level level)
{
    enum expr_kind kind = level == LEVEL_OR        ? EXPR_OR
                          : level == LEVEL_AND     ? EXPR_AND
                          : level == LEVEL_COMPARE ? EXPR_COMPARE
                                                   : EXPR_BINARY;
    struct expr *expr = expr_new(p, kind, p->token_at), **tail = &expr->children;

    if (!add_child(p, expr, &tail, first) || (++p->n_chains > 2 * FORMULA_DEPTH && !too_deep(p)))
        return NULL;
    while (level_of(p->token) == level) {
        enum formula_token link = p->token;
        size_t offset = p->token_at;
        struct expr *right;

        advance(p);
        right = parse_binary(p, level + 1);
        if (!right)
            break;
        right->link = link;
        right->link_offset = (uint32_t)offset;
        if (!add_child(p, expr, &tail, right))
            break;
    }
    p->n_chains--;
    return p->err ? NULL : expr;
}

static struct expr *parse_binary(struct parser *p, enum level least)
{
    struct expr *left;

    if (p->token == TOKEN_NOT && least <= LEVEL_NOT)
        left = parse_not(p);
    else
        left = parse_unary(p);
    while (left && level_of(p->token) != LEVEL_NONE && level_of(p->token) >= least)
        left = parse_chain(p, left, level_of(p->token));
    return left;
}

static struct expr *parse_expr(struct parser *p)
{
    struct expr *expr = NULL, *first;

    if (!enter(p))
        return NULL;
    first = parse_binary(p, LEVEL_OR);
    if (!first || p->token != TOKEN_IF) {
        expr = first;
    } else {
        expr = expr_new(p, EXPR_IF, p->token_at);
        advance(p);
        expr->a = first;
        expr->b = parse_binary(p, LEVEL_OR);
        if (expr->b && need(p, TOKEN_ELSE, "\"else\""))
            expr->c = parse_expr(p);
        if (!expr->c || !grow(p, expr, expr->a) || !grow(p, expr, expr->b) || !grow(p, expr, expr->c))
            expr = NULL;
    }
    leave(p);
    return expr;
}

/* --- names ---------------------------------------------------------------------------------------------------------- */
static bool is_known(const struct parser *p, const struct formula_scope *scope, struct str name)
{
    for (; scope; scope = scope->outer)
        if (str_eq(scope->name, name))
            return true;
    for (size_t i = 0; i < p->n_names; i++)
        if (str_eq(p->names[i], name))
            return true;
    return false;
}

static bool check_names(struct parser *p, const struct expr *expr, const struct formula_scope *scope)
{
    struct formula_scope inner = {.outer = scope, .name = expr->name};

    if (expr->kind == EXPR_NAME && !is_known(p, scope, expr->name)) {
        fail(p, ERR_NOTFOUND, expr->offset, "unknown name \"" STR_FMT "\"", STR_ARG(str_cut(expr->name, 80)));
        return false;
    }
    if (expr->kind == EXPR_COMPREHENSION)
        return check_names(p, expr->b, scope) && check_names(p, expr->a, &inner) &&
               (!expr->c || check_names(p, expr->c, &inner));
    for (const struct expr *child = expr->children; child; child = child->next)
        if (!check_names(p, child, scope))
            return false;
    return (!expr->a || check_names(p, expr->a, scope)) && (!expr->b || check_names(p, expr->b, scope)) &&
           (!expr->c || check_names(p, expr->c, scope)) && (!expr->d || check_names(p, expr->d, scope));
}

enum err formula_compile(struct formula **out, struct arena *arena, struct str text, bool no_calls,
                         const struct str *names, size_t n_names, struct why *why)
{
    struct parser p = {.arena = arena, .why = why, .no_calls = no_calls, .names = names, .n_names = n_names};
    struct expr *root;

    if (text.n > FORMULA_TEXT)
        return why_set(why, ERR_LIMIT, "the formula has %zu bytes: at most %d are allowed", text.n, FORMULA_TEXT);
    if (!utf8_is_valid(text))
        return why_set(why, ERR_SYNTAX, "the formula is not valid UTF-8");
    p.text = arena_str(arena, text);
    advance(&p);
    root = parse_expr(&p);
    if (root && p.token != TOKEN_END)
        unexpected(&p, "the end");
    if (root && !p.err && names)
        check_names(&p, root, NULL);
    if (p.err)
        return p.err;
    *out = arena_alloc(arena, sizeof **out);
    (*out)->root = root;
    return ERR_OK;
}
