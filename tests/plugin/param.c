/* Parameters: types, ranges, canonical texts, descriptions. */
#include "core/plugin/param.h"
#include "support/folder.h"

#include <locale.h>
#include <math.h>

static const char *const modes[] = {"uniform", "log-snr", "karras", NULL};

typedef struct values {
    bool flag;
    int64_t count;
    double scale;
    const char *name;
    int64_t mode;
    const char *file;
    pipe_ints ints;
    pipe_floats floats;
    pipe_strings strings;
} values;

static const pipe_param rows[] = {PIPE_BOOL(values, flag, true, "flag"),
                                  PIPE_INT(values, count, 50, 1, 1000, "steps", "count"),
                                  PIPE_FLOAT(values, scale, 0.5, -1.0, INFINITY, NULL, "scale"),
                                  PIPE_STRING(values, name, "", "name"),
                                  PIPE_CHOICE(values, mode, "karras", modes, "mode"),
                                  PIPE_PATH(values, file, NULL, PIPE_PARAM_INPUT_FILE, "file"),
                                  PIPE_INTS(values, ints, "[1, 2, 2]", 1, 9, NULL, "ints"),
                                  PIPE_FLOATS(values, floats, "[]", 1, 0, NULL, "floats"),
                                  PIPE_STRINGS(values, strings, "['a, b', c]", "strings"),
                                  PIPE_PARAM_END};

static const pipe_param *row(const char *name)
{
    for (const pipe_param *p = rows; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    cr_assert_fail("no row %s", name);
    return NULL;
}

static const struct {
    const char *row, *text, *canonical, *failure, *why;
} cases[] = {
    {"flag", "true", "true", NULL, NULL},
    {"flag", "false", "false", NULL, NULL},
    {"flag", "yes", NULL, "\"yes\" is neither true nor false", "YAML 1.1 would take it"},
    {"flag", "True", NULL, "neither", "case matters"},
    {"flag", "", NULL, "neither", "empty"},
    {"count", "50", "50", NULL, NULL},
    {"count", "+7", "7", NULL, "a sign"},
    {"count", "08", "8", NULL, "no octal"},
    {"count", "1", "1", NULL, "the lower bound belongs to the range"},
    {"count", "1000", "1000", NULL, "and so does the upper"},
    {"count", "0", NULL, "0 is below the minimum 1", NULL},
    {"count", "2000", NULL, "2000 is above the maximum 1000", NULL},
    {"count", "1e3", NULL, "1e3 is not an integer", "a number, but not written as an integer"},
    {"count", "1.0", NULL, "not an integer", NULL},
    {"count", "12:30", NULL, "\"12:30\" is not an integer", "YAML 1.1 base 60"},
    {"count", "0x10", NULL, "not an integer", NULL},
    {"count", "9 ", NULL, "not an integer", "trailing blank"},
    {"count", " 9", NULL, "not an integer", "strtoll would skip it"},
    {"count", "-", NULL, "not an integer", NULL},
    {"count", "", NULL, "not an integer", NULL},
    {"count", "9223372036854775808", NULL, "does not fit 64 bits", "one too many"},
    {"count", "-9223372036854775809", NULL, "does not fit 64 bits", NULL},
    {"scale", "1e-4", "0.0001", NULL, "PyYAML makes it a string"},
    {"scale", "0.0001", "0.0001", NULL, "the same text"},
    {"scale", "1.", "1", NULL, NULL},
    {"scale", ".5", "0.5", NULL, NULL},
    {"scale", "+3E+2", "300", NULL, NULL},
    {"scale", "0.1", "0.1", NULL, "shortest that reads back"},
    {"scale", "0.30000000000000004", "0.30000000000000004", NULL, "needs 17 digits"},
    {"scale", "1e-400", "0", NULL, "underflow"},
    {"scale", "1e999", NULL, "1e999 is too large", NULL},
    {"scale", "inf", NULL, "\"inf\" is not a finite number", NULL},
    {"scale", ".inf", NULL, "not a finite number", "YAML's"},
    {"scale", "nan", NULL, "not a finite number", NULL},
    {"scale", "0x1p3", NULL, "not a finite number", "strtod would take it"},
    {"scale", "1,5", NULL, "not a finite number", "a comma"},
    {"scale", "1e", NULL, "not a finite number", NULL},
    {"scale", ".", NULL, "not a finite number", NULL},
    {"scale", "-1.5", NULL, "-1.5 is below the minimum -1", NULL},
    {"name", "no", "no", NULL, "a string stays one"},
    {"name", "", "", NULL, NULL},
    {"mode", "log-snr", "log-snr", NULL, NULL},
    {"mode", "karas", NULL, "\"karas\" is none of uniform, log-snr, karras|did you mean \"karras\"?", NULL},
    {"mode", "7", NULL, "none of", "not an index"},
    {"file", "/a b", "/a b", NULL, NULL},
    {"ints", "[3]", "[3]", NULL, NULL},
    {"ints", "[ 1,2 , 09 ]", "[1, 2, 9]", NULL, "blanks"},
    {"ints", "[]", "[]", NULL, "empty"},
    {"ints", "3", "[3]", NULL, "one value is a list of one"},
    {"ints", "x", NULL, "\"x\" is not an integer", NULL},
    {"ints", "[1, 10]", NULL, "10 is above the maximum 9", NULL},
    {"ints", "[1, x]", NULL, "\"x\" is not an integer", NULL},
    {"ints", "[1, 2", NULL, "\"[1, 2\" is a list that is not closed", NULL},
    {"ints", "[1] 2", NULL, "is a list that is not closed", "text behind it"},
    {"floats", "[1e-4, 2]", "[0.0001, 2]", NULL, NULL},
    {"strings", "['a, b', \"c\", d e]", "[\"a, b\", \"c\", \"d e\"]", NULL, "quotes"},
    {"strings", "['a]", NULL, "is a list that is not closed", "quote"},
};

Test(plugin, parameters_are_parsed_by_their_declared_type)
{
    pipe_arena *a = pipe_arena_new();
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        const pipe_param *p = row(cases[k].row);
        const pipei_given v = pipei_given_of_text(p, cases[k].text, a);
        values state = {0};
        char *what = pipe_format("%s: \"%s\" (%s)", cases[k].row, cases[k].text,
                                 cases[k].why ? cases[k].why : "");
        const pipe_status status = pipei_param_check(p, &v, NULL, &err);
        if (cases[k].failure) {
            check_failure(status, PIPE_EINVAL, &err, cases[k].failure, what);
            cr_expect_eq(pipei_param_store(p, &v, &state, a, NULL), PIPE_EINVAL, "%s is stored", what);
        } else {
            cr_expect_eq(status, PIPE_OK, "%s: %s", what, err.message);
            cr_expect_eq(pipei_param_store(p, &v, &state, a, &err), PIPE_OK, "%s: %s", what, err.message);
            cr_expect_str_eq(pipei_param_canonical(p, &v, a), cases[k].canonical, "%s", what);
        }
        pipe_free(what);
    }
    pipe_arena_free(a);
}

