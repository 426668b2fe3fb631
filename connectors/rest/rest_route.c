/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Literal paths are found in a map, patterns one after the other, in the order of the file. Paths are compared decoded, so
 * that however a client writes one it is the same; only a slash that was written as %2F is none between two parts: it
 * stands as U+FFFF, which no text holds, until the pattern has matched.
 */
#include "rest_route.h"

#include "base/utf8.h"
#include "conf/expression.h"

#define HIDDEN_SLASH "\xef\xbf\xbf"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static struct str decode(struct arena *arena, struct str text, bool plus, bool hide_slash)
{
    char *out = arena_chars(arena, text.n * 3 + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        int high = text.p[i] == '%' && i + 2 < text.n ? hex_value(text.p[i + 1]) : -1;
        int low = high >= 0 ? hex_value(text.p[i + 2]) : -1;

        if (low < 0) {
            out[n++] = (char)(plus && text.p[i] == '+' ? ' ' : text.p[i]);
            continue;
        }
        i += 2;
        if (hide_slash && high * 16 + low == '/') {
            memcpy(out + n, HIDDEN_SLASH, 3);
            n += 3;
        } else {
            out[n++] = (char)(high * 16 + low);
        }
    }
    out[n] = 0;
    return str_of(out, n);
}

struct str rest_decode(struct arena *arena, struct str text, bool plus)
{
    return decode(arena, text, plus, false);
}

static struct str show_slashes(struct arena *arena, struct str text)
{
    char *out;
    size_t n = 0;

    if (str_find(text, STR(HIDDEN_SLASH), 0) == SIZE_MAX)
        return text;
    out = arena_chars(arena, text.n + 1);
    for (size_t i = 0; i < text.n; i++) {
        if (str_starts(str_skip(text, i), STR(HIDDEN_SLASH))) {
            out[n++] = '/';
            i += 2;
        } else {
            out[n++] = text.p[i];
        }
    }
    return str_of(out, n);
}

/* --- building --------------------------------------------------------------------------------------------------------- */

static void add_literal(struct buf *pattern, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = (uint8_t)text.p[i];

        if (c < 128 && !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            buf_add_u8(pattern, '\\');
        buf_add_u8(pattern, c);
    }
}

