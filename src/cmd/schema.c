/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration described by its descriptors: JSON Schema for editors, Markdown for people. */
#include "cmd/cmd.h"
#include "cmd/kinds.h"

#include "conf/conf.h"
#include "gateway/metrics.h"

static const struct option_spec options[] = {
    {.name = "reference", .help = "print the reference page in Markdown instead"},
    {.name = "metrics", .help = "without TYPE: print the reference page of what is counted"},
    {.name = "json", .help = "without TYPE: print the list as objects"},
    {.name = NULL}};

struct listing {
    struct buf out;
    bool is_json;
    unsigned n;
};

static void add_entry(struct listing *listing, const char *name, const char *file, const char *title)
{
    if (!listing->is_json)
        buf_printf(&listing->out, "%-12s %-18s %s\n", name, file, title);
    else
        buf_printf(&listing->out, "%s{\"type\":\"%s\",\"file\":\"%s\",\"title\":\"%s\"}", listing->n ? "," : "", name,
                   file, title);
    listing->n++;
}

static void add_connector(void *arg, const char *type)
{
    struct why why = {0};
    const char *title = NULL;

    if (kind_type(type, &title, &why))
        add_entry(arg, type, "(connector)", title);
}

static int list(const struct command_line *line)
{
    struct listing listing = {.is_json = command_has(line, "json")};
    bool ok;

    buf_add_z(&listing.out, listing.is_json ? "[" : "");
    for (const struct kind *kind = kinds; kind->name; kind++)
        add_entry(&listing, kind->name, kind->file, kind->title);
    module_types.each(add_connector, &listing);
    buf_add_z(&listing.out, listing.is_json ? "]\n" : "");
    ok = command_print(&listing.out);
    buf_fini(&listing.out);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

static int run(const struct command_line *line)
{
    autobuf struct buf out = {0};
    struct why why = {0};
    const struct conf_type *type;
    const char *title = NULL;

    if (command_has(line, "metrics")) {
        if (line->n_args)
            return command_usage(line, "--metrics takes no TYPE");
        metrics_add_reference(&out);
        return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
    }
    if (!line->n_args)
        return command_has(line, "reference") ? command_usage(line, "--reference needs a TYPE") : list(line);
    type = kind_type(line->args[0], &title, &why);
    if (!type)
        return command_usage(line, "type \"%s\": %s; \"iotgw schema\" lists all", line->args[0], why_text(&why));
    if (command_has(line, "reference"))
        conf_reference(&out, type, title);
    else
        conf_schema(&out, type, title);
    return command_print(&out) ? EXIT_DONE : EXIT_FAILED;
}

const struct command_spec cmd_schema = {.name = "schema",
                                        .arguments = "[TYPE]",
                                        .summary = "print JSON Schema or reference of a kind of configuration file",
                                        .text = "Without TYPE: which kinds there are.",
                                        .options = options,
                                        .max_args = 1,
                                        .choices = "gateway logs list statistics mqtt request",
                                        .run = run};