Test(plugin, a_failing_element_of_a_list_is_named_by_its_place)
{
    pipe_arena *a = pipe_arena_new();
    const char *const text[] = {"1", "2", "77", "88"};
    const pipei_given v = {true, text, 4};
    size_t item = 99;
    cr_assert_eq(pipei_param_check(row("ints"), &v, &item, NULL), PIPE_EINVAL);
    cr_assert_eq(item, 2);
    pipe_arena_free(a);
}

Test(plugin, a_list_is_refused_where_one_value_is_wanted)
{
    pipe_error err = PIPE_ERROR_INIT;
    const char *const text[] = {"1"};
    const pipei_given v = {true, text, 1};
    check_failure(pipei_param_check(row("count"), &v, NULL, &err), PIPE_EINVAL, &err,
                  "a list is given where one integer is wanted", "a list of one");
}

Test(plugin, defaults_and_values_reach_the_state)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_arena *a = pipe_arena_new();
    values v = {0};
    const char *path = "/some/file";
    const pipei_given file = {false, &path, 1};
    for (const pipe_param *p = rows; p->name; p++)
        MUST(pipei_param_store(p, strcmp(p->name, "file") == 0 ? &file : NULL, &v, a, &err));
    cr_expect(v.flag);
    cr_expect_eq(v.count, 50);
    cr_expect_eq(v.scale, 0.5);
    cr_expect_str_eq(v.name, "");
    cr_expect_eq(v.mode, 2);
    cr_expect_str_eq(v.file, "/some/file");
    cr_expect(v.file != path, "strings live in the arena");
    cr_expect(v.ints.n == 3 && v.ints.v[0] == 1 && v.ints.v[2] == 2);
    cr_expect_eq(v.floats.n, 0);
    cr_assert_eq(v.strings.n, 2);
    cr_expect_str_eq(v.strings.v[0], "a, b");
    cr_expect_str_eq(v.strings.v[1], "c");
    check_failure(pipei_param_store(row("file"), NULL, &v, a, &err), PIPE_EINVAL, &err,
                  "\"file\" is required", "file");
    cr_expect_null(pipei_param_canonical(row("file"), NULL, a));
    cr_expect_str_eq(pipei_param_canonical(row("scale"), NULL, a), "0.5");
    pipe_arena_free(a);
}

static const struct {
    const char *row, *text;
} descriptions[] = {
    {"flag", "true or false, default true"},
    {"count", "integer, 1 to 1000, default 50, steps"},
    {"scale", "number, at least -1, default 0.5"},
    {"name", "text, default \"\""},
    {"mode", "one of uniform, log-snr, karras, default karras"},
    {"file", "path of an existing file, required"},
    {"ints", "list of integers, each 1 to 9, default [1, 2, 2]"},
    {"floats", "list of numbers, default []"},
};

Test(plugin, parameters_describe_themselves)
{
    pipe_arena *a = pipe_arena_new();
    for (size_t k = 0; k < sizeof descriptions / sizeof descriptions[0]; k++)
        cr_expect_str_eq(pipei_param_describe(row(descriptions[k].row), a), descriptions[k].text);
    pipe_arena_free(a);
}

/* Any locale with a decimal comma that this machine has. */
static bool set_comma_locale(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        if (setlocale(LC_ALL, names[k]))
            return true;
    return false;
}

Test(plugin, numbers_do_not_follow_the_locale)
{
    char text[32];
    double v;
    if (!set_comma_locale())
        cr_skip_test("no locale with a decimal comma is installed (apt-get install locales-all)");
    cr_expect(pipei_parse_double("1.5", &v) && v == 1.5);
    cr_expect_not(pipei_parse_double("1,5", &v));
    pipei_format_double(1.5, text, sizeof text);
    cr_expect_str_eq(text, "1.5");
}