/* Behind the brace that closes the one at i, or 0. */
static size_t behind_brace(struct str path, size_t i)
{
    unsigned depth = 0;

    for (; i < path.n; i++) {
        if (path.p[i] == '\\') {
            i++;
        } else if (path.p[i] == '{') {
            depth++;
        } else if (path.p[i] == '}' && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

static enum err add_variable(struct rest_route *route, struct str inner, struct buf *pattern, struct why *why)
{
    size_t colon = str_chr(inner, ':');
    struct str name = str_cut(inner, colon), regex = str_skip(inner, colon + 1);

    if (!name.n)
        return why_set(why, ERR_SYNTAX, "a part in braces has no name");
    if (route->n_vars == REST_VARS_MAX)
        return why_set(why, ERR_LIMIT, "a path has at most %d parts in braces", REST_VARS_MAX);
    for (size_t i = 0; i < route->n_vars; i++)
        if (str_eq(route->vars[i], name))
            return why_set(why, ERR_EXISTS, "\"" STR_FMT "\" stands twice", STR_ARG(name));
    buf_printf(pattern, "(?P<v%zu>", route->n_vars);
    if (colon == inner.n)
        buf_add_z(pattern, "[^{}/]+");
    else
        buf_add_str(pattern, regex);
    buf_add_u8(pattern, ')');
    route->vars[route->n_vars++] = name;
    return ERR_OK;
}

static enum err compile_path(struct rest_route *route, struct arena *arena, struct why *why)
{
    autobuf struct buf pattern = {0};
    struct str path = route->path;
    enum err err = ERR_OK;
    size_t i = 0;

    while (i < path.n && !err) {
        size_t n = str_chr(str_skip(path, i), '{'), end;

        add_literal(&pattern, rest_decode(arena, str_of(path.p + i, n), false));
        i += n;
        if (i == path.n)
            break;
        end = behind_brace(path, i);
        if (!end)
            return why_set(why, ERR_SYNTAX, "a brace is not closed");
        err = add_variable(route, str_of(path.p + i + 1, end - i - 2), &pattern, why);
        i = end;
    }
    if (!err && !route->n_vars)
        route->literal = rest_decode(arena, path, false);
    else if (!err)
        err = regex_compile(&route->regex, buf_str(&pattern), REGEX_FULL, why);
    return err;
}

static void literals_fini(void *map)
{
    map_fini(map);
}

static struct rest_route *route_of(struct conf_load *load, struct rest_file *file, const struct rest_endpoint *endpoint)
{
    struct rest_route *route;
    struct why why = {0};

    for (size_t i = 0; i < file->n_routes; i++)
        if (str_eq(file->routes[i].path, endpoint->path))
            return &file->routes[i];
    route = &file->routes[file->n_routes];
    *route = (struct rest_route){.path = endpoint->path};
    if (compile_path(route, conf_arena(load), &why) != ERR_OK) {
        conf_error(load, &endpoint->at, "endpoint", "\"" STR_FMT "\" is not a path: %s", STR_ARG(endpoint->path),
                   why_text(&why));
        return NULL;
    }
    if (route->regex)
        conf_own_regex(load, route->regex);
    else if (map_get(&file->literals, route->literal))
        return map_get(&file->literals, route->literal); /* the same path, written in another way */
    else
        (void)map_put(&file->literals, route->literal, route);
    file->n_routes++;
    return route;
}

static bool serves(const struct rest_endpoint *endpoint, struct str method)
{
    for (size_t i = 0; i < endpoint->methods.n; i++)
        if (str_eq(endpoint->methods.items[i], method))
            return true;
    return false;
}

static const struct rest_endpoint *endpoint_of(const struct rest_route *route, struct str method)
{
    for (size_t i = 0; i < route->n; i++)
        if (serves(route->endpoints[i], method))
            return route->endpoints[i];
    return NULL;
}

static void add_endpoint(struct arena *arena, struct rest_route *route, const struct rest_endpoint *endpoint)
{
    if ((route->n & (route->n - 1)) == 0) { /* full: room for twice as many */
        const struct rest_endpoint **more = arena_alloc(arena, (route->n ? route->n * 2 : 1) * sizeof *more);

        if (route->n)
            memcpy(more, route->endpoints, route->n * sizeof *more);
        route->endpoints = more;
    }
    route->endpoints[route->n++] = endpoint;
}

static void add_endpoints(struct conf_load *load, struct rest_file *file, const struct conf_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        struct rest_endpoint *endpoint = list->items[i];
        struct rest_route *route = route_of(load, file, endpoint);
        bool is_double = false;

        for (size_t k = 0; route && k < endpoint->methods.n && !is_double; k++) {
            is_double = endpoint_of(route, endpoint->methods.items[k]) != NULL;
            if (is_double)
                conf_error(load, &endpoint->at, "endpoint",
                           "\"" STR_FMT "\" with " STR_FMT " stands twice: this one is left out",
                           STR_ARG(endpoint->path), STR_ARG(endpoint->methods.items[k]));
        }
        if (!route || is_double)
            continue;
        endpoint->route = route;
        add_endpoint(conf_arena(load), route, endpoint);
    }
}

void rest_routes_build(struct conf_load *load, struct rest_file *file, const struct conf_list *mappings,
                       const struct conf_list *requests)
{
    file->routes = arena_zero(conf_arena(load), (mappings->n + requests->n + 1) * sizeof *file->routes);
    conf_own(load, literals_fini, &file->literals);
    add_endpoints(load, file, mappings);
    add_endpoints(load, file, requests);
}

/* --- finding ---------------------------------------------------------------------------------------------------------- */

static void add_allowed(struct buf *allow, const struct rest_route *route)
{
    for (size_t i = 0; i < route->n; i++)
        for (size_t k = 0; k < route->endpoints[i]->methods.n; k++) {
            if (allow->n)
                buf_add_z(allow, ", ");
            buf_add_str(allow, route->endpoints[i]->methods.items[k]);
        }
}

static bool matches(const struct rest_route *route, struct str path, struct arena *arena, struct rest_match *out)
{
    if (!regex_groups(route->regex, path, out->vars, (unsigned)route->n_vars))
        return false;
    for (size_t i = 0; i < route->n_vars; i++)
        out->vars[i] = show_slashes(arena, out->vars[i]);
    return true;
}

enum rest_found rest_route_find(const struct rest_file *file, struct str method, struct str path, struct arena *arena,
                                struct rest_match *out)
{
    bool is_plain = str_chr(path, '%') == path.n;
    struct str literal = is_plain ? path : decode(arena, path, false, false), pattern;
    const struct rest_route *route = map_get(&file->literals, literal);
    autobuf struct buf allow = {0};

    out->endpoint = route ? endpoint_of(route, method) : NULL;
    if (out->endpoint)
        return ROUTE_FOUND;
    if (route && route->n) {
        add_allowed(&allow, route);
        out->endpoint = route->endpoints[0];
    }
    pattern = is_plain ? path : decode(arena, path, false, true);
    for (size_t i = 0; i < file->n_routes && utf8_is_valid(pattern); i++) {
        const struct rest_endpoint *endpoint;

        route = &file->routes[i];
        if (!route->regex || !route->n || !matches(route, pattern, arena, out))
            continue;
        endpoint = endpoint_of(route, method);
        if (endpoint) {
            out->endpoint = endpoint;
            return ROUTE_FOUND;
        }
        add_allowed(&allow, route);
        if (!out->endpoint)
            out->endpoint = route->endpoints[0];
    }
    out->allow = arena_str(arena, buf_str(&allow));
    return allow.n ? ROUTE_METHOD : ROUTE_NONE;
}
